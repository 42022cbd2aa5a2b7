"""A command under strace, with an empty home: whom it tries to reach, and what it leaves there.

The kernel's own record, so native libraries and child processes are seen as well as Python.
"""

import functools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

LIMIT_S = 300
# Variables that would switch telemetry off by themselves, or lead out of the empty home.
_LEFT_OUT = re.compile(
    r"CI$|TF_BUILD|JENKINS_URL|PYTEST|NNCF|ORT_|XDG_|DO_NOT_TRACK|WANDB|NUMBA_|HF_"
)
_ADDRESS = re.compile(
    r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)")'
)
# Name services behind a local socket: whom they ask is not seen here, that they are asked is.
_NAME_SERVICE = re.compile(r'sun_path="(/run/systemd/resolve/[^"]+)"')


@dataclass(frozen=True, slots=True)
class Traced:
    """How a command ended.

    Attributes:
        reached: ``ADDRESS:PORT`` of everything that was connected or sent to, or was tried.
        home: what lies in its home now.
    """

    code: int
    output: str
    reached: frozenset[str]
    home: tuple[str, ...]


class TracedProcess:
    """A command that runs under strace until it ends."""

    def __init__(self, folder: Path, command: Sequence[object], offline: bool = True) -> None:
        """Start a command.

        Args:
            folder: for its record and its home.
            offline: let it reach nothing, not even this machine.
        """
        if not _can_trace():
            pytest.skip("strace may not trace here")
        folder.mkdir(parents=True, exist_ok=True)
        self._home = folder / "home"
        self._home.mkdir()
        self._record, self._log = folder / "network.strace", folder / "output"
        calls = "trace=connect,sendto,sendmsg,sendmmsg,getsockname"
        strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", calls, "-e", "signal=none"]
        shut_in = ["unshare", "--map-root-user", "--net"] if offline and _can_unshare() else []
        environment = {k: v for k, v in os.environ.items() if not _LEFT_OUT.match(k)}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*strace, "-o", str(self._record), *shut_in, *map(str, command)],
                stdout=log,
                stderr=log,
                env=environment | {"HOME": str(self._home)},
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def stop(self) -> None:
        """Ask the command itself to end (SIGTERM); strace passes nothing on."""
        psutil.Process(self.process.pid).children()[0].terminate()

    def kill(self) -> None:
        """End it without a word, if it still runs."""
        if self.process.poll() is None:
            for one in psutil.Process(self.process.pid).children(recursive=True):
                one.kill()
            self.process.wait(LIMIT_S)

    def result(self) -> Traced:
        """Wait for its end."""
        code = self.process.wait(LIMIT_S)
        reached: set[str] = set()
        own: set[str] = set()
        for line in self._record.read_text(errors="replace").splitlines():
            addresses = {f"{four or six}:{port}" for port, four, six in _ADDRESS.findall(line)}
            (own if "getsockname" in line else reached).update(addresses)
            reached.update(_NAME_SERVICE.findall(line))
        reached -= own  # paho wakes its thread over a connection to itself
        left = sorted(str(path.relative_to(self._home)) for path in self._home.rglob("*"))
        return Traced(code, self.output, frozenset(reached), tuple(left))


def traced(folder: Path, *command: object) -> Traced:
    """Run a command to its end, cut off from every network."""
    return TracedProcess(folder, command).result()


def mains(*lines: str, before: str = "") -> list[str]:
    """Return a command that calls entry points, each line one: its module, then its arguments.

    One process for all of them, because importing the libraries takes longest. It ends with 0 when
    every call did, and prints the codes.

    Args:
        before: a statement to run first.
    """
    calls = [shlex.split(line) for line in lines]
    program = (
        f"import importlib, sys\n{before}\n"
        f"codes = [importlib.import_module(m).main(a) for m, *a in {calls!r}]\n"
        "print(codes); sys.exit(any(codes))"
    )
    return [sys.executable, "-c", program]


@functools.cache
def _can_trace() -> bool:
    probe = ["strace", "-qq", "-e", "trace=none", "true"]
    return subprocess.run(probe, check=False).returncode == 0


@functools.cache
def _can_unshare() -> bool:
    done = subprocess.run(["unshare", "--map-root-user", "--net", "true"], check=False)
    return done.returncode == 0
