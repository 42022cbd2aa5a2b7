"""A door in front of a broker that stalls, resets and half-opens connections."""

import select
import socket
import struct
import threading
from contextlib import suppress
from enum import Enum

CHUNK_BYTES = 65536
# So short that a changed mood of the network is felt at once.
LOOK_S = 0.02


class Mood(Enum):
    """What the network does with bytes."""

    FINE = "passes them on"
    STALLED = "passes nothing on; senders' buffers fill up"
    SWALLOWING = "takes everything and passes nothing on: half-open"


class BrokenNetwork:
    """Passes connections to a port of 127.0.0.1 on, as well as its ``mood`` lets it."""

    def __init__(self, target_port: int) -> None:
        self.mood = Mood.FINE
        self._target = target_port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.connections = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        """End every connection with RST, as a router does that has restarted."""
        with self._lock:
            for pair in self._pairs:
                for end in pair:
                    with suppress(OSError):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        end.close()
            self._pairs.clear()

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self._server.close()
        self.reset()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            try:
                broker = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._pairs.append((client, broker))
            for source, sink in ((client, broker), (broker, client)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _stalled(self) -> bool:
        return self.mood is Mood.STALLED

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        pause = threading.Event()
        with suppress(OSError, ValueError):  # the other side has ended, or the network was reset
            while True:
                if self._stalled():
                    pause.wait(LOOK_S)
                elif select.select([source], [], [], LOOK_S)[0] and not self._stalled():
                    content = source.recv(CHUNK_BYTES)
                    if not content:
                        break
                    if self.mood is not Mood.SWALLOWING:
                        sink.sendall(content)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


class OldBroker:
    """A door to a broker that refuses MQTT 5 as a broker of 2014 does."""

    def __init__(self, port: int) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._target = port

    def __enter__(self) -> "OldBroker":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            connect = client.recv(4096)
            level = connect[connect.index(b"MQTT") + 4]
            if level == 5:
                client.sendall(b"\x20\x02\x00\x01")  # CONNACK: unacceptable protocol version
                client.close()
                continue
            broker = socket.create_connection(("127.0.0.1", self._target))
            broker.sendall(connect)
            for source, sink in ((client, broker), (broker, client)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):  # the other side has ended
        while content := source.recv(4096):
            sink.sendall(content)
    sink.close()
