"""``train-station benchmark``: a table of algorithms and data sets."""

import argparse
import shlex
import sys
from pathlib import Path

from edge.atomic_files import check_writable
from edge.errors import OutputNotWritable, StationError
from edge.system.log_output import print_line
from edge.wording import agreeing, counted
from training.benchmark import BenchmarkRow, plan, run_benchmark
from training.commands.options import data_options
from training.config import FitConfig, load_fit_config, parse_assignments
from training.data.data_notices import report_unused
from training.errors import SettingError
from training.report.tables import write_benchmark
from training.studies import StudyPlace, open_study

# What is written beside a table, under its name.
BESIDE = (".md", ".svg", ".db")


def run(arguments: argparse.Namespace) -> int:
    """Make the fits that are missing, and write the table."""
    prepare_output(arguments.output)
    if arguments.keep is not None:
        prepare_output(arguments.keep / "any.safetensors")
    bases = _bases(arguments)
    for base in bases:
        report_unused(base.data)  # one that is not there is told now, and not tomorrow morning
    fits = [
        fit
        for base in bases
        for fit in plan(base, arguments.algorithms, arguments.backbones, arguments.seeds)
    ]
    opened = open_study(study_place(arguments, arguments.output.stem))
    rows = run_benchmark(opened, fits, arguments.keep)
    written = write_benchmark(arguments.output, rows, command_line())
    for row in rows:
        print_line(_line(row))
    print_line(", ".join(str(path) for path in written))
    failed = [row for row in rows if row.error]
    if failed:
        raise StationError(
            f"{len(failed)} of {counted(len(rows), 'row')} {agreeing(len(failed), 'is', 'are')} "
            f"not complete, first {failed[0].algorithm} on "
            f"{failed[0].category}: {failed[0].error} Start the same command again to make only "
            "what is missing."
        )
    return 0


def prepare_output(output: Path) -> None:
    """Make the folder of a table and find out whether it can be written.

    Raises:
        SettingError: its name is that of a file beside it.
        OutputNotWritable: folder or disk refuses it.
    """
    if output.suffix.lower() in BESIDE:
        raise SettingError(
            f"{output}: the table would take the place of the {output.suffix} beside it. Let its "
            "name end in .csv."
        )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputNotWritable(
            f"{output.parent}: cannot be made ({error.strerror}). Check its parent."
        ) from error
    check_writable(output)


def study_place(arguments: argparse.Namespace, name: str) -> StudyPlace:
    """Return where a study is: in the database asked for, else beside the table."""
    url = arguments.study or f"sqlite:///{arguments.output.with_suffix('.db').resolve()}"
    return StudyPlace(url, arguments.name or name, arguments.heartbeat)


def command_line() -> str:
    """Return the command that this process runs, without secrets of a study's URL."""
    words = sys.argv[1:]
    for index, word in enumerate(words):
        if word == "--study" and index + 1 < len(words):
            words[index + 1] = "URL"
        elif word.startswith("--study="):
            words[index] = "--study=URL"
    return shlex.join(["train-station", *words])


def _bases(arguments: argparse.Namespace) -> list[FitConfig]:
    options = {
        **data_options(arguments),
        "weights": arguments.weights,
        "image_size": arguments.image_size,
        "validate_on": arguments.validate_on,
        "hyperparameters": parse_assignments(arguments.set),
        "device": arguments.device,
    }
    if not arguments.data and arguments.config is None:
        raise SettingError("--data is missing. Give a data set, or several.")
    categories = arguments.category.split(",") if arguments.category else [None]
    return [
        load_fit_config(
            arguments.config, {"data": data and [data], **options, "category": category}
        )
        for data in arguments.data or [None]
        for category in categories
    ]


def _line(row: BenchmarkRow) -> str:
    name = f"{row.algorithm} {row.backbone} {row.category}"
    if row.error:
        return f"{name}: {row.error}"
    parts = []
    for title, figure, digits in (
        ("image AUROC", "image_auroc", 4),
        ("pixel AUROC", "pixel_auroc", 4),
        ("AUPRO", "aupro", 4),
        ("s to fit", "fit_s", 1),
        ("ms", "infer_ms", 1),
    ):
        value = row.mean(figure)
        parts.append(f"{title} " + ("–" if value is None else f"{value:.{digits}f}"))
    return f"{name}: {', '.join(parts)}"
