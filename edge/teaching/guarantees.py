"""What a threshold guarantees, in one sentence for whoever releases a model."""

from edge.bundle.manifest import Threshold
from edge.bundle.training_record import GoodCheck
from edge.wording import SUSPECTS, counted

_KINDS = {
    "false_reject_rate": ("good parts are rejected", "good", "defective parts pass"),
    "miss_rate": ("defective parts pass", "defective", "good parts are rejected"),
}


def guarantee_sentence(threshold: Threshold, check: GoodCheck | None) -> str:
    """Return what holds of parts that come, on what it rests, and what it says nothing about.

    Args:
        check: the search for good images that nothing rests on, because they look like defects.
    """
    found = threshold.guarantee
    if found is None:
        return (
            "Nothing is guaranteed: the threshold is an estimate. A rate with a confidence, such "
            "as --threshold false-reject-rate=0.01@0.95, is a guarantee."
        )
    what, kind, other = _KINDS[found.of]
    left_out = check.suspect_count if check is not None else 0
    folds = threshold.cross_validated_count if found.of == "false_reject_rate" else 0
    validated = (
        f" ({folds} of them scored by models that were fitted without them)" if folds else ""
    )
    aside = (
        f" {counted(left_out, *SUSPECTS)}, left out; the guarantee does not cover parts like them."
        if left_out and found.of == "false_reject_rate"
        else ""
    )
    return (
        f"With a confidence of {100.0 * found.confidence:.3g} % at most "
        f"{100.0 * found.rate:.3g} % of {what}, as long as parts, light and camera "
        f"stay like those of the {found.count} {kind} calibration images{validated}; "
        f"images of only one part or one hour do not represent production.{aside} How "
        f"many {other} is not guaranteed."
    )
