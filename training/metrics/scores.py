"""Metrics of image scores in plain numbers: exact, by ranks, no clipping and no hidden sigmoid.

Scores are raw, higher is more anomalous. Labels are True for defective.
"""

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


def average_precision(scores: Scores, labels: Labels) -> float | None:
    """Return the area under the precision-recall curve (AUPR), as steps, without interpolation."""
    positives = int(labels.sum())
    if positives == 0:
        return None
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    found = np.cumsum(labels[order])[last_of_tie]
    precision = found / np.arange(1, len(order) + 1)[last_of_tie]
    return float(np.sum(np.diff(found, prepend=0) * precision) / positives)


def recall_at_false_rejects(scores: Scores, labels: Labels, rate: float) -> float | None:
    """Return the highest recall of any threshold that rejects at most ``rate`` of the good."""
    rates, recalls = roc_curve(scores, labels)
    if not len(rates):
        return None
    return float(recalls[rates <= rate].max())


def roc_curve(scores: Scores, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return false-reject rates and recalls of all thresholds, ascending from 0 to 1.

    Both are empty if a class is missing.
    """
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        return np.zeros(0), np.zeros(0)
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    found = np.cumsum(labels[order])[last_of_tie] / positives
    rejected = np.cumsum(~labels[order])[last_of_tie] / negatives
    return np.insert(rejected, 0, 0.0), np.insert(found, 0, 0.0)


def counts_below(ordered: Scores, values: Scores) -> NDArray[np.float64]:
    """Return how many of the ordered scores lie below each value; ties count half."""
    left = np.searchsorted(ordered, values, side="left")
    right = np.searchsorted(ordered, values, side="right")
    return np.asarray((left + right) / 2.0, np.float64)
