"""Metrics: of image scores, of pixels, and how sure they are."""

from training.metrics.intervals import (
    Interval,
    auroc_drop_bound,
    auroc_interval,
    binomial_tail,
    bootstrap_interval,
    bootstrap_intervals,
    exact_interval,
    share_interval,
    share_text,
)
from training.metrics.pixels import PixelFigures, PixelTotals
from training.metrics.scores import (
    auroc,
    average_precision,
    average_precision_of_each,
    f1_at,
    f1_max,
    f1_max_of_each,
    f1_reject_all,
    recall_at_false_rejects,
    recall_at_false_rejects_of_each,
    roc_curve,
)

__all__ = [
    "Interval",
    "PixelFigures",
    "PixelTotals",
    "auroc",
    "auroc_drop_bound",
    "auroc_interval",
    "average_precision",
    "average_precision_of_each",
    "binomial_tail",
    "bootstrap_interval",
    "bootstrap_intervals",
    "exact_interval",
    "f1_at",
    "f1_max",
    "f1_max_of_each",
    "f1_reject_all",
    "recall_at_false_rejects",
    "recall_at_false_rejects_of_each",
    "roc_curve",
    "share_interval",
    "share_text",
]
