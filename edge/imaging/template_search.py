"""Where a part lies in an image: its template, turned, resized and shifted until it fits best.

A coarse search correlates the template with the image at all angles and sizes; the best places are
refined by Gauss-Newton steps from coarse to fine, to fractions of a pixel and degree. Each pose is
told apart from every other one that fits nearly as well, so that a symmetric part is no guess.

Points are continuous, the centre of the first pixel lies at (0.5, 0.5); angles turn x to y, which
is clockwise as seen.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.imaging.template_refinement import (
    Grey,
    TemplateLevel,
    TemplatePlace,
    pyramid,
    smoothed,
    template_level,
)
from edge.imaging.template_trials import STEP_DEG, CoarseTemplate

_LEVELS_PX = (20, 48)
# A part may be turned, or larger or smaller, a little further than is searched.
_BEYOND_DEG, _BEYOND_SCALE = 3.75, 0.02
_CANDIDATES = 8
# What fits worse than the best by so much is no candidate.
_COARSE_REACH = 0.3
# Steps end where the template moves by less, at the finest level and at the others.
_CONVERGED_PX, _COARSELY_CONVERGED_PX = 0.02, 0.03
# Differences of neighbouring pixels are alike: so many count as one. No two parts are more alike.
_PX_PER_INDEPENDENT = 25
_LIKEST = 0.98
# Two poses further apart than this, in shares of the template's diagonal, are two places. What lies
# nearer to a better trial than the first, and one turn to the next, is the same until it is
# refined.
_NEAR_TRIAL, _SAME_PLACE = 0.1, 0.04
_SAME_ANGLE_DEG, _SAME_SCALE = 4.0, 0.04


class SearchResult(NamedTuple):
    """What was found.

    Attributes:
        best: None where nothing fits at all.
        other: the best one of the other places; None where there is none.
        looseness: expected error of the best place, in its worst direction: 1 is 1 % of the
            template's longest side, 1°, or 1 % of its size. Two estimates: as if what the image
            differs by were spread evenly, and of where it is.
    """

    best: TemplatePlace | None
    other: TemplatePlace | None
    looseness: tuple[float, float]


class Template:
    """A part's image, prepared for being found in others."""

    def __init__(self, grey: Grey, most_turn_deg: float, most_scale: float = 0.0) -> None:
        """Prepare an image of the part.

        Args:
            grey: ``(h, w) uint8``, its sides within ``edge.bundle.bounds``.
            most_turn_deg: 0 searches shifts alone, 180 all angles.
            most_scale: share by which the part may be larger or smaller; 0 searches one size.

        Raises:
            ValueError: it shows nothing that could be found.
        """
        self._most_turn_deg, self._most_scale = most_turn_deg, most_scale
        longest = max(grey.shape)
        scales = [*(size / longest for size in _LEVELS_PX if size * 1.3 < longest), 1.0]
        motions = {"turns": most_turn_deg > 0.0, "grows": most_scale > 0.0}
        self._levels = [
            template_level(one, one.shape[1] / grey.shape[1], **motions)
            for one in pyramid(grey, scales)
        ]
        self._coarse = CoarseTemplate(self._levels[0].grey, most_turn_deg, most_scale)
        self._diagonal = math.hypot(*grey.shape)
        units = [0.01 * longest, 0.01 * longest]
        units += [math.radians(1.0)] * motions["turns"] + [0.01] * motions["grows"]
        self._firmness = _Firmness(self._levels[-1], np.array(units))

    def search(self, image: Grey) -> SearchResult:
        """Find the template in an image of its own scale.

        Args:
            image: ``(H, W) uint8``.
        """
        reduced = pyramid(image, [level.scale for level in self._levels])
        smooth = [smoothed(one) for one in reduced]
        found = self._candidates(reduced[0])
        finest = len(self._levels) - 1
        for number, level in enumerate(self._levels[:2]):
            refined_ones = [
                level.refined(smooth[number], place, self._converged_px(number)) for place in found
            ]
            found = [one for one in refined_ones if one is not None and self._allowed(one, image)]
            found = self._distinct(sorted(found, key=lambda place: -place.score))
            found = [one for one in found if one.score > found[0].score - _COARSE_REACH]
        final = found[:2]
        if finest > 1:
            last = self._levels[finest]
            finely = [last.refined(smooth[finest], one, _CONVERGED_PX) or one for one in final]
            final = self._distinct(sorted(finely, key=lambda place: -place.score))
        # Of a part that is larger or smaller than is searched, what fits next best is no part.
        if not final or abs(final[0].scale - 1.0) > self._most_scale + _BEYOND_SCALE:
            return SearchResult(None, None, (math.inf, math.inf))
        looseness = self._firmness.looseness(smooth[finest], final[0])
        return SearchResult(final[0], final[1] if len(final) > 1 else None, looseness)

    def _converged_px(self, number: int) -> float:
        return _CONVERGED_PX if number == len(self._levels) - 1 else _COARSELY_CONVERGED_PX

    def _candidates(self, image: Grey) -> list[TemplatePlace]:
        """Return the best places at the coarse level, in pixels of the template as given."""
        scale = self._levels[0].scale
        kept: list[TemplatePlace] = []
        best = 0.0
        for trial in self._coarse.places(image):
            best = max(best, trial.score)
            if len(kept) == _CANDIDATES or trial.score < best - _COARSE_REACH:
                break
            place = trial._replace(x=trial.x / scale, y=trial.y / scale)
            if not any(self._near(place, other, _NEAR_TRIAL, STEP_DEG) for other in kept):
                kept.append(place)
        return kept

    def _allowed(self, place: TemplatePlace, image: Grey) -> bool:
        rows, columns = image.shape
        inside = 0 <= place.x <= columns and 0 <= place.y <= rows
        return inside and abs(place.angle_deg) <= self._most_turn_deg + _BEYOND_DEG

    def _distinct(self, places: list[TemplatePlace]) -> list[TemplatePlace]:
        kept: list[TemplatePlace] = []
        for place in places:
            if not any(
                abs(place.scale - one.scale) <= _SAME_SCALE
                and self._near(place, one, _SAME_PLACE, _SAME_ANGLE_DEG)
                for one in kept
            ):
                kept.append(place)
        return kept

    def _near(self, a: TemplatePlace, b: TemplatePlace, share: float, angle_deg: float) -> bool:
        turn = abs((a.angle_deg - b.angle_deg + 180.0) % 360.0 - 180.0)
        return math.hypot(a.x - b.x, a.y - b.y) <= share * self._diagonal and turn <= angle_deg


