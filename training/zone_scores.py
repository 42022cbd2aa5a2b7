"""What good images score in each zone, and which threshold would reject how many of them.

A zone without a threshold of its own is decided by the part's, which rests on all of the part: of a
zone that is darker or smoother than the rest it may lie far too high.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import InputSpec, Zone
from edge.bundle.manifest import ThresholdMethod
from edge.inspection.thresholding import lowest_that_rejects
from training.data.samples import Sample
from training.figures import Scored
from training.metrics import share_text
from training.threshold_option import ThresholdChoice

# Of good images, where no rate was chosen.
_RATE = 0.01
_OF_A_RATE = (ThresholdMethod.FALSE_REJECT_RATE, ThresholdMethod.BALANCED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneScores:
    """Raw scores of good images in a zone.

    Attributes:
        count: of images.
        threshold: in force there; ``own`` tells whether it is the zone's.
        rejected: images at or above it.
        rate: that was chosen, of good images that may be rejected.
        proposed: the lowest threshold that rejects no more of these images.
        rejected_then: images at or above that.
    """

    name: str
    count: int
    median: float
    highest: float
    threshold: float
    own: bool
    rejected: int
    rate: float
    proposed: float
    rejected_then: int


def zone_scores(
    scored: Sequence[Scored],
    spec: InputSpec,
    threshold: float,
    choice: ThresholdChoice,
    *,
    suspects: Container[Sample] = (),
) -> tuple[ZoneScores, ...]:
    """Return what good images score in each zone; nothing of a model without any.

    Args:
        threshold: of the part.
        choice: of it; where it names a rate of good parts, that counts for zones, too.
        suspects: good images that nothing rests on.
    """
    if spec.areas is None:
        return ()
    good = [one for one in scored if not one.sample.is_defective and one.sample not in suspects]
    rate = choice.numbers[0] if choice.method in _OF_A_RATE and choice.numbers else _RATE
    found = []
    for zone in spec.areas.zones:
        values = [area.score for one in good for area in one.areas if area.zone == zone]
        if values:
            found.append(_of_zone(zone, np.array(values, np.float32), threshold, rate))
    return tuple(found)


def _of_zone(zone: Zone, scores: NDArray[np.float32], common: float, rate: float) -> ZoneScores:
    threshold = common if zone.threshold is None else zone.threshold
    proposed = lowest_that_rejects(scores, rate)
    return ZoneScores(
        name=zone.name,
        count=len(scores),
        median=float(np.median(scores)),
        highest=float(scores.max()),
        threshold=threshold,
        own=zone.threshold is not None,
        rejected=int((scores >= np.float32(threshold)).sum()),
        rate=rate,
        proposed=proposed,
        rejected_then=int((scores >= np.float32(proposed)).sum()),
    )


def zone_lines(zones: Sequence[ZoneScores]) -> list[str]:
    """Return a line for each zone, for people who choose its threshold."""
    return [
        f"zone {one.name}: good images score {one.median:.4g} (median) to {one.highest:.4g}; "
        f"{'its' if one.own else 'the common'} threshold {one.threshold:.4g} "
        f"rejects {share_text(one.rejected, one.count)}; {one.proposed:.4g} would reject "
        f"{share_text(one.rejected_then, one.count)}"
        for one in zones
    ]
