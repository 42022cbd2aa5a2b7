"""Which size a model's input has, and what frames lose on their way into it."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from edge.bundle.bounds import MAX_INPUT_PX, MAX_SIDE_PX
from edge.bundle.input_spec import InputSpec
from edge.inspection.tiling import starts
from edge.wording import counted
from training.size_text import Size, parse_sides, size_fault, size_text

AUTO = "auto"
DEFAULT_SIDE_PX = 256
MIN_SIDE_PX = 32

# Images that are longer keep their shape where no size is set.
_LONG = 1.5

# Where a size is sought that a network takes: near the wanted one, and what networks are made for.
_GRID_PX = 8
_REACH_PX = 160
_USUAL_SIDES = (96, 128, 224, 256, 299, 384, 512, 518)

# One side shrinks so many times more than the other, or both so much: small defects may be lost.
_STRETCHED = 1.5
_SHRUNK = 4.0

# A tile may be so many times as large as the input.
_TILE_SHRUNK = 2
_MIN_TILE_PX = 16


@dataclass(frozen=True, slots=True)
class SizeChoice:
    """What ``image_size`` asks for.

    Attributes:
        text: as settings have it; None where no size is set.
        size: None where it follows the images.
        side_px: of the square with about as many pixels.
    """

    text: str | None
    size: Size | None
    side_px: int


@dataclass(frozen=True, slots=True)
class SideUnit:
    """Which sides suit a model.

    Attributes:
        step_px: of which they are best multiples.
        min_px: that each has at least.
    """

    step_px: int
    min_px: int = 1


@dataclass(frozen=True, slots=True)
class ChosenSize:
    """The size of a model's input.

    Attributes:
        reason: why it is this one.
        follows: whether it has the shape of the images.
    """

    size: Size
    reason: str
    follows: bool = False

    @property
    def sentence(self) -> str:
        """What a fit says of it."""
        return f"{self.size[1]}×{self.size[0]} pixels: {self.reason}"


def parse_size_choice(value: object) -> SizeChoice:
    """Read ``256``, ``320x160`` (width first), ``auto`` or ``auto=256``; None sets no size.

    Raises:
        ValueError: another form, or out of bounds; says what is allowed.
    """
    if value is None:
        return SizeChoice(None, None, DEFAULT_SIDE_PX)
    text = str(value).strip().lower()
    name, equals, side = text.partition("=")
    if text == AUTO:
        return SizeChoice(AUTO, None, DEFAULT_SIDE_PX)
    size = parse_sides(side if name == AUTO and equals else text)
    if type(value) not in (int, str) or size is None:
        raise ValueError(
            "must be WIDTHxHEIGHT or one number for a square, or auto (auto=PX for about as many "
            "pixels as a square of PX), for example 320x160, 256 or auto"
        )
    height, width = size
    if min(size) < MIN_SIDE_PX:
        raise ValueError(f"must be greater than or equal to {MIN_SIDE_PX} on each side")
    fault = size_fault(height, width)
    if fault is not None:
        raise ValueError(fault)
    if name != AUTO:
        return SizeChoice(size_text(size), size, math.isqrt(height * width))
    if height != width:
        raise ValueError(f"must be {AUTO}=PX with one number, or {side} alone")
    return SizeChoice(f"{AUTO}={side}", None, width)


def choose_size(
    choice: SizeChoice, shape: Size, what: str, unit: Callable[[], SideUnit]
) -> ChosenSize:
    """Return the size that was asked for, a square, or one in the shape of the images.

    Args:
        shape: height and width of what is inspected: of the images, their crop or their tiles.
        what: that is, for example ``the crop``, with its size.
        unit: gives what sides suit the model; asked only where the images decide.
    """
    if choice.size is not None:
        return ChosenSize(choice.size, "as set")
    side = choice.side_px
    ratio = shape[1] / shape[0]
    is_long = max(ratio, 1.0 / ratio) > _LONG
    if choice.text is None and not is_long:
        return ChosenSize((side, side), f"a square suits {what}, not longer than {_LONG:g} : 1")
    step = unit()
    longer = f", longer than {_LONG:g} : 1," if choice.text is None else ""
    return ChosenSize(
        _near(ratio, side * side, step),
        f"keeps the shape of {what}{longer} with about as many pixels as {side}×{side}, in "
        f"multiples of {step.step_px}",
        follows=True,
    )


def median_shape(sizes: Sequence[Size]) -> Size:
    """Return the size of the image whose ratio of sides is the median, or nearest to it."""
    ratios = [math.log(width / height) for height, width in sizes]
    middle = statistics.median(ratios)
    return min(zip(ratios, sizes, strict=True), key=lambda one: abs(one[0] - middle))[1]


def nearest_size(accepts: Callable[[int, int], bool], height: int, width: int) -> Size | None:
    """Return the size nearest to one that a network refuses; None where no usual one is taken.

    Args:
        accepts: tells whether it takes images of a height and width; each side for its own reasons.
    """
    middle = _nearest_side(lambda side: accepts(side, side), math.isqrt(height * width))
    if middle is None:
        return None
    rows = _nearest_side(lambda side: accepts(side, middle), height, middle)
    rows = middle if rows is None else rows
    columns = _nearest_side(lambda side: accepts(rows, side), width, middle)
    return rows, middle if columns is None else columns


def _nearest_side(accepts: Callable[[int], bool], wanted: int, *known: int) -> int | None:
    near = range(wanted // _GRID_PX * _GRID_PX - _REACH_PX, wanted + _REACH_PX, _GRID_PX)
    sides = {wanted, *_USUAL_SIDES, *known, *(side for side in near if side >= MIN_SIDE_PX)}
    found = next(
        (side for side in sorted(sides, key=lambda s: abs(s - wanted)) if accepts(side)), None
    )
    if found is None:
        return None
    towards = 1 if wanted > found else -1
    while found != wanted and accepts(found + towards):
        found += towards
    return found


def _near(ratio: float, pixels: int, unit: SideUnit) -> Size:
    """Return the size in multiples of a step that is nearest to a ratio and a number of pixels."""
    step = unit.step_px
    least = -(-max(MIN_SIDE_PX, unit.min_px) // step) * step
    # Beyond the longest side the shape gives way.
    elongation = min(max(ratio, 1.0 / ratio), MAX_SIDE_PX**2 / pixels)
    short, long = math.sqrt(pixels / elongation), math.sqrt(pixels * elongation)
    if short <= least:  # the shape gives way, not the number of pixels
        most = min(pixels // least, MAX_SIDE_PX) // step * step
        found = (least, max(most, least))
    else:
        pairs = product(*((side // step * step, -(-side // step) * step) for side in (short, long)))
        found = min(
            ((int(a), int(b)) for a, b in pairs if a >= least and a * b <= MAX_INPUT_PX),
            key=lambda pair: (
                2.0 * abs(math.log(pair[1] / pair[0] / elongation))
                + abs(math.log(pair[0] * pair[1] / pixels))
            ),
        )
    return found if ratio >= 1.0 else found[::-1]


def size_advice(
    frame: tuple[int, ...],
    spec: InputSpec,
    *,
    overlap: float = 0.25,
    tileable: bool = True,
    follows: bool = False,
) -> str | None:
    """Return what to know where frames are squeezed out of shape or shrink very much.

    None where they are not. Of frames that are inspected in tiles it is the tiles that count.

    Args:
        frame: height and width of a frame.
        spec: of the input.
        overlap: least share that tiles have in common.
        tileable: whether the algorithm can work in tiles.
        follows: whether the input has the shape of most images already.
    """
    if spec.tile_plan is not None:
        return _tile_advice(spec)
    height, width = frame[:2]
    region = spec.crop or (spec.locator.roi if spec.locator is not None else None)
    if region is not None:
        height, width = region.height, region.width
    down, across = height / spec.height, width / spec.width
    stretched = max(down, across) / min(down, across) >= _STRETCHED
    if not stretched and max(down, across) <= _SHRUNK:
        return None
    what = "squeezed out of shape" if stretched else "shrunk"
    text = (
        f"images of {width}×{height} pixels are {what} to {spec.width}×{spec.height}, "
        f"{across:.1f} times across and {down:.1f} times down, so that small defects may be lost"
    )
    if stretched and not follows:
        side_px = math.isqrt(spec.height * spec.width)
        text += f"; --image-size {AUTO}={side_px} keeps the shape of most images"
    side = min(height, width, _TILE_SHRUNK * min(spec.height, spec.width))
    if side < _MIN_TILE_PX:
        return text
    count = len(starts(height, side, overlap)) * len(starts(width, side, overlap))
    how = (
        f"--tile {side} inspects them in {counted(count, 'tile')}, in about {count} times the time"
    )
    return f"{text}; {how if tileable else f'{how}, with patchcore: this algorithm takes no tiles'}"


def _tile_advice(spec: InputSpec) -> str | None:
    """Return what to know where square tiles become an input that is none."""
    ratio = spec.width / spec.height
    if spec.tile_plan is None or max(ratio, 1.0 / ratio) < _STRETCHED:
        return None
    side, side_px = spec.tile_plan.width, math.isqrt(spec.height * spec.width)
    return (
        f"tiles of {side}×{side} pixels are squeezed out of shape to {spec.width}×{spec.height}; "
        f"--image-size {AUTO}={side_px} keeps them square"
    )
