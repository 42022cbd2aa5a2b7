"""Inside the virtual machine: a whole station, its broker, and a PLC that triggers for ever.

All of the station is the product's own, as ``edge.app.service`` builds it: start, hand-shake,
supervised camera, pipeline, recorder, journal, relay, connection. In place of others stand a camera
without a device, an inspector without a model, and a PLC, which triggers over MQTT and is shown
results by a port of the hand-shake. Lines beside those of ``guest``: ``journal UUID``,
``waiting KIND SEQ`` of what the broker does not have, ``checked``, ``accepted TRIGGER``,
``valid TRIGGER SEQ RESULT``, ``received KIND SEQ DIGEST``, and of a verdict
``committed verdict SEQ DIGEST TRIGGER RESULT``.
"""

import json
import os
import random
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from types import SimpleNamespace
from typing import Any

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge.app import assembly, inspection_line
from edge.app.service import StationService
from edge.app.signals import Stopper
from edge.cameras import factory
from edge.cameras.interface import CameraReport
from edge.contract.event import Datum
from edge.contract.topics import StationTopic
from edge.contract.verdict import Recipe, StationIdentity, Verdict
from edge.imaging.frame import Frame, FrameStatus
from edge.inspection.decision import decide
from edge.inspection.inspector import Inspection, Inspector
from edge.journal.entries import JournalRow, RecordKind
from edge.journal.outbox import Outbox
from edge.settings.station import Settings
from edge.station.handshake.coordinator import HandshakeCoordinator
from edge.station.handshake.part import Part, PartResult, Rejection, Repeated
from edge.station.pipeline.work import InspectionSetup
from tests.powercut.guest import BootOptions, committed_line, digest, print_line, report_journal
from tests.powercut.reports import make_trigger

STATION = "plant/line/cell/top"
PORT = 1883
SLOTS = 8
THRESHOLD = 0.5
DEFECTIVE_SHARE, REPEATED_SHARE = 0.2, 0.1
MAX_INSPECTION_S = 0.15
PAUSES_S = (0.0, 0.0, 0.05, 0.3)
ROWS_AT_ONCE, MAX_WAITING = 64, 10_000
ANSWER_LIMIT_S, MAX_TRIES = 2.0, 60


def make_settings(folder: Path, port: int, synchronous: str) -> Settings:
    """Return the settings of a station that a PLC triggers over MQTT."""
    return Settings.model_validate(
        {
            "camera": {
                "uri": "gige://192.168.2.10",
                # A busy host makes everything slow; late frames are the simulation's affair.
                "trigger": {"mode": "software", "frame_timeout_ms": 20_000},
            },
            "model": {"path": "stub.xml"},
            "mqtt": {"url": f"mqtt://127.0.0.1:{port}", "station": STATION},
            "journal": {"folder": str(folder), "synchronous": synchronous},
            "handshake": {"slots": SLOTS},
            "drift": {"enabled": False},
            "hmi": {"enabled": False},
        }
    )


class StubCamera:
    """Shows noise, another one at each trigger."""

    identity = "stub"
    simulated = False
    can_wait = False

    def __init__(self) -> None:
        self._frames: SimpleQueue[Frame] = SimpleQueue()
        self._chance = np.random.default_rng()
        self._number = 0

    def read(self, timeout_s: float) -> Frame | None:
        try:
            return self._frames.get(timeout=timeout_s)
        except Empty:
            return None

    def trigger(self) -> None:
        self._number += 1
        frame = Frame(
            pixels=self._chance.integers(0, 256, (48, 64), dtype=np.uint8),
            number=self._number,
            captured_ns=time.monotonic_ns(),
            captured_utc_ns=time.time_ns(),
        )
        self._frames.put(frame)

    def check(self) -> None:
        """It is always there."""

    def report(self) -> CameraReport:
        return CameraReport(model="stub")

    def close(self) -> None:
        """It holds nothing."""


