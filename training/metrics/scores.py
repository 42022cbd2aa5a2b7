"""Metrics of image scores in plain numbers: exact, by ranks, no clipping and no hidden sigmoid.

Scores are raw, higher is more anomalous. Labels are True for defective.
"""

from typing import NamedTuple

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
    return float(f1_max_of_each(scores[None], labels)[0]) if labels.any() else None


def f1_max_of_each(scores: Scores, labels: Labels) -> NDArray[np.float64]:
    """Return ``(D,)``: ``f1_max`` of each row of ``(D, N)`` scores; the labels are those of all."""
    counts = _threshold_counts(scores, labels)
    f1 = 2.0 * counts.found / (counts.rejected + int(labels.sum()))
    return np.where(counts.is_last_of_tie, f1, 0.0).max(1)


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
    return float(average_precision_of_each(scores[None], labels)[0]) if labels.any() else None


def average_precision_of_each(scores: Scores, labels: Labels) -> NDArray[np.float64]:
    """Return ``(D,)``: ``average_precision`` of each row of ``(D, N)`` scores."""
    counts = _threshold_counts(scores, labels)
    precision = counts.found / counts.rejected
    # Each defective one counts with the precision at the end of its tie.
    column = np.arange(scores.shape[1])
    ends = np.where(counts.is_last_of_tie, column, len(column))[:, ::-1]
    ends = np.minimum.accumulate(ends, axis=1)[:, ::-1]
    hits = np.diff(counts.found, prepend=0, axis=1)
    return (hits * np.take_along_axis(precision, ends, 1)).sum(1) / int(labels.sum())


def recall_at_false_rejects(scores: Scores, labels: Labels, rate: float) -> float | None:
    """Return the highest recall of any threshold that rejects at most ``rate`` of the good."""
    if labels.all() or not labels.any():
        return None
    return float(recall_at_false_rejects_of_each(scores[None], labels, rate)[0])


def recall_at_false_rejects_of_each(
    scores: Scores, labels: Labels, rate: float
) -> NDArray[np.float64]:
    """Return ``(D,)``: ``recall_at_false_rejects`` of each row of ``(D, N)`` scores."""
    counts = _threshold_counts(scores, labels)
    positives = int(labels.sum())
    rates = (counts.rejected - counts.found) / (len(labels) - positives)
    allowed = counts.is_last_of_tie & (rates <= rate)
    return np.where(allowed, counts.found / positives, 0.0).max(1)


class _ThresholdCounts(NamedTuple):
    """Of ``(D, N)`` scores, each row from the highest down: what lies at or above each.

    Attributes:
        found: defective ones.
        rejected: all of them.
        is_last_of_tie: a threshold lies only between different scores.
    """

    found: NDArray[np.int64]
    rejected: NDArray[np.int64]
    is_last_of_tie: NDArray[np.bool_]


def _threshold_counts(scores: Scores, labels: Labels) -> _ThresholdCounts:
    order = np.argsort(-scores, axis=1, kind="stable")
    ordered = np.take_along_axis(scores, order, 1)
    is_last = np.ones(scores.shape, np.bool_)
    is_last[:, :-1] = ordered[:, 1:] != ordered[:, :-1]
    found = np.cumsum(labels[order], axis=1, dtype=np.int64)
    return _ThresholdCounts(found, np.arange(1, scores.shape[1] + 1), is_last)


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
