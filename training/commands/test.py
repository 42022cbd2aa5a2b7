"""``train-station test``: metrics of a checkpoint on the test images of a data set."""

import argparse
import io
import json
from collections.abc import Sequence
from typing import Any

from edge.atomic_files import write_whole
from edge.csv_table import write_rows
from edge.redaction import readable
from edge.system.log_output import print_line
from training.calibrated_fit import rests_on_test
from training.checkpoint import load_checkpoint
from training.commands.options import check_outputs, data_settings
from training.commands.reporting import make_figures, save_page
from training.data.data_notices import report_unused
from training.data.open_data_set import Opened, open_judging
from training.evaluation import TorchPredictor
from training.fit_pipeline import find_device
from training.report.evidence import Evidence, ImageRow, gather
from training.seen_images import Role, phrase, sift


def run(arguments: argparse.Namespace) -> int:
    """Print the metrics of a checkpoint on images of a data set that it has not seen."""
    outputs = {
        "the table of scores": arguments.scores,
        "the metrics": arguments.json,
        "the report": arguments.report,
    }
    check_outputs(outputs, kept=arguments.checkpoint)
    checkpoint = load_checkpoint(arguments.checkpoint)
    description = checkpoint.description
    settings = data_settings(arguments, description.training.hyperparameters, arguments.data)
    report_unused(settings)
    on_test = rests_on_test(checkpoint)
    roles = [role for role in Role if role is not Role.CALIBRATED or not on_test]
    opened = open_judging(settings, description.seed, checkpoint.seen, roles)
    optimistic = len(opened.samples) - len(
        sift(opened.samples, checkpoint.seen, tuple(Role)).unseen
    )
    predictor = TorchPredictor(checkpoint.model, description.input, find_device(arguments.device))
    evidence = gather(checkpoint, predictor, opened.samples, "the test images", purpose="test")
    figures = make_figures(checkpoint, evidence) | {
        "left_out": dict(opened.left_out),
        "not_judged": opened.not_judged,
        "threshold_rests_on": optimistic,
    }
    if arguments.scores:
        write_whole(arguments.scores, readable(scores_table(evidence.rows)).encode())
    if arguments.json:
        write_whole(arguments.json, json.dumps(figures, indent=2).encode() + b"\n")
    if arguments.report:
        save_page(arguments.report, arguments.checkpoint, checkpoint, evidence)
    print_line(f"{description.algorithm} {description.backbone} on {opened.name}")
    for line in [*_summary(figures, evidence), *_seen(opened, optimistic)]:
        print_line(line)
    return 0


def scores_table(rows: Sequence[ImageRow]) -> str:
    """Return a CSV of raw and normalized scores, one image a line."""
    text = io.StringIO()
    columns = ["picture", "kind", "raw_score", "anomaly_score", "result", "reason"]
    cells = (
        [row.label, row.kind, row.score, row.normalized, row.result.value, row.reason]
        for row in rows
    )
    write_rows(text, [columns, *cells])
    return text.getvalue()


def _summary(figures: dict[str, Any], evidence: Evidence) -> list[str]:
    good, defective = figures["good_count"], figures["defective_count"]
    synthetic = figures["synthetic_count"]
    mark = f" ({synthetic} of them synthetic)" if synthetic else ""
    lines = [f"  images        {good} good, {defective} defective{mark}"]
    for title, key, interval in (
        ("image AUROC", "image_auroc", "auroc"),
        ("image AUPR", "image_aupr", "average_precision"),
        ("pixel AUROC", "pixel_auroc", None),
        ("pixel AUPR", "pixel_aupr", None),
        ("AUPRO", "aupro", None),
        ("image F1-max", "image_f1_max", "f1_max"),
        ("pixel F1-max", "pixel_f1_max", None),
        ("recall at 1% FR", "recall_at_1_percent_false_rejects", "recall_at_false_rejects"),
    ):
        value = figures[key]
        text = "–" if value is None else f"{value:.4f}"
        lines.append(f"  {title:<15} {text}{_between(figures, interval)}")
    if figures["f1_at_threshold"] is not None:
        lines.append(
            f"  F1 at threshold {figures['f1_at_threshold']:.4f}"
            f"   (rejecting everything: {figures['f1_reject_all']:.4f})"
        )
    rejects, missed = figures["false_rejects"], figures["missed"]
    lines.append(f"  false rejects   {rejects} of {good}{_between(figures, 'false_rejects')}")
    lines.append(f"  missed defects  {missed} of {defective}{_between(figures, 'missed')}")
    if evidence.errors:
        first = evidence.errors[0]
        lines.append(
            f"  not inspected   {len(evidence.errors)}, in no figure above; {first.label}:"
        )
        lines.append(f"                  {first.detail}")
    return lines


def _seen(opened: Opened, optimistic: int) -> list[str]:
    lines = []
    if opened.left_out:
        lines.append(f"  left out        {phrase(opened.left_out)}")
    if optimistic:
        lines.append(
            f"  optimistic      the threshold rests on {optimistic} of these images "
            "(--validate-on test)"
        )
    return lines


def _between(figures: dict[str, Any], name: str | None) -> str:
    interval = figures["intervals"].get(name) if name else None
    if interval is None:
        return ""
    return f"   95 %: {interval['low']:.4f} to {interval['high']:.4f} ({interval['method']})"
