"""What a mask with zones, and a code, add to a frame of the demo bundle.

``python -m tests.bench.masks`` prints medians of interleaved pairs.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import zxingcpp

from edge.bundle.input_spec import Areas, Zone
from edge.bundle.loading import load_bundle
from edge.imaging.codes import read_code
from edge.imaging.frame import Box, Frame
from edge.imaging.image_files import read_image
from edge.inspection.areas import counted_areas
from edge.inspection.criteria import Limits
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.frame_prediction import predict_frame
from edge.inspection.inspector import Inspector
from edge.inspection.zones import decide_areas

DEMO = Path("configs/demo")
PAIRS = 200


def main() -> None:
    """Measure and print."""
    bundle = load_bundle(DEMO / "bottle.xml")
    pixels = read_image(DEMO / "frames" / "00_good.jpg")
    height, width = pixels.shape[:2]
    output = bundle.manifest.output
    if output.map_score is None:  # the demo bundle may be older than masks are
        cells = max(1, round(0.01 * output.map_height * output.map_width))
        manifest = bundle.manifest.model_dump()
        manifest["output"]["map_score"] = {"cells": cells}
        bundle = type(bundle)(
            manifest=type(bundle.manifest).model_validate(manifest),
            sha256=bundle.sha256,
            xml=bundle.xml,
            weights=bundle.weights,
            path=bundle.path,
        )
    frame = Frame(pixels=pixels, number=1, captured_ns=0, captured_utc_ns=0)
    zones = tuple(
        Zone(name=str(n), polygon=_square(width * (n + 1) // 6, height // 3, height // 6))
        for n in range(4)
    )
    areas = Areas(width=width, height=height, ignore=(_square(5, 5, height // 5),), zones=zones)
    detector = Detector(CompiledModel(bundle))
    plain = Inspector(detector, bundle.manifest)
    masked = Inspector(detector, bundle.manifest, Limits(areas=areas, image_threshold=3.0))
    _print("frame", _pairs(lambda: plain.inspect(frame), lambda: masked.inspect(frame)))
    spec = masked.criteria.input
    predicted = predict_frame(detector, pixels, spec)
    assert predicted.counted is not None
    maps = predicted.prediction.anomaly_map[None]

    def added() -> None:
        counted = counted_areas(
            spec, pixels.shape, predicted.box, score=detector.map_score, map_shape=maps.shape[1:]
        )
        decide_areas(counted.scores(maps), masked.criteria)
        counted.only(maps[0])

    spent = [_spent(added) for _ in range(PAIRS)]
    print(f"a mask and 4 zones by themselves: {statistics.median(spent):.3f} ms")
    barcode = zxingcpp.create_barcode("SN-2026/00417", zxingcpp.BarcodeFormat.DataMatrix)
    label = np.pad(np.asarray(barcode.to_image(scale=4)), 16, constant_values=255)
    coded = pixels.copy()
    coded[20 : 20 + label.shape[0], 20 : 20 + label.shape[1]] = label[:, :, None]
    region = Box(0, 0, 200, 200)
    for name, image in (("a DataMatrix in 200×200", coded), ("none in 200×200", pixels)):
        read = partial(read_code, image, ["datamatrix"], region)
        spent = [_spent(read) for _ in range(PAIRS)]
        print(f"{name}: {statistics.median(spent):.2f} ms, at most {max(spent):.2f} ms")


def _square(x: int, y: int, side: int) -> tuple[tuple[float, float], ...]:
    return (x, y), (x + side, y), (x + side, y + side), (x, y + side)


def _spent(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - started)


def _pairs(one: Callable[[], object], other: Callable[[], object]) -> list[tuple[float, float]]:
    one(), other()
    return [(_spent(one), _spent(other)) for _ in range(PAIRS)]


def _print(name: str, pairs: list[tuple[float, float]]) -> None:
    before, after = (statistics.median(column) for column in zip(*pairs, strict=True))
    more = statistics.median(b - a for a, b in pairs)
    print(f"{name}: {before:.2f} → {after:.2f} ms, {more:+.2f} ms of a pair")


if __name__ == "__main__":
    main()
