"""Days of many seeds, each in one of several processes.

Processes that are started anew import what they run by the name of its module, which ``__main__``
of a package does not have for them.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
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
    begun: deque[tuple[str, Future[Outcome]]] = deque()
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for seed in seeds:
            # One more than processes would wait, and begin when it is too late for that.
            running = [future for _, future in begun if not future.done()]
            if len(running) == processes:
                wait(running, return_when=FIRST_COMPLETED)
            while begun and begun[0][1].done():
                yield _ended(begun.popleft())
            if until_s is not None and clock_s() > until_s:
                break
            begun.append((seed, pool.submit(run_seed, seed, days, parts)))
        while begun:
            yield _ended(begun.popleft())


def run_seed(seed: str, days: int, parts: int) -> Outcome:
    return run_plan(make_plan(seed, days, parts))


def _ended(begun: "tuple[str, Future[Outcome]]") -> tuple[str, Outcome]:
    seed, future = begun
    return seed, future.result()
