"""Puts the simulation's clock, threads, chance and disk in the place of the real ones."""

import logging
import os
import random
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

from edge.cameras.supervised import camera as supervisor
from edge.contract import encoding
from edge.journal import database
from edge.journal import open as opening
from edge.mqtt import publisher, reconnect
from edge.station import command_threads
from edge.station.monitoring import watchdog
from edge.station.pipeline import pipeline
from tests.simulation.broker import SimulatedConnection, SimulatedWakeUp
from tests.simulation.disk import Disk, SimulatedFile
from tests.simulation.scheduler import Scheduler, Threading, Time

# The file system notes by the real clock when a file was changed; so its reader keeps that.
BY_THE_REAL_CLOCK = "edge.journal.high_water_mark"

# How often threads look whether the station ends. Whatever else they wait for wakes them, and quiet
# hours would be millions of such looks.
RARER = (
    (pipeline, "POLL_S", 0.5),
    (command_threads, "POLL_S", 0.5),
    (supervisor, "READ_SLICE_S", 0.4),
)


class Changes:
    """What was exchanged, to be put back."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        self._before.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def undo(self) -> None:
        for owner, name, value in reversed(self._before):
            setattr(owner, name, value)


@contextmanager
def simulated(scheduler: Scheduler, disk: Disk) -> Iterator[None]:
    """Run the product under a scheduler and on a disk; everything is as before at the end."""
    changes = Changes()
    stand_ins = _stand_ins(scheduler)
    try:
        for module in _product():
            for name, value in list(vars(module).items()):
                if _hashable(value) and (other := stand_ins.get(id(value))) is not None:
                    changes.set(module, name, other)
            for function in _functions(module):
                _exchange_defaults(changes, function, stand_ins)
        chance = random.Random(scheduler.chance.random())
        changes.set(encoding, "os", _namespace(os, urandom=chance.randbytes))
        connect = disk.connector(SimulatedFile)
        for module in (database, opening):
            changes.set(module, "sqlite3", _namespace(sqlite3, connect=connect))
        changes.set(reconnect, "Connection", SimulatedConnection)
        changes.set(publisher, "WakeUp", lambda: SimulatedWakeUp(scheduler))
        for owner, name, seconds in RARER:
            changes.set(owner, name, seconds)
        changes.set(watchdog, "_stderr", lambda: None)
        logging.disable(logging.CRITICAL)
        yield
    finally:
        logging.disable(logging.NOTSET)
        changes.undo()


def _stand_ins(scheduler: Scheduler) -> dict[int, Any]:
    clock = Time(scheduler)
    chance = random.Random(scheduler.chance.random())

    def drawn_uuid() -> UUID:
        return UUID(int=chance.getrandbits(128), version=4)

    return {
        id(time): clock,
        id(threading): Threading(scheduler),
        id(time.monotonic_ns): clock.monotonic_ns,
        id(time.monotonic): clock.monotonic,
        id(time.time_ns): clock.time_ns,
        id(time.time): clock.time,
        id(random.random): chance.random,
        id(uuid4): drawn_uuid,
    }


def _product() -> list[ModuleType]:
    return [
        module
        for name, module in sorted(sys.modules.items())
        if name.startswith("edge.") and name != BY_THE_REAL_CLOCK and module is not None
    ]


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    for value in list(vars(module).values()):
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, FunctionType):
            yield value
        elif isinstance(value, type):
            yield from (one for one in vars(value).values() if isinstance(one, FunctionType))


def _exchange_defaults(changes: Changes, function: FunctionType, others: dict[int, Any]) -> None:
    keyword, positional = function.__kwdefaults__, function.__defaults__
    if keyword and any(id(value) in others for value in keyword.values()):
        exchanged = {name: others.get(id(value), value) for name, value in keyword.items()}
        changes.set(function, "__kwdefaults__", exchanged)
    if positional and any(id(value) in others for value in positional):
        changes.set(
            function, "__defaults__", tuple(others.get(id(value), value) for value in positional)
        )


def _hashable(value: object) -> bool:
    return isinstance(value, ModuleType) or callable(value)


def _namespace(module: ModuleType, **changed: Any) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(module), **changed})
