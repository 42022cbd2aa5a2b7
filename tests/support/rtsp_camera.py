"""An RTSP camera: JPEG in RTP (RFC 2435) on the connection itself, with a login by digest."""

import hashlib
import re
import socket
import struct
import threading
import time
from collections import deque
from contextlib import suppress

import cv2

from tests.support.small_bundle import good_image

USER, PASSWORD = "me", "geheim"
PERIOD_S = 0.04
PAYLOAD_BYTES = 1200
CLOCK_HZ = 90_000
SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 26\r\nc=IN IP4 0.0.0.0\r\na=control:track\r\n"
)
CHALLENGE = 'WWW-Authenticate: Digest realm="camera", nonce="n0nce"\r\n'
# As newer cameras do: what few clients speak first, and what RFC 2617 has added.
NEWER_CHALLENGES = (
    'WWW-Authenticate: Digest realm="camera", nonce="long", algorithm="SHA-256"\r\n'
    'WWW-Authenticate: Digest realm="camera", nonce="n0nce", algorithm=MD5, qop="auth"\r\n'
)


class RtspCamera:
    """The camera.

    Attributes:
        delay_s: for so long a network holds each exposure back; may be changed while it runs.
        password: that it lets in.
        challenges: what it says to who has not logged in.
        loses_packets: of every other exposure a packet in the middle never arrives.
        jpegs: what it shows, by turns.
        busy: it lets nobody have its images, after the login.
    """

    def __init__(self) -> None:
        self.password = PASSWORD
        self.challenges = CHALLENGE
        self.busy = False
        self.delay_s = 0.0
        self.loses_packets = False
        self._ended = threading.Event()
        self._sockets = [socket.create_server(("127.0.0.1", 0))]
        self.port = self._sockets[0].getsockname()[1]
        self.uri = f"rtsp://{USER}:{PASSWORD}@127.0.0.1:{self.port}/live"
        self.jpegs = [cv2.imencode(".jpg", good_image(number))[1].tobytes() for number in range(64)]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._ended.set()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while not self._ended.is_set():
                connection, _ = self._sockets[0].accept()
                self._sockets.append(connection)
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with suppress(OSError), connection.makefile("rb") as lines:
            while True:
                request = ""
                while not request.endswith("\r\n\r\n"):
                    line = lines.readline().decode()
                    if not line:
                        return
                    request += line
                connection.sendall(self._answer(request).encode())
                if request.startswith("PLAY"):
                    self._play(connection)
                    return

    def _answer(self, request: str) -> str:
        number = re.search(r"(?i)CSeq: *(\d+)", request)
        head = f"CSeq: {number[1] if number else 0}\r\n"
        method = request.partition(" ")[0]
        if method == "OPTIONS":
            return f"RTSP/1.0 200 OK\r\n{head}Public: DESCRIBE, SETUP, PLAY\r\n\r\n"
        if not self._lets_in(method, request):
            return f"RTSP/1.0 401 Unauthorized\r\n{head}{self.challenges}\r\n"
        if self.busy:
            return f"RTSP/1.0 453 Not Enough Bandwidth\r\n{head}\r\n"
        if method == "DESCRIBE":
            head += f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n"
            return f"RTSP/1.0 200 OK\r\n{head}\r\n{SDP}"
        if method == "SETUP":
            head += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        return f"RTSP/1.0 200 OK\r\n{head}Session: 1\r\n\r\n"

    def _lets_in(self, method: str, request: str) -> bool:
        given = dict(re.findall(r'(\w+)="([^"]*)"', request))
        secret = _md5(f"{USER}:camera:{self.password}")
        nonce = "n0nce"
        if "qop" in self.challenges:
            count = re.search(r"nc=(\w+)", request)
            nonce += f":{count[1] if count else ''}:{given.get('cnonce')}:auth"
        expected = _md5(f"{secret}:{nonce}:{_md5(f'{method}:' + given.get('uri', ''))}")
        return given.get("response") == expected

    def _play(self, connection: socket.socket) -> None:
        sequence = 0
        held: deque[tuple[float, bytes]] = deque()
        for number in range(1_000_000):
            if self._ended.wait(PERIOD_S):
                return
            packets = _packets(self.jpegs[number % 64], sequence, _timestamp())
            sequence += len(packets)
            if self.loses_packets and number % 2:
                del packets[len(packets) // 2]
            held.append((time.monotonic(), b"".join(packets)))
            while held and held[0][0] <= time.monotonic() - self.delay_s:
                connection.sendall(held.popleft()[1])


def _timestamp() -> int:
    return int(time.monotonic() * CLOCK_HZ) % 2**32


def _packets(jpeg: bytes, sequence: int, timestamp: int) -> list[bytes]:
    tables, scan, height, width = _parsed(jpeg)
    packets: list[bytes] = []
    for offset in range(0, len(scan), PAYLOAD_BYTES):
        piece = scan[offset : offset + PAYLOAD_BYTES]
        last = offset + PAYLOAD_BYTES >= len(scan)
        number = (sequence + len(packets)) % 2**16
        rtp = struct.pack(">BBHII", 0x80, 26 | 0x80 * last, number, timestamp, 7)
        # Type 1: 4:2:0; Q 255: the tables come with the first packet.
        head = struct.pack(">IBBBB", offset, 1, 255, width // 8, height // 8)
        if offset == 0:
            head += struct.pack(">BBH", 0, 0, len(tables)) + tables
        packet = rtp + head + piece
        packets.append(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
    return packets


def _parsed(jpeg: bytes) -> tuple[bytes, bytes, int, int]:
    """Split a baseline JPEG into quantization tables, scan, height and width."""
    tables: dict[int, bytes] = {}
    height = width = 0
    place = 2
    while True:
        marker, length = struct.unpack_from(">HH", jpeg, place)
        content = jpeg[place + 4 : place + 2 + length]
        if marker == 0xFFDB:
            for start in range(0, len(content), 65):
                tables[content[start]] = content[start + 1 : start + 65]
        elif marker == 0xFFC0:
            height, width = struct.unpack_from(">HH", content, 1)
        place += 2 + length
        if marker == 0xFFDA:
            return tables[0] + tables[1], jpeg[place:-2], height, width


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
