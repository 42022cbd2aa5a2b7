"""What the doctor says: one line per thing, good or what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from edge.redaction import one_line
from edge.wording import counted


class Grade(StrEnum):
    """How a finding stands."""

    GOOD = "good"
    ADVICE = "advice"
    FAULT = "fault"
    NOT_SEEN = "not seen"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what, in a few words.
        grade: ``FAULT`` keeps the station from working, ``ADVICE`` makes it work worse,
            ``NOT_SEEN`` could not be looked at here.
        found: what is there.
        advice: what to do; empty of what is good.
    """

    subject: str
    grade: Grade
    found: str
    advice: str = ""


def good(subject: str, found: str) -> Finding:
    return Finding(subject, Grade.GOOD, found)


def advice(subject: str, found: str, todo: str) -> Finding:
    return Finding(subject, Grade.ADVICE, found, todo)


def fault(subject: str, found: str, todo: str) -> Finding:
    return Finding(subject, Grade.FAULT, found, todo)


def not_seen(subject: str, why: str, todo: str = "") -> Finding:
    return Finding(subject, Grade.NOT_SEEN, why, todo)


def finding_line(finding: Finding) -> str:
    """Return a finding as one line of text."""
    end = f" → {finding.advice}" if finding.advice else ""
    return one_line(f"{finding.grade.value:<8}  {finding.subject:<22} {finding.found}{end}")


def summary(findings: Sequence[Finding]) -> str:
    """Return the last line: how many of what."""
    counts = {grade: sum(f.grade is grade for f in findings) for grade in Grade}
    parts = [f"{count} {grade.value}" for grade, count in counts.items() if count]
    return f"{counted(len(findings), 'check')}: {', '.join(parts)}"
