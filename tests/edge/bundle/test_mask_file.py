"""Mask files: polygons, zones and painted images, and what is wrong with those of no use."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.bundle.input_spec import Areas
from edge.bundle.mask_file import read_mask_file
from edge.errors import ConfigurationError
from edge.inspection.areas import ignored_pixels

SIZE = "size: [112, 80]\n"
BOW_TIE = "[[10, 10], [40, 10], [10, 40], [40, 40]]"
SQUARE = "[[10, 10], [40, 10], [40, 40], [10, 40]]"


def written(folder: Path, text: str) -> Path:
    path = folder / "mask.yaml"
    path.write_text(text, "utf-8")
    return path


def test_polygons_zones_and_a_painted_image_make_one_mask(tmp_path: Path) -> None:
    painted = np.zeros((80, 112), np.uint8)
    painted[5:9, 100:104] = 255
    cv2.imwrite(str(tmp_path / "clamps.png"), painted)
    text = f"ignore: [{SQUARE}]\npainted: clamps.png\nzones:\n"
    text += f"  - {{name: face, polygon: {SQUARE}, threshold: 2.4, guard_band: 0.1}}\n"
    areas = read_mask_file(written(tmp_path, text))
    assert (areas.width, areas.height) == (112, 80)
    expected = painted > 0
    expected[10:40, 10:40] = True
    assert (ignored_pixels(areas) == expected).all()
    assert areas.zones[0].threshold == 2.4 and areas.zones[0].smallest_region_px is None
    assert Areas.model_validate_json(areas.model_dump_json()) == areas


def test_an_image_alone_is_a_mask_whose_black_counts(tmp_path: Path) -> None:
    painted = np.zeros((4, 6, 3), np.uint8)
    painted[0, 0] = painted[2:, 3:] = (0, 0, 200)
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), painted)
    assert (ignored_pixels(read_mask_file(path)) == painted.any(axis=2)).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{SIZE}ignore: [{BOW_TIE}]\n", "crosses or touches"),
        (f"{SIZE}ignore: [[[0, 0], [20, 0], [10, 0], [10, 9]]]\n", "crosses or touches"),
        (f"{SIZE}ignore: [[[0, 0], [0, 0], [10, 9]]]\n", "is repeated"),
        (f"{SIZE}ignore: [[[0, 0], [113, 0], [10, 9]]]\n", "outside of 112×80"),
        (f"{SIZE}ignore: [[[0, 0], [9, 0]]]\n", "at least 3"),
        (f"{SIZE}zones: [{{name: a, polygon: {SQUARE}}}, {{name: a, polygon: {SQUARE}}}]\n", "two"),
        (
            f"{SIZE}zones: [{{name: {'면' * 27}, polygon: {SQUARE}}}]\n",
            "81 bytes of UTF-8; at most 80",
        ),
        (f"{SIZE}zones: [{{name: a, polygon: {SQUARE}, treshold: 1}}]\n", "treshold: is unknown"),
        (f"{SIZE}zones: [{{name: a, polygon: {SQUARE}, threshold: .nan}}]\n", "finite"),
        (f"ignore: [{SQUARE}]\n", "size is missing"),
        (SIZE, "draws nothing"),
        (f"{SIZE}painted: nothing.png\n", "nothing.png"),
        ("size: [112, 81]\npainted: small.png\n", "has 6×4"),
    ],
)
def test_a_file_of_no_use_is_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    cv2.imwrite(str(tmp_path / "small.png"), np.full((4, 6), 255, np.uint8))
    with pytest.raises(ConfigurationError) as caught:
        read_mask_file(written(tmp_path, text))
    assert words in str(caught.value) and str(tmp_path) in str(caught.value)
    assert caught.value.exit_code == 78


def test_a_photo_a_black_image_and_a_transparent_one_are_no_mask(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    noise = np.random.default_rng(0).integers(0, 2, (700, 700), np.uint8) * 255
    transparent = np.full((4, 6, 4), 100, np.uint8)
    for pixels, words in (
        (np.zeros((4, 6), np.uint8), "black everywhere"),
        (noise, "photo"),
        (transparent, "transparent"),
    ):
        cv2.imwrite(str(path), pixels)
        with pytest.raises(ConfigurationError, match=words):
            read_mask_file(path)
