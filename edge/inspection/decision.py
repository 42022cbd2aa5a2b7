"""The decision of a part: its result, the reason for it, and how both follow from a score.

Scores are raw; one at or above the threshold is anomalous. A threshold has the precision of the
scores it came from (``edge.inspection.thresholding``), so that comparing it with float32 scores as
float32 or as float64 decides the same.
"""

import math
from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    """Evaluation of a part; the four values of OPC UA for Machine Vision."""

    OK = "OK"
    NOK = "NOK"
    NOT_DECIDABLE = "NOT_DECIDABLE"
    ERROR = "ERROR"


class Reason(StrEnum):
    """Machine-readable cause of a result (``verdict/1``)."""

    SCORE_BELOW = "score_below"
    SCORE_ABOVE = "score_above"
    NEAR_THRESHOLD = "near_threshold"
    FRAME_INCOMPLETE = "frame_incomplete"
    FRAME_STALE = "frame_stale"
    FRAME_FROZEN = "frame_frozen"
    FRAME_LATE = "frame_late"
    EXPOSURE_OUT_OF_RANGE = "exposure_out_of_range"
    BLUR_OR_DARK = "blur_or_dark"
    PART_NOT_FOUND = "part_not_found"
    PART_AMBIGUOUS = "part_ambiguous"
    CODE_UNREADABLE = "code_unreadable"
    CAMERA_LOST = "camera_lost"
    MODEL_ERROR = "model_error"
    TIMEOUT = "timeout"
    OVERRUN = "overrun"
    RECIPE_MISMATCH = "recipe_mismatch"
    RECIPE_UNAVAILABLE = "recipe_unavailable"
    INTERNAL = "internal"


# From the mildest to the most severe: of several decisions about a part the last one counts.
SEVERITY = (Result.OK, Result.NOT_DECIDABLE, Result.NOK, Result.ERROR)


@dataclass(frozen=True, slots=True)
class Decision:
    result: Result
    reason: Reason


def decide(score: float, threshold: float, guard_band: float = 0.0) -> Decision:
    """Decide one part on raw values.

    Args:
        score: raw image score.
        threshold: raw threshold; a score equal to it is NOK.
        guard_band: half-width, in raw units, of the band around the threshold in which a part is
            ``NOT_DECIDABLE``; 0 switches it off.

    Returns:
        ERROR when any number is not finite: a failure is never OK.
    """
    if not math.isfinite(score):
        return Decision(Result.ERROR, Reason.MODEL_ERROR)
    if not (math.isfinite(threshold) and math.isfinite(guard_band)):
        return Decision(Result.ERROR, Reason.INTERNAL)
    if abs(score - threshold) < guard_band:
        return Decision(Result.NOT_DECIDABLE, Reason.NEAR_THRESHOLD)
    if score < threshold:
        return Decision(Result.OK, Reason.SCORE_BELOW)
    return Decision(Result.NOK, Reason.SCORE_ABOVE)
