"""Lines of real devices: pymodbus' server as remote I/O module, and edge-run as a process."""

import errno
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from pymodbus.client import ModbusTcpClient

from edge.bundle.loading import load_bundle
from edge.cli.main import main
from edge.contract.event import Event, Severity
from edge.contract.verdict import PartIdentity, StationIdentity, Verdict
from edge.doctor.finding import Grade
from edge.doctor.outputs import output_findings
from edge.imaging.frame import Frame
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.inspector import Inspector
from edge.plc.encoder import EncoderCounter
from edge.plc.gpio import GpioLines, gpio_refusal
from edge.plc.output_device import OutputRefused
from edge.plc.remote_io import RemoteIo
from edge.settings.outputs import GpioSettings, OutputsSettings
from edge.settings.station import Settings
from edge.station.handshake.coordinator import HandshakeCoordinator
from edge.station.handshake.part import Input, Pairing, Rules, TriggerRequest, TriggerSource
from edge.station.handshake.state_machine import HandshakeMachine
from edge.station.monitoring.health import Health
from edge.station.outputs import device_thread
from edge.station.outputs.control import OutputControl
from edge.station.threads import Failures, Worker
from tests.edge.conftest import EdgeRun
from tests.edge.plc.test_modbus import Station
from tests.support.plc import Plc, station_settings
from tests.support.remote_io import COILS, GENEROUS_S, RemoteIoModule
from tests.support.small_bundle import defective_image, good_image

MS = 1_000_000
ROOT = Path(__file__).parents[3]
DEMO = ROOT / "configs" / "demo"
# This machine may stand still; what is late is tested with a clock of its own.
PATIENT = {"tolerance_ms": 10_000}


def station(folder: Path, outputs: dict[str, Any], **more: Any) -> Path:
    """Write the settings of the demo with these outputs."""
    settings = {
        "camera": {"uri": str(DEMO / "frames")},
        "model": {"path": str(DEMO / "bottle.xml")},
        "journal": {"folder": str(folder / "journal")},
        "outputs": outputs,
        **more,
    }
    config = folder / "station.yaml"
    config.write_text(yaml.safe_dump(settings))
    return config


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    database = sqlite3.connect(f"file:{folder / 'journal' / 'journal.db'}?mode=ro", uri=True)
    try:
        rows = database.execute("SELECT payload FROM record WHERE kind = ? ORDER BY seq", [kind])
        return [json.loads(payload) for (payload,) in rows]
    finally:
        database.close()


def without_repeats(levels: list[bool]) -> list[bool]:
    return [one for at, one in enumerate(levels) if at == 0 or levels[at - 1] is not one]


def test_the_demo_rejects_each_part_that_is_not_ok_and_leaves_the_lines_fail_safe(
    tmp_path: Path, edge_run: EdgeRun
) -> None:
    with RemoteIoModule() as module:
        outputs = {
            "module": {"host": "127.0.0.1", "port": module.port, "timeout_ms": 10_000},
            "reject": {"device": "module", "line": 0, "window_ms": 60_000, "hold_ms": 60_000},
            "good": {"device": "module", "line": 1, "window_ms": 60_000, "hold_ms": 60_000},
            "ready": {"device": "module", "line": 2},
            "fault": {"device": "module", "line": 3, "inverted": True},
            "busy": {"device": "module", "line": 4},
            "record_edges": True,
            **PATIENT,
        }
        done = edge_run("--config", station(tmp_path, outputs), "--once")
        assert done.returncode == 0, done.stderr
        verdicts = records(tmp_path, "verdict")
        oks = [one["result"] == "OK" for one in verdicts]
        assert oks == ["good" in str(one["image"]["source_uri"]) for one in verdicts]
        assert len(oks) == 16

        # A level stands until the turn of the next part: the lines show one part after the other.
        assert module.edges(1) == without_repeats([False, *oks, False])
        assert module.edges(0) == without_repeats([True, *(not ok for ok in oks), True])
        assert [module.level(coil) for coil in range(5)] == [True, False, False, False, False]
        switched_on = [coil for coil in (2, 3, 4) if True in module.edges(coil)]
        assert switched_on == [2, 3, 4]
    edges = [one["data"] for one in records(tmp_path, "event") if one["kind"] == "output_edge"]
    passed = [one["verdict_id"] for one in edges if one["output"] == "good"]
    assert passed == [one["id"] for one, ok in zip(verdicts, oks, strict=True) if ok]
    assert all(one["decision_to_edge_ms"] > 0 for one in edges)


