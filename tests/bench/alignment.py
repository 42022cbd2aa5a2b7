"""How exactly parts are found in real images that were moved by known poses.

``python -m tests.bench.alignment ../shared/data 250`` takes so many images of each set, moves each
by up to 15 % of its sides and turns it as far as its mode allows, and compares the pose found with
the known one. *own*: the image itself is the reference. *set*: one good image is the reference of
all, and the pose in the image as it was is compared with that in the moved one. ``--scale 0.1``
makes each up to 10 % larger or smaller, too, and searches that.
"""

import argparse
import math
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import AlignMode, Crop, Locator
from edge.errors import FrameUnsuitable, PartAmbiguous
from edge.imaging.pose import PartPose
from edge.inspection.alignment import Located, locate, make_locator, reference_box
from tests.support.turned_part import moved

SETS = {
    "bottle": "mvtec/bottle",
    "casting": "casting",
    "elpv": "elpv",
    "tiles": "magnetic_tile",
}
MAX_PX = 450
SHIFT, MARGIN = 0.15, 0.3
# A pose is right within these, in shares of the longest side, degrees, and shares of the size.
RIGHT_SHARE, RIGHT_DEG, RIGHT_SCALE = 0.01, 1.0, 0.01


def images(root: Path, count: int, random: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """Yield images of a set, good and defective ones, with a margin of continued background."""
    files = [
        path
        for path in sorted(root.rglob("*"))
        if path.suffix in (".png", ".jpg", ".jpeg") and "ground_truth" not in path.parts
    ]
    for index in random.permutation(len(files))[:count]:
        image = cv2.imread(str(files[index]), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        yield widened(np.asarray(image, np.uint8))


def widened(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = min(1.0, MAX_PX / max(image.shape))
    image = np.asarray(
        cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
    )
    margin = round(MARGIN * max(image.shape))
    wide = cv2.copyMakeBorder(image, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    return np.asarray(wide, np.uint8)


def whole(image: NDArray[np.uint8]) -> Crop:
    """Return where the image lies in the widened one."""
    rows, columns = image.shape
    # (1 + 2 m) of the longer side, and the shorter one with the same margins.
    margin = round(MARGIN * max(rows, columns) / (1.0 + 2.0 * MARGIN))
    return Crop(x=margin, y=margin, width=columns - 2 * margin, height=rows - 2 * margin)


def outcome(
    image: NDArray[np.uint8], by: Locator, before: PartPose, random: np.random.Generator
) -> tuple[str, float]:
    """Move an image and look for the part; return what came of it, and the time it took."""
    rows, columns = image.shape
    crop = whole(image)
    move = PartPose(
        x=columns / 2 + random.uniform(-SHIFT, SHIFT) * crop.width,
        y=rows / 2 + random.uniform(-SHIFT, SHIFT) * crop.height,
        angle_deg=random.uniform(-1, 1) * by.mode.most_turn_deg,
        pivot_x=columns / 2,
        pivot_y=rows / 2,
        scale=1.0 + random.uniform(-1, 1) * by.most_scale if by.most_scale else 1.0,
    )
    seen = moved(image, move) * random.uniform(0.85, 1.1) + random.normal(0, 2, image.shape)
    frame = np.clip(seen, 0, 255).astype(np.uint8)
    started = time.thread_time()
    try:
        found: Located | None = locate(frame, by, reference_box(by, None))
        kind = ""
    except FrameUnsuitable as error:
        found, kind = None, "ambiguous" if isinstance(error, PartAmbiguous) else "not found"
    taken_ms = 1e3 * (time.thread_time() - started)
    if found is None:
        return kind, taken_ms
    matrix = move.matrix()
    x, y = matrix[:, :2] @ (before.x, before.y) + matrix[:, 2]
    off = math.hypot(found.pose.x - x, found.pose.y - y) / max(crop.width, crop.height)
    turn = before.angle_deg + move.angle_deg - found.pose.angle_deg
    right = off <= RIGHT_SHARE and abs((turn + 180.0) % 360.0 - 180.0) <= RIGHT_DEG
    right = right and abs(found.pose.scale / (before.scale * move.scale) - 1.0) <= RIGHT_SCALE
    return "right" if right else "wrong", taken_ms


def run(
    root: Path, mode: AlignMode, count: int, *, own: bool, scale: float
) -> tuple[Counter[str], float]:
    random = np.random.default_rng(0)
    counted: Counter[str] = Counter()
    times = []
    good = next(images(root / "train/good", 1, np.random.default_rng(1)))
    limits = {"least_likeness": 0.5, "most_outside": 0.5, "most_scale": scale}
    shared = make_locator(good, mode, whole(good), **limits)
    for image in images(root, count, random):
        by = shared
        if own:
            by = make_locator(image, mode, whole(image), **limits)
        try:
            before = locate(image, by, reference_box(by, None)).pose
        except FrameUnsuitable as error:
            kind = "ambiguous" if isinstance(error, PartAmbiguous) else "not found"
            counted[kind] += 1
            continue
        kind, taken_ms = outcome(image, by, before, random)
        counted[kind] += 1
        times.append(taken_ms)
    return counted, float(np.median(times)) if times else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("count", type=int, nargs="?", default=250)
    parser.add_argument("--scale", type=float, default=0.0)
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    for own in (True, False):
        for mode in AlignMode:
            for name, folder in SETS.items():
                counted, median_ms = run(
                    chosen.data / folder, mode, chosen.count, own=own, scale=chosen.scale
                )
                figures = ", ".join(f"{counted[k]} {k}" for k in ("right", "wrong"))
                reported = ", ".join(f"{counted[k]} {k}" for k in ("ambiguous", "not found"))
                which = "own" if own else "set"
                print(f"{which} {mode.value:15} {name:8} {figures}; {reported}; {median_ms:.1f} ms")


if __name__ == "__main__":
    main()
