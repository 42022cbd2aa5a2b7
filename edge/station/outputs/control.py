"""What the outputs learn of the station: images, records, readiness, health."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from edge.contract.event import Event
from edge.contract.state import HINDERING
from edge.contract.verdict import Verdict
from edge.imaging.frame import Frame
from edge.inspection.decision import Reason, Result
from edge.plc.output_device import OutputDevice
from edge.settings.outputs import (
    OutputSettings,
    OutputsSettings,
    PartOutputSettings,
    RejectSettings,
)
from edge.station.handshake.part import Part, PartResult, Rejection, Repeated, nanoseconds
from edge.station.monitoring.health import Health
from edge.station.outputs.conveyor import Count, EncoderLost
from edge.station.outputs.device_thread import DeviceLine, OutputThread, StateLevel
from edge.station.outputs.encoder_thread import Counter, EncoderThread
from edge.station.outputs.lateness import EdgeLateness
from edge.station.outputs.schedule import Exposure, Outcome, PartKey, PartRule, PartSchedule

# Images whose verdict never comes, because a newer one took their place.
MAX_OPEN = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputStatus:
    """What people see of an output; ``LineStatus`` says what the counts are.

    Attributes:
        late, from_decision: of its edges, see ``OutputThread``.
    """

    name: str
    device: str
    line: str
    active: bool | None
    edges: int
    missed: int
    last_edge_utc_ns: int | None
    late: EdgeLateness
    from_decision: EdgeLateness


class OutputControl:
    """Passes on to the devices what concerns them; also a port of the hand-shake.

    Any thread calls any method, and none of them waits.

    Attributes:
        threads: one a device.
        encoder: follows the conveyor; None where no output counts.
    """

    def __init__(
        self,
        *,
        settings: OutputsSettings,
        devices: Mapping[str, OutputDevice],
        counter: Counter | None = None,
        triggered: bool,
        health: Health,
        record_event: Callable[[Event], None],
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Take the devices of a station; ``open`` opens them.

        Args:
            devices: by their name in the settings.
            counter: of ``settings.encoder``.
            triggered: ``ready`` is that of the hand-shake.
        """
        self._settings = settings
        self._triggered = triggered
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._open: dict[PartKey, None] = {}
        self._trigger_ready = False
        self._reasons: frozenset[str] | None = None  # None until the station inspects
        self._missed_ns: int | None = None
        self._shown: dict[str, bool] = {}
        self._on_usable: Callable[[bool], None] | None = None
        self._usable = False
        self._ending = False
        self.threads = tuple(
            OutputThread(
                name=name,
                device=device,
                lines={
                    output: _device_line(settings, output, one)
                    for output, one in settings.named()
                    if one.device == name
                },
                tolerance_ns=nanoseconds(settings.tolerance_ms),
                record_edges=settings.record_edges,
                health=health,
                record_event=record_event,
                on_missed=self._on_missed,
                look=self.look,
                clock_ns=clock_ns,
            )
            for name, device in devices.items()
        )
        self.encoder: EncoderThread | None = None
        if settings.encoder is not None and counter is not None:
            self.encoder = EncoderThread(
                settings=settings.encoder,
                counter=counter,
                put=self._put_all,
                health=health,
                record_event=record_event,
                look=self.look,
                clock_ns=clock_ns,
            )
        self._by_output = {name: one for one in self.threads for name in one.status}

    def open(self, on_usable: Callable[[bool], None]) -> None:
        """Reach the devices.

        Args:
            on_usable: called with whether all devices are there and no edge was missed lately.

        Raises:
            OutputRefused: one never will take its lines.
        """
        self._on_usable = on_usable
        for one in self.threads:
            one.open()
        if self.encoder is not None:
            self.encoder.open()
        self.look()

    def close(self) -> None:
        """Let the threads end, with every line at its fail-safe level."""
        for one in self.threads:
            one.close()
        if self.encoder is not None:
            self.encoder.close()

    def status(self) -> list[OutputStatus]:
        """Return what people see of each output."""
        found = []
        for name, one in self._settings.named():
            thread = self._by_output[name]
            status = thread.status[name]
            found.append(
                OutputStatus(
                    name=name,
                    device=one.device,
                    line=str(one.line),
                    active=status.active,
                    edges=status.edges,
                    missed=status.missed,
                    last_edge_utc_ns=status.last_edge_utc_ns,
                    late=thread.lateness[name],
                    from_decision=thread.from_decision[name],
                )
            )
        return found

    # What the pipeline and the recorder call.

    def on_exposed(self, frame: Frame) -> None:
        """A part has its image and waits for its verdict."""
        key = (frame.captured_ns, frame.number)
        with self._lock:
            self._open[key] = None
            if len(self._open) > MAX_OPEN:
                del self._open[next(iter(self._open))]
        self._put_all(Exposure(key, frame.captured_ns))
        with self._lock:
            self._show("busy", bool(self._open))

    def on_recorded(self, verdict: Verdict) -> None:
        """A verdict is on record; after its deadline it is not OK, as at the other ports."""
        deadline, in_time = verdict.deadline, True
        if deadline is not None:
            deadline_ms, from_ns = deadline
            in_time = self._clock_ns() < from_ns + nanoseconds(deadline_ms)
        self._outcome(verdict, in_time and verdict.inspection.decision.result is Result.OK)

    def on_not_recorded(self, verdict: Verdict) -> None:
        """A verdict never will be on record: its part is not OK."""
        self._outcome(verdict, False)

    def on_trigger_refused(self, received_ns: int) -> None:
        """A trigger never came to the hand-shake; its part is not OK and has no verdict."""
        self._not_ok((received_ns, 0), received_ns)

    def on_health(self, reasons: Iterable[str]) -> None:
        """The station inspects, and these are the reasons for which it is degraded."""
        with self._lock:
            self._reasons = frozenset(reasons)
        self._show_state()

    def on_ending(self) -> None:
        """The station takes no more images; verdicts may still come."""
        with self._lock:
            self._ending = True
        self._show_state()

    def look(self) -> None:
        """Show readiness and faults as they are now; devices call it when something has changed.

        Under no lock of whoever calls: the hand-shake, whose ready may fall, takes its own.
        """
        there = all(one.there for one in self.threads)
        there = there and (self.encoder is None or self.encoder.there)
        with self._lock:
            held_ms, missed_ns = self._settings.missed_takes_ready_ms, self._missed_ns
            held = False
            if held_ms is not None and missed_ns is not None:
                held = self._clock_ns() - missed_ns < nanoseconds(held_ms)
            self._usable = usable = there and not held
        if self._on_usable is not None:  # each time: two that look at once may cross
            self._on_usable(usable)
        self._show_state()

    def _show_state(self) -> None:
        with self._lock:
            reasons, ending = self._reasons, self._ending
            inspects = reasons is not None and not reasons & HINDERING
            self._show_ready(self._trigger_ready if self._triggered else inspects)
            self._show("fault", ending or bool(reasons) or reasons is None)
            self._show("busy", bool(self._open))

    # As a port of the hand-shake.

    def ready(self, ready: bool) -> None:
        with self._lock:
            self._trigger_ready = ready
            self._show_ready(ready)

    def accepted(self, part: Part) -> None:
        """Its image or its verdict will come."""

    def rejected(self, part: Part, rejection: Rejection, recorded: bool) -> None:
        """Its ERROR is a verdict; without one it is not OK all the same."""
        if not recorded:
            self._not_ok((part.announced_ns, -part.number), part.announced_ns)

    def repeated(self, known: Repeated) -> None:
        """Nothing new."""

    def exposed(self, part: Part) -> None:
        """The pipeline has its image, too."""

    def unexpected(self, frame: Frame) -> None:
        """Its part passes, and never has a verdict."""
        self._put_all(Exposure((frame.captured_ns, frame.number), frame.captured_ns))

    def result_valid(self, part: Part, seq: int, decided: PartResult) -> None:
        """The recorder had it before."""

    def result_cleared(self, part: Part) -> None:
        """Lines show no results that stand."""

    def _not_ok(self, key: PartKey, triggered_ns: int) -> None:
        """Let a part without image and verdict have its turn; no frame has its key."""
        now_ns = self._clock_ns()
        self._put_all(
            Outcome(
                key=key,
                exposed_ns=triggered_ns,
                ok=False,
                decided_ns=now_ns,
                outcome_ns=now_ns,
                verdict_id=None,
            )
        )

    def _outcome(self, verdict: Verdict, ok: bool) -> None:
        frame, part = verdict.frame, verdict.part
        key, exposed_ns = (frame.captured_ns, frame.number), frame.captured_ns
        with self._lock:
            had_image = key in self._open or frame.pixels.size
        if part is not None and not had_image:
            exposed_ns = part.triggered_ns  # its trigger is what is known
        self._put_all(
            Outcome(
                key=key,
                exposed_ns=exposed_ns,
                ok=ok,
                decided_ns=verdict.decided_ns,
                outcome_ns=self._clock_ns(),
                verdict_id=verdict.id,
            )
        )
        with self._lock:
            self._open.pop(key, None)
            # Free running, older images were skipped. An overrun overtakes those that are queued.
            reason = verdict.inspection.decision.reason
            if not self._triggered and frame.pixels.size and reason is not Reason.OVERRUN:
                for older in [one for one in self._open if one < key]:
                    del self._open[older]
            self._show("busy", bool(self._open))

    def _put_all(self, message: Exposure | Outcome | Count | EncoderLost) -> None:
        for one in self.threads:
            one.put(message)

    # Under the lock, in which it was seen what is to be shown: two threads cannot cross.

    def _show_ready(self, ready: bool) -> None:
        self._show("ready", ready and self._usable and not self._ending)

    def _show(self, output: str, active: bool) -> None:
        thread = self._by_output.get(output)
        if thread is None or self._shown.get(output) is active:
            return
        if thread.put(StateLevel(output, active)):  # else ``look`` shows it again
            self._shown[output] = active

    def _on_missed(self) -> None:
        with self._lock:
            self._missed_ns = self._clock_ns()
        if self._settings.missed_takes_ready_ms is not None:
            self.look()


