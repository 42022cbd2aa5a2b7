"""The parity gate lets equal engines pass and names what any other one does wrong."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edge.bundle.manifest import GateReport
from edge.inspection.predictor import RawPrediction
from export import bundle as bundles
from export.bundle import ExportRequest, export_bundle
from export.engines import torch_engine
from export.errors import ConversionFailed, GateFailed
from export.ir import to_onnx
from export.parity_gate import Budget, Engine, Images, Validation, parity, probe_images
from training.checkpoint import Checkpoint, load_checkpoint
from training.data.loading import first_sight

SPEC = first_sight((32, 48))
SPREAD = 10.0


def plain(images: Images) -> list[RawPrediction]:
    """An honest engine: brightness of the cells, its peak and some spread as the score."""
    maps = images.astype(np.float32).mean(3)[:, ::8, ::8]
    return [RawPrediction(float(m.max() / 10.0), m) for m in maps]


def validation() -> Validation:
    random = np.random.default_rng(5)
    images = random.integers(0, 120, (6, 32, 48, 3), np.uint8)
    images[3:, :8, :8] = 250
    return Validation(images, np.arange(6) >= 3)


THRESHOLD = 18.0


def gate(engine: Engine, budget: Budget = Budget(), threshold: float = THRESHOLD) -> GateReport:
    return parity(
        plain,
        {"other": engine},
        "other",
        SPEC,
        validation=validation(),
        threshold=threshold,
        spread=SPREAD,
        budget=budget,
    )


def changed(change: Callable[[int, RawPrediction], RawPrediction]) -> Engine:
    """Return an engine that changes each prediction, knowing its place in the call."""

    def run(images: Images) -> list[RawPrediction]:
        return [change(place, prediction) for place, prediction in enumerate(plain(images))]

    return run


def test_an_equal_engine_passes() -> None:
    report = gate(plain)
    assert report.images == 9 + 6
    assert report.largest_score_difference == 0.0
    assert report.smallest_map_correlation == pytest.approx(1.0)
    assert report.verdict_flips == 0.0
    assert report.auroc_before == report.auroc_after == 1.0


def test_a_difference_within_the_budget_passes_and_is_reported() -> None:
    report = gate(changed(lambda _, p: p._replace(score=p.score + 0.0005 * SPREAD)))
    assert report.largest_score_difference == pytest.approx(0.0005, rel=1e-3)


@pytest.mark.parametrize("shift", [0.01, -0.01, float("nan"), float("inf")])
def test_a_score_that_moves_by_a_hundredth_of_the_spread_is_refused(shift: float) -> None:
    with pytest.raises(GateFailed, match=r"other differs .*largest score difference .*allowed"):
        gate(changed(lambda _, p: p._replace(score=p.score + shift * SPREAD)))


def test_a_number_that_is_not_finite_is_refused_wherever_it_is() -> None:
    calls = []

    def sometimes(images: Images) -> list[RawPrediction]:
        calls.append(1)
        found = plain(images)
        return [p._replace(score=float("nan")) for p in found] if len(calls) == 7 else found

    with pytest.raises(GateFailed, match="largest score difference nan"):
        gate(sometimes)


def test_a_map_that_is_mirrored_is_refused() -> None:
    with pytest.raises(GateFailed, match="smallest map correlation"):
        gate(changed(lambda _, p: p._replace(anomaly_map=p.anomaly_map[:, ::-1])))


@pytest.mark.parametrize("factor", [1.02, 2.0, 0.0])
def test_a_map_of_another_scale_is_refused_though_it_correlates(factor: float) -> None:
    with pytest.raises(GateFailed, match=r"map (difference|correlation)"):
        gate(changed(lambda _, p: p._replace(anomaly_map=p.anomaly_map * np.float32(factor))))


def test_a_map_with_a_number_that_is_not_finite_is_refused() -> None:
    def broken(_: int, prediction: RawPrediction) -> RawPrediction:
        anomaly_map = prediction.anomaly_map.copy()
        anomaly_map[0, 0] = np.nan
        return prediction._replace(anomaly_map=anomaly_map)

    with pytest.raises(GateFailed, match="map correlation nan"):
        gate(changed(broken))


def test_a_score_that_depends_on_its_batch_mates_is_refused() -> None:
    with pytest.raises(GateFailed, match="largest score difference in a batch"):
        gate(changed(lambda place, p: p._replace(score=p.score + place)))


def test_a_map_that_depends_on_its_batch_mates_is_refused() -> None:
    def run(images: Images) -> list[RawPrediction]:
        found = plain(images)
        highest = max(float(p.anomaly_map.max()) for p in found)
        own = [max(float(p.anomaly_map.max()), 1e-6) for p in found]
        shares = [np.float32(peak / max(highest, 1e-6)) for peak in own]
        return [
            p._replace(anomaly_map=p.anomaly_map * share)
            for p, share in zip(found, shares, strict=True)
        ]

    with pytest.raises(GateFailed, match="map difference in a batch"):
        gate(run)


def test_a_score_that_depends_on_earlier_calls_is_refused() -> None:
    calls = 0

    def drifting(images: Images) -> list[RawPrediction]:
        nonlocal calls
        calls += 1
        return [p._replace(score=p.score + (calls > 16) * 0.1) for p in plain(images)]

    with pytest.raises(GateFailed, match="largest score difference after other calls"):
        gate(drifting)


def test_a_decision_that_flips_is_refused_however_small_the_difference() -> None:
    scores = sorted(p.score for p in plain(validation().images))
    with pytest.raises(GateFailed, match=r"verdict flips 0\.166667, allowed 0"):
        gate(changed(lambda _, p: p._replace(score=p.score - 1e-4)), threshold=scores[2])


def test_an_auroc_that_falls_is_refused() -> None:
    generous = Budget(score_difference=100.0, verdict_flips=1.0)
    with pytest.raises(GateFailed, match="AUROC drop 1, allowed"):
        gate(changed(lambda _, p: p._replace(score=-p.score)), generous)


def test_without_defects_there_is_no_auroc_to_compare() -> None:
    good = validation()
    only_good = Validation(good.images[:3], good.defective[:3])
    report = parity(
        plain,
        {"o": plain},
        "o",
        SPEC,
        validation=only_good,
        threshold=THRESHOLD,
        spread=SPREAD,
        budget=Budget(),
    )
    assert report.auroc_before is None
    assert report.auroc_after is None


def test_every_engine_is_compared_and_not_only_the_exported_one() -> None:
    shifted = changed(lambda _, p: p._replace(score=p.score + 1.0))
    engines = {"middle": shifted, "last": plain}
    with pytest.raises(GateFailed, match="middle differs"):
        parity(
            plain,
            engines,
            "last",
            SPEC,
            validation=validation(),
            threshold=THRESHOLD,
            spread=SPREAD,
            budget=Budget(),
        )


def test_the_probe_images_are_prepared_dark_constant_and_textured_ones() -> None:
    images = probe_images(SPEC)
    assert images.shape == (9, 32, 48, 3)
    assert images.dtype == np.uint8
    means = [float(p.mean()) for p in images]
    assert min(means) == 0.0
    assert max(means) == 255.0
    assert any(0.0 < mean < 20.0 for mean in means)
    assert sum(float(p.std()) > 20.0 for p in images) >= 2
    assert np.array_equal(images, probe_images(SPEC))


class Perturbed(nn.Module):
    """A model whose scores are a little higher than those of the fit."""

    floating_point = ()

    def __init__(self, model: nn.Module, shift: float) -> None:
        super().__init__()
        self.model, self.shift = model, shift

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        score, anomaly_map = self.model(images)
        return score + self.shift, anomaly_map


def measure_spread(checkpoint: Checkpoint) -> float:
    extent = checkpoint.description.normalization.image
    return extent.max - extent.min


def test_a_model_changed_between_fit_and_export_is_refused_and_the_old_bundle_stays(
    tmp_path: Path, any_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_checkpoint(any_checkpoint)
    output = tmp_path / "part.xml"
    export_bundle(loaded, output)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    fit = torch_engine(loaded.model)
    monkeypatch.setattr(bundles, "torch_engine", lambda _: fit)
    perturbed = Perturbed(loaded.model, 0.01 * measure_spread(loaded)).eval()

    with pytest.raises(GateFailed, match=r"differs .*score difference 0\.01.*Nothing was written"):
        export_bundle(replace(loaded, model=perturbed), output)  # type: ignore[arg-type]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_failed_gate_writes_nothing(tmp_path: Path, any_checkpoint: Path) -> None:
    with pytest.raises(GateFailed):
        export_bundle(
            load_checkpoint(any_checkpoint),
            tmp_path / "part.xml",
            ExportRequest(parity=Budget(score_difference=-1.0)),
        )
    assert list(tmp_path.iterdir()) == []


class Branches(nn.Module):
    """Decides by its input's values, which no static graph can."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values = images.float()
        if values.sum() > 3:
            values = values + 1.0
        return values.amax((1, 2, 3)), values[..., 0]


def test_a_model_that_onnx_cannot_express_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed, match="Branches cannot be written as ONNX"):
        to_onnx(Branches(), 32, 32, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
