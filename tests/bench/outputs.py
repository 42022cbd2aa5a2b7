"""How long from a part's record to the machine: a Modbus register, a coil, a line of the camera.

python -m tests.bench.outputs [PARTS]
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from pymodbus.client import ModbusTcpClient

from edge.cameras.factory import supervised_camera
from edge.cameras.supervised.state_machine import CameraState
from edge.contract.verdict import Verdict, new_id
from edge.imaging.frame import Frame
from edge.inspection.decision import Reason, Result
from edge.journal.entries import Committed, Entry, RecordKind
from edge.plc import registers as table
from edge.plc.output_device import OutputDevice
from edge.plc.remote_io import RemoteIo
from edge.settings.camera import CameraSettings, TriggerSettings
from edge.settings.modbus import ModbusSettings
from edge.settings.outputs import OutputsSettings, RemoteIoSettings
from edge.station.handshake.coordinator import HandshakeCoordinator
from edge.station.handshake.modbus_link import LinkServices, modbus_port
from edge.station.handshake.modbus_thread import ModbusThread, bind_modbus
from edge.station.handshake.part import Exposed, Input, Pairing, PartResult, Rules
from edge.station.handshake.state_machine import HandshakeMachine
from edge.station.monitoring.health import Health
from edge.station.outputs.control import OutputControl
from edge.station.outputs.devices import CameraLines, camera_lines
from edge.station.pipeline.latency import Histogram
from edge.station.threads import Failures, Worker
from tests.support.aravis_fixtures import numbered_images
from tests.support.gige_camera import GigECamera
from tests.support.journaling import FILLING, RunningWriter, running_writer
from tests.support.remote_io import RemoteIoModule
from tests.support.sample_verdict import sample_verdict
from tests.support.supervised_line import SupervisedLine

REGISTER = "journal commit to a result read in a Modbus register"
CAMERA_LINE = "journal commit to a line of the camera"
PARTS, PER_SECOND = 1000, 100
PIXELS = np.zeros((8, 8), np.uint8)
# A part that a stalled machine had no result for by then is lost to the figures, and counted.
ANSWERS_S = 30.0
LATE_COUNTS_TOO = {"tolerance_ms": 10_000}


@dataclass(frozen=True, slots=True)
class Delays:
    """Of one way, in milliseconds.

    Attributes:
        parts: of which the figures are.
    """

    what: str
    parts: int
    p50_ms: float
    p99_ms: float

    def __str__(self) -> str:
        return (
            f"{self.what}: p50 {self.p50_ms:.2f} ms, p99 {self.p99_ms:.2f} ms ({self.parts} parts)"
        )


def output_figures(parts: int = PARTS) -> list[Delays]:
    """Measure every way, at ``PER_SECOND`` parts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = [_register(folder / "register", parts)]
        with RemoteIoModule() as module:
            settings = RemoteIoSettings(host="127.0.0.1", port=module.port)
            outputs = OutputsSettings.model_validate(
                {
                    "module": {"host": "127.0.0.1", "port": module.port},
                    "good": {"device": "module", "line": 0, "pulse_ms": 4, "window_ms": 60_000},
                    **LATE_COUNTS_TOO,
                }
            )
            found += _lines(folder / "module", outputs, RemoteIo(settings), parts, way="coil")
        with _camera() as (outputs, device):
            found += _lines(folder / "camera", outputs, device, parts, way="line of the camera")
    return found


def _paced(
    writer: RunningWriter, parts: int, begin: Callable[[int], Callable[[int], None]]
) -> None:
    """Have a record written for each part, at their pace.

    Args:
        begin: called for a part; returns what is called with its number once it is on record.
    """
    due_s = time.monotonic()
    for number in range(1, parts + 1):
        on_record = begin(number)
        entry = Entry(RecordKind.VERDICT, {"result": "OK", "filling": FILLING}, "OK")
        writer.writer.submit(entry, partial(_committed, on_record))
        due_s += 1 / PER_SECOND
        time.sleep(max(due_s - time.monotonic(), 0.0))
    writer.flush()


def _committed(on_record: Callable[[int], None], done: Committed) -> None:
    on_record(done.seq)


