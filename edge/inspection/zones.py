"""What zones decide: each by its own limits, the part by the most severe of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import Zone
from edge.imaging.frame import Box
from edge.inspection.areas import AreaScore, CountedAreas
from edge.inspection.criteria import DecisionCriteria
from edge.inspection.decision import SEVERITY, Decision, Result, decide
from edge.inspection.normalization import ScoreScale, normalize
from edge.inspection.regions import MAX_REGIONS, Region, enlarge, find_regions

# How the areas that make a result are named.
_MADE = {Result.NOK: ("rejected", "by"), Result.NOT_DECIDABLE: ("undecided", "in")}


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneDecision:
    """What was decided about one zone.

    Attributes:
        score, threshold: raw.
        normalized_score: with the zone's own threshold at 0.5.
    """

    name: str
    result: Result
    score: float
    threshold: float
    normalized_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AreasDecision:
    """What was decided about a part area by area.

    Attributes:
        score: raw, of the area that decided, as far above the part's threshold as it lies above
            its own; so one threshold holds for the score of every part.
        detail: names the areas that make the result of a part that did not pass; empty without
            zones.
    """

    decision: Decision
    score: float
    zones: tuple[ZoneDecision, ...]
    detail: str


def decide_areas(scores: Sequence[AreaScore], criteria: DecisionCriteria) -> AreasDecision:
    """Decide a part by the scores of its areas."""
    zones = []
    decided: list[tuple[float, Decision]] = []
    for zone, score, _ in scores:
        threshold, guard_band = _threshold(zone, criteria), criteria.guard_band
        if zone is not None and zone.guard_band is not None:
            guard_band = zone.guard_band * criteria.image_scale.range
        decision = decide(score, threshold, guard_band)
        decided.append((_moved(score, threshold, criteria.threshold), decision))
        if zone is not None:
            scale = ScoreScale(threshold, criteria.image_scale.range)
            zones.append(
                ZoneDecision(
                    name=zone.name,
                    result=decision.result,
                    score=score,
                    threshold=threshold,
                    normalized_score=float(normalize(np.asarray(score), scale)),
                )
            )
    worst = max(decided, key=lambda one: (SEVERITY.index(one[1].result), one[0]))
    results = [
        (area.zone, decision.result) for area, (_, decision) in zip(scores, decided, strict=True)
    ]
    return AreasDecision(
        decision=worst[1],
        score=worst[0],
        zones=tuple(zones),
        detail=_named(results, worst[1].result),
    )


def deciding_score(scores: Sequence[AreaScore], criteria: DecisionCriteria) -> float:
    """Return how far the worst area lies above its own threshold, from the part's on.

    At or above the part's threshold it rejects the part, whichever area it is of.
    """
    return max(
        _moved(score, _threshold(zone, criteria), criteria.threshold) for zone, score, _ in scores
    )


def _threshold(zone: Zone | None, criteria: DecisionCriteria) -> float:
    return criteria.threshold if zone is None or zone.threshold is None else zone.threshold


def _moved(score: float, threshold: float, common: float) -> float:
    """Return a score that lies to the common threshold as it does to its own."""
    if threshold == common:
        return score
    moved = common + (score - threshold)
    below = math.nextafter(common, -math.inf)
    return min(moved, below) if score < threshold else moved


def _named(decided: Sequence[tuple[Zone | None, Result]], result: Result) -> str:
    """Name the areas that make a part's result; what others say is in the zones."""
    what = _MADE.get(result)
    if what is None or all(zone is None for zone, _ in decided):
        return ""
    names = [zone.name for zone, found in decided if zone is not None and found is result]
    places = []
    if names:
        places.append(f"{what[1]} zone{'s' * (len(names) > 1)} {', '.join(map(repr, names))}")
    if (None, result) in decided:
        places.append("outside of the zones")
    return f"{what[0]} {' and '.join(places)}"


def area_regions(
    counted: CountedAreas,
    anomaly_map: NDArray[np.float32],
    box: Box,
    criteria: DecisionCriteria,
) -> tuple[tuple[Region, ...], bool]:
    """Find the regions of each area by its own limits, strongest first.

    Args:
        anomaly_map: ``(h, w)`` raw, of what counts.
        box: where it lies.

    Returns:
        At most 32 regions, and whether there were more. One that reaches from one zone into
        another is one in each.
    """
    regions: list[Region] = []
    more, highest = False, float(anomaly_map.max())
    enlarged: NDArray[np.float32] | None = None
    for area in counted.areas:
        threshold, smallest = criteria.pixel_threshold, criteria.smallest_region_px
        zone: Zone | None = area.zone
        if zone is not None:
            threshold = threshold if zone.pixel_threshold is None else zone.pixel_threshold
            if zone.smallest_region_px is not None:
                smallest = zone.smallest_region_px
        if highest < threshold:
            continue
        if enlarged is None:
            enlarged = enlarge(anomaly_map, *area.pixels.shape)
        inside = np.where(area.pixels, enlarged, np.float32(-np.inf))
        found, truncated = find_regions(inside, threshold, box, smallest)
        regions += found
        more = more or truncated
    regions.sort(key=lambda region: -region.peak)
    return tuple(regions[:MAX_REGIONS]), more or len(regions) > MAX_REGIONS
