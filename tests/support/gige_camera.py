"""A GigE Vision camera in a process of its own: Aravis' simulator sends our images over UDP.

Each camera has its own loopback address and serial number, so several may run at once and tests
do not meet. What it says about itself stands in ``gige_camera.xml``::

    with GigECamera([good_image(), defective_image()], rate_fps=25) as camera:
        open_aravis(camera.uri, SensorSettings(), TriggerSettings())

It starts with frame id 65401, so the 16-bit counter wraps after 135 exposures. It has no packet
resend and takes no packet size test.
"""

import atexit
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

GENEROUS_S = 60.0
FIRST_FRAME_ID = 65401
HEARTBEAT_S = 3.0

Image = NDArray[Any]

LINK_SOURCE = Path(__file__).with_name("gige_camera_link.c")

# GenICam's Pixel Format Naming Convention; bits 16 to 23 are the bits per pixel.
PIXEL_FORMATS = {
    "Mono8": 0x01080001,
    "Mono10": 0x01100003,
    "Mono12": 0x01100005,
    "Mono16": 0x01100007,
    "Mono10p": 0x010A0046,
    "Mono12p": 0x010C0047,
    "BayerGR8": 0x01080008,
    "BayerRG8": 0x01080009,
    "BayerGB8": 0x0108000A,
    "BayerBG8": 0x0108000B,
    "RGB8": 0x02180014,
    "BGR8": 0x02180015,
    "YUV422_8": 0x02100032,
}

# Two samples of the first row, then the two below them.
MOSAICS = {"BayerRG8": "RGGB", "BayerGR8": "GRBG", "BayerGB8": "GBRG", "BayerBG8": "BGGR"}

_numbers = itertools.count(1)


