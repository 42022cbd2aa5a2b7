"""Which good images score so far above the others that they may show a defect."""

import numpy as np
from numpy.typing import NDArray

# A good image so many robust standard deviations above the median may show a defect: of N
# images 10 + 20 / N, because the deviations of a handful are known so badly.
_OUTLYING = 10.0
_OUTLYING_OF_FEW = 20.0
MIN_FOR_OUTLIERS = 4
_SPREAD_OF_MAD = 1.4826  # median deviation to standard deviation, of a normal distribution
# Scores that differ by less than this share are equal: those of one image shown again.
_EQUAL = 1e-3


def far_above(scores: NDArray[np.floating]) -> list[int]:
    """Return which of N scores lie more than 10 + 20 / N robust deviations above the median.

    Highest first; none of fewer than 4 scores.
    """
    if len(scores) < MIN_FOR_OUTLIERS:
        return []
    middle = float(np.median(scores))
    spread = _SPREAD_OF_MAD * float(np.median(np.abs(scores - middle)))
    spread = max(spread, _EQUAL * abs(middle))
    outlying = _OUTLYING + _OUTLYING_OF_FEW / len(scores)
    found = np.flatnonzero(scores - middle > outlying * spread) if spread else np.zeros(0, np.int64)
    return [int(index) for index in found[np.argsort(-scores[found], kind="stable")]]
