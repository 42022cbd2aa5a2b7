"""Cameras that OpenCV opens: USB (V4L2), network streams, video files."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2

from edge.cameras.camera import EndOfPictures
from edge.cameras.pace import Pace
from edge.errors import CameraLost, CameraNotOpened, CameraUriInvalid
from edge.frame import Frame
from edge.redaction import redacted

log = logging.getLogger(__name__)

OPENING_LIMIT_S = 10.0
SILENCE_LIMIT_S = 5.0
# The station's capture thread does nothing but read, so these are spare.
HANDOVER_FRAMES = 4

Opener = Callable[[], cv2.VideoCapture]


class VideoFile:
    """A video file: finite, waits for its reader."""

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
        self._source = path.absolute().as_uri()
        self._pace = pace
        self._loop = loop
        self._number = 0

    def read(self, timeout_s: float) -> Frame | None:
        if not self._pace.due(timeout_s):
            return None
        done, pixels = self._capture.read()
        if not done and self._loop and self._number:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            done, pixels = self._capture.read()
        if not done:
            self._warn_if_cut_short()
            raise EndOfPictures
        self._number += 1
        return Frame(pixels, self._number, time.monotonic_ns(), time.time_ns(), source=self._source)

    def close(self) -> None:
        self._pace.close()
        self._capture.release()

    def _warn_if_cut_short(self) -> None:
        declared = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if self._number < declared:
            log.warning(
                "%s: ended after %d of %d declared frames; the file may be cut short",
                self.identity,
                self._number,
                declared,
            )


class LiveCapture:
    """A camera that goes on by itself.

    OpenCV's ``read`` may block for good or give the last picture for ever after an unplug, so it
    runs in a thread of its own and its return value proves nothing: the camera is lost when no
    new frame arrived within ``silence_limit_s``.
    """

    simulated = False
    can_wait = False

    def __init__(
        self,
        uri: str,
        opener: Opener,
        opening_limit_s: float = OPENING_LIMIT_S,
        silence_limit_s: float = SILENCE_LIMIT_S,
    ) -> None:
        """Open the camera.

        Raises:
            CameraNotOpened: refused, or no answer within ``opening_limit_s``.
        """
        self.identity = redacted(uri)
        self._silence_limit_s = silence_limit_s
        self._frames: queue.Queue[Frame | None] = queue.Queue(HANDOVER_FRAMES)
        self._opened: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self._grab, args=(opener,), name="camera", daemon=True
        )
        self._thread.start()
        try:
            opened = self._opened.get(timeout=opening_limit_s)
        except queue.Empty:
            self._closing.set()
            raise CameraNotOpened(
                f"{self.identity}: no answer within {opening_limit_s:g} s. "
                "Check that the camera is switched on and reachable from this machine."
            ) from None
        if not opened:
            raise CameraNotOpened(
                f"{self.identity}: the camera did not open. Check address, credentials and cable, "
                "and that no other program uses it."
            )
        self._last_s = time.monotonic()

    def read(self, timeout_s: float) -> Frame | None:
        try:
            frame = self._frames.get(timeout=timeout_s)
        except queue.Empty:
            silence_s = time.monotonic() - self._last_s
            if silence_s < self._silence_limit_s:
                return None
            raise CameraLost(
                f"{self.identity}: no frame for {silence_s:.1f} s. Check cable and power."
            ) from None
        if frame is None:
            raise CameraLost(
                f"{self.identity}: the camera stopped giving frames. Check cable and power."
            )
        self._last_s = time.monotonic()
        return frame

    def close(self) -> None:
        # The capture is released by its own thread: it is not thread-safe, and may be stuck.
        self._closing.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=2.0)

    def _grab(self, opener: Opener) -> None:
        capture = None
        try:
            capture = opener()
            self._opened.put(capture.isOpened())
            number = 0
            while not self._closing.is_set() and capture.isOpened():
                done, pixels = capture.read()
                if not done:
                    break
                number += 1
                self._hand_over(Frame(pixels, number, time.monotonic_ns(), time.time_ns()))
        except cv2.error as error:
            log.error("%s: %s", self.identity, redacted(str(error)).strip())
            self._opened.put(False)
        finally:
            if capture is not None:
                capture.release()
            self._hand_over(None)

    def _hand_over(self, frame: Frame | None) -> None:
        while True:
            try:
                self._frames.put_nowait(frame)
                return
            except queue.Full:
                pass
            try:
                lost = self._frames.get_nowait()
            except queue.Empty:
                continue
            if lost is not None and not self._closing.is_set():
                log.warning("%s: frame %d was not read in time", self.identity, lost.number)


def open_v4l2(device: str) -> LiveCapture:
    """Open ``/dev/video0`` or ``/dev/v4l/by-id/…``, always through V4L2.

    Raises:
        CameraNotOpened: absent, not permitted, or not a camera.
    """
    _check_device(device)

    def opener() -> cv2.VideoCapture:
        capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
        # Asks for fresh frames; drivers may ignore it, so nothing rests on it.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return capture

    return LiveCapture(device, opener)


def open_stream(
    uri: str,
    opening_limit_s: float = OPENING_LIMIT_S,
    silence_limit_s: float = SILENCE_LIMIT_S,
) -> LiveCapture:
    """Open an ``rtsp://`` or ``http://`` stream; credentials appear in no message.

    Raises:
        CameraNotOpened: refused or not reachable.
    """

    def opener() -> cv2.VideoCapture:
        # FFmpeg and OpenCV print the address with its password when it does not open.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        return cv2.VideoCapture(
            uri,
            cv2.CAP_FFMPEG,
            [
                *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(opening_limit_s * 900)),
                *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(silence_limit_s * 2000)),
            ],
        )

    return LiveCapture(uri, opener, opening_limit_s, silence_limit_s)


def _check_device(device: str) -> None:
    try:
        os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK))
    except FileNotFoundError:
        found = [str(p) for p in sorted(Path("/dev").glob("v4l/by-id/*"))]
        found = found or [str(p) for p in sorted(Path("/dev").glob("video*"))]
        choice = f" or choose one of {', '.join(found)}" if found else ""
        raise CameraNotOpened(
            f"{device}: no such camera on this machine. Plug it in{choice}."
        ) from None
    except PermissionError:
        raise CameraNotOpened(
            f"{device}: not permitted. Add the user to the group 'video' and log in again."
        ) from None
    except OSError as error:
        raise CameraNotOpened(
            f"{device}: cannot be opened ({error.strerror}). Check that no other program uses it."
        ) from None