def test_a_late_edge_takes_ready_from_the_plc_and_the_lines_of_a_killed_station_fall(
    tmp_path: Path, bundle: Path
) -> None:
    """A process that is killed has no last word: the module's watchdog does what is left."""
    safe = {1: False, 2: False, 3: True}
    with RemoteIoModule(safe) as module:
        outputs = {
            "module": {"host": "127.0.0.1", "port": module.port, "timeout_ms": 10_000},
            "good": {"device": "module", "line": 1, "window_ms": 60_000, "hold_ms": 60_000},
            "ready": {"device": "module", "line": 2},
            "fault": {"device": "module", "line": 3},
            "tolerance_ms": 1500,
            "missed_takes_ready_ms": 60_000,
            "record_edges": True,
        }
        settings = station_settings(tmp_path, bundle, outputs=outputs)
        killed = Station(tmp_path, settings, defective=[False])
        try:
            with Plc(killed.port) as plc:
                assert plc.inspect(1)["result_ok"]
                module.wait(lambda: module.level(1) and not module.level(3), "an OK that stands")
                module.delay_s, module.delayed = 2.0, {5}  # an edge of one line
                assert plc.inspect(2)["result_ok"]
                plc.wait(lambda seen: seen["outputs_missing"] and not seen["ready"], "the miss")
            module.delay_s = 0.0
            module.wait(lambda: not module.level(2), "the end of ready")
            module.wait(lambda: len(_find_edges(tmp_path)) == 3, "the events on record")
            module.watchdog_s, fed = 1.0, len(module.writes)
            module.wait(lambda: len(module.writes) > fed + 5 and module.level(1), "its food")
        finally:
            killed.process.kill()
            killed.process.wait()
        module.wait(lambda: {coil: module.level(coil) for coil in safe} == safe, "the watchdog")
        assert module.trips
    missed, in_time, edge = _find_edges(tmp_path)
    assert in_time["late_ms"] < 1500
    assert missed["passes"] is False and missed["late_ms"] > 1500
    # Without a deadline in the settings the time from the decision is on record, too.
    assert edge["decision_to_edge_ms"] >= edge["late_ms"] > 1500


def _find_edges(folder: Path) -> list[dict[str, Any]]:
    events = sorted(records(folder, "event"), key=lambda one: str(one["kind"]), reverse=True)
    return [one["data"] for one in events if one["kind"] in ("output_missed", "output_edge")]


class Lines:
    """The lines of a module, driven as the station drives them; a part has its turn at once."""

    def __init__(
        self, at: RemoteIoModule, start: bool = True, triggered: bool = False, **outputs: Any
    ) -> None:
        settings = OutputsSettings.model_validate(
            {
                "module": {"host": "127.0.0.1", "port": at.port, "timeout_ms": 150}
                | outputs.pop("module", {}),
                "good": {"device": "module", "line": 1, "window_ms": 60_000, "hold_ms": 60_000},
                "ready": {"device": "module", "line": 2},
                **PATIENT,
                **outputs,
            }
        )
        assert settings.module is not None
        self.health, self.events, self.failures = Health(), list[Event](), Failures()
        self.control = OutputControl(
            settings=settings,
            devices={"module": RemoteIo(settings.module)},
            counter=EncoderCounter(settings.encoder) if settings.encoder else None,
            triggered=triggered,
            health=self.health,
            record_event=self.events.append,
        )
        self.usable: list[bool] = []
        self.control.open(self.usable.append)
        self.health.subscribe(self.control.on_health)
        self.control.on_health(())
        bodies = [self.control.threads[0].run]
        if self.control.encoder is not None:
            bodies.append(self.control.encoder.run)
        self._threads = [Worker("outputs", body, self.failures) for body in bodies]
        self._number = 0
        if start:
            self.start()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def missed(self) -> int:
        return self.control.threads[0].status["good"].missed

    def skipped(self) -> None:
        """Give the image of a part that nobody inspects."""
        self._number += 1
        self.control.on_exposed(
            Frame(
                pixels=good_image(0),
                number=self._number,
                captured_ns=time.monotonic_ns(),
                captured_utc_ns=time.time_ns(),
            )
        )

    def part(
        self,
        inspector: Inspector,
        pixels: NDArray[np.uint8],
        age_ns: int = 0,
        part: PartIdentity | None = None,
        identity: StationIdentity | None = None,
    ) -> None:
        """Inspect a part whose image came so long ago; its verdict is on record at once."""
        self._number += 1
        now_ns = time.monotonic_ns() - age_ns
        frame = Frame(
            pixels=pixels, number=self._number, captured_ns=now_ns, captured_utc_ns=time.time_ns()
        )
        self.control.on_exposed(frame)
        verdict = Verdict(
            id=f"part {self._number}",
            inspection=inspector.inspect(frame),
            frame=frame,
            decided_ns=time.monotonic_ns(),
            decided_utc_ns=time.time_ns(),
            inspection_started_ns=now_ns,
            part=part,
            identity=identity,
        )
        self.control.on_recorded(verdict)

    def close(self) -> None:
        self.control.close()
        assert all(thread.join(GENEROUS_S) for thread in self._threads)
        assert not self.failures.any()


