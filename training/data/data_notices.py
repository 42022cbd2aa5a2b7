"""What somebody should know of a data set before long work begins on it."""

import logging
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from edge.errors import ImageUnreadable
from edge.imaging.frame import PixelFormat, pixel_format
from edge.imaging.image_files import read_image
from edge.imaging.image_header import image_header
from edge.imaging.orientation import UPRIGHT, orientation
from edge.redaction import readable
from edge.wording import agreeing, counted
from training.data.disjoint_splits import named
from training.data.masks import Oddity, oddities
from training.data.near_duplicates import same_images
from training.data.open_data_set import each_folder, open_data_set
from training.data.samples import Sample
from training.data.settings import DataSettings
from training.data.unused_files import find_unused, unused_text
from training.errors import DataError

# What a header alone tells: bytes of a pixel.
_HEADER_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
_BY_BYTES = {
    1: PixelFormat.GREY8,
    2: PixelFormat.GREY16,
    3: PixelFormat.BGR8,
    6: PixelFormat.BGR16,
}

_MAX_PAIRS = 3

log = logging.getLogger(__name__)


def report_unused(settings: DataSettings) -> None:
    """Say of a data set what is not used, what is read otherwise than it lies there, what is odd.

    Raises:
        DataError: as ``open_data_set``.
    """
    for folder in each_folder(settings):
        _report_settings(folder)


def _report_settings(settings: DataSettings) -> None:
    data = open_data_set(settings)
    splits = data.split(0)
    samples = [*splits.fit, *splits.validation, *splits.test]
    images = sorted({sample.path for sample in samples if sample.index is None})
    masks = {sample.mask for sample in samples if sample.mask is not None}
    others = {*masks, *data.stray_masks, *data.other_files}
    _report_unused(settings.path, data.places, images, others)
    sentences = (_turned(images), _formats(images), _twice(images), *_odd_masks(samples))
    for sentence in sentences:
        if sentence:
            log.warning("%s", sentence)


def report_unused_in(folder: Path, images: Sequence[Path]) -> None:
    """Say in one line what lies in a folder beside the images that are used.

    Raises:
        DataError: a folder cannot be read.
    """
    _report_unused(folder, [folder], images, ())


def _report_unused(
    root: Path, places: Sequence[Path], images: Sequence[Path], others: Collection[Path]
) -> None:
    try:
        unused = find_unused(places, set(images), others)
    except OSError as error:
        raise DataError(
            f"{error.filename or root}: cannot be read ({error.strerror}). Check its permissions."
        ) from error
    text = readable(unused_text(root, unused))
    if text:
        log.log(logging.WARNING if unused.matters else logging.INFO, "%s", text)


def _turned(images: Sequence[Path]) -> str:
    turned = [path for path in images if _orientation(path) != UPRIGHT]
    if not turned:
        return ""
    return (
        f"{len(turned)} of {counted(len(images), 'image')} "
        f"{agreeing(len(turned), 'says', 'say')} that they are to be turned (EXIF) and are "
        f"read so, as viewers show them: {named(turned)}. Frames of a camera say nothing of it; "
        "make sure that the parts lie as they will there"
    )


def _orientation(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return orientation(file)
    except OSError:
        return UPRIGHT  # whoever reads the image says what is wrong with it


def _formats(images: Sequence[Path]) -> str:
    found: defaultdict[PixelFormat, list[Path]] = defaultdict(list)
    for path in images:
        one = _format(path)
        if one is not None:
            found[one].append(path)
    if len(found) < 2:
        return ""
    (most, usual), *few = sorted(found.items(), key=lambda item: -len(item[1]))
    others = ", ".join(f"{len(paths)} {one} ({named(paths)})" for one, paths in few)
    return (
        f"the images are of several formats: {len(usual)} {most}, {others}. The station will "
        "take frames of each that is fitted or calibrated on; convert or remove the few if that is "
        "not meant"
    )


def _format(path: Path) -> PixelFormat | None:
    """Return an image's format, from its header where that tells it."""
    try:
        if path.suffix.lower() in _HEADER_SUFFIXES:
            with path.open("rb") as file:
                header = image_header(file)
            if header is not None and header.pixel_bytes in _BY_BYTES:
                return _BY_BYTES[header.pixel_bytes]
        return pixel_format(read_image(path))
    except (OSError, ImageUnreadable):
        return None


def _twice(images: Sequence[Path]) -> str:
    pairs = same_images(images)
    if not pairs:
        return ""
    shown = ", ".join(f"{one} and {other}" for one, other in pairs[:_MAX_PAIRS])
    more = f" and {len(pairs) - _MAX_PAIRS} more" if len(pairs) > _MAX_PAIRS else ""
    return readable(
        f"{counted(len(pairs), 'image seems', 'images seem')} to be there twice, as files of "
        f"several types: {shown}{more}."
        " One of each may be fitted and judged by the other; remove one"
    )


def _odd_masks(samples: Sequence[Sample]) -> list[str]:
    odd: defaultdict[Oddity, list[Path]] = defaultdict(list)
    masks = {s.mask for s in samples if s.mask is not None and s.mask_index is None}
    for mask in sorted(masks):
        try:
            found = list(oddities(read_image(mask)))
        except ImageUnreadable:
            continue  # told by whoever needs it
        for one in found:
            odd[one].append(mask)
    return [
        f"{len(paths)} of {counted(len(masks), 'mask')} {agreeing(len(paths), 'is', 'are')} "
        f"{one}: {named(paths)}"
        for one, paths in sorted(odd.items())
    ]