class StubInspector(Inspector):
    """Draws a score; what is done about it is the product's."""

    def __init__(self) -> None:
        self.criteria: Any = SimpleNamespace(threshold=THRESHOLD, pixel_threshold=THRESHOLD)
        self._chance = random.Random()

    def inspect(self, frame: Frame) -> Inspection:
        if frame.status is not FrameStatus.COMPLETE:
            return super().inspect(frame)
        time.sleep(self._chance.uniform(0.0, MAX_INSPECTION_S))  # so that parts are in flight
        score = 0.9 if self._chance.random() < DEFECTIVE_SHARE else 0.1
        return Inspection(
            decision=decide(score, THRESHOLD),
            threshold=THRESHOLD,
            pixel_threshold=THRESHOLD,
            score=score,
            normalized_score=score,
        )


class StubModel:
    """Stands where ``ModelManager`` does, with an inspector that has no model."""

    recipes = None
    recipe = Recipe("stub", 1)

    def __init__(self, *, settings: Settings, **_: Any) -> None:
        self.settings = settings
        self.store = SimpleNamespace(current="stub")

    def line(self) -> InspectionSetup:
        identity = StationIdentity(
            simulated=False,
            trigger_source="software",
            model_name="stub",
            model_version="1",
            model_sha256="0" * 64,
            precision="fp32/f32",
            device="CPU",
            runtime="stub",
            config_sha256=self.settings.sha256,
            recipe=self.recipe,
        )
        return InspectionSetup((StubInspector(),), identity, self.recipe)

    def on_exchange(self, exchange: Callable[[InspectionSetup], None]) -> None:
        """It never changes."""

    def subscribe(self, listener: Callable[[], None]) -> None:
        """It never changes."""

    def on_verdict(self, verdict: Verdict) -> None:
        """It learns nothing from its parts."""

    def current_bundle(self) -> Any:
        raise AssertionError("nobody asks for it: the drift detector is off")

    def identity(self) -> dict[str, str]:
        return {"name": "stub", "version": "1", "sha256": "0" * 64}

    def arithmetic(self) -> dict[str, str]:
        return {"precision": "fp32/f32", "made_for": "fp32/f32"}

    def guarantee(self) -> None:
        return None

    def recipe_listing(self) -> None:
        return None

    def reload(self) -> Mapping[str, Datum]:
        return {}

    def self_test(self) -> Mapping[str, Datum]:
        return {}


class Namer:
    """Names records as another reader of the journal finds them, in order."""

    def __init__(self, path: Path, named: Mapping[RecordKind, int]) -> None:
        self._outbox = Outbox(path)
        self._next = {kind: named[kind] + 1 for kind in RecordKind}
        self._wake = threading.Event()

    def wake(self) -> None:
        self._wake.set()

    def run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            for kind in RecordKind:
                while rows := self._outbox.rows(kind, self._next[kind], 2**62, ROWS_AT_ONCE):
                    for row in rows:
                        print_line(record_line(row))
                    self._next[kind] = rows[-1].seq + 1


class StubPlc:
    """Triggers over MQTT, is shown results by a port of the hand-shake, receives all records."""

    def __init__(self, boot: int, namer: Namer, port: int) -> None:
        topic = StationTopic.parse(STATION)
        self._boot = boot
        self._namer = namer
        self._port = port
        self._topic = topic
        self._ready = threading.Event()
        self._announced = False
        self._answered = threading.Event()
        self._chance = random.Random()
        self._results: SimpleQueue[int] = SimpleQueue()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="plc", protocol=paho.MQTTv5
        )
        self._kinds = {topic.verdict: "verdict", topic.event: "event"}
        self._client.on_message = self._on_message

    def run(self) -> None:
        """Trigger at an uneven pace, for ever."""
        client = self._client
        client.connect("127.0.0.1", self._port)
        client.subscribe([(one, 1) for one in self._kinds])
        client.loop_start()
        number = 0
        while True:
            self._ready.wait()
            number += 1
            trigger = make_trigger(self._boot, number)
            message = json.dumps({"schema": "trigger/1", "trigger_id": trigger, "part_id": trigger})
            again = self._chance.random() < REPEATED_SHARE
            self._answered.clear()
            for _ in range(MAX_TRIES):
                for _ in range(2 if again else 1):
                    client.publish(self._topic.trigger, message, qos=1)
                # Ready is the hand-shake, maybe before its subscription at the broker.
                if self._answered.wait(ANSWER_LIMIT_S):
                    break
            else:
                raise RuntimeError(f"{trigger} was neither accepted nor rejected")
            while not self._results.empty():
                ack = json.dumps({"schema": "ack/1", "seq": self._results.get()})
                client.publish(self._topic.ack, ack, qos=1)
            time.sleep(self._chance.choice(PAUSES_S))

    def ready(self, ready: bool) -> None:
        if not ready:
            self._ready.clear()
            return
        if not self._announced:
            self._announced = True
            print_line("ready")
        self._ready.set()

    def accepted(self, part: Part) -> None:
        print_line(f"accepted {part.trigger_id}")
        self._answered.set()

    def rejected(self, part: Part, rejection: Rejection, recorded: bool) -> None:
        self._answered.set()  # what is on record of it is named with its record

    def repeated(self, known: Repeated) -> None:
        """It must not have another verdict, which the host sees."""

    def exposed(self, part: Part) -> None:
        """The part moves on."""

    def unexpected(self, frame: Frame) -> None:
        print_line("fault a frame is no part's")

    def result_valid(self, part: Part, seq: int, decided: PartResult) -> None:
        print_line(f"valid {part.trigger_id} {seq} {decided.result.value}")
        self._namer.wake()
        self._results.put(seq)

    def result_cleared(self, part: Part) -> None:
        """Nothing stands here."""

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        payload = bytes(message.payload)
        # What the relay adds comes last.
        recorded = payload[: payload.rindex(b',"session":')] + b"}"
        print_line(
            f"received {self._kinds[message.topic]} {json.loads(payload)['seq']} {digest(recorded)}"
        )
        self._namer.wake()


