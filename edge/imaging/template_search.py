"""Where a part lies in an image: its template, turned and shifted until it fits best.

A coarse search correlates the template with the turned image at all angles; the best places are
refined by Gauss-Newton steps from coarse to fine, to fractions of a pixel and degree. Each pose is
told apart from every other one that fits nearly as well, so that a symmetric part is no guess.

Points are continuous, the centre of the first pixel lies at (0.5, 0.5); angles turn x to y, which
is clockwise as seen.

Source: Lewis, Fast Normalized Cross-Correlation, 1995; Baker and Matthews, Lucas-Kanade 20 Years
On, IJCV 56, 2004, section 3.2 (inverse compositional).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from edge.imaging.kernels import READ_BYTES_2D, kernel
from edge.imaging.pose import at_centres

Grey = NDArray[np.uint8]
_Floats = NDArray[np.float32]

_LEVELS_PX = (20, 48)
# Turn from one trial to the next: half of it is about a pixel at the template's corner, at the
# coarse level; and a part of 90°, so that trials share turned images. What lies nearer to a better
# trial than that is the same place until it is refined.
_STEP_DEG = 11.25
# A part may be turned a little further than is searched.
_BEYOND_DEG = 3.75
_CANDIDATES = 8
_PEAKS_PER_ANGLE = 2
# What fits worse than this, or than the best by so much, is no candidate.
_MIN_COARSE_SCORE = 0.1
_COARSE_REACH = 0.3
_MAX_STEPS = 12
_CONVERGED_PX = 0.01
_MIN_VARIANCE = 0.25  # grey levels squared; nothing can be seen of a part that is flatter
# Differences of neighbouring pixels are alike: so many count as one. No two parts are more alike.
_PX_PER_INDEPENDENT = 25
_LIKEST = 0.98
# Two poses further apart than this, in shares of the template's diagonal, are two places.
_SAME_PLACE = 0.04
_SAME_ANGLE_DEG = 4.0


class TemplatePlace(NamedTuple):
    """Where the template's centre lies in an image, how it is turned and how well it fits.

    Attributes:
        x, y: pixels of the image.
        angle_deg: −180 to 180.
        score: normalized cross-correlation, at most 1.
    """

    x: float
    y: float
    angle_deg: float
    score: float


class SearchResult(NamedTuple):
    """What was found.

    Attributes:
        best: None where nothing fits at all.
        other: the best one of the other places; None where there is none.
        looseness: expected error of the best place, in its worst direction: 1 is 1 % of the
            template's longest side, or 1°.
    """

    best: TemplatePlace | None
    other: TemplatePlace | None
    looseness: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Level:
    """The template at one resolution, ready for refinement.

    Attributes:
        scale: its pixels per pixel of the template given.
        grey: uint8, for the coarse search.
        normed: zero mean, unit norm.
        steepest: ``(3, N)`` normed change by a shift in x and y in pixels, and a turn in radians.
        solver: ``(3, 3)`` inverse of the Gauss-Newton matrix.
    """

    scale: float
    grey: Grey
    normed: _Floats
    steepest: _Floats
    solver: NDArray[np.float64]


class Template:
    """A part's image, prepared for being found in others."""

    def __init__(self, grey: Grey, most_turn_deg: float) -> None:
        """Prepare an image of the part.

        Args:
            grey: ``(h, w) uint8``, its sides within ``edge.bundle.bounds``.
            most_turn_deg: 0 searches shifts alone, 180 all angles.

        Raises:
            ValueError: it shows nothing that could be found.
        """
        self._turns = most_turn_deg > 0.0
        longest = max(grey.shape)
        sizes = [size for size in _LEVELS_PX if size * 1.3 < longest]
        self._levels = [_level(grey, size / longest, self._turns) for size in sizes]
        self._levels.append(_level(grey, 1.0, self._turns))
        coarse = self._levels[0].grey
        self._quarters = tuple(np.ascontiguousarray(np.rot90(coarse, -k)) for k in range(4))
        count = math.ceil(most_turn_deg / _STEP_DEG)
        step = most_turn_deg / max(count, 1)
        self._angles = tuple(step * k for k in range(-count, count + 1))
        if most_turn_deg >= 180.0:
            self._angles = self._angles[1:]
        self._most_turn_deg = most_turn_deg

    def search(self, image: Grey) -> SearchResult:
        """Find the template in an image of its own scale.

        Args:
            image: ``(H, W) uint8``.
        """
        pyramid = [_reduced(image, level.scale) for level in self._levels]
        smooth = [cv2.GaussianBlur(one, (3, 3), 0.7) for one in pyramid]
        found = self._coarse(pyramid[0])
        for level, reduced in zip(self._levels[:2], smooth, strict=False):
            refined_ones = [_refined(level, reduced, place) for place in found]
            found = [one for one in refined_ones if one is not None and self._allowed(one, image)]
            found = self._distinct(sorted(found, key=lambda place: -place.score))
            found = [one for one in found if one.score > found[0].score - _COARSE_REACH]
        final: list[TemplatePlace] = []
        for place in found[:2]:
            for level, reduced in zip(self._levels[2:], smooth[2:], strict=True):
                refined = _refined(level, reduced, place)
                if refined is not None:
                    place = refined
            final.append(place)
        final = self._distinct(sorted(final, key=lambda place: -place.score))
        if not final:
            return SearchResult(None, None, math.inf)
        return SearchResult(
            final[0], final[1] if len(final) > 1 else None, self._looseness(final[0].score)
        )

    def _looseness(self, score: float) -> float:
        """Return the standard error of a fit of this score, by the curvature of its optimum."""
        level = self._levels[-1]
        longest = max(level.grey.shape)
        unit = np.array([0.01 * longest, 0.01 * longest, math.radians(1.0)])[: len(level.steepest)]
        matrix = (level.steepest @ level.steepest.T) * np.outer(unit, unit)
        weakest = max(float(np.linalg.eigvalsh(matrix)[0]), 1e-9)
        independent = max(level.grey.size / _PX_PER_INDEPENDENT, 1.0)
        return math.sqrt(2.0 * (1.0 - min(score, _LIKEST)) / (weakest * independent))

    def _coarse(self, image: Grey) -> list[TemplatePlace]:
        """Return the best places at the coarse level, in pixels of the template as given."""
        level = self._levels[0]
        rows, columns = image.shape
        places: list[TemplatePlace] = []
        for turn in _turns(self._angles, image.shape, max(level.grey.shape)):
            turned = _warped(image, turn.centred, turn.size)
            (a, b, to_x), (c, d, to_y) = turn.matrix
            for quarters, angle in turn.quarters:
                grey = self._quarters[quarters]
                height, width = grey.shape
                beside_y, beside_x = max(height // 4, 1), max(width // 4, 1)
                scores = cv2.matchTemplate(turned, grey, cv2.TM_CCOEFF_NORMED)
                for _ in range(_PEAKS_PER_ANGLE):
                    _, score, _, (left, top) = cv2.minMaxLoc(scores)
                    if not _MIN_COARSE_SCORE < score <= 1.001:
                        break
                    across, down = left + width / 2, top + height / 2
                    x, y = a * across + b * down + to_x, c * across + d * down + to_y
                    if 0 <= x <= columns and 0 <= y <= rows:
                        places.append(TemplatePlace(x / level.scale, y / level.scale, angle, score))
                    first_y, first_x = max(top - beside_y, 0), max(left - beside_x, 0)
                    scores[first_y : top + beside_y + 1, first_x : left + beside_x + 1] = -1.0
        places.sort(key=lambda place: -place.score)
        kept: list[TemplatePlace] = []
        for place in places:
            if len(kept) == _CANDIDATES or place.score < places[0].score - _COARSE_REACH:
                break
            if not any(self._near(place, other, 0.1, _STEP_DEG) for other in kept):
                kept.append(place)
        return kept

    def _allowed(self, place: TemplatePlace, image: Grey) -> bool:
        rows, columns = image.shape
        inside = 0 <= place.x <= columns and 0 <= place.y <= rows
        return inside and abs(place.angle_deg) <= self._most_turn_deg + _BEYOND_DEG

    def _distinct(self, places: list[TemplatePlace]) -> list[TemplatePlace]:
        kept: list[TemplatePlace] = []
        for place in places:
            if not any(self._near(place, one, _SAME_PLACE, _SAME_ANGLE_DEG) for one in kept):
                kept.append(place)
        return kept

    def _near(self, a: TemplatePlace, b: TemplatePlace, share: float, angle_deg: float) -> bool:
        diagonal = math.hypot(*self._levels[-1].grey.shape)
        turn = abs((a.angle_deg - b.angle_deg + 180.0) % 360.0 - 180.0)
        return math.hypot(a.x - b.x, a.y - b.y) <= share * diagonal and turn <= angle_deg


def _level(grey: Grey, scale: float, turns: bool) -> _Level:
    reduced = _reduced(grey, scale)
    smooth = cv2.GaussianBlur(reduced, (3, 3), 0.7).astype(np.float32)
    centred = smooth - smooth.mean()
    norm = float(np.linalg.norm(centred))
    if norm < 2.0 * math.sqrt(reduced.size):  # two grey levels
        raise ValueError("it has almost no contrast")
    normed = centred / norm
    down, across = np.gradient(normed)
    rows, columns = reduced.shape
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    y -= (rows - 1) / 2
    x -= (columns - 1) / 2
    changes = [across, down]
    if turns:
        changes.append(down * x - across * y)
    steepest = np.stack([change.ravel() for change in changes]).astype(np.float32)
    # What gain and offset explain is no motion.
    flat = normed.ravel()
    steepest -= steepest.mean(axis=1, keepdims=True)
    steepest -= (steepest @ flat)[:, None] * flat
    matrix = (steepest @ steepest.T).astype(np.float64)
    solver = np.linalg.inv(matrix + np.eye(len(matrix)) * 1e-6 * np.trace(matrix))
    return _Level(
        scale=reduced.shape[1] / grey.shape[1],
        grey=reduced,
        normed=normed,
        steepest=steepest,
        solver=solver,
    )


def _refined(level: _Level, image: Grey, place: TemplatePlace) -> TemplatePlace | None:
    """Refine a place; None where the template slides away."""
    x, y, angle, score = _gauss_newton(
        image,
        level.normed,
        level.steepest,
        level.solver,
        place.x * level.scale,
        place.y * level.scale,
        math.radians(place.angle_deg),
        0.25 * max(level.grey.shape),
    )
    if score < -1.0:
        return None
    turn = (math.degrees(angle) + 180.0) % 360.0 - 180.0
    return TemplatePlace(x / level.scale, y / level.scale, turn, score)


_READ_FLOATS = numba.types.Array(numba.float32, 2, "C", readonly=True)


@kernel(
    (
        READ_BYTES_2D,
        *[_READ_FLOATS] * 2,
        numba.types.Array(numba.float64, 2, "C", readonly=True),
        *[numba.float64] * 4,
    ),
    reorder_sums=True,
)
def _gauss_newton(  # type: ignore[no-untyped-def]
    image, normed, steepest, solver, x, y, angle, farthest
):
    """Return the best pose on the way and its score, −2 where it slid away or met nothing."""
    rows, columns = normed.shape
    height, width = image.shape
    flat = normed.reshape(-1)
    patch = np.empty(rows * columns, np.float64)
    motions = steepest.shape[0]
    start_x, start_y = x, y
    best_x, best_y, best_angle, best = x, y, angle, -2.0
    for _ in range(_MAX_STEPS):
        cosine, sine = math.cos(angle), math.sin(angle)
        reach_x = (abs(cosine) * columns + abs(sine) * rows) / 2
        reach_y = (abs(sine) * columns + abs(cosine) * rows) / 2
        inside = reach_x <= x <= width - 1 - reach_x and reach_y <= y <= height - 1 - reach_y
        for row in range(rows):
            v = row + 0.5 - rows / 2
            first_x, first_y = x - sine * v - 0.5, y + cosine * v - 0.5
            if inside:
                for column in range(columns):
                    u = column + 0.5 - columns / 2
                    at_x, at_y = first_x + cosine * u, first_y + sine * u
                    # Unsigned, so that nobody asks whether they count from the end.
                    i, j = numba.uint64(at_x), numba.uint64(at_y)
                    p, q = numba.float32(at_x - i), numba.float32(at_y - j)
                    upper = image[j, i] + (numba.float32(image[j, i + 1]) - image[j, i]) * p
                    lower = (
                        image[j + 1, i] + (numba.float32(image[j + 1, i + 1]) - image[j + 1, i]) * p
                    )
                    patch[row * columns + column] = upper + (lower - upper) * q
            else:
                for column in range(columns):
                    u = column + 0.5 - columns / 2
                    at_x = min(max(first_x + cosine * u, 0.0), width - 1.0)
                    at_y = min(max(first_y + sine * u, 0.0), height - 1.0)
                    i, j = int(at_x), int(at_y)
                    right, below = min(i + 1, width - 1), min(j + 1, height - 1)
                    p, q = at_x - i, at_y - j
                    upper = image[j, i] * (1.0 - p) + image[j, right] * p
                    lower = image[below, i] * (1.0 - p) + image[below, right] * p
                    patch[row * columns + column] = upper * (1.0 - q) + lower * q
        total = 0.0
        for k in range(patch.size):
            total += patch[k]
        mean = total / patch.size
        energy = 0.0
        for k in range(patch.size):
            patch[k] -= mean
            energy += patch[k] * patch[k]
        if energy < patch.size * _MIN_VARIANCE:
            return x, y, angle, -2.0
        norm = math.sqrt(energy)
        score = first = second = third = 0.0
        for k in range(patch.size):
            value = patch[k] / norm
            score += value * flat[k]
            difference = value - flat[k]
            first += steepest[0, k] * difference
            second += steepest[1, k] * difference
            if motions == 3:
                third += steepest[2, k] * difference
        if score > best:
            best_x, best_y, best_angle, best = x, y, angle, score
        dx = solver[0, 0] * first + solver[0, 1] * second
        dy = solver[1, 0] * first + solver[1, 1] * second
        turn = 0.0
        if motions == 3:
            dx += solver[0, 2] * third
            dy += solver[1, 2] * third
            turn = solver[2, 0] * first + solver[2, 1] * second + solver[2, 2] * third
        # The step moves the template; the pose moves by its inverse.
        angle -= turn
        cosine, sine = math.cos(angle), math.sin(angle)
        x -= cosine * dx - sine * dy
        y -= sine * dx + cosine * dy
        if math.hypot(x - start_x, y - start_y) > farthest:
            return x, y, angle, -2.0
        if max(abs(dx), abs(dy), abs(turn) * max(rows, columns) / 2) < _CONVERGED_PX:
            break
    return best_x, best_y, best_angle, best


class _Turn(NamedTuple):
    """One turn of the image in the coarse search, for all trials that differ by quarter turns.

    Attributes:
        quarters: by how many of them the template is turned, clockwise as seen, and the angle of
            the trial.
        matrix: from the turned canvas to the image.
        centred: the same as OpenCV counts.
        size: rows and columns of the canvas.
    """

    quarters: tuple[tuple[int, float], ...]
    matrix: tuple[tuple[float, float, float], ...]
    centred: NDArray[np.float64]
    size: tuple[int, int]


@lru_cache(maxsize=16)
def _turns(angles: tuple[float, ...], shape: tuple[int, ...], longest: int) -> tuple[_Turn, ...]:
    """Return the turns for trials at some angles; ``longest`` is the template's longer side."""
    rows, columns = shape
    by_turn: dict[float, list[tuple[int, float]]] = {}
    for angle in angles:
        quarters = round(angle / 90.0)
        by_turn.setdefault(angle - 90.0 * quarters, []).append((quarters % 4, angle))
    turns = []
    for angle, quarters_of in by_turn.items():
        cosine, sine = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
        across = max(math.ceil(columns * cosine + rows * sine), longest)
        down = max(math.ceil(columns * sine + rows * cosine), longest)
        matrix = _matrix(angle, (across / 2, down / 2), (columns / 2, rows / 2))
        turns.append(
            _Turn(
                tuple(quarters_of),
                tuple(map(tuple, matrix.tolist())),
                at_centres(matrix),
                (down, across),
            )
        )
    return tuple(turns)


def _matrix(
    angle_deg: float, centre: tuple[float, float], to: tuple[float, float]
) -> NDArray[np.float64]:
    """Return ``(2, 3)`` that turns about a centre and takes it to a point."""
    cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([turn, np.array(to) - turn @ np.array(centre)])


def _warped(image: Grey, matrix: NDArray[np.float64], size: tuple[int, int]) -> Grey:
    return cv2.warpAffine(
        image,
        matrix,
        size[::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _reduced(image: Grey, scale: float) -> Grey:
    if scale == 1.0:
        return image
    rows, columns = (max(round(side * scale), 1) for side in image.shape)
    return cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
