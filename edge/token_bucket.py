"""A token bucket: how many may pass at once, and how many per minute after that."""

MINUTE_NS = 60_000_000_000


class TokenBucket:
    """Lets a burst pass, and then ``per_minute``; pure, the caller has the clock."""

    def __init__(self, per_minute: int, burst: int | None = None) -> None:
        """Begin full.

        Args:
            per_minute: tokens that come back per minute.
            burst: tokens at the start, and at most; None for those of a minute.
        """
        self._per_minute = per_minute
        self._capacity = float(per_minute if burst is None else burst)
        self._tokens = self._capacity
        self._at_ns: int | None = None

    def try_consume(self, now_ns: int) -> bool:
        """Tell whether one more may pass at monotonic ``now_ns``."""
        elapsed_ns = 0 if self._at_ns is None else max(now_ns - self._at_ns, 0)
        self._at_ns = now_ns
        self._tokens = min(self._tokens + elapsed_ns * self._per_minute / MINUTE_NS, self._capacity)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
