"""The watchdog: real processes whose stages hang in native calls, each in turn."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge.station.monitoring.heartbeat import Heartbeats, Stale
from edge.station.monitoring.systemd import ServiceManager
from edge.station.monitoring.watchdog import Watchdog
from tests.edge.station.test_heartbeat import Clock
from tests.support.service_manager import GENEROUS_S, NotifySocket

CRITICAL = ("capture", "inspect", "journal")
UNCRITICAL = ("publish", "snapshots")
LIMIT_S = 3.0
WATCHDOG_S = 0.8

# A process with the stages of a station, each a thread that beats and does a native call per round.
# A name on standard input blocks that stage in a native call that never returns.
STATION = f"""
import ctypes, logging, os, sys, threading
from edge.station.monitoring.heartbeat import Heartbeats
from edge.station.monitoring.systemd import ServiceManager
from edge.station.monitoring.watchdog import Watchdog, end_process
import edge.station.monitoring.watchdog as module

logging.basicConfig(level="INFO", format="%(levelname)s %(message)s")
module.INTERPRETER_LIMIT_S = {2 * LIMIT_S}
native = ctypes.CDLL(None)           # releases the GIL, as OpenVINO and camera drivers do
keeping = ctypes.PyDLL(None)         # keeps the GIL: the worst of drivers
read_end, _ = os.pipe()
heartbeats, hanging = Heartbeats(), set()

def stage(name, beat):
    buffer = ctypes.create_string_buffer(1)
    while True:
        beat()
        if name in hanging:
            native.read(read_end, buffer, 1)
        if "interpreter" in hanging:
            keeping.read(read_end, buffer, 1)
        native.usleep(20_000)

for name in {CRITICAL + UNCRITICAL}:
    beat = heartbeats.stage(name, {LIMIT_S}, critical=name in {CRITICAL})
    threading.Thread(target=stage, args=(name, beat), daemon=True).start()
manager = ServiceManager()
watchdog = Watchdog(heartbeats, manager, end_process)
threading.Thread(target=watchdog.run, daemon=True).start()
manager.ready()
for line in sys.stdin:
    hanging.add(line.strip())
