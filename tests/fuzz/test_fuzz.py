"""A little of what ``make fuzz`` does, and every finding of it again."""

from contextlib import closing
from pathlib import Path

import pytest

from tests.fuzz.mutation import Finding, fuzz
from tests.fuzz.targets import TARGETS
from tests.soak import times

FINDINGS = sorted((Path(__file__).parent / "findings").iterdir())


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_bytes_come_a_parser_takes_or_refuses_them(name: str, tmp_path: Path) -> None:
    with closing(TARGETS[name](tmp_path)) as target:
        _, lines = fuzz(target.parse, target.corpus, 7, lambda done: done < times(15, 2000))
    assert lines > 10


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda path: path.name)
def test_what_was_found_once_is_refused(finding: Path, tmp_path: Path) -> None:
    with closing(TARGETS[finding.name.rpartition("-")[0]](tmp_path)) as target:
        target.parse(finding.read_bytes())


def test_a_parser_that_raises_something_else_is_found_with_its_bytes() -> None:
    def parse(content: bytes) -> None:
        content[:40].decode()

    with pytest.raises(Finding) as found:
        fuzz(parse, [b'{"seq": 1}'], 1, lambda done: done < 1000)
    with pytest.raises(UnicodeDecodeError):
        parse(found.value.content)
