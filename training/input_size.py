"""What frames lose on their way into the model's input, and what helps."""

from edge.bundle.manifest import InputSpec
from edge.inspection.tiling import starts

# One side shrinks so many times more than the other, or both so much: small defects may be lost.
_STRETCHED = 1.5
_SHRUNK = 4.0

# A tile may be so many times as large as the input.
_TILE_SHRUNK = 2
_SMALLEST_TILE = 16


def size_advice(
    frame: tuple[int, ...], spec: InputSpec, overlap: float, tileable: bool
) -> str | None:
    """Return what to know where frames are squeezed out of shape or shrink very much.

    None where they are not, or are inspected in tiles already.

    Args:
        frame: height and width of a frame.
        spec: of the input.
        overlap: least share that tiles have in common.
        tileable: whether the algorithm can work in tiles.
    """
    if spec.tile_plan is not None:
        return None
    height, width = frame[:2]
    if spec.crop is not None:
        height, width = spec.crop.height, spec.crop.width
    down, across = height / spec.height, width / spec.width
    stretched = max(down, across) / min(down, across) >= _STRETCHED
    if not stretched and max(down, across) <= _SHRUNK:
        return None
    what = "squeezed out of shape" if stretched else "shrunk"
    told = (
        f"images of {width}×{height} pixels are {what} to {spec.width}×{spec.height}, "
        f"{across:.1f} times across and {down:.1f} times down, so that small defects may be lost"
    )
    side = min(height, width, _TILE_SHRUNK * min(spec.height, spec.width))
    if side < _SMALLEST_TILE:
        return told
    count = len(starts(height, side, overlap)) * len(starts(width, side, overlap))
    how = f"--tile {side} inspects them in {count} tiles, in about {count} times the time"
    return f"{told}; {how if tileable else f'{how}, with patchcore: this algorithm takes no tiles'}"