def _register(folder: Path, parts: int) -> Delays:
    """From the commit to the moment at which a PLC, a process of its own, has read the result."""
    settings = ModbusSettings(host="127.0.0.1", port=0, requests_per_s=100_000)
    port = modbus_port(settings, False, 64)
    rules = Rules(pairing=Pairing.EVERY_FRAME, slots=64, result_hold_ms=5000.0)
    handshake = HandshakeCoordinator(
        handshake=HandshakeMachine(rules),
        ports=[port],
        expose=lambda: None,
        record_event=lambda _: None,
    )
    for one in (Input.CAMERA, Input.MODEL, Input.JOURNAL):
        handshake.set_ready(one, True)
    bound = bind_modbus(settings)
    assert bound is not None
    ended: list[bool] = []
    failures, committed_ns = Failures(), dict[int, int]()

    def put(message: object) -> bool:
        handshake.acknowledged(message.seq)  # type: ignore[attr-defined]
        return True

    services = LinkServices(
        port=port,
        accepts_triggers=False,
        handshake=handshake,
        put=put,
        health=Health(),
        record_event=lambda _: None,
    )
    thread = ModbusThread(settings, services, bound)
    serving = Worker("modbus", lambda: thread.run(lambda: bool(ended)), failures)
    serving.start()
    number = thread.address.rpartition(":")[2]
    command = [sys.executable, "-m", "tests.bench.outputs", "--plc", number, str(parts)]
    plc = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert plc.stdout is not None and plc.stdout.readline() == "ready\n"

    def begin(number: int) -> Callable[[int], None]:
        frame = _frame(number)
        (exposed,) = handshake.frame(frame)
        assert isinstance(exposed, Exposed)
        handshake.decided(exposed.part, PartResult(Result.OK, Reason.SCORE_BELOW, 0.3))
        handshake.await_record(exposed.part, str(number))

        def on_record(seq: int) -> None:
            committed_ns[seq & 0xFFFF] = time.monotonic_ns()
            handshake.on_committed(str(number), seq)

        return on_record

    with running_writer(folder) as writer:
        _paced(writer, parts, begin)
        seen: dict[int, int] = {}
        for line in plc.stdout:
            seq, read_ns = map(int, line.split())
            seen[seq] = read_ns
    plc.wait()
    ended.append(True)
    assert serving.join(ANSWERS_S) and not failures.any()
    delays = Histogram()
    for seq, read_ns in seen.items():
        delays.record(read_ns - committed_ns[seq])
    return _delays(REGISTER, delays)


def plc(port: int, parts: int) -> None:
    """Be the PLC: read results as fast as they come, acknowledge, and say when each was read."""
    client = ModbusTcpClient("127.0.0.1", port=port, timeout=ANSWERS_S)
    assert client.connect()
    print("ready", flush=True)
    seen: dict[int, int] = {}
    until_s = time.monotonic() + ANSWERS_S + parts / PER_SECOND
    place = table.named(table.STATUS, "seq").address
    command = [0] * 5  # control, heartbeat, trigger id, number of the result
    while len(seen) < parts and time.monotonic() < until_s:
        words = client.readwrite_registers(
            read_address=table.STATUS_IN_HOLDING,
            read_count=table.STATUS_WORDS,
            write_address=0,
            values=command,
        ).registers
        now_ns = time.monotonic_ns()
        command = [0] * 5
        if words[0] & table.RESULT_VALID.mask:
            seen.setdefault(words[place], now_ns)
            command[0], command[4] = table.ACK.mask, words[place]
    for seq, read_ns in seen.items():
        print(seq, read_ns)


def _lines(
    folder: Path, outputs: OutputsSettings, device: OutputDevice, parts: int, *, way: str
) -> Iterator[Delays]:
    """From the decision, and from the commit, to the edge that the device has confirmed."""
    failures = Failures()
    name = "module" if outputs.module else "camera"
    control = OutputControl(
        settings=outputs,
        devices={name: device},
        triggered=True,
        health=Health(),
        record_event=lambda _: None,
    )
    control.open(lambda _: None)
    worker = Worker("outputs", control.threads[0].run, failures)
    worker.start()

    def begin(number: int) -> Callable[[int], None]:
        frame = _frame(number)
        control.on_exposed(frame)
        now_ns = time.monotonic_ns()
        verdict: Verdict = replace(
            sample_verdict(of=frame), id=new_id(time.time_ns()), decided_ns=now_ns
        )
        return lambda _: control.on_recorded(verdict)

    with running_writer(folder) as writer:
        _paced(writer, parts, begin)
    control.close()
    assert worker.join(ANSWERS_S) and not failures.any()
    thread = control.threads[0]
    for what, times in (
        (f"journal commit to a {way}", thread.lateness["good"]),
        (f"decision to a {way}", thread.from_decision["good"]),
    ):
        found = times.quantiles()
        yield Delays(what, found.count, found.p50_ms, found.p99_ms)


@contextmanager
def _camera() -> Iterator[tuple[OutputsSettings, CameraLines]]:
    outputs = OutputsSettings.model_validate(
        {
            "good": {"device": "camera", "line": "Line2", "pulse_ms": 4, "window_ms": 60_000},
            **LATE_COUNTS_TOO,
        }
    )
    lines = camera_lines(outputs)
    with GigECamera(numbered_images(2), rate_fps=100) as device:
        settings = CameraSettings(uri=device.uri, trigger=TriggerSettings(mode="software"))
        with closing(
            SupervisedLine(lambda changed: supervised_camera(settings, changed, lines=lines))
        ) as line:
            line.camera.start()
            line.read_until_state(CameraState.WAITING_TRIGGER)
            yield outputs, CameraLines(line.camera)


def _frame(number: int) -> Frame:
    now_ns = time.monotonic_ns()
    return Frame(
        pixels=PIXELS, number=number, captured_ns=now_ns, captured_utc_ns=time.time_ns(), epoch=1
    )


def _delays(what: str, histogram: Histogram) -> Delays:
    found = histogram.quantiles()
    return Delays(what, found.count, found.p50_ms, found.p99_ms)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--plc"]:
        plc(int(sys.argv[2]), int(sys.argv[3]))
    else:
        for figures in output_figures(int(sys.argv[1]) if len(sys.argv) > 1 else PARTS):
            print(figures, flush=True)
