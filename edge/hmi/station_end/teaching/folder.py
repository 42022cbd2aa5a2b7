"""What is being taught, on the disk: captured images, made small for people, and the candidate.

::

    FOLDER/images/0001.png, 0001.jpg     as captured, and small
    FOLDER/images/0001.large.jpg         to draw on, as large as a screen
    FOLDER/candidate-1/                  of the newest build: model.xml, .bin, .json, .sig, 0001.jpg
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2

from edge.atomic_files import write_all
from edge.errors import OutputNotWritable
from edge.hmi.actions import InspectedPart
from edge.imaging.frame import Pixels
from edge.teaching.build_process import MODEL_XML
from edge.teaching.line_comparison import LineParts

FOLDER = "teaching"
LINE_FILE = "line.json"
IMAGES, CANDIDATE = "images", "candidate"
_THUMBNAIL_PX, _LARGE_PX = 320, 1280
# Fast, and half the size of the samples: they are read more often than written.
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 80]


class TeachingFolder:
    """The folder of one station; what an earlier session left is removed by the next one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self) -> None:
        """Make it anew.

        Raises:
            OutputNotWritable: the disk refused it.
        """
        self.remove()
        try:
            (self.path / IMAGES).mkdir(parents=True)
        except OSError as error:
            raise _not_writable(self.path, error) from error

    def remove(self) -> None:
        """Remove it with everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def image(self, number: int) -> Path:
        """Return where a captured image lies."""
        return self.path / IMAGES / f"{number:04d}.png"

    def keep(self, number: int, pixels: Pixels) -> None:
        """Write an image without loss, a small one beside it, and one to draw on.

        Args:
            pixels: of 8 bits.

        Raises:
            OutputNotWritable: the disk refused it; none of them is there.
        """
        path = self.image(number)
        large = min(_LARGE_PX, pixels.shape[1])
        files = (
            (path.with_suffix(".jpg"), _small(pixels, _THUMBNAIL_PX)),
            (path.with_suffix(".large.jpg"), _small(pixels, large)),
            (path, cv2.imencode(".png", pixels, _PNG)[1].tobytes()),
        )
        write_all(files, durable=False)  # a power cut ends the session in any case

    def candidate(self, build: int) -> Path:
        """Return the folder of a build."""
        return self.path / f"{CANDIDATE}-{build}"

    def model(self, build: int) -> Path:
        """Return the ``.xml`` of a build."""
        return self.candidate(build) / MODEL_XML

    def line(self, build: int) -> Path:
        """Return where a build finds the parts that it is compared on."""
        return self.candidate(build) / LINE_FILE

    def begin_build(self, build: int, line: Sequence[InspectedPart]) -> None:
        """Make the folder of a build, with the parts that it is compared on, if there are any.

        Raises:
            OutputNotWritable: the disk refused it.
        """
        folder = self.candidate(build)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir()
        except OSError as error:
            raise _not_writable(folder, error) from error
        if line:
            parts = [part.model_dump(exclude={"sha256"}) for part in line]
            entry = LineParts.model_validate({"parts": parts})
            write_all([(self.line(build), entry.model_dump_json().encode())], durable=False)

    def drop_build(self, build: int) -> None:
        """Remove a build."""
        shutil.rmtree(self.candidate(build), ignore_errors=True)


def _small(pixels: Pixels, width: int) -> bytes:
    """Return a JPEG of a width."""
    height = max(1, round(pixels.shape[0] * width / pixels.shape[1]))
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    shown = small if small.ndim == 2 else small[:, :, :3]
    return cv2.imencode(".jpg", shown, _JPEG)[1].tobytes()


def teaching_folder(journal_folder: Path) -> TeachingFolder:
    """Return the folder beside a journal."""
    return TeachingFolder(journal_folder / FOLDER)


def _not_writable(path: Path, error: OSError) -> OutputNotWritable:
    return OutputNotWritable(
        f"{path}: cannot be written ({error.strerror}). Make room on this disk, or check the "
        "folder's permissions."
    )
