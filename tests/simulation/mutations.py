"""Faults made by hand in the product: each of them has to be found, or the simulation is blind."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edge.cameras.supervised.freshness import Freshness
from edge.cameras.supervised.state_machine import Supervision
from edge.imaging.frame import Frame, FrameStatus
from edge.inspection.decision import Result
from edge.journal.bounds import usage
from edge.journal.entries import Committed, JournalRow, RecordKind
from edge.journal.ledger import Ledger
from edge.journal.write_queue import WriteQueue
from edge.journal.writer import JournalWriter
from edge.mqtt.announcer import Announcer
from edge.mqtt.command_gate import CommandGate
from edge.mqtt.relay import Relay
from edge.mqtt.relay_lane import Lane
from edge.mqtt.replay_detector import ReplayDetector
from edge.station.handshake.coordinator import HandshakeCoordinator
from edge.station.handshake.part import PartPhase
from edge.station.handshake.state_machine import HandshakeMachine
from edge.station.monitoring.watchdog import Watchdog
from edge.station.pipeline.pipeline import Station
from edge.station.recording.verdict_recorder import JournalRecorder
from tests.simulation.plan import HARD, Plan, make_plan
from tests.simulation.substitution import Changes
from tests.simulation.world import Outcome, run_plan

MAX_SEEDS = 20
PARTS = 60

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class Mutation:
    """One fault: a method of the product, exchanged by what it is turned into.

    Attributes:
        faults: of the days, each other one is one of these.
        days: what else the days are like, by fields of the plan; drawn where it says nothing.
        hurried: a part comes each 0.4 s, so that several are on their way.
    """

    name: str
    owner: Any
    method: str
    wrap: Wrap
    faults: tuple[str, ...] = ()
    days: Mapping[str, Any] = field(default_factory=dict)
    hurried: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """How a mutation was found; ``seed`` None where it was not."""

    name: str
    seed: str | None
    seeds: int
    promise: str
    text: str
    cpu_s: float


class MutationMisfit(Exception):
    """A mutation was written for a product that is no longer so."""


def find(name: str, max_seeds: int = MAX_SEEDS, first: int = 0) -> Found:
    """Run the broken product under one seed after the other until a promise breaks.

    Raises:
        MutationMisfit: the fault does not fit the product.
        RuntimeError: the whole product breaks it under that seed, too, which proves nothing.
    """
    mutation = next(one for one in MUTATIONS if one.name == name)
    began_s = time.process_time()
    for number in range(first, first + max_seeds):
        plan = _plan(mutation, number)
        outcome = run_mutated(mutation, plan)
        if outcome.violation is not None:
            broken = outcome.violation
            whole = run_plan(plan).violation
            if whole is not None:
                raise RuntimeError(f"{name}, seed {number}: without it, too: {whole}")
            cpu_s = time.process_time() - began_s
            tried = number - first + 1
            return Found(name, str(number), tried, broken.promise, broken.text, cpu_s)
    return Found(name, None, max_seeds, "", "", time.process_time() - began_s)


def run_mutated(mutation: Mutation, plan: Plan) -> Outcome:
    """Run a plan with the broken product, which is whole again afterwards.

    Raises:
        MutationMisfit: the product has changed, and the fault reaches for what is no longer there.
    """
    changes = Changes()
    misfits: list[str] = []
    try:
        broken = mutation.wrap(getattr(mutation.owner, mutation.method))

        def method(*args: Any, **options: Any) -> Any:
            try:
                return broken(*args, **options)
            except (AttributeError, TypeError) as error:
                misfits.append(str(error))
                raise

        changes.set(mutation.owner, mutation.method, method)
        outcome = run_plan(plan)
    finally:
        changes.undo()
    if misfits:  # a crash breaks promises, too, and would pass for the fault
        raise MutationMisfit(f"{mutation.name} no longer applies: {misfits[0]}")
    return outcome


def _plan(mutation: Mutation, number: int) -> Plan:
    plan = make_plan(f"m{number}", 1, PARTS, HARD, favoured=mutation.faults)
    plan = replace(plan, **mutation.days)
    if plan.overlapping:  # see plan.py
        plan = replace(plan, faults=tuple(one for one in plan.faults if one.what != "missed"))
    if not mutation.hurried:
        return plan
    windows = (
        replace(one, period_s=0.4, parts=round(one.parts * one.period_s / 0.4))
        for one in plan.windows
    )
    return replace(plan, windows=tuple(windows))


TABLE_HEAD = "\n".join(
    (
        "| fault made in the product | found by seed | seeds it took | promise | what was seen |",
        "|---|---|---|---|---|",
    )
)


def line(found: Found) -> str:
    """Return a line of the table in Markdown."""
    seed = found.seed or "**not found**"
    return f"| {found.name} | {seed} | {found.seeds} | {found.promise} | {found.text} |"


def _never(value: object) -> Wrap:
    return lambda _: lambda *_args, **_options: value


def _announce_before_commit(_: Callable[..., Any]) -> Callable[..., Any]:
    def write(self: JournalWriter, group: Any) -> list[Committed]:
        """As the writer's own, and who waits is called before the commit."""
        ledger = self._ledger
        ledger.begin(self._clock_ns() - self._began_ns)
        ledger.acknowledge(group.acknowledged)
        committed = self._append(group.entries)
        for queued, one in zip(group.entries, committed, strict=True):
            if queued.on_committed is not None:
                queued.on_committed(one)
        self._used = usage(ledger.totals, ledger.used_bytes(), self._bounds)
        ledger.commit()
        self._last_seq = ledger.totals.verdict_seq
        self._journal.witness.record(ledger.totals)
        group.entries[:] = [replace(queued, on_committed=None) for queued in group.entries]
        return committed

    return write


