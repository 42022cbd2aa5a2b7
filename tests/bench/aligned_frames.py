"""What finding the part adds to a frame, and what of it finding takes.

``python -m tests.bench.aligned_frames`` prepares a frame of 1600×1200 for a model of 256×256, with
and without looking for the part, in interleaved pairs on one thread, and prints medians of its
processor time. Without, the same region is cut at its place.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import AlignMode, Crop, InputSpec
from edge.imaging.frame import PixelFormat
from edge.inspection.alignment import locate, make_locator, reference_box
from edge.inspection.frame_prediction import view_frame
from tests.support.turned_part import HEIGHT, WIDTH, Laid, bracket

SIZE, SIDE = (1200, 1600), 256
FACTOR = SIZE[0] / HEIGHT
PAIRS = 100


def frame(laid: Laid, seed: int) -> NDArray[np.uint8]:
    """Return ``(1200, 1600, 3) uint8``: the bracket, as large as four tenths of the frame."""
    wide = bracket(laid, seed=seed)
    shown = cv2.resize(wide, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(shown, np.uint8)


def spent_ms(work: Callable[[], object]) -> float:
    """Return the processor time of this thread."""
    started = time.thread_time()
    work()
    return 1e3 * (time.thread_time() - started)


def main(pairs: str = str(PAIRS)) -> None:
    cv2.setNumThreads(1)
    upright = frame(Laid(WIDTH / 2, HEIGHT / 2, 0.0), 0)
    middle_x, middle_y = SIZE[1] / 2, SIZE[0] / 2
    width, height = round(100 * FACTOR), round(68 * FACTOR)
    roi = Crop(
        x=round(middle_x - width / 2), y=round(middle_y - height / 2), width=width, height=height
    )
    plain = InputSpec(height=SIDE, width=SIDE, pixel_formats=(PixelFormat.BGR8,), crop=roi)
    out = np.empty((SIDE, SIDE, 3), np.uint8)

    def prepared(pixels: NDArray[np.uint8], spec: InputSpec) -> None:
        view_frame(pixels, spec).fill(0, out)

    random = np.random.default_rng(0)
    for mode in AlignMode:
        most = mode.most_turn_deg
        locator = make_locator(upright, mode, roi, least_likeness=0.5, most_outside=0.0)
        box = reference_box(locator, None)
        spec = plain.model_copy(update={"crop": None, "locator": locator})
        more, alone, before = [], [], []
        for number in range(int(pairs)):
            laid = Laid(
                WIDTH / 2 + random.uniform(-30, 30),
                HEIGHT / 2 + random.uniform(-12, 12),
                random.uniform(-most, most),
            )
            pixels = frame(laid, number % 8)
            without = spent_ms(partial(prepared, pixels, plain))
            before.append(without)
            more.append(spent_ms(partial(prepared, pixels, spec)) - without)
            alone.append(spent_ms(partial(locate, pixels, locator, box)))
        print(
            f"{mode.value}: {statistics.median(before):.2f} ms without, "
            f"{statistics.median(more):+.2f} ms with, of which finding takes "
            f"{statistics.median(alone):.2f} ms; least of all pairs {min(more):+.2f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
