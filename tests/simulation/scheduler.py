"""Virtual time: the product's threads as greenlets, one at a time, in an order that a seed draws.

What the product imports as ``threading`` and ``time`` is exchanged for the classes here (see
``substitution``). A thread gives way where it waits, now and then where it takes a lock, and before
and after each commit; nothing else interrupts it. No thread of the operating system is started and
nothing sleeps: when all wait, the clock is set to whatever is due next.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from typing import Any, Self

from greenlet import getcurrent, greenlet

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
# How often a thread that takes a free lock gives way to others first.
GIVES_WAY = 0.06


def nanoseconds(duration_s: float) -> int:
    """Return a duration rounded up: whoever waits for a moment finds that it has come."""
    return math.ceil(duration_s * SECOND)


class ProcessEnded(BaseException):
    """The simulated process was killed: each of its threads ends where it stands."""


class Livelock(AssertionError):
    """Threads run on and on while no time passes."""


class Process:
    """A simulated process: its threads live until ``alive`` is taken from it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.tasks: list[Task] = []


class Task:
    """One thread of a simulated process."""

    __slots__ = ("done", "greenlet", "joined", "name", "process", "ticket", "waiting", "woken")

    def __init__(
        self, name: str, process: Process, body: Callable[[], object], hub: greenlet
    ) -> None:
        self.name = name
        self.process = process
        self.ticket = 0
        self.waiting = False
        self.woken = False
        self.done = False
        self.joined: list[tuple[Task, int]] = []

        def run() -> None:
            try:
                body()
            except ProcessEnded:
                pass
            finally:
                self.done = True

        self.greenlet = greenlet(run, parent=hub)