def _lose_group_that_failed(original: Callable[..., Any]) -> Callable[..., Any]:
    def write(self: JournalWriter, group: Any) -> list[Committed]:
        try:
            return original(self, group)
        except Exception:
            group.entries.clear()
            raise

    return write


def _number_again(original: Callable[..., Any]) -> Callable[..., Any]:
    def begin(self: Ledger, station_ns: int) -> None:
        original(self, station_ns)
        if self.totals.verdict_seq and self.totals.position % 17 == 0:
            self.totals.verdict_seq -= 1

    return begin


def _settle_when_sent(original: Callable[..., Any]) -> Callable[..., Any]:
    def send(self: Relay, row: JournalRow, *args: Any, **options: Any) -> None:
        original(self, row, *args, **options)
        self._lanes[row.kind].settle(row.position)
        self._to_mark.append(row.position)

    return send


def _skip_a_row(original: Callable[..., Any]) -> Callable[..., Any]:
    def pop(self: Lane) -> JournalRow:
        row = original(self)
        if row.seq % 23 == 0 and self.kind is RecordKind.VERDICT:
            self.settle(row.position)
            return (self.peek() and original(self)) or row
        return row

    return pop


def _newest_first(original: Callable[..., Any]) -> Callable[..., Any]:
    def read(self: Lane) -> bool:
        found = original(self)
        if len(self._ahead) > 2:
            self._ahead.rotate(1)
        return found

    return read


def _forget_acks(original: Callable[..., Any]) -> Callable[..., Any]:
    def deliver(self: Relay, row: JournalRow) -> None:
        if row.seq % 7:
            original(self, row)
        else:
            self._lanes[row.kind].settle(row.position)

    return deliver


