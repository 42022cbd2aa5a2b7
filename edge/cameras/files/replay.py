"""Replay: image files as a camera."""

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edge.cameras.files.not_inspected import NotInspected
from edge.cameras.files.pacing import Pace
from edge.cameras.interface import EndOfFrames
from edge.errors import CameraUriInvalid, ImageUnreadable
from edge.imaging.frame import Frame, FrameStatus, Pixels
from edge.imaging.image_files import is_image, read_image
from edge.imaging.image_header import MAX_PIXELS

GLOB_CHARACTERS = frozenset("*?[")


class ReplayCamera:
    """Images of a folder, in natural order, once or looped, at a rate or as fast as asked."""

    simulated = True
    can_wait = True

    def __init__(
        self,
        *,
        identity: str,
        images: Sequence[Path],
        pace: Pace,
        not_inspected: NotInspected,
        loop: bool = False,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.identity = identity
        self._images = tuple(images)
        self._pace = pace
        self._not_inspected = not_inspected
        self._loop = loop
        self._clock_ns = clock_ns
        self._utc_ns = utc_ns
        self._max_pixels = max_pixels
        self._next = 0
        self._first_time = True

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next image; one that cannot be read is an INCOMPLETE frame saying why."""
        if self._next == len(self._images):
            if not self._loop:
                raise EndOfFrames
            self._next = 0
            self._first_time = False
        if not self._pace.due(timeout_s):
            return None
        path = self._images[self._next]
        self._next += 1
        pixels: Pixels = np.empty((0, 0), np.uint8)
        status, detail = FrameStatus.COMPLETE, ""
        try:
            pixels = read_image(path, self._max_pixels)
        except ImageUnreadable as error:
            status, detail = FrameStatus.INCOMPLETE, str(error)
        if self._first_time:
            self._not_inspected.add_further(path)
        return Frame(
            pixels=pixels,
            number=self._next,
            captured_ns=self._clock_ns(),
            captured_utc_ns=self._utc_ns(),
            status=status,
            source=path.absolute().as_uri(),
            detail=detail,
        )

    def close(self) -> None:
        self._pace.close()


def find_images(uri: str, not_inspected: NotInspected) -> list[Path]:
    """List the images of a folder, a glob or a single file, naturally sorted.

    Args:
        not_inspected: gets what is there beside them.

    Raises:
        CameraUriInvalid: nothing there, no images there, or the folder cannot be read.
    """
    path = Path(uri)
    try:
        if path.is_file():
            return [path]
        is_folder = path.is_dir()
        if is_folder:
            entries = list(path.iterdir())
        else:
            pattern = Path(*path.parts[1:]) if path.is_absolute() else path
            start = Path(path.anchor) if path.is_absolute() else Path()
            entries = list(start.glob(str(pattern))) if GLOB_CHARACTERS & set(uri) else []
        found = [entry for entry in entries if is_image(entry) and entry.is_file()]
        if found:
            images = set(found)
            others = [entry for entry in entries if entry not in images]
            not_inspected.add_listed(natural_order(others))
            return natural_order(found)
    except (OSError, ValueError) as error:
        raise CameraUriInvalid(f"{uri}: cannot be listed ({error}). Check the path.") from error
    if is_folder:
        raise CameraUriInvalid(
            f"{uri}: the folder holds no images. Put .png, .jpg, .bmp, .tif or .webp "
            "files there, or name their folder (sub-folders: 'FOLDER/*/*.png')."
        )
    raise CameraUriInvalid(
        f"{uri}: no image matches. Check the pattern, and quote it for the shell."
    )


def natural_order(paths: Sequence[Path]) -> list[Path]:
    """Sort as people count: ``part_2`` before ``part_10``."""
    return sorted(paths, key=lambda path: (natural_key(str(path)), str(path)))


def natural_key(name: str) -> list[tuple[bool, int, str]]:
    """Return what sorts names as people count.

    Not natsort's, which would be one more package on the inspection PC for four lines.
    """
    pieces = [piece for piece in re.split(r"([0-9]+)", name.casefold()) if piece]
    numbers = [int(p) if p[0] in "0123456789" else None for p in pieces]
    return [(n is None, n or 0, piece) for n, piece in zip(numbers, pieces, strict=True)]
