"""``train-station calibrate``: thresholds from new images, without fitting again."""

import argparse
import logging

import numpy as np

from edge.atomic_files import write_whole
from edge.system.log_output import print_line
from edge.teaching.guarantees import guarantee_sentence
from edge.wording import counted
from training.calibrated_fit import calibrated_on, masked, rests_on_test, scores
from training.calibration_records import CalibrationRecords
from training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.commands.options import check_outputs, data_settings
from training.commands.reporting import save_page
from training.confirmed_images import check_confirmed, confirmed_images
from training.data.content import fingerprint, image_hash
from training.data.data_notices import report_unused
from training.data.open_data_set import Opened, ValidateOn, open_new
from training.evaluation import TorchPredictor
from training.fit_pipeline import find_device
from training.metrics import share_text
from training.report.charts import score_histogram
from training.report.evidence import gather
from training.seen_images import phrase
from training.threshold_option import parse_threshold
from training.zone_scores import zone_lines

log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace) -> int:
    """Calibrate a checkpoint on other images and write a new one."""
    drawn = {"the histogram": arguments.histogram, "the report": arguments.report}
    check_outputs({"the checkpoint": arguments.output, **drawn})
    check_outputs(drawn, kept=arguments.checkpoint)
    choice = parse_threshold(arguments.threshold)
    checkpoint = load_checkpoint(arguments.checkpoint)
    if arguments.mask is not None:
        checkpoint = masked(checkpoint, arguments.mask, replaced=arguments.replace)
    before = checkpoint.description
    notes = before.training.hyperparameters
    sets = [data_settings(arguments, notes, folder) for folder in dict.fromkeys(arguments.data)]
    for settings in sets:
        report_unused(settings)
    opened = [
        open_new(
            settings,
            before.seed,
            checkpoint.seen,
            ValidateOn(arguments.validate_on),
            everything=arguments.all_images,
            needs_good=arguments.replace,
        )
        for settings in sets
    ]
    for each in opened:
        _log_unused(each)
    name = " and ".join(each.name for each in opened)
    # An image that is in several folders counts once, as it is sorted in the last one.
    samples = tuple({image_hash(s): s for each in opened for s in each.samples}.values())
    confirmed = confirmed_images(arguments.confirm_good)
    check_confirmed(confirmed, (sample for sample in samples if not sample.is_defective))
    scored = scores(checkpoint, samples, arguments.device)
    changed = calibrated_on(
        checkpoint,
        scored,
        choice,
        name=name,
        seed=before.seed,
        adding=not arguments.replace,
        check_good=not arguments.no_check_good,
        strict=arguments.strict,
        confirmed=confirmed,
    )
    changed.description.training.hyperparameters["calibration_fingerprint"] = fingerprint(samples)
    changed.description.training.hyperparameters["calibrated_on_test"] = (
        arguments.validate_on == ValidateOn.TEST
        or (not arguments.replace and rests_on_test(checkpoint))
    )
    save_checkpoint(arguments.output, changed)
    threshold = changed.description.threshold
    if arguments.histogram:
        labels = np.array([item.sample.is_defective for item in scored], np.bool_)
        values = np.array([item.score for item in scored], np.float64)
        synthetic = any(item.sample.is_synthetic for item in scored)
        image = score_histogram(
            values, labels, threshold.image, threshold.interval, synthetic=synthetic
        )
        write_whole(arguments.histogram, image.encode())
    if arguments.report:
        predictor = TorchPredictor(changed.model, before.input, find_device(arguments.device))
        evidence = gather(
            changed,
            predictor,
            samples,
            f"the images of {name} it was calibrated on",
            purpose="report",
        )
        save_page(arguments.report, arguments.output, changed, evidence)
    print_line(
        f"{arguments.output}: threshold {before.threshold.image:.4f} → {threshold.image:.4f} "
        f"({choice.text}: {threshold.method.value}, {threshold.good_count} good and "
        f"{counted(threshold.defective_count, 'defective image')}"
        f"{_origin(checkpoint, changed, name)})"
    )
    print(guarantee_sentence(threshold, changed.description.training.good_check))
    for when, value in (("before", before.threshold.image), ("now", threshold.image)):
        print_line(_wrong(when, value, changed.records))
    for line in zone_lines(changed.zones):
        print_line(line)
    return 0


def _log_unused(opened: Opened) -> None:
    """Say which images of a folder do not count, and why."""
    if opened.left_out:
        log.info(
            "%s: left out %s; %d are used",
            *(opened.name, phrase(opened.left_out), len(opened.samples)),
        )
    if opened.kept_apart:
        log.info(
            "%s: %s kept apart for tests; --all-images takes them, too",
            opened.name,
            counted(opened.kept_apart, "image is", "images are"),
        )


def _origin(before: Checkpoint, after: Checkpoint, name: str) -> str:
    """Tell where the images of a calibration come from, where that is one place."""
    known = {row.tobytes() for row in before.records.hashes}
    kept = sum(row.tobytes() in known for row in after.records.hashes)
    return f", {len(after.records) - kept} of them new from {name}"


def _wrong(when: str, threshold: float, records: CalibrationRecords) -> str:
    """Return how many of its images a calibration would reject and miss."""
    rejected, missed = records.wrong_at(threshold)
    defective = int(records.defective.sum())
    good = len(records) - defective
    line = f"  {when:<6} rejects {share_text(rejected, good)} good"
    return f"{line}, misses {share_text(missed, defective)} defective" if defective else line
