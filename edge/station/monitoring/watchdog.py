"""The watchdog: a station with a hung stage does not live on.

Soft faults, such as a broker or a camera that is away, are repaired where they happen. A native
call that never returns cannot be: the process ends and its service manager starts a new one.
"""

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import NoReturn, TextIO

from edge.errors import StationError
from edge.station.monitoring.heartbeat import Heartbeats, Stale
from edge.station.monitoring.systemd import ServiceManager

log = logging.getLogger(__name__)

MAX_PERIOD_S = 1.0
# The interpreter itself may stand still for so long: a native call that keeps the GIL.
INTERPRETER_LIMIT_S = 30.0

GiveUp = Callable[[Sequence[Stale]], object]


class Watchdog:
    """Feeds the service manager's watchdog while all critical stages are fresh.

    A critical stage is silent: nothing is sent any more and the log says which and since when. The
    manager's own watchdog then ends the process; where there is none, or it does not, ``give_up``
    does. A stage that comes back before that is forgiven. A stage that is not critical is only
    told.
    """

    def __init__(
        self,
        heartbeats: Heartbeats,
        manager: ServiceManager,
        give_up: GiveUp,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Set it up; ``run`` is the body of its thread.

        Args:
            heartbeats: of the stages.
            manager: is fed; its interval says how often.
            give_up: ends the process, such as ``end_process``; called once.
            clock_ns: monotonic.
        """
        self._heartbeats = heartbeats
        self._manager = manager
        self._give_up = give_up
        self._clock_ns = clock_ns
        interval_s = manager.watchdog_interval_s
        self._patience_s = interval_s or 0.0
        self.period_s = min(MAX_PERIOD_S, interval_s / 2 if interval_s else MAX_PERIOD_S)
        self._looked_ns = clock_ns()
        self._excused = False
        self._silent: frozenset[str] = frozenset()
        self._hung_since_ns: int | None = None
        self._ended = threading.Event()

    def run(self) -> None:
        """Look again and again until ``end`` is called or the process is given up.

        Beside it a native timer counts, which ends the process when not even this thread runs.
        """
        stream = _stderr()
        if stream is not None:
            # The manager ends a process that no longer feeds it with SIGABRT; that tells where.
            faulthandler.enable(file=stream)
        try:
            while not self._ended.is_set():
                if stream is not None:
                    faulthandler.dump_traceback_later(INTERPRETER_LIMIT_S, exit=True, file=stream)
                if not self.look():
                    return
                self._ended.wait(self.period_s)
        finally:
            if stream is not None:
                faulthandler.cancel_dump_traceback_later()

    def end(self) -> None:
        """End it; the process is not watched any more."""
        self._ended.set()

    def look(self) -> bool:
        """Judge the stages once; False when the process was given up."""
        now_ns = self._clock_ns()
        slept_s = (now_ns - self._looked_ns) / 1e9
        self._looked_ns = now_ns
        stood_still = slept_s > 2 * self.period_s and self._hung_since_ns is None
        if stood_still and not self._excused:
            # The whole process was suspended, stopped or starved. That stages were silent then
            # tells nothing; they are judged at the next look, however late that one comes.
            log.warning("the process stood still for %.1f s", slept_s)
            self._excused = True
            self._manager.alive()
            return True
        self._excused = False
        stale = self._heartbeats.stale(now_ns)
        self._log_silences(stale)
        hung = [one for one in stale if one.critical]
        if not hung:
            self._hung_since_ns = None
            self._manager.alive()
            return True
        if self._hung_since_ns is None:
            self._hung_since_ns = now_ns
            self._manager.status(f"given up: {hung[0]}")
        if (now_ns - self._hung_since_ns) / 1e9 < self._patience_s:
            return True
        self._give_up(hung)
        return False

    def _log_silences(self, stale: Sequence[Stale]) -> None:
        """Log each silence once, and its end."""
        silent = frozenset(one.stage for one in stale)
        for one in stale:
            if one.stage not in self._silent:
                log.log(logging.CRITICAL if one.critical else logging.WARNING, "%s", one)
        for stage in sorted(self._silent - silent):
            log.warning("%s is back", stage)
        self._silent = silent


def end_process(hung: Sequence[Stale]) -> NoReturn:
    """Say what hung, where every thread stands, and end without waiting for any of them.

    Exit code 70, which ``Restart=on-failure`` answers with a new process.
    """
    log.critical(
        "the process ends so that a new one can start: %s", ", ".join(str(one) for one in hung)
    )
    stream = _stderr()
    if stream is not None:
        faulthandler.dump_traceback(file=stream, all_threads=True)
    os._exit(StationError.exit_code)


def _stderr() -> TextIO | None:
    """Return standard error if a signal handler could write to it."""
    try:
        if sys.__stderr__ is not None:
            sys.__stderr__.fileno()
        return sys.__stderr__
    except (OSError, ValueError):
        return None
