"""Two models on the same good images and on defects that were pasted into these very images."""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.metrics.scores import Scores, counts_below


class ClusteredScores(NamedTuple):
    """Raw scores of N images and of what was made of each.

    Attributes:
        good: ``(N,)``, of the images as they are.
        defective: ``(N, K)``, of the K defects that were pasted into each.
    """

    good: Scores
    defective: Scores


class AurocGain(NamedTuple):
    """By how much the AUROC of one model exceeds that of another, and between which bounds."""

    gain: float
    low: float
    high: float


def clustered_auroc(scores: ClusteredScores) -> float:
    """Return the area under the ROC curve; ties count half."""
    return float(_placed_defective(scores).mean())


def auroc_gain(before: ClusteredScores, after: ClusteredScores, confidence: float) -> AurocGain:
    """Return what the AUROC gains, with its two-sided interval.

    An image and the defects pasted into it are one draw, and both models see the same ones: the
    spread is that of the images' shares in the difference, with Student's quantile for few images.

    Args:
        before, after: of the same N images, N at least 2.

    Source: Obuchowski, Biometrics 53, 1997: ROC curves of clustered data, two of them compared.
    """
    shares = _shares(after) - _shares(before)
    count = len(shares)
    gain = clustered_auroc(after) - clustered_auroc(before)
    reach = student_quantile(0.5 + confidence / 2.0, count - 1)
    reach *= float(shares.std(ddof=1)) / math.sqrt(count)
    return AurocGain(gain, gain - reach, gain + reach)


def student_quantile(probability: float, freedom: int) -> float:
    """Return a quantile of Student's distribution.

    At 4 degrees of freedom and 99.5 % it is 0.3 % too small, from 9 on exact to four digits.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 1964, 26.7.5.
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
        (79.0 * z**9 + 776.0 * z**7 + 1482.0 * z**5 - 1920.0 * z**3 - 945.0 * z) / 92160.0,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))


def _shares(scores: ClusteredScores) -> NDArray[np.float64]:
    """Return ``(N,)``: what each image, good and with its defects, brings to the area."""
    per_good = (
        counts_below(np.sort(-scores.defective.ravel()), -scores.good) / scores.defective.size
    )
    return _placed_defective(scores).mean(1) + per_good


def _placed_defective(scores: ClusteredScores) -> NDArray[np.float64]:
    return counts_below(np.sort(scores.good), scores.defective) / len(scores.good)
