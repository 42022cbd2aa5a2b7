"""A mask from fit to verdict: nothing of what it ignores is learned, scored or calibrated on."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edge.bundle.input_spec import Areas
from edge.cli.main import main as edge_run
from edge.imaging.image_files import read_image
from edge.inspection.decision import Result
from edge.inspection.preprocessing import prepare
from export.engines import make_deciding_areas, scored_over, torch_engine
from tests.support.small_bundle import write_bundle, write_images
from tests.support.small_training import batch, unfitted
from tests.training.conftest import fit_arguments
from training.checkpoint import load_checkpoint
from training.cli import main
from training.data.samples import Sample
from training.evaluation import TorchPredictor, inspect_samples
from training.models.patchcore import PatchCore

USAGE = 78


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ignore where the spots of ``defective_image`` lie, as far as the network sees them."""
    path = tmp_path_factory.mktemp("mask") / "mask.yaml"
    path.write_text(
        "size: [112, 80]\n"
        "ignore: [[[0, 0], [84, 0], [84, 80], [0, 80]]]\n"
        "zones: [{name: right, polygon: [[90, 10], [112, 10], [112, 70], [90, 70]]}]\n"
    )
    return path


def test_patchcore_learns_nothing_of_what_is_ignored() -> None:
    """Patches of what counts are all that the bank holds."""
    images = batch(3)
    model = unfitted("patchcore", bank_size=10_000)
    assert isinstance(model, PatchCore)
    counted = torch.zeros(3, *model.grid, dtype=torch.bool)
    counted[:, :, :5] = True
    counted[1] = False
    with torch.inference_mode():
        model.learn(images, counted)
        model.finish()
        expected = model.coordinates(model.extractor(images[[0, 2]]))[:, :, :, :5]
    assert len(model.bank) == 2 * 5 * model.grid[0]
    bank = model.bank[model.bank[:, 0].argsort()]
    rows = expected.movedim(1, -1).flatten(0, 2)
    assert torch.allclose(bank, rows[rows[:, 0].argsort()], atol=1e-4)


def test_a_masked_fit_scores_nothing_of_what_the_mask_hides(
    tmp_path: Path, data: Path, weights: Path, mask: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "masked.safetensors"
    assert main(fit_arguments(data, weights, output, "--mask", str(mask))) == 0
    assert "zone right: good images score" in capsys.readouterr().out
    section = output.with_suffix(".html").read_text().split("<h2>Zones</h2>")[1]
    assert "<tr><th>right</th>" in section.split("</section>")[0]
    fitted = load_checkpoint(output)
    description, images = fitted.description, data / "test" / "spot"
    spec = description.input
    assert spec.areas is not None
    spot = read_image(images / "000.png")  # at x = 20; under the mask
    cv2.imwrite(str(tmp_path / "right.png"), np.roll(spot, 78, axis=1))
    samples = [
        Sample(path=path, kind="spot")
        for path in (images / "000.png", images / "001.png", tmp_path / "right.png")
    ]
    predictor = TorchPredictor(fitted.model, spec, torch.device("cpu"))
    found = [one.inspection for one in inspect_samples(predictor, samples, description, "")]
    assert found[2].decision.result is Result.NOK
    # What a deep layer sees of the masked spots is left.
    scores = [one.score for one in found if one.score is not None]
    assert max(scores[:2]) < scores[2] / 4
    assert found[2].detail == "rejected by zone 'right' and outside of the zones"
    assert found[2].regions
    assert all(region.x >= 80 for region in found[2].regions)

    # What the export gate compares is what decides, also where a zone does by its own threshold.
    engine = torch_engine(fitted.model)
    limit = scores[2] * 0.9
    zones = [zone.model_dump() | {"threshold": limit} for zone in spec.areas.zones]
    areas = Areas.model_validate(spec.areas.model_dump() | {"zones": zones})
    strict = description.model_copy(
        update={
            "input": spec.model_copy(update={"areas": areas}),
            "threshold": description.threshold.model_copy(update={"image": 10 * scores[2]}),
        }
    )
    for calibrated in (description, strict):
        compared = scored_over(engine, make_deciding_areas(calibrated))
        for sample, pixels, inspection in inspect_samples(predictor, samples, calibrated, ""):
            score = compared(prepare(pixels, spec)[None])[0].score
            assert score == pytest.approx(inspection.score, rel=1e-6), sample.label
            rejected = score >= calibrated.threshold.image
            assert rejected is (inspection.decision.result is Result.NOK)
    assert rejected  # by its zone, far below the part's threshold
    assert engine(prepare(spot, spec)[None])[0].score > 4 * scores[0]


def test_a_mask_that_the_threshold_does_not_rest_on_ends_the_station_with_78(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(tmp_path)
    images = write_images(tmp_path / "images", good=1, defective=1)
    (tmp_path / "mask.yaml").write_text(
        "size: [160, 120]\n"
        "zones: [{name: spot, polygon: [[90, 0], [150, 0], [150, 60], [90, 60]]}]\n"
    )
    settings = tmp_path / "station.yaml"
    text = f"camera: {{uri: {images}}}\nmodel: {{path: part.xml}}\ndecision: {{mask: mask.yaml"
    settings.write_text(text + "}\n")
    assert edge_run(["--config", str(settings), "--once"]) == USAGE
    assert "train-station calibrate" in capsys.readouterr().err
    settings.write_text(text + ", image_threshold: 20.0}\n")
    edge_run(["--config", str(settings), "--once"])
    verdicts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["detail"] for one in verdicts] == [None, "rejected by zone 'spot'"]


def test_a_mask_drawn_after_the_fit_needs_new_scores_and_no_new_fit(
    tmp_path: Path, data: Path, checkpoint: Path, mask: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "later.safetensors"
    calibrate = ["calibrate", str(checkpoint), "--data", str(data), "-o", str(output)]
    calibrate += ["--validate-on", "test", "--mask", str(mask)]
    assert main(calibrate) == USAGE
    assert "--replace" in capsys.readouterr().err
    assert main([*calibrate, "--replace"]) == 0
    assert "zone right: good images score" in capsys.readouterr().out
    before, after = load_checkpoint(checkpoint), load_checkpoint(output)
    tensors = after.model.state_dict()
    assert all(torch.equal(t, tensors[name]) for name, t in before.model.state_dict().items())
    assert after.records is not None and after.description.input.areas is not None
    # The spots lie under the mask, so defective images score as good ones do.
    good, defective = (after.records.scores[after.records.defective == d] for d in (False, True))
    assert defective.max() < 2.0 * good.max()


def test_an_algorithm_without_a_map_takes_no_mask(
    tmp_path: Path, data: Path, weights: Path, mask: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ["fit", "--data", str(data), "--backbone", "small", "--weights", str(weights)]
    fit += ["--image-size", "64", "-o", str(tmp_path / "m.safetensors"), "--mask", str(mask)]
    assert main([*fit, "--algorithm", "dfkde", "--set", "layers=layer3"]) == USAGE
    assert "score comes from its map" in capsys.readouterr().err
    assert main([*fit, "--algorithm", "auto"]) == USAGE
    assert "Name the algorithm" in capsys.readouterr().err