class Scheduler:
    """Runs tasks and events in the order of virtual time.

    Attributes:
        now_ns: monotonic time.
        utc_offset_ns: of the wall clock to it, apart from ``drift``.
        drift: of the wall clock, in seconds a second.
        switches: how often a task was gone on with.
        stopped: nothing happens any more.
    """

    def __init__(self, seed: str) -> None:
        self.now_ns = 1000 * SECOND
        self.utc_offset_ns = 1_790_000_000 * SECOND
        self.drift = 0.0
        self._drifts_from_ns = self.now_ns
        self.switches = 0
        self.chance = random.Random(seed)
        self.hub = getcurrent()
        self.task: Task | None = None
        self._ready: deque[Task] = deque()
        self._due: list[tuple[int, int, Callable[[], None] | tuple[Task, int]]] = []
        self._count = 0
        self._countdown = 0
        self._at_zero: Callable[[], None] | None = None
        self.stopped = False

    def utc_ns(self) -> int:
        drifted = int((self.now_ns - self._drifts_from_ns) * self.drift)
        return self.now_ns + self.utc_offset_ns + drifted

    def set_drift(self, drift: float) -> None:
        self.utc_offset_ns += int((self.now_ns - self._drifts_from_ns) * self.drift)
        self._drifts_from_ns, self.drift = self.now_ns, drift

    def at(self, due_ns: int, call: Callable[[], None]) -> None:
        """Have something happen in the world, outside of every process."""
        self._count += 1
        heapq.heappush(self._due, (due_ns, self._count, call))

    def after(self, delay_ns: int, call: Callable[[], None]) -> None:
        self.at(self.now_ns + delay_ns, call)

    def after_switches(self, count: int, call: Callable[[], None] | None) -> None:
        """Have something, or nothing, happen so many steps of threads from now."""
        self._countdown, self._at_zero = count, call

    def spawn(self, name: str, process: Process, body: Callable[[], object]) -> Task:
        task = Task(name, process, body, self.hub)
        process.tasks.append(task)
        self._ready.append(task)
        return task

    def end_process(self, process: Process) -> None:
        """Kill: no thread of it takes another step of the product's own."""
        process.alive = False
        for task in process.tasks:
            if not task.done:
                if task.greenlet:
                    before, self.task = self.task, task
                    task.greenlet.throw(ProcessEnded)
                    self.task = before
                task.done = True
        self._ready = deque(task for task in self._ready if not task.done)

    def run(self, until_ns: int) -> None:
        """Go on until this time."""
        steps_at_once = 0
        while True:
            while self._ready:
                index = 0
                if len(self._ready) > 1:
                    index = int(self.chance.random() * len(self._ready))
                    self._ready.rotate(-index)
                task = self._ready.popleft()
                if index:
                    self._ready.rotate(index)
                steps_at_once += 1
                if steps_at_once > 200_000:
                    raise Livelock(f"{task.name} and others run on and on at one moment")
                self._go_on_with(task)
                if self._at_zero is not None:
                    self._countdown -= 1
                    if self._countdown <= 0:
                        call, self._at_zero = self._at_zero, None
                        call()
                if self.stopped:
                    return
            if self.stopped:
                return
            if not self._due or self._due[0][0] > until_ns:
                self.now_ns = max(self.now_ns, until_ns)
                return
            due_ns, _, what = heapq.heappop(self._due)
            if due_ns > self.now_ns:
                self.now_ns = due_ns
                steps_at_once = 0
            if isinstance(what, tuple):
                task, ticket = what
                if task.waiting and task.ticket == ticket:
                    task.waiting = False
                    self._ready.append(task)
            else:
                what()

    def _go_on_with(self, task: Task) -> None:
        if task.done:
            return
        self.switches += 1
        self.task = task
        task.greenlet.switch()
        self.task = None
        if task.done and task.joined:
            for waiter, ticket in task.joined:
                self.wake(waiter, ticket)

    # What tasks call.

    def current(self) -> Task:
        task = self.task
        assert task is not None, "the world must not call what waits"
        if not task.process.alive:
            raise ProcessEnded
        return task

    def prepare(self) -> tuple[Task, int]:
        """Return the calling task, and what wakes its next wait and no other."""
        task = self.current()
        task.ticket += 1
        return task, task.ticket

    def block(self, timeout_ns: int | None) -> bool:
        """Wait to be woken; tell whether that came before the time was over."""
        task = self.current()
        task.waiting, task.woken = True, False
        if timeout_ns is not None:
            self._count += 1
            due_ns = self.now_ns + max(0, timeout_ns)
            heapq.heappush(self._due, (due_ns, self._count, (task, task.ticket)))
        self.hub.switch()
        return task.woken

    def wake(self, task: Task, ticket: int) -> bool:
        """End a wait; False where it is over already."""
        if not task.waiting or task.ticket != ticket or task.done:
            return False
        task.waiting, task.woken = False, True
        self._ready.append(task)
        return True

    def give_way(self) -> None:
        """Let others go first."""
        task = self.current()
        task.ticket += 1
        self._ready.append(task)
        self.hub.switch()

    def sleep_ns(self, duration_ns: int) -> None:
        self.prepare()
        self.block(duration_ns)

    def sleep(self, duration_s: float) -> None:
        self.sleep_ns(nanoseconds(duration_s))


class Signal:
    """Something that tasks wait for and the world, or another task, brings about."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._waiters: list[tuple[Task, int]] = []

    def wait(self, timeout_ns: int | None) -> bool:
        waiter = self._scheduler.prepare()
        self._waiters.append(waiter)
        try:
            return self._scheduler.block(timeout_ns)
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def notify_all(self) -> None:
        waiters, self._waiters = self._waiters, []
        for task, ticket in waiters:
            self._scheduler.wake(task, ticket)


class Threading:
    """Stands in for the module ``threading``."""

    def __init__(self, scheduler: Scheduler) -> None:
        class Lock(_Lock):
            def __init__(self) -> None:
                super().__init__(scheduler)

        class Condition(_Condition):
            def __init__(self) -> None:
                super().__init__(scheduler)

        class Event(_Event):
            def __init__(self) -> None:
                super().__init__(scheduler)

        class Thread(_Thread):
            def __init__(
                self,
                target: Callable[..., object],
                name: str = "thread",
                daemon: bool = True,
                args: tuple[Any, ...] = (),
            ) -> None:
                super().__init__(scheduler, name, lambda: target(*args))

        class Timer(_Timer):
            def __init__(self, interval: float, function: Callable[[], object]) -> None:
                super().__init__(scheduler, interval, function)

        self.Lock = self.RLock = Lock
        self.Condition = Condition
        self.Event = Event
        self.Thread = Thread
        self.Timer = Timer
        self._scheduler = scheduler

    def current_thread(self) -> object:
        return self._scheduler.task


class Time:
    """Stands in for the module ``time``."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.sleep = scheduler.sleep
        self.time_ns = scheduler.utc_ns

    def monotonic_ns(self) -> int:
        return self._scheduler.now_ns

    perf_counter_ns = monotonic_ns

    def monotonic(self) -> float:
        return self._scheduler.now_ns / SECOND

    perf_counter = monotonic

    def time(self) -> float:
        return self.time_ns() / SECOND


