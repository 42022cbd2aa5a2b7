"""Video files as a camera."""

import logging
import time
from pathlib import Path

import cv2

from edge.cameras.capture.opencv import ask_for_jpegs, concealment, read_codec, warn_once
from edge.cameras.files.pacing import Pace
from edge.cameras.interface import EndOfFrames
from edge.errors import CameraUriInvalid
from edge.imaging.frame import Frame, FrameStatus
from edge.imaging.image_files import decode_jpeg
from edge.wording import counted

log = logging.getLogger(__name__)


class VideoFile:
    """A video file: finite, waits for its reader.

    Attributes:
        codec: what its images are coded in, by OpenCV's four letters.
    """

    simulated = True
    can_wait = True

    def __init__(self, path: Path, pace: Pace, loop: bool = False) -> None:
        """Open the file.

        Raises:
            CameraUriInvalid: not a video that this OpenCV decodes.
        """
        self.identity = str(path)
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise CameraUriInvalid(
                f"{path}: OpenCV {cv2.__version__} cannot decode this video. Check that it is "
                "complete, or convert it: ffmpeg -i IN -c:v mjpeg OUT.avi"
            )
        self._gives_jpegs = ask_for_jpegs(self._capture)
        self.codec = read_codec(self._capture)
        if not self._gives_jpegs:
            warn_once(self.identity, concealment(self.codec))
        self._source = path.absolute().as_uri()
        self._pace = pace
        self._loop = loop
        self._number = 0
        self._position = 0  # in the file: 1 is its first frame

    def read(self, timeout_s: float) -> Frame | None:
        if not self._pace.due(timeout_s):
            return None
        done, pixels = self._capture.read()
        if not done and self._loop and self._number:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            self._position = 0
            done, pixels = self._capture.read()
        if not done:
            self._warn_if_cut_short()
            raise EndOfFrames
        self._number += 1
        self._position += 1
        fault = ""
        if self._gives_jpegs:
            pixels, fault = decode_jpeg(pixels)
        return Frame(
            pixels=pixels,
            number=self._number,
            captured_ns=time.monotonic_ns(),
            captured_utc_ns=time.time_ns(),
            status=FrameStatus.INCOMPLETE if fault else FrameStatus.COMPLETE,
            detail=fault,
            source=f"{self._source}#frame={self._position}",
        )

    def close(self) -> None:
        self._pace.close()
        self._capture.release()

    def _warn_if_cut_short(self) -> None:
        declared = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if self._number < declared:
            log.warning(
                "%s: ended after %d of %s; the file may be cut short",
                self.identity,
                self._number,
                counted(declared, "declared frame"),
            )
