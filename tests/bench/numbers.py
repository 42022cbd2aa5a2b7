"""The page's numbers over a long journal: the first time, and while it grows.

python -m tests.bench.numbers [ROWS] [HOURS]
"""

import json
import sqlite3
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from edge.contract.encoding import new_id
from edge.hmi.server.production_stats import ProductionStats
from edge.journal import database

ROWS, HOURS = 600_000, 20.0
GROWTH = 200
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class NumbersFigures:
    """What was measured.

    Attributes:
        rows: of the journal, all within the hours that are counted.
        first_ms: of the first answer.
        answers: until the whole day was counted; a page asks once a second.
        longest_ms, longest_cpu_ms: of these answers, and of the processor in the longest of them.
        later_ms: longest answer after 200 more rows.
    """

    rows: int
    first_ms: float
    answers: int
    longest_ms: float
    longest_cpu_ms: float
    later_ms: float


def measured(rows: int = ROWS, hours: float = HOURS) -> NumbersFigures:
    """Measure the numbers of a journal with so many rows in the last hours."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / database.FILE_NAME
        write_journal(path, rows, hours)
        numbers = ProductionStats(path, ["06:00", "14:00", "22:00"])
        times_ms, cpu_ms = [], []
        complete = False
        while not complete:
            began_cpu_s = time.process_time()
            once_ms, complete = _once(numbers)
            times_ms.append(once_ms)
            cpu_ms.append((time.process_time() - began_cpu_s) * 1e3)
        later_ms = []
        for _ in range(ROUNDS):
            write_journal(path, GROWTH, 0.0)
            later_ms.append(_once(numbers)[0])
        return NumbersFigures(
            rows, times_ms[0], len(times_ms), max(times_ms), max(cpu_ms), max(later_ms)
        )


def write_journal(path: Path, rows: int, hours: float) -> None:
    """Write rows as a station does, evenly over the last hours; every fifth is NOK."""
    now_ns = time.time_ns()
    with sqlite3.connect(path) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            connection.executescript(database._SCHEMA)
        (begun,) = connection.execute("SELECT coalesce(max(seq), 0) FROM record").fetchone()
        connection.executemany(
            "INSERT INTO record (kind, seq, result, created_utc_ns, station_ns, chain, payload)"
            " VALUES ('verdict', ?, ?, ?, 0, x'00', ?)",
            (
                _row(begun + number, now_ns - int((rows - number) / rows * hours * 3.6e12))
                for number in range(1, rows + 1)
            ),
        )


def _row(seq: int, utc_ns: int) -> tuple[int, str, int, bytes]:
    result = "OK" if seq % 5 else "NOK"
    content = {
        "id": new_id(utc_ns),
        "part_id": None,
        "result": result,
        "reason": "score_below" if result == "OK" else "score_above",
        "raw_score": 1.0,
        "raw_threshold": 5.0,
        "anomaly_score": 0.1,
        "duration_ms": {"total": 12.0},
        "deadline_met": None,
        "model": {"sha256": "a" * 64},
        "regions": [{"bbox": [1, 2, 3, 4], "area_px": 9, "peak": 0.5}] * 4,
        "detail": "x" * 300,
    }
    return seq, result, utc_ns, json.dumps(content, separators=(",", ":")).encode()


def _once(numbers: ProductionStats) -> tuple[float, bool]:
    began_s = time.perf_counter()
    complete = numbers.numbers(datetime.now().astimezone()).complete
    return (time.perf_counter() - began_s) * 1e3, complete


if __name__ == "__main__":
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    hours = float(sys.argv[2]) if len(sys.argv) > 2 else HOURS
    print(json.dumps(asdict(measured(rows, hours)), indent=2))
