"""All faults in turn against a running site: ``python -m tests.endurance --minutes 60``.

Ends by itself, prints what was injected and what was seen, and exits with 1 when a promise was
broken: a committed verdict that does not arrive or comes with two contents, a part with two
verdicts, a station that does not come back, a chain that breaks, a journal that is set aside, or
memory, threads, files or latency of the steady station that grow.
"""

import argparse
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from edge.journal.verification import verify_chain
from tests.endurance.faults import (
    FAULTS,
    Fault,
    disk_full,
    model_damaged,
    model_swapped,
    settings_reloaded,
)
from tests.endurance.site import DRIVEN, STEADY, Site, SiteEnded
from tests.support.station_process import StationProcess

START_LIMIT_S = 180.0
RECOVERY_LIMIT_S = 120.0
SAMPLE_PERIOD_S = 1.0
ONCE_BEFORE = (settings_reloaded, model_swapped, model_damaged, model_swapped)
# A short run has hardly filled its caches when its first quarter ends.
LONG_RUN_MINUTES = 30.0
MEMORY_GROWTH = {True: 0.02, False: 0.10}
MAX_MORE_THREADS = MAX_MORE_FILES = 2
# A machine that is busy by turns halves and doubles any duration.
LATENCY_FACTOR, LATENCY_ROOM_MS = 3.0, 20.0
MAX_REPAIR_ROUNDS, REPAIR_PERIOD_S = 20, 3.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What the steady station takes at a moment.

    Attributes:
        memory_bytes: its own; pages of files, such as libraries, come and go as the kernel likes.
    """

    at_s: float
    memory_bytes: int
    threads: int
    files: int


def _own_memory_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    anonymous = next(line for line in lines if line.startswith("RssAnon:"))
    return int(anonymous.split()[1]) * 1024


class Run:
    """One long run.

    Attributes:
        violations: promises that were broken, in order.
        injected: how often each fault was.
    """

    def __init__(self, site: Site, minutes: float, seed: int) -> None:
        self._site = site
        self._minutes = minutes
        self._chance = random.Random(seed)
        self._samples: list[Sample] = []
        self.violations: list[str] = []
        self.injected: Counter[str] = Counter()

    def run(self) -> None:
        site = self._site
        site.start()
        self._await_flow("the start", START_LIMIT_S)
        if self.violations:
            return
        for warming in ONCE_BEFORE:  # what it needs for a second model is no growth
            warming(site, self._chance)
            self._await_flow("the start", START_LIMIT_S)
        begin_s = time.monotonic()
        end_s = begin_s + 60 * self._minutes
        faults = [one for one in FAULTS if one is not disk_full or site.disk is not None]
        turn: list[Fault] = []
        while time.monotonic() < end_s:
            if not turn:
                turn = self._chance.sample(faults, len(faults))
            fault = turn.pop()
            name = fault.__name__.replace("_", " ")
            print(f"{time.monotonic() - begin_s:6.0f} s  {name}", flush=True)
            try:
                fault(site, self._chance)
            except AssertionError as error:
                self.violations.append(f"{name}: {error}")
            self.injected[name] += 1
            self._await_flow(name, RECOVERY_LIMIT_S)
        self._finish()
        self._compare(begin_s, end_s)
        self.violations += site.consumer.violations

    def _await_flow(self, after: str, limit_s: float) -> None:
        """Wait until both stations give verdicts again; what the steady one takes is sampled."""
        began_s = time.monotonic()
        waiting = {STEADY, DRIVEN}
        while waiting:
            for name in list(waiting):
                seen = self._site.consumer.of(name)
                if seen.newest_s > began_s and seen.state.get("state") in ("online", "degraded"):
                    waiting.remove(name)
            if time.monotonic() - began_s > limit_s:
                self.violations.append(f"{', '.join(waiting)} did not come back after {after}")
                break
            for station in (self._site.steady, self._site.driven):
                if not station.running:
                    raise SiteEnded(f"after {after} a station ended:\n{station.log[-2000:]}")
            self._sample()
            time.sleep(SAMPLE_PERIOD_S)

    def _sample(self) -> None:
        process = psutil.Process(self._site.steady.pid)
        self._samples.append(
            Sample(
                time.monotonic(),
                _own_memory_bytes(process.pid),
                process.num_threads(),
                process.num_fds(),
            )
        )

    def _finish(self) -> None:
        """Let everything arrive, end the stations, and look into their journals."""
        site = self._site
        site.rest()
        stations = {STEADY: site.steady, DRIVEN: site.driven}
        for name, station in stations.items():
            self._repair(name, station)
            if (status := station.stop()) != 0:
                self.violations.append(f"{name} ended with {status}: {station.log[-500:]}")
        for name, station in stations.items():
            journal, last, waiting, numbers = site.journal(station)
            arrived = site.consumer.wait(
                partial(site.consumer.all_arrived, name, journal, last),
                RECOVERY_LIMIT_S,
            )
            if not arrived:
                gaps = site.consumer.missing(name, journal, last)
                self.violations.append(f"{name}: committed and not arrived: {gaps[:5]}")
            if waiting:
                self.violations.append(f"{name}: {waiting} records were not sent")
            if numbers != list(range(1, last + 1)):
                self.violations.append(f"{name}: the journal has gaps")
            folder = Path(station.settings["journal"]["folder"])
            if fault := verify_chain(folder / "journal.db").fault:
                self.violations.append(f"{name}: the chain breaks: {fault.what}")
            if set_aside := list(folder.glob("journal.corrupt-*")):
                self.violations.append(f"{name}: {set_aside[0].name}")
            if len(site.consumer.of(name).numbers) > 1:
                self.violations.append(f"{name}: verdicts of more than one journal")

    def _repair(self, name: str, station: StationProcess) -> None:
        """Ask for what a killed broker had taken and not delivered, as a consumer does."""
        consumer = self._site.consumer
        for _ in range(MAX_REPAIR_ROUNDS):
            journal, last, _, _ = self._site.journal(station)
            gaps = consumer.missing(name, journal, last)
            if not gaps:
                return
            for gap in gaps[:4]:
                wanted = {"from_seq": gap.first, "to_seq": gap.last}
                consumer.publish(f"vi/v1/{name}/cmd/resend", wanted)
            time.sleep(REPAIR_PERIOD_S)

    def _compare(self, begin_s: float, end_s: float) -> None:
        """Hold the last quarter to the first."""
        quarter_s = (end_s - begin_s) / 4
        first = [one for one in self._samples if begin_s <= one.at_s < begin_s + quarter_s]
        last = [one for one in self._samples if end_s - quarter_s <= one.at_s]
        latencies = self._site.consumer.of(STEADY).latencies_ms
        early = [ms for at_s, ms in latencies if begin_s <= at_s < begin_s + quarter_s]
        late = [ms for at_s, ms in latencies if end_s - quarter_s <= at_s <= end_s]
        print(f"{'steady station':22}{'first quarter':>16}{'last quarter':>16}")

        def compared(name: str, of: Callable[[Sample], float], unit: float = 1.0) -> list[float]:
            both = [statistics.median(map(of, part)) / unit for part in (first, last)]
            print(f"{name:22}{both[0]:16.1f}{both[1]:16.1f}")
            return both

        memory = compared("own memory, MiB", lambda one: one.memory_bytes, 2**20)
        threads = compared("threads", lambda one: one.threads)
        files = compared("open files", lambda one: one.files)
        latency = [statistics.median(early), statistics.median(late)]
        print(f"{'median latency, ms':22}{latency[0]:16.1f}{latency[1]:16.1f}")
        growth = memory[1] / memory[0] - 1
        limit = MEMORY_GROWTH[self._minutes >= LONG_RUN_MINUTES]
        print(f"growth of memory {growth:.1%}; at most {limit:.0%} in a run of this length")
        if growth > limit:
            self.violations.append(f"memory grew by {growth:.1%}, more than {limit:.0%}")
        if threads[1] - threads[0] > MAX_MORE_THREADS:
            self.violations.append(f"threads grew from {threads[0]:g} to {threads[1]:g}")
        if files[1] - files[0] > MAX_MORE_FILES:
            self.violations.append(f"open files grew from {files[0]:g} to {files[1]:g}")
        if latency[1] > LATENCY_FACTOR * latency[0] + LATENCY_ROOM_MS:
            self.violations.append(f"latency grew from {latency[0]:.1f} to {latency[1]:.1f} ms")

    def report(self) -> None:
        print("injected: " + ", ".join(f"{n} × {name}" for name, n in self.injected.items()))
        if self._site.disk is None:
            print("not injected, as this user may not mount a file system: disk full")
        for name in (STEADY, DRIVEN):
            seen = self._site.consumer.of(name)
            print(
                f"{name}: {len(seen.contents)} verdicts arrived ({_listed(seen.results)}); "
                f"{seen.repeated} a second time, the same; events: {_listed(seen.events)}"
            )
        for one in self.violations:
            print(f"VIOLATION: {one}")
        print("violations: " + str(len(self.violations)))


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "none"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder, closing(Site(Path(folder), arguments.minutes)) as site:
        run = Run(site, arguments.minutes, arguments.seed)
        try:
            run.run()
        except SiteEnded as ended:
            run.violations.append(str(ended))
        run.report()
    return 1 if run.violations else 0


if __name__ == "__main__":
    sys.exit(main())