@pytest.fixture(scope="module")
def inspector(bundle: Path) -> Inspector:
    found = load_bundle(bundle)
    return Inspector(Detector(CompiledModel(found)), found.manifest)


def test_a_module_that_is_lost_takes_ready_away_and_gets_its_levels_back(
    inspector: Inspector,
) -> None:
    with RemoteIoModule() as module:
        lines = Lines(module)
        module.wait(lambda: module.level(2), "ready")
        lines.part(inspector, good_image(0))
        module.wait(lambda: module.level(1), "the pulse of an OK")
        module.stop()
        module.wait(lambda: lines.usable[-1] is False, "the loss")
        assert "output_module_away" in lines.health.reasons
        lines.part(inspector, defective_image(1))  # its turn ends the level, with nobody there
        module.wait(lambda: lines.missed == 1, "the missed edge")
        for number in (2, 3, 4):
            lines.part(inspector, good_image(number))
        module.wait(lambda: lines.missed == 4, "the OKs that were not given")
        lines.part(inspector, defective_image(5))
        module.wait(lambda: lines.missed == 5, "another part that met the level of the first")
        module.writes.clear()

        module.start()
        module.wait(lambda: lines.usable[-1], "the module's return")
        module.wait(lambda: bool(module.writes), "its levels")
        assert module.edges(1) == [False]
        lines.part(inspector, good_image(2))
        module.wait(lambda: module.level(1), "the pulse of the next OK")
        lines.close()
        assert [module.level(coil) for coil in (1, 2)] == [False, False]
    kinds = [one.kind for one in lines.events]
    assert kinds == ["output_away", *["output_missed"] * 2, "output_back", "output_edges"]
    _, passed, rejected, back, _ = lines.events
    assert passed.severity is Severity.ALARM and passed.data["passes"] is True
    assert rejected.data["passes"] is False
    assert back.data == {"missed": 5, "may_have_passed": 2}


def test_a_module_that_answers_late_misses_the_edge_and_takes_ready_away_where_it_shall(
    inspector: Inspector,
) -> None:
    with RemoteIoModule() as module:
        lines = Lines(
            module,
            module={"timeout_ms": 10_000, "refresh_ms": 10_000},
            tolerance_ms=100,
            missed_takes_ready_ms=1000,
        )
        module.wait(lambda: module.level(2), "ready")
        module.delay_s = 0.3
        lines.part(inspector, good_image(0))
        module.wait(lambda: False in lines.usable, "ready to fall")
        module.delay_s = 0.0
        assert lines.missed == 1 and lines.control.threads[0].there
        module.wait(lambda: not module.level(2), "the line of ready")
        module.wait(lambda: lines.usable[-1] and module.level(2), "ready again")
        lines.close()
    assert [one.data.get("passes") for one in lines.events if one.kind == "output_missed"] == [
        False
    ]


