"""An MJPEG camera on HTTP, as many network cameras are, with their faults."""

import base64
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import cv2

from tests.support.small_bundle import good_image

GENEROUS_S = 60.0
USER, PASSWORD = "me", "geheim"
DIFFERENT_IMAGES = 64


class Behaviour(Enum):
    """What the camera sends."""

    SOUND = auto()
    SILENT = auto()  # the connection stays, nothing comes
    FROZEN = auto()  # one image for ever
    GARBAGE = auto()  # bytes that are no image


class NetworkCamera:
    """The camera: with ``frames`` it gives so many at once, then falls silent or hangs up.

    Without, it gives 25 a second until ``stop``. The last of ``pictures`` is for FROZEN only.

    Attributes:
        behaviour: may be changed while it runs.
        lost_bytes: so many of every other image are announced and never sent; below zero, more
            are sent than were announced.
        connections: how often somebody asked for its images and was let in.
    """

    def __init__(
        self,
        frames: int | None = None,
        then_silent: bool = False,
        images: Sequence[bytes] = (),
    ) -> None:
        self.behaviour = Behaviour.SOUND
        self.lost_bytes = 0
        self.connections = 0
        self.password = PASSWORD
        self.over = threading.Event()
        self._given = frames
        self._then_silent = then_silent
        self._port = 0
        self._sockets: set[socket.socket] = set()
        self._images = list(images) or [
            cv2.imencode(".jpg", good_image(number))[1].tobytes()
            for number in range(DIFFERENT_IMAGES + 1)
        ]
        self.start()

    @property
    def uri(self) -> str:
        return f"http://{USER}:{PASSWORD}@127.0.0.1:{self._port}/video"

    def start(self) -> None:
        """Switch it on, at the address it had before."""
        self.over = threading.Event()
        self._server = _server(self, self._port)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Switch it off."""
        self.over.set()
        self._server.shutdown()
        self._thread.join(GENEROUS_S)
        self.hang_up()
        self._server.server_close()

    def close(self) -> None:
        self.stop()

    def hang_up(self) -> None:
        """Drop every connection."""
        for one in list(self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def lets_in(self, authorization: str | None) -> bool:
        expected = base64.b64encode(f"{USER}:{self.password}".encode()).decode()
        return authorization == f"Basic {expected}"

    def stream(self, connection: socket.socket) -> None:
        """Send images until there are no more, or the peer has gone."""
        self.connections += 1
        self._sockets.add(connection)
        over = self.over
        with suppress(OSError):
            for number in count() if self._given is None else range(self._given):
                if over.is_set():
                    break
                if self.behaviour is not Behaviour.SILENT:
                    lost = self.lost_bytes if number % 2 else 0
                    connection.sendall(_part(self._image(number), lost))
                if self._given is None:
                    over.wait(0.04)
            if self._then_silent:
                over.wait(GENEROUS_S)
        self._sockets.discard(connection)

    def _image(self, number: int) -> bytes:
        match self.behaviour:
            case Behaviour.FROZEN:
                return self._images[-1]  # none that was shown before
            case Behaviour.GARBAGE:
                return b"\x00garbage" * 500
        return self._images[number % (len(self._images) - 1)]


def _part(image: bytes, lost: int) -> bytes:
    announced = len(image) + min(lost, 0)
    head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {announced}\r\n\r\n"
    return head.encode() + image[: len(image) - max(lost, 0)] + b"\r\n"


def _server(camera: NetworkCamera, port: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not camera.lets_in(self.headers["Authorization"]):
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
            self.end_headers()
            self.wfile.flush()
            camera.stream(self.connection)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    return server
