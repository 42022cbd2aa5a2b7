"""The figures of a split: what a model is worth on images, and how sure that is."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import InputSpec
from edge.bundle.training_record import SplitMetrics
from edge.imaging.pose import PartPose
from edge.inspection.areas import AreaScore, counted_pixels
from edge.inspection.regions import enlarge, region_resolution
from training.data.loading import read_mask
from training.data.samples import Sample
from training.metrics import (
    Interval,
    PixelFigures,
    PixelTotals,
    auroc,
    auroc_interval,
    average_precision,
    average_precision_of_each,
    bootstrap_intervals,
    f1_at,
    f1_max,
    f1_max_of_each,
    f1_reject_all,
    recall_at_false_rejects,
    recall_at_false_rejects_of_each,
    share_interval,
)
from training.metrics.scores import Labels, Scores

# Of good parts, at which the recall is quoted.
FALSE_REJECTS = 0.01

EachMetric = Callable[[Scores, Labels], NDArray[np.float64]]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Scored:
    """Raw numbers of one sample.

    Attributes:
        frame: height and width of its image, which its mask must share.
        worst: tile that gave the score; 0 for an image that is inspected whole.
        pose: of the part, where the model looks for it.
        content: SHA-256 of the image, to know it again by; zeros where nobody asks.
        areas: raw scores of all that counts, zone by zone; empty where all of the image does.
    """

    sample: Sample
    frame: tuple[int, int]
    score: float
    anomaly_map: NDArray[np.float32]
    areas: tuple[AreaScore, ...] = ()
    worst: int = 0
    content: bytes = bytes(32)
    pose: PartPose | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFigures:
    """Metrics of image scores with good and defective images.

    Attributes:
        recall_at_false_rejects: highest recall at 1 % false rejects.
        f1_reject_all: F1 of rejecting everything, to compare every F1 with.
        intervals: 95 %, by the names of the figures.
    """

    auroc: float | None
    average_precision: float | None
    f1_max: float | None
    recall_at_false_rejects: float | None
    f1_reject_all: float
    intervals: dict[str, Interval]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """What the threshold does to the images.

    Attributes:
        f1: at the threshold; None without defective images.
        false_reject_interval, miss_interval: 95 %, of the shares; None of no images.
    """

    f1: float | None
    false_rejects: int
    missed: int
    false_reject_interval: Interval | None
    miss_interval: Interval | None


class SplitTotals:
    """Takes in scored images one by one; keeps a number of each, and of pixels only counts."""

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        self._scores: list[float] = []
        self._defective: list[bool] = []
        self._pixels = PixelTotals()
        self._image_figures: dict[int, ImageFigures | None] = {}
        self.synthetic_count = 0

    def add(self, item: Scored) -> None:
        """Take in one image.

        A defective one without a mask is left out of the pixel metrics, which are taken at model
        resolution.

        Raises:
            DataError: its mask cannot be used; names the file.
        """
        self._image_figures.clear()
        self._scores.append(item.score)
        self._defective.append(item.sample.is_defective)
        self.synthetic_count += item.sample.is_synthetic
        add_pixels(self._pixels, item, self._spec)

    @property
    def scores(self) -> NDArray[np.float64]:
        return np.array(self._scores, np.float64)

    @property
    def labels(self) -> NDArray[np.bool_]:
        return np.array(self._defective, np.bool_)

    def pixel_figures(self) -> PixelFigures | None:
        return self._pixels.figures()

    def image_figures(self, seed: int) -> ImageFigures | None:
        """Return metrics of the image scores; None without defective images."""
        if seed not in self._image_figures:  # a report asks again and again
            self._image_figures[seed] = self._taken_image_figures(seed)
        return self._image_figures[seed]

    def _taken_image_figures(self, seed: int) -> ImageFigures | None:
        scores, labels = self.scores, self.labels
        if not labels.any():
            return None
        drawn: dict[str, EachMetric] = {
            "average_precision": average_precision_of_each,
            "f1_max": f1_max_of_each,
        }
        if not labels.all():
            drawn["recall_at_false_rejects"] = partial(
                recall_at_false_rejects_of_each, rate=FALSE_REJECTS
            )
        random = np.random.default_rng(seed)
        intervals = bootstrap_intervals(drawn, scores, labels, random)
        area = auroc_interval(scores, labels)
        return ImageFigures(
            auroc=auroc(scores, labels),
            average_precision=average_precision(scores, labels),
            f1_max=f1_max(scores, labels),
            recall_at_false_rejects=recall_at_false_rejects(scores, labels, FALSE_REJECTS),
            f1_reject_all=f1_reject_all(labels),
            intervals=({"auroc": area} if area else {}) | intervals,
        )

    def verdicts(self, threshold: float) -> Verdicts:
        """Count what a threshold rejects and misses."""
        scores, labels = self.scores, self.labels
        rejected = scores >= threshold
        false_rejects = int((rejected & ~labels).sum())
        missed = int((~rejected & labels).sum())
        return Verdicts(
            f1=f1_at(scores, labels, threshold) if labels.any() else None,
            false_rejects=false_rejects,
            missed=missed,
            false_reject_interval=share_interval(false_rejects, int((~labels).sum())),
            miss_interval=share_interval(missed, int(labels.sum())),
        )

    def metrics(self) -> SplitMetrics:
        """Return what the manifest keeps: figures without their intervals."""
        labels = self.labels
        counts = {"good_count": int((~labels).sum()), "defective_count": int(labels.sum())}
        if not labels.any():
            return SplitMetrics(**counts)
        pixels = self.pixel_figures()
        return SplitMetrics(
            **counts,
            image_auroc=auroc(self.scores, labels),
            image_f1_max=f1_max(self.scores, labels),
            f1_reject_all=f1_reject_all(labels),
            pixel_auroc=pixels.auroc if pixels else None,
            pixel_f1_max=pixels.f1_max if pixels else None,
            aupro=pixels.aupro if pixels else None,
        )

    def document(self, threshold: float, seed: int) -> dict[str, Any]:
        """Return all figures as one flat document, for JSON and trackers."""
        image, pixels = self.image_figures(seed), self.pixel_figures()
        verdicts = self.verdicts(threshold)
        intervals = dict(image.intervals) if image else {}
        for name, interval in (
            ("false_rejects", verdicts.false_reject_interval),
            ("missed", verdicts.miss_interval),
        ):
            if interval is not None:
                intervals[name] = interval
        return self.metrics().model_dump() | {
            "synthetic_count": self.synthetic_count,
            "image_aupr": image.average_precision if image else None,
            "recall_at_1_percent_false_rejects": image.recall_at_false_rejects if image else None,
            "pixel_aupr": pixels.average_precision if pixels else None,
            "pixel_auroc_error": pixels.auroc_error if pixels else None,
            "aupro_error": pixels.aupro_error if pixels else None,
            "f1_at_threshold": verdicts.f1,
            "false_rejects": verdicts.false_rejects,
            "missed": verdicts.missed,
            "threshold": threshold,
            "intervals": {name: interval._asdict() for name, interval in intervals.items()},
        }


def split_metrics(scored: Iterable[Scored], spec: InputSpec) -> SplitMetrics:
    """Return the metrics of a split; pixel metrics are None where no defective area is known."""
    totals = SplitTotals(spec)
    for item in scored:
        totals.add(item)
    return totals.metrics()


def add_pixels(pixels: PixelTotals, item: Scored, spec: InputSpec) -> None:
    """Count the pixels of an image whose defective area is known.

    A map of one cell says nothing about places; enlarged, its rounding would seem to.
    """
    if item.anomaly_map.size == 1:
        return
    size = region_resolution(item.anomaly_map, spec)
    mask = read_mask(item.sample, spec, item.frame, size, pose=item.pose)
    if mask is not None and spec.areas is not None:
        mask &= counted_pixels(spec, item.frame, size)
    if mask is not None:
        pixels.add(enlarge(item.anomaly_map, *size), mask)