class _Lock:
    """A lock that its holder may take again: what the product needs of both kinds."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.holder: Task | None = None
        self._depth = 0
        self._waiters: deque[tuple[Task, int]] = deque()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> bool:
        scheduler = self._scheduler
        if scheduler.task is None:  # the world looks, between two steps
            assert self.holder is None, "held while no thread runs"
            self._depth = 1
            return True
        task = scheduler.current()
        if self.holder is task:
            self._depth += 1
            return True
        if scheduler.chance.random() < GIVES_WAY:
            scheduler.give_way()
        while self.holder is not None:
            self._waiters.append(scheduler.prepare())
            scheduler.block(None)
        self.holder, self._depth = task, 1
        return True

    def release(self) -> None:
        self._depth -= 1
        if not self._depth:
            self.holder = None
            while self._waiters:
                if self._scheduler.wake(*self._waiters.popleft()):
                    break

    def release_all(self) -> int:
        depth, self._depth = self._depth, 1
        self.release()
        return depth

    def acquire_again(self, depth: int) -> None:
        task = self._scheduler.current()
        while self.holder is not None:
            self._waiters.append(self._scheduler.prepare())
            self._scheduler.block(None)
        self.holder, self._depth = task, depth


class _Condition(_Lock):
    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        self._waiting_for: deque[tuple[Task, int]] = deque()

    def wait(self, timeout: float | None = None) -> bool:
        waiter = self._scheduler.prepare()
        self._waiting_for.append(waiter)
        depth = self.release_all()
        woken = self._scheduler.block(None if timeout is None else nanoseconds(timeout))
        if not woken and waiter in self._waiting_for:
            self._waiting_for.remove(waiter)
        self.acquire_again(depth)
        return woken

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        until_ns = None if timeout is None else self._scheduler.now_ns + nanoseconds(timeout)
        while not (result := predicate()):
            left = None if until_ns is None else (until_ns - self._scheduler.now_ns) / SECOND
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result

    def notify(self, count: int = 1) -> None:
        while self._waiting_for and count:
            count -= self._scheduler.wake(*self._waiting_for.popleft())

    def notify_all(self) -> None:
        self.notify(len(self._waiting_for))


class _Event:
    def __init__(self, scheduler: Scheduler) -> None:
        self._set = False
        self._signal = Signal(scheduler)

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        self._signal.notify_all()

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set:
            self._signal.wait(None if timeout is None else nanoseconds(timeout))
        return self._set


class _Thread:
    def __init__(self, scheduler: Scheduler, name: str, body: Callable[[], object]) -> None:
        self.name = name
        self.daemon = True
        self._scheduler = scheduler
        self._body = body
        self._task: Task | None = None

    @property
    def ident(self) -> int | None:
        return None if self._task is None else 1

    def start(self) -> None:
        process = self._scheduler.current().process
        self._task = self._scheduler.spawn(self.name, process, self._body)

    def is_alive(self) -> bool:
        return self._task is not None and not self._task.done

    def join(self, timeout: float | None = None) -> None:
        task = self._task
        assert task is not None
        if not task.done:
            task.joined.append(self._scheduler.prepare())
            self._scheduler.block(None if timeout is None else nanoseconds(timeout))


class _Timer:
    def __init__(
        self, scheduler: Scheduler, interval_s: float, function: Callable[[], object]
    ) -> None:
        self._scheduler = scheduler
        self._interval_ns = round(interval_s * SECOND)
        self._function = function
        self._cancelled = False

    def start(self) -> None:
        process = self._scheduler.current().process

        def fire() -> None:
            if process.alive and not self._cancelled:
                self._scheduler.spawn("timer", process, self._function)

        self._scheduler.after(self._interval_ns, fire)

    def cancel(self) -> None:
        self._cancelled = True

    def join(self, timeout: float | None = None) -> None:
        """It takes no time."""
