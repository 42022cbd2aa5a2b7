"""Which threshold a user asks for, as one word on the command line or in YAML."""

import math

from edge.bundle.manifest import ThresholdMethod
from edge.teaching.threshold_choice import ThresholdChoice
from edge.wording import counted
from training.command_line import THRESHOLD_FORMS
from training.errors import SettingError

__all__ = ["AUTOMATIC", "ThresholdChoice", "parse_threshold"]

AUTOMATIC = "auto"

# Methods whose rate may be guaranteed; that of misses always is, for ``recall`` is its estimate.
_GUARANTEED = (ThresholdMethod.FALSE_REJECT_RATE, ThresholdMethod.MISS_RATE)
_NUMBERS = {
    AUTOMATIC: (None, 0, 0),
    "f1": (ThresholdMethod.F1_ADAPTIVE, 0, 0),
    "f1-adaptive": (ThresholdMethod.F1_ADAPTIVE, 0, 0),
    "recall": (ThresholdMethod.RECALL, 1, 1),
    "false-reject-rate": (ThresholdMethod.FALSE_REJECT_RATE, 1, 1),
    "miss-rate": (ThresholdMethod.MISS_RATE, 1, 1),
    "quantile": (ThresholdMethod.QUANTILE, 0, 2),
    "balanced": (ThresholdMethod.BALANCED, 0, 2),
    "manual": (ThresholdMethod.MANUAL, 1, 1),
}


def parse_threshold(text: str) -> ThresholdChoice:
    """Read ``recall=0.99`` and the like.

    Raises:
        SettingError: no such method, or its numbers are missing, too many or out of range.
    """
    name, _, rest = text.strip().replace("_", "-").partition("=")
    if name not in _NUMBERS:
        raise SettingError(f"threshold {text!r} does not exist. Give {THRESHOLD_FORMS}.")
    method, minimum, maximum = _NUMBERS[name]
    rest, at, behind = rest.partition("@")
    try:
        numbers = tuple(float(part) for part in rest.split(",")) if rest else ()
        confidence = float(behind) if at else None
    except ValueError:
        raise SettingError(
            f"threshold {text!r}: {rest + at + behind!r} is no number. Give {THRESHOLD_FORMS}."
        ) from None
    if not minimum <= len(numbers) <= maximum:
        raise SettingError(
            f"threshold {text!r}: {counted(len(numbers), 'number')} given. Give {THRESHOLD_FORMS}."
        )
    if not all(math.isfinite(number) for number in numbers):
        raise SettingError(f"threshold {text!r}: give finite numbers.")
    _check_range(text, method, numbers)
    if confidence is not None:
        if method not in _GUARANTEED:
            raise SettingError(
                f"threshold {text!r}: has no confidence to be given. Give {THRESHOLD_FORMS}."
            )
        if not 0.0 < confidence < 1.0:
            raise SettingError(
                f"threshold {text!r}: the confidence {behind} must lie between 0 and 1, such as "
                "0.95."
            )
    elif method is ThresholdMethod.MISS_RATE:
        raise SettingError(
            f"threshold {text!r}: say with which confidence, such as {text}@0.95; recall="
            f"{1.0 - numbers[0]:g} is an estimate without."
        )
    return ThresholdChoice(method, numbers, confidence)


def _check_range(text: str, method: ThresholdMethod | None, numbers: tuple[float, ...]) -> None:
    if method is ThresholdMethod.MANUAL or not numbers:
        return
    first = numbers[0]
    below_one = (*_GUARANTEED, ThresholdMethod.BALANCED)
    if not 0.0 < first <= 1.0 or (method in below_one and first == 1.0):
        raise SettingError(
            f"threshold {text!r}: {first:g} must lie between 0 and 1. Give {THRESHOLD_FORMS}."
        )
    if len(numbers) > 1 and numbers[1] < 0.0:
        raise SettingError(f"threshold {text!r}: the margin {numbers[1]:g} must not be below 0.")
