"""What the last good parts scored in each zone, and which threshold would reject how many."""

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

from edge.hmi.server.answer_models import FeedbackRecord, ZoneOfGoodParts
from edge.inspection.thresholding import lowest_that_rejects
from edge.inspection.tolerance import rate_interval
from edge.journal.entries import JournalRow

# Of good parts, that a proposed threshold may reject.
RATE = 0.01
_DIGITS = 6


def zones_of_good_parts(
    rows: Sequence[JournalRow], config_sha256: str, feedback: Mapping[int, FeedbackRecord]
) -> list[ZoneOfGoodParts]:
    """Return the zones of the newest part, with what good parts scored there.

    Args:
        rows: verdicts of the model in force, newest first.
        config_sha256: of the settings in force: under others a zone may have lain elsewhere.
        feedback: how people marked parts, by ``seq``.
    """
    scores: dict[str, list[float]] = {}
    for row in rows:
        content = json.loads(row.payload)
        if content["config_sha256"] != config_sha256:
            continue
        mark = feedback[row.seq].mark if row.seq in feedback else None
        passed = content["result"] == "OK" and mark != "missed_defect"
        for zone in content.get("zones", ()):
            found = scores.setdefault(zone["name"], [])
            if passed or mark == "false_reject":
                found.append(zone["raw_score"])
    return [_described(name, found) for name, found in scores.items() if found]


def _described(name: str, found: Sequence[float]) -> ZoneOfGoodParts:
    values = np.array(found, np.float32)
    threshold = _rounded_up(lowest_that_rejects(values, RATE))
    rejected = int((values >= np.float32(threshold)).sum())
    low, high = rate_interval(rejected, len(values))
    return ZoneOfGoodParts(
        name=name,
        parts=len(values),
        median=float(np.median(values)),
        highest=float(values.max()),
        threshold=threshold,
        rejected=rejected,
        rejected_interval=(low, high),
    )


def _rounded_up(value: float) -> float:
    """Return six digits, as people enter them; up, so that no more parts are rejected."""
    if value == 0.0:
        return value
    scale = 10.0 ** (_DIGITS - 1 - math.floor(math.log10(abs(value))))
    return math.ceil(value * scale) / scale
