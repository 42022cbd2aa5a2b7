"""Regions: connected parts of the anomaly map at or above the pixel threshold."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the anomaly map lies in the frame, in frame pixels (the crop, or the whole frame)."""

    x: int
    y: int
    width: int
    height: int


def enlarge(anomaly_map: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Enlarge a raw map bilinearly (half-pixel centres); used for regions, pictures and metrics."""
    return cv2.resize(anomaly_map, (width, height), interpolation=cv2.INTER_LINEAR)


def find_regions(
    anomaly_map: NDArray[np.float32],
    threshold: float,
    placement: Placement,
    smallest_area_px: int = 0,
) -> tuple[tuple[Region, ...], bool]:
    """Find the regions of a map, strongest first.

    Args:
        anomaly_map: ``(h, w)`` raw map at the resolution in which regions are to be found.
        threshold: raw pixel threshold; values at or above it belong to a region.
        placement: where the map lies in the frame.
        smallest_area_px: regions below this size in frame pixels are left out.

    Returns:
        At most 32 regions, and whether there were more.
    """
    mask = (anomaly_map >= threshold).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count == 1:
        return (), False
    rows, columns = anomaly_map.shape
    scale_x, scale_y = placement.width / columns, placement.height / rows
    peaks = np.full(count, -np.inf, np.float32)
    np.maximum.at(peaks, labels[mask > 0], anomaly_map[mask > 0])
    found = []
    for label in np.argsort(-peaks[1:], kind="stable") + 1:
        left, top, width, height, cells = (int(value) for value in stats[label])
        area_px = round(cells * scale_x * scale_y)
        if area_px < smallest_area_px:
            continue
        x0, y0 = int(left * scale_x), int(top * scale_y)
        x1, y1 = int(np.ceil((left + width) * scale_x)), int(np.ceil((top + height) * scale_y))
        found.append(
            Region(
                x=placement.x + x0,
                y=placement.y + y0,
                width=min(x1, placement.width) - x0,
                height=min(y1, placement.height) - y0,
                area_px=max(area_px, 1),
                peak=float(peaks[label]),
            )
        )
    return tuple(found[:MAX_REGIONS]), len(found) > MAX_REGIONS
