"""Masks: what counts as defect, however they were saved; no area vanishes; odd ones are named."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.support.decoding import decode_file
from tests.support.small_training import defective_image, write, write_folder
from training.data.data_notices import report_unused
from training.data.loading import first_sight, read_mask
from training.data.masks import mask_area, reduced
from training.data.samples import Sample
from training.data.settings import DataSettings

SIZE = (64, 64)


def area(side: int = 900, spot: int = 3, at: tuple[int, int] = (401, 517)) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    mask[at[0] : at[0] + spot, at[1] : at[1] + spot] = 255
    return mask


def found(path: Path, mask: np.ndarray, size: tuple[int, int] = SIZE) -> np.ndarray | None:
    sample = Sample(path=path.with_name("p.png"), kind="spot", mask=write(path, mask))
    return read_mask(sample, first_sight(size), mask.shape[:2], size)


def test_what_jpeg_leaves_around_an_edge_is_no_defect(tmp_path: Path) -> None:
    _, mask = defective_image(0, 640, 640)
    path = tmp_path / "m.jpg"
    cv2.imwrite(str(path), mask, [cv2.IMWRITE_JPEG_QUALITY, 60])
    assert (decode_file(path) > 0).sum() > 1.5 * (mask > 0).sum()
    sample = Sample(path=tmp_path / "p.png", kind="spot", mask=path)
    kept = read_mask(sample, first_sight((640, 640)), (640, 640), (640, 640))
    assert kept is not None
    assert (kept ^ (mask > 0)).sum() <= 0.05 * (mask > 0).sum()


@pytest.mark.parametrize("size", [32, 64, 256])
def test_no_small_mask_vanishes(tmp_path: Path, size: int) -> None:
    random = np.random.default_rng(4)
    for number in range(40):
        at = (int(random.integers(0, 897)), int(random.integers(0, 897)))
        kept = found(tmp_path / f"{number}.png", area(at=at), (size, size))
        assert kept is not None
        rows, columns = np.nonzero(kept)
        assert 1 <= len(rows) <= 4
        assert abs((rows.mean() + 0.5) * 900 / size - at[0] - 1.5) <= 900 / size
        assert abs((columns.mean() + 0.5) * 900 / size - at[1] - 1.5) <= 900 / size


masks = arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40)))


@given(masks, st.integers(1, 50), st.integers(1, 50))
def test_every_part_of_a_mask_is_still_there_at_any_size(
    mask: np.ndarray, height: int, width: int
) -> None:
    small = reduced(mask, (height, width))
    assert small.shape == (height, width)
    assert small.any() == mask.any()
    rows, columns = mask.shape
    count, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    for number in range(1, count):
        y, x = np.nonzero(parts == number)
        near = small[
            max(0, y.min() * height // rows - 1) : -(-(y.max() + 1) * height // rows) + 1,
            max(0, x.min() * width // columns - 1) : -(-(x.max() + 1) * width // columns) + 1,
        ]
        assert near.any()


def test_a_reduced_mask_keeps_its_area() -> None:
    mask = area(900, 300, (100, 200)) > 0
    small = reduced(mask, (256, 256))
    assert abs(small.mean() - mask.mean()) < 0.003


@pytest.mark.parametrize(
    "stored",
    [
        np.array([[0, 1], [2, 3]], np.uint8),  # kinds of defects
        np.array([[0, 255], [200, 128]], np.uint8),
        np.array([[127, 255], [200, 128]], np.uint8),
        np.array([[0, 65535], [40000, 33000]], np.uint16),
        np.array([[0, 255], [255, 255]], np.uint16),
        np.dstack([np.array([[0, 9], [9, 9]], np.uint8)] * 3),
        np.dstack([*[np.zeros((2, 2), np.uint8)] * 3, np.array([[0, 255], [255, 200]], np.uint8)]),
        np.dstack([np.array([[0, 255], [255, 200]], np.uint8)] * 4),
    ],
)
def test_the_area_is_the_same_however_it_was_saved(stored: np.ndarray) -> None:
    assert mask_area(stored).tolist() == [[False, True], [True, True]]


def odd(tmp_path: Path, stored: np.ndarray, caplog: pytest.LogCaptureFixture) -> str:
    root = write_folder(tmp_path / "set", good=4, defective=2)
    write(root / "masks" / "spot_001.png", stored)
    report_unused(DataSettings(path=root))
    return caplog.text


def test_odd_masks_are_named_before_anything_begins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, mask = defective_image(1)
    assert odd(tmp_path, mask, caplog) == ""
    named = rf"{tmp_path}/set/masks/spot_001.png"
    assert (
        f"1 of 2 masks is perhaps inverted: most of the image is marked, up to its border: {named}"
        in odd(tmp_path, 255 - mask, caplog)
    )
    assert f"masks is empty: where the defect is counts as unknown: {named}" in odd(
        tmp_path, np.zeros_like(mask), caplog
    )
    layer = np.dstack([*[np.zeros_like(mask)] * 3, mask])
    assert f"masks is drawn in transparency alone, which was taken for the area: {named}" in odd(
        tmp_path, layer, caplog
    )
    kinds = np.where(mask > 0, np.uint8(90), np.uint8(0))
    kinds[40, 40] = 255
    assert (
        f"masks is mostly darker than half of their brightest value, which does not count: {named}"
        in odd(tmp_path, kinds, caplog)
    )


def test_pixels_of_a_defect_with_an_empty_mask_count_as_nothing(tmp_path: Path) -> None:
    assert found(tmp_path / "m.png", np.zeros((80, 112), np.uint8)) is None
