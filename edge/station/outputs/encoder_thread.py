"""The thread that follows the conveyor: it reads the encoder's counter, again and again."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from edge.contract.event import Event, Severity
from edge.errors import StationError
from edge.plc.output_device import OutputDeviceAway
from edge.settings.outputs import EncoderSettings
from edge.station.monitoring.health import Health
from edge.station.outputs.conveyor import Count, EncoderLost, unwrapped
from edge.token_bucket import TokenBucket

log = logging.getLogger(__name__)

# Between two attempts to reach a counter that is away.
RETRY_S = 0.5
EVENTS_PER_MINUTE = 30
AWAY = "output_encoder_away"


class Counter(Protocol):
    """Counts while the conveyor moves; one thread calls."""

    def read(self) -> int:
        """Return what it says now.

        Raises:
            OutputDeviceAway: it does not answer now.
            OutputRefused: it never will.
        """

    def close(self) -> None:
        """Let go of it."""


class EncoderThread:
    """Reads the counter at its pace, and hands each count on.

    Attributes:
        there: it answered the last time.
    """

    def __init__(
        self,
        *,
        settings: EncoderSettings,
        counter: Counter,
        put: Callable[[Count | EncoderLost], None],
        health: Health,
        record_event: Callable[[Event], None],
        look: Callable[[], None],
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Prepare a counter; ``run`` is the body of its thread.

        Args:
            put: called with each count, and when there are no more.
            look: called when ``there`` has changed.
        """
        self.there = False
        self._is_away = False  # and people have been told so
        self._events = TokenBucket(EVENTS_PER_MINUTE)
        self._settings = settings
        self._counter = counter
        self._put = put
        self._health = health
        self._record_event = record_event
        self._look = look
        self._clock_ns = clock_ns
        self._ended = threading.Event()
        self._spell = 0
        self._newest: Count | None = None

    def open(self) -> None:
        """Try to reach the counter.

        Raises:
            OutputRefused: it does not have this register.
        """
        try:
            self._read()
        except OutputDeviceAway as error:
            self._lost(error)

    def close(self) -> None:
        """Let the thread end."""
        self._ended.set()

    def run(self) -> None:
        """Read until ``close``; the body of the thread."""
        poll_ns = int(self._settings.poll_ms * 1e6)
        due_ns = self._clock_ns()
        while not self._ended.is_set():
            try:
                self._read()
            except StationError as error:  # it refuses what it had before: it is another one
                self._lost(error)
            now_ns = self._clock_ns()
            due_ns = max(due_ns + poll_ns, now_ns)
            wait_s = (due_ns - now_ns) / 1e9 if self.there else RETRY_S
            self._ended.wait(wait_s)
        self._counter.close()

    def _read(self) -> None:
        asked_ns = self._clock_ns()
        raw = self._counter.read()
        at_ns = (asked_ns + self._clock_ns()) // 2
        bits = self._settings.bits
        if self._settings.reversed:
            raw = -raw
        newest = self._newest
        silent_ns = int(self._settings.timeout_ms * 1e6)
        if newest is None or at_ns - newest.at_ns > silent_ns:
            self._spell += 1
            count = raw % (1 << bits)
        else:
            count = unwrapped(newest.count, raw, bits)
        self._newest = Count(max(at_ns, newest.at_ns + 1) if newest else at_ns, count, self._spell)
        self._put(self._newest)
        if not self.there:
            self.there = True
            if self._is_away:
                self._is_away = False
                self._health.set(AWAY, False)
                self._record(Event("output_back", Severity.INFO, "the encoder is connected again"))
            self._look()

    def _lost(self, error: StationError) -> None:
        self.there, self._newest = False, None
        if self._is_away:
            return
        self._is_away = True
        self._record(Event("output_away", Severity.ALARM, str(error)))
        self._put(EncoderLost(self._clock_ns()))
        log.error("%s", error)
        self._health.set(AWAY, True, str(error))
        self._look()

    def _record(self, event: Event) -> None:
        if self._events.try_consume(self._clock_ns()):
            self._record_event(event)
