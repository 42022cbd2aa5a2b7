"""edge-run --teach: good images and a teacher become a bundle, on the lean package alone."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from edge.bundle.input_spec import Crop
from edge.bundle.loading import load_bundle
from edge.bundle.mask_file import read_mask_file
from edge.cli.main import main as edge_run
from edge.cli.sign import main as edge_sign
from edge.contract.verdict import Recipe
from edge.imaging.content_hash import pixels_hash
from edge.imaging.frame import Frame
from edge.imaging.image_files import read_image
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.inspector import Inspector
from edge.recipes.folder import RecipeFolder
from edge.recipes.taught import read_taught
from edge.settings.mask_overrides import MaskOverride
from edge.settings.overrides import Overrides
from edge.teaching.build import BuildOrder, build
from edge.teaching.teach import TeachingOrder
from tests.edge.bundle.test_signature import make_keys
from tests.edge.conftest import edge_run_command
from tests.support.small_teacher import write_small_teacher

DEMO = Path("configs/demo")
GOOD = ("00", "01", "03", "05", "08", "13", "15")
# As on a PC where neither is installed.
LEAN = """
import sys
sys.modules["torch"] = sys.modules["training"] = None
from edge.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    for number in GOOD:
        shutil.copy(DEMO / "frames" / f"{number}_good.jpg", folder)
    return folder


def options(source: Path, output: Path, *more: str) -> list[str]:
    return [
        *("--teach", "flange", "--from", str(source), "--teacher", str(DEMO / "teacher.xml")),
        *("-o", str(output), "--threads", "1", *more),
    ]


