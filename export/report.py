"""The export report: every precision side by side, in Markdown and JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import edge
from edge.bundle.manifest import GateReport
from edge.redaction import readable
from edge.system.processor import pc_identity
from edge.wording import counted
from export.accuracy_gate import Accuracy, AccuracyBudget, Scale
from export.int8_search import Attempt
from export.latency import Latency
from export.variants import ExportPrecision, Variant
from training.metrics import share_text


@dataclass(frozen=True, slots=True)
class Source:
    """What a bundle was made from.

    Attributes:
        name: what the threshold comes from.
        runtimes: what FP32 was compared with.
        seen: what judging images were not used for.
        without_interval: of which images verdicts were compared where no rate follows from it.
    """

    name: str
    runtimes: str
    seen: str
    without_interval: str


FROM_CHECKPOINT = Source(
    "the checkpoint",
    "the checkpoint in torch and against ONNX Runtime",
    "nothing was fitted or quantized with",
    "of no validation image",
)
FROM_ANOMALIB = Source(
    "the imported graph",
    "the imported graph itself, before its numbers are clipped",
    "nothing was quantized with; what the model was fitted on is not known",
    "of these, which were made for the comparison: no rate of parts follows from them",
)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Report:
    """All that a sceptical reader may ask about an export.

    Attributes:
        source: where threshold and numbers come from.
        chosen: what is in the bundle.
        made: every precision; of one that was refused, why.
        parity: FP32 against the source.
        groups: layer groups that INT8 may take.
        declared: sub-modules that the model itself keeps in floating point.
        fastest_of: precisions of which the fastest was taken; empty where one was asked for.
    """

    name: str
    algorithm: str
    backbone: str
    source: Source
    chosen: Variant
    made: Mapping[ExportPrecision, Variant | str]
    latencies: Mapping[ExportPrecision, Latency]
    parity: GateReport
    groups: list[str]
    declared: tuple[str, ...]
    budget: AccuracyBudget
    scale: Scale
    fastest_of: tuple[ExportPrecision, ...] = ()


def report_files(report: Report) -> list[bytes]:
    """Return the Markdown and the JSON."""
    document = json.dumps(_document(report), indent=2, ensure_ascii=False, allow_nan=False)
    return [readable(_markdown(report)).encode(), readable(document, in_json=True).encode() + b"\n"]


def _document(report: Report) -> dict[str, Any]:
    precisions: dict[str, Any] = {}
    for precision, made in report.made.items():
        if isinstance(made, str):
            precisions[precision.value] = {"refused": made}
            continue
        precisions[precision.value] = {
            "inference": made.inference,
            "xml_bytes": len(made.xml),
            "bin_bytes": len(made.weights),
            "latency_ms": report.latencies[precision].milliseconds,
            "latency_relative_to_fp32": report.latencies[precision].relative,
            "accuracy": _accuracy(made.accuracy),
            "floating": list(made.floating),
            "attempts": [
                {
                    "recipe": str(row.recipe),
                    "accuracy": _accuracy(row.accuracy),
                    "faults": list(row.faults),
                }
                for row in made.attempts
            ],
            "other_devices": {name: list(faults) for name, faults in made.devices.items()},
        }
    return {
        "schema_version": "export-report/1",
        "name": report.name,
        "inspection_station": edge.__version__,
        "algorithm": report.algorithm,
        "backbone": report.backbone,
        "precision": report.chosen.precision.value,
        "inference": report.chosen.inference,
        "threshold": report.scale.threshold,
        "spread": report.scale.spread,
        "pictures": {
            "good": int((~report.scale.defective).sum()),
            "defective": int(report.scale.defective.sum()),
        },
        "fastest_of": [precision.value for precision in report.fastest_of],
        "parity": report.parity.model_dump(),
        "budget": asdict(report.budget),
        "quantizable": report.groups,
        "declared_floating_point": list(report.declared),
        "precisions": precisions,
    }


def _accuracy(accuracy: Accuracy) -> dict[str, Any]:
    figures = asdict(accuracy)
    count = figures.pop("images")
    return figures | {
        "pictures": count,
        "verdict_flips": accuracy.verdict_flips,
        "flip_interval": accuracy.flip_interval[:2],
        "farthest_flip": max(accuracy.distances, default=0.0),
    }


def _markdown(report: Report) -> str:
    chosen, source = report.chosen, report.source
    good = int((~report.scale.defective).sum())
    defective = int(report.scale.defective.sum())
    lines = [
        f"# Export of {report.name}: {report.algorithm} {report.backbone}, "
        f"{chosen.precision.value}",
        "",
        f"Threshold {report.scale.threshold:.6g}, from {source.name}: it is the same in "
        "every precision, so that one that moves scores shows as verdicts that flip. Judged on "
        f"{good} good and {counted(defective, 'defective image')} that {source.seen}"
        f"{_single_tiles(report.parity.single_tiles)}. "
        f"Allowed: {report.budget.verdict_flips:.1%} verdict flips beyond what rounding "
        f"explains and as many that get worse, AUROC drop {report.budget.auroc_drop:.4f}, each "
        "exceeded only where chance explains it at most once in twenty; good scores shifted by "
        f"{report.budget.good_shift:.2f} of the spread, median map correlation "
        f"{report.budget.map_correlation:.2f}. Intervals are 95 %.",
        "",
        f"FP32 against {source.runtimes}: {counted(report.parity.images, 'image')}, largest score "
        f"difference {report.parity.largest_score_difference:.1e} of the spread, "
        f"{_flips(report.parity, source)}.",
        "",
        "## Precisions",
        "",
        f"Latency of one inference on this PC ({pc_identity()}), computed in the arithmetic of the "
        "second column where not in integers; relative to FP32 measured in pairs. Differences are "
        f"shares of the spread ({report.scale.spread:.4g} raw); near the threshold is within half "
        "a spread.",
        "",
        "| precision | arithmetic | IR | latency | × FP32 | AUROC | verdict flips | "
        "near difference | good shift | map correlation |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for precision, made in report.made.items():
        if isinstance(made, str):
            lines.append(f"| {precision.value} | refused | | | | | | | | |")
            continue
        latency = report.latencies[precision]
        size = (len(made.xml) + len(made.weights)) / 1e6
        lines.append(
            f"| {precision.value} | {made.inference} | {size:.1f} MB | "
            f"{latency.milliseconds:.1f} ms | {latency.relative:.2f} | {_figures(made.accuracy)} |"
        )
    for precision, made in report.made.items():
        if isinstance(made, str):
            lines += ["", f"{precision.value} was refused: {made}"]
    if report.fastest_of:
        names = ", ".join(precision.value for precision in report.fastest_of)
        lines += [
            "",
            f"{chosen.precision.value} was taken: of {names} the fastest that passes on this PC; "
            "where times differ by less than 5 % the more exact one.",
        ]
    int8 = report.made[ExportPrecision.INT8]
    lines += ["", "## INT8", "", f"May become integers: {', '.join(report.groups) or 'nothing'}."]
    kept = [f"{name} (declared by the model)" for name in report.declared]
    kept += list(int8.floating) if isinstance(int8, Variant) else []
    lines += [
        "",
        f"Stay in floating point: {', '.join(kept)}, and all arithmetic outside sub-modules.",
    ]
    if isinstance(int8, Variant):
        lines += ["", "What was tried, in this order:", "", *_attempts(int8.attempts)]
    devices = {
        f"{made.precision.value} on {name}": faults
        for made in report.made.values()
        if isinstance(made, Variant)
        for name, faults in made.devices.items()
    }
    lines += ["", "## Other devices of this PC", ""]
    lines += [
        f"- {name}: {'; '.join(faults) or 'within budget'}" for name, faults in devices.items()
    ] or ["None."]
    return "\n".join(lines) + "\n"


def _flips(parity: GateReport, source: Source) -> str:
    text = f"verdict flips {parity.verdict_flips:.1%}"
    if parity.flips_interval is None:
        return f"{text} {source.without_interval}"
    low, high = parity.flips_interval
    return f"{text} (95 %: {low:.1%} to {high:.1%}) of the validation images among them"


def _single_tiles(count: int) -> str:
    return "; of those in the checkpoint a single tile each, not all of the image" if count else ""


def _attempts(attempts: tuple[Attempt, ...]) -> list[str]:
    lines = [
        "| recipe | AUROC | verdict flips | near difference | good shift | map correlation | "
        "result |",
        "|---|---|---|---|---|---|---|",
    ]
    return lines + [
        f"| {row.recipe} | {_figures(row.accuracy)} | {'; '.join(row.faults) or 'taken'} |"
        for row in attempts
    ]


def _figures(accuracy: Accuracy) -> str:
    auroc = "–" if accuracy.auroc_after is None else f"{accuracy.auroc_after:.4f}"
    return (
        f"{auroc} | {share_text(accuracy.flips, accuracy.images)} | "
        f"{accuracy.near_difference:.4f} | "
        f"{accuracy.good_shift:+.4f} | {accuracy.map_correlation:.4f}"
    )
