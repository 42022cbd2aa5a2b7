"""The coarse search for a template: correlated with an image at all angles and sizes.

Source: Lewis, Fast Normalized Cross-Correlation, 1995.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.imaging.pose import at_centres
from edge.imaging.template_refinement import Grey, TemplatePlace

# Turn from one trial to the next: half of it is about a pixel at the template's corner; and a part
# of 90°, so that trials share turned images.
STEP_DEG = 11.25
# From one trial of a size to the next: half of it is half a pixel at the template's edge.
_STEP_SCALE = 0.1
# Of each trial so many places are looked at; what fits worse than this is none.
_PEAKS = 2
_MIN_SCORE = 0.1


class CoarseTemplate:
    """A template of a few hundred pixels, and how it may lie."""

    def __init__(self, grey: Grey, most_turn_deg: float, most_scale: float) -> None:
        """Prepare the template and the angles and sizes that are tried.

        Args:
            grey: ``(h, w) uint8``.
            most_turn_deg: 0 searches no turns, 180 all.
            most_scale: share by which it may be larger or smaller; 0 searches one size.
        """
        self._quarters = tuple(np.ascontiguousarray(np.rot90(grey, -k)) for k in range(4))
        count = math.ceil(most_turn_deg / STEP_DEG)
        step = most_turn_deg / max(count, 1)
        self._angles = tuple(step * k for k in range(-count, count + 1))
        if most_turn_deg >= 180.0:
            self._angles = self._angles[1:]
        count = max(math.ceil(2.0 * most_scale / _STEP_SCALE), 1)
        self._scales = tuple(1.0 + most_scale * ((2 * k + 1) / count - 1.0) for k in range(count))

    def places(self, image: Grey) -> list[TemplatePlace]:
        """Return the best places of each trial that lie in an image, the best of all first.

        Args:
            image: ``(H, W) uint8`` of the template's resolution.
        """
        rows, columns = image.shape
        places: list[TemplatePlace] = []
        longest = max(self._quarters[0].shape)
        turns = _turns(self._angles, self._scales, image.shape, longest)
        canvases = cv2.remap(image, *turns.maps, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
        for turn in turns.each:
            turned = canvases[turn.first : turn.first + turn.size[0], : turn.size[1]]
            (a, b, to_x), (c, d, to_y) = turn.matrix
            for quarters, angle in turn.quarters:
                grey = self._quarters[quarters]
                height, width = grey.shape
                beside_y, beside_x = max(height // 4, 1), max(width // 4, 1)
                scores = cv2.matchTemplate(turned, grey, cv2.TM_CCOEFF_NORMED)
                for _ in range(_PEAKS):
                    _, score, _, (left, top) = cv2.minMaxLoc(scores)
                    if not _MIN_SCORE < score <= 1.001:
                        break
                    across, down = left + width / 2, top + height / 2
                    x, y = a * across + b * down + to_x, c * across + d * down + to_y
                    if 0 <= x <= columns and 0 <= y <= rows:
                        places.append(TemplatePlace(x, y, angle, score, turn.scale))
                    first_y, first_x = max(top - beside_y, 0), max(left - beside_x, 0)
                    scores[first_y : top + beside_y + 1, first_x : left + beside_x + 1] = -1.0
        places.sort(key=lambda place: -place.score)
        return places


class _Turn(NamedTuple):
    """One turn of the image, for all trials that differ by quarter turns.

    Attributes:
        quarters: by how many of them the template is turned, clockwise as seen, and the angle of
            the trial.
        scale: how many times as large as the template the part is.
        matrix: from the turned canvas to the image.
        first: row of the canvas among those of all turns, one below the other.
        size: rows and columns of the canvas.
    """

    quarters: tuple[tuple[int, float], ...]
    scale: float
    matrix: tuple[tuple[float, float, float], ...]
    first: int
    size: tuple[int, int]


class _Turns(NamedTuple):
    """All turns of an image of one shape.

    Attributes:
        maps: of OpenCV, from all canvases to the image: one call takes a third of the time of many.
    """

    each: tuple[_Turn, ...]
    maps: tuple[NDArray[np.int16], NDArray[np.uint16]]


@lru_cache(maxsize=16)
def _turns(
    angles: tuple[float, ...], scales: tuple[float, ...], shape: tuple[int, ...], longest: int
) -> _Turns:
    """Return the turns for trials at some angles and sizes.

    Args:
        longest: the template's longer side.
    """
    rows, columns = shape
    by_turn: dict[float, list[tuple[int, float]]] = {}
    for angle in angles:
        quarters = round(angle / 90.0)
        by_turn.setdefault(angle - 90.0 * quarters, []).append((quarters % 4, angle))
    turns, places, first = list[_Turn](), list[NDArray[np.float32]](), 0
    for scale in scales:
        for angle, quarters_of in by_turn.items():
            cosine, sine = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
            across = max(math.ceil((columns * cosine + rows * sine) / scale), longest)
            down = max(math.ceil((columns * sine + rows * cosine) / scale), longest)
            matrix = _matrix(angle, scale, (across / 2, down / 2), (columns / 2, rows / 2))
            rows_of = tuple(map(tuple, matrix.tolist()))
            turns.append(_Turn(tuple(quarters_of), scale, rows_of, first, (down, across)))
            places.append(_places(at_centres(matrix), (down, across)))
            first += down
    widest = max(turn.size[1] for turn in turns)
    padded = [np.pad(one, ((0, 0), (0, widest - one.shape[1]), (0, 0))) for one in places]
    return _Turns(tuple(turns), cv2.convertMaps(np.concatenate(padded), None, cv2.CV_16SC2))


def _places(matrix: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return ``(h, w, 2)`` where the pixels of a canvas lie in the image."""
    across, down = np.meshgrid(np.arange(size[1]), np.arange(size[0]))
    points = np.stack([across, down, np.ones_like(across)], axis=-1)
    return np.asarray(points @ matrix.T, np.float32)


def _matrix(
    angle_deg: float, scale: float, centre: tuple[float, float], to: tuple[float, float]
) -> NDArray[np.float64]:
    """Return ``(2, 3)`` that turns and resizes about a centre and takes it to a point."""
    cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    turn = scale * np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([turn, np.array(to) - turn @ np.array(centre)])
