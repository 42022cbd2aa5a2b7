"""A template at one resolution: its place in an image to fractions of a pixel, degree and percent.

Points are continuous, the centre of the first pixel lies at (0.5, 0.5); angles turn x to y, which
is clockwise as seen.

Source: Baker and Matthews, Lucas-Kanade 20 Years On, IJCV 56, 2004, section 3.2 (inverse
compositional).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from edge.imaging.kernels import READ_BYTES_2D, kernel, part_of_kernel

Grey = NDArray[np.uint8]
_Floats = NDArray[np.float32]

_MAX_STEPS = 12
# Of the Gauss-Newton matrix: where a motion changes next to nothing, noise must not carry it away.
_DAMPING = 1e-3
_MIN_VARIANCE = 0.25  # grey levels squared; nothing can be seen of a part that is flatter
# Motions of a template: by x, y, turn and growth.
_MOTIONS = 4


class TemplatePlace(NamedTuple):
    """Where the template's centre lies in an image, how it is turned and how well it fits.

    Attributes:
        x, y: pixels of the image.
        angle_deg: −180 to 180.
        score: normalized cross-correlation, at most 1.
        scale: how many times as large as the template it is.
    """

    x: float
    y: float
    angle_deg: float
    score: float
    scale: float = 1.0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TemplateLevel:
    """The template at one resolution, ready for refinement.

    Attributes:
        scale: its pixels per pixel of the template given.
        grey: uint8, for the coarse search.
        normed: ``(h, w)`` zero mean, unit norm.
        steepest: ``(4, h, w)`` normed change by a shift in x and y in pixels, a turn in radians and
            a growth; of a motion that is not searched all 0.
        searched: which of the motions are.
        matrix: ``(M, M)`` Gauss-Newton matrix of these.
        solver: ``(4, 4)`` its inverse; of a motion that is not searched all 0.
    """

    scale: float
    grey: Grey
    normed: _Floats
    steepest: _Floats
    searched: tuple[int, ...]
    matrix: NDArray[np.float64]
    solver: NDArray[np.float64]

    def refined(
        self, image: Grey, place: TemplatePlace, converged_px: float
    ) -> TemplatePlace | None:
        """Refine a place; None where the template slides away.

        Args:
            image: ``(H, W) uint8``, smoothed as the template is, at this resolution.
            place: in pixels of the template given.
            converged_px: steps end where the template moves by less, at this resolution.
        """
        x, y, angle, scale, score = _gauss_newton(
            image,
            self.normed,
            self.steepest,
            self.solver,
            place.x * self.scale,
            place.y * self.scale,
            math.radians(place.angle_deg),
            place.scale,
            0.25 * max(self.grey.shape),
            converged_px,
        )
        if score < -1.0:
            return None
        turn = (math.degrees(angle) + 180.0) % 360.0 - 180.0
        return TemplatePlace(x / self.scale, y / self.scale, turn, score, scale)

    def residual(self, image: Grey, place: TemplatePlace) -> _Floats:
        """Return ``(h, w)`` by what an image differs from the template at a place, normed.

        Args:
            image, place: as ``refined`` takes them.
        """
        patch = np.empty_like(self.normed)
        angle = math.radians(place.angle_deg)
        _sample(image, place.x * self.scale, place.y * self.scale, angle, place.scale, patch)
        patch -= patch.mean()
        patch /= np.linalg.norm(patch)
        return np.asarray(patch - float(np.vdot(patch, self.normed)) * self.normed, np.float32)


def template_level(reduced: Grey, scale: float, *, turns: bool, grows: bool) -> TemplateLevel:
    """Prepare a template for refinement at a resolution.

    Args:
        reduced: the template at this resolution.
        scale: pixels of it per pixel of the template given.
        turns, grows: whether it may be turned, and larger or smaller, in the image.

    Raises:
        ValueError: it shows nothing that could be found.
    """
    centred = smoothed(reduced).astype(np.float32)
    centred -= centred.mean()
    norm = float(np.linalg.norm(centred))
    if norm < 2.0 * math.sqrt(reduced.size):  # two grey levels
        raise ValueError("it has almost no contrast")
    normed = centred / norm
    down, across = np.gradient(normed)
    rows, columns = reduced.shape
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    y -= (rows - 1) / 2
    x -= (columns - 1) / 2
    changes = np.stack([across, down, down * x - across * y, across * x + down * y])
    searched = np.flatnonzero([True, True, turns, grows])
    steepest = np.zeros((_MOTIONS, reduced.size), np.float32)
    steepest[searched] = changes.reshape(_MOTIONS, -1)[searched]
    # What gain and offset explain is no motion.
    flat = normed.ravel()
    steepest -= steepest.mean(axis=1, keepdims=True)
    steepest -= (steepest @ flat)[:, None] * flat
    matrix = (steepest[searched] @ steepest[searched].T).astype(np.float64)
    reach = max(rows, columns) / 2
    damping = _DAMPING * np.trace(matrix[:2, :2]) * np.array([1.0, 1.0, reach**2, reach**2])
    solver = np.zeros((_MOTIONS, _MOTIONS))
    solver[np.ix_(searched, searched)] = np.linalg.inv(matrix + np.diag(damping[searched]))
    return TemplateLevel(
        scale=scale,
        grey=reduced,
        normed=normed,
        steepest=steepest.reshape(_MOTIONS, rows, columns),
        searched=tuple(searched.tolist()),
        matrix=matrix,
        solver=solver,
    )


def pyramid(image: Grey, scales: Sequence[float]) -> list[Grey]:
    """Return an image with its sides times each scale, each made of the next larger one.

    Args:
        scales: ascending, the last one 1.
    """
    levels = [image]
    for scale in scales[-2::-1]:
        rows, columns = (max(round(side * scale), 1) for side in image.shape)
        levels.append(cv2.resize(levels[-1], (columns, rows), interpolation=cv2.INTER_AREA))
    return levels[::-1]


def smoothed(image: Grey) -> Grey:
    """Return an image in which gradients hold for about a pixel."""
    return cv2.GaussianBlur(image, (3, 3), 0.7)


_READ_FLOATS = numba.types.Array(numba.float32, 2, "C", readonly=True)
_READ_CHANGES = numba.types.Array(numba.float32, 3, "C", readonly=True)
_READ_MATRIX = numba.types.Array(numba.float64, 2, "C", readonly=True)


@part_of_kernel
def _sample_row(  # type: ignore[no-untyped-def]
    image, first_x, first_y, cosine, sine, inside, middle, values
):
    """Write what an image shows along a row of the template, less ``middle``."""
    height, width = image.shape
    columns = values.shape[0]
    if inside and sine == 0.0 and cosine == 1.0:
        from_x = first_x + (0.5 - columns / 2)
        i, j = numba.uint64(from_x), numba.uint64(first_y)
        p, q = np.float32(from_x - i), np.float32(first_y - j)
        one = np.float32(1.0)
        for column in range(columns):
            at = i + numba.uint64(column)
            upper = image[j, at] * (one - p) + image[j, at + 1] * p
            lower = image[j + 1, at] * (one - p) + image[j + 1, at + 1] * p
            values[column] = upper * (one - q) + lower * q - middle
    elif inside:
        for column in range(columns):
            u = column + 0.5 - columns / 2
            at_x, at_y = first_x + cosine * u, first_y + sine * u
            # Unsigned, so that nobody asks whether they count from the end.
            i, j = numba.uint64(at_x), numba.uint64(at_y)
            p, q = np.float32(at_x - i), np.float32(at_y - j)
            upper = image[j, i] + (np.float32(image[j, i + 1]) - image[j, i]) * p
            lower = image[j + 1, i] + (np.float32(image[j + 1, i + 1]) - image[j + 1, i]) * p
            values[column] = upper + (lower - upper) * q - middle
    else:
        for column in range(columns):
            u = column + 0.5 - columns / 2
            at_x = min(max(first_x + cosine * u, 0.0), width - 1.0)
            at_y = min(max(first_y + sine * u, 0.0), height - 1.0)
            i, j = int(at_x), int(at_y)
            right, below = min(i + 1, width - 1), min(j + 1, height - 1)
            p, q = np.float32(at_x - i), np.float32(at_y - j)
            upper = image[j, i] + (np.float32(image[j, right]) - image[j, i]) * p
            lower = image[below, i] + (np.float32(image[below, right]) - image[below, i]) * p
            values[column] = upper + (lower - upper) * q - middle


@kernel(
    (READ_BYTES_2D, _READ_FLOATS, _READ_CHANGES, _READ_MATRIX, *[numba.float64] * 6),
    reorder_sums=True,
)
def _gauss_newton(  # type: ignore[no-untyped-def]
    image, normed, steepest, solver, x, y, angle, scale, farthest, converged
):
    """Return the best pose on the way and its score, −2 where it slid away or met nothing."""
    rows, columns = normed.shape
    height, width = image.shape
    size = rows * columns
    values, step = np.empty(columns, np.float32), np.empty(_MOTIONS)
    start_x, start_y = x, y
    best_x, best_y, best_angle, best_scale, best = x, y, angle, scale, -2.0
    # Sums of float32 keep their digits where they are taken about the mean, or nearly.
    middle = np.float32(image[min(max(int(y), 0), height - 1), min(max(int(x), 0), width - 1)])
    for _ in range(_MAX_STEPS):
        cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
        reach_x = (abs(cosine) * columns + abs(sine) * rows) / 2
        reach_y = (abs(sine) * columns + abs(cosine) * rows) / 2
        inside = reach_x <= x <= width - 1 - reach_x and reach_y <= y <= height - 1 - reach_y
        total = energy = fit = first = second = third = fourth = 0.0
        for row in range(rows):
            v = row + 0.5 - rows / 2
            first_x, first_y = x - sine * v - 0.5, y + cosine * v - 0.5
            _sample_row(image, first_x, first_y, cosine, sine, inside, middle, values)
            a = b = c = d = e = f = g = np.float32(0.0)
            for column in range(columns):
                value = values[column]
                a += value
                b += value * value
                c += value * normed[row, column]
                d += value * steepest[0, row, column]
                e += value * steepest[1, row, column]
                f += value * steepest[2, row, column]
                g += value * steepest[3, row, column]
            total += float(a)
            energy += float(b)
            fit += float(c)
            first += float(d)
            second += float(e)
            third += float(f)
            fourth += float(g)
        mean = total / size
        energy -= total * mean
        if energy < size * _MIN_VARIANCE:
            return x, y, angle, scale, -2.0
        # Template and changes have no mean, and changes nothing of the template: what the image
        # differs by needs no sums of its own.
        norm = math.sqrt(energy)
        score = fit / norm
        middle += np.float32(mean)
        if score > best:
            best_x, best_y, best_angle, best_scale, best = x, y, angle, scale, score
        first, second, third, fourth = first / norm, second / norm, third / norm, fourth / norm
        for k in range(_MOTIONS):
            step[k] = (
                solver[k, 0] * first
                + solver[k, 1] * second
                + solver[k, 2] * third
                + solver[k, 3] * fourth
            )
        dx, dy, turn, growth = step[0], step[1], step[2], step[3]
        # The step moves the template; the pose moves by its inverse.
        angle -= turn
        scale /= 1.0 + growth
        cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
        x -= cosine * dx - sine * dy
        y -= sine * dx + cosine * dy
        slid = math.hypot(x - start_x, y - start_y) > farthest
        if slid or not 0.5 < scale < 2.0:
            return x, y, angle, scale, -2.0
        if max(abs(dx), abs(dy), max(abs(turn), abs(growth)) * max(rows, columns) / 2) < converged:
            break
    return best_x, best_y, best_angle, best_scale, best


@kernel(
    (READ_BYTES_2D, *[numba.float64] * 4, numba.float32[:, ::1]),
    reorder_sums=True,
)
def _sample(image, x, y, angle, scale, patch):  # type: ignore[no-untyped-def]
    """Write what an image shows where the template lies."""
    rows = patch.shape[0]
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    for row in range(rows):
        v = row + 0.5 - rows / 2
        first_x, first_y = x - sine * v - 0.5, y + cosine * v - 0.5
        _sample_row(image, first_x, first_y, cosine, sine, False, np.float32(0.0), patch[row])
