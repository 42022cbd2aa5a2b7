"""Metrics: of image scores, of pixels, and how sure they are."""

from training.metrics.intervals import (
    Interval,
    auroc_drop_bound,
    auroc_interval,
    binomial_tail,
    bootstrap_interval,
    exact_interval,
    share_interval,
    share_text,
)
from training.metrics.pixels import PixelFigures, PixelTally
from training.metrics.scores import (
    auroc,
    average_precision,
    f1_at,
    f1_max,
    f1_reject_all,
    recall_at_false_rejects,
    roc_curve,
)

__all__ = [
    "Interval",
    "PixelFigures",
    "PixelTally",
    "auroc",
    "auroc_drop_bound",
    "auroc_interval",
    "average_precision",
    "binomial_tail",
    "bootstrap_interval",
    "exact_interval",
    "f1_at",
    "f1_max",
    "f1_reject_all",
    "recall_at_false_rejects",
    "roc_curve",
    "share_interval",
    "share_text",
]
