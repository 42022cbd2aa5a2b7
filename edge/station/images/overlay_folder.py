"""Overlay images of inspected parts in a folder."""

import logging
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np

from edge.atomic_files import create_new, refuse_foreign_links
from edge.contract.verdict import Verdict
from edge.errors import OutputNotWritable
from edge.imaging.frame import pixel_format
from edge.imaging.image_files import write_image
from edge.system.file_access import why_closed

log = logging.getLogger(__name__)

# A name may have 255 bytes, number and result with it; a Korean syllable has three.
MAX_STEM_LENGTH, MAX_STEM_BYTES = 80, 200


class OverlayWriter:
    """Draws and writes one image per part; a full disk is logged once and never stops the line.

    Attributes:
        written: images in the folder from this run.
        failed: images that could not be written.
    """

    def __init__(self, folder: Path) -> None:
        """Create the folder and try it.

        Raises:
            OutputNotWritable: it cannot be created, or nothing can be written there.
            LinkRefused: a link lies on the way where others may lay one.
        """
        self.folder = folder
        self.written = 0
        self.failed = 0
        trial = folder / ".edge-run.partial"
        refuse_foreign_links(trial)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with create_new(trial):
                pass
            trial.unlink()
        except OSError as error:
            cause = error.strerror
            if isinstance(error, FileExistsError | NotADirectoryError):
                cause = "it is not a folder"
            elif isinstance(error, PermissionError):
                cause = why_closed()
            raise OutputNotWritable(
                f"{folder}: the folder for overlays cannot be written ({cause}). "
                "Choose another --save folder, or change its permissions."
            ) from error

    def write(self, verdict: Verdict) -> None:
        """Write the overlay of one verdict."""
        # numba compiles with it: only who draws waits.
        from edge.inspection.overlay import draw_overlay

        pixels = verdict.frame.pixels
        if pixel_format(pixels) is None:  # nothing that could be drawn; the card says why
            pixels = np.empty((0, 0), np.uint8)
        image = draw_overlay(pixels, verdict.inspection)
        try:
            write_image(self.folder / file_name(verdict), image)
            self.written += 1
        except OutputNotWritable as error:
            self.failed += 1
            if self.failed == 1:
                log.error("%s Inspection continues without overlays.", error)


def file_name(verdict: Verdict) -> str:
    """Return ``000012_good_1_OK.jpg``: part number, source where there is one, result."""
    frame = verdict.frame
    stem = Path(unquote(urlsplit(frame.source).path)).stem if frame.source else ""
    safe = re.sub(r"[^\w.-]+", "-", stem)[:MAX_STEM_LENGTH]
    safe = safe.encode()[:MAX_STEM_BYTES].decode(errors="ignore")
    result = verdict.inspection.decision.result.value
    return "_".join(part for part in (f"{frame.number:06d}", safe, result) if part) + ".jpg"
