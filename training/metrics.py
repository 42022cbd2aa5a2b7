"""Metrics in plain numbers: exact, by ranks, no clipping and no hidden sigmoid.

Scores are raw, higher is more anomalous. Labels are True for defective.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
Labels = NDArray[np.bool_]


def auroc(scores: Scores, labels: Labels) -> float | None:
    """Return the area under the ROC curve; ties count half. None if a class is missing."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        return None
    ordered = np.sort(scores[~labels])
    defective = scores[labels]
    below = np.searchsorted(ordered, defective, side="left")
    not_above = np.searchsorted(ordered, defective, side="right")
    wins = (below.sum(dtype=np.float64) + not_above.sum(dtype=np.float64)) / 2.0
    return float(wins / (positives * negatives))


def f1_max(scores: Scores, labels: Labels) -> float | None:
    """Return the highest F1 over all thresholds with ``score >= threshold`` as defective."""
    positives = int(labels.sum())
    if positives == 0:
        return None
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(labels[order])
    rejected = np.arange(1, len(order) + 1)
    # A threshold lies only between different scores.
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    f1 = 2.0 * found / (rejected + positives)
    return float(f1[last_of_tie].max())


def f1_at(scores: Scores, labels: Labels, threshold: float) -> float:
    """Return F1 at one threshold; 0 when nothing is rejected and nothing is defective."""
    rejected = scores >= threshold
    hits = int((rejected & labels).sum())
    total = int(rejected.sum()) + int(labels.sum())
    return 2.0 * hits / total if total else 0.0


def f1_reject_all(labels: Labels) -> float:
    """Return the F1 of rejecting everything: what any quoted F1 must be compared with."""
    return 2.0 * int(labels.sum()) / (len(labels) + int(labels.sum()))


def aupro(
    maps: Sequence[Scores], masks: Sequence[Labels], limit: float = 0.3, points: int = 500
) -> float | None:
    """Return the area under the per-region-overlap curve up to a false-positive rate.

    Every connected region of the masks counts the same, however small.

    Args:
        maps: ``(H, W)`` raw maps.
        masks: ``(H, W)`` bool, True where defective.
        limit: highest false-positive rate; the area is divided by it.
        points: false-positive rates at which the overlap is evaluated.

    Source: Bergmann et al., The MVTec anomaly detection dataset, IJCV 2021, section 6.1.
    """
    regions: list[Scores] = []
    good: list[Scores] = []
    for anomaly_map, mask in zip(maps, masks, strict=True):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        regions += [np.sort(anomaly_map[labels == label]) for label in range(1, count)]
        good.append(anomaly_map[~mask])
    if not regions:
        return None
    background = np.sort(np.concatenate(good))
    rates = np.linspace(0.0, limit, points)
    # Of the background, at most this share lies strictly above the value.
    passed = len(background) - np.floor(rates * len(background)).astype(np.int64)
    values = background[np.maximum(passed - 1, 0)]
    overlaps = np.zeros(points)
    for region in regions:
        overlaps += 1.0 - np.searchsorted(region, values, side="right") / len(region)
    return float(np.trapezoid(overlaps / len(regions), rates) / limit)
