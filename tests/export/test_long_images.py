"""Images twice as wide as high, from the fit to the verdict on the line: nothing is turned."""

import csv
import json
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.bundle.loading import load_bundle
from export.cli import main as export_model
from export.parity_gate import Budget
from tests.edge.conftest import edge_run_command
from tests.soak import times
from tests.support.small_training import FEW, good_image, write, write_weights
from training.cli import main as train_station

HEIGHT, WIDTH = 80, 160
SPOT = (30, 56)  # x and y: far from its own mirror image and from what it is when they are swapped
INPUT = (48, 96)

# Of a few random channels rounding takes away more than of a real backbone's.
LENIENT = ["--max-auroc-drop", "0.1", "--max-verdict-flips", "0.3"]


def spotted(number: int) -> tuple[np.ndarray, np.ndarray]:
    pixels, mask = good_image(900 + number, HEIGHT, WIDTH), np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(mask, SPOT, 8, 255, -1)
    pixels[mask > 0] = (20, 20, 230)
    return pixels, mask


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in the MVTec layout; all defects are at one place."""
    root = tmp_path_factory.mktemp("long") / "parts"
    for number in range(8):
        write(root / "train" / "good" / f"{number}.png", good_image(number, HEIGHT, WIDTH))
    for number in range(2):
        pixels, mask = spotted(number)
        write(root / "test" / "good" / f"{number}.png", good_image(500 + number, HEIGHT, WIDTH))
        write(root / "test" / "spot" / f"{number}.png", pixels)
        write(root / "ground_truth" / "spot" / f"{number}_mask.png", mask)
    return root


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory, parts: Path) -> Callable[[str], Path]:
    """Return a function that fits an algorithm once, on images whose shape decides the input's."""
    folder = tmp_path_factory.mktemp("fits")
    weights = write_weights(folder / "small.safetensors")

    @cache
    def fitted(algorithm: str) -> Path:
        output = folder / f"{algorithm}.safetensors"
        options = ["--algorithm", algorithm, "--data", parts, "--backbone", "small"]
        options += ["--weights", weights, "--image-size", "auto=64", "--validate-on", "test"]
        for name, value in FEW[algorithm].items():
            options += ["--set", f"{name}={value}"]
        assert train_station(["fit", "--no-report", *map(str, options), "-o", str(output)]) == 0
        return output

    return fitted


def inspected(bundle: Path, images: Path, overlays: Path) -> list[dict[str, Any]]:
    """Return the verdicts of edge-run on a folder."""
    command = edge_run_command("--camera", images, "--model", bundle, "--once", "--save", overlays)
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def assert_found_at_its_place(verdict: dict[str, Any], overlay: Path, image: Path) -> None:
    assert verdict["result"] == "NOK"
    x, y, width, height = verdict["regions"][0]["bbox"]
    assert abs(x + width / 2 - SPOT[0]) < 12
    assert abs(y + height / 2 - SPOT[1]) < 12
    drawn, plain = cv2.imread(str(overlay)), cv2.imread(str(image))
    assert drawn is not None and plain is not None
    factor = drawn.shape[1] // WIDTH
    changed = np.abs(drawn.astype(float) - np.kron(plain, np.ones((factor, factor, 1)))).mean(2)
    changed[: HEIGHT * factor // 3] = 0.0  # the label
    rows, columns = np.nonzero(changed > 0.5 * changed.max())
    assert abs(columns.mean() / factor - SPOT[0]) < 12
    assert abs(rows.mean() / factor - SPOT[1]) < 12


@pytest.mark.parametrize("algorithm", ["patchcore", "stfpm"][: times(1, 2)])
def test_the_line_finds_a_defect_at_its_place_with_the_score_of_training(
    tmp_path: Path, parts: Path, fit: Callable[[str], Path], algorithm: str
) -> None:
    checkpoint, bundle = fit(algorithm), tmp_path / "long.xml"
    assert export_model([str(checkpoint), "--precision", "fp32", "-o", str(bundle)]) == 0
    manifest = load_bundle(bundle).manifest
    assert (manifest.input.height, manifest.input.width) == INPUT
    table = tmp_path / "scores.csv"
    judged = ["test", str(checkpoint), "--data", str(parts), "--scores", str(table)]
    assert train_station(judged) == 0
    with table.open(newline="") as file:
        trained = {row["picture"]: float(row["raw_score"]) for row in csv.DictReader(file)}

    images = parts / "test" / "spot"
    verdicts = inspected(bundle, images, tmp_path / "overlays")
    extent = manifest.normalization.image
    budget = Budget().score_difference * (extent.max - extent.min)
    overlays = sorted((tmp_path / "overlays").iterdir())
    for verdict, image, overlay in zip(verdicts, sorted(images.iterdir()), overlays, strict=True):
        assert verdict["raw_score"] == pytest.approx(trained[str(image)], abs=budget)
        assert_found_at_its_place(verdict, overlay, image)


@pytest.mark.skipif(not times(0, 1), reason="make soak runs it: the path is that of FP32")
def test_int8_finds_it_there_too(tmp_path: Path, parts: Path, fit: Callable[[str], Path]) -> None:
    bundle = tmp_path / "long.xml"
    int8 = ["--precision", "int8", "-o", str(bundle), *LENIENT]
    assert export_model([str(fit("patchcore")), *int8]) == 0
    assert load_bundle(bundle).manifest.precision.weights == "int8"
    images, overlays = parts / "test" / "spot", tmp_path / "overlays"
    verdicts = inspected(bundle, images, overlays)
    assert_found_at_its_place(verdicts[0], min(overlays.iterdir()), min(images.iterdir()))
