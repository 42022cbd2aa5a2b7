"""The thread of one output device: it waits for edges that are due, and gives them."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from edge.contract.event import Datum, Event, Severity
from edge.errors import StationError
from edge.plc.output_device import (
    Line,
    OutputDevice,
    OutputDeviceAway,
    OutputDeviceClosed,
)
from edge.station.monitoring.health import Health
from edge.station.outputs.conveyor import Count, EncoderLost
from edge.station.outputs.lateness import EdgeLateness
from edge.station.outputs.schedule import Edge, Exposure, Missed, Outcome, PartSchedule
from edge.station.pipeline.mailbox import EveryMailbox, MailboxClosed
from edge.token_bucket import TokenBucket
from edge.wording import counted

log = logging.getLogger(__name__)

QUEUE_BOUND = 1024
IDLE_S = 1.0
# Between two attempts to reach a device that is away.
RETRY_S = 0.5
# Of events of one kind; beyond it they are counted, in the next one and in the summary.
EVENTS_PER_MINUTE = 30
SUMMARY_S = 60.0
# At the end of the station, for parts that wait for their turn.
STOP_LIMIT_S = 2.0
AWAY = "the device is disconnected"


@dataclass(frozen=True, slots=True)
class StateLevel:
    """A line that shows a state of the station is to have a level."""

    output: str
    active: bool


Message = Exposure | Outcome | StateLevel | Count | EncoderLost


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLine:
    """An output on its device.

    Attributes:
        inverted: active is the low level.
        safe: whether it is active at start and stop.
        schedule: of an output for parts; None of one that shows a state.
    """

    line: Line
    inverted: bool
    safe: bool
    schedule: PartSchedule | None = None


@dataclass(slots=True)
class LineStatus:
    """What is known of an output; replaced field by field by its thread, read by any.

    Attributes:
        active: as the device confirmed; None while it is away.
        edges, missed: of parts.
        last_edge_utc_ns: of the wall clock, for people.
    """

    active: bool | None = None
    edges: int = 0
    missed: int = 0
    last_edge_utc_ns: int | None = None


class OutputThread:
    """Switches the lines of one device; nothing else touches it.

    When its queue is full the message is dropped, every line for parts goes to its idle level, and
    what was known of the parts that wait counts no more: they are rejected. An edge that the
    device does not confirm is missed and not given later; once it is back its lines get the level
    that is right then.

    Attributes:
        name: of the device.
        there: it confirmed what was written last.
        status: by output.
        lateness: by output, from when an edge was due to its confirmation.
        from_decision: the same, from the decision; of the edges of parts with a verdict.
    """

    def __init__(
        self,
        *,
        name: str,
        device: OutputDevice,
        lines: Mapping[str, DeviceLine],
        tolerance_ns: int,
        record_edges: bool,
        health: Health,
        record_event: Callable[[Event], None],
        on_missed: Callable[[], None],
        look: Callable[[], None],
        clock_ns: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Prepare a device; ``run`` is the body of its thread.

        Args:
            lines: by output.
            tolerance_ns: an edge that is confirmed later is missed.
            record_edges: every edge of a part is an event.
            on_missed: called after an edge that was.
            look: called when ``there`` has changed, and once a second.
        """
        self.name = name
        self.there = False
        self.status = {output: LineStatus() for output in lines}
        self.lateness = {output: EdgeLateness() for output in lines}
        self.from_decision = {output: EdgeLateness() for output in lines}
        self._device = device
        self._lines = dict(lines)
        self._tolerance_ns = tolerance_ns
        self._record_edges = record_edges
        self._health = health
        self._record_event = record_event
        self._on_missed = on_missed
        self._look = look
        self._clock_ns = clock_ns
        self._utc_ns = utc_ns
        self._queue: EveryMailbox[Message] = EveryMailbox(QUEUE_BOUND)
        self._dropped = 0
        self._dropped_seen = 0
        self._active = {output: one.safe for output, one in lines.items()}
        # Levels that lines may have: the one that was confirmed, and any that was asked for since.
        self._possible = {output: {one.safe} for output, one in lines.items()}
        self._retry_ns = self._written_ns = self._summed_up_ns = self._looked_ns = clock_ns()
        self._edges_summed_up = 0
        self._events = TokenBucket(EVENTS_PER_MINUTE)
        self._unreported: Counter[str] = Counter()
        # Edges that found the device away this time, by whether a part may have passed.
        self._missed_away: Counter[bool] = Counter()

    @property
    def dropped(self) -> int:
        """Messages that found no room."""
        return self._dropped

    def put(self, message: Message) -> bool:
        """Hand a message over, and tell whether there was room; never waits."""
        try:
            dropped = self._queue.put(message) is not None
        except MailboxClosed:
            return False
        self._dropped += dropped
        return not dropped

    def open(self) -> None:
        """Try to reach the device, with every line at its fail-safe level.

        Raises:
            OutputRefused: it never will take these lines.
        """
        try:
            self._device.open(self._levels(self._active))
        except OutputDeviceAway as error:
            self._lost(error)
        else:
            self._is_there()

    def close(self) -> None:
        """Let the thread end, with every line at its fail-safe level."""
        self._queue.close()

    def run(self) -> None:
        """Give what is due until ``close``; the body of the thread."""
        for output, one in self._lines.items():
            if one.schedule is not None:
                self._active[output] = one.schedule.active
        try:
            self._write_all()
            while True:
                message = self._queue.get(self._wait_s())
                if message is not None:
                    self._apply(message)
                self._turn()
        except MailboxClosed:
            self._finish()
        finally:
            self._end()

    def _finish(self) -> None:
        """Give the parts that wait their turn, where it comes soon."""
        until_ns = self._clock_ns() + int(STOP_LIMIT_S * 1e9)
        while any(schedule.next_due_ns() is not None for _, schedule in self._schedules()):
            if self._clock_ns() >= until_ns:
                break
            time.sleep(min(self._wait_s(), STOP_LIMIT_S))
            self._turn()
        if self._missed_away.total() > len(self._missed_away):
            counts = self._away_counts()
            detail = (
                f"missed while {self.name} was disconnected: "
                f"{counted(self._missed_away.total(), 'edge')}"
            )
            severity = Severity.ALARM if counts["may_have_passed"] else Severity.WARNING
            self._record_event(Event("output_missed", severity, detail, counts))
        self._sum_up()

    def _end(self) -> None:
        safe = {output: one.safe for output, one in self._lines.items()}
        try:
            if self.there:
                self._device.write(self._levels(safe))
            else:  # it may be back, with its lines where they were
                self._device.open(self._levels(safe))
        except StationError as error:
            log.error("the outputs are not at their fail-safe level: %s", error)
        self._device.close()

    def _wait_s(self) -> float:
        """Return how long nothing will be due."""
        now_ns = self._clock_ns()
        due = [now_ns + int(IDLE_S * 1e9)]
        for one in self._lines.values():
            due_ns = one.schedule.next_due_ns() if one.schedule else None
            if due_ns is not None:
                due.append(due_ns)
        if not self.there:
            due.append(self._retry_ns)
        elif self._device.refresh_s is not None:
            due.append(self._written_ns + int(self._device.refresh_s * 1e9))
        return max(0.0, (min(due) - now_ns) / 1e9)

    def _apply(self, message: Message) -> None:
        match message:
            case StateLevel(output, active):
                if self._active[output] is not active:
                    self._active[output] = active
                    self._write({output: active})
            case Exposure():
                for output, schedule in self._schedules():
                    self._report_missed(output, schedule.exposed(message))
            case Outcome():
                for output, schedule in self._schedules():
                    self._report_missed(output, schedule.decided(message))
            case Count():
                for _, schedule in self._schedules():
                    schedule.moved(message)
            case EncoderLost(at_ns):
                for _, schedule in self._schedules():
                    schedule.encoder_lost(at_ns)

    def _schedules(self) -> list[tuple[str, PartSchedule]]:
        return [(name, one.schedule) for name, one in self._lines.items() if one.schedule]

    def _turn(self) -> None:
        now_ns = self._clock_ns()
        effects: dict[str, list[Edge | Missed]] = {}
        doubted = self._dropped != self._dropped_seen
        for output, schedule in self._schedules():
            effects[output] = [*schedule.distrust(now_ns)] if doubted else []
            effects[output] += schedule.tick(now_ns)
        if doubted:
            self._report_dropped()
        # Edges of several lines at one time are one request; of one line, one after the other.
        for row in zip_longest(*effects.values()):
            self._give(dict(zip(effects, row, strict=True)))
        if not self.there:
            if now_ns >= self._retry_ns:
                self._reopen()
        elif self._refresh_is_due(now_ns):
            self._write_all()
        if now_ns - self._looked_ns >= IDLE_S * 1e9:
            self._looked_ns = now_ns
            self._look()
        if now_ns - self._summed_up_ns >= SUMMARY_S * 1e9:
            self._summed_up_ns = now_ns
            self._sum_up()

    def _refresh_is_due(self, now_ns: int) -> bool:
        refresh_s = self._device.refresh_s
        return refresh_s is not None and now_ns - self._written_ns >= refresh_s * 1e9

    def _give(self, effects: Mapping[str, Edge | Missed | None]) -> None:
        edges = {name: one for name, one in effects.items() if isinstance(one, Edge)}
        for name, edge in edges.items():
            self._active[name] = edge.active
        confirmed_ns = self._write({name: edge.active for name, edge in edges.items()})
        for name, edge in edges.items():
            self._given(name, edge, confirmed_ns)
        for name, one in effects.items():
            if isinstance(one, Missed):
                self._report_missed(name, [one])

    def _given(self, output: str, edge: Edge, confirmed_ns: int | None) -> None:
        late_ns = (confirmed_ns or self._clock_ns()) - edge.due_ns
        schedule = self._lines[output].schedule
        assert schedule is not None
        late = confirmed_ns is None or late_ns > self._tolerance_ns
        if late and (edge.opens or self._may_stand_open(output, confirmed_ns)):
            cause = AWAY if confirmed_ns is None else "the edge came late"
            # A line that stays where an OK had put it lets the next part pass, too.
            passes = schedule.opens_on_ok is not edge.opens
            missed = Missed(late_ns=late_ns, passes=passes, cause=cause, outcome=edge.outcome)
            self._report_missed(output, [missed])
        if confirmed_ns is None:
            return
        status = self.status[output]
        status.last_edge_utc_ns = self._utc_ns()
        if not edge.opens:
            return
        status.edges += 1
        self.lateness[output].add(late_ns)
        outcome = edge.outcome
        if outcome is not None:
            self.from_decision[output].add(confirmed_ns - outcome.decided_ns)
        if self._record_edges:
            self._record_event(_edge_event(output, edge, confirmed_ns))

    def _may_stand_open(self, output: str, confirmed_ns: int | None) -> bool:
        """Tell whether a line that was to go back to its idle level did not, or went late."""
        return confirmed_ns is not None or self._possible[output] != {self._active[output]}

    def _write(self, active: Mapping[str, bool]) -> int | None:
        """Switch outputs; return when the device had confirmed it, None where it is away."""
        if not active or not self.there:
            return None
        try:
            self._device.write(self._levels(active))
        except StationError as error:  # it refuses what it took before: it is another one
            for output, level in active.items():
                self._possible[output].add(level)
            self._lost(error)
            return None
        for output, level in active.items():
            self.status[output].active = level
            self._possible[output] = {level}
        return self._clock_ns()

    def _write_all(self) -> None:
        if self._write(self._active) is not None:
            self._written_ns = self._clock_ns()

    def _reopen(self) -> None:
        try:
            self._device.open(self._levels(self._active))
        except StationError as error:
            self._retry_ns = self._clock_ns() + int(RETRY_S * 1e9)
            if not isinstance(error, OutputDeviceAway) or error.asked:
                for output, level in self._active.items():
                    self._possible[output].add(level)
        else:
            counts = self._away_counts()
            self._missed_away.clear()
            self._is_there()
            detail = f"the outputs of {self.name} are connected again"
            self._record_event(Event("output_back", Severity.INFO, detail, counts))

    def _is_there(self) -> None:
        self.there = True
        self._written_ns = self._clock_ns()
        for output, level in self._active.items():
            self.status[output].active = level
            self._possible[output] = {level}
        self._health.set(f"output_{self.name}_away", False)
        self._look()

    def _lost(self, error: StationError) -> None:
        self.there = False
        self._retry_ns = self._clock_ns() + int(RETRY_S * 1e9)
        for status in self.status.values():
            status.active = None
        if isinstance(error, OutputDeviceClosed):
            log.info("%s", error)
            return
        log.error("%s", error)
        self._health.set(f"output_{self.name}_away", True, str(error))
        if self._may_report("output_away"):
            self._record_event(Event("output_away", Severity.ALARM, str(error)))
        self._look()

    def _levels(self, active: Mapping[str, bool]) -> dict[Line, bool]:
        lines = self._lines
        return {lines[name].line: level ^ lines[name].inverted for name, level in active.items()}

    def _report_missed(self, output: str, missed: Sequence[Missed]) -> None:
        for one in missed:
            self.status[output].missed += 1
            if self._is_counted(one):
                pass
            elif self._may_report("output_missed"):
                left_out = self._unreported.pop("output_missed", 0)
                self._record_event(_missed_event(output, one, left_out))
            self._on_missed()

    def _is_counted(self, missed: Missed) -> bool:
        """Tell whether a miss is counted alone: being away is a state, and no event for each part.

        The first one has its event, and the first with which a part may have passed.
        """
        if missed.cause != AWAY:
            return False
        self._missed_away[missed.passes] += 1
        return self._missed_away[missed.passes] > 1

    def _away_counts(self) -> dict[str, Datum]:
        missed = self._missed_away
        return {"missed": missed.total(), "may_have_passed": missed[True]}

    def _report_dropped(self) -> None:
        count, self._dropped_seen = self._dropped - self._dropped_seen, self._dropped
        self._on_missed()
        if self._may_report("output_missed"):
            detail = (
                f"dropped because the queue was full: {counted(count, 'message')} to the outputs "
                f"of {self.name}; the waiting parts are rejected. Lower "
                "outputs.module.timeout_ms, or slow the line down."
            )
            self._record_event(Event("output_missed", Severity.ALARM, detail, {"count": count}))

    def _may_report(self, kind: str) -> bool:
        if self._events.try_consume(self._clock_ns()):
            return True
        self._unreported[kind] += 1
        return False

    def _sum_up(self) -> None:
        """Record how late edges were, where there were any since the last time."""
        edges = sum(status.edges for status in self.status.values())
        if edges == self._edges_summed_up:
            return
        self._edges_summed_up = edges
        for output, status in self.status.items():
            if status.edges:
                found = self.lateness[output].quantiles()
                decided = self.from_decision[output].quantiles()
                self._record_event(
                    Event(
                        "output_edges",
                        Severity.INFO,
                        f"{output}: {counted(status.edges, 'edge')} so far, {status.missed} "
                        "missed, "
                        f"confirmed {found.p99_ms:.1f} ms after they were due at most in 99 of 100",
                        {
                            "output": output,
                            "edges": status.edges,
                            "missed": status.missed,
                            "late_p50_ms": found.p50_ms,
                            "late_p99_ms": found.p99_ms,
                            "late_max_ms": found.max_ms,
                            "decision_to_edge_p50_ms": decided.p50_ms,
                            "decision_to_edge_p99_ms": decided.p99_ms,
                            "decision_to_edge_max_ms": decided.max_ms,
                        },
                    )
                )


