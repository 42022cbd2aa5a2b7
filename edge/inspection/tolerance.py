"""What the order of held-out scores guarantees of parts that come, whatever their distribution.

Of N parts drawn alike and independently, the share of all parts beyond the (k + 1)-th extreme one
follows a Beta law that knows nothing of the distribution. So a limit beyond which k of N lie is
exceeded by at most ``rate`` of all parts with a confidence of 1 − P(Binomial(N, rate) ≤ k).

Source: Wilks, Annals of Mathematical Statistics 12, 1941; as conformal calibration: Vovk, Machine
Learning 92, 2013, proposition 2a.
"""

import math

_BISECTIONS = 60
# Confidence is a sum of many terms: 299 images carry 1 % at 95 % to more digits than this.
_ROUNDING = 1e-12


def allowed_beyond(count: int, rate: float, confidence: float) -> int | None:
    """Return how many of ``count`` may lie beyond a limit that at most ``rate`` of all exceed.

    Returns:
        The largest number that carries the confidence; None where not even 0 does.

    Raises:
        ValueError: rate or confidence not between 0 and 1.
    """
    _check(rate, confidence)
    tail, beyond = 0.0, None
    for number in range(count + 1):
        tail += _binomial(number, count, rate)
        if tail > 1.0 - confidence + _ROUNDING:
            break
        beyond = number
    return beyond


def needed_count(rate: float, confidence: float) -> int:
    """Return the smallest number of parts that can carry such a rate: 299 for 0.01 at 0.95.

    Raises:
        ValueError: rate or confidence not between 0 and 1.
    """
    _check(rate, confidence)
    return math.ceil(math.log(1.0 - confidence) / math.log1p(-rate) - _ROUNDING)


def rate_bound(beyond: int, count: int, confidence: float = 0.95) -> float:
    """Return the rate that is not exceeded with this confidence when ``beyond`` of ``count`` do.

    The upper limit of Clopper and Pearson, one-sided; 1 where all lie beyond, or of no parts.

    Raises:
        ValueError: more beyond than there are; a confidence not between 0 and 1.
    """
    if not 0 <= beyond <= count:
        raise ValueError(f"{beyond} of {count} cannot lie beyond")
    _check(0.5, confidence)
    if beyond == count:
        return 1.0
    # With less than half the confidence it may lie below what was seen.
    low, high = beyond / count if confidence >= 0.5 else 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        tail = _at_most(beyond, count, middle)
        low, high = (middle, high) if tail > 1.0 - confidence else (low, middle)
    return high


def rate_interval(hits: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval of a rate of which ``hits`` of ``count`` were seen.

    Clopper and Pearson: what lies outside of each end has half of what confidence leaves. 0 to 1
    of no parts.

    Raises:
        ValueError: more hits than there are; a confidence not between 0 and 1.

    Source: Clopper and Pearson, Biometrika 26, 1934.
    """
    one_sided = (1.0 + confidence) / 2.0
    high = rate_bound(hits, count, one_sided)
    return 1.0 - rate_bound(count - hits, count, one_sided), high


def _at_most(hits: int, count: int, rate: float) -> float:
    """Return the probability of so many hits or fewer; of its terms or the others the fewer."""
    if hits < count // 2:
        return math.fsum(_binomial(number, count, rate) for number in range(hits + 1))
    return 1.0 - math.fsum(_binomial(number, count, rate) for number in range(hits + 1, count + 1))


def _binomial(hits: int, count: int, rate: float) -> float:
    if rate in (0.0, 1.0):
        return float(hits == count * rate)
    chosen = math.lgamma(count + 1) - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)
    return math.exp(chosen + hits * math.log(rate) + (count - hits) * math.log1p(-rate))


def _check(rate: float, confidence: float) -> None:
    for name, value in (("rate", rate), ("confidence", confidence)):
        if not 0.0 < value < 1.0:
            raise ValueError(f"a {name} lies between 0 and 1, it is {value:g}")
