"""Starts our commands from a process that has loaded their libraries already.

Loading them costs each start two to five seconds of processor, more than most tests need
themselves. What is started is a process like any other: forked with the arguments, folder,
environment and streams that were asked for, a child of the tests' process that can be waited for,
signalled and killed. ``subprocess`` starts our commands so in all tests (tests/conftest.py). Where
something of the start itself is looked at, ``python -c`` begins with nothing.

What such a command starts beside itself, as the process of its page, comes about the same way: a
helper, forked before the command began and therefore without its threads, forks itself for each,
and the command becomes their parent. So has each worker of a run of all tests one for the commands
of training and export.
"""

import ctypes
import fcntl
import gc
import io
import json
import os
import resource
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from importlib import import_module
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.support.worker import BOOTSTRAP

# What each command runs, and what is loaded before it is asked for.
COMMANDS = {
    "edge-run": "edge.cli.main",
    "edge-listen": "edge.listen.cli",
    "edge-sign": "edge.cli.sign",
    "train-station": "training.cli",
    "export-model": "export.cli",
}
# What ``python -m`` runs: what commands start beside themselves, and what tests do.
RUN_AS_MAIN = {
    *("edge.hmi.server.main", "edge.hmi.window.main", "edge.inspection.graph_trial"),
    "edge.plc.opcua.main",
    *("edge.teaching.build_process", "training.measured_fit", "edge.fleet.cli"),
    *("tests.support.fleet_stations", "tests.support.gige_camera_process"),
    "tests.support.journal_process",
    *("tests.support.recipe_process", "tests.support.relaying", "tests.support.shared_training"),
}
STATION = (
    *("edge.app.run", "edge.doctor.examination", "edge.listen.cli", "edge.cli.main"),
    *("edge.hmi.server.main", "edge.fleet.cli", "edge.cli.capture"),
    *("anyio._backends._asyncio", "uvicorn.lifespan.off", "encodings.idna"),
)
TRAINING = (
    *("training.commands.fit", "training.commands.test", "training.measured_fit", "training.cli"),
    "tests.support.shared_training",
)
EXPORT = (
    *("export.parity_gate", "export.quantization", "export.bundle", "export.report", "export.cli"),
    "nncf",
)
# With what is preloaded into it, see ``tests.support.gige_camera``.
CAMERA = ("tests.support.gige_camera_process",)
# What test modules import: loaded once for all workers of a run.
WORKER = (
    *("edge.app.run", "edge.doctor.examination", "edge.listen.cli", "edge.fleet.cli"),
    *("edge.hmi.server.main", "edge.cli.main"),
    *(one for one in TRAINING if not one.startswith("tests.")),
    *("training.commands.benchmark", "training.commands.sweep", "training.commands.calibrate"),
    *("export.parity_gate", "export.bundle", "export.report", "export.cli", "onnxruntime"),
    *("sklearn.metrics", "scipy.stats", "asyncua", "playwright.sync_api"),
    *("nncf", "lightning_fabric", "tests.support.worker_imports"),
    *("tests.support.first_conversion", "tests.support.worker"),
)
# Looked at while a command runs. Any other variable may count as libraries load: such a start is
# an ordinary one.
LATE_VARIABLES = {
    "CREDENTIALS_DIRECTORY",
    "DISPLAY",
    "EDGE_SOAK",
    *("GIGE_CAMERA_ADDRESS", "GIGE_CAMERA_LINK_MBPS", "GIGE_CAMERA_NO_CLOCK"),
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "NOTIFY_SOCKET",
    "PYTEST_CURRENT_TEST",
    "PYTHONIOENCODING",
    "STATE_DIRECTORY",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "XDG_STATE_HOME",
    # What pytest and libraries set in the tests' own process.
    *("PYTEST_XDIST_TESTRUNUID", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"),
    *("NNCF_CI", "OPENCV_FFMPEG_LOGLEVEL", "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"),
    *("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"),
    # What torchrun tells its processes.
    *("LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("RANK", "TORCHELASTIC_RUN_ID", "WORLD_SIZE"),
}
# Those of numeric libraries: a build with fewer threads differs in nothing that a test looks at.
THREAD_VARIABLES = {"NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
HELPER = "warm-start"
_PR_SET_NAME, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER = 15, 24, 36
_CAPABILITIES_VERSION = 0x20080522
_HUGE_PAGE_BYTES, _MADV_HUGEPAGE, _MADV_COLLAPSE = 2**21, 14, 25
_MAX_REQUEST_BYTES, _MAX_STREAMS = 2**17, 16
# Streams that come are moved out of the way of the numbers that they are to have.
_ABOVE = 200
# Options of Popen that need more than this module does.
_ORDINARY = ("executable", "shell", "gid", "gids", "uid")
_CHILD_ARGUMENTS = tuple(signature(subprocess.Popen._execute_child).parameters)[2:]  # type: ignore[attr-defined]
_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
_system_popen: type[subprocess.Popen[Any]] = subprocess.Popen


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A command to start.

    Attributes:
        module: whose ``main`` runs; of ``RUN_AS_MAIN`` it runs itself as ``__main__``.
        arguments: ``sys.argv``.
        numbers: of the streams that it gets beside the first three.
        folder: to work in.
        umask: -1 to leave it.
        new_session: whether it leads a session of its own.
        change: name and arguments of one of ``CHANGES``.
    """

    module: str
    arguments: Sequence[str]
    numbers: Sequence[int]
    folder: str
    environment: Mapping[str, str]
    umask: int
    new_session: bool
    change: tuple[str, Sequence[int]] | None


@dataclass(frozen=True, slots=True)
class Limit:
    """A ``preexec_fn`` that sets a limit of the kernel's."""

    kind: int
    value: int

    def __call__(self) -> None:
        resource.setrlimit(self.kind, (self.value, self.value))


@dataclass(frozen=True, slots=True)
class Closed:
    """A ``preexec_fn`` that closes a stream."""

    number: int

    def __call__(self) -> None:
        os.close(self.number)


@dataclass(frozen=True, slots=True)
class WithoutCapabilities:
    """A ``preexec_fn`` for root that takes two capabilities away, of the first 32."""

    first: int
    second: int

    def __call__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
        # Effective, permitted and inheritable ones, and the same for those from 32 on.
        sets = (ctypes.c_uint32 * 6)()
        if libc.capget(header, sets):
            raise OSError(ctypes.get_errno(), "capget")
        for number in (self.first, self.second):
            if libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "prctl")
            for which in range(3):
                sets[which] &= ~(1 << number)
        if libc.capset(header, sets):
            raise OSError(ctypes.get_errno(), "capset")


# What prepared processes do, too, before a command runs.
Change = Limit | Closed | WithoutCapabilities
CHANGES: dict[str, type[Change]] = {
    one.__name__: one for one in (Limit, Closed, WithoutCapabilities)
}


class Preparing:
    """A process that has loaded what commands need, and forks itself for each."""

    def __init__(
        self,
        connection: socket.socket,
        environment: Mapping[str, str],
        process: subprocess.Popen[bytes] | None = None,
    ) -> None:
        """Take a process that has loaded what commands need.

        Args:
            connection: to the process, which ends with it.
            environment: in which it has loaded them.
            process: kept as long as it is needed.
        """
        self.environment = environment
        self.process = process
        self._asking = threading.Lock()
        self._socket = connection

    @classmethod
    def begin(cls, modules: Sequence[str], preloaded: str | None = None) -> "Preparing":
        """Start a process that loads these modules, and before them a library."""
        environment = dict(os.environ)
        if preloaded is not None:
            environment["LD_PRELOAD"] = preloaded
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        room = "-" * 4096  # for the command lines of what it forks
        with theirs:
            process = _system_popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), *modules, room],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment,
            )
        return cls(ours, environment, process)

    def end(self) -> None:
        """Let the process end."""
        self._socket.close()
        if self.process is not None:
            self.process.wait()

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


