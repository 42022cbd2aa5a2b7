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
    positives = int(labels.sum())
    return 2.0 * positives / max(len(labels) + positives, 1)


def aupro(maps: Sequence[Scores], masks: Sequence[Labels], limit: float = 0.3) -> float | None:
    """Return the area under the per-region-overlap curve up to a false-positive rate.

    Every connected region of the masks counts the same, however small. Exact: each distinct value
    is a threshold, the curve is linear between them.

    Args:
        maps: ``(H, W)`` raw maps.
        masks: ``(H, W)`` bool, True where defective.
        limit: highest false-positive rate; the area is divided by it.

    Returns:
        None without a defective or without a good pixel.

    Source: Bergmann et al., The MVTec anomaly detection dataset, IJCV 2021, section 6.1.
    """
    shares: list[NDArray[np.float64]] = []
    regions = 0
    for mask in masks:
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        sizes = np.bincount(labels.ravel(), minlength=count).astype(np.float64)
        share = np.divide(1.0, sizes, out=np.zeros(count), where=sizes > 0)
        share[0] = 0.0  # label 0 is the background
        shares.append(share[labels.ravel()])
        regions += count - 1
    good = np.concatenate([~mask.ravel() for mask in masks]) if regions else np.zeros(0, np.bool_)
    if not good.any():
        return None
    values = np.concatenate([anomaly_map.ravel() for anomaly_map in maps])
    order = np.argsort(-values, kind="stable")
    last_of_tie = np.append(np.diff(values[order]) != 0, True)
    rates = np.cumsum(good[order])[last_of_tie] / good.sum()
    overlaps = np.cumsum(np.concatenate(shares)[order])[last_of_tie] / regions
    rates, overlaps = np.insert(rates, 0, 0.0), np.insert(overlaps, 0, 0.0)
    inside = rates <= limit
    at_limit = np.interp(limit, rates, overlaps)
    area = np.trapezoid(np.append(overlaps[inside], at_limit), np.append(rates[inside], limit))
    return float(min(area / limit, 1.0))