ENCODER = {"area": "holding", "address": 10, "poll_ms": 5, "timeout_ms": 10_000}
BY_COUNTS = {"device": "module", "line": 1, "delay_counts": 1000, "hold_ms": 300}


def move(module: RemoteIoModule, count: int) -> None:
    """Let the counter of 32 bits stand at a count."""
    with ModbusTcpClient("127.0.0.1", port=module.port, timeout=GENEROUS_S) as client:
        assert not client.write_registers(10, [count >> 16, count & 0xFFFF]).isError()


def test_a_part_is_passed_once_the_encoder_has_counted_it_to_its_gate(
    inspector: Inspector,
) -> None:
    with RemoteIoModule() as module:
        encoder = {"host": "127.0.0.1", "port": module.port, **ENCODER}
        move(module, 2**32 - 500)
        lines = Lines(module, module={"timeout_ms": 10_000}, encoder=encoder, good=BY_COUNTS)
        module.wait(lambda: module.level(2), "ready")
        lines.part(inspector, good_image(0))
        time.sleep(0.1)
        move(module, 2**32 - 480)
        time.sleep(0.2)
        assert not module.level(1)
        move(module, 510)  # over the end of the counter
        module.wait(lambda: True in module.edges(1), "the OK at its gate")
        lines.part(inspector, good_image(1))
        lines.close()
        assert module.edges(1) == [False, True, False]
    (edges,) = [one.data for one in lines.events if one.kind == "output_edges"]
    assert edges["edges"] == 1


def test_an_encoder_that_is_lost_takes_ready_away_and_its_parts_are_rejected(
    inspector: Inspector,
) -> None:
    with RemoteIoModule() as module, RemoteIoModule() as counter:
        encoder = {"host": "127.0.0.1", "port": counter.port, **ENCODER}
        lines = Lines(module, module={"timeout_ms": 10_000}, encoder=encoder, good=BY_COUNTS)
        module.wait(lambda: module.level(2), "ready")
        lines.part(inspector, good_image(0))
        counter.stop()
        module.wait(lambda: lines.missed == 1, "the part whose place is not known")
        module.wait(lambda: not module.level(2), "the end of ready")
        assert "output_encoder_away" in lines.health.reasons and lines.usable[-1] is False
        counter.start()
        module.wait(lambda: module.level(2), "ready again")
        move(counter, 5000)
        lines.close()
        assert module.edges(1) == [False]
    assert [one.kind for one in lines.events] == ["output_away", "output_missed", "output_back"]
    missed = lines.events[1]
    assert missed.data["passes"] is False and "encoder was disconnected" in missed.detail


def test_a_counter_that_is_not_there_is_refused_and_the_doctor_says_what_one_counts() -> None:
    with RemoteIoModule() as module:
        encoder = {"host": "127.0.0.1", "port": module.port, **ENCODER, "address": 990}
        with pytest.raises(OutputRefused) as refused:
            Lines(module, encoder=encoder, good=BY_COUNTS)
        assert refused.value.exit_code == 78 and "outputs.encoder.address" in str(refused.value)
        move(module, 70_000)
        outputs = {
            "module": {"host": "127.0.0.1", "port": module.port, "timeout_ms": 10_000},
            "encoder": encoder | {"address": 10},
            "good": BY_COUNTS,
        }
        settings = Settings.model_validate(
            {
                "camera": {"uri": str(DEMO / "frames")},
                "model": {"path": "no.xml"},
                "journal": {"folder": "journal"},
                "outputs": outputs,
            }
        )
        _, found = output_findings(settings, lamp_test=False, running=False)
    assert (found.grade, "at 70000" in found.found) == (Grade.GOOD, True), found
    assert "does not change" in found.found
    _, away = output_findings(settings, lamp_test=False, running=False)
    assert away.grade is Grade.FAULT and "outputs.encoder" in away.found


