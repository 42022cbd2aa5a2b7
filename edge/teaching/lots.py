"""Which images are held out, and which fold judges one: drawn by content, not by name."""

import hashlib
from collections.abc import Sequence

# One image alone tells nothing about the spread of scores.
MIN_IMAGES = 2

# Up to so many good images in all a fit is cross-validated; a hold-out of more is large enough.
MAX_CROSS_VALIDATED = 100
FOLDS = 6
# A model of one image knows no variation.
MIN_LEARNED = 2


def held_out(contents: Sequence[bytes], share: float, draw: str) -> frozenset[int]:
    """Return which images are split off.

    Each draws its own lot, so it stays on its side when others are added. Only where chance gives
    the share less than half of its images, or fewer than two of eight or more, the next lots cross.

    Args:
        contents: what each image is known by; images of one content stay together.
        share: of the images that is split off, on average.
        draw: another one draws other lots.

    Returns:
        Indices; both sides have an image if there are two, and the share two of eight.
    """
    lots = [_lot(draw, content) for content in contents]
    off = {index for index, lot in enumerate(lots) if lot < share}
    min_count = max(1, min(len(lots) // 4, max(MIN_IMAGES, round(share * len(lots) / 2))))
    # Equal lots belong to one group, or to copies of one image, and cross together.
    for lot in sorted(set(lots))[:-1]:
        if len(off) >= min_count:
            break
        off |= {index for index, drawn in enumerate(lots) if drawn == lot}
    if len(lots) >= 2 and len(off) == len(lots):
        off = {index for index, lot in enumerate(lots) if lot != max(lots)}
    return frozenset(off)


def _lot(draw: str, content: bytes) -> float:
    digest = hashlib.sha256(f"{draw} {content.hex()}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def dealt(keys: Sequence[bytes], count: int = FOLDS) -> list[frozenset[bytes]]:
    """Deal images to folds of about one size; those of one key stay together.

    Args:
        keys: of each image: what it shows, or the group that it belongs to.
        count: of folds, or as many as there are different keys.

    Returns:
        The keys of each fold.
    """
    sizes = dict.fromkeys(keys, 0)
    for key in keys:
        sizes[key] += 1
    # The largest first, so that the folds come out even; among equals by a lot.
    ordered = sorted(sizes, key=lambda key: (-sizes[key], hashlib.sha256(key).digest()))
    folds: list[set[bytes]] = [set() for _ in range(min(count, len(ordered)))]
    held = [0] * len(folds)
    for key in ordered:
        place = held.index(min(held))
        folds[place].add(key)
        held[place] += sizes[key]
    return [frozenset(fold) for fold in folds]
