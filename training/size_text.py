"""Sizes of images as text, and which of them a bundle may have."""

import math

from edge.bundle.bounds import MAX_INPUT_PX, MAX_SIDE_PX

# Longer numbers are beyond every bound.
_MAX_DIGITS = 9

# Height and width in pixels.
Size = tuple[int, int]


def parse_sides(text: str) -> Size | None:
    """Return height and width of ``WIDTHxHEIGHT``, or of one number for both; None of neither."""
    sides = text.strip().lower().replace("×", "x").split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdecimal() for side in sides):
        return None
    if max(map(len, sides)) > _MAX_DIGITS:
        sides = ["9" * _MAX_DIGITS]
    return int(sides[-1]), int(sides[0])


def size_text(size: Size) -> str:
    """Return a size as ``image_size`` takes it."""
    height, width = size
    return str(width) if height == width else f"{width}x{height}"


def size_fault(height: int, width: int) -> str | None:
    """Return what is wrong with a size that no bundle may have; None of one that it may."""
    pixels, longer = height * width, max(height, width)
    if pixels <= MAX_INPUT_PX and longer <= MAX_SIDE_PX:
        return None
    scale = min(math.sqrt(MAX_INPUT_PX / pixels), MAX_SIDE_PX / longer)
    nearest = (max(int(height * scale), 1), max(int(width * scale), 1))
    return (
        f"must have at most {MAX_INPUT_PX} pixels and no side beyond {MAX_SIDE_PX}; the largest "
        f"of this shape is {size_text(nearest)}"
    )