def _refusal_is_success(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, mid, _reason, now_ns: original(self, mid, None, now_ns)


def _pair_last(_: Callable[..., Any]) -> Callable[..., Any]:
    def jumped(self: HandshakeMachine, frame: Frame, advance: int) -> list[Any]:
        return self._paired(self._waiting.popleft(), frame)

    return jumped


def _pair_in_turn_reversed(original: Callable[..., Any]) -> Callable[..., Any]:
    def frame(self: HandshakeMachine, frame: Frame, now_ns: int) -> Any:
        if len(self._waiting) > 1:
            self._waiting.rotate(1)
        return original(self, frame, now_ns)

    return frame


def _complete_anyway(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, frame: replace(original(self, frame), status=FrameStatus.COMPLETE)


def _accept_again(original: Callable[..., Any]) -> Callable[..., Any]:
    def known(self: HandshakeMachine, trigger_id: str) -> Any:
        found = original(self, trigger_id)
        return None if found is not None and found.phase is PartPhase.CLEARED else found

    return known


def _any_ack_clears(original: Callable[..., Any]) -> Callable[..., Any]:
    def acknowledged(self: HandshakeMachine, seq: int) -> Any:
        standing = [one for one in self._open.values() if one.phase is PartPhase.VALID]
        return original(self, standing[0].seq if standing else seq)

    return acknowledged


def _score_after_deadline(original: Callable[..., Any]) -> Callable[..., Any]:
    def committed(self: HandshakeMachine, part: Any, seq: int, now_ns: int) -> Any:
        return tuple(
            replace(one, in_time=True) if hasattr(one, "in_time") else one
            for one in original(self, part, seq, now_ns)
        )

    return committed


def _two_verdicts(original: Callable[..., Any]) -> Callable[..., Any]:
    def issue(self: Station, exposure: Any, inspection: Any, started_ns: int, line: Any) -> None:
        original(self, exposure, inspection, started_ns, line)
        if exposure.part is not None and exposure.part.number % 13 == 0:
            self._dispatcher.issue(exposure, inspection, started_ns, line)

    return issue


def _fault_is_ok(original: Callable[..., Any]) -> Callable[..., Any]:
    def decided(self: HandshakeCoordinator, part: Any, found: Any) -> Any:
        if found.result is Result.NOK:
            found = replace(found, result=Result.OK)
        return original(self, part, found)

    return decided


def _part_lost_when_stopping(_: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self: None


def _old_criteria_named(original: Callable[..., Any]) -> Callable[..., Any]:
    def exchange(self: Station, line: Any) -> None:
        original(self, replace(line, identity=self._line.identity))

    return exchange


def _recipe_not_asked(original: Callable[..., Any]) -> Callable[..., Any]:
    def line_for(self: Station, part: Any) -> Any:
        return self._line, None

    return line_for


def _retained_taken(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, incoming, now_ns: original(self, replace(incoming, retained=False), now_ns)


def _expiry_ignored(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, incoming, now_ns: original(self, replace(incoming, expiry_s=None), now_ns)


def _refused_dropped(original: Callable[..., Any]) -> Callable[..., Any]:
    def record(self: JournalRecorder, verdict: Any) -> bool:
        if self._journal.trouble is not None:
            return True  # as if it were on its way
        return original(self, verdict)

    return record


def _state_after_rows(original: Callable[..., Any]) -> Callable[..., Any]:
    def announce(self: Announcer, connection: Any, seen: Any) -> None:
        if connection._mid > 3:
            original(self, connection, seen)

    return announce


# Parts that the PLC announces one before the other has its image, and of which a deadline is kept.
OVERLAPPING = {"mode": "software", "leader": "mqtt", "overlapping": True, "slots": 8}
ANNOUNCED = {"mode": "announced", "leader": "modbus", "overlapping": True, "slots": 8}
BY_MQTT = {"mode": "software", "leader": "mqtt"}
DISK = ("disk_full", "disk_failing")

MUTATIONS = (
    Mutation(
        "the PLC is shown a result before its commit",
        JournalWriter, "_write", _announce_before_commit,
    ),
    Mutation(
        "a group whose commit failed is forgotten",
        JournalWriter, "_write", _lose_group_that_failed, DISK,
    ),
    Mutation("a number is given twice", Ledger, "begin", _number_again),
    Mutation("a verdict counts as delivered when it is sent", Relay, "_send", _settle_when_sent),
    Mutation("a row is passed over", Lane, "pop", _skip_a_row),
    Mutation("rows are read in another order", Lane, "_read", _newest_first),
    Mutation("some acknowledgements are not noted", Relay, "_deliver", _forget_acks),
    Mutation("a refusal counts as taken", Relay, "settle", _refusal_is_success),
    Mutation("nothing is sent again after a connection", Lane, "go_back_to_oldest", _never(None)),
    Mutation("a broker that forgets is waited for", Relay, "forgotten", _never(False)),
    Mutation("nothing is ever marked as replayed", ReplayDetector, "is_old", _never(False)),
    Mutation(
        "a gap in the counter is passed over",
        HandshakeMachine, "_jumped", _pair_last, ("lost",), ANNOUNCED, hurried=True,
    ),
    Mutation(
        "frames are paired with the wrong part",
        HandshakeMachine, "frame", _pair_in_turn_reversed, ("late",), ANNOUNCED, hurried=True,
    ),
    Mutation("stale and cut frames count as whole", Freshness, "judged", _complete_anyway),
    Mutation(
        "no pause after a frame that never came",
        HandshakeMachine, "_pause", _never(None), ("too_late",), BY_MQTT,
    ),
    Mutation(
        "an announcement that was lost leaves no pause",
        HandshakeMachine, "_pause_for_lost_announcement", _never(None), ("kill", "late"), ANNOUNCED,
        hurried=True,
    ),
    Mutation(
        "a part that is over is accepted again",
        HandshakeMachine, "_known", _accept_again, ("twice", "replayed"), BY_MQTT,
    ),
    Mutation(
        "any acknowledgement clears a result",
        HandshakeMachine, "acknowledged", _any_ack_clears, ("wrong_ack", "no_ack"), OVERLAPPING,
    ),
    Mutation(
        "a commit after the deadline still says OK",
        HandshakeMachine, "committed", _score_after_deadline, ("disk_slow",),
        {"deadline_ms": 300.0},
    ),
    Mutation("one part in thirteen has two verdicts", Station, "_issue_decided", _two_verdicts),
    Mutation("NOK is shown to the PLC as OK", HandshakeCoordinator, "decided", _fault_is_ok),
    Mutation(
        "parts that wait at a stop get nothing",
        Station, "_fail_open_parts", _part_lost_when_stopping, ("stop",),
    ),
    Mutation(
        "verdicts name the settings of before",
        Station, "exchange", _old_criteria_named, ("threshold",),
    ),
    Mutation(
        "a part of another recipe is inspected all the same",
        Station, "_line_for", _recipe_not_asked, ("recipe", "inspector_slow"), OVERLAPPING,
    ),
    Mutation(
        "a trigger that the broker kept is carried out",
        CommandGate, "examine", _retained_taken, ("retained",), BY_MQTT,
    ),
    Mutation(
        "a trigger that ran out is carried out",
        CommandGate, "examine", _expiry_ignored, ("expired",), BY_MQTT,
    ),
    Mutation(
        "verdicts are dropped while the disk is in trouble",
        JournalRecorder, "_record", _refused_dropped, DISK,
    ),
    Mutation(
        "the watchdog does not see a hung stage",
        Watchdog, "look", _never(True), ("inspector_hangs",),
    ),
    Mutation(
        "a camera that is silent is not missed",
        Supervision, "tick", _never(None), ("camera_silent",),
    ),
    Mutation("verdicts go out before the state", Announcer, "announce", _state_after_rows),
    Mutation(
        "the timer of parts never fires",
        HandshakeMachine, "_expire", _never([]), ("lost", "missed"), BY_MQTT,
    ),
    Mutation("what is written is not announced", WriteQueue, "mark_announced", _never(None)),
)  # fmt: skip
