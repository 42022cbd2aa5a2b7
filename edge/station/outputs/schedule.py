"""When a line switches for parts: a pure state machine, from images and verdicts to edges.

A part has its turn at a time: ``delay_ns`` after its image, or, without a delay, once its verdict
is on record, at the latest ``window_ns`` after its image; with ``delay_counts``, once the conveyor
has moved on by so much since its image. What the line does then follows from
whether there is an OK by then. Every turn ends what the turn of the part before began, so that no
part passes on the OK of another one. Verdicts may come in another order than parts (an overrun is
an ERROR at once): an OK counts only after all parts before it, and before all parts behind it.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from edge.station.outputs.conveyor import Conveyor, Count

# Of the camera's monotonic time of arrival and its counter.
PartKey = tuple[int, int]

# Parts that may wait for their turn, and that had it without a verdict.
MAX_WAITING = 512
# Of a part that the conveyor has not brought there yet.
_NOT_YET_NS = 2**63 - 1
_LOST = "the encoder was disconnected, and the part's position is not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRule:
    """What a line does for parts.

    Attributes:
        opens_on_ok: it leaves its idle level for an OK, and for nothing else; False: for whatever
            has no OK by its turn.
        idle: whether it is active between parts.
        delay_ns: from the image to the turn; None: the turn is when the verdict is on record.
        delay_counts: in place of ``delay_ns``: of the encoder, from the image to the turn.
        ahead_ns: see ``Conveyor``.
        window_ns: without a delay, from the image to the latest turn.
        hold_ns: for how long it leaves its idle level at most.
        tolerance_ns: a turn that is noticed later is missed.
    """

    opens_on_ok: bool
    idle: bool
    delay_ns: int | None
    window_ns: int
    hold_ns: int
    tolerance_ns: int
    delay_counts: int | None = None
    ahead_ns: int = 0


@dataclass(frozen=True, slots=True)
class Exposure:
    """A part has an image."""

    key: PartKey
    exposed_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A part has its verdict.

    Attributes:
        ok: it is OK, and on record.
        decided_ns, outcome_ns: monotonic times of the decision, and of this.
        verdict_id: of the record; None of a part that has none.
    """

    key: PartKey
    exposed_ns: int
    ok: bool
    decided_ns: int
    outcome_ns: int
    verdict_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A level that the line is to have now.

    Attributes:
        active: the level.
        due_ns: when it was to have it.
        opens: it leaves the idle level, for a part.
        outcome: of that part; None where none is known, and for the end of a pulse.
    """

    active: bool
    due_ns: int
    opens: bool
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A part for which the line could not do in time what it should.

    Attributes:
        late_ns: after its turn.
        passes: the part is not OK, or nobody knows, and nothing stopped it; False of one that was
            OK and was rejected.
        cause: in words.
    """

    late_ns: int
    passes: bool
    cause: str
    outcome: Outcome | None = None


@dataclass(slots=True, kw_only=True)
class _Waiting:
    """A part that waits for its turn.

    Attributes:
        target: count of the conveyor at its turn; None without counts, and while it is not known.
        lost: nobody knows when its turn is.
    """

    exposed_ns: int
    turn_ns: int
    outcome: Outcome | None = None
    target: float | None = None
    lost: bool = False