def test_parts_that_get_no_verdict_end_the_level_of_an_ok(inspector: Inspector) -> None:
    """A trigger beyond the rate of records, and a frame that no part waits for."""
    rules = Rules(pairing=Pairing.ANNOUNCED, recorded_refusals=0, recorded_refusals_per_minute=0)
    with RemoteIoModule() as module:
        lines = Lines(module, module={"timeout_ms": 10_000})
        handshake = HandshakeCoordinator(
            handshake=HandshakeMachine(rules),
            ports=[lines.control],
            expose=lambda: None,
            record_event=lines.events.append,
        )
        lines.part(inspector, good_image(0))
        module.wait(lambda: module.level(1), "the pulse of an OK")
        now_ns = time.monotonic_ns()
        waiting = handshake.trigger(
            TriggerRequest(
                trigger_id="1",
                part_id=None,
                recipe=None,
                deadline_ms=None,
                received_ns=now_ns,
                received_utc_ns=time.time_ns(),
                source=TriggerSource.HARDWARE,
            )
        )
        assert waiting == []  # not ready, and it has no record
        module.wait(lambda: not module.level(1), "the refused part to end the level")

        for name in Input:
            handshake.set_ready(name, True)
        lines.part(inspector, good_image(1))
        module.wait(lambda: module.level(1), "the pulse of the next OK")
        # Its window of 60 s is over in a moment.
        window_over_ns = time.monotonic_ns() - 59_900_000_000
        unexpected = Frame(
            pixels=good_image(2), number=9, captured_ns=window_over_ns, captured_utc_ns=0
        )
        assert handshake.frame(unexpected) == []
        module.wait(lambda: not module.level(1), "the part of that frame to end the level")

        lines.part(inspector, good_image(3))
        module.wait(lambda: module.level(1), "the pulse of the last OK")
        lines.control.on_trigger_refused(time.monotonic_ns())
        module.wait(lambda: not module.level(1), "the part of a malformed trigger to end it")
        lines.close()


def test_a_station_that_stops_while_its_module_is_away_tries_the_fail_safe_levels_once_more(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_thread, "RETRY_S", 600.0)  # the module is back before it is tried
    with RemoteIoModule() as module:
        lines = Lines(module, module={"timeout_ms": 10_000})
        lines.part(inspector, good_image(0))
        module.wait(lambda: module.level(1), "the pulse of an OK")
        module.stop()
        module.wait(lambda: lines.usable[-1] is False, "the loss")
        lines.part(inspector, defective_image(1))
        module.wait(lambda: lines.missed == 1, "the missed edge")
        assert module.level(1)
        module.start()
        lines.close()
        assert [module.level(coil) for coil in (1, 2)] == [False, False]


