"""Public data sets in their published layouts, tiny; each says exactly which file is missing."""

import csv
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.imaging.content_hash import pixels_hash
from edge.recipes.content import RECIPE_FILE, RecipeContent, recipe_yaml
from edge.recipes.taught import TAUGHT_FILE, Taught
from tests.support.decoding import decode_file
from tests.support.small_training import (
    defective_image,
    good_image,
    write,
    write_folder,
    write_mvtec,
)
from training.data.cifar10 import CATEGORIES, read_record
from training.data.content import fingerprint
from training.data.loading import check_readable, read_frame_mask, read_sample
from training.data.open_data_set import (
    ADAPTERS,
    ValidateOn,
    open_data_set,
    open_judging,
    open_new,
    open_splits,
)
from training.data.samples import Sample, Splits
from training.data.settings import DataSettings, Layout
from training.errors import DataError
from training.seen_images import Role, SeenImages, seen


def write_btad(root: Path) -> Path:
    for number in range(8):
        write(root / "01" / "train" / "ok" / f"{number:04d}.bmp", good_image(number))
    for number in range(3):
        pixels, mask = defective_image(number)
        write(root / "01" / "test" / "ok" / f"{number:04d}.bmp", good_image(100 + number))
        write(root / "01" / "test" / "ko" / f"{number:04d}.bmp", pixels)
        write(root / "01" / "ground_truth" / "ko" / f"{number:04d}.png", mask)
    return root


