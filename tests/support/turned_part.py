"""A bracket with holes that lies anywhere in its frame, and images moved by known poses."""

import math
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.imaging.pose import PartPose, warped

HEIGHT, WIDTH = 180, 240
OUTLINE = [(-44, -28), (44, -28), (44, -4), (-12, -4), (-12, 28), (-44, 28)]
HOLES = [((-32, -16), 7), ((32, -16), 5), ((-29, 16), 5), ((0, -16), 3)]
# Where a defect lies, from the part's middle.
DEFECT = (16, -20)


class Laid(NamedTuple):
    """Where the part's middle lies and how it is turned, clockwise as seen."""

    x: float
    y: float
    angle_deg: float


def bracket(
    laid: Laid, defective: bool = False, seed: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)
) -> NDArray[np.uint8]:
    """Return ``(H, W, 3) uint8``: the part on a grey belt, with a dark red spot where defective."""
    fine = 4  # drawn larger, so that edges are smooth and places exact

    def at(point: tuple[float, float]) -> tuple[int, int]:
        x, y = placed(laid, point)
        return round(x * fine - 0.5), round(y * fine - 0.5)

    image = np.full((size[0] * fine, size[1] * fine, 3), (92, 90, 88), np.uint8)
    cv2.fillPoly(image, [np.array([at(point) for point in OUTLINE])], (176, 180, 184))
    for middle, radius in HOLES:
        cv2.circle(image, at(middle), radius * fine, (60, 62, 64), cv2.FILLED)
    if defective:
        cv2.circle(image, at(DEFECT), 3 * fine, (40, 40, 120), cv2.FILLED)
    image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(seed).normal(0, 2, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def placed(laid: Laid, point: tuple[float, float]) -> tuple[float, float]:
    """Return where a point of the part lies in the frame."""
    turn = math.radians(laid.angle_deg)
    x = laid.x + math.cos(turn) * point[0] - math.sin(turn) * point[1]
    return x, laid.y + math.sin(turn) * point[0] + math.cos(turn) * point[1]


def anywhere(random: np.random.Generator, most_turn_deg: float = 180.0) -> Laid:
    """Return a place at which the part lies whole in the frame."""
    return Laid(
        WIDTH / 2 + random.uniform(-35, 35),
        HEIGHT / 2 + random.uniform(-18, 18),
        random.uniform(-most_turn_deg, most_turn_deg),
    )


def write_brackets(folder: Path, fit: int = 14) -> Path:
    """Write a data set in the MVTec layout; every image shows the part at another place."""
    random = np.random.default_rng(5)
    for name, count in (("train/good", fit), ("test/good", 3), ("test/spot", 3)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = bracket(anywhere(random), name.endswith("spot"), number)
            cv2.imwrite(str(folder / name / f"{number:03}.png"), image)
    return folder


def resized_bracket(laid: Laid, scale: float, seed: int = 0) -> NDArray[np.uint8]:
    """Return the bracket so many times as large as it is drawn, on a belt that goes on."""
    upright = Laid(WIDTH / 2, HEIGHT / 2, 0.0)
    pose = PartPose(
        x=laid.x,
        y=laid.y,
        angle_deg=laid.angle_deg,
        pivot_x=upright.x,
        pivot_y=upright.y,
        scale=scale,
    )
    return moved(bracket(upright, seed=seed), pose)


def moved(image: NDArray[np.uint8], pose: PartPose) -> NDArray[np.uint8]:
    """Return an image whose content was moved by a pose; its border goes on."""
    to_new = np.vstack([pose.matrix(), [0.0, 0.0, 1.0]])
    size = image.shape[1], image.shape[0]
    return warped(image, np.linalg.inv(to_new)[:2], size, cv2.INTER_LINEAR)