def test_a_line_that_a_module_switched_without_an_answer_may_stand_open(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt to reach it again was the one that switched."""
    monkeypatch.setattr(device_thread, "RETRY_S", 1.0)
    with RemoteIoModule() as module:
        module.stop()
        lines = Lines(module, ready=None)
        lines.part(inspector, good_image(0))
        module.delay_s = 1.0  # longer than its limit of 150 ms
        module.start()
        module.wait(lambda: bool(module.writes) and module.level(1), "the level of the OK")
        lines.part(inspector, defective_image(1))
        module.wait(lambda: lines.missed == 2, "the edges that were not given")
        lines.close()
    missed = [one for one in lines.events if one.kind == "output_missed"]
    assert [one.data["passes"] for one in missed] == [False, True]


def test_a_state_that_found_no_room_is_shown_all_the_same() -> None:
    with RemoteIoModule() as module:
        fault = {"device": "module", "line": 3}
        lines = Lines(module, start=False, module={"timeout_ms": 10_000}, fault=fault)
        for _ in range(device_thread.QUEUE_BOUND):
            lines.skipped()
        lines.health.set("camera_lost", True)
        lines.start()
        module.wait(lambda: module.edges(3)[-2:] == [False, True], "the fault")
        lines.close()


class LockWithGap:
    """A lock; when it is released for the second time, something happens at once."""

    def __init__(self, happens: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._happens = [happens, _nothing]

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if self._happens:
            self._happens.pop()()


def _nothing() -> None:
    """It is released for the first time."""


def test_a_state_that_changes_while_another_thread_shows_it_is_shown_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with RemoteIoModule() as module:
        busy = {"device": "module", "line": 4}
        lines = Lines(module, start=False, triggered=True, busy=busy)
        shown: dict[str, bool] = {}

        def put(message: object) -> bool:
            if isinstance(message, device_thread.StateLevel):
                shown[message.output] = message.active
            return True

        monkeypatch.setattr(lines.control.threads[0], "put", put)
        lines.control.ready(True)
        assert shown["ready"]
        for happens, level in (
            (lambda: lines.control.ready(False), {"ready": False}),
            (lambda: lines.control.ready(True), {"ready": True}),
            (lines.skipped, {"ready": True, "busy": True}),
        ):
            monkeypatch.setattr(lines.control, "_lock", LockWithGap(happens))
            lines.control.look()
            assert level.items() <= shown.items()
        lines.start()
        lines.close()


def test_a_station_that_ends_is_not_ready_while_verdicts_are_still_to_come() -> None:
    with RemoteIoModule() as module:
        fault = {"device": "module", "line": 3}
        lines = Lines(module, module={"timeout_ms": 10_000}, fault=fault)
        module.wait(lambda: module.level(2) and not module.level(3), "ready")
        lines.control.on_ending()
        module.wait(lambda: not module.level(2) and module.level(3), "the end")
        lines.close()


def test_an_image_that_was_skipped_does_not_leave_busy_active(inspector: Inspector) -> None:
    with RemoteIoModule() as module:
        busy = {"device": "module", "line": 4}
        lines = Lines(module, module={"timeout_ms": 10_000}, busy=busy)
        lines.skipped()
        module.wait(lambda: module.level(4), "busy")
        lines.part(inspector, good_image(1))
        module.wait(lambda: not module.level(4), "the end of busy")
        lines.close()


def test_a_verdict_on_record_after_its_deadline_opens_no_line(inspector: Inspector) -> None:
    triggered = PartIdentity(
        part_id=None,
        trigger_id="1",
        trigger_source="software",
        recipe=None,
        triggered_ns=time.monotonic_ns() - 150 * MS,
        triggered_utc_ns=0,
        deadline_ms=100.0,
    )
    with RemoteIoModule() as module:
        lines = Lines(module, module={"timeout_ms": 10_000})
        lines.part(inspector, good_image(0), part=triggered)
        lines.part(inspector, good_image(1), age_ns=150 * MS, identity=identity(100.0))
        lines.part(inspector, good_image(2), identity=identity(60_000.0))
        module.wait(lambda: module.level(1), "the pulse of the OK in time")
        lines.close()
    assert lines.control.threads[0].status["good"].edges == 1


def identity(deadline_ms: float) -> StationIdentity:
    return StationIdentity(
        simulated=True,
        trigger_source="free_run",
        model_name="small",
        model_version="1",
        model_sha256="0" * 64,
        precision="fp32/f32",
        device="CPU",
        runtime="openvino",
        config_sha256="0" * 64,
        deadline_ms=deadline_ms,
    )


def test_coils_that_a_module_does_not_have_are_refused_at_the_start() -> None:
    with RemoteIoModule() as module, pytest.raises(OutputRefused) as refused:
        Lines(module, good={"device": "module", "line": COILS})
    assert refused.value.exit_code == 78 and "has no such coil" in str(refused.value)


def test_the_doctor_asks_the_module_for_its_coils_and_switches_none() -> None:
    with RemoteIoModule() as module:
        settings = Settings.model_validate(
            {
                "camera": {"uri": str(DEMO / "frames")},
                "model": {"path": "no.xml"},
                "journal": {"folder": "journal"},
                "outputs": {
                    "module": {"host": "127.0.0.1", "port": module.port, "timeout_ms": 10_000},
                    "good": {"device": "module", "line": 3, "inverted": True},
                },
            }
        )
        (there,) = output_findings(settings, lamp_test=False, running=False)
        assert (there.grade, module.writes) == (Grade.GOOD, []), there
        (lit,) = output_findings(settings, lamp_test=True, running=False)
        assert (lit.grade, module.edges(3)) == (Grade.GOOD, [True, False, True]), lit
    (away,) = output_findings(settings, lamp_test=False, running=False)
    assert away.grade is Grade.FAULT and "cannot be reached" in away.found


def test_the_lamp_test_is_the_doctors_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--lamp-test", "--camera", "a", "--model", "b.xml"]) == 78
    assert "needs --doctor" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "no output is named"),
        ({"good": {"device": "module", "line": 0}}, "outputs.module is missing"),
        (
            {"module": {"host": "::1"}, "good": {"device": "module", "line": 0}}
            | {"reject": {"device": "module", "line": 0}},
            "reject and good are both line 0 of module",
        ),
        ({"module": {"host": "::1"}, "good": {"device": "module", "line": "Q1"}}, "is not a coil"),
        ({"good": {"device": "camera", "line": "Line2"}}, "only gige:// and usb3:// cameras"),
        (
            {"module": {"host": "::1"}, "good": {"device": "module", "line": 0, "pulse_ms": 0}},
            "outputs.good.pulse_ms",
        ),
        (
            {"module": {"host": "::1"}, "ready": {"device": "module", "line": 0, "pulse_ms": 9}},
            "outputs.ready.pulse_ms is unknown",
        ),
        ({"module": {"host": "::1"}, "good": BY_COUNTS}, "outputs.encoder is missing"),
        (
            {"module": {"host": "::1"}, "good": BY_COUNTS | {"delay_ms": 200}},
            "delay_ms and delay_counts cannot be combined",
        ),
        (
            {"module": {"host": "::1"}, "encoder": {"host": "::1", "address": 0}}
            | {"good": {"device": "module", "line": 0}},
            "encoder is not used by any output",
        ),
        (
            {"module": {"host": "::1"}, "encoder": {"host": "::1", "address": 0, "bits": 16}}
            | {"good": BY_COUNTS | {"delay_counts": 32_768}},
            "less than half the range of a counter of 16 bits",
        ),
        (
            {"module": {"host": "::1"}, "good": {"device": "module", "line": 0, "delay_ms": 20}},
            "delay_ms 20 ends before decision.deadline_ms 100",
        ),
    ],
)
def test_outputs_that_cannot_be_are_refused_before_anything_is_opened(
    tmp_path: Path, edge_run: EdgeRun, outputs: dict[str, Any], message: str
) -> None:
    config = station(tmp_path, outputs, decision={"deadline_ms": 100})
    done = edge_run("--config", config, "--check")
    assert done.returncode == 78 and message in done.stderr, done.stderr


NOBODY = 65_534


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user who may open nothing; root may open everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def _absent(folder: Path) -> Path:
    return folder / "gpiochip9"


def _closed(folder: Path) -> Path:
    closed = folder / "gpiochip0"
    closed.touch(0o000)
    return closed


def _no_chip(_folder: Path) -> Path:
    return Path("/dev/null")


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (_absent, "there is no such chip"),
        (_closed, "this user may not open it"),
        (_no_chip, "it is not a GPIO chip"),
    ],
)
def test_a_gpio_chip_that_cannot_be_had_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], cause: str
) -> None:
    chip = make(tmp_path)
    lines = GpioLines(GpioSettings(chip=str(chip)))
    tmp_path.chmod(0o755)
    with pytest.raises(OutputRefused) as refused:
        if make is _closed:
            with as_nobody():
                lines.open({17: True})
        else:
            lines.open({17: True})
    assert refused.value.exit_code == 78 and cause in str(refused.value)


def test_a_line_that_another_program_holds_is_named() -> None:
    taken = gpio_refusal("/dev/gpiochip0", OSError(errno.EBUSY, "Device or resource busy"))
    assert "another program holds one of its lines. Find it with gpioinfo" in str(taken)


def test_a_module_that_was_never_there_lets_no_part_pass_and_no_alarm_says_so(
    inspector: Inspector,
) -> None:
    with RemoteIoModule() as module:
        module.stop()
        lines = Lines(module, ready=None)
        assert lines.usable and not any(lines.usable)
        lines.part(inspector, good_image(0))
        lines.part(inspector, defective_image(1))
        module.wait(lambda: lines.missed == 1, "the OK that was not given")
        lines.close()
    missed = [one for one in lines.events if one.kind == "output_missed"]
    assert [(one.severity, one.data["passes"]) for one in missed] == [(Severity.WARNING, False)]
