"""Data sets on disk: layouts, splits that never share an image, errors that name the file."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.bundle.input_spec import Crop, InputSpec, Levels
from edge.imaging.frame import PixelFormat
from edge.imaging.image_files import read_image
from edge.inspection.preprocessing import prepare
from tests.support.small_training import (
    defective_image,
    good_image,
    write,
    write_folder,
    write_mvtec,
)
from training.data.content import content_hash, content_hashes, fingerprint
from training.data.folder import Folder
from training.data.loading import (
    check_samples,
    first_sight,
    prepare_sample,
    prepared_batches,
    read_mask,
    read_sample,
)
from training.data.mvtec_ad import MVTecAD
from training.data.open_data_set import ValidateOn, open_judging, open_splits
from training.data.samples import Sample, Splits
from training.errors import DataError

LAYOUTS = {"mvtec": write_mvtec, "folder": write_folder}


@pytest.fixture(params=sorted(LAYOUTS))
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return LAYOUTS[request.param](tmp_path / "set")


def paths(samples: tuple[Sample, ...]) -> set[Path]:
    return {sample.path for sample in samples}


def test_the_mvtec_layout_gives_kinds_and_masks(tmp_path: Path) -> None:
    data = MVTecAD(write_mvtec(tmp_path / "bottle", train=3, good=2, defective=2))

    assert data.name == "bottle"
    assert [sample.path.name for sample in data.train] == ["000.png", "001.png", "002.png"]
    assert [sample.kind for sample in data.test] == ["good", "good", "spot", "spot"]
    assert [sample.is_defective for sample in data.test] == [False, False, True, True]
    masks = [sample.mask.name if sample.mask else None for sample in data.test]
    assert masks == [None, None, "000_mask.png", "001_mask.png"]


def test_a_plain_folder_gives_kinds_and_masks(tmp_path: Path) -> None:
    data = Folder(write_folder(tmp_path / "parts", good=3, defective=2))
    assert [sample.kind for sample in data.good] == ["good"] * 3
    assert [sample.kind for sample in data.defective] == ["spot"] * 2
    assert all(s.mask and s.mask.name == s.path.name for s in data.defective)


def test_images_may_lie_directly_in_the_folder(tmp_path: Path) -> None:
    for number in range(6):
        write(tmp_path / f"{number}.png", good_image(number))
    (tmp_path / "notes.txt").write_text("not an image")
    write(tmp_path / ".hidden.png", good_image())
    assert len(Folder(tmp_path).good) == 6


def test_masks_of_a_plain_folder_are_optional(tmp_path: Path) -> None:
    data = Folder(write_folder(tmp_path, masks=False))
    assert all(sample.mask is None for sample in data.defective)


def test_two_kinds_may_use_one_name_with_masks_by_kind(tmp_path: Path) -> None:
    write_folder(tmp_path, defective=0)
    pixels, mask = defective_image()
    for kind in ("dent", "scratch"):
        write(tmp_path / "defect" / kind / "1.png", pixels)
        write(tmp_path / "masks" / kind / "1.png", mask)
    masks = {sample.kind: sample.mask for sample in Folder(tmp_path).defective}
    assert masks == {kind: tmp_path / "masks" / kind / "1.png" for kind in ("dent", "scratch")}


def test_a_mask_that_may_belong_to_two_images_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, defective=0)
    pixels, mask = defective_image()
    for kind in ("dent", "scratch"):
        write(tmp_path / "defect" / kind / "1.png", pixels)
    write(tmp_path / "masks" / "1.png", mask)
    with pytest.raises(DataError, match=r"masks/1\.png: 2 defective images are called 1"):
        Folder(tmp_path)


def test_a_mask_of_validation_and_test_at_once_is_refused(tmp_path: Path) -> None:
    write_mvtec(tmp_path)
    shutil.copytree(tmp_path / "test" / "spot", tmp_path / "validation" / "spot")
    with pytest.raises(DataError, match=r"000_mask\.png: belongs to .*validation.* and to .*test"):
        MVTecAD(tmp_path)


@pytest.mark.parametrize("validate_on", ValidateOn)
def test_no_image_is_fitted_and_tested_or_validated(data: Path, validate_on: ValidateOn) -> None:
    splits = open_splits(data, validate_on)
    assert not paths(splits.fit) & (paths(splits.validation) | paths(splits.test))
    assert not any(sample.is_defective for sample in splits.fit)


def test_the_threshold_never_rests_on_test_images(data: Path) -> None:
    splits = open_splits(data)
    assert splits.validation
    assert not paths(splits.validation) & paths(splits.test)


def test_the_threshold_rests_on_test_images_when_asked_for(data: Path) -> None:
    assert open_splits(data, ValidateOn.TEST).validation == open_splits(data).test


def test_every_image_is_used(data: Path) -> None:
    splits = open_splits(data)
    used = paths(splits.fit) | paths(splits.validation) | paths(splits.test)
    everything = {p for p in data.rglob("*.png") if "mask" not in str(p.relative_to(data))}
    assert used == everything


def test_own_validation_images_are_used_and_nothing_is_held_out(tmp_path: Path) -> None:
    write_mvtec(tmp_path, train=5)
    write(tmp_path / "validation" / "good" / "9.png", good_image(9))
    splits = open_splits(tmp_path)
    assert len(splits.fit) == 5
    assert [sample.path.name for sample in splits.validation] == ["9.png"]


def roles(splits: Splits) -> dict[str, str]:
    return {
        f"{sample.kind}/{sample.path.name}": role
        for role in ("fit", "validation", "test")
        for sample in getattr(splits, role)
    }


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_adding_images_moves_no_other_one(tmp_path: Path, layout: str) -> None:
    root = LAYOUTS[layout](tmp_path / "set", 60)
    before = roles(open_splits(root))
    good = root / ("train/good" if layout == "mvtec" else "good")
    for number in range(40):
        write(good / f"new_{number}.png", good_image(700 + number))
    after = roles(open_splits(root))

    assert len(after) == len(before) + 40
    assert {name: after[name] for name in before} == before


def test_moving_the_folder_moves_no_image_between_splits(tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path / "first" / f"{number}.png", good_image(number))
    before = roles(open_splits(tmp_path / "first"))
    (tmp_path / "first").rename(tmp_path / "second")
    assert roles(open_splits(tmp_path / "second")) == before


def test_a_renamed_copy_has_the_same_splits(tmp_path: Path, data: Path) -> None:
    """New names in another order, and each file packed anew."""
    copy = shutil.copytree(data, tmp_path / "copy")
    files = sorted(p for p in copy.rglob("*.png") if "mask" not in str(p.relative_to(copy)))
    for number, path in enumerate(reversed(files)):
        write(path.with_name(f"part_{number}.bmp"), read_image(path))
        path.unlink()
    shutil.rmtree(copy / "masks", ignore_errors=True)
    shutil.rmtree(copy / "ground_truth", ignore_errors=True)

    first, second = open_splits(data), open_splits(copy)
    for role in ("fit", "validation", "test"):
        hashes = content_hashes(getattr(first, role)).values()
        assert sorted(content_hashes(getattr(second, role)).values()) == sorted(hashes)


def test_another_seed_gives_other_splits(tmp_path: Path) -> None:
    root = write_folder(tmp_path, good=30)
    assert roles(open_splits(root, seed=1)) != roles(open_splits(root, seed=2))


@pytest.mark.parametrize("count", [4, 5, 7])
def test_a_handful_of_images_can_be_split(tmp_path: Path, count: int) -> None:
    splits = open_splits(write_folder(tmp_path, good=count, defective=0))
    assert len(splits.fit) >= 2
    assert splits.validation
    assert splits.test


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_images_are_counted_in_the_error(tmp_path: Path, count: int) -> None:
    write_folder(tmp_path / "set", good=count, defective=0)
    with pytest.raises(DataError, match=r"set: too few good images, \d to fit on"):
        open_splits(tmp_path / "set")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: not a folder"):
        open_splits(tmp_path / "nowhere")


def test_a_file_is_no_data_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "1.png", good_image())
    with pytest.raises(DataError, match=r"1\.png: not a folder"):
        open_splits(path)


@pytest.mark.parametrize("empty", ["set", "set/good", "set/train", "set/train/good"])
def test_an_empty_folder_is_named(tmp_path: Path, empty: str) -> None:
    (tmp_path / empty).mkdir(parents=True)
    with pytest.raises(DataError, match=f"{empty}.*: no images"):
        open_splits(tmp_path / "set")


def test_defects_in_train_are_named_with_where_they_belong(tmp_path: Path) -> None:
    write_mvtec(tmp_path)
    write(tmp_path / "train" / "spot" / "1.png", defective_image()[0])
    with pytest.raises(DataError, match=r"train/spot: only good .*Move it to .*test/spot"):
        open_splits(tmp_path)


def test_good_images_among_the_defects_are_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write(tmp_path / "defect" / "good" / "1.png", good_image())
    with pytest.raises(DataError, match=r"defect/good: good images belong in"):
        open_splits(tmp_path)


def test_a_test_needs_test_images(tmp_path: Path) -> None:
    write_mvtec(tmp_path, good=0, defective=0)
    with pytest.raises(DataError, match="no test images"):
        open_judging(tmp_path)


def test_validating_on_test_needs_good_test_images(tmp_path: Path) -> None:
    write_mvtec(tmp_path, good=0)
    with pytest.raises(DataError, match="0 to calibrate on"):
        open_splits(tmp_path, ValidateOn.TEST)


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Root may read everything; whoever else runs the tests may not read a locked folder."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    (write_folder(tmp_path) / "good").chmod(0)
    yield tmp_path
    (tmp_path / "good").chmod(0o755)


@pytest.mark.usefixtures("locked", "as_nobody")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}.*: cannot be read .*Check its permissions"):
        open_splits(tmp_path)


SIZE = (64, 64)
SPEC = first_sight(SIZE)


def sample(path: Path, mask: Path | None = None) -> Sample:
    return Sample(path=path, kind="spot" if mask else "good", mask=mask)


def test_a_corrupt_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG half")
    with pytest.raises(DataError, match=r"broken\.png: not a complete image"):
        check_samples([sample(path)], SPEC)
    with pytest.raises(DataError, match=r"broken\.png"):
        list(prepared_batches([sample(path)], SPEC, 4, set()))


def test_a_16_bit_image_without_levels_names_the_option(tmp_path: Path) -> None:
    path = write(tmp_path / "deep.png", np.full((64, 64), 900, np.uint16))
    with pytest.raises(DataError, match=r"deep\.png: a 16-bit image\. Pass --levels"):
        check_samples([sample(path)], SPEC)


def test_a_16_bit_image_is_prepared_with_levels(tmp_path: Path) -> None:
    deep = good_image()[:, :, 0].astype(np.uint16) * 16
    path = write(tmp_path / "deep.png", deep)
    formats: set[PixelFormat] = set()
    spec = first_sight((64, 64), Levels(black=0, white=4080))
    (batch,) = prepared_batches([sample(path)], spec, 4, formats)
    assert formats == {PixelFormat.GREY16}
    assert batch.shape == (1, 64, 64, 3)


@pytest.mark.parametrize(("level", "what"), [(0, "dark"), (255, "white"), (120, "no contrast")])
def test_an_image_that_the_line_would_refuse_is_not_learned_from(
    tmp_path: Path, level: int, what: str
) -> None:
    path = write(tmp_path / "blank.png", np.full((64, 64, 3), level, np.uint8))
    with pytest.raises(DataError, match=rf"blank\.png: .*{what}.*Remove the image"):
        prepare_sample(sample(path), read_sample(sample(path)), SPEC)


def test_a_crop_that_does_not_fit_names_the_image(tmp_path: Path) -> None:
    path = write(tmp_path / "small.png", good_image(0, 40, 40))
    spec = first_sight((64, 64), crop=Crop(x=0, y=0, width=80, height=30))
    with pytest.raises(DataError, match=r"small\.png: the crop 80×30"):
        check_samples([sample(path)], spec)


def test_images_of_mixed_sizes_and_formats_come_prepared_in_order(tmp_path: Path) -> None:
    images = [
        good_image(0, 50, 90),
        good_image(1, 200, 130)[:, :, 0],
        cv2.cvtColor(good_image(2, 64, 64), cv2.COLOR_BGR2BGRA),
    ] * 5
    images[2][0, 0, 3] = 0  # else its transparency said nothing and would be left out
    samples = [sample(write(tmp_path / f"{i:02d}.png", p)) for i, p in enumerate(images)]
    formats: set[PixelFormat] = set()
    batches = list(prepared_batches(samples, SPEC, 4, formats))

    assert [len(batch) for batch in batches] == [4, 4, 4, 3]
    assert formats == {PixelFormat.BGR8, PixelFormat.GREY8, PixelFormat.BGRA8}
    found = np.concatenate([batch.numpy() for batch in batches])
    assert all(np.array_equal(f, prepare(p, SPEC)) for f, p in zip(found, images, strict=True))


def make_spec(side: int, crop: Crop | None = None) -> InputSpec:
    return first_sight((side, side), crop=crop)


def test_a_mask_of_another_size_than_its_image_is_named(tmp_path: Path) -> None:
    pixels, mask = defective_image()
    both = sample(write(tmp_path / "p.png", pixels), write(tmp_path / "m.png", mask[:-8]))
    with pytest.raises(DataError, match=r"m\.png: 112×72 pixels, but its image .*112×80"):
        check_samples([both], SPEC)


def test_a_broken_mask_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"m\.png"):
        read_mask(sample(tmp_path / "p.png", tmp_path / "m.png"), SPEC, (80, 112), SIZE)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_mask_of_any_format_is_cropped_as_its_image(tmp_path: Path, channels: int) -> None:
    mask = np.zeros((80, 112), np.uint8)
    mask[10:20, 30:50] = 7
    stored = mask
    if channels > 1:
        stored = np.repeat(mask[:, :, None], channels, 2)
        stored[:, :, 3:] = 255  # opaque everywhere
    path = write(tmp_path / "m.png", stored)
    spec = make_spec(40, Crop(x=20, y=5, width=40, height=40))
    found = read_mask(sample(tmp_path / "p.png", path), spec, (80, 112), (spec.height, spec.width))

    assert found is not None
    assert np.array_equal(found, mask[5:45, 20:60] > 0)


def test_a_good_image_has_an_empty_mask(tmp_path: Path) -> None:
    mask = read_mask(sample(tmp_path / "p.png"), SPEC, (80, 112), SIZE)
    assert mask is not None
    assert not mask.any()


def test_the_fingerprint_knows_content_kind_and_mask_but_neither_name_nor_order(
    tmp_path: Path,
) -> None:
    a = sample(write(tmp_path / "a.png", good_image(1)))
    b = sample(write(tmp_path / "b.png", good_image(2)))
    first = fingerprint([a, b])

    assert fingerprint([b, a]) == first
    assert fingerprint([a]) != first
    assert fingerprint([a, Sample(path=b.path, kind="spot")]) != first
    masked = Sample(
        path=b.path, kind="spot", mask=write(tmp_path / "mask.png", defective_image(0)[1])
    )
    with_mask = fingerprint([a, masked])
    write(tmp_path / "mask.png", defective_image(1)[1])
    assert fingerprint([a, masked]) != with_mask
    assert fingerprint([a, sample(b.path.rename(tmp_path / "c.png"))]) != with_mask
    assert fingerprint([a, sample(tmp_path / "c.png")]) == first
    write(tmp_path / "c.png", good_image(3))
    assert fingerprint([a, sample(tmp_path / "c.png")]) != first


def test_an_image_is_known_by_its_pixels(tmp_path: Path) -> None:
    """Re-named, saved anew without loss, grey as colour, with opaque alpha: the same image."""
    pixels, grey = good_image(1), good_image(1)[:, :, 0]
    alpha = np.dstack([pixels, np.full(grey.shape, 255, np.uint8)])
    first = content_hash(sample(write(tmp_path / "1.png", pixels)))
    for name, same in (("2.png", pixels), ("3.bmp", pixels), ("4.tif", pixels), ("5.png", alpha)):
        assert content_hash(sample(write(tmp_path / name, same))) == first
    assert content_hash(sample(write(tmp_path / "g.png", grey))) == content_hash(
        sample(write(tmp_path / "g3.png", cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)))
    )

    alpha[0, 0, 3] = 254
    pixels[0, 0, 0] ^= 1
    wide = grey.astype(np.uint16)
    hashes = [
        content_hash(sample(write(tmp_path / f"other{number}.png", other)))
        for number, other in enumerate((alpha, pixels, grey, grey.T, wide))
    ]
    assert len({first, *hashes}) == 6


def test_what_is_no_image_is_known_by_its_bytes(tmp_path: Path) -> None:
    for name, content in (("1.png", b""), ("2.png", b""), ("3.png", b"no image")):
        (tmp_path / name).write_bytes(content)
    one, two, three = (content_hash(sample(tmp_path / f"{number}.png")) for number in (1, 2, 3))
    assert one == two != three
    assert content_hash(sample(tmp_path / "none.png")) not in (one, three)