def record_line(row: JournalRow) -> str:
    """Return the line of a record; of a verdict with its part and its result."""
    if row.kind is not RecordKind.VERDICT:
        return committed_line(row)
    content = json.loads(row.payload)
    return f"{committed_line(row)} {content['trigger_id']} {content['result']}"


def run_station(folder: Path, options: BootOptions, port: int) -> None:
    """Start the station on what is in the folder, report that, and inspect until the end."""
    plc: list[StubPlc] = []

    def coordinator(*, ports: list[Any], **others: Any) -> HandshakeCoordinator:
        return HandshakeCoordinator(ports=[*ports, *plc], **others)

    for owner, name, stand_in in (
        (factory, "live_camera_opener", lambda *_: StubCamera),
        (inspection_line, "ModelManager", StubModel),
        (assembly, "HandshakeCoordinator", coordinator),
    ):
        setattr(owner, name, stand_in)
    settings = make_settings(folder, port, options.synchronous)
    print_line("opening")
    service = StationService(
        settings=settings,
        once=False,
        tuning=folder / "tuning.json",
        reread=lambda: settings,
        stopper=Stopper(),
    )
    path = folder / "journal.db"
    with closing(sqlite3.connect(path)) as database:
        print_line(f"journal {database.execute('SELECT journal FROM meta').fetchone()[0]}")
    report_journal(path, options.named, record_line)
    with closing(Outbox(path)) as outbox:
        for kind in RecordKind:
            for row in outbox.pending(kind, 0, MAX_WAITING):
                print_line(f"waiting {kind.value} {row.seq}")
        print_line("checked")
        namer = Namer(path, outbox.backlog().last_seq)
    plc.append(StubPlc(options.boot, namer, port))
    for body in (namer.run, plc[0].run):
        threading.Thread(target=_to_the_end, args=(body,), daemon=True).start()
    service.run()


def start_broker() -> None:
    """Start the broker of the machine, and wait until it listens."""
    broker = subprocess.Popen(["/usr/sbin/mosquitto", "-p", str(PORT)])
    while broker.poll() is None:
        with suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", PORT)).close()
            return
        time.sleep(0.05)
    raise RuntimeError(f"the broker ended with {broker.returncode}")


def _to_the_end(body: Callable[[], None]) -> None:
    try:
        body()
    except BaseException:
        print_line("fault " + traceback.format_exc().replace("\n", " | "))
        os._exit(1)


def main() -> None:
    options = BootOptions.parse(Path("/proc/cmdline").read_text())

    def everything() -> None:
        start_broker()
        run_station(Path("/data/journal"), options, PORT)

    _to_the_end(everything)
    print_line("fault the station ended")
    sys.exit(1)


if __name__ == "__main__":
    main()
