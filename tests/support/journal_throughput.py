"""How fast this disk takes verdicts: ``python -m tests.support.journal_throughput FOLDER``.

Prints the latency from submitting to being told at 500 verdicts a second, the most a second that
can be had, and how long a backlog of 100,000 takes to be read and acknowledged.
"""

import resource
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

from edge.journal.entries import Committed, JournalRefuses, RecordKind
from edge.journal.outbox import Outbox
from tests.support.journaling import RunningWriter, running_writer, verdict

PACED_PER_S = 500
PACED_S = 20
UNPACED_S = 10
BACKLOG = 100_000


def main(folder: str) -> None:
    with running_writer(Path(folder)) as running:
        paced(running)
        unpaced(running)
        while count_entries(running) < BACKLOG:
            submit_waiting(running, 1000)
        running.flush()
        drain(running)


def paced(running: RunningWriter) -> None:
    latencies_ms: list[float] = []

    def reported(since_ns: int, _: object) -> None:
        latencies_ms.append((time.monotonic_ns() - since_ns) / 1e6)

    began = time.monotonic()
    for n in range(PACED_PER_S * PACED_S):
        time.sleep(max(0.0, began + n / PACED_PER_S - time.monotonic()))
        since_ns = time.monotonic_ns()
        running.writer.submit(verdict(n), partial(reported, since_ns))
    running.flush()
    elapsed_s = time.monotonic() - began
    latencies_ms.sort()
    p50, p99 = (latencies_ms[int(len(latencies_ms) * share)] for share in (0.5, 0.99))
    print(
        f"{len(latencies_ms) / elapsed_s:.0f}/s for {elapsed_s:.0f} s: told after {p50:.1f} ms "
        f"(p50), {p99:.1f} ms (p99), {latencies_ms[-1]:.1f} ms (max)"
    )


def unpaced(running: RunningWriter) -> None:
    began = time.monotonic()
    count = 0
    while time.monotonic() - began < UNPACED_S:
        count += submit_waiting(running, 100)
    running.flush()
    print(f"at most {count / (time.monotonic() - began):.0f}/s")


def submit_waiting(running: RunningWriter, count: int) -> int:
    """Submit, waiting where the queue is full; return how many."""
    for n in range(count):
        while True:
            try:
                running.writer.submit(verdict(n), nothing)
                break
            except JournalRefuses:
                time.sleep(0.001)
    return count


def nothing(committed: Committed) -> None:
    return


def count_entries(running: RunningWriter) -> int:
    with closing(Outbox(running.path)) as outbox:
        return outbox.backlog().count


def drain(running: RunningWriter) -> None:
    count = position = 0
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    with closing(Outbox(running.path)) as outbox:
        slowest = 0.0
        while True:
            before = time.monotonic()
            rows = outbox.pending(RecordKind.VERDICT, position, 256)
            outbox.backlog()
            slowest = max(slowest, time.monotonic() - before)
            if not rows:
                break
            position = rows[-1].position
            count += len(rows)
            while not running.writer.acknowledge([row.position for row in rows]):
                time.sleep(0.001)
        running.flush()
        left = outbox.backlog().count
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    print(
        f"backlog of {count} read and acknowledged in {time.monotonic() - began:.1f} s, slowest "
        f"read {slowest * 1e3:.1f} ms, memory +{grown} KiB, {left} left"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
