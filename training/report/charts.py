"""Charts as SVG text: score histogram, ROC and plain line charts, without any library."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from training.metrics import roc_curve
from training.metrics.scores import Labels, Scores

GOOD, DEFECTIVE, LINE, INK, FAINT = "#2f7d4f", "#b3261e", "#1f4e8c", "#1d2733", "#d5dbe3"
_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 16, 18, 44
_BINS = 40
_FONT = 'font-family="system-ui, sans-serif" font-size="12"'


@dataclass(frozen=True, slots=True)
class _Plane:
    """Maps values onto the image."""

    low_x: float
    high_x: float
    high_y: float
    low_y: float = 0.0

    def x(self, value: float) -> float:
        share = (value - self.low_x) / (self.high_x - self.low_x)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low_y) / (self.high_y - self.low_y)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def score_histogram(
    scores: Scores,
    labels: Labels,
    threshold: float,
    interval: tuple[float, float] | None = None,
    *,
    synthetic: bool = False,
) -> str:
    """Draw how the scores of good and defective images lie about the threshold.

    Args:
        scores, labels: ``(N,)`` raw scores, True where defective; N may be 0.
        interval: bootstrap interval of the threshold.
        synthetic: the defects are synthetic, and the chart says so.
    """
    values = np.append(scores, [threshold, *(interval or ())]).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    margin = (high - low) * 0.03 or 1.0
    edges = np.linspace(low - margin, high + margin, _BINS + 1)
    good, _ = np.histogram(scores[~labels], edges)
    defective, _ = np.histogram(scores[labels], edges)
    plane = _Plane(float(edges[0]), float(edges[-1]), _nice_top(int((good + defective).max())))
    parts = [_axes(plane, "raw image score", "images")]
    if interval is not None:
        left, right = plane.x(interval[0]), plane.x(interval[1])
        parts.append(
            f'<rect x="{left:.1f}" y="{_TOP}" width="{max(right - left, 1):.1f}" '
            f'height="{_HEIGHT - _TOP - _BOTTOM}" fill="{LINE}" opacity="0.12"/>'
        )
    for start, end, below, above in zip(edges, edges[1:], good, defective, strict=False):
        x, width = plane.x(start), max(plane.x(end) - plane.x(start) - 1, 1)
        for bottom, count, colour in ((0, below, GOOD), (below, above, DEFECTIVE)):
            if count:
                y = plane.y(bottom + count)
                parts.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
                    f'height="{plane.y(bottom) - y:.1f}" fill="{colour}"/>'
                )
    x = plane.x(threshold)
    parts.append(
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" '
        f'stroke="{LINE}" stroke-width="2" stroke-dasharray="6 3"/>'
    )
    anchor, shift = ("end", -6) if x > _WIDTH * 0.7 else ("start", 6)
    parts.append(_text(x + shift, _TOP + 11, f"threshold {threshold:.4g}", anchor, colour=LINE))
    kind = "synthetic defects" if synthetic else "defective"
    good_count, defective_count = int((~labels).sum()), int(labels.sum())
    legend = [(GOOD, f"good ({good_count})"), (DEFECTIVE, f"{kind} ({defective_count})")]
    parts.append(_legend(legend))
    return _svg("Histogram of image scores", parts)


def roc_chart(scores: Scores, labels: Labels, threshold: float, synthetic: bool = False) -> str:
    """Draw recall over false-reject rate, with the point that the threshold chooses.

    Returns:
        An empty text where a class is missing.
    """
    rates, recalls = roc_curve(scores, labels)
    if not len(rates):
        return ""
    plane = _Plane(0.0, 1.0, 1.0)
    path = " ".join(f"{plane.x(r):.1f},{plane.y(v):.1f}" for r, v in _steps(rates, recalls))
    at = (float((scores[~labels] >= threshold).mean()), float((scores[labels] >= threshold).mean()))
    what = "synthetic defects" if synthetic else "defects"
    return _svg(
        "ROC curve",
        [
            _axes(plane, "good parts rejected", f"{what} found", share=True),
            f'<line x1="{plane.x(0):.1f}" y1="{plane.y(0):.1f}" x2="{plane.x(1):.1f}" '
            f'y2="{plane.y(1):.1f}" stroke="{FAINT}" stroke-dasharray="4 4"/>',
            f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="2"/>',
            f'<circle cx="{plane.x(at[0]):.1f}" cy="{plane.y(at[1]):.1f}" r="5" '
            f'fill="{DEFECTIVE}"/>',
            _text(
                plane.x(at[0]) + 9,
                plane.y(at[1]) + 16,
                "at the threshold",
                "start",
                colour=DEFECTIVE,
            ),
        ],
    )


def points_chart(
    points: Sequence[tuple[float, float, str]], across: str, up: str, title: str
) -> str:
    """Draw named points, for example accuracy over time of algorithms.

    Args:
        points: ``(x, y, name)``; not empty.
    """
    left, right = _around([x for x, _, _ in points])
    low, high = _around([y for _, y, _ in points])
    plane = _Plane(left, right, high, low)
    parts = [_axes(plane, across, up)]
    for x, y, name in points:
        cx, cy = plane.x(x), plane.y(y)
        parts.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="4" fill="{LINE}"/>')
        if name:
            anchor, shift = ("end", -7) if cx > _WIDTH * 0.7 else ("start", 7)
            parts.append(_text(cx + shift, cy + 4, name, anchor, colour=INK))
    return _svg(title, parts)


def _around(values: Sequence[float]) -> tuple[float, float]:
    """Return round limits with some room about the values."""
    low, high = min(values), max(values)
    margin = (high - low) * 0.1 or max(abs(high) * 0.1, 0.01)
    ticks = _ticks(low - margin, high + margin)
    step = ticks[1] - ticks[0]
    return ticks[0] - step * (ticks[0] > low), ticks[-1] + step * (ticks[-1] < high)


def _ticks(low: float, high: float) -> list[float]:
    """Return three to seven round numbers between two."""
    power = 10.0 ** np.floor(np.log10((high - low) / 4))
    step = next(power * s for s in (1, 2, 5, 10, 20) if (high - low) / (power * s) <= 6)
    first = int(np.ceil(low / step - 1e-9))
    return [round(n * step, 12) for n in range(first, int(np.floor(high / step + 1e-9)) + 1)]


def _steps(
    rates: NDArray[np.float64], recalls: NDArray[np.float64], max_count: int = 400
) -> list[tuple[float, float]]:
    """Return the curve's points, at most so many of them."""
    kept = np.unique(np.linspace(0, len(rates) - 1, min(max_count, len(rates))).round().astype(int))
    return [(float(rates[i]), float(recalls[i])) for i in kept]


