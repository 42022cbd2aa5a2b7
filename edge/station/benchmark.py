"""The frame path measured beside the bare network, in one interleaved run.

Machines drift and stall, so each measurement is a pair: the bare network, then the whole path, on
the same compiled model. Ratios are taken within pairs; their minimum and median are reported.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.cameras.camera import EndOfPictures
from edge.frame import Frame, Pixels
from edge.inspection.detector import Detector, Network
from edge.inspection.frame_prediction import frame_pieces
from edge.inspection.inspector import Inspector
from edge.manifest import Manifest
from edge.preparation import prepare, to_samples
from edge.resizing import resize_area

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Paired:
    """The whole path against the bare network, over ``pairs`` interleaved pairs.

    Attributes:
        bare_p50_ms, path_p50_ms: medians.
        ratio_min, ratio_median: path / bare within pairs.
        extra_min_ms, extra_median_ms: path − bare within pairs.
    """

    pairs: int
    bare_p50_ms: float
    path_p50_ms: float
    ratio_min: float
    ratio_median: float
    extra_min_ms: float
    extra_median_ms: float

    def as_json(self) -> dict[str, float]:
        return {key: round(value, 4) for key, value in asdict(self).items()}


def paired(
    bare: Callable[[], Any], path: Callable[[], Any], pairs: int, warm_up: int = 5
) -> Paired:
    """Time two functions in turn."""
    for _ in range(warm_up):
        bare()
        path()
    bare_ms, path_ms = [], []
    for _ in range(pairs):
        bare_ms.append(_milliseconds(bare))
        path_ms.append(_milliseconds(path))
    ratios = [p / b for b, p in zip(bare_ms, path_ms, strict=True)]
    extras = [p - b for b, p in zip(bare_ms, path_ms, strict=True)]
    return Paired(
        pairs,
        statistics.median(bare_ms),
        statistics.median(path_ms),
        min(ratios),
        statistics.median(ratios),
        min(extras),
        statistics.median(extras),
    )


def latency_pair(network: Network, pixels: Pixels, pairs: int) -> Paired:
    """Measure one frame: frame in → verdict decided, beside the network on prepared input.

    For tiles the bare network runs as many pictures as the frame has tiles, with all its streams.
    """
    manifest = network.manifest
    detector = Detector(network, network.plan.streams)
    inspector = Inspector(detector, manifest)
    frame = Frame(pixels, 0, time.monotonic_ns(), time.time_ns())
    prepared = prepared_pieces(pixels, manifest)
    count = len(prepared)

    def keep(index: int, out: Picture) -> None:
        """Leave the input as the last frame left it: the network alone."""

    detector.predict_all(count, lambda index, out: np.copyto(out, prepared[index]))
    return paired(
        lambda: detector.predict_all(count, keep), lambda: inspector.inspect(frame), pairs
    )


def prepared_pieces(pixels: Pixels, manifest: Manifest) -> list[Picture]:
    """Return the model inputs of a frame: one, or one for each tile."""
    spec = manifest.input
    if spec.tile_plan is None:
        return [prepare(pixels, spec)]
    samples = to_samples(pixels, spec)
    pieces = frame_pieces(pixels, spec).boxes
    prepared = [np.empty((spec.height, spec.width, 3), np.uint8) for _ in pieces]
    for box, out in zip(pieces, prepared, strict=True):
        resize_area(samples, box, out)
    return prepared


class MemoryCamera:
    """Frames from memory, as fast as they are taken: a camera that is never the limit."""

    identity = "pictures in memory"
    simulated = True
    can_wait = True

    def __init__(self, pictures: Sequence[Pixels], count: int) -> None:
        self._pictures = cycle(pictures)
        self._left = count
        self._number = 0

    def read(self, timeout_s: float) -> Frame | None:
        if self._number == self._left:
            raise EndOfPictures
        self._number += 1
        return Frame(next(self._pictures), self._number, time.monotonic_ns(), time.time_ns())

    def close(self) -> None:
        """Nothing is held open."""


def _milliseconds(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return (time.perf_counter() - started) * 1e3
