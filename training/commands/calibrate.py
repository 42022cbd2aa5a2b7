"""``train-station calibrate``: thresholds from new pictures, without fitting again."""

import argparse

import numpy as np

from edge.files import check_writable, write_whole
from training.checkpoint import load_checkpoint, save_checkpoint
from training.commands.options import data_settings
from training.commands.reporting import save_page
from training.data.opening import FittedOn, ValidateOn, open_new
from training.data.samples import fingerprint
from training.evaluation import TorchPredictor
from training.fitted import calibrated_on, scores
from training.making import find_device
from training.report.charts import score_histogram
from training.report.evidence import gather
from training.threshold_choice import parse_threshold


def run(arguments: argparse.Namespace) -> int:
    """Calibrate a checkpoint on other pictures and write a new one."""
    for output in filter(None, (arguments.output, arguments.histogram, arguments.report)):
        check_writable(output)
    choice = parse_threshold(arguments.threshold)
    checkpoint = load_checkpoint(arguments.checkpoint)
    before = checkpoint.description
    notes = before.training.hyperparameters
    fitted_on = FittedOn(
        before.training.dataset,
        before.training.dataset_fingerprint,
        before.seed,
        int(notes.get("synthetic_defects", 0)),
    )
    name, samples = open_new(
        data_settings(arguments, notes),
        fitted_on,
        ValidateOn(arguments.validate_on),
        arguments.all_pictures,
    )
    scored = scores(checkpoint, samples, arguments.device)
    changed = calibrated_on(checkpoint, scored, choice, name, before.seed)
    changed.description.training.hyperparameters["calibration_fingerprint"] = fingerprint(samples)
    changed.description.training.hyperparameters["calibrated_on_test"] = (
        arguments.validate_on == ValidateOn.TEST
    )
    save_checkpoint(arguments.output, changed)
    threshold = changed.description.threshold
    if arguments.histogram:
        labels = np.array([item.sample.is_defective for item in scored], np.bool_)
        values = np.array([item.score for item in scored], np.float64)
        synthetic = any(item.sample.is_synthetic for item in scored)
        picture = score_histogram(values, labels, threshold.image, threshold.interval, synthetic)
        write_whole(arguments.histogram, picture.encode())
    if arguments.report:
        predictor = TorchPredictor(changed.model, before.input, find_device(arguments.device))
        evidence = gather(
            changed, predictor, samples, f"the pictures of {name} it was calibrated on", "report"
        )
        save_page(arguments.report, arguments.output, changed, evidence)
    print(
        f"{arguments.output}: threshold {before.threshold.image:.4f} → {threshold.image:.4f} "
        f"({choice.text}: {threshold.method.value}, {threshold.good_count} good and "
        f"{threshold.defective_count} defective pictures of {name})"
    )
    return 0
