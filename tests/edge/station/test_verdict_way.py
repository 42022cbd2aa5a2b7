"""The way of a verdict from its decision to the broker's socket is short: at most six classes."""

import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from edge.contract.announcements import Meta
from edge.contract.state import Condition, State
from edge.contract.verdict import Verdict
from edge.journal.entries import Entry, JournalRow
from edge.journal.open import open_journal
from edge.journal.outbox import Outbox
from edge.journal.write_queue import Group, Queued
from edge.mqtt.command_queue import CommandQueue
from edge.mqtt.publisher import MqttPublisher
from edge.settings.journal import JournalSettings
from edge.settings.mqtt import MqttSettings
from edge.station.monitoring.health import Health
from edge.station.monitoring.heartbeat import Heartbeats
from edge.station.pipeline.dispatcher import VerdictDispatcher
from edge.station.pipeline.statistics import RunStatistics
from edge.station.pipeline.work import InspectionSetup, QueuedFrame
from edge.station.recording.station_journal import StationJournal
from edge.station.recording.verdict_recorder import JournalRecorder
from edge.station.threads import Failures, Worker
from tests.support.broker import GENEROUS_S, Broker
from tests.support.sample_verdict import DECIDED_UTC_NS, GOOD, IDENTITY, sample_verdict

MAX_CLASSES = 6
STATION = "site/line/cell/top"
DISK, SOCKET = "Ledger", "paho"


class Way:
    """Which class calls which with the verdict of one part, or with what was made of it.

    A class that only keeps the verdict, such as a queue, calls nobody with it.
    """

    def __init__(self) -> None:
        self.calls: set[tuple[str, str]] = set()

    def on_call(self, frame: FrameType, event: str, _: Any) -> None:
        module = frame.f_globals.get("__name__", "")
        if event != "call" or not module.startswith(("edge.", "paho.")):
            return
        names = frame.f_code.co_varnames[: frame.f_code.co_argcount]
        if not any(_carries(frame.f_locals[name]) for name in names if name in frame.f_locals):
            return
        callee = SOCKET if module.startswith("paho.") else _class_name(frame)
        caller, before = "", frame.f_back
        while before is not None and not caller:
            caller, before = _class_name(before), before.f_back
        if caller and callee and caller != callee:
            self.calls.add((caller, callee))

    def classes(self) -> set[str]:
        """Return those that pass the verdict on, to the disk or from there to the socket."""
        passing, goals = set[str](), {DISK, SOCKET}
        while new := {a for a, b in self.calls if b in goals | passing} - passing:
            passing |= new
        return passing - goals


def _class_name(frame: FrameType) -> str:
    if not frame.f_globals.get("__name__", "").startswith("edge."):
        return ""
    return type(frame.f_locals["self"]).__name__ if "self" in frame.f_locals else ""


def _carries(value: object) -> bool:
    match value:
        case Verdict(frame=frame):
            return frame.number == 7
        case Entry(content=content):
            return _carries(content)
        case Queued(entry=entry):
            return _carries(entry)
        case Group(entries=queued):
            return any(_carries(one) for one in queued)
        case JournalRow(payload=payload):
            return _carries(payload)
        case Mapping():
            return value.get("schema") == "verdict/1"
        case bytes() if value.startswith(b"{"):
            return _carries(json.loads(value))
    return False


@contextmanager
def traced() -> Iterator[Way]:
    way = Way()
    threading.setprofile(way.on_call)
    sys.setprofile(way.on_call)
    try:
        yield way
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def test_at_most_six_classes_pass_a_verdict_on_from_its_decision_to_the_socket(
    running_broker: Broker, tmp_path: Path
) -> None:
    failures = Failures()
    journal = StationJournal(
        journal=open_journal(tmp_path),
        settings=JournalSettings(),
        relayed=True,
        health=Health(),
        heartbeats=Heartbeats(),
        silence_limit_s=GENEROUS_S,
    )
    publisher = MqttPublisher(
        settings=MqttSettings(url=running_broker.url, station=STATION),
        state=State(
            condition=Condition.ONLINE, since_utc="2026-01-01T00:00:00.000000Z", model="part"
        ),
        meta=Meta(model_name="part", journal=journal.journal),
        outbox=Outbox(journal.path),
        marks=journal.writer,
        control=CommandQueue(),
        on_event=journal.event,
    )
    journal.on_commit(publisher.wake)
    recorder = JournalRecorder(
        journal=journal,
        output=None,
        ending=lambda: False,
        handshake=None,
        can_wait=True,
        failures=failures,
    )
    dispatcher = VerdictDispatcher(
        sinks=[recorder],
        statistics=RunStatistics(),
        handshake=None,
        images=lambda _: None,
        ending=lambda: False,
        clock_ns=lambda: 2_000_000_000,
        utc_ns=lambda: DECIDED_UTC_NS,
    )
    with traced() as way:
        threads = [
            Worker("journal", journal.writer.run, failures),
            Worker("mqtt", publisher.run, failures),
        ]
        for thread in threads:
            thread.start()
        dispatcher.start()
        line = InspectionSetup(inspectors=(), identity=IDENTITY, recipe=None)
        dispatcher.issue(QueuedFrame(sample_verdict().frame, None), GOOD, 1_005_000_000, line)
        running_broker.collect("/verdict", lambda got: len(got) == 1)
    dispatcher.finish()
    publisher.stop()
    journal.writer.close()
    assert all(thread.join(GENEROUS_S) for thread in threads)

    assert {a for a, b in way.calls if b == SOCKET} == {"Connection"}
    assert way.classes() == {
        *("VerdictDispatcher", "JournalRecorder", "JournalWriter"),
        *("Relay", "Connection"),
    }
    assert len(way.classes() | {"MqttPublisher"}) <= MAX_CLASSES  # whose thread runs the relay
