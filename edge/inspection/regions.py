"""Regions: connected parts of the anomaly map at or above the pixel threshold."""

from dataclasses import dataclass

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import InputSpec
from edge.imaging.frame import Box
from edge.imaging.kernels import kernel, part_of_kernel

MAX_REGIONS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
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
    """Enlarge a raw map bilinearly (half-pixel centres); used for regions, images and metrics."""
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
    min_area_px: int = 0,
) -> tuple[tuple[Region, ...], bool]:
    """Find the regions of a map, strongest first.

    Args:
        anomaly_map: ``(h, w)`` raw map at the resolution in which regions are to be found.
        threshold: raw pixel threshold; values at or above it belong to a region.
        placement: where the map lies in the frame.
        min_area_px: regions below this size in frame pixels are left out.

    Returns:
        At most 32 regions, and whether there were more. A box holds every frame pixel that its
        region touches, and lies inside the placement.
    """
    boxes, cells, peaks = _components(np.ascontiguousarray(anomaly_map), np.float32(threshold))
    if not len(cells):
        return (), False
    rows, columns = anomaly_map.shape
    pixels_per_cell = placement.width * placement.height / (rows * columns)
    areas_px = np.rint(cells * pixels_per_cell)
    strongest_first = np.argsort(-peaks, kind="stable")
    # Only what is reported becomes an object: a noisy map has thousands of regions.
    reported = strongest_first[areas_px[strongest_first] >= min_area_px]
    regions = []
    for label in reported[:MAX_REGIONS]:
        left, top, right, bottom = (int(value) for value in boxes[label])
        x0, x1 = _stretched(left, right, placement.width, columns)
        y0, y1 = _stretched(top, bottom, placement.height, rows)
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


@part_of_kernel
def _root(parent, label):  # type: ignore[no-untyped-def]
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@kernel((numba.types.Array(numba.float32, 2, "C", readonly=True), numba.float32))
def _components(anomaly_map, threshold):  # type: ignore[no-untyped-def]
    """Threshold, label 8-connected components and measure them in one pass.

    Returns:
        ``(N, 4)`` left, top, right, bottom (both exclusive), ``(N,)`` cells and ``(N,)`` peaks, in
        the order of their first cell.
    """
    rows, columns = anomaly_map.shape
    max_boxes = ((rows + 1) // 2) * ((columns + 1) // 2)  # no two fresh labels ever touch
    parent = np.empty(max_boxes, np.int32)
    boxes = np.empty((max_boxes, 4), np.int32)
    cells = np.zeros(max_boxes, np.int64)
    peaks = np.empty(max_boxes, np.float32)
    above = np.full(columns + 2, -1, np.int32)
    here = np.full(columns + 2, -1, np.int32)
    count = 0
    for y in range(rows):
        for x in range(columns):
            value = anomaly_map[y, x]
            if not value >= threshold:
                here[x + 1] = -1
                continue
            # The cell above touches all other neighbours, and the left one touches that above it:
            # only the left side and the upper right can be two components that meet here.
            label = above[x + 1]
            if label < 0:
                label = here[x] if here[x] >= 0 else above[x]
                other = above[x + 2]
                if label < 0:
                    label = other
                elif other >= 0:
                    label, other = _root(parent, label), _root(parent, other)
                    # The older label stays, so that the order is that of the first cells.
                    label, other = min(label, other), max(label, other)
                    parent[other] = label
            if label < 0:
                label = count
                count += 1
                parent[label] = label
                boxes[label, 0], boxes[label, 1] = x, y
                boxes[label, 2], boxes[label, 3] = x + 1, y + 1
                peaks[label] = value
            here[x + 1] = label
            cells[label] += 1
            boxes[label, 0] = min(boxes[label, 0], x)
            boxes[label, 2] = max(boxes[label, 2], x + 1)
            boxes[label, 3] = y + 1
            peaks[label] = max(peaks[label], value)
        above, here = here, above
    found = 0
    for label in range(count):
        root = _root(parent, label)
        if root != label:
            cells[root] += cells[label]
            boxes[root, 0] = min(boxes[root, 0], boxes[label, 0])
            boxes[root, 1] = min(boxes[root, 1], boxes[label, 1])
            boxes[root, 2] = max(boxes[root, 2], boxes[label, 2])
            boxes[root, 3] = max(boxes[root, 3], boxes[label, 3])
            peaks[root] = max(peaks[root], peaks[label])
    for label in range(count):
        if parent[label] == label:
            boxes[found] = boxes[label]
            cells[found], peaks[found] = cells[label], peaks[label]
            found += 1
    return boxes[:found].copy(), cells[:found].copy(), peaks[:found].copy()
