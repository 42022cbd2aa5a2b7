"""The verbs of ``train-station``."""

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge.errors import OutputNotWritable
from edge.files import check_writable, write_whole
from edge.inspection.inspector import Inspection, Inspector
from edge.inspection.overlay import draw_overlay
from edge.inspection.thresholding import Result
from edge.manifest import SplitMetrics
from edge.pictures import write_picture
from training.checkpoint import load_checkpoint, save_checkpoint
from training.config import load_fit_config, parse_assignments
from training.data.opening import open_test
from training.data.samples import Sample, pictures_in
from training.errors import DataError
from training.evaluation import (
    Inspected,
    Scored,
    TorchPredictor,
    inspect_samples,
    split_metrics,
)
from training.making import find_device, fit_checkpoint
from training.metrics import f1_at


def fit(arguments: argparse.Namespace) -> int:
    """Fit, calibrate and write a checkpoint."""
    check_writable(arguments.output)
    config = load_fit_config(
        arguments.config,
        {
            "data": arguments.data,
            "algorithm": arguments.algorithm,
            "backbone": arguments.backbone,
            "weights": arguments.weights,
            "weights_licence": arguments.weights_licence,
            "image_size": arguments.image_size,
            "tile": arguments.tile,
            "overlap": arguments.overlap,
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
    for output in (arguments.scores, arguments.json):
        if output:
            check_writable(output)
    checkpoint = load_checkpoint(arguments.checkpoint)
    description = checkpoint.description
    splits = open_test(arguments.data, description.seed)
    predictor = TorchPredictor(
        checkpoint.model, checkpoint.description.input, find_device(arguments.device)
    )
    rows: list[tuple[Sample, Inspection]] = []
    scored: list[Scored] = []
    for sample, pixels, inspection in inspect_samples(predictor, splits.test, description, "test"):
        rows.append((sample, inspection))
        if inspection.score is not None and inspection.anomaly_map is not None:
            frame = (pixels.shape[0], pixels.shape[1])
            scored.append(Scored(sample, frame, inspection.score, inspection.anomaly_map))
    metrics = split_metrics(scored, description.input)
    if arguments.scores:
        write_whole(arguments.scores, scores_table(rows).encode())
    if arguments.json:
        write_whole(arguments.json, metrics.model_dump_json(indent=2).encode() + b"\n")
    print(f"{description.algorithm} {description.backbone} on {splits.name}")
    for line in _report(metrics, scored, description.threshold.image):
        print(line)
    errors = [(s, i) for s, i in rows if i.decision.result is Result.ERROR]
    if errors:
        sample, inspection = errors[0]
        print(f"  not inspected   {len(errors)}, in no figure above; {sample.path}:")
        print(f"                  {inspection.detail}")
    return 0


def predict(arguments: argparse.Namespace) -> int:
    """Print score and decision of pictures, write their heat maps."""
    checkpoint = load_checkpoint(arguments.checkpoint)
    predictor = TorchPredictor(
        checkpoint.model, checkpoint.description.input, find_device(arguments.device)
    )
    samples = [Sample(path, "unknown") for path in _picture_paths(arguments.pictures)]
    overlays = _overlay_paths(arguments.output, samples) if arguments.output else {}
    map_scale = Inspector(predictor, checkpoint.description).map_scale
    for inspected in inspect_samples(predictor, samples, checkpoint.description, "predict"):
        print(_prediction_line(inspected), flush=True)
        if overlays:
            overlay = draw_overlay(inspected.pixels, inspected.inspection, map_scale)
            write_picture(overlays[inspected.sample], overlay)
    return 0


def scores_table(rows: Sequence[tuple[Sample, Inspection]]) -> str:
    """Return a CSV of raw and normalized scores, one picture a line."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["picture", "kind", "raw_score", "anomaly_score", "result", "reason"])
    for sample, inspection in rows:
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
    return list(dict.fromkeys(paths))


def _overlay_paths(folder: Path, samples: Sequence[Sample]) -> dict[Sample, Path]:
    """Name an overlay after each picture, with a number where names meet."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputNotWritable(
            f"{folder}: cannot be made ({error.strerror}). Check its parent and permissions."
        ) from error
    paths: dict[Sample, Path] = {}
    taken: set[str] = set()
    for sample in samples:
        name, number = sample.path.stem, 1
        while name in taken:
            number += 1
            name = f"{sample.path.stem}-{number}"
        taken.add(name)
        paths[sample] = folder / f"{name}.png"
    check_writable(folder / "overlay.png")
    return paths


def _prediction_line(inspected: Inspected) -> str:
    sample, _, inspection = inspected
    result = inspection.decision.result
    if result is Result.ERROR:
        return f"{sample.path}\t{result.value}\t{inspection.detail}"
    return (
        f"{sample.path}\t{result.value}\t{inspection.normalized_score:.4f}\t{inspection.score:.6f}"
    )