_preparing: dict[tuple[Sequence[str], str | None], Preparing] = {}
_first = threading.Lock()
# Of a command or worker that was started so: what forks processes for it, and of what it does so.
_helper: Preparing | None = None
_helped: tuple[Sequence[str], ...] = ()
# What libraries set as they were loaded, which they do in each process that loads them.
_set_while_loading: dict[str, str] = {}
_workers_loaded = False


def prepared(modules: Sequence[str], preloaded: str | None = None) -> Preparing:
    """Return the process that has loaded these modules, started when first asked for."""
    if _helper is not None and modules in _helped:
        return _helper
    with _first:
        if (modules, preloaded) not in _preparing:
            _preparing[modules, preloaded] = Preparing.begin(modules, preloaded)
        return _preparing[modules, preloaded]


def find_module(command: object) -> tuple[str, list[str]] | None:
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
    if _workers_loaded and words == [sys.executable, "-u", "-c", BOOTSTRAP]:
        return WORKER[-1], ["-c"]
    if words[:1] == [sys.executable]:
        called = [word for word in words[1:] if word != "-P"]
        if called[:1] == ["-m"] and called[1] in RUN_AS_MAIN:
            return called[1], called[1:]
    return None


class WarmPopen(subprocess.Popen[Any]):
    """``subprocess.Popen`` that has our commands started by a prepared process."""

    def _execute_child(self, args: Any, *others: Any) -> None:
        given = dict(zip(_CHILD_ARGUMENTS, others, strict=True))
        ours = find_module(args)
        environment = os.environ if given["env"] is None else given["env"]
        change = given["preexec_fn"]
        special = any(given[name] for name in _ORDINARY)
        special |= not (change is None or isinstance(change, Change))
        if ours is None or special:
            super()._execute_child(args, *others)  # type: ignore[misc]
            return
        module, words = ours
        libraries = (one for one in (TRAINING, EXPORT, CAMERA) if module in one)
        needed = WORKER if module == WORKER[-1] else next(libraries, STATION)
        preloaded = environment.get("LD_PRELOAD") if needed is CAMERA else None
        process = prepared(needed, preloaded)
        late = LATE_VARIABLES | THREAD_VARIABLES if module in RUN_AS_MAIN else LATE_VARIABLES
        late = late | {
            name for name, own in _set_while_loading.items() if environment.get(name, own) == own
        }
        if _differing(environment, process.environment) - late:
            super()._execute_child(args, *others)  # type: ignore[misc]
            return
        request = Request(
            module=module,
            arguments=words,
            numbers=given["pass_fds"],
            folder=os.fsdecode(given["cwd"] or Path.cwd()),
            environment=dict(environment),
            umask=given["umask"],
            new_session=given["start_new_session"],
            change=change and (type(change).__name__, astuple(change)),
        )
        streams = [given[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        streams = [stream if stream >= 0 else own for own, stream in enumerate(streams)]
        self.pid = process.start(request, [*streams, *given["pass_fds"]])
        self._child_created = True
        self._close_pipe_fds(*(given[name] for name in _PIPES))  # type: ignore[attr-defined]


def _differing(wanted: Mapping[str, str], loaded: Mapping[str, str]) -> set[str]:
    return {name for name in {*wanted, *loaded} if wanted.get(name) != loaded.get(name)}


def install() -> None:
    """Let every ``subprocess`` of this process start our commands so."""
    subprocess.Popen = WarmPopen  # type: ignore[misc]


def load_workers() -> None:
    """Begin the workers of a run of all tests from one process that has loaded what they import."""
    global _workers_loaded
    _workers_loaded = True


def serve(connection: socket.socket, environment: Mapping[str, str]) -> Request:
    """Fork for each request; return in each child what to run, and end with who asks.

    Args:
        environment: in which the libraries were loaded.
    """
    while True:
        content, streams, _, _ = socket.recv_fds(connection, _MAX_REQUEST_BYTES + 1, _MAX_STREAMS)
        if not content:
            os._exit(0)
        reading, writing = os.pipe()
        if (between := os.fork()) == 0:
            if (child := os.fork()) == 0:
                request = Request(**json.loads(content))
                connection.detach()  # its number may be that of a stream that was asked for
                _become(request, streams)
                if request.module in RUN_AS_MAIN:
                    return request
                return _with_helper(request, environment)
            os.write(writing, str(child).encode())
            os._exit(0)
        os.waitpid(between, 0)  # from now on whoever asked is the parent
        connection.send(os.read(reading, 100))
        for descriptor in (reading, writing, *streams):
            os.close(descriptor)


def _with_helper(request: Request, environment: Mapping[str, str]) -> Request:
    """Fork what will fork the processes beside this one, while this one has no threads yet."""
    global _helper, _helped
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        _be_called(HELPER)
        for meant_for_the_command in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(meant_for_the_command, signal.SIG_IGN)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nowhere, number)
        return serve(theirs, environment)
    theirs.close()
    _helper = Preparing(ours, environment)
    # A worker has loaded all that training and export need; a station shall have less.
    of_worker = request.module == WORKER[-1]
    _helped = (TRAINING, EXPORT) if of_worker else (STATION, TRAINING, EXPORT, CAMERA)
    install()
    return request


def _be_called(name: str) -> None:
    """Set the name that the kernel shows of this process."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def _become(request: Request, streams: Sequence[int]) -> None:
    numbers = [0, 1, 2, *request.numbers]
    moved = [fcntl.fcntl(stream, fcntl.F_DUPFD, _ABOVE) for stream in streams]
    for number, stream in zip(numbers, moved, strict=True):
        os.dup2(stream, number)
    for first, beyond in pairwise([*sorted(numbers), os.sysconf("SC_OPEN_MAX")]):
        os.closerange(first + 1, beyond)
    _be_called("python")
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request.new_session:
        os.setsid()
    if request.umask >= 0:
        os.umask(request.umask)
    if request.change is not None:
        name, arguments = request.change
        CHANGES[name](*arguments)()
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update({**_set_while_loading, **request.environment})
    time.tzset()
    sys.argv = list(request.arguments)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        opened = _text(number, getattr(sys, name))
        setattr(sys, name, opened)
        setattr(sys, f"__{name}__", opened)


def _text(number: int, like: io.TextIOWrapper) -> io.TextIOWrapper | None:
    """Return a stream as Python opens it at a start; None for one that is closed."""
    try:
        os.fstat(number)
    except OSError:
        return None
    lines = number == 2 or os.isatty(number)
    raw = os.fdopen(number, "rb" if number == 0 else "wb", closefd=False)
    encoding, _, named = os.environ.get("PYTHONIOENCODING", "").partition(":")
    errors = named if named and number != 2 else like.errors
    return io.TextIOWrapper(raw, encoding or like.encoding, errors, line_buffering=lines)


def _show_as(command: str) -> None:
    """Let the kernel show this command line; one that is too long is cut."""
    start, end = _find_command_line()
    content = command.encode()[: end - start - 2]
    # A last byte that is not 0 tells the kernel that the line ends at the first that is.
    ctypes.memmove(start, content.ljust(end - start - 1, b"\0") + b"-", end - start)


def _show_words(words: Sequence[str]) -> None:
    """Let the kernel show these words, each ended by a 0, as of a program that was started."""
    start, end = _find_command_line()
    content = "\0".join(words).encode()[: end - start - 1]
    ctypes.memmove(start, content.ljust(end - start, b"\0"), end - start)


def _find_command_line() -> tuple[int, int]:
    """Return where the kernel reads the command line of this process."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(fields[45]), int(fields[46])


def run(request: Request) -> None:
    """Run what was asked for, and end the process as it would end."""
    if request.module in RUN_AS_MAIN:
        _show_as(f"{sys.executable} -m {' '.join(request.arguments)}")
        sys.modules.pop(request.module, None)
        runpy.run_module(request.module, run_name="__main__", alter_sys=True)
        sys.exit(0)
    if request.module == WORKER[-1]:  # whose command line names none of what it has loaded
        _show_as(f"{sys.executable} -u -c {BOOTSTRAP}")
    else:
        _show_words([sys.executable, *request.arguments])
    sys.exit(import_module(request.module).main())


def _use_huge_pages() -> None:
    """Gather the memory of what was loaded in huge pages, as far as the kernel does that.

    Each fork copies an entry for each page: of small ones 512 times as many, which is half of its
    time.
    """
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, rights, _, _, _, *name = line.split(maxsplit=5)
        if rights != "rw-p" or name not in ([], ["[heap]"]):
            continue
        start, end = (int(one, 16) for one in addresses.split("-"))
        start = -(-start // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES
        size = end // _HUGE_PAGE_BYTES * _HUGE_PAGE_BYTES - start
        if size > 0:
            for advice in (_MADV_HUGEPAGE, _MADV_COLLAPSE):
                libc.madvise(start, size, advice)


if __name__ == "__main__":
    environment = dict(os.environ)  # some libraries change it as they load
    _, number, *modules, _ = sys.argv
    for name in modules:
        import_module(name)
    gc.collect()
    gc.freeze()
    _use_huge_pages()
    # By its own name, which is the one that commands import, not as __main__.
    this = import_module("tests.support.warm_start")
    this._set_while_loading.update(
        {name: value for name, value in os.environ.items() if name not in environment}
    )
    this.run(this.serve(socket.socket(fileno=int(number)), environment))
