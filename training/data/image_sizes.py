"""How large images are, by their headers wherever these say it."""

from collections.abc import Sequence
from pathlib import Path

from edge.imaging.image_header import image_header
from edge.imaging.orientation import is_tiff, orientation
from training.data.loading import read_sample
from training.data.samples import Sample

# Of more images those spread evenly are looked at.
_MAX_IMAGES = 1000

# From this orientation on a file's rows are the image's columns.
_LYING = 5


def image_sizes(samples: Sequence[Sample]) -> list[tuple[int, int]]:
    """Return height and width of up to 1,000 images as they are read, views left out.

    Raises:
        DataError: an image cannot be read; names the file.
    """
    plain = [sample for sample in samples if sample.view is None]
    count = min(len(plain), _MAX_IMAGES)
    return [_size(plain[number * len(plain) // count]) for number in range(count)]


def _size(sample: Sample) -> tuple[int, int]:
    found = _by_header(sample.path) if sample.index is None else None
    if found is not None:
        return found
    height, width = read_sample(sample).shape[:2]
    return height, width


def _by_header(path: Path) -> tuple[int, int] | None:
    try:
        with path.open("rb") as file:
            if is_tiff(file.read(4)):  # whose header may speak of its tiles
                return None
            header = image_header(file)
            file.seek(0)
            lying = orientation(file) >= _LYING
    except OSError:
        return None
    if header is None:
        return None
    size = (header.height_px, header.width_px)
    return size[::-1] if lying else size
