"""The control threads: what takes long keeps no trigger waiting."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from edge.contract.announcements import HandshakeMessage, TriggerPhase
from edge.contract.commands import (
    Ack,
    CommandAnswer,
    CommandRequest,
    Reload,
    SelfTest,
    Snapshot,
    Status,
    Trigger,
)
from edge.contract.event import Datum, Event
from edge.errors import StationError
from edge.mqtt.command_queue import CommandQueue
from edge.station.command_threads import MAX_COMMANDS, CommandHandlers, CommandThreads
from edge.station.handshake.part import TriggerRequest, TriggerSource

GENEROUS_S = 60.0


class Asked:
    """A station that notes what it is asked; its self-test takes until ``go_on``."""

    def __init__(self, source: TriggerSource | None) -> None:
        self.messages = CommandQueue()
        self.triggers: list[TriggerRequest] = []
        self.acknowledged: list[int] = []
        self.answers: list[CommandAnswer] = []
        self.handshakes: list[HandshakeMessage] = []
        self.events: list[Event] = []
        self.testing, self.go_on = threading.Event(), threading.Event()
        self._changed = threading.Condition()
        self._ended = False
        self.control = CommandThreads(
            messages=self.messages,
            handlers=CommandHandlers(
                trigger=self._recorder(self.triggers),
                acknowledge=self._recorder(self.acknowledged),
                reload=self._reload,
                self_test=self._self_test,
                set_recipe=lambda _: {},
            ),
            source=source,
            recipe=lambda: None,
            leader="mqtt",
            journal=None,
            replies=self,
            record_event=self._recorder(self.events),
        )
        self._threads = [
            threading.Thread(target=self.control.run, args=(self._ending,)),
            threading.Thread(target=self.control.run_commands, args=(self._ending, lambda: None)),
        ]
        for thread in self._threads:
            thread.start()

    def answer(self, answer: CommandAnswer) -> None:
        self._recorder(self.answers)(answer)

    def handshake(self, handshake: HandshakeMessage) -> None:
        self._recorder(self.handshakes)(handshake)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, GENEROUS_S)

    def close(self) -> None:
        self._ended = True
        self.go_on.set()
        self.messages.close()
        for thread in self._threads:
            thread.join(GENEROUS_S)
            assert not thread.is_alive()

    def _recorder(self, where: list[Any]) -> Callable[..., None]:
        def record(what: object) -> None:
            with self._changed:
                where.append(what)
                self._changed.notify_all()

        return record

    def _reload(self) -> Mapping[str, Datum]:
        raise StationError("the settings are wrong. Mend them.")

    def _self_test(self) -> Mapping[str, Datum]:
        self.testing.set()
        assert self.go_on.wait(GENEROUS_S)
        return {"model": "part"}

    def _ending(self) -> bool:
        return self._ended


@pytest.fixture
def source(request: pytest.FixtureRequest) -> TriggerSource | None:
    """What exposes; None of a station that runs free."""
    return getattr(request, "param", TriggerSource.SOFTWARE)


@pytest.fixture
def station(source: TriggerSource | None) -> Iterator[Asked]:
    one = Asked(source)
    yield one
    one.close()


def trigger(trigger_id: str) -> Trigger:
    return Trigger(
        trigger_id=trigger_id,
        part_id=None,
        recipe_id=None,
        recipe_version=None,
        deadline_ms=None,
        received_ns=0,
    )


def test_a_trigger_does_not_wait_behind_a_command_that_takes_long(station: Asked) -> None:
    assert station.messages.put(SelfTest(CommandRequest(name="selftest")))
    assert station.testing.wait(GENEROUS_S)

    station.messages.put(trigger("9917"))
    station.messages.put(Ack(7, None))

    station.wait_until(lambda: station.acknowledged == [7])
    assert [request.trigger_id for request in station.triggers] == ["9917"]
    assert station.answers == []
    station.go_on.set()
    station.wait_until(lambda: len(station.events) == 1)
    assert [answer.status for answer in station.answers] == [Status.DONE]


@pytest.mark.parametrize("source", [None], indirect=True)
def test_a_station_that_runs_free_refuses_triggers_with_the_reason(station: Asked) -> None:
    station.messages.put(trigger("1"))
    station.wait_until(lambda: bool(station.handshakes))

    (reported,) = station.handshakes
    assert (reported.phase, reported.trigger_id, reported.reason) == (
        TriggerPhase.REJECTED,
        "1",
        "no_triggers",
    )
    assert station.triggers == []


def test_a_trigger_and_an_ack_over_another_port_than_the_leader_count_for_nothing(
    station: Asked,
) -> None:
    for message in (replace(trigger("1"), port="modbus"), Ack(3, None, "modbus"), Ack(4, None)):
        station.messages.put(message)
    station.wait_until(lambda: station.acknowledged == [4])
    assert [(one.trigger_id, one.reason) for one in station.handshakes] == [("1", "not_leader")]
    assert station.triggers == []


def test_commands_beyond_what_may_wait_are_refused_and_recorded(station: Asked) -> None:
    station.messages.put(SelfTest(CommandRequest(name="selftest")))
    assert station.testing.wait(GENEROUS_S)

    for _ in range(MAX_COMMANDS + 1):
        station.messages.put(Snapshot(CommandRequest(name="snapshot")))

    station.wait_until(lambda: len(station.events) == 1)
    assert [(a.status, a.reason) for a in station.answers] == [(Status.REFUSED, "busy")]


def test_a_command_that_fails_is_answered_with_cause_and_next_step(station: Asked) -> None:
    station.messages.put(Reload(CommandRequest(name="reload")))

    station.wait_until(lambda: len(station.events) == 1)
    (answer,) = station.answers
    assert (answer.status, answer.detail) == (
        Status.FAILED,
        "the settings are wrong. Mend them.",
    )
    assert station.events[0].kind == "command_failed"