def refusal(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert edge_run(options(source, tmp_path / "new.xml", *more)) in (65, 78)
    assert not list(tmp_path.glob("new*"))
    return capsys.readouterr().err


def test_a_station_teaches_itself_a_product_and_inspects_with_it(
    good: Path, tmp_path: Path
) -> None:
    output = tmp_path / "flange.xml"
    done = subprocess.run(
        [sys.executable, "-c", LEAN, *options(good, output)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "7 images, bank of 6, 6 of them cross-validated" in done.stdout
    # The Beta law of 7 draws, of which the threshold may lie below one.
    assert "With a confidence of 95 % at most 52.1 % of good parts are rejected" in done.stdout
    assert "Teach again with 20 or more." in done.stdout

    shown = [DEMO / "frames" / name for name in ("06_stain.jpg", "10_good.jpg")]
    frames = tmp_path / "frames"
    frames.mkdir()
    for path in shown:
        shutil.copy(path, frames)
    inspected = subprocess.run(
        edge_run_command("--camera", str(frames), "--model", str(output), "--once"),
        capture_output=True,
        text=True,
    )
    verdicts = [json.loads(line) for line in inspected.stdout.splitlines()]
    assert [verdict["result"] for verdict in verdicts] == ["NOK", "OK"]

    manifest = load_bundle(output).manifest
    assert manifest.identity.name == "flange"
    assert manifest.threshold.cross_validated_count == 6
    assert manifest.threshold.guarantee is not None
    assert manifest.threshold.guarantee.count == 7
    assert manifest.seen_images is not None
    assert manifest.seen_images.fitted.count == 6
    assert manifest.seen_images.calibrated.count == 7
    assert len(manifest.self_test) == 4


def test_a_taught_product_becomes_the_next_version_of_its_recipe(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipes = tmp_path / "recipes"
    taught = ["--teach", "Flansch 7", "--from", str(good), "--teacher", str(DEMO / "teacher.xml")]
    taught += ["-n", "3", "--threads", "1"]
    assert edge_run(taught) == 78
    assert "-o BUNDLE.xml; or the next version of a recipe" in capsys.readouterr().err
    assert edge_run([*taught, "--recipes", str(recipes), "--teach", "../x"]) == 78
    assert edge_run([*taught, "--recipes", str(recipes), "-o", str(tmp_path / "b.xml")]) == 78
    assert not recipes.exists()

    for version in (1, 2):
        assert edge_run([*taught, "--recipes", str(recipes)]) == 0
        use = f"edge-run --recipe use 'Flansch 7@{version}' --recipes '{recipes}'"
        assert capsys.readouterr().out.rstrip().endswith(use)

    folder = RecipeFolder(recipes)
    assert folder.versions("Flansch 7") == (1, 2)
    assert folder.in_force("Flansch 7") is None
    kept = sorted(folder.images("Flansch 7").iterdir())
    manifest = load_bundle(folder.load("Flansch 7", 2).model).manifest
    assert manifest.seen_images is not None
    assert len(kept) == 3
    assert {pixels_hash(read_image(path)).hex() for path in kept} == {path.stem for path in kept}


def test_a_version_is_built_again_bit_by_bit_of_what_its_folder_has(
    good: Path, tmp_path: Path
) -> None:
    teacher, recipes = write_small_teacher(tmp_path), RecipeFolder(tmp_path / "recipes")
    taught = ["--teach", "nut", "--from", str(good), "--teacher", str(teacher), "-n", "4"]
    assert edge_run([*taught, "--recipes", str(recipes.path), "--threads", "1"]) == 0
    version = recipes.load("nut", 1)
    order = read_taught(version.folder)
    assert order is not None
    kept = {path.stem: path for path in recipes.images("nut").iterdir()}
    again = build(
        BuildOrder(
            name="nut",
            teacher=teacher,
            images=[kept[content] for content in order.images],
            order=TeachingOrder(seed=order.seed, with_views=order.views),
            threads=1,
        )
    )
    before = load_bundle(version.model).manifest
    assert again.order() == order
    assert again.bundle.manifest.identity.bin_sha256 == before.identity.bin_sha256
    assert again.bundle.manifest.identity.xml_sha256 == before.identity.xml_sha256
    assert again.bundle.manifest.threshold == before.threshold


def test_crop_mask_and_camera_of_a_recipe_count_when_it_is_taught_and_ever_after(
    good: Path, tmp_path: Path
) -> None:
    recipes, changes, mask = (tmp_path / name for name in ("recipes", "nut.yaml", "mask.yaml"))
    changes.write_text(
        "camera: {crop: {x: 80, y: 0, width: 480, height: 480}, sensor: {exposure_us: 900}}\n"
        "decision: {guard_band: 0.1}\n"
    )
    mask.write_text("size: [640, 480]\nignore: [[[0, 0], [240, 0], [240, 480], [0, 480]]]\n")
    station = tmp_path / "station.yaml"
    station.write_text(
        yaml.safe_dump(
            {
                "camera": {"uri": str(good)},
                "model": {"path": "none.xml"},
                "journal": {"folder": str(tmp_path / "journal")},
                "recipes": {"folder": str(recipes)},
                "teach": {"teacher": str(write_small_teacher(tmp_path)), "threads": 1},
            }
        )
    )
    taught = ["--teach", "nut", "--from", "camera", "-n", "4", "--config", str(station)]
    assert edge_run([*taught, "--settings", str(changes), "--mask", str(mask)]) == 0
    assert edge_run(["--recipe", "use", "nut@1", "--config", str(station)]) == 0
    assert edge_run(taught) == 0

    folder = RecipeFolder(recipes)
    bundles = []
    for version in (1, 2):
        found = folder.load("nut", version)
        assert found.content.camera.sensor.exposure_us == 900
        assert found.content.decision.guard_band == 0.1
        bundles.append(load_bundle(found.model))
    first, second = (bundle.manifest for bundle in bundles)
    assert first.input == second.input
    assert first.input.crop == Crop(x=80, y=0, width=480, height=480)
    assert first.identity.bin_sha256 == second.identity.bin_sha256  # of the same four images
    inspector = Inspector(Detector(CompiledModel(bundles[0], plan=RunPlan(threads=1))), first)
    pixels = read_image(good / "00_good.jpg")
    results = []
    for column in (120, 420):  # behind the mask, and on what counts
        spoiled = pixels.copy()
        cv2.circle(spoiled, (column, 240), 45, (255, 0, 255), -1)
        frame = Frame(pixels=spoiled, number=0, captured_ns=0, captured_utc_ns=0)
        results.append(inspector.inspect(frame).decision.result.value)
    assert results == ["OK", "NOK"]

    drawn = read_mask_file(mask).model_copy(update={"ignore": (((0, 0), (90, 0), (90, 90)),)})
    masks = Overrides.beside(tmp_path / "journal").masks
    masks.folder.parent.mkdir(exist_ok=True)
    override = MaskOverride(
        file=masks.draw(drawn, "drawn"),
        model_sha256=bundles[0].sha256,
        by="Kim",
        utc="2026-01-01T00:00:00Z",
    )
    masks.write(override, Recipe("nut", 1))
    assert edge_run(taught) == 0  # with what is drawn at the page for the version in force
    taught_areas = load_bundle(folder.load("nut", 3).model).manifest.input.areas
    assert taught_areas is not None
    assert taught_areas.ignore == drawn.ignore


def test_images_that_show_no_good_part_are_refused_by_name(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    shutil.copytree(good, folder)
    pixels = read_image(folder / "00_good.jpg")
    cv2.imwrite(str(folder / "dark.png"), np.zeros_like(pixels))
    cv2.imwrite(str(folder / "small.png"), pixels[:300, :300])
    (folder / "cut.jpg").write_bytes((folder / "01_good.jpg").read_bytes()[:20_000])
    text = refusal(folder, tmp_path, capsys)
    assert "3 images cannot be used for teaching" in text
    assert "dark.png: the image is all dark" in text
    assert "cut.jpg: not a complete image" in text
    assert "small.png: 300×300 pixels, the others have 640×480" in text


def test_one_image_needs_views_and_guarantees_nothing(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    shutil.copy(good / "00_good.jpg", folder)
    assert "one image does not show how good parts differ" in refusal(folder, tmp_path, capsys)


def test_a_camera_that_repeats_one_image_is_named(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        shutil.copy(good / "00_good.jpg", folder / f"{number}.jpg")
    text = refusal(folder, tmp_path, capsys)
    assert "all 3 files show the very same image, as 0.jpg does. Check that the camera" in text


def test_one_image_and_its_views_are_enough_but_promise_nothing(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = tmp_path / "images", tmp_path / "one.xml"
    folder.mkdir()
    shutil.copy(good / "00_good.jpg", folder)
    small = ["--teacher", str(write_small_teacher(tmp_path))]
    assert edge_run([*options(folder, output, "--views"), *small]) == 0
    text = capsys.readouterr().out
    assert "1 image, bank of 1 and their views" in text
    assert "Turned and shifted views show the same parts and do not count as more." in text
    threshold = load_bundle(output).manifest.threshold
    assert (threshold.good_count, threshold.guarantee) == (1, None)


def test_a_station_that_asks_for_signatures_teaches_signed_with_a_signed_teacher(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher, output = write_small_teacher(tmp_path), tmp_path / "signed.xml"
    private, public = make_keys(tmp_path)
    settings = {
        "camera": {"uri": str(good)},
        "model": {"path": str(DEMO / "bottle.xml"), "public_key": str(public)},
    }
    config = tmp_path / "station.yaml"
    config.write_text(yaml.safe_dump(settings))
    taught = options(good, output, "-n", "3", "--teacher", str(teacher), "--config", str(config))

    assert edge_run(taught) == 78
    assert "Sign it: --key FILE." in capsys.readouterr().err
    taught += ["--key", str(private)]
    assert edge_run(taught) == 78
    assert "teacher.sig" in capsys.readouterr().err
    assert not list(tmp_path.glob("signed*"))
    assert edge_sign(["sign", str(teacher), "--key", str(private)]) == 0
    assert edge_sign(["verify", str(teacher), "--public-key", str(public)]) == 0
    assert edge_run(taught) == 0
    assert load_bundle(output, public).manifest.identity.name == "flange"


def test_a_teacher_is_no_model_and_a_model_no_teacher(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [*options(good, tmp_path / "new.xml"), "--teacher", str(DEMO / "bottle.xml")]
    assert edge_run(wrong) == 78
    assert "a teacher has 'teacher/1'" in capsys.readouterr().err
    teacher = str(DEMO / "teacher.xml")
    assert edge_run(["--check", "--camera", str(good), "--model", teacher]) == 78
    assert (
        "teacher.json: is a teacher, which cannot inspect parts itself" in capsys.readouterr().err
    )
