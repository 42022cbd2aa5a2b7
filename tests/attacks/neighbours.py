"""Sockets of neighbours in the plant's network: each address of 127.0.0.0/8 is one."""

import random
import socket
from contextlib import suppress
from urllib.parse import urlsplit

from tests.support.page_station import PageStation

PATIENCE_S = 120.0
GUEST, OTHER = "127.0.0.66", "127.0.0.77"


def connected(station: PageStation, address: str = GUEST) -> socket.socket:
    """Return a connection to the page from an address."""
    page = urlsplit(station.address)
    return socket.create_connection(
        (page.hostname, page.port), timeout=PATIENCE_S, source_address=(address, 0)
    )


def received(guest: socket.socket) -> bytes:
    """Return what comes until the other end closes."""
    found = bytearray()
    with suppress(ConnectionResetError):
        while piece := guest.recv(65536):
            found += piece
    return bytes(found)


def asked(station: PageStation, path: str, address: str = GUEST, method: str = "GET") -> bytes:
    """Return the answer to a request of its own connection."""
    with connected(station, address) as guest:
        guest.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        return received(guest)


def status(answer: bytes) -> int:
    """Return the status of an answer; 0 where there is none."""
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0


def mangled(request: bytes, chance: random.Random) -> bytes:
    """Return a request with some of its bytes changed, doubled, left out, or cut off."""
    text = bytearray(request)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(text) + 1)
        match chance.randrange(5):
            case 0:
                text[at:at] = chance.randbytes(chance.randint(1, 40))
            case 1:
                del text[at : at + chance.randint(1, 20)]
            case 2:
                text[at : at + 1] = chance.choice([b"\r\n", b"\n", b"\0", b" ", b"\xff", b"%"])
            case 3:
                text[at:at] = text[chance.randrange(len(text) + 1) :][:30]
            case _:
                del text[at + 20 :]
    return bytes(text)
