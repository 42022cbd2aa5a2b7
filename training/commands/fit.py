"""``train-station fit``: fit, calibrate, write a checkpoint and its report."""

import argparse
from pathlib import Path

from edge.bundle.manifest import Threshold
from edge.redaction import readable
from edge.system.log_output import print_line
from edge.teaching.guarantees import guarantee_sentence
from edge.wording import counted
from training.algorithm_choice import choice_lines
from training.calibrated_fit import fitted
from training.checkpoint import Checkpoint, save_checkpoint
from training.commands.options import check_outputs, fit_options
from training.commands.reporting import make_figures, write_report
from training.config import FitConfig, load_fit_config
from training.data.data_notices import report_unused
from training.data.samples import Sample, Splits
from training.fit_pipeline import open_fit
from training.gradient_fit import is_first_process
from training.tracking import open_trackers, read_numbers
from training.zone_scores import zone_lines


def run(arguments: argparse.Namespace) -> int:
    """Fit, calibrate and write a checkpoint."""
    output: Path = arguments.output
    report: Path | None = None
    if not arguments.no_report:
        report = arguments.report or output.with_suffix(".html")
    check_outputs({"the checkpoint": output, "the report": report})
    config = load_fit_config(arguments.config, fit_options(arguments))
    if is_first_process():
        report_unused(config.data)
    state = output.with_name(f".{output.name}.state")
    splits = open_fit(config)
    with open_trackers(config.track if is_first_process() else ()) as trackers:
        trackers.start({"command": "fit", **_settings(config)})
        checkpoint = fitted(config, state, trackers.log, splits)
        if not is_first_process():
            return 0
        save_checkpoint(output, checkpoint)
        state.unlink(missing_ok=True)
        if report is not None:
            samples, name = _judged(splits)
            learned = [sample for sample in splits.fit if sample.view is None]
            evidence = write_report(
                report,
                output,
                checkpoint,
                samples,
                name=name,
                device=config.device,
                purpose="report",
                fitted_on=[*learned, *splits.learned, *splits.validation],
            )
            trackers.log_result(read_numbers(make_figures(checkpoint, evidence)))
    print_line(_summary(output, checkpoint))
    for line in zone_lines(checkpoint.zones):
        print_line(line)
    if report is not None:
        print_line(f"{report}: the report, to be read and signed")
    return 0


def _judged(splits: Splits) -> tuple[tuple[Sample, ...], str]:
    """Return the images that the report judges: the test images, else the validation's."""
    if splits.test:
        return splits.test, "the test images"
    name = "the validation images, which the threshold was chosen on: there are no others"
    return splits.validation, name


def _settings(config: FitConfig) -> dict[str, object]:
    document = config.model_dump(mode="json", exclude={"track", "hyperparameters"})
    data = {f"data.{name}": value for name, value in document.pop("data").items()}
    settings = {**document, **data, **config.hyperparameters}
    return {k: readable(v) if isinstance(v, str) else v for k, v in settings.items()}


def _summary(output: Path, checkpoint: Checkpoint) -> str:
    threshold = checkpoint.description.threshold
    choice = checkpoint.description.training.choice
    chosen = "" if choice is None else "\n".join(["", *choice_lines(choice)])
    return (
        f"{output}: {checkpoint.description.algorithm}, threshold "
        f"{threshold.image:.4f} ({threshold.method.value}, {threshold.good_count} good"
        f"{_cross_validated(threshold)} and "
        f"{counted(threshold.defective_count, 'defective image')})\n"
        f"{guarantee_sentence(threshold, checkpoint.description.training.good_check)}{chosen}"
    )


def _cross_validated(threshold: Threshold) -> str:
    count = threshold.cross_validated_count
    if count == 0:
        return ""
    share = "all" if count == threshold.good_count else f"{count} of them"
    return f", {share} cross-validated,"
