"""How the parts of a recipe were decided: since a release is in force, and the week before."""

import json
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Any

from edge.contract.fleet import PartCounts
from edge.journal.entries import RecordKind
from edge.journal.query import Query, newest_first, query

WEEK_NS = 7 * 24 * 3_600_000_000_000
# So many parts tell a rate well enough, and are read in a second.
MAX_WEEK_PARTS = 10_000
MAX_PARTS = 2_000
MAX_READ = 1_000

Decided = tuple[str, float | None]


class PartCounter:
    """Counts the newest parts of one version of a recipe, from a number of the journal on."""

    def __init__(self, recipe_id: str | None, version: int | str | None, *, after_seq: int) -> None:
        """Begin with no part counted.

        Args:
            recipe_id: None for parts of a model without a name.
            after_seq: number of the newest verdict that does not count.
        """
        self._recipe = (recipe_id, version)
        self._seq = after_seq
        self._parts: deque[Decided] = deque(maxlen=MAX_PARTS)

    def update(self, journal: Path) -> PartCounts:
        """Read what came since; return the counts of the newest parts.

        Raises:
            JournalError: it cannot be read.
        """
        wanted = Query(kind=RecordKind.VERDICT, from_seq=self._seq + 1)
        for row in islice(query(journal, wanted), MAX_READ):
            self._seq = row.seq
            verdict = json.loads(row.payload)
            if _recipe(verdict) == self._recipe:
                self._parts.append(_decided(verdict))
        return counted(self._parts)


def last_week(journal: Path, recipe_id: str | None, utc_ns: int) -> tuple[PartCounts, int]:
    """Return how parts of a recipe were decided lately, and the number of the newest verdict.

    Args:
        recipe_id: None for parts of a model without a name.
        utc_ns: now, by the clock that wrote the journal.

    Raises:
        JournalError: it cannot be read.
    """
    parts, newest = deque[Decided](), 0
    for row in islice(newest_first(journal, RecordKind.VERDICT), MAX_WEEK_PARTS):
        newest = newest or row.seq
        if utc_ns - row.created_utc_ns > WEEK_NS:
            break
        verdict = json.loads(row.payload)
        if _recipe(verdict)[0] == recipe_id:
            parts.append(_decided(verdict))
    return counted(parts), newest


def counted(parts: "deque[Decided]") -> PartCounts:
    """Return the counts of decided parts, and the 99th percentile of their times."""
    results = [result for result, _ in parts]
    times = sorted(ms for _, ms in parts if ms is not None)
    return PartCounts(
        ok=results.count("OK"),
        nok=results.count("NOK"),
        not_decidable=results.count("NOT_DECIDABLE"),
        error=results.count("ERROR"),
        p99_ms=times[(len(times) * 99 - 1) // 100] if times else None,
    )


def _recipe(verdict: dict[str, Any]) -> tuple[str | None, int | str | None]:
    recipe = verdict.get("recipe") or {}
    return recipe.get("id"), recipe.get("version")


def _decided(verdict: dict[str, Any]) -> Decided:
    return verdict["result"], verdict["duration_ms"]["total"]
