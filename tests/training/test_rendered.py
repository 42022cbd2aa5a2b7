"""Rendered sample parts: reproducible, and honest about where the defect is."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import OutputNotWritable
from edge.imaging.image_files import read_image
from training.data.rendered import (
    Defect,
    ImageCounts,
    RenderedPart,
    Variation,
    render_part,
    write_dataset,
)
from training.data.rendered_surface import FIELD_OF_VIEW_MM, FLAT_FLANGE

WIDTH, HEIGHT = 320, 240


def part(seed: int, defect: Defect | None = None) -> RenderedPart:
    return render_part(np.random.default_rng(seed), defect, width=WIDTH, height=HEIGHT)


def write_small(folder: Path, counts: ImageCounts, suffix: str = ".jpg") -> None:
    write_dataset(folder, counts, suffix=suffix, width=WIDTH, height=HEIGHT)


def numpy_state() -> bytes:
    key: bytes = np.random.get_state(legacy=False)["state"]["key"].tobytes()
    return key


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("defect", [None, *Defect])
def test_same_seed_gives_same_bytes(defect: Defect | None) -> None:
    first, second = part(11, defect), part(11, defect)

    assert first.pixels.tobytes() == second.pixels.tobytes()
    assert first.mask.tobytes() == second.mask.tobytes()


def test_other_seed_gives_another_part() -> None:
    assert part(1).pixels.tobytes() != part(2).pixels.tobytes()


def test_frames_are_640_by_480_bgr_by_default() -> None:
    rendered = render_part(np.random.default_rng(0))

    assert rendered.pixels.shape == (480, 640, 3)
    assert rendered.pixels.dtype == np.uint8
    assert rendered.pixels.flags.c_contiguous
    assert rendered.mask.shape == (480, 640)


def test_stain_is_brown_so_channels_are_in_bgr_order() -> None:
    good, stained = part(4).pixels.astype(int), part(4, Defect.STAIN)
    darker = (good - stained.pixels)[stained.mask > 0].mean(axis=0)

    assert darker[0] > darker[1] > darker[2]


def test_good_part_has_an_empty_mask() -> None:
    assert not part(5).mask.any()


@pytest.mark.parametrize("defect", list(Defect))
@pytest.mark.parametrize("seed", range(6))
def test_defect_changes_the_image_inside_its_mask_and_nowhere_else(
    defect: Defect, seed: int
) -> None:
    good, spoiled = part(seed), part(seed, defect)
    changed = (good.pixels != spoiled.pixels).any(axis=2)
    inside = spoiled.mask > 0

    assert set(np.unique(spoiled.mask)) == {0, 255}
    assert not changed[~inside].any()
    assert changed[inside].mean() > 0.7
    assert np.abs(good.pixels.astype(int) - spoiled.pixels)[inside].mean() > 4


@pytest.mark.parametrize("defect", list(Defect))
def test_a_part_with_a_straight_edge_is_spoiled_only_where_it_is(defect: Defect) -> None:
    for seed in range(3):
        good, spoiled = (
            render_part(np.random.default_rng(seed), one, WIDTH, HEIGHT, design=FLAT_FLANGE)
            for one in (None, defect)
        )
        changed = (good.pixels != spoiled.pixels).any(axis=2)
        inside = spoiled.mask > 0
        assert not changed[~inside].any()
        assert changed[inside].mean() > 0.7


def test_the_straight_edge_is_belt_beyond_it() -> None:
    still = Variation(rotation_deg=0.0, shift_mm=0.0, scale=0.0)
    flat, round_part = (
        render_part(
            np.random.default_rng(3), None, WIDTH, HEIGHT, design=design, variation=still
        ).pixels.astype(int)
        for design in (FLAT_FLANGE, replace(FLAT_FLANGE, flat=None))
    )
    per_mm, angle = HEIGHT / FIELD_OF_VIEW_MM, FLAT_FLANGE.flat_angle

    def level(image: NDArray[np.integer], radius_mm: float) -> float:
        x = round(WIDTH / 2 + radius_mm * per_mm * np.cos(angle))
        y = round(HEIGHT / 2 + radius_mm * per_mm * np.sin(angle))
        return float(image[y - 1 : y + 2, x - 1 : x + 2].mean())

    assert level(flat, 39.0) < 0.5 * level(round_part, 39.0)
    assert level(flat, 30.0) == level(round_part, 30.0)


@pytest.mark.parametrize("defect", list(Defect))
def test_defects_are_local(defect: Defect) -> None:
    shares = [(part(seed, defect).mask > 0).mean() for seed in range(6)]

    assert max(shares) < 0.02


def test_good_parts_vary_in_pose_and_light() -> None:
    spread = np.stack([part(seed).pixels for seed in range(6)]).astype(float).std(axis=0)

    assert spread.mean() > 5


def test_dataset_has_the_layout_of_mvtec(tmp_path: Path) -> None:
    folder = tmp_path / "flange"
    write_small(folder, ImageCounts(train_good=2, test_good=1, test_defective=1))

    expected = {"train/good/000.jpg", "train/good/001.jpg", "test/good/000.jpg"}
    for defect in Defect:
        expected |= {f"test/{defect}/000.jpg", f"ground_truth/{defect}/000_mask.png"}
    assert set(files(folder)) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["flange"]


def test_dataset_masks_and_frames_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "flange"
    write_small(folder, ImageCounts(train_good=0, test_good=0, test_defective=1), suffix=".png")

    for defect in Defect:
        frame = read_image(folder / "test" / defect / "000.png")
        mask = read_image(folder / "ground_truth" / defect / "000_mask.png")
        assert frame.shape == (240, 320, 3)
        assert mask.shape == (240, 320)
        assert set(np.unique(mask)) == {0, 255}


def test_dataset_is_the_same_again_and_grows_without_changing(tmp_path: Path) -> None:
    write_small(tmp_path / "one", ImageCounts(train_good=1, test_good=1, test_defective=1))
    write_small(tmp_path / "two", ImageCounts(train_good=2, test_good=1, test_defective=1))

    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert {name: two[name] for name in one} == one


def test_dataset_never_shows_the_same_part_twice(tmp_path: Path) -> None:
    write_small(tmp_path / "set", ImageCounts(train_good=2, test_good=2, test_defective=1))
    frames = [data for name, data in files(tmp_path / "set").items() if name.endswith("jpg")]

    assert len(set(frames)) == len(frames)


def test_existing_dataset_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")

    with pytest.raises(OutputNotWritable, match="exists already"):
        write_dataset(tmp_path / "mine", ImageCounts(train_good=1, test_good=0, test_defective=0))

    assert files(tmp_path / "mine") == {"notes.txt": b"keep"}


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputNotWritable, match="No space left"):
        write_small(tmp_path / "set", ImageCounts(train_good=1, test_good=0, test_defective=0))

    assert list(tmp_path.iterdir()) == []


def test_rendering_leaves_numpys_and_opencvs_global_state_alone() -> None:
    np.random.seed(3)
    cv2.setRNGSeed(3)
    before = numpy_state()

    part(1, Defect.CONTAMINATION)

    assert numpy_state() == before
