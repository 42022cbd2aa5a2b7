"""What the README says of tests, settings and schemas is true."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
TESTS = Path(__file__).parent


def defines(file: str, name: str) -> bool:
    """Whether the one test file of that name, with or without its folder, has such a test."""
    places = [path for path in TESTS.rglob("test_*.py") if f"/{path}".endswith(f"/{file}")]
    assert len(places) == 1, f"{file}: {places}"
    return f"def {name}" in places[0].read_text()


@pytest.mark.parametrize(("document", "count"), [("README.md", 12), ("docs/security.md", 20)])
def test_every_test_that_a_document_names_exists(document: str, count: int) -> None:
    text = (README.parent / document).read_text()
    named = re.findall(r"`((?:\w+/)?test_\w+\.py)(?:::(test_\w+))?`", text)

    assert len(set(named)) >= count
    assert [one for one in named if not defines(*one)] == []


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text())

    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