def write_visa(root: Path) -> Path:
    rows = []
    data = Path("candle") / "Data"
    for number in range(9):
        path = data / "Images" / "Normal" / f"{number:04d}.JPG"
        write(root / path, good_image(number))
        rows.append(["candle", "train" if number < 6 else "test", "normal", path, ""])
    for number in range(3):
        pixels, mask = defective_image(number)
        path = data / "Images" / "Anomaly" / f"{number:03d}.JPG"
        area = data / "Masks" / "Anomaly" / f"{number:03d}.png"
        write(root / path, pixels)
        write(root / area, np.minimum(mask, 3))
        rows.append(["candle", "test", "anomaly", path, area])
    (root / "split_csv").mkdir()
    with (root / "split_csv" / "1cls.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["object", "split", "label", "image", "mask"])
        writer.writerows(rows)
    return root


def write_kolektor_sdd(root: Path) -> Path:
    for item in range(1, 13):
        for part in range(3):
            pixels, mask = good_image(item * 10 + part), np.zeros((80, 112), np.uint8)
            if part == 2 and item % 2:
                pixels, mask = defective_image(item)
            write(root / f"kos{item:02d}" / f"Part{part}.jpg", pixels)
            write(root / f"kos{item:02d}" / f"Part{part}_label.bmp", mask)
    return root


def write_kolektor_sdd2(root: Path) -> Path:
    for split, first in (("train", 10000), ("test", 20000)):
        for number in range(first, first + 10):
            pixels, mask = good_image(number), np.zeros((80, 112), np.uint8)
            if number % 5 == 0:
                pixels, mask = defective_image(number)
            write(root / split / f"{number}.png", pixels)
            write(root / split / f"{number}_GT.png", mask)
    return root


def cifar_batches() -> dict[str, tuple[list[int], np.ndarray]]:
    """Six batches of twenty images, two of each category."""
    random = np.random.default_rng(5)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    labels = list(range(10)) * 2
    return {name: (labels, random.integers(0, 256, (20, 3072)).astype(np.uint8)) for name in names}


def write_cifar_binary(root: Path) -> Path:
    root.mkdir()
    for name, (labels, images) in cifar_batches().items():
        records = np.hstack([np.array(labels, np.uint8)[:, None], images])
        (root / f"{name}.bin").write_bytes(records.tobytes())
    return root


def write_cifar_python(root: Path) -> Path:
    """As the published files: a dictionary of bytes keys, pickled with protocol 2."""
    root.mkdir()
    for name, (labels, images) in cifar_batches().items():
        batch = {b"batch_label": b"one", b"labels": labels, b"data": images, b"filenames": []}
        (root / name).write_bytes(pickle.dumps(batch, protocol=2))
    return root


def write_shanghaitech(root: Path) -> Path:
    for clip in ("01_001", "01_002", "01_003", "02_001"):
        for number in range(4):
            seed = int(clip.replace("_", "")) + number
            write(root / "training" / "frames" / clip / f"{number:03d}.jpg", good_image(seed))
    for clip in ("01_0014", "02_0128"):
        areas = np.zeros((5, 80, 112), np.uint8)
        for number in range(5):
            pixels = good_image(int(clip.replace("_", "")) + number)
            if number >= 3:
                pixels, mask = defective_image(number + int(clip[:2]))
                areas[number] = mask > 0
            write(root / "testing" / "frames" / clip / f"{number:03d}.jpg", pixels)
        for folder, content in (
            ("test_frame_mask", areas.any((1, 2)).astype(np.int8)),
            ("test_pixel_mask", areas),
        ):
            (root / "testing" / folder).mkdir(exist_ok=True)
            np.save(root / "testing" / folder / f"{clip}.npy", content)
    return root


def write_recipe(root: Path) -> Path:
    """A version that was taught, and a newer one of a workstation, which names no images."""
    (root / "images").mkdir(parents=True)
    contents = []
    for number in range(13):
        pixels = good_image(number) if number < 10 else defective_image(number)[0]
        contents.append(pixels_hash(pixels).hex())
        write(root / "images" / f"{contents[-1]}.png", pixels)
    write(root / "images" / f"{'0' * 64}.png", good_image(50))  # of an earlier version
    for one in (contents[10], "0" * 64):
        write(root / "masks" / f"{one}.png", defective_image(10)[1])
    taught = Taught(
        teacher="0" * 64,
        seed=0,
        views=False,
        check_good=True,
        images=contents[:10],
        defective=contents[10:],
    )
    for version in (1, 2):
        folder = root / "versions" / f"{version:04d}"
        folder.mkdir(parents=True)
        content = RecipeContent(name=root.name, version=version)
        (folder / RECIPE_FILE).write_bytes(recipe_yaml(content))
    (root / "versions" / "0001" / TAUGHT_FILE).write_text(taught.model_dump_json())
    return root


SETS: dict[Layout, tuple[Callable[[Path], Path], str | None]] = {
    Layout.BTAD: (write_btad, "01"),
    Layout.VISA: (write_visa, "candle"),
    Layout.KOLEKTOR_SDD: (write_kolektor_sdd, None),
    Layout.KOLEKTOR_SDD2: (write_kolektor_sdd2, None),
    Layout.CIFAR10: (write_cifar_binary, "cat"),
    Layout.SHANGHAITECH: (write_shanghaitech, "01"),
    Layout.MVTEC_AD: (write_mvtec, None),
    Layout.RECIPE: (write_recipe, None),
    Layout.FOLDER: (write_folder, None),
}


@pytest.fixture(params=sorted(SETS))
def layout(request: pytest.FixtureRequest) -> Layout:
    return Layout(request.param)


@pytest.fixture
def settings(layout: Layout, tmp_path: Path) -> DataSettings:
    written, category = SETS[layout]
    return DataSettings(path=written(tmp_path / "set"), category=category)


def labels(samples: tuple[Sample, ...]) -> set[str]:
    return {sample.label for sample in samples}


def test_a_layout_is_found_out(layout: Layout, settings: DataSettings) -> None:
    opened: object = type(open_data_set(settings))
    assert opened is ADAPTERS[layout]


def test_good_images_are_fitted_and_both_kinds_judged(settings: DataSettings) -> None:
    found = open_splits(settings)
    assert found.fit
    assert not any(sample.is_defective for sample in found.fit)
    assert any(sample.is_defective for sample in found.test)
    assert any(not sample.is_defective for sample in found.validation)


def test_no_image_of_a_set_is_in_two_splits(settings: DataSettings) -> None:
    found = open_splits(settings)
    assert not labels(found.fit) & labels(found.validation)
    assert not labels(found.test) & (labels(found.fit) | labels(found.validation))


def test_every_image_of_a_set_can_be_read_with_its_mask(
    settings: DataSettings, layout: Layout
) -> None:
    found = open_splits(settings)
    everything = (*found.fit, *found.validation, *found.test)
    assert check_readable(everything) == {}
    masked = [sample for sample in everything if sample.mask is not None]
    assert masked or layout is Layout.CIFAR10
    for sample in masked:
        mask = read_frame_mask(sample, read_sample(sample).shape[:2])
        assert mask is not None
        assert mask.any()


def test_the_same_set_elsewhere_has_the_same_splits_and_fingerprint(
    settings: DataSettings, tmp_path: Path
) -> None:
    copy = settings.model_copy(update={"path": tmp_path / "copy" / "set"})
    shutil.copytree(settings.path, copy.path)
    first, second = open_splits(settings, seed=3), open_splits(copy, seed=3)
    assert [s.identity for s in first.fit] == [s.identity for s in second.fit]
    assert fingerprint(first.validation) == fingerprint(second.validation)


@pytest.mark.parametrize(
    ("layout", "removed", "named"),
    [
        (Layout.BTAD, "01/test/ok", "01/test/ok: no such folder; good test images"),
        (Layout.VISA, "candle/Data/Images/Normal/0003.JPG", "0003.JPG: no such file; it holds a"),
        (
            Layout.VISA,
            "candle/Data/Masks/Anomaly/001.png",
            "001.png: no such file; it holds a mask",
        ),
        (Layout.KOLEKTOR_SDD, "kos03/Part1_label.bmp", "kos03/Part1.jpg: its mask is missing"),
        (Layout.KOLEKTOR_SDD2, "test", "test: no such folder"),
        (Layout.CIFAR10, "data_batch_3.bin", "data_batch_3.bin: no such file"),
        (Layout.CIFAR10, "test_batch.bin", "test_batch.bin: no such file"),
        (Layout.SHANGHAITECH, "testing/test_frame_mask/01_0014.npy", "01_0014.npy: no such file"),
        (Layout.SHANGHAITECH, "testing/frames/01_0014/002.jpg", "labels 5 frames, but"),
        (Layout.SHANGHAITECH, "training/frames", "training/frames: no clips"),
        (Layout.MVTEC_AD, "train/good", "train/good: no images"),
        (Layout.RECIPE, "images", "13 images are gone that it was taught with"),
        (Layout.RECIPE, "versions/0001/taught.json", "no version of it was taught"),
        (Layout.FOLDER, "good", "good: no images"),
    ],
)
def test_the_missing_file_is_named(
    tmp_path: Path, layout: Layout, removed: str, named: str
) -> None:
    written, category = SETS[layout]
    root = written(tmp_path / "set")
    place = root / removed
    if place.is_dir():
        shutil.rmtree(place)
        if layout is Layout.FOLDER:
            place.mkdir()
    else:
        place.unlink()
    with pytest.raises(DataError, match=named):
        open_splits(DataSettings(path=root, layout=layout, category=category))


@pytest.mark.parametrize(
    ("layout", "known"),
    [
        (Layout.BTAD, "There are: 01"),
        (Layout.VISA, "There are: candle"),
        (Layout.CIFAR10, "There are: airplane, automobile"),
        (Layout.SHANGHAITECH, "There are: 01, 02"),
    ],
)
def test_an_unknown_category_lists_those_that_exist(
    tmp_path: Path, layout: Layout, known: str
) -> None:
    root = SETS[layout][0](tmp_path / "set")
    with pytest.raises(DataError, match=f"has no category 'zebra'.*{known}"):
        open_data_set(DataSettings(path=root, layout=layout, category="zebra"))


def test_a_set_of_many_categories_asks_for_one(tmp_path: Path) -> None:
    root = write_cifar_binary(tmp_path / "set")
    with pytest.raises(DataError, match=r"several categories.*Choose one with --category"):
        open_splits(root)


def test_a_layout_without_categories_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no categories\. Leave out --category"):
        open_splits(DataSettings(path=write_folder(tmp_path), category="bottle"))


def test_a_category_of_an_mvtec_folder_is_found_by_name(tmp_path: Path) -> None:
    write_mvtec(tmp_path / "bottle")
    write_mvtec(tmp_path / "cable")
    assert open_splits(DataSettings(path=tmp_path, category="cable")).name == "cable"


def test_images_of_one_commutator_stay_on_one_side(tmp_path: Path) -> None:
    found = open_splits(write_kolektor_sdd(tmp_path / "set"))
    fit, validation, test = (
        {sample.group for sample in part} for part in (found.fit, found.validation, found.test)
    )
    assert not test & (fit | validation)
    good = {sample.group for sample in found.validation if not sample.is_defective}
    assert not fit & good


def test_frames_of_one_clip_stay_on_one_side(tmp_path: Path) -> None:
    found = open_splits(DataSettings(path=write_shanghaitech(tmp_path / "set"), category="01"))
    fit, validation = ({sample.group for sample in p} for p in (found.fit, found.validation))
    assert len(fit) + len(validation) == 3
    assert not fit & validation


def test_films_without_frames_name_the_command_that_takes_them_out(tmp_path: Path) -> None:
    root = write_shanghaitech(tmp_path / "set")
    shutil.rmtree(root / "training" / "frames")
    (root / "training" / "videos").mkdir()
    (root / "training" / "videos" / "01_001.avi").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"ffmpeg -i 01_001\.avi .*frames/01_001/%03d\.jpg"):
        open_splits(root)


