"""How the last parts would have been decided with another threshold."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import Any

from edge.contract.image_source import image_name
from edge.hmi.server.answer_models import FeedbackRecord, FlippedPart, MarkOutcome, ThresholdPreview
from edge.inspection.decision import SEVERITY, Result, decide
from edge.inspection.tolerance import rate_interval
from edge.journal.entries import JournalRow

PARTS = 1000
MAX_FLIPS = 24


def preview(
    rows: Sequence[JournalRow],
    threshold: float,
    guard_band: float,
    feedback: Mapping[int, FeedbackRecord],
    *,
    own_zones: Set[str] = frozenset(),
) -> ThresholdPreview:
    """Decide journalled raw scores again.

    Args:
        rows: verdicts of the model in force, newest first.
        threshold: raw, to be tried.
        guard_band: half-width of the undecided band in raw units.
        feedback: how people marked parts, by ``seq``.
        own_zones: zones in force with a threshold of their own, which decide as before.

    Returns:
        Counts before and after, the parts that change, and how the marked ones would fare.
    """
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    flips: list[FlippedPart] = []
    changed = 0
    marks = {"false_reject": [0, 0], "missed_defect": [0, 0]}  # marked, put right
    for row in rows:
        content = json.loads(row.payload)
        score, was = content["raw_score"], content["result"]
        now = _decided(content, threshold, guard_band, own_zones)
        if now is None:
            continue
        before[was] += 1
        after[now] += 1
        mark = feedback[row.seq].mark if row.seq in feedback else None
        if mark in marks:
            marks[mark][0] += 1
            marks[mark][1] += (now == "OK") if mark == "false_reject" else (now != "OK")
        if now != was:
            changed += 1
            if len(flips) < MAX_FLIPS:
                flips.append(
                    FlippedPart(
                        seq=row.seq,
                        id=content["id"],
                        part_id=row.part_id,
                        image_name=image_name(content),
                        raw_score=score,
                        before=was,
                        after=now,
                        mark=mark,
                    )
                )
    parts = sum(before.values())
    return ThresholdPreview(
        threshold=threshold,
        parts=parts,
        before=before,
        after=after,
        nok_interval=rate_interval(after[Result.NOK.value], parts) if parts else None,
        changed=changed,
        flips=flips,
        marks={
            mark: MarkOutcome(marked=marked, put_right=right)
            for mark, (marked, right) in marks.items()
        },
    )


def _decided(
    content: Mapping[str, Any], threshold: float, guard_band: float, own_zones: Set[str]
) -> str | None:
    """Return how a part would be decided; None where no number is known that a threshold decides.

    The recorded score of a part with zones is that of the area that decided, moved to the part's
    threshold: another threshold changes nothing of what a zone decides by its own.
    """
    score, zones = content["raw_score"], content.get("zones", ())
    if score is None:
        return None
    if zones:
        score = content.get("shared_raw_score")
        if score is None:  # of a version that did not record it
            return None
    results = [decide(score, threshold, guard_band).result]
    for zone in zones:
        own = zone["name"] in own_zones or zone["raw_threshold"] != content["raw_threshold"]
        results += [Result(zone["result"])] if own else []
    return max(results, key=SEVERITY.index).value
