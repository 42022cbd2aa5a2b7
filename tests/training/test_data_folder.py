"""Whatever lies in a data folder is used, or named and counted; folders have their usual names."""

import logging
import os
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from export.calibration_images import read_calibration_folder
from tests.support.small_training import (
    defective_image,
    good_image,
    write,
    write_folder,
    write_mvtec,
)
from tests.training.conftest import fit_arguments
from tests.training.test_data_sets import SETS
from training.cli import main
from training.data.data_notices import report_unused
from training.data.loading import first_sight
from training.data.open_data_set import open_data_set, open_splits
from training.data.samples import Sample
from training.data.settings import DataSettings, Layout
from training.errors import DataError


def open_all(root: Path) -> list[Sample]:
    splits = open_splits(root)
    return [*splits.fit, *splits.validation, *splits.test]


def printed(root: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.INFO):
        report_unused(DataSettings(path=root))
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("layout", ["folder", "mvtec"])
def test_images_in_folders_of_good_are_taken(tmp_path: Path, layout: str) -> None:
    root = (write_folder if layout == "folder" else write_mvtec)(tmp_path / "set", 4)
    good = root / ("good" if layout == "folder" else "train/good")
    for number in range(46):
        day = good / "2026" / f"day{number % 3}"
        write(day / f"{number:03d}.png", good_image(100 + number, 16, 16))
    found = [s for s in open_all(root) if s.path.is_relative_to(good)]
    assert len(found) == 50
    assert not any(sample.is_defective for sample in found)
    assert len({sample.identity for sample in found}) == 50


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        *(("good", "bad"), ("Good", "NG"), ("OK", "defects"), ("ok", "Defect")),
        *(("normal", "anomaly"), ("GOOD", "ANOMALIES"), ("Ok", "ko"), ("양품", "불량")),
    ],
)
def test_the_usual_names_are_understood_in_any_case(tmp_path: Path, good: str, bad: str) -> None:
    for number in range(4):
        write(tmp_path / good / f"{number}.png", good_image(number))
    pixels, mask = defective_image(1)
    write(tmp_path / bad / "plain.png", pixels)
    write(tmp_path / bad / "Dent" / "deep" / "d.png", defective_image(2)[0])
    write(tmp_path / "Masks" / "plain.png", mask)
    write(tmp_path / "Masks" / "dent" / "deep" / "d.bmp", mask)
    found = open_all(tmp_path)
    assert Counter(sample.kind for sample in found) == {"good": 4, bad: 1, "Dent": 1}
    masks = {sample.path.name: sample.mask for sample in found if sample.is_defective}
    assert masks == {
        "plain.png": tmp_path / "Masks" / "plain.png",
        "d.png": tmp_path / "Masks" / "dent" / "deep" / "d.bmp",
    }


def test_the_mvtec_layout_knows_other_names_of_good(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / "Train" / "OK" / f"{number}.png", good_image(number))
        write(tmp_path / "Test" / "ok" / f"{number}.png", good_image(50 + number))
    pixels, mask = defective_image(1)
    write(tmp_path / "Test" / "NG" / "left" / "1.png", pixels)
    write(tmp_path / "Ground_Truth" / "ng" / "left" / "1_mask.bmp", mask)
    splits = open_splits(tmp_path)
    assert Counter(sample.kind for sample in splits.test) == {"good": 4, "NG": 1}
    assert [s.mask.name for s in splits.test if s.mask] == ["1_mask.bmp"]


def test_defects_in_a_folder_of_good_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write(tmp_path / "good" / "line2" / "NG" / "1.png", defective_image(0)[0])
    with pytest.raises(DataError, match=r"good/line2/NG: NG among the good images\. Move"):
        open_splits(tmp_path)


