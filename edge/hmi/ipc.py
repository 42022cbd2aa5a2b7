"""The link between a station and the process that serves its page: messages over a socket pair."""

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from edge.contract.encoding import to_json

# An image of the live view, in 8 bits and colour, with room to spare.
LARGEST_BYTES = 64 * 2**20


class LinkBroken(Exception):
    """The other end is gone."""


@dataclass(frozen=True, slots=True)
class Message:
    """What one end tells the other.

    Attributes:
        kind: names who takes it.
        content: plain values.
        blobs: images.
    """

    kind: str
    content: Mapping[str, Any] = field(default_factory=dict)
    blobs: tuple[bytes, ...] = ()


class Link:
    """One end. Any thread may send; one receives."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(
        self, kind: str, content: Mapping[str, Any], blobs: Sequence[bytes | memoryview] = ()
    ) -> None:
        """Send a message; waits as long as the other end reads nothing.

        What UTF-8 cannot carry, as in the name of a file, arrives as backslash escapes.

        Raises:
            LinkBroken: there is no other end.
            ValueError: a number is NaN or infinite.
        """
        head = to_json({"kind": kind, "content": content, "blobs": len(blobs)}).encode()
        try:
            with self._sending:
                self._connection.send_bytes(head)
                for blob in blobs:
                    self._connection.send_bytes(blob)
        except OSError as error:
            raise LinkBroken(str(error)) from error

    def receive(self) -> Message:
        """Wait for the next message.

        Raises:
            LinkBroken: there is no other end.
        """
        try:
            head = json.loads(self._connection.recv_bytes(LARGEST_BYTES))
            blobs = tuple(self._connection.recv_bytes(LARGEST_BYTES) for _ in range(head["blobs"]))
        except (EOFError, OSError, ValueError) as error:
            raise LinkBroken(str(error)) from error
        return Message(head["kind"], head["content"], blobs)

    def close(self) -> None:
        self._connection.close()
