"""How long a committed verdict takes to a subscriber, through a real broker.

python -m tests.bench.publication [ROUNDS]
"""

import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.broker import Broker
from tests.support.relaying import RelayedJournal, has_all, relayed_journals

PER_SECOND = 500
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class PublicationFigures:
    """From commit to arrival, in milliseconds, of one round each; the machine is not ours alone.

    Attributes:
        p50_ms, p99_ms: by round.
    """

    p50_ms: list[float]
    p99_ms: list[float]

    def __str__(self) -> str:
        return (
            f"commit to subscriber at {PER_SECOND} verdicts/s: p50 "
            f"{statistics.median(self.p50_ms):.1f} ms, p99 {statistics.median(self.p99_ms):.1f} ms "
            f"(least {min(self.p99_ms):.1f} of {len(self.p99_ms)} rounds)"
        )


def publication_figures(rounds: int = ROUNDS) -> PublicationFigures:
    """Record and relay verdicts of a second, round by round."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "broker"
        folder.mkdir()
        broker = Broker(folder)
        broker.start()
        broker.subscribe()
        try:
            with relayed_journals(Path(name)) as begin:
                station = begin(broker.url)
                station.wait_until(lambda: station.publisher.delivery().connected)
                delays = [_delays_ms(station, broker, turn) for turn in range(rounds)]
        finally:
            broker.close()
    return PublicationFigures(
        [found[len(found) // 2] for found in delays],
        [found[-1 - len(found) // 100] for found in delays],
    )


def _delays_ms(station: RelayedJournal, broker: Broker, turn: int) -> list[float]:
    committed_s: dict[int, float] = {}
    due_s = time.monotonic()
    for _ in range(PER_SECOND):
        station.submit(lambda seq: committed_s.update({seq: time.monotonic()}))
        due_s += 1 / PER_SECOND
        time.sleep(max(due_s - time.monotonic(), 0.0))
    received = broker.collect("/verdict", has_all(PER_SECOND * (turn + 1)))[-PER_SECOND:]
    return sorted((m["_arrived_s"] - committed_s[m["seq"]]) * 1e3 for m in received)


if __name__ == "__main__":
    print(publication_figures(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
