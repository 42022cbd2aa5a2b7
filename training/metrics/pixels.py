"""Pixel metrics in memory that does not grow with the number of images.

Every pixel is counted in one of 2²⁰ bins by the upper 20 bits of its float32 value, which keeps the
order of any values without knowing their range: a bin is at most 0.05 % wide. Values of one bin
count as ties. What that can change at most is part of the result; a few millionths are usual.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.inspection.thresholding import midway

_BITS = 20
_BINS = 2**_BITS
_SIGN = np.uint32(0x80000000)


class PixelFigures(NamedTuple):
    """Metrics of pixels.

    Attributes:
        auroc, average_precision, f1_max: over all pixels; F1 at its best threshold.
        aupro: area under the per-region overlap up to 30 % false positives, divided by 0.3.
        auroc_error, aupro_error: how far the exact value can lie off because of the bins.
    """

    auroc: float
    average_precision: float
    f1_max: float
    aupro: float
    auroc_error: float
    aupro_error: float


class PixelTotals:
    """Counts of good and defective pixels by map value; about 40 MB, whatever is added."""

    def __init__(self) -> None:
        self._good = np.zeros(_BINS, np.int64)
        self._defective = np.zeros(_BINS, np.int64)
        self._overlap = np.zeros(_BINS, np.float64)
        self._lowest = np.full(_BINS, np.inf, np.float32)
        self._highest = np.full(_BINS, -np.inf, np.float32)
        self._regions = 0
        self._localizes = False

    def add(self, anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Count the pixels of one image.

        Args:
            anomaly_map: ``(H, W)`` raw.
            mask: ``(H, W)``, True where defective; every connected region of it counts the same in
                AUPRO, however small.
        """
        values = np.ascontiguousarray(anomaly_map, np.float32).ravel()
        self._localizes |= bool(values.min() < values.max())
        bins = _make_bins(values)
        truth = mask.ravel()
        # The values of a map fill few of the bins; only these are touched.
        present, places = np.unique(bins, return_inverse=True)
        count = len(present)
        self._good[present] += np.bincount(places[~truth], minlength=count)
        np.minimum.at(self._lowest, bins, values)
        np.maximum.at(self._highest, bins, values)
        if not truth.any():
            return
        self._defective[present] += np.bincount(places[truth], minlength=count)
        regions, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        sizes = np.bincount(labels.ravel(), minlength=regions).astype(np.float64)
        share = np.divide(1.0, sizes, out=np.zeros(regions), where=sizes > 0)
        share[0] = 0.0  # label 0 is the background
        self._overlap[present] += np.bincount(places, share[labels.ravel()], count)
        self._regions += regions - 1

    def figures(self, limit: float = 0.3) -> PixelFigures | None:
        """Return the metrics; None without a defective or without a good pixel.

        None, too, where every map has one value only: such a model says nothing about places.

        Args:
            limit: highest false-positive rate of AUPRO.

        Source of AUPRO: Bergmann et al., The MVTec anomaly detection dataset, IJCV 2021, 6.1.
        """
        if not self._localizes:
            return None
        used = self._used()
        good, defective = self._good[used].astype(float), self._defective[used].astype(float)
        if not good.any() or not defective.any():
            return None
        rejected, found = np.cumsum(good), np.cumsum(defective)
        rates, recalls = rejected / rejected[-1], found / found[-1]
        before = np.insert(recalls, 0, 0.0)
        steps = np.diff(rates, prepend=0.0)
        auroc = float(np.sum(steps * (before[:-1] + before[1:]) / 2.0))
        gains = np.diff(before)
        precision = found / (rejected + found)
        f1 = 2.0 * found / (rejected + found + found[-1])
        overlaps = np.cumsum(self._overlap[used]) / self._regions
        aupro, aupro_error = _area_up_to(limit, rates, overlaps)
        return PixelFigures(
            auroc=auroc,
            average_precision=float(np.sum(gains * precision)),
            f1_max=float(f1.max()),
            aupro=aupro,
            auroc_error=float(np.sum(steps * gains) / 2.0),
            aupro_error=aupro_error,
        )

    def f1_adaptive(self) -> float | None:
        """Return the threshold midway between the two neighbouring values that maximise F1.

        The same as ``edge.inspection.thresholding.f1_adaptive``, but that it never lies inside a
        bin. None without defective pixels, or where every map has one value only.
        """
        if not self._localizes:
            return None
        used = self._used()
        rejected, found = np.cumsum(self._good[used]), np.cumsum(self._defective[used])
        if not len(used) or found[-1] == 0:
            return None
        f1 = 2.0 * found / (rejected + found + found[-1])
        best = int(np.argmax(f1))  # the first of several is the highest threshold
        lowest = self._lowest[used[best]]
        if best + 1 == len(used):
            return float(lowest)
        return midway(self._highest[used[best + 1]], lowest)

    def _used(self) -> NDArray[np.intp]:
        """Return the bins with pixels, highest values first."""
        return np.flatnonzero(self._good + self._defective)[::-1]


def _make_bins(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return the bin of each value; a higher value is never in a lower bin."""
    bits = (values + np.float32(0.0)).view(np.uint32)  # + 0: the negative zero is a zero
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return ordered >> np.uint32(32 - _BITS)


def _area_up_to(
    limit: float, rates: NDArray[np.float64], overlaps: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the area under a rising curve up to a rate, in shares of it, and its uncertainty."""
    rates, overlaps = np.insert(rates, 0, 0.0), np.insert(overlaps, 0, 0.0)
    last = int(np.searchsorted(rates, limit, side="right")) - 1
    at_limit = np.interp(limit, rates, overlaps)
    x, y = np.append(rates[: last + 1], limit), np.append(overlaps[: last + 1], at_limit)
    # In a bin the curve rises from one corner of a box to the other, in an unknown way; in the
    # bin that the limit cuts it may even reach its highest point before.
    off = np.sum(np.diff(x[:-1]) * np.diff(y[:-1])) / 2.0
    if last + 1 < len(rates):
        off += (limit - rates[last]) * (overlaps[last + 1] - overlaps[last])
    return float(min(np.trapezoid(y, x) / limit, 1.0)), float(off / limit)