def _axes(plane: _Plane, across: str, up: str, share: bool = False) -> str:
    bottom = _HEIGHT - _BOTTOM
    parts = []
    for value in _ticks(plane.low_y, plane.high_y):
        y = plane.y(value)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="{FAINT}"/>' + _text(_LEFT - 6, y + 4, _label(value, share), "end")
        )
    for value in _ticks(plane.low_x, plane.high_x):
        x = plane.x(value)
        anchor = "end" if x > _WIDTH - _RIGHT - 12 else "middle"
        parts.append(_text(x, bottom + 17, _label(value, share), anchor))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(_text(middle, _HEIGHT - 8, across, "middle"))
    parts.append(
        f'<text x="14" y="{(_TOP + bottom) / 2:.0f}" text-anchor="middle" fill="{INK}" {_FONT} '
        f'transform="rotate(-90 14 {(_TOP + bottom) / 2:.0f})">{escape(up)}</text>'
    )
    return "".join(parts)


def _label(value: float, share: bool) -> str:
    return f"{value:.0%}" if share else f"{value:.6g}"


def _nice_top(highest: int) -> int:
    """Return a round number of images, at or above the highest column, that four divides."""
    return max(4, -(-highest // 4) * 4)


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    x, parts = _LEFT + 10, []
    for colour, text in entries:
        parts.append(f'<rect x="{x}" y="4" width="11" height="11" fill="{colour}"/>')
        parts.append(_text(x + 16, 14, text, "start"))
        x += 36 + 7 * len(text)
    return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str, *, colour: str = INK) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" {_FONT}>'
        f"{escape(text)}</text>"
    )


def _svg(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f'<title>{escape(title)}</title><rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>'
        f"{''.join(parts)}</svg>"
    )
