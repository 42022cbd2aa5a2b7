"""Starts our commands from a process that has loaded their libraries already.

Loading them costs each start two to five seconds of processor, more than most tests need
themselves. What is started is a process like any other: forked with the arguments, folder,
environment and streams that were asked for, a child of the tests' process that can be waited for,
signalled and killed. ``subprocess`` starts our commands so in all tests (tests/conftest.py), unless
something of the start itself is looked at; tests that do use ``cold_start``.
"""

import ctypes
import gc
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

# What each command runs, and what is loaded before it is asked for.
COMMANDS = {
    "edge-run": "edge.cli.main",
    "edge-listen": "edge.listen.cli",
    "edge-sign": "edge.cli.sign",
    "train-station": "training.cli",
    "export-model": "export.cli",
}
STATION = ("edge.app.run", "edge.doctor.examination", "edge.listen.cli", "edge.cli.main")
TRAINING = ("training.commands.fit", "training.commands.test", "training.cli")
EXPORT = ("export.gate", "export.quantization", "export.bundle", "export.report", "export.cli")
# Looked at while a command runs. Any other variable may count as libraries load: such a start is
# an ordinary one.
LATE_VARIABLES = {
    "CREDENTIALS_DIRECTORY",
    "DISPLAY",
    "EDGE_SOAK",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "NOTIFY_SOCKET",
    "PYTEST_CURRENT_TEST",
    "STATE_DIRECTORY",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "XDG_STATE_HOME",
}
_PR_SET_CHILD_SUBREAPER = 36
_MAX_REQUEST_BYTES = 2**17
# Options of Popen that need more than this module does.
_ORDINARY = ("executable", "preexec_fn", "pass_fds", "shell", "gid", "gids", "uid")
_CHILD_ARGUMENTS = tuple(signature(subprocess.Popen._execute_child).parameters)[2:]  # type: ignore[attr-defined]
_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
_system_popen: type[subprocess.Popen[Any]] = subprocess.Popen


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A command to start.

    Attributes:
        module: whose ``main`` runs.
        arguments: ``sys.argv``.
        folder: to work in.
        umask: -1 to leave it.
        new_session: whether it leads a session of its own.
    """

    module: str
    arguments: Sequence[str]
    folder: str
    environment: Mapping[str, str]
    umask: int
    new_session: bool


class Preparing:
    """A process that has loaded what commands need, and forks itself for each."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.environment = dict(os.environ)
        self._asking = threading.Lock()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        with theirs:
            self._process = _system_popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), *modules],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=self.environment,
            )

    def start(self, request: Request, streams: Sequence[int]) -> int:
        """Return the process id of a new child of this process.

        Raises:
            OSError: it could not be started.
        """
        content = json.dumps(asdict(request)).encode()
        if len(content) > _MAX_REQUEST_BYTES:
            raise OSError(f"a request of {len(content)} bytes")
        with self._asking, _adopting():
            socket.send_fds(self._socket, [content], streams)
            answer = self._socket.recv(100)
        if not answer:
            raise OSError("the process that starts commands has ended")
        return int(answer)


@contextmanager
def _adopting() -> Iterator[None]:
    """Become the parent of grandchildren whose parent ends meanwhile."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


_preparing: dict[Sequence[str], Preparing] = {}
_first = threading.Lock()
_cold = 0


@contextmanager
def cold_start() -> Iterator[None]:
    """Start commands as a user does, for tests of the start itself."""
    global _cold
    _cold += 1
    try:
        yield
    finally:
        _cold -= 1


def prepared(modules: Sequence[str]) -> Preparing:
    """Return the process that has loaded these modules, started when first asked for."""
    with _first:
        if modules not in _preparing:
            _preparing[modules] = Preparing(modules)
        return _preparing[modules]


def module_of(command: object) -> tuple[str, list[str]] | None:
    """Return the module of a command of ours and its ``sys.argv``; None for any other command."""
    if isinstance(command, str | bytes | os.PathLike) or not isinstance(command, Sequence):
        return None
    words = [os.fsdecode(word) for word in command]
    programs = Path(sys.executable).parent
    for name, module in COMMANDS.items():
        if words[0] == str(programs / name):
            return module, words
        if words[:3] == [sys.executable, "-m", module]:
            return module, words[2:]
    return None


class WarmPopen(subprocess.Popen[Any]):
    """``subprocess.Popen`` that has our commands started by a prepared process."""

    def _execute_child(self, args: Any, *others: Any) -> None:
        given = dict(zip(_CHILD_ARGUMENTS, others, strict=True))
        ours = module_of(args)
        environment = os.environ if given["env"] is None else given["env"]
        if ours is None or _cold or any(given[name] for name in _ORDINARY):
            super()._execute_child(args, *others)  # type: ignore[misc]
            return
        module, words = ours
        process = prepared(
            {"edge": STATION, "training": TRAINING}.get(module.split(".")[0], EXPORT)
        )
        if _differ_early(environment, process.environment):
            super()._execute_child(args, *others)  # type: ignore[misc]
            return
        request = Request(
            module=module,
            arguments=words,
            folder=os.fsdecode(given["cwd"] or Path.cwd()),
            environment=dict(environment),
            umask=given["umask"],
            new_session=given["start_new_session"],
        )
        streams = [given[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        self.pid = process.start(
            request, [stream if stream >= 0 else own for own, stream in enumerate(streams)]
        )
        self._child_created = True
        self._close_pipe_fds(*(given[name] for name in _PIPES))  # type: ignore[attr-defined]


def _differ_early(wanted: Mapping[str, str], loaded: Mapping[str, str]) -> bool:
    names = {name for name in {*wanted, *loaded} if wanted.get(name) != loaded.get(name)}
    return not names <= LATE_VARIABLES


def install() -> None:
    """Let every ``subprocess`` of this process start our commands so."""
    subprocess.Popen = WarmPopen  # type: ignore[misc]


def serve(connection: socket.socket) -> str:
    """Fork for each request; return in each child the module to run, and end with the tests."""
    while True:
        content, streams, _, _ = socket.recv_fds(connection, _MAX_REQUEST_BYTES + 1, 3)
        if not content:
            sys.exit(0)
        reading, writing = os.pipe()
        if (between := os.fork()) == 0:
            if (child := os.fork()) == 0:
                request = Request(**json.loads(content))
                _become(request, streams)
                return request.module
            os.write(writing, str(child).encode())
            os._exit(0)
        os.waitpid(between, 0)  # from now on the tests' process is the parent
        connection.send(os.read(reading, 100))
        for descriptor in (reading, writing, *streams):
            os.close(descriptor)


def _become(request: Request, streams: Sequence[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    if request.new_session:
        os.setsid()
    if request.umask >= 0:
        os.umask(request.umask)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    time.tzset()
    sys.argv = list(request.arguments)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        opened = _text(number, getattr(sys, name))
        setattr(sys, name, opened)
        setattr(sys, f"__{name}__", opened)


def _text(number: int, like: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a stream as Python opens it at a start."""
    lines = number == 2 or os.isatty(number)
    raw = os.fdopen(number, "rb" if number == 0 else "wb", closefd=False)
    return io.TextIOWrapper(raw, like.encoding, like.errors, line_buffering=lines)


if __name__ == "__main__":
    for name in sys.argv[2:]:
        import_module(name)
    gc.collect()
    gc.freeze()
    sys.exit(import_module(serve(socket.socket(fileno=int(sys.argv[1])))).main())
