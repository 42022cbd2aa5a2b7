"""The verbs of ``train-station``."""

import argparse
import csv
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from edge.inspection.overlay import draw_overlay

from edge.files import write_whole
from edge.inspection.inspector import Inspection, Inspector
from edge.inspection.thresholding import Result
from edge.manifest import SplitMetrics
from edge.pictures import read_picture, write_picture
from training.checkpoint import (
    load_checkpoint,
    save_checkpoint,
)
from training.config import load_fit_config, parse_assignments
from training.data.opening import open_splits
from training.data.samples import Sample, pictures_in
from training.errors import DataError
from training.evaluation import (
    Scored,
    TorchPredictor,
    inspect_samples,
    split_metrics,
)
from training.making import find_device, fit_checkpoint
from training.metrics import f1_at


def fit(arguments: argparse.Namespace) -> int:
    """Fit, calibrate and write a checkpoint."""
    config = load_fit_config(
        arguments.config,
        {
            "data": arguments.data,
            "algorithm": arguments.algorithm,
            "backbone": arguments.backbone,
            "weights": arguments.weights,
            "weights_licence": arguments.weights_licence,
            "image_size": arguments.image_size,
            "crop": _named(("x", "y", "width", "height"), arguments.crop),
            "levels": _named(("black", "white"), arguments.levels),
            "validate_on": arguments.validate_on,
            "hyperparameters": parse_assignments(arguments.set),
            "seed": arguments.seed,
            "device": arguments.device,
        },
    )
    checkpoint = fit_checkpoint(config)
    save_checkpoint(arguments.output, checkpoint)
    threshold = checkpoint.description.threshold
    print(
        f"{arguments.output}: {checkpoint.description.algorithm}, threshold "
        f"{threshold.image:.4f} ({threshold.method.value}, {threshold.good_count} good and "
        f"{threshold.defective_count} defective pictures)"
    )
    return 0


def test(arguments: argparse.Namespace) -> int:
    """Print the metrics of a checkpoint on the test pictures of a data set."""
    checkpoint = load_checkpoint(arguments.checkpoint)
    description = checkpoint.description
    splits = open_splits(arguments.data, seed=description.seed)
    if not splits.test:
        raise DataError(f"{arguments.data}: no test pictures. The MVTec layout has them in test/.")
    predictor = TorchPredictor(checkpoint.model, find_device(arguments.device))
    inspected = inspect_samples(predictor, splits.test, description)
    scored = [
        Scored(sample, inspection.score, inspection.anomaly_map)
        for sample, inspection in inspected
        if inspection.score is not None and inspection.anomaly_map is not None
    ]
    metrics = split_metrics(scored, description.input)
    if arguments.scores:
        write_whole(arguments.scores, scores_table(inspected).encode())
    if arguments.json:
        write_whole(arguments.json, metrics.model_dump_json(indent=2).encode())
    print(f"{description.algorithm} {description.backbone} on {splits.name}")
    for line in _report(metrics, scored, description.threshold.image):
        print(line)
    return 0


def predict(arguments: argparse.Namespace) -> int:
    """Print score and decision of pictures, write their heat maps."""
    checkpoint = load_checkpoint(arguments.checkpoint)
    predictor = TorchPredictor(checkpoint.model, find_device(arguments.device))
    samples = [Sample(path, "unknown") for path in _picture_paths(arguments.pictures)]
    inspector = Inspector(predictor, checkpoint.description)
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
    for sample, inspection in inspect_samples(predictor, samples, checkpoint.description):
        print(_prediction_line(sample, inspection))
        if arguments.output:
            overlay = draw_overlay(read_picture(sample.path), inspection, inspector.map_scale)
            write_picture(arguments.output / f"{sample.path.stem}.png", overlay)
    return 0


def scores_table(inspected: Iterable[tuple[Sample, Inspection]]) -> str:
    """Return a CSV of raw and normalized scores, one picture a line."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["picture", "kind", "raw_score", "anomaly_score", "result", "reason"])
    for sample, inspection in inspected:
        writer.writerow(
            [
                sample.path,
                sample.kind,
                inspection.score,
                inspection.normalized_score,
                inspection.decision.result.value,
                inspection.decision.reason.value,
            ]
        )
    return text.getvalue()


def _named(names: tuple[str, ...], values: list[int] | None) -> dict[str, int] | None:
    return None if values is None else dict(zip(names, values, strict=True))


def _report(metrics: SplitMetrics, scored: list[Scored], threshold: float) -> list[str]:
    labels = np.array([item.sample.is_defective for item in scored], np.bool_)
    scores = np.array([item.score for item in scored])
    rejected = scores >= threshold
    lines = [f"  pictures        {metrics.good_count} good, {metrics.defective_count} defective"]
    for name, value in (
        ("image AUROC", metrics.image_auroc),
        ("pixel AUROC", metrics.pixel_auroc),
        ("AUPRO", metrics.aupro),
        ("image F1-max", metrics.image_f1_max),
        ("pixel F1-max", metrics.pixel_f1_max),
    ):
        lines.append(f"  {name:<15} {'–' if value is None else f'{value:.4f}'}")
    if labels.any():
        lines.append(
            f"  F1 at threshold {f1_at(scores, labels, threshold):.4f}"
            f"   (rejecting everything: {metrics.f1_reject_all:.4f})"
        )
    lines.append(f"  false rejects   {int((rejected & ~labels).sum())} of {int((~labels).sum())}")
    lines.append(f"  missed defects  {int((~rejected & labels).sum())} of {int(labels.sum())}")
    return lines


def _picture_paths(places: list[Path]) -> list[Path]:
    paths = [path for place in places for path in (pictures_in(place) or [place])]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"{missing[0]}: no such picture, or a folder without pictures.")
    return paths


def _prediction_line(sample: Sample, inspection: Inspection) -> str:
    result = inspection.decision.result
    if result is Result.ERROR:
        return f"{sample.path}\t{result.value}\t{inspection.detail}"
    return (
        f"{sample.path}\t{result.value}\t{inspection.normalized_score:.4f}\t{inspection.score:.6f}"
    )
