"""Whether the model that inspects has passed a capability study lately."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from edge.contract.challenge import is_passed_challenge
from edge.journal.entries import JournalError, RecordKind
from edge.journal.query import newest_first
from edge.settings.challenge import ChallengeSettings
from edge.station.model.store import LoadedModel
from edge.station.monitoring.health import Health

log = logging.getLogger(__name__)

_HOUR_NS = 3_600_000_000_000
# The clock may have been put back a little since; what lies further ahead is of a wrong clock.
AHEAD_NS = 300_000_000_000
# A journal that cannot be read is asked again.
RETRY_NS = 60_000_000_000


class ChallengeMonitor:
    """Raises ``challenge_overdue``; one thread calls ``check``, and often.

    Studies write into the journal while the station does not run, so it is read once for each model
    and decision. Times are the wall clock's: they outlive the process.
    """

    def __init__(
        self,
        *,
        settings: ChallengeSettings,
        journal: Path,
        current: Callable[[], LoadedModel],
        health: Health,
        utc_ns: Callable[[], int] = time.time_ns,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Begin before the first look at the journal.

        Args:
            journal: the database.
            current: the model that inspects now.
            utc_ns, clock_ns: wall clock and monotonic.
        """
        self._settings = settings
        self._journal = journal
        self._current = current
        self._health = health
        self._utc_ns = utc_ns
        self._clock_ns = clock_ns
        self._limit_ns = round(settings.every_hours * _HOUR_NS)
        self._model: LoadedModel | None = None
        self._passed_utc_ns: int | None = None
        self._retry_at_ns = clock_ns()

    def check(self) -> None:
        """Raise the reason, or clear it."""
        model = self._current()
        if model is not self._model and self._clock_ns() >= self._retry_at_ns:
            self._find_last_passed(model)
        passed_ns = self._passed_utc_ns if model is self._model else None
        self._health.set(
            "challenge_overdue",
            passed_ns is None or not self._counts(passed_ns),
            f"{model} has not passed a capability study with these decision settings "
            f"within {self._settings.every_hours:g} hours. Stop the station, run edge-run "
            "--challenge with its settings, and start it again.",
        )

    def _counts(self, passed_utc_ns: int) -> bool:
        return -AHEAD_NS <= self._utc_ns() - passed_utc_ns <= self._limit_ns

    def _find_last_passed(self, model: LoadedModel) -> None:
        sha256, decision = model.bundle.sha256, model.criteria.sha256
        passed_utc_ns = None
        try:
            for row in newest_first(self._journal, RecordKind.EVENT):
                if self._utc_ns() - row.created_utc_ns > self._limit_ns:
                    break
                passed = is_passed_challenge(json.loads(row.payload), sha256, decision)
                if passed and self._counts(row.created_utc_ns):
                    passed_utc_ns = row.created_utc_ns
                    break
        except JournalError as error:
            log.warning("it is not known whether a capability study is due: %s", error)
            self._retry_at_ns = self._clock_ns() + RETRY_NS
            return
        self._model, self._passed_utc_ns = model, passed_utc_ns
