"""A small reverse proxy: shows a page below a path, and says where, as nginx does."""

import socket
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

PIECE_BYTES = 65536


class ReverseProxy:
    """Takes ``http://127.0.0.1:PORT/PREFIX/…`` to a page, one connection for each request.

    Attributes:
        address: of the page behind it, with the path and a slash at its end.
        forwards: it names itself (X-Forwarded-Host and -Proto).
    """

    def __init__(self, page: str, prefix: str) -> None:
        self.forwards = True
        self._upstream = urlsplit(page)
        self._prefix = prefix
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}{prefix}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with suppress(OSError, ValueError), client:
            head, _, body = _received_until(client, b"\r\n\r\n").partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            method, path, version = first.split(" ")
            if not path.startswith(f"{self._prefix}/"):
                client.sendall(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n")
                return
            headers = dict(line.split(": ", 1) for line in lines)
            length = int(headers.get("Content-Length", 0))
            while len(body) < length:
                body += client.recv(PIECE_BYTES)
            if self.forwards:
                headers |= {"X-Forwarded-Host": headers["Host"], "X-Forwarded-Proto": "http"}
            headers |= {"Host": self._upstream.netloc, "Connection": "close"}
            text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            asked = f"{method} {path.removeprefix(self._prefix)} {version}\r\n{text}\r\n"
            upstream = self._upstream.hostname, self._upstream.port
            with socket.create_connection(upstream) as page:
                page.sendall(asked.encode() + body)
                while piece := page.recv(PIECE_BYTES):
                    client.sendall(piece)


def _received_until(client: socket.socket, end: bytes) -> bytes:
    received = b""
    while end not in received:
        piece = client.recv(PIECE_BYTES)
        if not piece:
            raise ValueError("the client has hung up")
        received += piece
    return received
