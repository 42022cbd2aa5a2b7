"""Results of benchmarks and sweeps: CSV for programs, Markdown for documents, SVG to look at."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from edge.atomic_files import write_all
from edge.csv_table import write_rows
from edge.redaction import readable
from training.benchmark import COLUMNS, FIGURES, BenchmarkRow
from training.report.charts import points_chart

MEASURED = ("fit_s", "infer_ms", "model_mib", "peak_mib")
_DIGITS = {"fit_s": 1, "infer_ms": 1, "model_mib": 1, "peak_mib": 0}


def write_benchmark(path: Path, rows: Sequence[BenchmarkRow], command: str) -> list[Path]:
    """Write table, document and plot of a benchmark, all or none.

    Args:
        path: of the CSV; the others lie beside it.
        command: that made it, for the document.

    Returns:
        What was written.

    Raises:
        OutputNotWritable: folder or disk refused it.
    """
    table = [
        [row.algorithm, row.backbone, row.category, *(_csv(row.mean(f), f) for f in FIGURES)]
        for row in rows
        if row.values
    ]
    shown = [
        [row.algorithm, row.backbone, row.category, *(_with_spread(row, f) for f in FIGURES)]
        for row in rows
    ]
    failures = [
        f"- {row.algorithm} {row.backbone} on {row.category}: {row.error}"
        for row in rows
        if row.error
    ]
    notes = f"Made by `{command}`."
    if failures:
        notes += "\n\nNot made:\n\n" + "\n".join(failures)
    points = [
        (infer, accuracy, f"{row.algorithm} {row.backbone}")
        for row in rows
        if (infer := row.mean("infer_ms")) is not None
        and (accuracy := row.mean("image_auroc")) is not None
    ]
    chart = "Image AUROC over inference time"
    return _write(
        path,
        COLUMNS,
        table,
        shown,
        notes=notes,
        points=points,
        labels=("inference, ms", "image AUROC", chart),
    )


def write_sweep(
    path: Path, trials: Sequence[FrozenTrial], objective: str, command: str
) -> list[Path]:
    """Write table, document and plot of a sweep, the best trial first, all or none.

    Raises:
        OutputNotWritable: folder or disk refused it.
    """
    names = sorted({name for trial in trials for name in trial.params})
    columns = ("trial", objective, *names, *MEASURED)
    table = [
        [
            str(trial.number),
            _csv(trial.value, objective),
            *(trial.params.get(name, "") for name in names),
            *(_csv(trial.user_attrs.get(figure), figure) for figure in MEASURED),
        ]
        for trial in trials
    ]
    points = [(float(trial.number), trial.value or 0.0, "") for trial in trials]
    notes = f"Judged by the validation images. Made by `{command}`."
    labels = ("trial", objective, f"{objective} of the trials")
    shown = [[str(cell) for cell in line] for line in table]
    return _write(path, columns, table, shown, notes=notes, points=points, labels=labels)


def _write(
    path: Path,
    columns: Sequence[str],
    table: Sequence[Sequence[Any]],
    shown: Sequence[Sequence[str]],
    *,
    notes: str,
    points: Sequence[tuple[float, float, str]],
    labels: tuple[str, str, str],
) -> list[Path]:
    text = io.StringIO()
    write_rows(text, [columns, *table])
    texts = [
        (path, text.getvalue()),
        (path.with_suffix(".md"), f"{markdown(columns, shown)}\n{notes}\n"),
    ]
    if points:
        texts.append((path.with_suffix(".svg"), points_chart(points, *labels)))
    # A path in the command, or a parameter of it, need not be UTF-8.
    write_all([(path, readable(content).encode()) for path, content in texts])
    return [path for path, _ in texts]


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(_cell(value) for value in line)} |\n" for line in lines)


def _cell(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", " ") or "–"


def _csv(value: float | None, figure: str) -> str:
    return "" if value is None else f"{value:.{_DIGITS.get(figure, 4)}f}"


def _with_spread(row: BenchmarkRow, figure: str) -> str:
    mean, spread = row.mean(figure), row.spread(figure)
    digits = _DIGITS.get(figure, 4)
    if mean is None:
        return ""
    return f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread is not None else "")
