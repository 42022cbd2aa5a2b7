"""Flaws pasted onto images: the self-made task that trains the small backbone.

None of them is a defect of the sample part: the network learns to see that something is locally
wrong, not the demo's own answers.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
_Field = NDArray[np.float32]


def paste_flaw(image: Image, kind: int, random: np.random.Generator) -> Image:
    """Paste one flaw somewhere into an image.

    Args:
        image: ``(H, W, 3) uint8`` BGR; not changed.
        kind: 0 leaves it as it is, 1 to ``KINDS - 1`` are the flaws.
    """
    if kind == 0:
        return image
    changed = _FLAWS[kind - 1](image.astype(np.float32), random)
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8)


def _line(image: _Field, random: np.random.Generator) -> _Field:
    """A straight line, brighter or darker."""
    height, width = image.shape[:2]
    start = random.uniform(0.15, 0.85, 2) * (width, height)
    angle, length = random.uniform(0, 2 * np.pi), random.uniform(6, 40)
    stop = start + length * np.array([np.cos(angle), np.sin(angle)])
    return _toned(image, _drawn(image, [start, stop], random.uniform(0.6, 2.2)), random)


def _thread(image: _Field, random: np.random.Generator) -> _Field:
    """A winding line in any colour."""
    height, width = image.shape[:2]
    heading = random.uniform(0, 2 * np.pi) + np.cumsum(random.normal(0, 0.35, 24))
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * random.uniform(0.6, 1.8)
    path = random.uniform(0.2, 0.8, 2) * (width, height) + np.cumsum(steps, axis=0)
    cover = _drawn(image, list(path), random.uniform(0.7, 2.2))[:, :, None]
    colour = random.uniform(0, 255, 3).astype(np.float32)
    return image + (colour - image) * cover


def _spot(image: _Field, random: np.random.Generator) -> _Field:
    """A blurred spot, brighter or darker."""
    cover = np.clip(_blob(image, random, smallest=1.5, largest=7.0, uneven=0.0), 0, 1)
    return _toned(image, cover, random)


def _film(image: _Field, random: np.random.Generator) -> _Field:
    """A tinted film of uneven outline."""
    cover = np.clip(_blob(image, random, smallest=4.0, largest=16.0, uneven=0.5) * 6, 0, 1)[
        :, :, None
    ]
    tint = random.uniform(0.55, 1.0, 3).astype(np.float32) * np.float32(random.uniform(0.8, 1.2))
    return image * (1 + (tint - 1) * cover)


def _patch(image: _Field, random: np.random.Generator) -> _Field:
    """A patch from elsewhere in the image, turned (Li et al., CutPaste, 2021)."""
    height, width = image.shape[:2]
    angle = np.degrees(random.uniform(0.3, 2 * np.pi - 0.3))
    middle = (width * random.uniform(0.3, 0.7), height * random.uniform(0.3, 0.7))
    matrix = cv2.getRotationMatrix2D(middle, float(angle), 1.0)
    matrix[:, 2] += random.uniform(-20, 20, 2)
    turned = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
    cover = np.clip(_blob(image, random, smallest=4.0, largest=14.0, uneven=0.3) * 8, 0, 1)[
        :, :, None
    ]
    return image + (turned - image) * cover


def _smeared(image: _Field, random: np.random.Generator) -> _Field:
    """A place where what was there is gone: only its mean colour is left."""
    sigma = random.uniform(3.0, 8.0)
    cover = np.clip(_blob(image, random, smallest=4.0, largest=14.0, uneven=0.3) * 5, 0, 1)[
        :, :, None
    ]
    return image + (cv2.GaussianBlur(image, (0, 0), sigma) - image) * cover


def _embossed(image: _Field, random: np.random.Generator) -> _Field:
    """A bump or hollow lit from one side."""
    height = _blob(image, random, smallest=2.5, largest=9.0, uneven=0.25)
    angle = random.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125)
    slope += np.sin(angle) * cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)
    peak = max(float(np.abs(slope).max()), 1e-6)
    return image + (slope * np.float32(random.uniform(25, 90) / peak))[:, :, None]


_FLAWS: tuple[Callable[[_Field, np.random.Generator], _Field], ...] = (
    _line,
    _thread,
    _spot,
    _film,
    _patch,
    _smeared,
    _embossed,
)
KINDS = len(_FLAWS) + 1


def _toned(image: _Field, cover: _Field, random: np.random.Generator) -> _Field:
    """Brighten or darken by a share that can be seen."""
    change = np.float32(random.choice([-1, 1]) * random.uniform(25, 110))
    return image + change * cover[:, :, None]


def _drawn(image: _Field, path: list[NDArray[np.float64]], width: float) -> _Field:
    """Coverage of a line through points ``(x, y)``, drawn four times as fine."""
    height, columns = image.shape[:2]
    fine = np.zeros((height * 4, columns * 4), np.uint8)
    points = np.round(np.array(path) * 4).astype(np.int32)
    cv2.polylines(fine, [points[:, None]], False, 255, max(1, round(width * 4)))
    small = cv2.resize(fine, (columns, height), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / np.float32(255)


def _blob(
    image: _Field, random: np.random.Generator, *, smallest: float, largest: float, uneven: float
) -> _Field:
    """A round hill of height 1 whose foot is zero and whose outline is uneven."""
    height, width = image.shape[:2]
    size = random.uniform(smallest, largest)
    middle = random.uniform(0.15, 0.85, 2) * (width, height)
    rows, columns = np.ogrid[0:height, 0:width]
    dx = np.asarray(columns - middle[0], np.float32)
    dy = np.asarray(rows - middle[1], np.float32) * np.float32(random.uniform(0.6, 1.7))
    noise = random.standard_normal((height // 6 + 1, width // 6 + 1), dtype=np.float32)
    waves = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    share = np.sqrt(dx * dx + dy * dy) / np.float32(size) + np.float32(uneven * 0.5) * waves
    hill = np.clip(1 - share * share, 0, 1)
    far = dx * dx + dy * dy > (2 * size) ** 2
    return np.where(far, np.float32(0), hill).astype(np.float32)
