"""A camera on a socket with every fault that a camera has, and the driver that reads it.

The driver blocks where real ones do: in the kernel, on a peer that does not answer.
"""

import select
import socket
import struct
import threading
import time
from collections import deque
from contextlib import suppress
from enum import Enum, auto

import numpy as np

from edge.cameras.interface import CameraReport
from edge.errors import CameraLost, CameraNotOpened, CameraSettingRefused
from edge.imaging.frame import Frame, Telemetry

SIDE = 32
PERIOD_S = 0.02
HEADER = struct.Struct("<cQQ")
TAKES, REFUSES = b"+", b"-"
IMAGE, ANSWER = b"P", b"A"
TRIGGER, CHECK = b"T", b"?"


class Behaviour(Enum):
    """What the camera does."""

    SOUND = auto()
    SILENT = auto()  # its connection stays, nothing comes
    FROZEN = auto()  # it counts on, and gives one image for ever
    MUTE = auto()  # and it takes a connection and says nothing at all: it cannot be opened
    REFUSING = auto()  # it does not take its settings


class SocketCamera:
    """The device; ``stop`` pulls its plug."""

    def __init__(self, triggered: bool = False) -> None:
        self.behaviour = Behaviour.SOUND
        self.connections = 0
        self._triggered = triggered
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        # Held, so that while it is unplugged nobody else gets its address.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind(("127.0.0.1", 0))
        self.port: int = self._place.getsockname()[1]
        self.start()

    def start(self) -> None:
        """Plug it in, at the address it had before."""
        self._ended = threading.Event()
        listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self._sockets = [listener]
        self._run(self._accept, listener)

    def stop(self) -> None:
        self._ended.set()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10.0)
        self._threads = []

    def close(self) -> None:
        self.stop()
        self._place.close()

    def _run(self, body: object, *arguments: object) -> None:
        thread = threading.Thread(target=body, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self._sockets.append(connection)
                if self._ended.is_set():
                    connection.close()
                self.connections += 1
                self._run(self._talk, connection, self._ended)

    def _talk(self, connection: socket.socket, ended: threading.Event) -> None:
        number = 0
        with suppress(OSError, ValueError):  # its plug was pulled
            while self.behaviour is Behaviour.MUTE and not ended.wait(PERIOD_S):
                pass
            connection.sendall(REFUSES if self.behaviour is Behaviour.REFUSING else TAKES)
            while not ended.is_set():
                asked, _, _ = select.select([connection], [], [], PERIOD_S)
                request = connection.recv(1) if asked else b""
                if asked and not request:
                    return
                if self.behaviour in (Behaviour.SILENT, Behaviour.MUTE):
                    continue
                if request == CHECK:
                    connection.sendall(HEADER.pack(ANSWER, 0, 0))
                if (request == TRIGGER) if self._triggered else not asked:
                    number += 1
                    connection.sendall(self._image(number))

    def _image(self, number: int) -> bytes:
        seed = 0 if self.behaviour is Behaviour.FROZEN else time.monotonic_ns()
        pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE), np.uint8)
        return HEADER.pack(IMAGE, number, time.monotonic_ns()) + pixels.tobytes()


class SocketDriver:
    """The driver: a live camera, plain and without a thread."""

    simulated = False
    can_wait = False

    def __init__(
        self, port: int, blocking: bool = False, reading: threading.Event | None = None
    ) -> None:
        """Open the camera.

        Args:
            blocking: reads until something comes, whatever the timeout.
            reading: set by every read.
        """
        self.identity = f"socket://127.0.0.1:{port}"
        self._reading = reading or threading.Event()
        self._blocking = blocking
        self._images: deque[Frame] = deque()
        try:
            self._socket = socket.create_connection(("127.0.0.1", port), timeout=5.0)
            taken = self._socket.recv(1)
        except OSError as error:
            raise CameraNotOpened(f"{self.identity}: {error.strerror}. Plug it in.") from error
        if taken == REFUSES:
            self._socket.close()
            raise CameraSettingRefused(f"{self.identity}: does not take its exposure. Change it.")

    def read(self, timeout_s: float) -> Frame | None:
        self._reading.set()
        if not self._images:
            self._receive(None if self._blocking else timeout_s)
        return self._images.popleft() if self._images else None

    def check(self) -> None:
        self._send(CHECK)
        if not self._receive(0.2, ANSWER):
            raise CameraLost(f"{self.identity}: does not answer. Check cable and power.")

    def trigger(self) -> None:
        self._send(TRIGGER)

    def report(self) -> CameraReport:
        return CameraReport(model="socket", serial="1", settings=(("exposure_us", "50"),))

    def close(self) -> None:
        self._socket.close()

    def _send(self, request: bytes) -> None:
        try:
            self._socket.sendall(request)
        except OSError as error:
            raise CameraLost(f"{self.identity}: hung up. Check cable and power.") from error

    def _receive(self, timeout_s: float | None, wanted: bytes = IMAGE) -> bool:
        """Receive until what is wanted has come; tell whether it has."""
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        kind = b""
        while kind != wanted:
            self._socket.settimeout(None)
            left_s = None if until_s is None else max(0.0, until_s - time.monotonic())
            if not select.select([self._socket], [], [], left_s)[0]:
                return False
            kind, number, device_ns = HEADER.unpack(self._exactly(HEADER.size))
            if kind == IMAGE:
                pixels = np.frombuffer(self._exactly(SIDE * SIDE), np.uint8).reshape(SIDE, SIDE)
                self._images.append(
                    Frame(
                        pixels=pixels,
                        number=number,
                        captured_ns=time.monotonic_ns(),
                        captured_utc_ns=time.time_ns(),
                        telemetry=Telemetry(device_ns=device_ns),
                    )
                )
        return True

    def _exactly(self, length: int) -> bytes:
        got = b""
        while len(got) < length:
            try:
                more = self._socket.recv(length - len(got))
            except OSError:
                more = b""
            if not more:
                raise CameraLost(f"{self.identity}: hung up. Check cable and power.")
            got += more
        return got
