"""The one writer of CSV: no cell is a formula."""

import csv
import io
import re
from pathlib import Path

import pytest

import edge
import export
import training
from edge.csv_table import write_rows
from edge.inspection.decision import Result
from training.commands.test import scores_table
from training.report.evidence import ImageRow


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_what_a_spreadsheet_would_compute_stands_behind_an_apostrophe(first: str) -> None:
    text = io.StringIO(newline="")

    write_rows(text, [[f"{first}1+1", "a=1", -0.5, None]])

    text.seek(0)
    assert list(csv.reader(text)) == [[f"'{first}1+1", "a=1", "-0.5", ""]]


def test_there_is_no_other_writer_of_csv() -> None:
    sources = [
        path
        for package in (edge, export, training)
        for folder in package.__path__
        for path in Path(folder).rglob("*.py")
    ]
    writers = [
        path.name
        for path in sources
        if re.search(r"csv\.(writer|DictWriter)|import .*\b(writer|DictWriter)\b", path.read_text())
    ]

    assert writers == ["csv_table.py"]


def test_the_name_of_an_image_is_no_formula_in_a_table_of_scores() -> None:
    row = ImageRow(
        label="=cmd|calc.png",
        kind="good",
        defective=False,
        synthetic=False,
        score=-0.5,
        normalized=0.1,
        result=Result.OK,
        reason="",
        detail="",
    )

    assert "'=cmd|calc.png,good,-0.5,0.1,OK," in scores_table([row])
