"""A real PostgreSQL of its own, as an unprivileged user, on a socket in a temporary folder."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.support.broker import GENEROUS_S, free_port

_FAST = "fsync=off\nfull_page_writes=off\nsynchronous_commit=off\n"


def program(name: str) -> str:
    """Return where a program of PostgreSQL lies; Debian keeps them off the PATH."""
    found = shutil.which(name) or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None
    )
    assert found, f"{name} is not installed: run `make packages`"
    return found


class PostgreSql:
    """One server; ``url(NAME)`` is that of a database."""

    def __init__(self, folder: Path, settings: str = _FAST) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        self._run("initdb", "-D", folder / "data", "-A", "trust", "-U", "edge", "-N", "-E", "UTF8")
        with (folder / "data/postgresql.conf").open("a") as file:
            file.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\n"
                f"unix_socket_directories = '{folder}'\n{settings}"
            )

    def start(self) -> None:
        log = (self.folder / "server.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [*self._as(), program("postgres"), "-D", str(self.folder / "data")],
                stdout=log,
                stderr=log,
            )
        deadline_s = time.monotonic() + GENEROUS_S
        while True:
            try:
                psycopg.connect(self.dsn("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline_s, (self.folder / "server.log").read_text()
                time.sleep(0.05)

    def stop(self) -> None:
        """End it at once, as a power cut of the service would: immediate shutdown."""
        assert self._process is not None
        pid = int((self.folder / "data/postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        self._process.wait(GENEROUS_S)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def create(self, name: str) -> str:
        """Make a database; return its URL for ``--database``."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def url(self, name: str) -> str:
        return f"postgresql://edge@127.0.0.1:{self.port}/{name}"

    def dsn(self, name: str) -> str:
        return f"host=127.0.0.1 port={self.port} user=edge dbname={name}"

    def query(self, name: str, sql: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.dsn(name), autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def _as(self) -> Sequence[str]:
        return ("runuser", "-u", self._user, "--") if os.geteuid() == 0 else ()

    def _run(self, name: str, *arguments: object) -> None:
        subprocess.run(
            [*self._as(), program(name), *map(str, arguments)],
            check=True,
            capture_output=True,
            cwd="/",
        )


@contextmanager
def postgresql(settings: str = _FAST) -> Iterator[PostgreSql]:
    """Run one, and remove it."""
    # Not below pytest's folder, into which another user may not look.
    folder = Path(tempfile.mkdtemp(prefix="edge-pg-"))
    server = PostgreSql(folder, settings)
    server.start()
    try:
        yield server
    finally:
        if server.running:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
