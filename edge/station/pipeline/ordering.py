"""Turns: what several threads work on side by side leaves in the order it came."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class OrderedOutput:
    """Numbers items as they are taken and lets their results through in that order."""

    def __init__(self) -> None:
        self._taking = threading.Lock()
        self._changed = threading.Condition()
        self._given = 0
        self._next = 0

    def get(self, source: Callable[[], T | None]) -> tuple[int, T] | None:
        """Take one item from a source and number it; None if the source had none.

        One thread takes at a time, so that numbers follow the order of the items.
        """
        with self._taking:
            item = source()
            if item is None:
                return None
            number = self._given
            self._given += 1
            return number, item

    @contextmanager
    def turn(self, number: int) -> Iterator[None]:
        """Wait until all earlier items have had their turn; every number taken must come here."""
        with self._changed:
            self._changed.wait_for(lambda: self._next == number)
        try:
            yield
        finally:
            with self._changed:
                self._next += 1
                self._changed.notify_all()