def _device_line(settings: OutputsSettings, name: str, one: OutputSettings) -> DeviceLine:
    schedule = None
    if isinstance(one, PartOutputSettings):
        poll_ms = settings.encoder.poll_ms if settings.encoder is not None else 0.0
        schedule = PartSchedule(part_rule(one, settings.tolerance_ms, poll_ms))
    return DeviceLine(
        line=one.line,
        inverted=one.inverted,
        safe=settings.safe_level(name),
        schedule=schedule,
    )


def part_rule(one: PartOutputSettings, tolerance_ms: float, poll_ms: float) -> PartRule:
    """Return what a line does for parts, from its settings.

    Args:
        poll_ms: how often the encoder is read.
    """
    idle = isinstance(one, RejectSettings) and one.idle == "active"
    pulse_ms = one.hold_ms if one.pulse_ms is None else one.pulse_ms
    return PartRule(
        opens_on_ok=idle or not isinstance(one, RejectSettings),
        idle=idle,
        delay_ns=None if one.delay_ms is None else nanoseconds(one.delay_ms),
        window_ns=nanoseconds(one.window_ms),
        hold_ns=nanoseconds(pulse_ms),
        tolerance_ns=nanoseconds(tolerance_ms),
        delay_counts=one.delay_counts,
        ahead_ns=nanoseconds(2 * poll_ms),
    )
