"""Synthetic defects, for validation where a user has no real ones yet.

They show that a model reacts to a change and give the adaptive threshold something to work with;
they are no substitute for real defects, and everything that rests on them says so.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.imaging.frame import Pixels

Field = NDArray[np.float32]

# Every kind begins with it, so that it is seen in every table and figure.
PREFIX = "synthetic-"

_ATTEMPTS = 12
_FINEST = 256  # rows or columns that noise is drawn with
_MIN_CHANGE = 8.0  # mean of 255 levels; less could not be told from noise by anybody


@dataclass(frozen=True, slots=True)
class Flaw:
    """A defect that is pasted whenever its image is read; always the same one.

    Attributes:
        kind: one of ``KINDS``.
        seed: of its place, shape and colour.
    """

    kind: str
    seed: int


def paste_defect(pixels: Pixels, flaw: Flaw) -> tuple[Pixels, NDArray[np.uint8]]:
    """Paste a defect into an image.

    Args:
        pixels: ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``, uint8 or uint16; not changed.
        flaw: which, and the seed it is drawn with.

    Returns:
        The image with the defect, of the same type and shape, and its ``(H, W) uint8`` mask, 255
        where it was pasted.
    """
    white = float(np.iinfo(pixels.dtype).max)
    field = pixels.astype(np.float32) * np.float32(255.0 / white)
    colour = field[:, :, None] if field.ndim == 2 else field[:, :, :3]
    random = np.random.default_rng([flaw.seed, sorted(KINDS).index(flaw.kind)])
    for _ in range(_ATTEMPTS):
        cover, other = KINDS[flaw.kind](colour, random)
        changed = np.clip(colour + (other - colour) * cover[:, :, None], 0, 255)
        mask = cover > 0.2
        # On a flat or saturated place a flaw may not show; another place is tried.
        if mask.any() and np.abs(changed - colour).mean(2)[mask].mean() >= _MIN_CHANGE:
            break
    scaled = np.rint(changed * np.float32(white / 255.0)).astype(pixels.dtype)
    result = pixels.copy()
    if pixels.ndim == 2:
        result[cover > 0] = scaled[:, :, 0][cover > 0]
    else:
        result[:, :, :3][cover > 0] = scaled[cover > 0]
    return result, mask.astype(np.uint8) * 255


def _perlin(colour: Field, random: np.random.Generator) -> tuple[Field, Field]:
    """Uneven patches of another texture (Zavrtanik et al., DRAEM, 2021)."""
    height, width = colour.shape[:2]
    # The noise has no finer structure than this; large images would take seconds.
    shrink = max(1.0, max(height, width) / _FINEST)
    rows, columns = max(8, round(height / shrink)), max(8, round(width / shrink))
    share = random.uniform(0.004, 0.04)
    hill = _noise(rows, columns, random) * _window(
        rows, columns, random, smallest=0.12, largest=0.3
    )
    level = np.quantile(hill, 1.0 - share)
    enlarged = cv2.resize(hill, (width, height), interpolation=cv2.INTER_CUBIC)
    cover = np.clip((enlarged - np.float32(level)) * np.float32(12.0), 0.0, 1.0)
    return cover * np.float32(random.uniform(0.5, 1.0)), _elsewhere(colour, random)


def _cut_paste(colour: Field, random: np.random.Generator) -> tuple[Field, Field]:
    """A turned piece from elsewhere in the image (Li et al., CutPaste, 2021)."""
    height, width = colour.shape[:2]
    side = np.array([random.uniform(0.05, 0.16) * width, random.uniform(0.05, 0.16) * height])
    middle = random.uniform(0.2, 0.8, 2) * (width, height)
    box = cv2.boxPoints((middle.tolist(), side.tolist(), float(random.uniform(0, 180))))
    cover = np.zeros((height, width), np.uint8)
    cv2.fillPoly(cover, [np.rint(box).astype(np.int32)], 255)
    soft = cv2.GaussianBlur(cover, (0, 0), 0.7).astype(np.float32) / np.float32(255)
    return soft, _elsewhere(colour, random)


def _scratch(colour: Field, random: np.random.Generator) -> tuple[Field, Field]:
    """A thin winding line, brighter or darker than what it crosses."""
    height, width = colour.shape[:2]
    scale = min(height, width)
    steps = 32
    heading = random.uniform(0, 2 * np.pi) + np.cumsum(random.normal(0, 0.12, steps))
    stride = random.uniform(0.15, 0.5) * scale / steps
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * stride, axis=0)
    path += random.uniform(0.25, 0.75, 2) * (width, height) - path.mean(0)
    thickness = max(1, round(scale * random.uniform(0.004, 0.012)))
    cover = np.zeros((height, width), np.uint8)
    points = np.rint(path * 16).astype(np.int32)
    cv2.polylines(cover, [points[:, None]], False, 255, thickness, cv2.LINE_AA, 4)
    change = np.float32(random.choice([-1.0, 1.0]) * random.uniform(40, 110))
    return cover.astype(np.float32) / np.float32(255), colour + change


KINDS: dict[str, Callable[[Field, np.random.Generator], tuple[Field, Field]]] = {
    f"{PREFIX}perlin": _perlin,
    f"{PREFIX}cut-paste": _cut_paste,
    f"{PREFIX}scratch": _scratch,
}


def _elsewhere(colour: Field, random: np.random.Generator) -> Field:
    """The same image, turned, shifted and toned: a texture that is at home here, but not there.

    Without a shift the defect would be the part itself.
    """
    height, width = colour.shape[:2]
    angle = float(random.uniform(40, 320))
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    matrix[:, 2] += random.uniform(0.1, 0.4, 2) * random.choice([-1, 1], 2) * (width, height)
    turned = cv2.warpAffine(colour, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
    turned = turned.reshape(colour.shape)
    tone = np.asarray(random.uniform(0.5, 1.5, colour.shape[2]), np.float32)
    return turned * tone + np.float32(random.uniform(-30, 30))


def _noise(height: int, width: int, random: np.random.Generator) -> Field:
    """Gradient noise of two octaves (Perlin, 1985), of unit spread."""
    cells = 2 ** int(random.integers(2, 5))
    noise = _octave(height, width, cells, random) + 0.5 * _octave(height, width, 2 * cells, random)
    return (noise / max(float(noise.std()), 1e-6)).astype(np.float32)


def _octave(height: int, width: int, cells: int, random: np.random.Generator) -> Field:
    rows = np.arange(height) * cells / height
    columns = np.arange(width) * cells / width
    angles = random.uniform(0, 2 * np.pi, (cells + 1, cells + 1))
    row, column = rows.astype(int), columns.astype(int)
    y, x = (rows - row)[:, None], (columns - column)[None, :]

    def corner(down: int, right: int) -> NDArray[np.float64]:
        angle = angles[np.ix_(row + down, column + right)]
        return np.cos(angle) * (x - right) + np.sin(angle) * (y - down)

    fade_x, fade_y = (t * t * t * (t * (t * 6 - 15) + 10) for t in (x, y))
    top = corner(0, 0) * (1 - fade_x) + corner(0, 1) * fade_x
    bottom = corner(1, 0) * (1 - fade_x) + corner(1, 1) * fade_x
    return (top * (1 - fade_y) + bottom * fade_y).astype(np.float32)


def _window(
    height: int, width: int, random: np.random.Generator, *, smallest: float, largest: float
) -> Field:
    """A round hill that keeps a defect in one neighbourhood."""
    middle = random.uniform(0.25, 0.75, 2) * (width, height)
    size = random.uniform(smallest, largest) * min(height, width)
    rows, columns = np.ogrid[0:height, 0:width]
    distance = ((columns - middle[0]) ** 2 + (rows - middle[1]) ** 2) / size**2
    return np.exp(-0.5 * distance).astype(np.float32)
