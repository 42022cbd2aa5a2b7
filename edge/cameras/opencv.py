"""What OpenCV opens as a live camera: USB cameras and network streams."""

import time
from collections.abc import Callable

import cv2

from edge.cameras.camera import CameraReport
from edge.errors import CameraError, CameraLost
from edge.frame import Frame, Telemetry
from edge.redaction import redacted


class OpenCVCamera:
    """An open ``cv2.VideoCapture``: plain, without a thread, free-running.

    ``read`` may block until OpenCV gives up, and it may give the last picture for ever: neither its
    return value nor its silence proves anything, the supervisor's deadlines and checks do.
    """

    simulated = False
    can_wait = False

    def __init__(
        self,
        identity: str,
        capture: cv2.VideoCapture,
        report: CameraReport,
        has_clock: bool,
        check: Callable[[], None],
    ) -> None:
        """Take over an open capture.

        Args:
            identity: without credentials.
            capture: released by ``close``.
            report: what is known of the camera; does not change while it is open.
            has_clock: its position is the time of the exposure by the camera's clock, not a frame
                count by another name.
            check: raises CameraLost when the camera is known to be gone.
        """
        self.identity = identity
        self._capture = capture
        self._report = report
        self._has_clock = has_clock
        self._check = check
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
                f"{self.identity}: the camera stopped giving frames. Check cable and power."
            )
        self._number += 1
        device_ns = None
        if self._has_clock:
            device_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6) or None
        return Frame(
            pixels,
            self._number,
            time.monotonic_ns(),
            time.time_ns(),
            telemetry=Telemetry(device_ns=device_ns),
        )

    def check(self) -> None:
        self._check()

    def trigger(self) -> None:
        raise CameraError(
            f"{self.identity}: takes no software trigger. Set camera.trigger.mode: free_run."
        )

    def report(self) -> CameraReport:
        return self._report

    def close(self) -> None:
        self._capture.release()
