"""What the README says of tests, settings and schemas is true."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_every_test_that_a_promise_names_exists() -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", README.read_text())

    assert len({name for _, name in named}) >= 12
    for file, name in named:
        path = README.parent / "tests" / "edge" / file
        assert f"def {name}(" in path.read_text(), f"{file}::{name}"


def test_every_test_that_the_security_page_names_exists() -> None:
    text = (README.parent / "docs" / "security.md").read_text()
    named = re.findall(r"`((?:\w+/)?test_\w+\.py)(?:::(test_\w+))?`", text)

    assert len(named) >= 20
    for file, name in named:
        folder = README.parent / "tests"
        path = folder / file if "/" in file else folder / "edge" / file
        assert f"def {name}" in path.read_text(), f"{file}::{name}"


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text())

    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
