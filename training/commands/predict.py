"""``train-station predict``: scores, decisions and heat maps of images."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from edge.atomic_files import check_writable
from edge.errors import OutputNotWritable
from edge.imaging.image_files import write_image
from edge.inspection.decision import Result
from edge.inspection.overlay import draw_overlay
from edge.system.log_output import print_line
from training.checkpoint import load_checkpoint
from training.data.data_notices import report_unused_in
from training.data.samples import Sample, images_in
from training.errors import DataError
from training.evaluation import Inspected, TorchPredictor, inspect_samples
from training.fit_pipeline import find_device


def run(arguments: argparse.Namespace) -> int:
    """Print score and decision of images, write their heat maps."""
    checkpoint = load_checkpoint(arguments.checkpoint)
    predictor = TorchPredictor(
        checkpoint.model, checkpoint.description.input, find_device(arguments.device)
    )
    samples = [Sample(path=path, kind="unknown") for path in _image_paths(arguments.images)]
    overlays = _overlay_paths(arguments.output, samples) if arguments.output else {}
    for inspected in inspect_samples(predictor, samples, checkpoint.description, "predict"):
        print_line(_prediction_line(inspected))
        if overlays:
            overlay = draw_overlay(inspected.pixels, inspected.inspection)
            write_image(overlays[inspected.sample], overlay)
    return 0


def _image_paths(places: list[Path]) -> list[Path]:
    paths = [path for place in places for path in (images_in(place) or [place])]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"{missing[0]}: no such image, or a folder without images.")
    for folder in filter(Path.is_dir, places):
        report_unused_in(folder, images_in(folder))
    return list(dict.fromkeys(paths))


def _overlay_paths(folder: Path, samples: Sequence[Sample]) -> dict[Sample, Path]:
    """Name an overlay after each image, with a number where names meet."""
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
        return f"{sample.label}\t{result.value}\t{inspection.detail}"
    return (
        f"{sample.label}\t{result.value}\t{inspection.normalized_score:.4f}\t{inspection.score:.6f}"
    )