def _edge_event(output: str, edge: Edge, confirmed_ns: int) -> Event:
    outcome = edge.outcome
    decided_ms = None if outcome is None else (confirmed_ns - outcome.decided_ns) / 1e6
    return Event(
        "output_edge",
        Severity.INFO,
        f"{output} switched",
        {
            "output": output,
            "active": edge.active,
            "verdict_id": outcome.verdict_id if outcome else None,
            "late_ms": (confirmed_ns - edge.due_ns) / 1e6,
            "decision_to_edge_ms": decided_ms,
        },
    )


def _missed_event(output: str, missed: Missed, left_out: int) -> Event:
    outcome = missed.outcome
    what = (
        "a part that is not OK may have passed"
        if missed.passes
        else "a part that is OK may be rejected"
    )
    more_time = f"Give it more time (outputs.{output}.delay_ms or window_ms), or a faster device"
    todo = "Bring it back" if missed.cause == AWAY else more_time
    return Event(
        "output_missed",
        Severity.ALARM if missed.passes else Severity.WARNING,
        f"{output}: {missed.cause}; {what}. {todo}.",
        {
            "output": output,
            "verdict_id": outcome.verdict_id if outcome else None,
            "late_ms": missed.late_ns / 1e6,
            "passes": missed.passes,
            "not_reported_before": left_out,
        },
    )