def test_both_versions_of_cifar10_hold_the_same_images(tmp_path: Path) -> None:
    binary, python = write_cifar_binary(tmp_path / "bin"), write_cifar_python(tmp_path / "py")
    for number in (0, 7, 19):
        first = read_record(binary / "test_batch.bin", number)
        assert first.shape == (32, 32, 3)
        assert np.array_equal(first, read_record(python / "test_batch", number))
    red = cifar_batches()["test_batch"][1][0][0]
    assert read_record(binary / "test_batch.bin", 0)[0, 0, 2] == red
    kinds = [s.kind for s in open_judging(DataSettings(path=python, category="cat")).samples]
    assert kinds.count("good") == 2
    assert set(kinds) == {"good", *CATEGORIES} - {"cat"}


class _Program:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("it-ran"),)


def test_a_pickle_that_holds_a_program_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = write_cifar_python(tmp_path / "set")
    (root / "data_batch_2").write_bytes(pickle.dumps({b"labels": _Program()}, protocol=2))
    with pytest.raises(DataError, match="which CIFAR-10 has no use for, and was not loaded"):
        open_splits(DataSettings(path=root, category="cat"))
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("content", [b"", b"cut", b"\x80\x02}", b"\x0b" + bytes(3072)])
@pytest.mark.parametrize("suffix", ["", ".bin"])
def test_a_damaged_batch_is_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    root = (write_cifar_binary if suffix else write_cifar_python)(tmp_path / "set")
    (root / f"data_batch_4{suffix}").write_bytes(content)
    with pytest.raises(DataError, match=rf"data_batch_4{suffix}: damaged"):
        open_splits(DataSettings(path=root, category="cat"))


