"""Regions: connected parts of the anomaly map at or above the pixel threshold."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.frame import Box
from edge.manifest import InputSpec

MAX_REGIONS = 32


@dataclass(frozen=True, slots=True)
class Region:
    """One anomalous area, in pixels of the full frame, origin top-left.

    Attributes:
        x, y, width, height: bounding box.
        area_px: size of the area itself.
        peak: highest raw map value inside.
    """

    x: int
    y: int
    width: int
    height: int
    area_px: int
    peak: float


def enlarge(anomaly_map: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Enlarge a raw map bilinearly (half-pixel centres); used for regions, pictures and metrics."""
    return cv2.resize(anomaly_map, (width, height), interpolation=cv2.INTER_LINEAR)


def region_resolution(anomaly_map: NDArray[np.float32], spec: InputSpec) -> tuple[int, int]:
    """Return the height and width at which regions are found and pixel metrics are taken.

    The model's input for a frame that is inspected whole; the blended map's own for tiles, which
    is fine enough.
    """
    if spec.tile_plan is not None:
        return anomaly_map.shape[0], anomaly_map.shape[1]
    return spec.height, spec.width


def find_regions(
    anomaly_map: NDArray[np.float32],
    threshold: float,
    placement: Box,
    smallest_area_px: int = 0,
) -> tuple[tuple[Region, ...], bool]:
    """Find the regions of a map, strongest first.

    Args:
        anomaly_map: ``(h, w)`` raw map at the resolution in which regions are to be found.
        threshold: raw pixel threshold; values at or above it belong to a region.
        placement: where the map lies in the frame.
        smallest_area_px: regions below this size in frame pixels are left out.

    Returns:
        At most 32 regions, and whether there were more. A box holds every frame pixel that its
        region touches, and lies inside the placement.
    """
    mask = (anomaly_map >= threshold).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count == 1:
        return (), False
    rows, columns = anomaly_map.shape
    pixels_per_cell = placement.width * placement.height / (rows * columns)
    areas_px = np.rint(stats[:, cv2.CC_STAT_AREA] * pixels_per_cell)
    peaks = np.full(count, -np.inf, anomaly_map.dtype)
    inside = mask > 0
    np.maximum.at(peaks, labels[inside], anomaly_map[inside])
    strongest_first = np.argsort(-peaks[1:], kind="stable") + 1
    # Only what is reported becomes an object: a noisy map has thousands of regions.
    reported = strongest_first[areas_px[strongest_first] >= smallest_area_px]
    regions = []
    for label in reported[:MAX_REGIONS]:
        left, top, width, height = (int(value) for value in stats[label, :4])
        x0, x1 = _stretched(left, left + width, placement.width, columns)
        y0, y1 = _stretched(top, top + height, placement.height, rows)
        regions.append(
            Region(
                x=placement.x + x0,
                y=placement.y + y0,
                width=x1 - x0,
                height=y1 - y0,
                area_px=max(int(areas_px[label]), 1),
                peak=float(peaks[label]),
            )
        )
    return tuple(regions), len(reported) > MAX_REGIONS


def _stretched(start: int, stop: int, length_px: int, cells: int) -> tuple[int, int]:
    """Return the pixels that the cells ``start`` to ``stop`` touch; whole numbers, so exact."""
    return start * length_px // cells, -(-stop * length_px // cells)
