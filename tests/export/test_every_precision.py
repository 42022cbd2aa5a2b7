"""Every registered model, in every precision, passes the gate or is refused with its reasons."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from export import int8_search, variants
from export.accuracy_gate import AccuracyBudget, Scale
from export.calibration_images import with_patches
from export.engines import openvino_engine
from export.errors import QuantizationRefused
from export.ir import read_layers, to_openvino
from export.parity_gate import Budget, probe_images
from export.quantization import Quantizable
from export.variants import ExportPrecision, JudgingSet, VariantBuilder, reference_graph
from tests.soak import times
from tests.support.once import to_onnx_once
from tests.support.small_training import FEW, SIDE, batch, fitted_once, spotted
from training.data.loading import first_sight

# Of each kind one: with a bank, with distributions, trained. make soak takes all.
ALGORITHMS = tuple(sorted(FEW)) if times(0, 1) else ("padim", "patchcore", "supersimplenet")

# Of a few random channels INT8 takes away more than of a real backbone's.
BUDGET = AccuracyBudget(good_shift=0.5, map_correlation=0.5)


@cache
def make_builder(algorithm: str, folder: Path, shared: Path) -> VariantBuilder:
    model = fitted_once(algorithm, shared)
    onnx = folder / f"{algorithm}.onnx"
    to_onnx_once(model, SIDE, SIDE, onnx, shared=shared)
    xml, weights, graph = reference_graph(to_openvino(onnx), (SIDE, SIDE))
    engine = openvino_engine(xml, weights, "f32")
    good, defective = batch(8, first=90).numpy(), spotted(8).numpy()
    images = np.concatenate([good, defective, probe_images(first_sight((SIDE, SIDE)))])
    reference = [engine(image[None])[0] for image in images]
    scores = np.array([prediction.score for prediction in reference[:16]])
    threshold = float(np.sort(scores[:8])[-1] + np.sort(scores[8:])[3]) / 2.0
    scale = Scale(np.arange(16) >= 8, threshold, float(np.ptp(scores)))
    calibration = with_patches(batch(8).numpy(), first_sight((SIDE, SIDE)))
    return VariantBuilder(
        subject=Quantizable(graph, read_layers(onnx), model.floating_point, model.mean_corrected),
        size=(SIDE, SIDE),
        calibration=lambda: calibration,
        evidence=JudgingSet(images=images, reference=reference, scale=scale),
        budget=BUDGET,
        in_batches=False,  # as of whole images
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


# In FP32 tests/training/test_models.py compares every algorithm with its checkpoint.
SMALLER = (ExportPrecision.FP16, ExportPrecision.INT8_WEIGHTS, ExportPrecision.FP32)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("precision", SMALLER[: times(2, 3)])
def test_smaller_weights_keep_the_verdicts(
    algorithm: str, precision: ExportPrecision, folder: Path, shared: Path
) -> None:
    made = make_builder(algorithm, folder, shared).make(precision)
    assert made.accuracy.faults(BUDGET) == []
    assert made.accuracy.verdict_flips == 0.0


def test_the_search_takes_no_candidate_whose_scores_depend_on_the_batch(
    folder: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No difference at all is little enough, so the graph that changes nothing is refused, too."""
    builder = replace(make_builder("padim", folder, shared), in_batches=True)
    accuracy, faults = builder.judge(builder.subject.model)
    assert faults == accuracy.faults(BUDGET) == []  # of floating point
    monkeypatch.setattr(variants, "_INVARIANCE", Budget(score_difference=-1.0))
    accuracy, faults = builder.judge(builder.subject.model)
    assert accuracy.faults(BUDGET) == []
    in_a_batch, after_others = faults
    assert in_a_batch.startswith("largest score difference in a batch ")
    assert after_others.startswith("largest score difference after other calls ")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_int8_keeps_the_verdicts_or_is_refused_with_the_layers_to_blame(
    algorithm: str, folder: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_search, "_MAX_ATTEMPTS", times(6, 12))
    builder = make_builder(algorithm, folder, shared)
    try:
        made = builder.make(ExportPrecision.INT8)
    except QuantizationRefused as refusal:
        assert any(group in refusal.details for group in builder.subject.groups())
        assert not any(group in str(refusal) for group in builder.subject.groups())
        lines = [line for line in refusal.details.splitlines() if line.startswith("- ")]
        assert len({line.partition(":")[0] for line in lines}) == len(lines) > 1
    else:
        assert made.accuracy.faults(BUDGET) == []