class _Firmness:
    """How firmly a template holds its place, by the curvature of its optimum.

    Source: White, A Heteroskedasticity-Consistent Covariance Matrix Estimator, Econometrica 48,
    1980, for errors that are not spread evenly.
    """

    def __init__(self, level: TemplateLevel, units: NDArray[np.float64]) -> None:
        """Prepare the estimates.

        Args:
            level: the template at its finest.
            units: ``(M,)`` of the motions that are searched, in which errors are given.
        """
        self._level = level
        self._changes = level.steepest[list(level.searched)].reshape(len(units), -1)
        self._changes = self._changes * units.astype(np.float32)[:, None]
        matrix = level.matrix * np.outer(units, units)
        self._weakest = max(float(np.linalg.eigvalsh(matrix)[0]), 1e-9)
        self._inverse = np.linalg.inv(matrix + np.eye(len(units)) * 1e-9)
        self._independent = max(level.grey.size / _PX_PER_INDEPENDENT, 1.0)

    def looseness(self, image: Grey, place: TemplatePlace) -> tuple[float, float]:
        """Return the two estimates of ``SearchResult``."""
        missing = 2.0 * (1.0 - min(place.score, _LIKEST))
        evenly = math.sqrt(missing / (self._weakest * self._independent))
        squares = self._level.residual(image, place).ravel() ** 2
        squares += max(missing - float(squares.sum()), 0.0) / squares.size
        scatter = ((self._changes * squares) @ self._changes.T).astype(np.float64)
        error = self._inverse @ scatter @ self._inverse * (squares.size / self._independent)
        return evenly, math.sqrt(max(float(np.linalg.eigvalsh(error)[-1]), 0.0))
