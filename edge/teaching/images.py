"""The images that a product is taught with: read, checked, and known by their content."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import InputSpec
from edge.errors import FrameUnsuitable, ImageUnreadable, PartAmbiguous, PartNotFound
from edge.imaging.content_hash import pixels_hash
from edge.imaging.frame import PixelFormat, Pixels, pixel_format
from edge.imaging.image_files import is_image, read_image
from edge.inspection.alignment import Located
from edge.inspection.areas import demand_size
from edge.inspection.frame_prediction import view_frame
from edge.inspection.plausibility import image_fault, image_statistics
from edge.teaching.refusals import TeachingRefused
from edge.wording import counted

# More add little to a bank of a few thousand patches, and take memory and time.
MAX_IMAGES = 500
_MAX_NAMED = 5
_MAX_LISTED = 20

UnusableCause = Literal["unreadable", "unsuitable", "other_size"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TaughtImage:
    """One image as the model will see it.

    Attributes:
        path: where it lies.
        content: SHA-256 of its pixels.
        pixel_format: as it is stored.
        prepared: ``(H, W, 3) uint8``, the model's input.
        located: where the part was found in it; None of a product that is not looked for.
    """

    path: Path
    content: bytes
    pixel_format: PixelFormat
    prepared: NDArray[np.uint8]
    located: Located | None = None


@dataclass(frozen=True, slots=True)
class ReadImages:
    """Images to teach with.

    Attributes:
        images: of different content, by name.
        repeated: files that show the same as one before them, and are left out.
    """

    images: tuple[TaughtImage, ...]
    repeated: tuple[Path, ...]


def find_images(folder: Path, count: int | None = None) -> tuple[Path, ...]:
    """Return the images of a folder, by name; of more than asked for some, evenly.

    Args:
        count: at most so many; None takes up to 500.

    Raises:
        TeachingRefused: no such folder, or no images in it.
    """
    try:
        found = sorted(path for path in folder.iterdir() if is_image(path))
    except OSError as error:
        raise TeachingRefused(
            f"{folder}: cannot be read ({error.strerror}). Give a folder of images with --from.",
            kind="no_images",
        ) from error
    if not found:
        raise TeachingRefused(
            f"{folder}: no images. Give a folder of good images with --from.", kind="no_images"
        )
    max_count = min(count or MAX_IMAGES, MAX_IMAGES)
    if len(found) <= max_count:
        return tuple(found)
    return tuple(found[index * len(found) // max_count] for index in range(max_count))


def read_images(paths: Sequence[Path], spec: InputSpec) -> ReadImages:
    """Read images, and refuse what cannot show a good part.

    Raises:
        TeachingRefused: names the files that are unreadable, cut, dark, white, without contrast, of
            another size or of a format that is not taken; or those in which the part is not found.
    """
    faults: list[_Fault] = []
    without_part: dict[Path, str] = {}
    images: dict[bytes, TaughtImage] = {}
    repeated: list[Path] = []
    sizes: dict[Path, tuple[int, int]] = {}
    for path in paths:
        try:
            pixels = read_image(path)
            sizes[path] = (pixels.shape[1], pixels.shape[0])
            image = taught_image(path, pixels, spec)
        except (PartNotFound, PartAmbiguous) as error:
            without_part[path] = str(error)
            continue
        except (ImageUnreadable, FrameUnsuitable) as error:
            faults.append(_Fault(path, named_cause(error), named_fault(path, error)))
            continue
        if image.content in images:
            repeated.append(path)
        else:
            images[image.content] = image
    usual = Counter(sizes.values()).most_common(1)[0][0] if sizes else (0, 0)
    faults += [
        _Fault(
            path,
            "other_size",
            f"{path}: {size[0]}×{size[1]} pixels, the others have {usual[0]}×{usual[1]}; "
            "all images must have the same size.",
        )
        for path, size in sizes.items()
        if size != usual
    ]
    if faults:
        raise TeachingRefused(
            *_named(faults), kind="unusable_images", n=len(faults), **_by_cause(faults)
        )
    if without_part:
        raise TeachingRefused(
            f"the part was not found in {len(without_part)} of {counted(len(paths), 'image')}. "
            "Remove those "
            "that do not show it whole, or choose another reference, region or alignment:",
            *_listed([f"{path}: {why}" for path, why in without_part.items()]),
            kind="part_not_found",
            n=len(without_part),
            of=len(paths),
            images=_stems(without_part),
        )
    return ReadImages(tuple(images.values()), tuple(repeated))


def taught_image(path: Path, pixels: Pixels, spec: InputSpec) -> TaughtImage:
    """Prepare an image as it is taught with.

    Raises:
        FrameUnsuitable: it is of another format, too small, or shows nothing.
        PartNotFound, PartAmbiguous: the part is looked for, and it is not to be found.
    """
    found = pixel_format(pixels)
    if found is None or found.is_16_bit:
        raise FrameUnsuitable("16-bit images cannot be used for teaching. Save it with 8 bits.")
    demand_size(pixels.shape, spec)
    view = view_frame(pixels, spec)
    prepared = np.empty((spec.height, spec.width, 3), np.uint8)
    view.fill(0, prepared)
    fault = image_fault(image_statistics(prepared))
    if fault is not None:
        raise FrameUnsuitable(fault[1])
    return TaughtImage(
        path=path,
        content=pixels_hash(pixels),
        pixel_format=found,
        prepared=prepared,
        located=view.located,
    )


def named_cause(error: ImageUnreadable | FrameUnsuitable) -> UnusableCause:
    """Return what kind of cause keeps an image from being taught with."""
    return "unreadable" if isinstance(error, ImageUnreadable) else "unsuitable"


def named_fault(path: Path, error: Exception) -> str:
    """Return what is wrong with an image, and which one it is."""
    text = str(error)
    return text if text.startswith(str(path)) else f"{path}: {text}"


class _Fault(NamedTuple):
    """What is wrong with an image."""

    path: Path
    cause: UnusableCause
    sentence: str


def _by_cause(faults: Sequence[_Fault]) -> dict[str, str]:
    """Return by cause the names of images, for words in other languages."""
    causes = dict.fromkeys(fault.cause for fault in faults)
    return {one: _stems(fault.path for fault in faults if fault.cause == one) for one in causes}


def _stems(paths: Iterable[Path]) -> str:
    return ", ".join(path.stem for path in islice(paths, _MAX_LISTED))


def _named(faults: Sequence[_Fault]) -> Iterable[str]:
    yield (
        f"{counted(len(faults), 'image')} cannot be used for teaching. Remove them, or capture "
        "them again:"
    )
    yield from _listed([fault.sentence for fault in faults])


def _listed(faults: Sequence[str]) -> Iterable[str]:
    yield from faults[:_MAX_NAMED]
    if len(faults) > _MAX_NAMED:
        yield f"and {len(faults) - _MAX_NAMED} more."
