"""Turns: whatever the threads do, results leave in the order of the items, each once."""

import threading
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.station.pipeline.ordering import OrderedOutput
from tests.soak import times

GENEROUS_S = 60.0


class Threads:
    """Threads that are joined with a limit and whose first exception is kept."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self._threads: list[threading.Thread] = []

    def start(self, body: Callable[[], None]) -> None:
        def run() -> None:
            try:
                body()
            except Exception as error:
                self.errors.append(error)

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(GENEROUS_S)
        assert not any(thread.is_alive() for thread in self._threads)


def from_list(items: list[int]) -> Callable[[], int | None]:
    """Return a source that gives the items, then None; not safe for two threads at once."""
    left = deque(items)
    return lambda: left.popleft() if left else None


@given(st.permutations(range(8)))
def test_results_leave_in_order_whichever_is_ready_first(ready: list[int]) -> None:
    """Every interleaving: an item's work ends when the one before it in ``ready`` has ended."""
    turns, threads = OrderedOutput(), Threads()
    finished = [threading.Event() for _ in ready]
    waits_for = {item: ready[place - 1] if place else None for place, item in enumerate(ready)}
    left: list[int] = []
    source = from_list(list(range(len(ready))))

    def work() -> None:
        taken = turns.get(source)
        assert taken is not None
        number, item = taken
        before = waits_for[item]
        assert before is None or finished[before].wait(GENEROUS_S)
        finished[item].set()
        with turns.turn(number):
            left.append(item)

    for _ in ready:
        threads.start(work)
    threads.join()

    assert threads.errors == []
    assert left == list(range(len(ready)))


@settings(max_examples=times(10, 200))
@given(st.integers(1, 8), st.integers(0, 120))
def test_any_number_of_threads_gives_each_item_once_and_in_order(count: int, items: int) -> None:
    turns, threads = OrderedOutput(), Threads()
    left: list[int] = []
    inside = threading.Semaphore(1)
    source = from_list(list(range(items)))

    def work() -> None:
        while (taken := turns.get(source)) is not None:
            number, item = taken
            with turns.turn(number):
                assert inside.acquire(blocking=False)  # one turn at a time
                left.append(item)
                inside.release()

    for _ in range(count):
        threads.start(work)
    threads.join()

    assert threads.errors == []
    assert left == list(range(items))


@given(st.sets(st.integers(0, 19)))
def test_an_exception_in_a_turn_reaches_its_thread_and_stops_no_other(broken: set[int]) -> None:
    turns, threads = OrderedOutput(), Threads()
    left: list[int] = []
    source = from_list(list(range(20)))

    def work() -> None:
        while (taken := turns.get(source)) is not None:
            number, item = taken
            try:
                with turns.turn(number):
                    if item in broken:
                        raise ZeroDivisionError(item)
                    left.append(item)
            except ZeroDivisionError as error:
                threads.errors.append(error)

    for _ in range(3):
        threads.start(work)
    threads.join()

    assert left == [item for item in range(20) if item not in broken]
    assert sorted(error.args[0] for error in threads.errors) == sorted(broken)


def test_a_source_that_raises_takes_no_number() -> None:
    turns = OrderedOutput()

    def broken() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        turns.get(broken)

    assert turns.get(lambda: 7) == (0, 7)


def test_a_source_that_has_nothing_takes_no_number() -> None:
    turns = OrderedOutput()
    assert turns.get(lambda: None) is None
    assert turns.get(lambda: 7) == (0, 7)


def test_one_thread_takes_at_a_time() -> None:
    """Otherwise the numbers would not follow the order of the items."""
    turns, threads = OrderedOutput(), Threads()
    first_inside, second_comes, second_inside = (threading.Event() for _ in range(3))
    together: list[bool] = []

    def slow() -> int:
        first_inside.set()
        assert second_comes.wait(GENEROUS_S)
        together.append(second_inside.wait(0.1))
        return 1

    def quick() -> int:
        second_inside.set()
        return 2

    def get_second() -> None:
        assert first_inside.wait(GENEROUS_S)
        second_comes.set()
        assert turns.get(quick) == (1, 2)

    def get_first() -> None:
        turns.get(slow)

    threads.start(get_first)
    threads.start(get_second)
    threads.join()

    assert threads.errors == []
    assert together == [False]
