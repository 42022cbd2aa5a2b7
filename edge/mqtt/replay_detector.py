"""How old journalled rows are, by a clock that cannot be set."""

from collections import deque
from collections.abc import Mapping

from edge.contract.verdict import ACT_WITHIN_NS
from edge.journal.entries import JournalRow, RecordKind

# A row that is older than this when it is sent is marked as replayed.
FRESH_NS = ACT_WITHIN_NS


class ReplayDetector:
    """Tells whether a row may be older than a limit by the monotonic clock, in bounded memory.

    A row counts as fresh only where a look at the journal within the limit did not find it yet:
    while nobody looked, as during a long attempt to connect, it may be of any age.
    """

    def __init__(self, fresh_ns: int = FRESH_NS, max_count: int = 32) -> None:
        self._fresh_ns = fresh_ns
        self._step_ns = 2 * fresh_ns // max_count
        self._seen: deque[tuple[int, Mapping[RecordKind, int]]] = deque(maxlen=max_count)

    def due(self, now_ns: int) -> bool:
        """Tell whether a new look at the journal is worth keeping."""
        return not self._seen or now_ns - self._seen[-1][0] >= self._step_ns

    def record(self, newest: Mapping[RecordKind, int], now_ns: int) -> None:
        """Note the newest ``seq`` of each kind at monotonic ``now_ns``."""
        self._seen.append((now_ns, newest))

    def is_old(self, row: JournalRow, now_ns: int) -> bool:
        """Tell whether the row may have been there already when the limit began."""
        return not any(
            now_ns - at_ns <= self._fresh_ns and row.seq > newest[row.kind]
            for at_ns, newest in self._seen
        )
