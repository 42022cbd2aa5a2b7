"""How long this machine stood still: what a test may not blame on the code."""

import threading
import time

PERIOD_S = 0.02
# A thread that wakes a little late is no stall.
USUAL_S = 0.05


class Stalls:
    """Measures, in a thread that does nothing else, for how long threads did not get to run.

    Attributes:
        lasted_s: all stalls together since the start.
    """

    def __init__(self) -> None:
        self.lasted_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _measure(self) -> None:
        before_s = time.monotonic()
        while not self._ended.wait(PERIOD_S):
            now_s = time.monotonic()
            late_s = now_s - before_s - PERIOD_S
            if late_s > USUAL_S:
                self.lasted_s += late_s
            before_s = now_s