def test_the_folder_of_good_images_may_be_given_itself(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", good=4, defective=0) / "good"
    write(root / "monday" / "1.png", good_image(50))
    assert len(open_all(root)) == 5


def test_a_folder_whose_names_say_nothing_is_reported_with_what_it_holds(tmp_path: Path) -> None:
    write(tmp_path / "old" / "1.png", good_image())
    with pytest.raises(DataError, match="The folders old hold images, but nothing says whether"):
        open_splits(tmp_path)


def pages(path: Path, count: int) -> None:
    assert cv2.imwritemulti(str(path), [good_image(n, 16, 16) for n in range(count)])


def test_what_is_not_used_is_counted_and_named_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_folder(tmp_path / "set", good=4, defective=1)
    assert printed(root, caplog) == []
    for number in range(32):
        (root / "good" / f"{number}.{'gif' if number < 30 else 'heic'}").write_bytes(b"GIF89a")
    write(root / "old" / "deep" / "1.png", good_image())
    write(root / "1.png", good_image())
    (root / "good" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (root / "good" / ".hidden.png").write_bytes(b"")
    pages(root / "good" / "scan.tif", 5)
    os.mkfifo(root / "good" / "pipe.png")
    assert printed(root, caplog) == [
        f"{root}: not used: 2 images in folders of no known use (1 in ., 1 in old/deep), "
        "32 files of other types (30 .gif, 2 .heic), 1 link that leads nowhere (good/gone.png), "
        "4 further pages or frames in files (4 in good/scan.tif), 1 device or pipe, 1 hidden"
    ]
    assert caplog.records[0].levelno == logging.WARNING


def test_notes_beside_the_images_are_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_mvtec(tmp_path / "set")
    (root / "readme.txt").write_text("how it was taken")
    assert printed(root, caplog) == [f"{root}: not used: 1 file of other types (1 .txt)"]
    assert caplog.records[0].levelno == logging.INFO


@pytest.mark.parametrize("layout", sorted(SETS))
def test_of_a_published_set_everything_is_used(
    tmp_path: Path, layout: str, caplog: pytest.LogCaptureFixture
) -> None:
    written, category = SETS[Layout(layout)]
    settings = DataSettings(path=written(tmp_path / "set"), category=category)
    with caplog.at_level(logging.INFO):
        report_unused(settings)
    assert caplog.text == ""
    for place in open_data_set(settings).places:
        write(place / "more" / "1.png", good_image())
        caplog.clear()
        report_unused(settings)
        assert "1 image in folders of no known use" in caplog.text
        shutil.rmtree(place / "more")


def test_links_are_followed_once_and_never_in_circles(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_folder(tmp_path / "set", good=4, defective=0)
    shutil.copytree(root / "good", tmp_path / "elsewhere")
    (root / "good" / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "good" / "itself").symlink_to(root / "good")
    (root / "also").symlink_to(root / "good")
    assert len(open_data_set(DataSettings(path=root)).new_images()) == 8
    assert printed(root, caplog) == []


def animated(suffix: str) -> bytes:
    animation = cv2.Animation()
    animation.frames = [
        np.dstack([good_image(n, 16, 16), np.full((16, 16), 255, np.uint8)]) for n in range(3)
    ]
    animation.durations = [100] * 3
    done, content = cv2.imencodeanimation(suffix, animation)
    assert done
    return content.tobytes()


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_frames_of_an_animation_are_counted(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_folder(tmp_path / "set", good=4, defective=0)
    (root / "good" / f"moves{suffix}").write_bytes(animated(suffix))
    assert (
        f"2 further pages or frames in files (2 in good/moves{suffix})" in printed(root, caplog)[0]
    )


def test_every_command_says_so_once_and_before_it_begins(
    tmp_path: Path, weights: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_folder(tmp_path / "set", good=8, defective=2)
    (root / "good" / "1.heic").write_bytes(b"")
    sentence = f"{root}: not used: 1 file of other types (1 .heic)"
    for arguments in (
        fit_arguments(root, weights, tmp_path / "m.safetensors", "--no-report"),
        ["test", str(checkpoint), "--data", str(root)],
        ["calibrate", str(checkpoint), "--data", str(root), "-o", str(tmp_path / "c.safetensors")],
    ):
        caplog.clear()
        assert main(arguments) == 0
        assert [r.getMessage() for r in caplog.records].count(sentence) == 1
        assert caplog.records[0].getMessage() == sentence


def test_predict_counts_what_it_does_not_look_at(
    tmp_path: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "new" / "1.png", good_image())
    write(tmp_path / "new" / "more" / "2.png", good_image())
    assert main(["predict", str(checkpoint), str(tmp_path / "new")]) == 0
    assert "not used: 1 image in folders of no known use (1 in more)" in caplog.text


def test_images_to_quantize_with_may_lie_in_folders(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "ranges" / "1.png", good_image(1))
    write(tmp_path / "ranges" / "more" / "2.png", good_image(2))
    (tmp_path / "ranges" / "3.heic").write_bytes(b"")
    read = read_calibration_folder(tmp_path / "ranges", first_sight((64, 64)))
    assert len(read.images) == 2
    assert read.names == ["1.png", "2.png"]
    assert f"{tmp_path / 'ranges'}: not used: 1 file of other types (1 .heic)" in caplog.text
