"""A product that lies anywhere is taught as it lies in a reference, which the bundle carries."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.bundle.input_spec import AlignMode
from edge.bundle.loading import Bundle, load_bundle
from edge.cli.main import main as edge_run
from edge.imaging.frame import Frame
from edge.inspection.decision import Reason, Result
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.inspector import Inspection, Inspector
from edge.recipes.folder import RecipeFolder
from tests.support.small_teacher import write_small_teacher
from tests.support.turned_part import DEFECT, HEIGHT, WIDTH, Laid, anywhere, bracket, placed
from training.alignment import agreed_locator, find_locator, found_parts
from training.config import load_fit_config
from training.data.loading import first_sight
from training.data.open_data_set import open_splits

UPRIGHT = Laid(WIDTH / 2, HEIGHT / 2, 0.0)
ROI = f"{WIDTH // 2 - 50},{HEIGHT // 2 - 34},100,68"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write good brackets, the first of them upright, as a data set has them."""
    folder = tmp_path_factory.mktemp("data") / "train/good"
    folder.mkdir(parents=True)
    random = np.random.default_rng(3)
    for number in range(5):
        laid = anywhere(random) if number else UPRIGHT
        cv2.imwrite(str(folder / f"{number:03}.png"), bracket(laid, seed=number))
    return folder.parents[1]


def teach(source: Path, teacher: Path, output: Path, *more: str) -> int:
    options = ["--teach", "bracket", "--from", str(source), "--teacher", str(teacher)]
    return edge_run([*options, "-o", str(output), "--threads", "1", *more])


def inspected(bundle: Bundle, pixels: NDArray[np.uint8]) -> Inspection:
    detector = Detector(CompiledModel(bundle, plan=RunPlan(threads=1)))
    frame = Frame(pixels=pixels, number=0, captured_ns=0, captured_utc_ns=0)
    return Inspector(detector, bundle.manifest).inspect(frame)


def test_a_part_that_lies_anywhere_is_taught_and_inspected_as_in_the_reference(
    data: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, good = tmp_path / "bracket.xml", data / "train/good"
    shown = ["--reference", str(good / "000.png"), "--roi", ROI]
    assert teach(good, teacher, output, "--align", "full-rotation", *shown) == 0
    printed = capsys.readouterr().out
    assert f"part     found by 000.png, region {ROI} (full-rotation)" in printed

    bundle = load_bundle(output)
    laid = Laid(140, 85, 115)
    found = inspected(bundle, bracket(laid, defective=True, seed=90))
    assert found.decision.result is Result.NOK
    x, y = placed(laid, DEFECT)
    region = found.regions[0]
    assert region.x - 4 <= x <= region.x + region.width + 4
    assert region.y - 4 <= y <= region.y + region.height + 4
    assert inspected(bundle, bracket(laid, seed=91)).decision.result is Result.OK
    empty = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    assert inspected(bundle, empty).decision.reason is Reason.PART_NOT_FOUND
    is_the_locator_of_a_fit(bundle, data, good / "000.png")


def is_the_locator_of_a_fit(bundle: Bundle, data: Path, reference: Path) -> None:
    options = {
        "data": [data],
        "align": "full-rotation",
        "reference": reference,
        "roi": ROI,
    }
    config = load_fit_config(None, options)
    splits = open_splits(config.data, config.validate_on, config.seed)
    fitted = find_locator(config, splits)
    assert fitted is not None
    spec = first_sight((64, 64), None, locator=fitted)
    found = found_parts([*splits.fit, *splits.validation], spec)
    assert bundle.manifest.input.locator == agreed_locator(fitted, found)


def blank() -> NDArray[np.uint8]:
    noise = np.random.default_rng(4).normal(0, 1, (HEIGHT, WIDTH, 3))
    return (90 + noise).astype(np.uint8)


def stripes() -> NDArray[np.uint8]:
    columns = np.arange(WIDTH)[None, :, None] + np.zeros((HEIGHT, 1, 3))
    return (128 + 90 * np.sin(columns / 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("reference", "roi", "words"),
    [
        (blank(), ROI, "almost no contrast"),
        (stripes(), ROI, "the part could lie in two ways"),
        (bracket(UPRIGHT), "200,100,100,100", "does not fit the reference image"),
        (bracket(UPRIGHT), "60,60,90,8", "too small or too narrow"),
    ],
)
def test_a_reference_by_which_nothing_can_be_found_is_refused_with_the_next_step(
    data: Path,
    teacher: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    reference: NDArray[np.uint8],
    roi: str,
    words: str,
) -> None:
    path, output = tmp_path / "shown.png", tmp_path / "new.xml"
    cv2.imwrite(str(path), reference)
    shown = ["--align", "shift+rotation", "--reference", str(path), "--roi", roi]
    assert teach(data / "train/good", teacher, output, *shown) == 65
    refused = capsys.readouterr().err
    assert "shown.png: as a reference" in refused and words in refused
    assert not output.exists()


def test_images_without_the_part_are_named(
    data: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "good"
    source.mkdir()
    cv2.imwrite(str(source / "0.png"), bracket(UPRIGHT))
    cv2.imwrite(str(source / "1.png"), bracket(Laid(WIDTH - 20, 90, 10), seed=1))
    cv2.imwrite(str(source / "2.png"), cv2.flip(bracket(UPRIGHT, seed=2), 1))
    shown = ["--align", "full-rotation", "--reference", str(source / "0.png"), "--roi", ROI]
    assert teach(source, teacher, tmp_path / "new.xml", *shown) == 65
    refused = capsys.readouterr().err
    assert "the part was not found in 2 of 3 images" in refused
    assert "1.png: " in refused and "2.png: " in refused and "0.png: " not in refused
    assert teach(source, teacher, tmp_path / "new.xml", "--roi", ROI) == 78
    assert "--roi is only used when parts are aligned" in capsys.readouterr().err


def test_the_next_version_of_a_recipe_finds_its_part_as_before_without_align(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    recipes, mask = tmp_path / "recipes", tmp_path / "mask.yaml"
    mask.write_text(f"size: [{WIDTH}, {HEIGHT}]\nignore: [[[70, 60], [90, 60], [90, 80]]]\n")
    taught = ["--teach", "nut", "--from", str(data / "train/good"), "-n", "2", "--threads", "1"]
    taught += ["--teacher", str(teacher), "--recipes", str(recipes)]
    shown = ["--reference", str(data / "train/good/000.png"), "--roi", ROI, "--mask", str(mask)]
    assert edge_run([*taught, "--align", "full-rotation", *shown]) == 0
    assert edge_run(["--recipe", "use", "nut@1", "--recipes", str(recipes)]) == 0
    assert edge_run(taught) == 0
    assert edge_run([*taught, "--align", "none"]) == 0
    folder = RecipeFolder(recipes)
    first, second, third = (
        load_bundle(folder.load("nut", version).model).manifest.input for version in (1, 2, 3)
    )
    assert first.locator is not None and first.locator.mode is AlignMode.FULL_ROTATION
    assert first.areas is not None
    assert second == first
    assert (third.locator, third.areas) == (None, None)
