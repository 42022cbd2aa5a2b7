"""A station and all that it stands in, run from a plan to its end or a broken promise."""

import json
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edge.cameras import factory
from edge.contract.commands import Ack, Trigger
from edge.contract.topics import StationTopic
from edge.errors import CameraStuck, StationError
from edge.imaging.frame import Frame
from edge.mqtt.connection import Incoming
from edge.settings.station import Settings
from edge.station.handshake.part import Pairing
from tests.simulation.broker import Published, SimulatedBroker, SimulatedConnection
from tests.simulation.camera import NOBODY, Device
from tests.simulation.disk import Disk
from tests.simulation.oversight import (
    CAMERA_BACK_LIMIT_NS,
    CAMERA_LOSS_LIMIT_NS,
    Oversight,
    Sent,
    Violation,
)
from tests.simulation.plan import Fault, Plan, Window
from tests.simulation.scheduler import (
    MILLISECOND,
    SECOND,
    Livelock,
    Process,
    ProcessEnded,
    Scheduler,
)
from tests.simulation.station import (
    STATION,
    InjectedDefect,
    Plc,
    StationProcess,
    Surroundings,
    make_opener,
)
from tests.simulation.story import Story
from tests.simulation.substitution import Changes, simulated

RESTART_NS = 2 * SECOND
# Longer than every back-off: after it, nothing may be missing.
SETTLING_S = 200.0
HOLD_MS = 2000.0
HANG_LIMIT_NS = 13 * SECOND
IN_MEMORY = Path("/dev/shm")
TRIGGER_FAULTS = {
    "twice",
    "contradicting",
    "replayed",
    "expired",
    "retained",
    "malformed",
    "wrong_recipe",
}
PAIRINGS = {
    "software": Pairing.SOFTWARE,
    "announced": Pairing.ANNOUNCED,
    "every_frame": Pairing.EVERY_FRAME,
    "free_run": None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended.

    Attributes:
        story: its last lines; ``story_sha256`` of all of them.
        at_s: virtual time of the end, or of the broken promise.
    """

    violation: Violation | None
    story: str
    story_sha256: str
    at_s: float
    parts: int
    verdicts: dict[str, int]
    restarts: int
    switches: int
    checked: dict[str, int]


class World:
    """Carries out a plan."""

    def __init__(self, plan: Plan, scheduler: Scheduler, disk: Disk) -> None:
        self.plan = plan
        self.scheduler = scheduler
        self.disk = disk
        self.began_ns = scheduler.now_ns
        self.chance = random.Random(f"world {plan.seed}")
        self.story = Story(scheduler)
        self.oversight = Oversight(scheduler, self.story, plan.slots, HOLD_MS)
        self.broker = SimulatedBroker(scheduler, f"broker {plan.seed}")
        self.device = Device(
            scheduler,
            random.Random(f"camera {plan.seed}"),
            awaited=plan.mode in ("software", "announced"),
        )
        self.device.on_image = self.oversight.on_image
        self.plc = Plc(scheduler)
        self.topic = StationTopic.parse(STATION)
        settings = _settings(plan)
        self.around = Surroundings(
            scheduler=scheduler,
            disk=disk,
            device=self.device,
            oversight=self.oversight,
            settings=settings,
            pairing=PAIRINGS[plan.mode],
            leader="modbus" if plan.leader == "modbus" else "mqtt",
        )
        self.parts = 0
        self.triggers = 0
        self.starts = self.outages = 0
        self.process: Process | None = None
        self.running: StationProcess | None = None
        self.over = False
        self.next_trigger = ""
        self.no_acks_until_ns = 0
        self.standstill_ns = scheduler.now_ns
        self.recent: list[Trigger] = []
        disk.on_commit = self.oversight.on_commit
        self.broker.on_message = self._on_message
        self.broker.on_refused = self.oversight.on_refused
        self.broker.on_connected = self.oversight.on_connected
        self.plc.on_result = self._on_result
        SimulatedConnection.broker = self.broker

    def run(self) -> None:
        """Carry out the plan; nothing else is left afterwards."""
        plan, scheduler = self.plan, self.scheduler
        for window in plan.windows:
            self._at(window.at_s, partial(self._produce, window, 0))
        for fault in plan.faults:
            self._at(max(0.5, fault.at_s), partial(self._happen, fault))
        for at_s, length_s, how in plan.skips:
            self._at(at_s, partial(self._pass_over, length_s, how))
        self._start()
        if plan.mode == "free_run":
            self._run_free()
        try:
            # What is passed over comes on top of the plan's own time.
            while not scheduler.stopped and self._elapsed_s() < plan.ends_s:
                scheduler.run(scheduler.now_ns + SECOND)
            self._settle()
        except (Livelock, AssertionError) as error:
            self.oversight.broken("P9", f"{type(error).__name__}: {error}")
        finally:
            self.over = True
            if self.process is not None:
                scheduler.end_process(self.process)

    def _elapsed_s(self) -> float:
        return (self.scheduler.now_ns - self.began_ns - self._passed_ns) / SECOND

    _passed_ns = 0

    def _at(self, at_s: float, call: Callable[[], None]) -> None:
        due_ns = self.began_ns + round(at_s * SECOND)

        def happen() -> None:
            # Hours that were passed over are not the plan's.
            left_ns = due_ns + self._passed_ns - self.scheduler.now_ns
            if left_ns > 0:
                self.scheduler.after(left_ns, happen)
            else:
                call()

        self.scheduler.at(due_ns, happen)

    def _settle(self) -> None:
        """Take all faults back, give everybody time, and see what is left."""
        if self.scheduler.stopped:
            return
        self.story.add("all faults end")
        self.device.next_faults.clear()
        self.device.come_back()
        self.broker.set_mode("up")
        self.disk.fault, self.disk.delay_ns = "", 0
        self.disk.before_commit = _nothing_happens
        self.scheduler.after_switches(0, None)
        self.around.hang = self.around.defect = False
        until_ns = self.scheduler.now_ns + round(SETTLING_S * SECOND)
        while self.scheduler.now_ns < until_ns and not self._at_rest():
            self.scheduler.run(self.scheduler.now_ns + 4 * SECOND)
            if self.scheduler.stopped:
                return
        running = self.running
        if running is None or not running.inspects or running.publisher is None:
            self.oversight.broken("P9", "no process inspects, though nothing is wrong any more")
            return
        state = self.broker.retained.get(self.topic.state)
        self.oversight.at_rest(
            waiting=self.disk.waiting(),
            state=None if state is None else json.loads(state),
        )

    def _at_rest(self) -> bool:
        running = self.running
        if running is None or not running.inspects or running.publisher is None:
            return False
        state = self.broker.retained.get(self.topic.state, b"{}")
        handshake = running.handshake
        return (
            running.publisher.delivery().complete
            and not self.disk.waiting()  # what the broker took is marked with the next commit
            and not self.oversight.expected()
            and json.loads(state).get("state") in ("online", "degraded")
            and (handshake is None or handshake.ready or self.plan.mode == "every_frame")
        )

    # The process.

    def _start(self) -> None:
        if self.over or self.scheduler.stopped:
            return
        self.starts += 1
        process = Process(f"station {self.starts}")
        running = StationProcess(self.around, self.plc, self.starts)
        self.process, self.running = process, running
        self.plc.messages.clear()
        self.plc.pending.clear()
        self.story.add(f"process {self.starts} starts")

        def body() -> None:
            running.run(lambda _: self._give_up(process))
            self.scheduler.after(0, partial(self._ended, process, running))

        self.scheduler.spawn("main", process, body)

    def _give_up(self, process: Process) -> None:
        """End a process from within: its watchdog asked for it."""

        def end() -> None:
            if process is self.process and process.alive:
                self.story.add("the watchdog ends the process")
                self._end(b"")

        self.scheduler.after(0, end)
        self.scheduler.sleep_ns(3600 * SECOND)

    def _ended(self, process: Process, running: StationProcess) -> None:
        if process is not self.process or not process.alive:
            return
        failure = running.failure
        expected = isinstance(failure, InjectedDefect | CameraStuck) or failure is None
        self.story.add(f"the process ends with {running.exit_code}")
        if not expected and not (isinstance(failure, StationError) and self._troubled()):
            self.oversight.broken("P9", f"the station died of {type(failure).__name__}: {failure}")
        self._end(b"")

    def _troubled(self) -> bool:
        return self.scheduler.now_ns - self.disk.trouble_until_ns < 30 * SECOND

    def _kill(self, torn: bool) -> None:
        if self.process is not None and self.process.alive:
            self.story.add("the process is killed")
            tail = self.chance.randbytes(self.chance.randrange(1, 5000)) if torn else b""
            self._end(tail)

    def _end(self, torn_tail: bytes) -> None:
        process = self.process
        assert process is not None
        self.scheduler.end_process(process)
        self.process = self.running = None
        connection = self.broker.connection
        if connection is not None:
            self.broker.left(connection, in_order=False)
            connection.closed = True
        self.device.process_ended()
        self.around.hang = False
        self.disk.kill(torn_tail)
        self.scheduler.after(RESTART_NS, self._start)

    # Production.

    def _produce(self, window: Window, count: int) -> None:
        """Bring the next part, once the one before it may move on."""
        if self.over or count >= window.parts:
            return
        plan, scheduler = self.plan, self.scheduler
        # What the station exposes for has to stand there until it has.
        waits = plan.mode == "software" or not plan.overlapping
        if self.plc.pending and waits:
            waited = scheduler.now_ns - self._placed_ns
            if waited < 3 * SECOND:
                scheduler.after(50 * MILLISECOND, partial(self._produce, window, count))
                return
            self.plc.pending.clear()
        self._placed_ns = scheduler.now_ns
        self.parts += 1
        part, bad = self.parts, self.chance.random() < 0.2
        self.device.before = (part, bad)
        self.story.add(f"part {part} comes{', bad' if bad else ''}")
        if plan.mode in ("software", "announced"):
            self._trigger(part, bad)
        if plan.mode in ("announced", "every_frame"):
            # A line exposes; of an announced part after its announcement has arrived.
            scheduler.after(120 * MILLISECOND, partial(self._edge, part))
        period_ns = round(window.period_s * SECOND)
        stays_ns = round(period_ns * 0.8) if plan.overlapping else 950 * MILLISECOND
        scheduler.after(min(stays_ns, round(period_ns * 0.95)), partial(self._move_on, part))
        scheduler.after(period_ns, partial(self._produce, window, count + 1))

    _placed_ns = 0

    def _edge(self, part: int) -> None:
        if self.device.before[0] == part:
            self.device.expose()

    def _move_on(self, part: int) -> None:
        if self.device.before[0] != part or self.over:
            return
        if self.plc.pending and self.plan.mode == "software":
            self.scheduler.after(20 * MILLISECOND, partial(self._move_on, part))
            return
        self.device.before = (NOBODY, False)

    def _run_free(self) -> None:
        if not self.over:
            self.device.expose()
            self.scheduler.after(500 * MILLISECOND, self._run_free)

    def _trigger(self, part: int, bad: bool) -> None:
        self.triggers += 1
        trigger_id, part_id = f"T{self.triggers}", f"P{part}"
        fault, self.next_trigger = self.next_trigger, ""
        recipe = None
        if fault == "wrong_recipe":
            recipe = self.chance.choice(("cap", "bottle", "can"))
        void = self.plan.leader == "mqtt" and fault in ("expired", "retained")
        sent = Sent(trigger_id, part_id, part, bad, recipe, void=void)
        self.oversight.sent[trigger_id] = sent
        if len(self.oversight.sent) > 3000:
            self.oversight.sent.pop(next(iter(self.oversight.sent)))
        trigger = Trigger(
            trigger_id=trigger_id,
            part_id=part_id,
            recipe_id=recipe,
            recipe_version=None,
            deadline_ms=0.001 if fault == "expired" and self.plan.leader == "modbus" else None,
            received_ns=self.scheduler.now_ns,
        )
        self.recent = [*self.recent[-60:], trigger]
        if fault == "malformed" and self.plan.leader == "mqtt":
            self.story.add("the PLC sends what is no trigger")
            self.broker.send(Incoming(topic=self.topic.trigger, payload=b'{"trigger_id": 7'))
            return
        self._send(trigger, fault)
        if fault == "twice":
            self.story.add(f"the PLC sends {trigger_id} twice")
            self.scheduler.after(
                self.chance.randrange(400) * MILLISECOND, partial(self._send, trigger, "")
            )
        elif fault == "contradicting":
            self.story.add(f"the PLC sends {trigger_id} again for another part")
            other = Trigger(
                trigger_id=trigger_id,
                part_id=f"{part_id}-other",
                recipe_id=None,
                recipe_version=None,
                deadline_ms=None,
                received_ns=0,
            )
            # Where the first one found no station, the other is the only one.
            self.scheduler.after(5 * MILLISECOND, partial(self._send, other, "", True))
        elif fault == "replayed" and len(self.recent) > 2:
            old = self.chance.choice(self.recent[:-1])
            known = self.oversight.life.accepted[old.trigger_id]
            if known:  # one of another process is a new one to this one
                self.story.add(f"the PLC sends {old.trigger_id} again, long after")
                self.scheduler.after(7 * MILLISECOND, partial(self._send, old, "", True))

    def _send(self, trigger: Trigger, fault: str, again: bool = False) -> None:
        if again and not self.oversight.life.accepted[trigger.trigger_id]:
            return
        if self.plan.leader == "modbus":
            self.plc.pending.add(trigger.trigger_id)
            self.plc.send(trigger)
            return
        content: dict[str, Any] = {"trigger_id": trigger.trigger_id, "part_id": trigger.part_id}
        if trigger.recipe_id is not None:
            content["recipe"] = {"id": trigger.recipe_id}
        incoming = Incoming(
            topic=self.topic.trigger,
            payload=json.dumps(content).encode(),
            retained=fault == "retained",
            expiry_s=0 if fault == "expired" else None,
        )
        if self.broker.send(incoming):
            self.plc.pending.add(trigger.trigger_id)

    def _on_result(self, seq: int, journal: str) -> None:
        """Acknowledge what the station's own port shows."""
        if self.plan.leader == "modbus":
            self._acknowledge(seq, journal)

    def _on_message(self, message: Published) -> None:
        self.oversight.on_message(message)
        if self.plan.leader == "mqtt" and message.topic == self.topic.verdict:
            content = json.loads(message.payload)
            self._acknowledge(content["seq"], content["journal"])

    def _acknowledge(self, seq: int, journal: str) -> None:
        if self.scheduler.now_ns < self.no_acks_until_ns or self.chance.random() < 0.05:
            return
        delay_ns = self.chance.randrange(5, 60) * MILLISECOND
        self.scheduler.after(delay_ns, partial(self._send_ack, seq, journal))

    def _send_ack(self, seq: int, journal: str) -> None:
        if self.plan.leader == "modbus":
            self.plc.send(Ack(seq, journal, "modbus"))
            return
        content = json.dumps({"seq": seq, "journal": journal}).encode()
        if self.broker.send(Incoming(topic=self.topic.ack, payload=content)):
            self.oversight.life.acknowledged.add(seq)

    # What goes wrong.

    def _happen(self, fault: Fault) -> None:
        if self.over:
            return
        what = fault.what
        self.story.add(f"-- {describe(fault)}")
        family, _, rest = what.partition("_")
        if family == "broker":
            self.broker.set_mode(rest)
            self._later(fault.lasts_s, lambda: self.broker.set_mode("up"))
        elif family == "disk":
            self._disk(rest, fault)
        elif family == "camera":
            self._camera(rest, fault)
        elif family == "clock":
            self._clock(rest, fault)
        elif family == "inspector":
            self._inspector(rest, fault)
        elif family in ("kill", "stop"):
            self._end_process(what, fault)
        else:
            self._small(what, fault)

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        self.scheduler.after(round(delay_s * SECOND), call)

    def _disk(self, what: str, fault: Fault) -> None:
        disk, oversight = self.disk, self.oversight
        lasts_ns = round(fault.lasts_s * SECOND)
        oversight.disturbed(self.scheduler.now_ns + lasts_ns + 2 * SECOND)
        if what == "slow":
            disk.delay_ns = (50 + fault.number % 1500) * MILLISECOND
        else:
            disk.fault = what

        def mend() -> None:
            disk.fault, disk.delay_ns = "", 0
            oversight.disturbed(self.scheduler.now_ns + 3 * SECOND)

        self._later(fault.lasts_s, mend)

    def _camera(self, what: str, fault: Fault) -> None:
        device, scheduler = self.device, self.scheduler
        running = self.running
        working = (
            running is not None
            and running.inspects
            and running.camera.status is not None
            and running.camera.status.working
            and device.present
            and not device.silent
            and not device.stuck
            and not self.around.hang
        )
        self.outages += 1
        {"gone": device.vanish, "silent": device.fall_silent, "hangs": device.hang}[what]()
        if working and running is not None:
            began_ns = scheduler.now_ns
            see = partial(self._see_lost, running, began_ns, self.outages)
            scheduler.after(CAMERA_LOSS_LIMIT_NS, see)
        self._later(fault.lasts_s, partial(self._camera_back, what))

    def _see_lost(self, running: StationProcess, began_ns: int, outages: int) -> None:
        if self.outages != outages:
            return
        if running is not self.running or not running.inspects or running.ending:
            return
        status, device = running.camera.status, self.device
        gone = not device.present or device.silent or device.stuck
        if gone and status is not None and self.standstill_ns < began_ns:
            self.oversight.expect(
                "P5", not status.working, lambda: "the camera is gone for 2 s, and nobody says so"
            )

    def _camera_back(self, what: str) -> None:
        device, scheduler = self.device, self.scheduler
        if what == "hangs":
            return  # a driver that is stuck stays stuck; only a new process helps
        device.come_back()
        self.outages += 1
        began_ns = scheduler.now_ns

        def see() -> None:
            running = self.running
            if running is None or not running.inspects or running.ending:
                return
            if self.standstill_ns > began_ns:
                return
            away = not device.present or device.silent or device.stuck
            if away or self.starts != starts or self.outages != outages:
                return
            status = running.camera.status
            free = self.plan.mode == "free_run"
            self.oversight.expect(
                "P5",
                status is None or status.working or free,
                lambda: "the camera is back for 6 s, and the station does not use it",
            )

        starts, outages = self.starts, self.outages
        scheduler.after(CAMERA_BACK_LIMIT_NS, see)

    def _clock(self, what: str, fault: Fault) -> None:
        if what == "step":
            self.scheduler.utc_offset_ns += ((fault.number % 20_001) - 10_000) * SECOND
        else:
            self.scheduler.set_drift(((fault.number % 401) - 200) * 1e-6)

    def _inspector(self, what: str, fault: Fault) -> None:
        around, scheduler = self.around, self.scheduler
        self.oversight.disturbed(scheduler.now_ns + round((fault.lasts_s + 15) * SECOND))
        if what == "slow":
            around.inspect_ns = (200 + fault.number % 1500) * MILLISECOND

            def mend() -> None:
                around.inspect_ns = 25 * MILLISECOND

            self._later(fault.lasts_s, mend)
        elif what == "fails":
            around.defect = True
        else:
            around.hang = True
            self._watch_hang()

    def _watch_hang(self) -> None:
        """See that the process ends once an inspection hangs in it."""
        around, scheduler = self.around, self.scheduler
        running, hung = self.running, around.hung

        def look() -> None:
            if self.over or running is not self.running or running is None:
                return
            if around.hang:
                scheduler.after(500 * MILLISECOND, look)
                return
            if around.hung == hung:  # no part came, and the fault has ended
                return
            began_ns = scheduler.now_ns

            def see() -> None:
                if self.over or self.standstill_ns > began_ns:
                    return
                self.oversight.expect(
                    "P9",
                    running is not self.running,
                    lambda: "an inspection hangs for 13 s, and the process goes on",
                )

            scheduler.after(HANG_LIMIT_NS, see)

        look()

    def _end_process(self, what: str, fault: Fault) -> None:
        torn = fault.number % 3 == 0
        if what == "kill":
            self.scheduler.after_switches(fault.number % 60, partial(self._kill, torn))
        elif what == "stop":
            if self.running is not None:
                self.oversight.disturbed(self.scheduler.now_ns + 20 * SECOND)
                self.running.stop()
        else:
            after = what == "kill_after_commit"

            def kill_at(done: bool) -> None:
                if done is after:
                    self.disk.before_commit = _nothing_happens
                    self.scheduler.after(0, partial(self._kill, torn))
                    self.scheduler.sleep_ns(10 * SECOND)

            self.disk.before_commit = kill_at

    def _small(self, what: str, fault: Fault) -> None:
        if what == "wrong_ack":
            seq = max(1, max(self.oversight.life.valid, default=1) + fault.number % 3 - 1)
            journal = next(iter(self.oversight.journals), None) if fault.number % 2 else None
            if fault.number % 5 == 0:
                journal = "00000000-0000-4000-8000-000000000000"
            self._send_ack(seq, journal or "00000000-0000-4000-8000-000000000001")
        elif what == "no_ack":
            self.no_acks_until_ns = self.scheduler.now_ns + 6 * SECOND
        elif what == "threshold":
            self.around.threshold = 0.8 + (fault.number % 400) / 1000
            self._command("reload", {})
        elif what == "recipe":
            wanted = ("bottle", "cap", "can")[fault.number % 3]
            self._command("set_recipe", {"id": wanted, "version": 1})
        elif what == "resend":
            newest = max(self.oversight.arrived.values(), default=1) or 1
            first = max(1, newest - fault.number % 30)
            self._command("resend", {"from_seq": first, "to_seq": newest})
        elif what in TRIGGER_FAULTS:
            self.next_trigger = what
        else:
            self.device.next_faults.append(what)

    def _command(self, name: str, content: dict[str, Any]) -> None:
        payload = json.dumps(content).encode()
        self.broker.send(Incoming(topic=self.topic.command(name), payload=payload))

    def _pass_over(self, length_s: float, how: str) -> None:
        """Set the clocks on by hours in which nothing happens."""
        if self.over:
            return
        hours = f"{length_s / 3600:.1f} hours"
        length_ns = round(length_s * SECOND)
        if how == "suspended":  # the monotonic clock of a machine that sleeps stands still
            self.story.add(f"the machine sleeps for {hours}")
            self.scheduler.utc_offset_ns += length_ns
            return
        self.story.add(f"the process stands still for {hours}")
        self.scheduler.now_ns += length_ns
        self._passed_ns += length_ns
        self.standstill_ns = self.scheduler.now_ns + 5 * SECOND
        self.oversight.disturbed(self.scheduler.now_ns + 5 * SECOND)


def run_plan(plan: Plan) -> Outcome:
    """Run a plan from its beginning; the same plan gives the same story."""
    scheduler = Scheduler(f"order {plan.seed}")
    folder = Path(
        tempfile.mkdtemp(prefix="simulation-", dir=IN_MEMORY if IN_MEMORY.is_dir() else None)
    )
    disk = Disk(folder, scheduler)
    try:
        with simulated(scheduler, disk):
            changes = Changes()
            world = World(plan, scheduler, disk)
            changes.set(factory, "live_camera_opener", make_opener(world.device))
            try:
                world.run()
            finally:
                changes.undo()
    finally:
        disk.end()
    oversight = world.oversight
    return Outcome(
        violation=oversight.violation,
        story=world.story.end(),
        story_sha256=world.story.sha256,
        at_s=world._elapsed_s(),
        parts=world.parts,
        verdicts=dict(oversight.results),
        restarts=world.starts - 1,
        switches=scheduler.switches,
        checked=dict(oversight.checked),
    )


def describe(fault: Fault) -> str:
    """Put a fault into words."""
    length = f" for {fault.lasts_s:g} s" if fault.lasts_s else ""
    return f"{_WORDS.get(fault.what, fault.what)}{length}"


_WORDS = {
    "lost": "a frame is counted by the camera and lost on its way",
    "repeated": "the camera gives a frame twice",
    "late": "a frame comes late, and in time",
    "too_late": "a frame comes after its time",
    "incomplete": "a frame lacks packets",
    "wrong_size": "a frame has another size",
    "old_image": "the camera gives the last image again as a new one",
    "missed": "the camera neither exposes nor counts",
    "camera_gone": "the camera is unplugged",
    "camera_silent": "the camera answers nothing",
    "camera_hangs": "a call into the camera's driver does not return",
    "broker_away": "the broker is away",
    "broker_half_open": "the broker's machine is gone without a word",
    "broker_slow": "the broker acknowledges slowly",
    "broker_refusing": "the broker refuses records",
    "broker_forgetful": "the broker takes and acknowledges nothing",
    "disk_full": "the disk is full",
    "disk_failing": "commits fail",
    "disk_slow": "commits are slow",
    "disk_unreadable": "the journal cannot be read",
    "clock_step": "the wall clock is set",
    "clock_drift": "the wall clock runs at another speed",
    "kill": "a kill of the process is due",
    "kill_before_commit": "the process will be killed just before a commit",
    "kill_after_commit": "the process will be killed just after a commit",
    "stop": "somebody stops the station; its service manager starts it again",
    "inspector_slow": "inspections are slow",
    "inspector_hangs": "an inspection hangs",
    "inspector_fails": "an inspection meets a defect",
    "threshold": "somebody changes the threshold and reloads",
    "recipe": "somebody sets another recipe",
    "wrong_recipe": "the next trigger asks for a recipe of its own",
    "resend": "a consumer asks for records again",
    "twice": "the PLC will send its next trigger twice",
    "contradicting": "the PLC will send its next trigger again, for another part",
    "replayed": "the PLC will send an old trigger again",
    "expired": "the next trigger will be too old when it comes",
    "retained": "the broker gives a trigger that it had kept",
    "malformed": "the PLC will send what is no trigger",
    "wrong_ack": "the PLC acknowledges what it has not seen",
    "no_ack": "the PLC acknowledges nothing for 6 s",
}

__all__ = ["Frame", "Outcome", "ProcessEnded", "World", "describe", "run_plan"]


def _settings(plan: Plan) -> Settings:
    mode = {"software": "software", "free_run": "free_run"}.get(plan.mode, "hardware")
    return Settings.model_validate(
        {
            "camera": {
                "uri": "gige://simulated",
                "trigger": {"mode": mode, "announced": plan.mode == "announced"}
                if mode == "hardware"
                else {"mode": mode},
            },
            "model": {"path": "simulated"},
            "decision": {"deadline_ms": plan.deadline_ms},
            "mqtt": {"url": "mqtt://broker", "station": STATION},
            "journal": {"folder": "simulated"},
            "handshake": {"slots": plan.slots, "result_hold_ms": HOLD_MS},
        }
    )


def _nothing_happens(_done: bool) -> None:
    """No kill is due around a commit."""