def test_arrays_of_objects_are_not_taken_for_labels(tmp_path: Path) -> None:
    root = write_shanghaitech(tmp_path / "set")
    table = root / "testing" / "test_frame_mask" / "01_0014.npy"
    np.save(table, np.array([_Program()] * 5), allow_pickle=True)
    with pytest.raises(DataError, match=r"01_0014\.npy: not a numpy array") as raised:
        open_splits(root)
    assert "allow_pickle" not in str(raised.value)


def test_a_copy_of_a_test_image_is_left_out_of_the_fit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_mvtec(tmp_path / "set")
    shutil.copy(root / "test" / "good" / "001.png", root / "train" / "good" / "renamed.png")
    found = open_splits(root)
    everything = (*found.fit, *found.validation)
    assert not any(sample.path.name == "renamed.png" for sample in everything)
    assert "renamed.png" in caplog.text


def test_a_copy_that_was_held_out_is_not_fitted(tmp_path: Path) -> None:
    root = write_mvtec(tmp_path / "set", train=20)
    held_out = open_splits(root).validation[0].path
    for number in range(3):
        shutil.copy(held_out, root / "train" / "good" / f"copy_{number}.png")
    contents = {s.path.read_bytes() for s in open_splits(root).fit}
    assert not contents & {s.path.read_bytes() for s in open_splits(root).validation}