class PartSchedule:
    """The schedule of one line; every call takes the monotonic time, and nothing else happens.

    Attributes:
        active: the level that the line is to have.
    """

    def __init__(self, rule: PartRule) -> None:
        self.active = rule.idle
        self._rule = rule
        self._waiting: OrderedDict[PartKey, _Waiting] = OrderedDict()
        self._conveyor = Conveyor(rule.ahead_ns)
        # Those that had their turn without a verdict.
        self._over: OrderedDict[PartKey, _Waiting] = OrderedDict()
        self._ends_ns: int | None = None
        self._opener: _Waiting | None = None  # for which the line left its idle level
        self._latest_ns: int | None = None  # exposure of the latest part that had its turn

    @property
    def opens_on_ok(self) -> bool:
        """Whether it leaves its idle level for an OK; else for whatever has none."""
        return self._rule.opens_on_ok

    def exposed(self, exposure: Exposure) -> list[Missed]:
        """Note a part that will have its turn."""
        return self._wait(exposure.key, exposure.exposed_ns)

    def decided(self, outcome: Outcome) -> list[Missed]:
        """Note what a part is; one whose turn is over stays what it was then."""
        over = self._over.pop(outcome.key, None)
        if over is not None:
            return self._too_late(outcome, over)
        missed: list[Missed] = []
        if outcome.key not in self._waiting:  # it has no image, or none that was complete
            passed = self._passed(outcome)
            if passed is not None:
                return [passed]
            missed = self._wait(outcome.key, outcome.exposed_ns)
        one = self._waiting.get(outcome.key)
        if one is not None:
            one.outcome = outcome
            if self._rule.delay_ns is None and self._rule.delay_counts is None:
                one.turn_ns = min(one.turn_ns, outcome.outcome_ns)
        return missed

    def moved(self, count: Count) -> None:
        """Note where the conveyor is."""
        if self._rule.delay_counts is None:
            return
        if not self._conveyor.moved(count):
            self._lose_all(count.at_ns)
        for one in self._waiting.values():
            self._place(one)

    def encoder_lost(self, now_ns: int) -> None:
        """Let every part that waits have its turn now, as one that is not OK."""
        if self._rule.delay_counts is not None:
            self._conveyor.lost()
            self._lose_all(now_ns)

    def distrust(self, now_ns: int) -> list[Edge]:
        """Go back to the idle level, and let no verdict so far count: messages were lost."""
        for one in self._waiting.values():
            one.outcome = None
        return self._close(now_ns)

    def tick(self, now_ns: int) -> Iterator[Edge | Missed]:
        """Yield what is due by now, in order."""
        while True:
            turn = min(self._waiting.items(), key=lambda one: one[1].turn_ns, default=None)
            turn_ns = turn[1].turn_ns if turn else None
            ends_ns = self._ends_ns
            if ends_ns is not None and ends_ns <= now_ns and (turn_ns is None or ends_ns < turn_ns):
                yield from self._close(ends_ns)
            elif turn is not None and turn[1].turn_ns <= now_ns:
                yield from self._turn(*turn, now_ns)
            else:
                return

    def next_due_ns(self) -> int | None:
        """Return when ``tick`` has something to do; None for never."""
        times = [one.turn_ns for one in self._waiting.values() if one.turn_ns != _NOT_YET_NS]
        if self._ends_ns is not None:
            times.append(self._ends_ns)
        return min(times, default=None)

    def _wait(self, key: PartKey, exposed_ns: int) -> list[Missed]:
        if key in self._waiting:
            return []
        self._waiting[key] = one = self._waiting_one(exposed_ns)
        if self._rule.delay_counts is not None:
            self._place(one)
        if len(self._waiting) <= MAX_WAITING:
            return []
        oldest_key, oldest = self._waiting.popitem(last=False)
        self._remember_over(oldest_key, oldest)
        if self._rule.opens_on_ok and self._ends_ns is not None:
            self._ends_ns = min(self._ends_ns, oldest.exposed_ns)  # it has no turn to end it
        cause = f"{MAX_WAITING} parts are already waiting"
        return [self._missed(0, cause, oldest.outcome)]

    def _waiting_one(self, exposed_ns: int) -> _Waiting:
        rule = self._rule
        if rule.delay_counts is not None:
            return _Waiting(exposed_ns=exposed_ns, turn_ns=_NOT_YET_NS)
        delay_ns = rule.window_ns if rule.delay_ns is None else rule.delay_ns
        return _Waiting(exposed_ns=exposed_ns, turn_ns=exposed_ns + delay_ns)

    def _place(self, one: _Waiting) -> None:
        """Find out when a part has its turn, by where the conveyor is."""
        if one.lost:
            return
        if one.target is None:
            if not self._conveyor.knows(one.exposed_ns):
                self._lose(one, one.exposed_ns)
                return
            count = self._conveyor.count_at(one.exposed_ns)
            if count is None or self._rule.delay_counts is None:
                return
            one.target = count + self._rule.delay_counts
        due_ns = self._conveyor.due_ns(one.target)
        one.turn_ns = _NOT_YET_NS if due_ns is None else due_ns

    def _lose_all(self, now_ns: int) -> None:
        for one in self._waiting.values():
            self._lose(one, now_ns)

    def _lose(self, one: _Waiting, now_ns: int) -> None:
        if not one.lost:
            one.lost, one.turn_ns = True, now_ns

    def _turn(self, key: PartKey, one: _Waiting, now_ns: int) -> Iterator[Edge | Missed]:
        rule, outcome = self._rule, one.outcome
        del self._waiting[key]
        if outcome is None and (rule.opens_on_ok or not one.lost):
            self._remember_over(key, one)  # an OK that comes later was rejected
        ok = outcome is not None and outcome.ok
        disorder = self._disorder(one) if ok else None
        late_ns = now_ns - one.turn_ns
        if one.lost:
            yield from self._end_before(one)
            if ok is rule.opens_on_ok:
                yield self._missed(late_ns, _LOST, outcome)
        elif (ok and disorder is None) is not rule.opens_on_ok:
            yield from self._end_before(one)
        elif late_ns > rule.tolerance_ns:
            yield from self._end_before(one)
            yield self._missed(late_ns, "its time had passed", outcome)
        else:
            self.active = not rule.idle
            self._ends_ns = now_ns + rule.hold_ns
            self._opener = one
            yield Edge(active=self.active, due_ns=one.turn_ns, opens=True, outcome=outcome)
        if disorder is not None and not one.lost:
            yield Missed(late_ns=late_ns, passes=False, cause=disorder, outcome=outcome)
        self._latest_ns = max(self._latest_ns or one.exposed_ns, one.exposed_ns)

    def _disorder(self, one: _Waiting) -> str | None:
        """Return why an OK must not count: another part would pass on it; None where it may."""
        if self._latest_ns is not None and one.exposed_ns < self._latest_ns:
            return "a later part reached the output before it, and it was rejected"
        if any(other.exposed_ns < one.exposed_ns for other in self._waiting.values()):
            return "an earlier part had no verdict yet, and it was rejected"
        return None

    def _end_before(self, one: _Waiting) -> Iterator[Edge | Missed]:
        """End what the turn of another part began; a pulse that rejects a later one stays."""
        opener = self._opener
        later = opener is not None and opener.exposed_ns > one.exposed_ns
        if later and not self._rule.opens_on_ok:
            return
        yield from self._close(one.turn_ns)
        if later and opener is not None:
            cause = "an earlier part reached the output after it, and it may be rejected"
            yield self._missed(0, cause, opener.outcome)

    def _remember_over(self, key: PartKey, one: _Waiting) -> None:
        self._over[key] = one
        if len(self._over) > MAX_WAITING:
            self._over.popitem(last=False)

    def _close(self, due_ns: int) -> list[Edge]:
        """Go back to the idle level where the line is not there."""
        self._ends_ns = self._opener = None
        if self.active is self._rule.idle:
            return []
        self.active = self._rule.idle
        return [Edge(active=self.active, due_ns=due_ns, opens=False)]

    def _too_late(self, outcome: Outcome, over: _Waiting) -> list[Missed]:
        if not outcome.ok:
            return []  # it was treated as what it is
        late_ns = 0 if over.turn_ns == _NOT_YET_NS else outcome.outcome_ns - over.turn_ns
        cause = _LOST if over.lost else "its OK was recorded too late, and it was rejected"
        return [Missed(late_ns=late_ns, passes=False, cause=cause, outcome=outcome)]

    def _passed(self, outcome: Outcome) -> Missed | None:
        """Return what is missed of a part whose time was over before that of one behind it.

        Then the line is what the later part needs; without a delay no such time is known.
        """
        latest_ns = self._latest_ns
        if latest_ns is None or outcome.exposed_ns >= latest_ns:
            return None
        turn_ns = self._find_turn(outcome.exposed_ns)
        if turn_ns is None or outcome.outcome_ns - turn_ns <= self._rule.tolerance_ns:
            return None
        late_ns = outcome.outcome_ns - turn_ns
        cause = "its verdict came too late"
        return Missed(late_ns=late_ns, passes=not outcome.ok, cause=cause, outcome=outcome)

    def _find_turn(self, exposed_ns: int) -> int | None:
        """Return when a part without an image has, or had, its turn; None where nobody knows."""
        rule = self._rule
        if rule.delay_ns is not None:
            return exposed_ns + rule.delay_ns
        count = self._conveyor.count_at(exposed_ns)
        if rule.delay_counts is None or count is None:
            return None
        return self._conveyor.due_ns(count + rule.delay_counts)

    def _missed(self, late_ns: int, cause: str, outcome: Outcome | None) -> Missed:
        passes = not self._rule.opens_on_ok
        return Missed(late_ns=late_ns, passes=passes, cause=cause, outcome=outcome)
