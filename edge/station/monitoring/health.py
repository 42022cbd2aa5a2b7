"""What is wrong with the station right now; the state it publishes follows from it."""

import threading
from collections.abc import Callable

from edge.contract.state import Condition

Listener = Callable[[tuple[str, ...]], None]


class Health:
    """The reasons for which a station is degraded; none means all is well.

    Any thread raises and clears a reason. Listeners are called in that thread with the reasons that
    are left, once per change, in order; not before the station has come as far as it inspects.
    """

    def __init__(self, *awaited: str) -> None:
        """Begin as a station that starts.

        Args:
            awaited: what a station waits for before it inspects; see ``arrived``.
        """
        self._listeners: list[Listener] = []
        self._changing = threading.RLock()  # a listener may ask for the reasons
        self._reasons: dict[str, str] = {}
        self._awaited = set(awaited)
        self._ended = False

    def subscribe(self, listener: Listener) -> None:
        """Add whoever is to hear of every change from now on."""
        with self._changing:
            self._listeners.append(listener)

    def arrived(self, name: str) -> None:
        """Note that one of what the station waits for is there; with the last one it inspects."""
        with self._changing:
            if name in self._awaited:
                self._awaited.remove(name)
                self._notify()

    def end(self) -> None:
        """Note that the station stops; nobody hears of a reason any more."""
        with self._changing:
            self._ended = True

    def set(self, reason: str, wrong: bool, detail: str = "") -> None:
        """Raise a reason, or clear it.

        Args:
            reason: machine-readable, for example ``camera_lost``.
            wrong: whether it holds now.
            detail: cause and next step, for people.
        """
        with self._changing:
            if wrong:
                new = reason not in self._reasons
                self._reasons[reason] = detail
            else:
                new = self._reasons.pop(reason, None) is not None
            if new:
                self._notify()

    @property
    def reasons(self) -> dict[str, str]:
        """The reasons that hold now, with their details."""
        with self._changing:
            return dict(self._reasons)

    @property
    def ended(self) -> bool:
        """The station stops."""
        return self._ended

    @property
    def condition(self) -> Condition:
        """What the station says of itself."""
        with self._changing:
            if self._ended:
                return Condition.STOPPED
            if self._awaited:
                return Condition.STARTING
            return Condition.DEGRADED if self._reasons else Condition.ONLINE

    def _notify(self) -> None:
        if self._awaited or self._ended:
            return
        reasons = tuple(sorted(self._reasons))
        for listener in self._listeners:
            listener(reasons)