def test_one_image_that_is_good_and_defective_is_named_twice(tmp_path: Path) -> None:
    root = write_mvtec(tmp_path / "set")
    shutil.copy(root / "train" / "good" / "003.png", root / "test" / "spot" / "wrong.png")
    with pytest.raises(DataError, match=r"wrong\.png is spot, .*very same .*003\.png is good"):
        open_splits(root)


@pytest.mark.parametrize("layout", ["mvtec", "folder"])
def test_a_mask_without_an_image_is_named_and_by_choice_left_out(
    tmp_path: Path, layout: str, caplog: pytest.LogCaptureFixture
) -> None:
    if layout == "mvtec":
        root = write_mvtec(tmp_path / "set")
        stray = write(root / "ground_truth" / "spot" / "099_mask.png", np.ones((80, 112), np.uint8))
    else:
        root = write_folder(tmp_path / "set")
        stray = write(root / "masks" / "spot_99.png", np.ones((80, 112), np.uint8))
    with pytest.raises(DataError, match=f"{stray}: no image belongs to this mask"):
        open_splits(root)
    assert open_splits(DataSettings(path=root, skip_unreadable=True)).fit
    assert str(stray) in caplog.text


def test_unreadable_images_are_left_out_by_choice_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_mvtec(tmp_path / "set", train=20)
    for place in ("train/good/004.png", "test/good/001.png", "ground_truth/spot/002_mask.png"):
        (root / place).write_bytes(b"\x89PNG cut")
    settings = DataSettings(path=root, skip_unreadable=True)
    splits = open_splits(settings)
    assert len(splits.fit) + len(splits.validation) == 19
    assert "train/good/004.png: not a complete image" in caplog.text
    test = open_judging(settings).samples
    assert {s.label for s in open_judging(root).samples} - {s.label for s in test} == {
        str(root / "test" / "good" / "001.png"),
        str(root / "test" / "spot" / "002.png"),
    }


def test_two_empty_files_are_unreadable_and_no_contradiction(tmp_path: Path) -> None:
    root = write_mvtec(tmp_path / "set")
    for place in ("test/good/001.png", "test/spot/001.png"):
        (root / place).write_bytes(b"")
    with pytest.raises(DataError, match=r"00.\.png: not a complete image"):
        open_splits(root)


def fitted_on(splits: Splits) -> SeenImages:
    return SeenImages(fitted=seen(splits.fit), calibrated=seen(splits.validation))


def test_new_images_are_used_whole_but_for_published_test_images(tmp_path: Path) -> None:
    folder, mvtec = write_folder(tmp_path / "a", 12, 6), write_mvtec(tmp_path / "b", train=8)
    other = SeenImages(fitted=frozenset({bytes(16)}))
    for known in (None, other):
        assert len(open_new(folder, 0, known).samples) == 18
        assert len(open_new(folder, 0, known, ValidateOn.TEST).samples) == 18
        assert len(open_new(mvtec, 0, known).samples) == 8
        test = open_new(mvtec, 0, known, ValidateOn.TEST).samples
        assert len(test) == 8
        assert any(sample.is_defective for sample in test)


@pytest.mark.parametrize("layout", [write_folder, write_mvtec])
def test_of_the_set_that_was_fitted_only_what_was_kept_out_is_calibrated_on(
    tmp_path: Path, layout: Callable[[Path, int], Path]
) -> None:
    splits = open_splits(layout(tmp_path / "set", 20), seed=4)
    opened = open_new(tmp_path / "set", 4, fitted_on(splits))
    assert set(opened.samples) == set(splits.validation)
    assert opened.left_out == {Role.FITTED: len(splits.fit)}
    drawn = layout is write_folder
    assert opened.kept_apart == (len(splits.test) if drawn else 0)
    everything = open_new(tmp_path / "set", 4, fitted_on(splits), everything=True)
    both = {*splits.validation, *splits.test} if drawn else set(splits.validation)
    assert set(everything.samples) == both
    test = open_new(tmp_path / "set", 4, fitted_on(splits), ValidateOn.TEST)
    assert set(test.samples) == set(splits.test)


