"""Days of many seeds, each in one of several processes.

Processes that are started anew import what they run by the name of its module, which ``__main__``
of a package does not have for them.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.simulation.plan import make_plan
from tests.simulation.world import Outcome, run_plan


def run_seeds(
    seeds: Sequence[str],
    days: int,
    parts: int,
    *,
    processes: int,
    until_s: float | None = None,
    clock_s: Callable[[], float] = time.monotonic,
) -> Iterator[tuple[str, Outcome]]:
    """Yield what became of each seed, in their order.

    Args:
        parts: of a day.
        until_s: no seed begins later, by ``clock_s``; None lets all of them begin.
    """
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for first in range(0, len(seeds), 4 * processes):
            some = seeds[first : first + 4 * processes]
            if until_s is not None and clock_s() > until_s:
                return
            count = len(some)
            outcomes = pool.map(_run_seed, some, [days] * count, [parts] * count)
            yield from zip(some, outcomes, strict=True)


def _run_seed(seed: str, days: int, parts: int) -> Outcome:
    return run_plan(make_plan(seed, days, parts))
