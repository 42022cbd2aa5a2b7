"""Polygons as people draw them: what is wrong with one, before anything is inspected by it."""

from collections.abc import Sequence

Point = tuple[float, float]


def polygon_fault(points: Sequence[Point], width: int, height: int) -> str | None:
    """Return why points bound no area of an image of a size; None where they do.

    Args:
        points: at least three, ``(x, y)`` in pixels; the last is joined to the first.
    """
    for x, y in points:
        if not (0.0 <= x <= width and 0.0 <= y <= height):
            return f"the point ({x:g}, {y:g}) lies outside of {width}×{height}"
    sides = list(zip(points, [*points[1:], points[0]], strict=True))
    for number, side in enumerate(sides):
        if side[0] == side[1]:
            return f"the point ({side[0][0]:g}, {side[0][1]:g}) is repeated"
        for other_number in range(number + 1, len(sides)):
            other = sides[other_number]
            if _meet(side, other, _shared(number, other_number, len(sides))):
                return (
                    f"the side from ({side[0][0]:g}, {side[0][1]:g}) crosses or touches that from "
                    f"({other[0][0]:g}, {other[0][1]:g})"
                )
    return None


def _shared(number: int, other: int, count: int) -> bool:
    """Tell whether two sides have an end in common."""
    return other == number + 1 or (number == 0 and other == count - 1)


def _meet(side: tuple[Point, Point], other: tuple[Point, Point], shared: bool) -> bool:
    """Tell whether two sides have more in common than an end that they share."""
    (a, b), (c, d) = side, other
    if shared:
        if b == c:
            corner, one, two = b, a, d
        else:
            corner, one, two = a, b, c
        # They run back over each other where both leave the corner in one direction.
        ahead = (one[0] - corner[0]) * (two[0] - corner[0])
        ahead += (one[1] - corner[1]) * (two[1] - corner[1])
        return _turn(corner, one, two) == 0.0 and ahead > 0.0
    if max(a[0], b[0]) < min(c[0], d[0]) or max(c[0], d[0]) < min(a[0], b[0]):
        return False
    if max(a[1], b[1]) < min(c[1], d[1]) or max(c[1], d[1]) < min(a[1], b[1]):
        return False
    return _turn(a, b, c) * _turn(a, b, d) <= 0.0 and _turn(c, d, a) * _turn(c, d, b) <= 0.0


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
