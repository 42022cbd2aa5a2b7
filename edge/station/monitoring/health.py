"""What is wrong with the station right now; the state it publishes follows from it."""

import threading
from collections.abc import Callable


class Health:
    """The reasons for which a station is degraded; none means all is well.

    Any thread raises and clears a reason; ``on_change`` is called in that thread with the reasons
    that are left, once per change, in order.
    """

    def __init__(self, on_change: Callable[[tuple[str, ...]], None] = lambda _: None) -> None:
        self._on_change = on_change
        self._changing = threading.RLock()  # who is told may ask for the reasons
        self._reasons: dict[str, str] = {}

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
                self._on_change(tuple(sorted(self._reasons)))

    @property
    def reasons(self) -> dict[str, str]:
        """The reasons that hold now, with their details."""
        with self._changing:
            return dict(self._reasons)
