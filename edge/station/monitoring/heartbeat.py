"""Heartbeats: each stage of the station says that it lives, and how old that may be."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stale:
    """A stage that has been silent for longer than it may.

    Attributes:
        stage: its name.
        critical: the process must not go on without it.
        silent_s: since its last beat.
        limit_s: allowed.
    """

    stage: str
    critical: bool
    silent_s: float
    limit_s: float

    def __str__(self) -> str:
        return f"{self.stage} silent for {self.silent_s:.1f} s ({self.limit_s:g} s allowed)"


class Beat:
    """The pulse of one stage; its thread calls it in every round, also when there is nothing to do.

    One clock reading and one attribute store: cheap enough for every frame, and no lock to wait at.
    """

    __slots__ = ("_clock_ns", "critical", "last_ns", "limit_s", "stage")

    def __init__(
        self, stage: str, limit_s: float, critical: bool, clock_ns: Callable[[], int]
    ) -> None:
        self.stage = stage
        self.limit_s = limit_s
        self.critical = critical
        self._clock_ns = clock_ns
        self.last_ns: int | None = clock_ns()

    def __call__(self) -> None:
        self.last_ns = self._clock_ns()

    def rest(self) -> None:
        """Tell that the stage came to its end in order: from here its silence is right."""
        self.last_ns = None


class Heartbeats:
    """The beats of one process."""

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._adding = threading.Lock()
        self._beats: tuple[Beat, ...] = ()

    def stage(self, name: str, limit_s: float, critical: bool) -> Beat:
        """Add a stage; its first beat is now.

        Args:
            name: of one thread; a stage of several threads has a name for each.
            limit_s: how long it may be silent.
            critical: its silence ends the process. Not so for what only publishes or draws.

        Raises:
            ValueError: the name is taken.
        """
        beat = Beat(name, limit_s, critical, self._clock_ns)
        with self._adding:
            if any(other.stage == name for other in self._beats):
                raise ValueError(f"two stages are called {name!r}")
            self._beats = (*self._beats, beat)
        return beat

    def stale(self, now_ns: int) -> list[Stale]:
        """Return the stages that have been silent for too long, longest first."""
        found = []
        for beat in self._beats:
            last_ns = beat.last_ns
            if last_ns is None:
                continue
            silent_s = (now_ns - last_ns) / 1e9
            if silent_s > beat.limit_s:
                found.append(Stale(beat.stage, beat.critical, silent_s, beat.limit_s))
        return sorted(found, key=lambda stale: stale.silent_s, reverse=True)
