"""What README and docs say of tests, files and sections is true."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
# A newcomer reads it in one sitting; what takes longer lies in docs/.
README_LINES = 200


def defines(file: str, name: str) -> bool:
    """Whether the one test file of that name, with or without its folder, has such a test."""
    places = [path for path in TESTS.rglob("test_*.py") if f"/{path}".endswith(f"/{file}")]
    assert len(places) == 1, f"{file}: {places}"
    return f"def {name}" in places[0].read_text()


def sections(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    text = re.sub(r"(?ms)^```.*?^```", "", document.read_text())
    headings = re.findall(r"(?m)^#+ (.+)$", text)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("document", NAMES)
def test_every_test_that_a_document_names_exists(document: str) -> None:
    text = (ROOT / document).read_text()
    named = re.findall(r"`(?:tests/)?((?:\w+/)*test_\w+\.py)(?:::(test_\w+))?`", text)

    assert [one for one in named if not defines(*one)] == []
    at_least = {"docs/promises.md": 12, "docs/security.md": 20}.get(document, 0)
    assert len(set(named)) >= at_least


@pytest.mark.parametrize("document", NAMES)
def test_every_link_leads_to_a_file_and_its_section(document: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", (ROOT / document).read_text())

    for file, section in links:
        target = (ROOT / document).parent / file if file else ROOT / document
        assert target.exists(), file
        assert not section or section in sections(target), f"{file}#{section}"


@pytest.mark.parametrize("document", NAMES)
def test_every_place_in_the_code_that_a_document_names_exists(document: str) -> None:
    rooms = "edge|training|export|tests|configs|deploy|systemd|tools"
    named = re.findall(rf"`((?:{rooms})/[\w./-]+)`", (ROOT / document).read_text())

    assert [place for place in named if not (ROOT / place).exists()] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES
