"""Which taught images a recipe keeps: all of a version's, or none that only it needs."""

from collections.abc import Collection, Mapping


def images_to_remove(
    taught: Mapping[int, frozenset[str]],
    present: Collection[str],
    *,
    always: Collection[int],
    max_images: int,
) -> set[str]:
    """Choose what goes, so that the rest is within a bound or needed by versions that always stay.

    Where there is room for all, nothing goes. Else what no version names goes first, then what is
    left of versions that lack an image already, and then one version after the other, the oldest
    first; one that shares all of its images with others costs no room, and keeps them.

    Args:
        taught: contents of the images of each version that was taught.
        present: contents that are there.
        always: versions whose images stay, however many.

    Returns:
        Contents among those present.
    """
    there = set(present)
    if len(there) <= max_images:
        return set()
    whole = {version for version, images in taught.items() if images <= there}
    kept = {version for version in taught if version in whole or version in always}
    for version in sorted(kept):
        needed = _joined(taught, kept)
        if len(needed & there) <= max_images:
            break
        without = _joined(taught, kept - {version})
        if version not in always and without != needed:
            kept.remove(version)
    return there - _joined(taught, kept)


def _joined(taught: Mapping[int, frozenset[str]], versions: Collection[int]) -> set[str]:
    return {image for version in versions for image in taught[version]}
