"""What OpenCV opens as a live camera: USB cameras and network streams."""

import logging
import time
from collections.abc import Callable
from functools import cache

import cv2

from edge.cameras.interface import CameraReport
from edge.errors import CameraError, CameraLost
from edge.imaging.frame import Frame, FrameStatus, Pixels, Telemetry
from edge.imaging.image_files import decode_jpeg
from edge.redaction import redacted

log = logging.getLogger(__name__)

# What OpenCV calls JPEGs in a row, by the names of streams, files and USB cameras.
JPEG_CODES = frozenset({"MJPG", "JPEG", "MJPA", "DMB1", "AVRN"})
# So many frames in a row that are none: whatever sends them is not the camera.
MAX_FOREIGN = 5


class OpenCVCamera:
    """An open ``cv2.VideoCapture``: plain, without a thread, free-running.

    ``read`` may block until OpenCV gives up, and it may give the last frame for ever: neither its
    return value nor its silence proves anything, the supervisor's deadlines and checks do.
    """

    simulated = False
    can_wait = False

    def __init__(
        self,
        *,
        identity: str,
        capture: cv2.VideoCapture,
        report: CameraReport,
        has_clock: bool,
        check: Callable[[], None],
        gives_jpegs: bool = False,
    ) -> None:
        """Take over an open capture.

        Args:
            identity: without credentials.
            capture: released by ``close``.
            report: what is known of the camera; does not change while it is open.
            has_clock: its position is the time of the exposure by the camera's clock, not a frame
                count by another name.
            check: raises CameraLost when the camera is known to be gone.
            gives_jpegs: the capture gives them as they came; each is checked and decoded here.
        """
        self.identity = identity
        self._capture = capture
        self._report = report
        self._has_clock = has_clock
        self._check = check
        self._gives_jpegs = gives_jpegs
        self._foreign = 0
        self._number = 0

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next frame; the timeout is OpenCV's own."""
        try:
            done, pixels = self._capture.read()
        except cv2.error as error:
            raise CameraLost(
                f"{self.identity}: {redacted(str(error)).strip()}. Check the camera."
            ) from None
        if not done:
            raise CameraLost(
                f"{self.identity}: the camera stopped sending frames. Check cable and power."
            )
        self._number += 1
        fault = ""
        if self._gives_jpegs:
            self._raise_if_foreign(pixels)
            pixels, fault = decode_jpeg(pixels)
        device_ns = None
        if self._has_clock:
            device_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6) or None
        return Frame(
            pixels=pixels,
            number=self._number,
            captured_ns=time.monotonic_ns(),
            captured_utc_ns=time.time_ns(),
            status=FrameStatus.INCOMPLETE if fault else FrameStatus.COMPLETE,
            detail=fault,
            telemetry=Telemetry(device_ns=device_ns),
        )

    def _raise_if_foreign(self, encoded: Pixels) -> None:
        begins_well = encoded.reshape(-1)[:2].tobytes() == b"\xff\xd8"
        self._foreign = 0 if begins_well else self._foreign + 1
        if self._foreign >= MAX_FOREIGN:
            raise CameraLost(
                f"{self.identity}: {MAX_FOREIGN} frames in a row are not JPEG. Check the "
                "address and the camera; it is reopened automatically."
            )

    def check(self) -> None:
        self._check()

    def trigger(self) -> None:
        raise CameraError(
            f"{self.identity}: has no software trigger. Set camera.trigger.mode: free_run."
        )

    def report(self) -> CameraReport:
        return self._report

    def close(self) -> None:
        self._capture.release()


def read_codec(capture: cv2.VideoCapture) -> str:
    """Return the four letters by which OpenCV calls what a capture decodes, in capitals."""
    code = max(0, int(capture.get(cv2.CAP_PROP_FOURCC)))
    return code.to_bytes(8, "little")[:4].rstrip(b"\0").decode("latin-1").upper()


def ask_for_jpegs(capture: cv2.VideoCapture) -> bool:
    """Have FFmpeg give JPEGs as they came; False where it decodes another codec by itself.

    Only before the first frame was read.
    """
    return read_codec(capture) in JPEG_CODES and capture.set(cv2.CAP_PROP_FORMAT, -1)


def concealment(codec: str) -> str:
    """Return what a codec hides, with what to do; empty for JPEGs, which are checked."""
    if codec in JPEG_CODES:
        return ""
    return (
        f"frames come as {codec or 'an unknown codec'}, whose decoder conceals lost "
        "or damaged data without reporting it: such a part may be judged OK. Let the "
        "camera send MJPEG, in which damage is detected"
    )


# What of a JPEG cannot be told, for its cameras to say.
JPEG_CHECK_LIMIT = (
    "each JPEG is checked to its last bit; changed bytes that leave a sound JPEG of another "
    "frame cannot be found, as JPEG has no checksum"
)


@cache
def inform_once(identity: str, limit: str) -> None:
    """Log what the check of a source cannot find, once however often it is opened."""
    log.info("%s: %s.", identity, limit)


@cache
def warn_once(identity: str, concealed: str) -> None:
    """Log what the decoder of a source hides, once however often it is opened."""
    log.warning("%s: %s.", identity, concealed)
