"""Which images are split off: drawn by content, so that names and folders do not matter."""

import hashlib
from collections.abc import Iterable

from training.data.content import content_hashes
from training.data.samples import Sample

# One image alone tells nothing about the spread of scores.
MIN_IMAGES = 2


def split_off(
    samples: Iterable[Sample], share: float, seed: int, purpose: str
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split samples in two by a hash of their content.

    Each image, or group of images, draws its own lot, so it stays on its side when others are
    added, when files are renamed or the folder moves, and whatever the order. Only where chance
    gives the share less than half of its images, or fewer than two of eight or more, the next lots
    cross.

    Args:
        share: of the images that is split off, on average.
        purpose: of what is split off; another purpose draws other lots.

    Returns:
        The rest and the share; each has an image if there are two, and the share two of eight.
    """
    lots = _lots(samples, f"{seed} {purpose}")
    off = {sample for sample, lot in lots.items() if lot < share}
    least = max(1, min(len(lots) // 4, max(MIN_IMAGES, round(share * len(lots) / 2))))
    # Equal lots belong to one group, or to copies of one image, and cross together.
    for lot in sorted(set(lots.values()))[:-1]:
        if len(off) >= least:
            break
        off |= {sample for sample, drawn in lots.items() if drawn == lot}
    if len(lots) >= 2 and len(off) == len(lots):
        off = {sample for sample, lot in lots.items() if lot != max(lots.values())}
    return _by_path(set(lots) - off), _by_path(off)


def _lots(samples: Iterable[Sample], draw: str) -> dict[Sample, float]:
    """Return a number in [0, 1) for each sample; a group draws by the least of its hashes."""
    contents = content_hashes(samples)
    groups: dict[str, bytes] = {}
    for sample, content in contents.items():
        if sample.group:
            groups[sample.group] = min(content, groups.get(sample.group, content))
    return {
        sample: _lot(draw, groups[sample.group] if sample.group else content)
        for sample, content in contents.items()
    }


def _lot(draw: str, content: bytes) -> float:
    digest = hashlib.sha256(f"{draw} {content.hex()}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _by_path(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: (sample.path, sample.index or 0)))
