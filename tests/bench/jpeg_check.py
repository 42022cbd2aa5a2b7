"""What the check of a JPEG takes of a processor by its size, on real images at 640×480.

python -m tests.bench.jpeg_check FOLDER [FOLDER …]
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.imaging.image_files import SUFFIXES
from edge.imaging.jpeg_integrity import jpeg_fault

QUALITIES = (75, 90, 95)
OF_A_FOLDER = 8
PAIRS = 60
SIZE = (640, 480)
# Upper ends of what is put together, in kB.
CLASSES = (20, 40, 60, 80, 100)


@dataclass(frozen=True, slots=True)
class Checked:
    """One image.

    Attributes:
        check_ms, decode_ms: medians of the thread's own time, whoever else has the processor.
        least_ms: of the check.
    """

    size_kb: float
    check_ms: float
    least_ms: float
    decode_ms: float


def measured(encoded: NDArray[np.uint8]) -> Checked:
    """Return the time of an image's check beside that of its decoding, taken in turn."""
    assert not jpeg_fault(encoded)
    checks, decodes = [], []
    for _ in range(PAIRS):
        checks.append(_milliseconds(lambda: jpeg_fault(encoded)))
        decodes.append(_milliseconds(lambda: cv2.imdecode(encoded, cv2.IMREAD_COLOR)))
    return Checked(
        encoded.size / 1000, statistics.median(checks), min(checks), statistics.median(decodes)
    )


def _milliseconds(call: Callable[[], object]) -> float:
    began_ns = time.thread_time_ns()
    call()
    return (time.thread_time_ns() - began_ns) / 1e6


def images(folder: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield some images of a folder, as JPEGs of each quality."""
    paths = sorted(one for one in folder.rglob("*") if one.suffix.lower() in SUFFIXES)
    for path in paths[:: max(1, len(paths) // OF_A_FOLDER)][:OF_A_FOLDER]:
        pixels = cv2.imread(str(path))
        assert pixels is not None, path
        small = cv2.resize(pixels, SIZE, interpolation=cv2.INTER_AREA)
        for quality in QUALITIES:
            yield cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].reshape(-1)


def main() -> None:
    cv2.setNumThreads(1)
    found = [measured(one) for folder in sys.argv[1:] for one in images(Path(folder))]
    for low, high in zip((0, *CLASSES), CLASSES, strict=False):
        those = [one for one in found if low < one.size_kb <= high]
        if those:
            print(
                f"{low} to {high} kB, {len(those)} images: check "
                f"{statistics.median(one.check_ms for one in those):.3f} ms (least "
                f"{statistics.median(one.least_ms for one in those):.3f} ms), decoding "
                f"{statistics.median(one.decode_ms for one in those):.2f} ms"
            )


if __name__ == "__main__":
    main()
