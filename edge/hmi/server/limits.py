"""How many requests are answered, how large they may be, and how long a wrong token waits."""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

MAX_BODY_BYTES = 16 * 1024
ACTIONS_PER_MINUTE = 60
SEARCHES_PER_MINUTE = 600
# Of anything, and at once; a page that shows everything asks for ten a second.
READS_PER_MINUTE, READS_BURST = 6000, 1000
# Reads of journal and disk: at a time, and of one address with those that wait.
READS_AT_ONCE, READS_OF_ONE = 3, 6
# Of refusals that are recorded: of one address, and of all.
LOG_LINES_PER_MINUTE, LOG_LINES_OF_ALL_PER_MINUTE = 2, 10
# Wrong tokens are answered at once, as long as they come no faster than people mistype; each one
# beyond waits twice as long as the one before. So many wait at a time.
WRONG_AT_ONCE, WRONG_PER_MINUTE = 5, 10
FIRST_WAIT_S, MAX_WAIT_S = 0.25, 8.0
MAX_WAITING = 8
MAX_ADDRESSES = 512


class WrongTokens:
    """How long who sends a wrong token waits for the answer: one count for all who send some.

    It spares the station and its journal. What keeps a token from being guessed is its length.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._level = 0.0
        self._at_s = clock_s()

    def wait_s(self) -> float:
        """Count one; return how long its answer waits."""
        now_s = self._clock_s()
        leaked = (now_s - self._at_s) * WRONG_PER_MINUTE / 60.0
        longest = WRONG_AT_ONCE + math.log2(MAX_WAIT_S / FIRST_WAIT_S) + 1.0
        self._level = min(max(0.0, self._level - leaked) + 1.0, longest)
        self._at_s = now_s
        beyond = self._level - WRONG_AT_ONCE
        return 0.0 if beyond <= 0.0 else min(FIRST_WAIT_S * 2.0 ** (beyond - 1.0), MAX_WAIT_S)


class Rate:
    """So many requests a minute for each address or user; the oldest are forgotten.

    Addresses of one IPv6 network (/64) are one: whoever has one of them has all.
    """

    def __init__(
        self,
        per_minute: int,
        clock_s: Callable[[], float] = time.monotonic,
        burst: int | None = None,
    ) -> None:
        """Begin with no request counted.

        Args:
            burst: requests at once; None for those of a minute.
        """
        self._per_s = per_minute / 60.0
        self._capacity = float(burst or per_minute)
        self._clock_s = clock_s
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, address: str) -> bool:
        """Use one up; False where none was left."""
        who, now_s = network(address), self._clock_s()
        left, at_s = self._left.get(who, (self._capacity, now_s))
        left = min(self._capacity, left + (now_s - at_s) * self._per_s)
        enough = left >= 1.0
        self._left[who] = (left - 1.0 if enough else left), now_s
        self._left.move_to_end(who)
        while len(self._left) > MAX_ADDRESSES:
            self._left.popitem(last=False)
        return enough


def network(address: str) -> str:
    """Return the IPv6 network (/64) of an address; everything else as it is."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
