"""``--precision auto``: the fastest that passes on this PC; bf16 brings a fallback for others."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edge.bundle import loading
from edge.bundle.loading import fallback_sentence, load_bundle
from edge.bundle.manifest import Manifest
from edge.inspection import detector
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.self_test import self_test
from export import engines, variants
from export.accuracy_gate import AccuracyBudget
from export.bundle import ExportRequest, export_bundle, summary
from export.cli import main
from export.engines import BFLOAT16_FEATURES, computes_in
from export.errors import CalibrationUnusable
from export.latency import Latency, fastest
from export.variants import NOT_HERE, ExportPrecision
from training.checkpoint import load_checkpoint, save_checkpoint

FP32, BF16, INT8 = ExportPrecision.FP32, ExportPrecision.BF16, ExportPrecision.INT8
ORDER = (FP32, BF16, INT8)


@pytest.mark.parametrize(
    ("relative", "taken"),
    [
        ({FP32: 1.0, BF16: 0.6, INT8: 0.4}, INT8),
        ({FP32: 1.0, BF16: 0.41, INT8: 0.4}, BF16),  # about as fast, and more exact
        ({FP32: 1.0, INT8: 0.97}, FP32),
        ({FP32: 1.0, INT8: 1.4}, FP32),
        ({FP32: 1.0, BF16: 0.6}, BF16),
        ({FP32: 1.0}, FP32),
    ],
)
def test_the_fastest_is_taken_and_of_equals_the_most_exact(
    relative: dict[ExportPrecision, float], taken: ExportPrecision
) -> None:
    found = {precision: Latency(10.0 * value, value) for precision, value in relative.items()}
    assert fastest(found, ORDER) is taken


def test_auto_compares_what_this_pc_makes_and_says_so(
    any_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a.xml"
    # Of a few random channels INT8 takes away more than of a real backbone's.
    budget = AccuracyBudget(good_shift=5.0, map_correlation=-1.0, auroc_drop=1.0, verdict_flips=1.0)
    asked = ExportRequest(precision=None, accuracy=budget, report=True)
    print(summary(export_bundle(load_checkpoint(any_checkpoint), output, asked), output))
    precision = load_bundle(output).manifest.precision
    rows = {row.name: row for row in precision.compared}
    assert [*rows] == ["fp32", "bf16", "int8"]
    assert rows["fp32"].relative == 1.0
    assert (rows["bf16"].refused == NOT_HERE) is not computes_in("bf16")
    assert precision.compared_on and not precision.requested

    report = json.loads(output.with_suffix(".report.json").read_text())
    taken = report["precision"]
    assert report["fastest_of"] == ["fp32", "bf16", "int8"]
    times = {
        name: found["latency_relative_to_fp32"]
        for name, found in report["precisions"].items()
        if name in rows and "refused" not in found
    }
    assert times[taken] <= 1.05 * min(times.values())
    assert precision.weights == ExportPrecision(taken).weights
    page = output.with_suffix(".report.md").read_text()
    assert f"{taken} was taken: of fp32, bf16, int8 the fastest that passes" in page
    # Of the eight validation images none flips.
    assert "verdict flips 0.0% (95 %: 0.0% to 36.9%) of the validation images among them" in page
    assert "the fastest on this PC that passes: fp32 " in capsys.readouterr().out


def test_without_enough_good_images_int8_is_left_out_and_the_reason_given(
    any_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = load_checkpoint(any_checkpoint)
    few = replace(loaded, calibration=loaded.calibration[:3])
    save_checkpoint(tmp_path / "few.safetensors", few)
    assert main([str(tmp_path / "few.safetensors"), "-o", str(tmp_path / "a.xml")]) == 0
    assert "int8 refused: 3 good calibration images" in capsys.readouterr().out
    precision = load_bundle(tmp_path / "a.xml").manifest.precision
    rows = {row.name: row.refused for row in precision.compared}
    assert "3 good calibration images, at least" in (rows["int8"] or "")
    assert rows["fp32"] is None and precision.weights == "fp32"
    with pytest.raises(CalibrationUnusable, match="3 good calibration images"):
        export_bundle(few, tmp_path / "b.xml", ExportRequest(precision=INT8))
    assert not (tmp_path / "b.xml").exists()


def test_a_bundle_for_bfloat16_says_what_it_needs_and_runs_elsewhere_in_f32(
    any_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Made on a processor that claims to compute in bf16: OpenVINO computes in f32 all the same."""
    output = tmp_path / "a.xml"
    with pytest.MonkeyPatch.context() as patch:
        for module in (engines, variants):
            patch.setattr(module, "computes_in", lambda precision: True)
        for module in (loading, detector):
            patch.setattr(module, "processor_features", lambda: frozenset({"amx_bf16"}))
        assert main([str(any_checkpoint), "--precision", "bf16", "-o", str(output)]) == 0
        there = load_bundle(output)
    assert there.made_for is None
    assert there.manifest.precision.inference == "bf16"
    assert "needs a processor with amx_bf16 or avx512_bf16; on others it runs in f32" in (
        capsys.readouterr().out
    )

    written = Manifest.model_validate_json(output.with_suffix(".json").read_bytes())
    assert written.precision.cpu_features == BFLOAT16_FEATURES
    assert written.precision.fallback is not None
    here = load_bundle(output)
    self_test(Detector(CompiledModel(here)), here.manifest)
    if not computes_in("bf16"):
        assert here.manifest.precision.inference == "f32"
        assert "made for fp32/bf16" in (fallback_sentence(here) or "")


def test_what_does_not_go_together_is_refused(
    any_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [str(any_checkpoint), "-o", str(tmp_path / "a.xml")]
    with pytest.raises(SystemExit):
        main([*common, "--precision", "auto", "--inference", "bf16"])
    assert "--inference cannot be combined with --precision auto" in capsys.readouterr().err
    if not computes_in("bf16"):
        assert main([*common, "--precision", "bf16"]) == 78
        assert "AVX512-BF16 or AMX" in capsys.readouterr().err
