"""TLS in front of a camera that speaks none, with certificates made for the test."""

import socket
import ssl
import subprocess
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Authority:
    """An authority of its own in a folder; makes certificates."""

    folder: Path
    name: str

    @property
    def certificate(self) -> Path:
        return self.folder / f"{self.name}.crt"

    def create(self) -> "Authority":
        _openssl(*_files(self.certificate), "-subj", f"/CN={self.name}")
        return self

    def issue(self, file_name: str, *names: str) -> Path:
        path = self.folder / f"{file_name}.crt"
        _openssl(
            *("-CA", self.certificate, "-CAkey", self.certificate.with_suffix(".key")),
            *(*_files(path), "-subj", f"/CN={file_name}"),
            *("-addext", f"subjectAltName={','.join(names)}"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
        )
        return path


class TlsFront:
    """Passes on what comes over TLS to a port of this PC.

    Attributes:
        certificates: shown to the first connection, the second and so on; the last to all others.
        port: where it listens.
        connections: that came, whatever became of them.
        passed: bytes that reached what is behind it, by the certificate that was shown.
    """

    def __init__(self, port_behind: int, *certificates: Path) -> None:
        self.certificates = list(certificates)
        self.connections = 0
        self.passed: Counter[Path] = Counter()
        self._behind = port_behind
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            for number in range(1_000_000):
                one, _ = self._listening.accept()
                self.connections += 1
                certificate = self.certificates[min(number, len(self.certificates) - 1)]
                threading.Thread(target=self._serve, args=(one, certificate), daemon=True).start()

    def _serve(self, plain: socket.socket, certificate: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        with (
            suppress(OSError),
            context.wrap_socket(plain, server_side=True) as client,
            socket.create_connection(("127.0.0.1", self._behind)) as behind,
        ):
            threading.Thread(target=_pump, args=(behind, client), daemon=True).start()
            while some := client.recv(65_536):
                self.passed[certificate] += len(some)
                behind.sendall(some)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError, ValueError):
        while some := source.recv(65_536):
            target.sendall(some)
        target.shutdown(socket.SHUT_RDWR)


def _files(certificate: Path) -> tuple[object, ...]:
    return ("-keyout", certificate.with_suffix(".key"), "-out", certificate)


def _openssl(*arguments: object) -> None:
    command = ["openssl", "req", "-x509", *NEW_KEY, *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