"""


@dataclass
class Hung:
    """A process one of whose stages was blocked.

    Attributes:
        fed: it fed the watchdog before.
    """

    process: subprocess.Popen[str]
    listener: NotifySocket | None
    fed: bool
    log: Path

    def end(self) -> int:
        return self.process.wait(GENEROUS_S)


@pytest.fixture(scope="module")
def hung(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Hung]]:
    """One process per stage that hangs, all at the same time; ``alone`` has no service manager."""
    folder = tmp_path_factory.mktemp("hung")
    found = {}
    for name in (*CRITICAL, *UNCRITICAL, "interpreter", "nothing", "alone"):
        listener = None if name == "alone" else NotifySocket(folder / f"{name}.socket")
        log = folder / f"{name}.log"
        environment = listener.environment(WATCHDOG_S) if listener else {}
        process = subprocess.Popen(
            [sys.executable, "-c", STATION],
            env={"PATH": "", **environment},
            stdin=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
        )
        found[name] = Hung(process, listener, False, log)
    for name, one in found.items():
        if one.listener:
            one.listener.wait_for("READY=1")
            one.fed = bool(one.listener.wait_for("WATCHDOG=1"))
        assert one.process.stdin is not None
        print("journal" if name == "alone" else name, file=one.process.stdin, flush=True)
    yield found
    for one in found.values():
        one.process.kill()
        one.process.wait(GENEROUS_S)
        if one.process.stdin:
            one.process.stdin.close()
        if one.listener:
            one.listener.close()


@pytest.mark.parametrize("stage", CRITICAL)
def test_a_hung_stage_ends_the_feeding_and_then_the_process(
    hung: dict[str, Hung], stage: str
) -> None:
    one = hung[stage]
    assert one.fed
    assert one.end() == 70
    assert one.listener is not None
    one.listener.waiting()
    reported = one.listener.received
    given_up = next(n for n, text in enumerate(reported) if text.startswith("STATUS=given up"))
    assert f"{stage} silent for" in reported[given_up]
    assert "WATCHDOG=1" not in reported[given_up:]


@pytest.mark.parametrize("stage", CRITICAL)
def test_the_log_names_the_hung_stage_and_where_every_thread_stands(
    hung: dict[str, Hung], stage: str
) -> None:
    hung[stage].end()
    log = hung[stage].log.read_text()
    assert f"CRITICAL {stage} silent for" in log
    assert "the process ends so that a new one can start" in log
    assert "in stage" in log  # the traceback of the blocked thread


@pytest.mark.parametrize("stage", UNCRITICAL)
def test_a_hung_publisher_is_reported_and_the_watchdog_goes_on(
    hung: dict[str, Hung], stage: str
) -> None:
    one = hung[stage]
    assert one.listener is not None
    while f"WARNING {stage} silent for" not in one.log.read_text():
        one.listener.wait_for("WATCHDOG=1")
    one.listener.waiting()
    for _ in range(3):
        one.listener.wait_for("WATCHDOG=1")
    assert one.process.poll() is None


def test_without_a_service_manager_a_hung_stage_ends_the_process_all_the_same(
    hung: dict[str, Hung],
) -> None:
    assert hung["alone"].end() == 70
    assert "CRITICAL journal silent for" in hung["alone"].log.read_text()


def test_a_native_call_that_keeps_the_interpreter_ends_the_process_too(
    hung: dict[str, Hung],
) -> None:
    assert hung["interpreter"].end() == 1
    assert "Timeout" in hung["interpreter"].log.read_text()


def test_the_abort_of_a_service_manager_leaves_where_every_thread_stood(
    hung: dict[str, Hung],
) -> None:
    one = hung["nothing"]
    one.process.send_signal(signal.SIGABRT)
    assert one.end() == -signal.SIGABRT
    log = one.log.read_text()
    assert "Fatal Python error: Aborted" in log
    assert "in stage" in log


@dataclass
class Watched:
    """A watchdog looked at by hand, on a clock that the test turns.

    What it tells is taken at once: the queue of a socket holds a few messages only, and a watchdog
    does not wait long for who reads it.
    """

    clock: Clock
    heartbeats: Heartbeats
    listener: NotifySocket
    given_up: list[str] = field(default_factory=list)
    _reported: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        manager = ServiceManager(self.listener.environment(watchdog_s=15.0))
        self.watchdog = Watchdog(self.heartbeats, manager, self._give_up, self.clock)

    def seconds(self, count: int, each: Callable[[], None] = lambda: None) -> None:
        for _ in range(count):
            self.clock.go_on(1.0)
            each()
            going_on = self.watchdog.look()
            self._reported += self.listener.waiting()
            if not going_on:
                return

    def reported(self) -> list[str]:
        """Return what the service manager was told since this was asked the last time."""
        reported, self._reported = [*self._reported, *self.listener.waiting()], []
        return reported

    def _give_up(self, hung: Sequence[Stale]) -> None:
        self.given_up += [one.stage for one in hung]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    clock = Clock()
    with NotifySocket(tmp_path / "notify") as listener:
        yield Watched(clock, Heartbeats(clock), listener)


def test_it_is_fed_at_least_twice_in_an_interval(watched: Watched) -> None:
    assert watched.watchdog.period_s <= 15.0 / 2
    watched.seconds(3)
    assert watched.reported() == ["WATCHDOG=1"] * 3


def test_the_process_is_given_up_one_interval_after_the_feeding_ended(watched: Watched) -> None:
    watched.heartbeats.stage("inspect", 10.0, critical=True)
    watched.seconds(10)
    assert watched.reported() == ["WATCHDOG=1"] * 10
    watched.seconds(15)
    assert watched.given_up == []
    watched.seconds(1)
    assert watched.given_up == ["inspect"]
    assert "WATCHDOG=1" not in watched.reported()


def test_a_stage_that_comes_back_in_time_is_forgiven(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    inspect = watched.heartbeats.stage("inspect", 10.0, critical=True)
    watched.seconds(20)
    watched.reported()
    watched.seconds(30, each=inspect)
    assert watched.given_up == []
    assert watched.reported() == ["WATCHDOG=1"] * 30
    assert caplog.text.count("inspect silent for") == 1
    assert caplog.text.count("inspect is back") == 1


def test_a_process_that_stood_still_is_not_blamed_on_its_stages(watched: Watched) -> None:
    inspect = watched.heartbeats.stage("inspect", 10.0, critical=True)
    watched.clock.go_on(3600.0)
    assert watched.watchdog.look()
    watched.seconds(1, each=inspect)
    assert watched.reported() == ["WATCHDOG=1", "WATCHDOG=1"]


def test_standing_still_excuses_once_not_for_ever(watched: Watched) -> None:
    watched.heartbeats.stage("inspect", 10.0, critical=True)
    for _ in range(6):
        watched.clock.go_on(20.0)
        watched.watchdog.look()
    assert watched.given_up[:1] == ["inspect"]


def test_a_silent_stage_is_logged_once_however_long_it_lasts(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.heartbeats.stage("publish", 1.0, critical=False)
    watched.seconds(1000)
    assert len(json.dumps(caplog.text)) < 500
    assert len(watched.reported()) > 100
