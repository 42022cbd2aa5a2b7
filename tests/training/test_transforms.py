"""Transforms from YAML: image and mask together, in the fit only, repeatable."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from edge.imaging.frame import PixelFormat
from tests.support.small_training import defective_image, good_image, write, write_folder
from training.data.loading import first_sight, prepared_batches
from training.data.open_data_set import open_splits
from training.data.settings import DataSettings
from training.errors import DataError, SettingError
from training.transforms import RandomView, parse_transforms, transform_image


def view(*steps: str | Mapping[str, Any], number: int = 1, seed: int = 0) -> RandomView:
    return RandomView(parse_transforms(list(steps), seed), number)


def test_image_and_mask_move_together() -> None:
    pixels, mask = defective_image(2)
    seen, area = transform_image(
        pixels, view({"RandomAffine": {"degrees": 40, "translate": [0.1, 0.1]}}), "a", mask > 0
    )
    red = seen[:, :, 2].astype(int) - seen[:, :, 1] > 120
    assert not np.array_equal(area, mask > 0)
    assert (red & area).sum() / (red | area).sum() > 0.9


def test_colours_keep_their_order() -> None:
    pixels, mask = defective_image(0)
    flipped, area = transform_image(
        pixels, view({"RandomHorizontalFlip": {"p": 1.0}}), "a", mask > 0
    )
    assert np.array_equal(flipped, pixels[:, ::-1])
    assert np.array_equal(area, mask[:, ::-1] > 0)


def test_grey_stays_grey_and_transparency_moves_along() -> None:
    grey = good_image(1)[:, :, 0]
    seen, _ = transform_image(grey, view({"ColorJitter": {"brightness": 0.5}}), "a")
    assert seen.shape == grey.shape
    assert not np.array_equal(seen, grey)
    alpha = np.zeros(grey.shape, np.uint8)
    alpha[:, :30] = 200
    both, _ = transform_image(
        np.dstack([good_image(1), alpha]), view({"RandomHorizontalFlip": {"p": 1.0}}), "a"
    )
    assert np.array_equal(both[:, :, 3], alpha[:, ::-1])


def test_the_same_draw_is_the_same_and_leaves_torchs_generator_alone() -> None:
    pixels = good_image(1)
    steps = {"RandomAffine": {"degrees": 30}}
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, _ = transform_image(pixels, view(steps), "a")
    assert torch.equal(torch.rand(1), expected)
    again, _ = transform_image(pixels, view(steps), "a")
    assert np.array_equal(first, again)
    for other in (view(steps, number=2), view(steps, seed=1)):
        assert not np.array_equal(transform_image(pixels, other, "a")[0], first)
    assert not np.array_equal(transform_image(pixels, view(steps), "b")[0], first)


@pytest.mark.parametrize(
    ("step", "named"),
    [
        ("RandomFlip", "'RandomFlip' does not exist.*RandomHorizontalFlip"),
        ("Lambda", "'Lambda' does not exist"),
        ("Normalize", "'Normalize' does not exist"),
        ({"ColorJitter": {"warmth": 2}}, r"transforms\.ColorJitter: .*warmth"),
        ({"ColorJitter": {"hue": 3}}, r"transforms\.ColorJitter: "),
        ({"ColorJitter": 3}, "found 3; give arguments by name"),
        ({"ColorJitter": {}, "RandomErasing": {}}, "give one name each"),
    ],
)
def test_a_wrong_step_is_named_with_what_there_is(step: object, named: str) -> None:
    with pytest.raises(SettingError, match=named):
        parse_transforms([step], 0)  # type: ignore[list-item]


def test_a_step_that_refuses_an_image_is_named() -> None:
    with pytest.raises(SettingError, match=r"transforms\.RandomCrop refused part: Required crop"):
        transform_image(good_image(1), view({"RandomCrop": {"size": 500}}), "part")


def test_16_bit_images_are_refused_with_the_next_step() -> None:
    with pytest.raises(DataError, match=r"part: transforms take 8-bit images only\. Leave out"):
        transform_image(np.zeros((9, 9), np.uint16), view("RandomHorizontalFlip"), "part")


def test_only_images_to_fit_on_are_transformed(tmp_path: Path) -> None:
    settings = DataSettings.model_validate(
        {
            "path": write_folder(tmp_path),
            "transforms": yaml.safe_load("- RandomHorizontalFlip\n- ColorJitter: {hue: 0.1}"),
            "transform_copies": 2,
        }
    )
    splits = open_splits(settings)
    plain = open_splits(tmp_path)
    assert splits.fit[: len(plain.fit)] == plain.fit
    assert len(splits.fit) == 3 * len(plain.fit)
    assert splits.validation == plain.validation
    assert open_splits(settings).test == plain.test


def test_batches_are_the_same_whatever_the_threads_do(tmp_path: Path) -> None:
    path = write(tmp_path / "set" / "good" / "0.png", good_image(0))
    for number in range(1, 24):
        write(path.with_name(f"{number}.png"), good_image(number))
    settings = DataSettings(
        path=tmp_path / "set", transforms=({"RandomAffine": {"degrees": 20}}, "ColorJitter")
    )
    fit = open_splits(settings).fit
    formats: set[PixelFormat] = set()
    first, second = (
        torch.cat(list(prepared_batches(fit, first_sight((64, 64)), 5, formats))) for _ in range(2)
    )
    assert torch.equal(first, second)
    assert formats == {PixelFormat.BGR8}
    half = len(fit) // 2
    assert not torch.equal(first[:half], first[half:])
