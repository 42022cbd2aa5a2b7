"""Metrics: of image scores, of pixels, and how sure they are."""

from training.metrics.intervals import (
    Interval,
    auroc_interval,
    bootstrap_interval,
    share_interval,
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
    "auroc_interval",
    "average_precision",
    "bootstrap_interval",
    "f1_at",
    "f1_max",
    "f1_reject_all",
    "recall_at_false_rejects",
    "roc_curve",
    "share_interval",
]
