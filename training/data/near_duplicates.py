"""The same image saved as files of several types, which no comparison of bytes finds."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge.errors import ImageUnreadable
from edge.imaging.image_files import read_image
from edge.imaging.image_header import image_header

_SIDE = 64
_TYPES = {".jpeg": ".jpg", ".tiff": ".tif"}
# Root mean square of grey levels: what compression changes. Other images of the set have to be
# much farther away, for parts in one fixture differ little.
_MAX_BY_COMPRESSION = 2.0
_NEARER = 0.6

Thumbnails = NDArray[np.float32]


def same_images(images: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Return pairs of files of different types that show the same image.

    Only files of one size are compared, and nothing is read of a set of one type.
    """
    by_size: defaultdict[tuple[int, int], defaultdict[str, list[Path]]] = defaultdict(
        lambda: defaultdict(list)
    )
    if len({_type(path) for path in images}) > 1:
        for path in images:
            size = _size(path)
            if size is not None:
                by_size[size][_type(path)].append(path)
    groups = [types for types in by_size.values() if len(types) > 1]
    total = sum(len(paths) for types in groups for paths in types.values())
    pairs = []
    with tqdm(total=total, desc="compare", unit="image", disable=not total) as bar:
        for types in groups:
            looked_at = []
            for name in sorted(types):
                made = [(path, _thumbnail(path)) for path in types[name]]
                readable = [(path, small) for path, small in made if small is not None]
                if readable:
                    paths, thumbnails = zip(*readable, strict=True)
                    looked_at.append((paths, np.stack(thumbnails)))
                bar.update(len(types[name]))
            for (paths, one), (others, other) in combinations(looked_at, 2):
                pairs += [(paths[a], others[b]) for a, b in _nearest(one, other)]
    return sorted(pairs)


def _nearest(first: Thumbnails, second: Thumbnails) -> list[tuple[int, int]]:
    """Return which are so near to each other as only the same image is."""
    across = _distances(first, second)
    within = _distances(first, first)
    np.fill_diagonal(within, np.inf)
    pairs = []
    for a, row in enumerate(across):
        b = int(row.argmin())
        others = np.concatenate([np.delete(row, b), within[a]])
        least = float(others.min(initial=np.inf))
        if row[b] == 0.0 or (row[b] <= _MAX_BY_COMPRESSION and row[b] <= _NEARER * least):
            pairs.append((a, b))
    return pairs


def _distances(first: Thumbnails, second: Thumbnails) -> NDArray[np.float64]:
    """Return the root mean square of the differences, each of the first with each of the second."""
    one, two = first.astype(np.float64), second.astype(np.float64)
    squares = (one**2).sum(1)[:, None] + (two**2).sum(1)[None, :] - 2.0 * one @ two.T
    return np.sqrt(np.maximum(squares, 0.0) / one.shape[1])


def _thumbnail(path: Path) -> Thumbnails | None:
    """Return grey levels, ``(64 · 64,)``; None of what cannot be read."""
    try:
        pixels = read_image(path)
    except ImageUnreadable:
        return None
    scale = np.float32(255.0 / np.iinfo(pixels.dtype).max)
    grey = pixels if pixels.ndim == 2 else pixels[:, :, :3].mean(2, dtype=np.float32)
    small = cv2.resize(grey.astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return small.reshape(-1) * scale


def _size(path: Path) -> tuple[int, int] | None:
    try:
        with path.open("rb") as file:
            header = image_header(file)
    except OSError:
        return None
    return None if header is None else (header.height_px, header.width_px)


def _type(path: Path) -> str:
    suffix = path.suffix.lower()
    return _TYPES.get(suffix, suffix)
