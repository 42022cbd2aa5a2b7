"""The link between a station and a process beside it: messages over a socket pair.

A message is one byte that says how many blobs follow, and a model as JSON.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

from pydantic import BaseModel, TypeAdapter

from edge.contract.encoding import to_json

# An image of the live view, in 8 bits and colour, with room to spare.
MAX_BYTES = 64 * 2**20

Incoming = TypeVar("Incoming")


class LinkBroken(Exception):
    """The other end is gone."""


@dataclass(frozen=True, slots=True)
class Received(Generic[Incoming]):
    """A message, and the images that came with it."""

    message: Incoming
    blobs: tuple[bytes, ...]


class Link(Generic[Incoming]):
    """One end. Any thread may send; one receives."""

    def __init__(self, connection: Connection, incoming: TypeAdapter[Incoming]) -> None:
        """Take one end of a socket pair.

        Args:
            incoming: of what the other end may send.
        """
        self._connection = connection
        self._incoming = incoming
        self._sending = threading.Lock()

    def send(self, message: BaseModel, blobs: Sequence[bytes | memoryview] = ()) -> None:
        """Send a message; waits as long as the other end reads nothing.

        What UTF-8 cannot carry, as in the name of a file, arrives as backslash escapes.

        Raises:
            LinkBroken: there is no other end.
            ValueError: a number is NaN or infinite.
        """
        head = bytes([len(blobs)]) + to_json(message.model_dump()).encode()
        try:
            with self._sending:
                self._connection.send_bytes(head)
                for blob in blobs:
                    self._connection.send_bytes(blob)
        except OSError as error:
            raise LinkBroken(str(error)) from error

    def receive(self) -> Received[Incoming]:
        """Wait for the next message.

        Raises:
            LinkBroken: there is no other end, or its message is not one of those expected.
        """
        try:
            head = self._connection.recv_bytes(MAX_BYTES)
            message = self._incoming.validate_json(head[1:])
            blobs = tuple(self._connection.recv_bytes(MAX_BYTES) for _ in range(head[0]))
        except (EOFError, OSError, ValueError, IndexError) as error:
            raise LinkBroken(str(error)) from error
        return Received(message, blobs)

    def close(self) -> None:
        self._connection.close()
