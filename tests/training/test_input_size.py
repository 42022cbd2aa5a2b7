"""A fit says where images are squeezed, and which tiles would help."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.bundle.input_spec import Crop, TileSpec
from edge.inspection.alignment import make_locator
from tests.support.small_training import good_image, write
from tests.support.turned_part import Laid, bracket
from tests.training.conftest import fit_arguments
from training.cli import main
from training.config import FitConfig
from training.data.loading import first_sight
from training.data.samples import GOOD, Sample, Splits
from training.fit_pipeline import input_size
from training.input_size import (
    SideUnit,
    choose_size,
    median_shape,
    nearest_size,
    parse_size_choice,
    size_advice,
)
from training.models.building import make_settings


def test_a_fit_of_narrow_images_names_a_tile_that_works(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(6):
        write(tmp_path / "parts" / f"{number}.png", good_image(number, 310, 125))
    quick = ["--no-report", "--no-check-good"]
    arguments = fit_arguments(tmp_path / "parts", weights, tmp_path / "a.safetensors", *quick)
    assert main(arguments) == 0
    assert caplog.text.count("images of 125×310 pixels are squeezed out of shape to 64×64") == 1
    assert "--tile 125 inspects them in 3 tiles" in caplog.text
    caplog.clear()
    assert main([*arguments, "--tile", "125"]) == 0
    assert "squeezed" not in caplog.text


@pytest.mark.parametrize(
    ("frame", "crop", "reported"),
    [
        ((1240, 500), None, "500×1240 pixels are squeezed out of shape to 256×256, 2.0 times"),
        ((1240, 500), Crop(x=0, y=0, width=500, height=500), None),
        ((900, 900), None, None),
        ((480, 640), None, None),
        ((2000, 2000), None, "2000×2000 pixels are shrunk to 256×256, 7.8 times across"),
        ((12, 40), None, "40×12 pixels are squeezed out of shape"),
    ],
)
def test_advice_is_given_where_images_lose_much(
    frame: tuple[int, int], crop: Crop | None, reported: str | None
) -> None:
    found = size_advice(frame, first_sight((256, 256), crop=crop))
    assert (found is None) if reported is None else (reported in (found or ""))


def test_tiles_that_become_an_input_of_another_shape_are_reported() -> None:
    tiles = TileSpec(height=512, width=512, overlap=0.25)
    assert size_advice((2000, 2000), first_sight((256, 256), tile_plan=tiles)) is None
    reported = size_advice((2000, 2000), first_sight((128, 512), tile_plan=tiles)) or ""
    assert "tiles of 512×512 pixels are squeezed out of shape to 512×128" in reported
    assert "--image-size auto=256 keeps them square" in reported


@pytest.mark.parametrize(
    ("settings", "sides", "why"),
    [
        ({}, (160, 400), "the images (median of 3) of 500×200"),
        ({"image_size": "auto=64"}, (48, 112), "the images (median of 3) of 500×200"),
        ({"image_size": "auto=64", "tile": 100}, (64, 64), "the tiles of 100×100"),
        ({"tile": 100}, (256, 256), "a square suits the tiles of 100×100"),
        ({"image_size": "auto=64", "crop": (100, 200)}, (96, 48), "the crop of 100×200"),
        ({"image_size": "auto=64", "crop": (300, 90), "tile": 80}, (64, 64), "the tiles of 80×80"),
        ({"image_size": "auto=64", "align": "shift"}, (48, 80), "the part's region of 88×48"),
        ({"align": "shift", "crop": (120, 30)}, (128, 512), "the crop of 120×30"),
        ({"image_size": "96x32", "align": "shift"}, (32, 96), "as set"),
    ],
)
def test_the_size_follows_what_is_inspected(
    tmp_path: Path, settings: dict[str, Any], sides: tuple[int, int], why: str
) -> None:
    if "crop" in settings:
        width, height = settings["crop"]
        settings = {**settings, "crop": {"x": 5, "y": 5, "width": width, "height": height}}
    samples = tuple(
        Sample(path=write(tmp_path / f"{number}.png", np.zeros((200, 500), np.uint8)), kind=GOOD)
        for number in range(3)
    )
    config = FitConfig.model_validate(
        {"data": tmp_path, "backbone": "small", "algorithm": "patchcore", **settings}
    )
    locator = None
    if config.align is not None:
        roi = Crop(x=76, y=56, width=88, height=48)
        part = bracket(Laid(120, 90, 0))
        locator = make_locator(part, config.align, roi, least_likeness=0.5, most_outside=0.0)
    hyperparameters = make_settings("patchcore", {})
    splits = Splits(name="set", fit=samples, validation=samples, test=samples)
    chosen = input_size(config, splits, hyperparameters, locator)
    assert chosen.size == sides
    assert why in chosen.sentence


def test_an_algorithm_without_tiles_is_reported() -> None:
    advice = size_advice((1240, 500), first_sight((256, 256)), tileable=False)
    assert "--tile 500 inspects them in 3 tiles" in (advice or "")
    assert "this algorithm takes no tiles" in (advice or "")


def test_a_model_that_needs_longer_sides_gets_them() -> None:
    found = choose_size(
        parse_size_choice("auto=64"), (40, 400), "the images", lambda: SideUnit(16, 33)
    )
    assert found.size == (48, 80)


def test_the_nearest_size_is_found_for_each_side() -> None:
    assert nearest_size(lambda height, width: min(height, width) >= 75, 40, 300) == (75, 300)
    assert nearest_size(lambda height, width: height == width == 224, 192, 256) == (224, 224)
    assert nearest_size(lambda height, width: False, 192, 256) is None


@pytest.mark.parametrize(
    ("value", "size"),
    [(64, (64, 64)), ("64", (64, 64)), ("320x160", (160, 320)), ("320×160", (160, 320))],
)
def test_a_size_is_one_number_or_two_with_the_width_first(
    value: object, size: tuple[int, int]
) -> None:
    assert parse_size_choice(value).size == size
    assert parse_size_choice(parse_size_choice(value).text).size == size


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("big", "must be WIDTHxHEIGHT or one number"),
        ("320x", "must be WIDTHxHEIGHT or one number"),
        ("1x2x3", "must be WIDTHxHEIGHT or one number"),
        ("-320x160", "must be WIDTHxHEIGHT or one number"),
        (True, "must be WIDTHxHEIGHT or one number"),
        (64.5, "for example 320x160, 256 or auto"),
        ("auto=", "must be WIDTHxHEIGHT or one number"),
        ("auto=64x32", "with one number, or 64x32 alone"),
        ("auto=8", "must be greater than or equal to 32"),
        ("320x16", "must be greater than or equal to 32 on each side"),
        (4097, "at most 16777216 pixels.* is 4096$"),
        ("8000x4000", "at most 16777216 pixels.* is 5792x2896$"),
        ("70000x32", "no side beyond 65536; .* is 65536x29$"),
        ("9" * 5000, "at most 16777216 pixels"),
    ],
)
def test_another_size_is_refused_with_what_is_allowed(value: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        parse_size_choice(value)


@pytest.mark.parametrize(
    ("wanted", "shape", "step", "size"),
    [
        (None, (100, 150), 16, (256, 256)),  # 1.5 : 1 is not longer than 1.5 : 1
        (256, (1240, 500), 16, (256, 256)),
        (None, (151, 100), 16, (320, 208)),
        (None, (1240, 500), 16, (400, 160)),
        (None, (500, 1240), 16, (160, 400)),
        ("auto", (100, 200), 32, (192, 384)),  # 2 : 1 as the images
        ("auto", (480, 640), 16, (224, 304)),
        ("auto=64", (80, 160), 16, (48, 96)),
        ("auto", (50, 50), 16, (256, 256)),
        ("auto", (10, 10_000), 16, (32, 2048)),
        ("auto=4096", (32, 64_000), 16, (256, 65_536)),
        ("auto=32", (10, 90), 32, (32, 32)),
        ("400x100", (100, 100), 16, (100, 400)),
    ],
)
def test_the_shape_of_the_images_decides_where_it_may(
    wanted: str | int | None, shape: tuple[int, int], step: int, size: tuple[int, int]
) -> None:
    chosen = choose_size(parse_size_choice(wanted), shape, "the images", lambda: SideUnit(step))
    assert chosen.size == size
    assert str(size[1]) in chosen.sentence


def test_the_median_of_shapes_is_that_of_an_image() -> None:
    assert median_shape([(100, 100), (100, 250), (300, 100), (200, 260)]) in (
        (100, 100),
        (200, 260),
    )
    assert median_shape([(100, 250), (50, 120), (100, 90)]) == (50, 120)
