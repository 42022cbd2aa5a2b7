"""Names of files and folders: composed or decomposed, and bytes that are no UTF-8."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.small_training import defective_image, write, write_folder, write_mvtec
from tests.training.conftest import fit_arguments
from tests.training.test_data_sets import (
    write_btad,
    write_kolektor_sdd,
    write_kolektor_sdd2,
    write_visa,
)
from training.checkpoint import load_checkpoint
from training.cli import main
from training.data.open_data_set import open_data_set, open_splits
from training.data.settings import DataSettings

# What a Windows archive of 양품 holds, unpacked on Linux.
CP949 = os.fsdecode("양품".encode("cp949"))
ESCAPED = "\\xbe\\xe7ǰ"


def decomposed(name: str) -> str:
    return unicodedata.normalize("NFD", name)


def renamed(root: Path, change: Callable[[Path], str]) -> Path:
    """Rename every file and folder below a folder, the innermost first."""
    for path in sorted(root.rglob("*"), reverse=True):
        path.rename(path.with_name(change(path)))
    return root


def accented(path: Path) -> str:
    """Name a file in Korean: images decomposed as on macOS, masks composed."""
    if path.is_dir() or path.suffix == ".csv":
        return path.name
    is_mask = any(word in str(path).lower() for word in ("mask", "ground_truth", "_gt", "_label"))
    name = f"불량{path.name}"
    return unicodedata.normalize("NFC" if is_mask else "NFD", name)


@pytest.mark.parametrize(
    ("written", "category"),
    [
        (write_folder, None),
        (write_mvtec, None),
        (write_btad, "01"),
        (write_kolektor_sdd, None),
        (write_kolektor_sdd2, None),
    ],
)
def test_masks_are_found_composed_or_not(
    tmp_path: Path, written: Callable[[Path], Path], category: str | None
) -> None:
    root = tmp_path / "set"
    before = open_splits(DataSettings(path=written(root), category=category))
    renamed(root, accented)
    after = open_splits(DataSettings(path=root, category=category))
    masks = [
        sum(s.mask is not None for s in (*splits.validation, *splits.test))
        for splits in (before, after)
    ]
    assert masks[1] == masks[0] > 0


def test_a_table_finds_its_files_composed_or_not(tmp_path: Path) -> None:
    root = write_visa(tmp_path / "set")
    table = root / "split_csv" / "1cls.csv"
    table.write_text(table.read_text().replace("candle", "각"), encoding="utf-8")
    (root / "candle").rename(root / decomposed("각"))
    for category in ("각", decomposed("각")):
        data = open_data_set(DataSettings(path=root, category=category))
        assert data.name == "각"
        assert sum(sample.mask is not None for sample in data.split(0).test) == 3


def test_a_category_is_found_composed_or_not(tmp_path: Path) -> None:
    write_mvtec(tmp_path / decomposed("병"))
    assert open_splits(DataSettings(path=tmp_path, category="병")).name == "병"


def test_folders_of_masks_and_kinds_meet_composed_or_not(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", good=4, defective=0)
    pixels, mask = defective_image()
    write(root / decomposed("불량") / decomposed("흠집") / "1.png", pixels)
    write(root / "masks" / "흠집" / "1.png", mask)
    (sample,) = [s for s in open_data_set(DataSettings(path=root)).new_images() if s.is_defective]
    assert sample.kind == "흠집"
    assert sample.mask == root / "masks" / "흠집" / "1.png"


def with_bytes(root: Path) -> Path:
    """Write a plain folder in which no name is UTF-8; OpenCV could not."""
    write_folder(root, good=12, defective=4)

    def change(path: Path) -> str:
        if path.parent == root:
            return path.name
        return f"{CP949}{path.name}".replace("spot_", "")

    return renamed(root, change).rename(root.with_name(f"{root.name}{CP949}"))


def test_names_that_are_no_utf_8_go_the_whole_way(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = with_bytes(tmp_path / "set")
    model, scores = tmp_path / "m.safetensors", tmp_path / "s.csv"
    track = f"csv:{tmp_path / 'log.csv'}"
    assert main(fit_arguments(root, weights, model, "--track", track)) == 0
    training = load_checkpoint(model).description.training
    assert training.dataset == f"set{ESCAPED}"

    again = tmp_path / "c.safetensors"
    assert main(["calibrate", str(model), "--data", str(root), "-o", str(again)]) == 0
    report = tmp_path / "t.html"
    options = ["--scores", str(scores), "--report", str(report)]
    assert main(["test", str(model), "--data", str(root), *options]) == 0
    capsys.readouterr()
    assert main(["predict", str(model), str(root / "good"), "-o", str(tmp_path / "maps")]) == 0
    named = f"set{ESCAPED}/good/{ESCAPED}good_000.png"
    assert named in capsys.readouterr().out
    assert f"{ESCAPED}spot" in report.read_text("utf-8")
    assert f"set{ESCAPED}/defect/{ESCAPED}spot/" in scores.read_text("utf-8")
    assert f"set{ESCAPED}" in (tmp_path / "log.csv").read_text("utf-8")
    assert len(list((tmp_path / "maps").iterdir())) == 12


def test_a_table_of_fits_names_folders_that_are_no_utf_8(tmp_path: Path, weights: Path) -> None:
    root = with_bytes(tmp_path / "set")
    table = tmp_path / "b.csv"
    options = ["--backbones", "small", "--weights", str(weights), "--image-size", "64"]
    options += ["--set", "patchcore.bank_size=20", "-o", str(table)]
    assert main(["benchmark", "--data", str(root), *options]) == 0
    assert f",set{ESCAPED}," in table.read_text("utf-8")
