"""From a checkpoint and samples to the signed page."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import edge
from edge.atomic_files import write_whole
from edge.redaction import readable
from training.alignment import found_parts
from training.checkpoint import Checkpoint
from training.data.loading import check_readable
from training.data.samples import Sample
from training.evaluation import TorchPredictor
from training.fit_pipeline import find_device
from training.report.evidence import Evidence, gather, unreadable_row
from training.report.page import Subject, report_page
from training.report.poses import Poses, find_poses


def write_report(
    path: Path,
    checkpoint_path: Path,
    checkpoint: Checkpoint,
    samples: Sequence[Sample],
    *,
    name: str,
    device: str,
    purpose: str,
    fitted_on: Sequence[Sample] = (),
) -> Evidence:
    """Inspect samples and write the report, whole or not at all.

    An image that cannot be read is listed there: a finished fit must not fail because of it.

    Args:
        name: of the split, for the report.
        purpose: in front of the progress bar.
        fitted_on: images in which the part's place is shown, where the model looks for it.

    Returns:
        What was inspected.
    """
    spec = checkpoint.description.input
    predictor = TorchPredictor(checkpoint.model, spec, find_device(device))
    faults = check_readable(samples)
    readable = [sample for sample in samples if sample not in faults]
    evidence = gather(checkpoint, predictor, readable, name, purpose=purpose)
    evidence.rows.extend(unreadable_row(sample, fault) for sample, fault in faults.items())
    poses = None
    if spec.locator is not None and fitted_on:
        poses = find_poses(found_parts(fitted_on, spec), spec)
    save_page(path, checkpoint_path, checkpoint, evidence, poses=poses)
    return evidence


def save_page(
    path: Path,
    checkpoint_path: Path,
    checkpoint: Checkpoint,
    evidence: Evidence,
    *,
    poses: Poses | None = None,
) -> None:
    """Write the report of what was inspected."""
    with checkpoint_path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    subject = Subject(
        file=checkpoint_path.name,
        sha256=sha256,
        made_at=datetime.now(UTC),
        made_with={
            "inspection-station": edge.__version__,
            "torch": torch.__version__,
            "torchvision": version("torchvision"),
        },
    )
    page = report_page(subject, checkpoint.description, evidence, poses, zones=checkpoint.zones)
    write_whole(path, readable(page).encode())


def make_figures(checkpoint: Checkpoint, evidence: Evidence) -> dict[str, Any]:
    """Return the figures of what was inspected, as one flat document."""
    description = checkpoint.description
    return evidence.totals.document(description.threshold.image, description.seed)