class GigECamera:
    """One simulated camera. ``start`` switches it on, ``kill`` pulls its plug.

    Attributes:
        address: where it is, ``127.x.y.z``; the same after each start.
        serial: its serial number.
        uri: ``gige://ADDRESS``.
    """

    def __init__(
        self,
        images: Sequence[Image],
        pixel_format: str | None = None,
        *,
        rate_fps: float = 25.0,
        loss: float = 0.0,
        noise: int = 0,
        link_mbps: float = 1000.0,
        chunks: bool = False,
        clock: bool = True,
    ) -> None:
        """Describe the camera; nothing runs before ``start``.

        Args:
            images: ``(H, W)`` or ``(H, W, 3)`` BGR, uint8 or uint16, all of one shape; exposures
                show them in turn, from the first one at every start. Their size is the sensor's.
            pixel_format: what it is switched on with; Mono8 or BGR8 by default.
            rate_fps: of the free-running camera; the client may write another.
            loss: share of packets that never arrive.
            noise: sensor noise of ±this many levels, new in every exposure; 0 repeats the images
                bit by bit.
            chunks: it offers exposure and gain with each image. They need 32 bytes of room in an
                image's last packet: 64 × 48 pixels of Mono8 in the packets of 1400 have it.
            clock: its images say when they were exposed; 0 otherwise, as the standard allows.
            link_mbps: speed of its network; an image of 5 MB takes 42 ms on the usual one.
        """
        number = next(_numbers)
        pid = os.getpid()
        self.address = f"127.{16 + number % 200}.{pid >> 8 & 255}.{1 + pid % 254}"
        self.serial = f"T{pid:x}-{number}"
        self.uri = f"gige://{self.address}"
        self._link = {"GIGE_CAMERA_LINK_MBPS": str(link_mbps)}
        if not clock:
            self._link["GIGE_CAMERA_NO_CLOCK"] = "1"
        self._folder = Path(tempfile.mkdtemp(prefix="gige-camera-"))
        colour = images[0].ndim == 3
        options = {
            "address": self.address,
            "serial": self.serial,
            "pixel_format": pixel_format or ("BGR8" if colour else "Mono8"),
            "rate_fps": rate_fps,
            "loss": loss,
            "noise": noise,
            "chunks": chunks,
        }
        (self._folder / "options.json").write_text(json.dumps(options))
        np.save(self._folder / "pictures.npy", np.stack(images))
        self._process: subprocess.Popen[str] | None = None
        atexit.register(self.close)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Switch the camera on and wait until it answers; also after ``kill``."""
        errors = (self._folder / "errors.txt").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.gige_camera_process", str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=Path(__file__).parents[2],
            env={
                **os.environ,
                "GIGE_CAMERA_ADDRESS": self.address,
                **self._link,
                "LD_PRELOAD": str(_link_library()),
            },
        )
        errors.close()
        watch = threading.Timer(GENEROUS_S, self._process.kill)
        watch.start()
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        watch.cancel()
        watch.join()
        assert answer == "ready\n", (self._folder / "errors.txt").read_text()

    def stop(self) -> None:
        """Freeze it (SIGSTOP): the address exists, nothing answers. It is frozen on return."""
        self._send(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def go_on(self) -> None:
        """End the freeze (SIGCONT)."""
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        """Pull the plug (SIGKILL); ``start`` switches it on again at the same address."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(GENEROUS_S)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process = None

    def edge(self) -> None:
        """Simulate an edge on Line1; exposes one image if the camera waits for that."""
        self._command("edge")

    def lose_exposure(self) -> None:
        """Expose one image that never leaves the camera: its frame id is missing afterwards."""
        self._command("lose")

    def lines(self) -> dict[str, bool | None]:
        """Return the level of each line that can be an output; None of one that is not."""
        self._command("lines")
        assert self._process is not None and self._process.stdout is not None
        found: dict[str, bool | None] = json.loads(self._process.stdout.readline())
        return found

    def be_busy(self) -> None:
        """Answer the next register that is written with: busy. What was written counts."""
        self._command("busy")

    def set_loss(self, share: float) -> None:
        """Change the share of packets that never arrive."""
        self._command(f"loss {share}")

    def close(self) -> None:
        """Kill what runs and remove its files. May be called more than once."""
        atexit.unregister(self.close)
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _send(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)

    def _command(self, command: str) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()


def wire_bytes(image: Image, pixel_format: str) -> NDArray[np.uint8]:
    """Return the bytes that a camera sends for an image, in GenICam's layout.

    Grey images become colour ones and the other way, 8 bits are scaled to the format's.
    """
    bits = {"Mono10": 10, "Mono12": 12, "Mono16": 16, "Mono10p": 10, "Mono12p": 12}
    grey = pixel_format.startswith("Mono")
    if grey and image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if not grey and image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if pixel_format in bits:
        samples = image.astype(np.uint16)
        if image.dtype == np.uint8:
            samples <<= bits[pixel_format] - 8
        if pixel_format.endswith("p"):
            each = samples.reshape(-1, 1) >> np.arange(bits[pixel_format], dtype=np.uint16) & 1
            return np.packbits(each.astype(np.uint8), bitorder="little")
        return samples.astype("<u2").reshape(-1).view(np.uint8)
    if pixel_format.startswith("Bayer"):
        tile = MOSAICS[pixel_format]
        mosaic = np.empty(image.shape[:2], np.uint8)
        for place, colour in enumerate(tile):
            y, x = divmod(place, 2)
            mosaic[y::2, x::2] = image[y::2, x::2, "BGR".index(colour)]
        return mosaic.reshape(-1)
    if pixel_format == "RGB8":
        image = image[:, :, ::-1]
    return np.ascontiguousarray(image).reshape(-1)


@cache
def _link_library() -> Path:
    """Compile what gives cameras their address and link; PyGObject needs the same compiler."""
    folder = Path(tempfile.mkdtemp(prefix="gige-camera-link-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = folder / "link.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, LINK_SOURCE], check=True)
    return library
