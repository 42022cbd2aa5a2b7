"""A tiled model is judged by what the station makes of its tiles, over mask and zones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge.bundle.input_spec import Areas
from edge.bundle.loading import load_bundle
from edge.imaging.image_files import read_image
from edge.inspection.decision import Result
from edge.inspection.predictor import RawPrediction
from export.cli import main as export_model
from export.engines import make_deciding_areas, torch_engine
from export.judging_images import prepare_judging
from export.stitching import Stitching, scores_to_quantize
from tests.support.shared_files import done_once
from tests.support.small_training import write, write_weights
from training import fit_pipeline
from training.checkpoint import Checkpoint, ValidationImages, load_checkpoint, save_checkpoint
from training.cli import main as train_station
from training.data.samples import Sample
from training.evaluation import TorchPredictor, inspect_samples, score_samples
from training.fit_pipeline import joined_images, validation_images

# Of 112×80 pixels: 32×32 in the network for 40×40 of the frame, 4×3 with an overlap.
TILES = 12
LENIENT = ["--max-auroc-drop", "0.1", "--max-verdict-flips", "0.3"]


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory, data: Path, shared: Path) -> Path:
    folder = tmp_path_factory.mktemp("tiled")

    def fit(output: Path) -> None:
        mask = folder / "mask.yaml"
        mask.write_text(
            "size: [112, 80]\n"
            "ignore: [[[0, 0], [40, 0], [40, 80], [0, 80]]]\n"
            "zones: [{name: right, polygon: [[60, 0], [112, 0], [112, 80], [60, 80]]}]\n"
        )
        words = ["fit", "--no-report", "--data", str(data), "--backbone", "small"]
        words += ["--weights", str(write_weights(folder / "small.safetensors"))]
        words += ["--algorithm", "patchcore", "--set", "bank_size=40", "--validate-on", "test"]
        words += ["--image-size", "32", "--tile", "40", "--mask", str(mask), "-o", str(output)]
        assert train_station(words) == 0

    return done_once(shared, "export-tiled.safetensors", fit)


@pytest.fixture(scope="module")
def loaded(tiled: Path) -> Checkpoint:
    return load_checkpoint(tiled)


def predictions(checkpoint: Checkpoint, images: np.ndarray) -> list[RawPrediction]:
    engine = torch_engine(checkpoint.model)
    return [engine(image[None])[0] for image in images]


def test_all_tiles_of_images_travel_with_the_model(loaded: Checkpoint) -> None:
    kept = loaded.validation
    assert kept.frames is not None
    assert kept.frames.tolist() == [[80, 112]] * len(kept.defective)
    assert len(kept.images) == TILES * len(kept.defective) == TILES * len(kept.hashes)


def test_calibrating_again_keeps_earlier_images_with_all_their_tiles(loaded: Checkpoint) -> None:
    kept, spec = loaded.validation, loaded.description.input
    assert kept.frames is not None
    newer, earlier = (
        ValidationImages(
            kept.images[TILES * part.start : TILES * part.stop],
            kept.defective[part],
            kept.hashes[part],
            kept.frames[part],
        )
        for part in (slice(0, 3), slice(2, 8))
    )
    both = joined_images(earlier, newer, spec)
    assert both.frames is not None and len(both.frames) == len(kept.frames) == 8
    assert np.array_equal(both.images, kept.images)
    assert np.array_equal(both.hashes, kept.hashes)
    old = replace(earlier, images=earlier.images[::TILES], frames=None)
    assert joined_images(old, newer, spec) is newer


@pytest.mark.parametrize(
    ("enough", "most", "kept"), [(100, 100, 8), (5, 100, 8), (5, 7, 7), (1, 3, 3), (0, 0, 2)]
)
def test_tiles_of_large_images_are_kept_of_few(
    enough: int,
    most: int,
    kept: int,
    data: Path,
    loaded: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Room for so many images in what is enough, and at most."""
    spec, model = loaded.description.input, loaded.model
    each = TILES * 3 * spec.height * spec.width
    monkeypatch.setattr(fit_pipeline, "_KEPT_TILES_BYTES", enough * each)
    monkeypatch.setattr(fit_pipeline, "_MAX_TILES_BYTES", most * each)
    paths = sorted((data / "test").glob("*/*.png"))
    samples = [Sample(path=path, kind=path.parent.name) for path in paths]
    scored = score_samples(TorchPredictor(model, spec, torch.device("cpu")), samples, spec, "")
    found = validation_images(list(scored), spec)
    assert len(found.defective) == kept and found.defective.any() and not found.defective.all()
    assert found.images.nbytes == kept * each