def test_a_renamed_set_that_grew_since_the_fit_gives_none_of_its_images_away(
    tmp_path: Path,
) -> None:
    root = write_folder(tmp_path / "set", 20, 6)
    splits = open_splits(root, seed=4)
    known, tested = fitted_on(splits), seen(splits.test)
    root = root.rename(tmp_path / "other")
    for number, path in enumerate(sorted((root / "good").iterdir(), reverse=True)):
        path.rename(root / "good" / f"{number}.png")
    for number in range(20):
        write(root / "good" / f"new{number}.png", good_image(77 + number))
    opened = open_new(root, 4, known)
    found = seen(opened.samples)
    assert opened.left_out == {Role.FITTED: len(splits.fit)}
    assert not found & (known.fitted | tested)
    assert found > known.calibrated
    assert len(opened.samples) + opened.kept_apart + len(splits.fit) == 46


def test_all_of_a_folder_is_judged_but_for_what_the_model_has_seen(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", 20, 6)
    splits = open_splits(root)
    assert len(open_judging(root).samples) == 26
    opened = open_judging(root, 0, fitted_on(splits))
    assert set(opened.samples) == set(splits.test)
    assert opened.left_out == {
        Role.FITTED: len(splits.fit),
        Role.CALIBRATED: len(splits.validation),
    }
    assert len(open_judging(root, 0, fitted_on(splits), [Role.FITTED]).samples) == 26 - len(
        splits.fit
    )
    everything = SeenImages(fitted=seen([*splits.fit, *splits.validation, *splits.test]))
    with pytest.raises(DataError, match="no image is left to judge by: 26 that the model was"):
        open_judging(root, 0, everything)


def test_calibration_without_good_images_is_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", 5, 3)
    for path in (root / "good").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no good images to calibrate on"):
        open_new(DataSettings(path=root, skip_unreadable=True), 0, None)


def test_a_cifar_image_has_no_mask(tmp_path: Path) -> None:
    root = write_cifar_binary(tmp_path / "set")
    sample = open_judging(DataSettings(path=root, category="dog")).samples[0]
    assert read_frame_mask(sample, (32, 32)) is None
    assert sample.label.endswith("test_batch.bin#0")


def test_synthetic_defects_come_with_their_mask(tmp_path: Path) -> None:
    settings = DataSettings(path=write_folder(tmp_path / "set", 20, 0), synthetic_defects=6)
    splits = open_splits(settings)
    synthetic = [sample for sample in splits.validation if sample.is_defective]
    assert len(synthetic) == 6
    assert splits.name == "set (synthetic defects)"
    assert all(sample.is_synthetic and sample.kind.startswith("synthetic-") for sample in synthetic)
    for sample in synthetic:
        plain = decode_file(sample.path, cv2.IMREAD_COLOR)
        changed = np.abs(read_sample(sample).astype(int) - plain).max(2)
        mask = read_frame_mask(sample, plain.shape[:2])
        assert mask is not None
        assert changed[mask > 0].mean() > 8 > changed[mask == 0].mean()


def test_real_defects_are_never_joined_by_synthetic_ones(tmp_path: Path) -> None:
    settings = DataSettings(path=write_folder(tmp_path / "set", 20, 6), synthetic_defects=6)
    splits = open_splits(settings)
    assert not any(sample.is_synthetic for sample in (*splits.validation, *splits.test))
    assert splits.name == "set"


def test_the_fingerprint_knows_synthetic_defects_and_no_views(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", 20, 0)
    plain, synthetic, viewed = (
        open_splits(DataSettings(path=root, **more))
        for more in ({}, {"synthetic_defects": 3}, {"transforms": ["RandomHorizontalFlip"]})
    )
    assert fingerprint(plain.validation) != fingerprint(synthetic.validation)
    assert len(viewed.fit) == 2 * len(plain.fit)
    assert fingerprint(plain.fit) == fingerprint(viewed.fit)
    assert viewed.validation == plain.validation
