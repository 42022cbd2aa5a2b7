"""Mailboxes: bounded hand-over between threads, with one stated policy when it is full."""

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class MailboxClosed(Exception):
    """Nothing more can be put; or nothing is left to take."""


class Mailbox(ABC, Generic[T]):
    """What both policies share.

    Attributes:
        skipped: items that newer ones replaced.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._items: deque[T] = deque()
        self._closed = False
        self._changed = threading.Condition()

    @abstractmethod
    def put(self, item: T) -> T | None:
        """Hand an item over; returns it when there was no room and somebody must account for it.

        Raises:
            MailboxClosed: the mailbox takes nothing more; the item was not taken.
        """

    def get(self, timeout_s: float) -> T | None:
        """Return the next item, or None when there was none within the time.

        Raises:
            MailboxClosed: closed, and everything that was put has been taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout_s)
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._closed:
                raise MailboxClosed
            return None

    def close(self) -> None:
        """Take nothing more and wake everybody; what is inside can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> list[T]:
        """Take out everything that waits, and return it."""
        with self._changed:
            left = list(self._items)
            self._items.clear()
            self._changed.notify_all()
        return left

    @property
    def closed(self) -> bool:
        """Nothing more can be put."""
        return self._closed

    @property
    def waiting(self) -> int:
        """Items that were put and not yet taken."""
        return len(self._items)


class LatestMailbox(Mailbox[T]):
    """Holds the newest item only; one that nobody took in time is skipped and counted."""

    def put(self, item: T) -> T | None:
        with self._changed:
            if self._closed:
                raise MailboxClosed
            if self._items:
                self._items.clear()
                self.skipped += 1
            self._items.append(item)
            self._changed.notify_all()
        return None


class EveryMailbox(Mailbox[T]):
    """Keeps every item in order.

    When full, ``put`` waits for room as long as the source can wait, then gives the item back: an
    overrun, for which the caller owes a verdict.
    """

    def __init__(
        self,
        depth: int,
        room_limit_s: float | None = 0.0,
        max_bytes: int | None = None,
        size_bytes: Callable[[T], int] = lambda _: 0,
    ) -> None:
        """Begin empty.

        Args:
            depth: items that may wait.
            room_limit_s: how long ``put`` waits for room; None waits until there is room.
            max_bytes: of all items that wait; one alone may be larger.
            size_bytes: of an item.
        """
        super().__init__()
        self._depth = depth
        self._room_limit_s = room_limit_s
        self._max_bytes = max_bytes
        self._size_bytes = size_bytes

    def put(self, item: T) -> T | None:
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(item) or self._closed, self._room_limit_s)
            if self._closed:
                raise MailboxClosed
            if not self._has_room(item):
                return item
            self._items.append(item)
            self._changed.notify_all()
        return None

    def _has_room(self, item: T) -> bool:
        if len(self._items) >= self._depth:
            return False
        if self._max_bytes is None or not self._items:
            return True
        return sum(map(self._size_bytes, [*self._items, item])) <= self._max_bytes