def test_what_the_gate_compares_is_what_the_station_decides_by(
    loaded: Checkpoint, data: Path
) -> None:
    description = loaded.description
    spec = description.input
    assert spec.areas is not None
    samples = [
        Sample(path=path, kind=path.parent.name) for path in sorted((data / "test").glob("*/*.png"))
    ]
    prepared = prepare_judging(samples, spec)
    found = predictions(loaded, prepared.images)
    middle = float(np.median([one.score for one in found]))
    zones = [zone.model_dump() | {"threshold": middle} for zone in spec.areas.zones]
    areas = Areas.model_validate(spec.areas.model_dump() | {"zones": zones})
    strict = description.model_copy(
        update={
            "input": spec.model_copy(update={"areas": areas}),
            "threshold": description.threshold.model_copy(update={"image": 1000 * middle}),
        }
    )
    predictor = TorchPredictor(loaded.model, spec, torch.device("cpu"))
    results = set()
    for calibrated in (description, strict):
        joined = Stitching(calibrated, prepared.frames).joined(found)
        assert len(joined) == len(samples)
        inspected = inspect_samples(predictor, samples, calibrated, "")
        for one, (sample, _, inspection) in zip(joined, inspected, strict=True):
            assert one.score == pytest.approx(inspection.score, rel=1e-5), sample.label
            rejected = one.score >= calibrated.threshold.image
            assert rejected is (inspection.decision.result is Result.NOK)
            assert inspection.decided_map is not None
            assert one.anomaly_map.shape == inspection.decided_map.shape
            results.add(inspection.decision.result)
        # Without mask and zones other images would be compared.
        blind = [max(p.score for p in found[at : at + TILES]) for at in range(0, len(found), TILES)]
        assert blind != pytest.approx([one.score for one in joined])
    assert results == {Result.OK, Result.NOK}


def test_a_tile_under_the_mask_does_not_look_defective_to_quantization(loaded: Checkpoint) -> None:
    areas = make_deciding_areas(loaded.description)
    assert areas is not None and areas.tiles == TILES
    bright = np.full(loaded.description.map_shape, 9.0, np.float32)
    scores = scores_to_quantize([RawPrediction(9.0, bright)] * TILES, areas)
    assert scores[0] == -np.inf and scores[TILES - 1] == pytest.approx(9.0)


def test_the_summary_says_that_its_auroc_is_of_whole_images(
    tiled: Path, loaded: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a.xml"
    assert export_model([str(tiled), "-o", str(output), "--precision", "fp32", *LENIENT]) == 0
    assert "  AUROC of whole images " in capsys.readouterr().out
    gate = load_bundle(output).manifest.precision.gate
    assert gate.single_tiles == 0
    assert gate.images == 9 + len(loaded.validation.defective)  # probes and images, not tiles


def test_a_checkpoint_with_one_tile_of_each_image_is_judged_by_it_and_says_so(
    loaded: Checkpoint,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept = loaded.validation
    worst = replace(kept, images=kept.images[TILES - 1 :: TILES].copy(), frames=None)
    path, output = tmp_path / "old.safetensors", tmp_path / "a.xml"
    save_checkpoint(path, replace(loaded, validation=worst))
    count = len(kept.defective)
    assert export_model([str(path), "-o", str(output), *LENIENT]) == 0
    assert f"of {count} images the checkpoint has one tile alone" in caplog.text
    assert f"AUROC of images, of which {count} by a single tile each " in capsys.readouterr().out
    assert load_bundle(output).manifest.precision.gate.single_tiles == count


def test_images_judge_in_all_their_tiles_also_at_int8(
    tiled: Path, data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "a.xml"
    words = [str(tiled), "-o", str(output), "--precision", "int8", "--report"]
    assert export_model([*words, "--judge-on", str(data), *LENIENT]) == 0
    report = output.with_suffix(".report.md").read_text("utf-8")
    kept = load_checkpoint(tiled).validation
    good = int((~kept.defective).sum())
    assert f"{good} good and {len(kept.defective) - good} defective images" in report
    assert read_image(next((data / "test").glob("*/*.png"))).shape[:2] == (80, 112)


def test_images_with_the_same_empty_corner_are_not_the_same(
    tmp_path: Path, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Before a light that saturates the camera: the first image to quantize gives this tile."""
    bright = tmp_path / "bright"
    for path in sorted(data.glob("t*/*/*.png")):
        pixels = read_image(path)
        pixels[:40, :40] = 255
        write(bright / path.relative_to(data), pixels)
    fitted, output = tmp_path / "bright.safetensors", tmp_path / "a.xml"
    words = ["fit", "--no-report", "--data", str(bright), "--backbone", "small"]
    words += ["--weights", str(write_weights(tmp_path / "small.safetensors"))]
    words += ["--algorithm", "patchcore", "--set", "bank_size=40", "--validate-on", "test"]
    assert train_station([*words, "--image-size", "32", "--tile", "40", "-o", str(fitted)]) == 0
    assert export_model([str(fitted), "-o", str(output), "--precision", "int8", *LENIENT]) == 0
    assert load_bundle(output).manifest.precision.gate.images == 8
    assert "not judged by them" not in caplog.text
