"""Which images are split off: drawn by content, so that names and folders do not matter."""

from collections.abc import Iterable

from edge.teaching.lots import held_out
from training.data.content import content_hashes
from training.data.samples import Sample


def split_off(
    samples: Iterable[Sample], share: float, seed: int, purpose: str
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split samples in two by a hash of their content.

    Each image, or group of images, draws its own lot, so it stays on its side when others are
    added, when files are renamed or the folder moves, and whatever the order.

    Args:
        share: of the images that is split off, on average.
        purpose: of what is split off; another purpose draws other lots.

    Returns:
        The rest and the share; each has an image if there are two, and the share two of eight.
    """
    contents = content_hashes(samples)
    groups: dict[str, bytes] = {}
    for sample, content in contents.items():
        if sample.group:
            groups[sample.group] = min(content, groups.get(sample.group, content))
    distinct = list(contents)
    # A group draws by the least of its hashes.
    keys = [groups[sample.group] if sample.group else contents[sample] for sample in distinct]
    off = held_out(keys, share, f"{seed} {purpose}")
    return (
        _by_path(sample for index, sample in enumerate(distinct) if index not in off),
        _by_path(distinct[index] for index in off),
    )


def _by_path(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: (sample.path, sample.index or 0)))
