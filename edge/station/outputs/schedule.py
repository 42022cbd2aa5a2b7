"""When a line switches for parts: a pure state machine, from images and verdicts to edges.

A part has its turn at a time: ``delay_ns`` after its image, or, without a delay, once its verdict
is on record, at the latest ``window_ns`` after its image. What the line does then follows from
whether there is an OK by then. Every turn ends what the turn of the part before began, so that no
part passes on the OK of another one. Verdicts may come in another order than parts (an overrun is
an ERROR at once): an OK counts only after all parts before it, and before all parts behind it.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

# Of the camera's monotonic time of arrival and its counter.
PartKey = tuple[int, int]

# Parts that may wait for their turn, and that had it without a verdict.
MAX_WAITING = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRule:
    """What a line does for parts.

    Attributes:
        opens_on_ok: it leaves its idle level for an OK, and for nothing else; False: for whatever
            has no OK by its turn.
        idle: whether it is active between parts.
        delay_ns: from the image to the turn; None: the turn is when the verdict is on record.
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


@dataclass(slots=True)
class _Waiting:
    """A part that waits for its turn."""

    exposed_ns: int
    turn_ns: int
    outcome: Outcome | None = None


class PartSchedule:
    """The schedule of one line; every call takes the monotonic time, and nothing else happens.

    Attributes:
        active: the level that the line is to have.
    """

    def __init__(self, rule: PartRule) -> None:
        self.active = rule.idle
        self._rule = rule
        self._waiting: OrderedDict[PartKey, _Waiting] = OrderedDict()
        self._over: OrderedDict[PartKey, int] = OrderedDict()  # key → turn it had without verdict
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
        turned_ns = self._over.pop(outcome.key, None)
        if turned_ns is not None:
            return self._too_late(outcome, turned_ns)
        missed: list[Missed] = []
        if outcome.key not in self._waiting:  # it has no image, or none that was complete
            passed = self._passed(outcome)
            if passed is not None:
                return [passed]
            missed = self._wait(outcome.key, outcome.exposed_ns)
        one = self._waiting.get(outcome.key)
        if one is not None:
            one.outcome = outcome
            if self._rule.delay_ns is None:
                one.turn_ns = min(one.turn_ns, outcome.outcome_ns)
        return missed

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
        times = [one.turn_ns for one in self._waiting.values()]
        if self._ends_ns is not None:
            times.append(self._ends_ns)
        return min(times, default=None)

    def _wait(self, key: PartKey, exposed_ns: int) -> list[Missed]:
        rule = self._rule
        delay_ns = rule.window_ns if rule.delay_ns is None else rule.delay_ns
        if key in self._waiting:
            return []
        self._waiting[key] = _Waiting(exposed_ns, exposed_ns + delay_ns)
        if len(self._waiting) <= MAX_WAITING:
            return []
        oldest_key, oldest = self._waiting.popitem(last=False)
        self._remember_over(oldest_key, oldest.turn_ns)
        if self._rule.opens_on_ok and self._ends_ns is not None:
            self._ends_ns = min(self._ends_ns, oldest.exposed_ns)  # it has no turn to end it
        cause = f"{MAX_WAITING} parts wait for their turn"
        return [self._missed(0, cause, oldest.outcome)]

    def _turn(self, key: PartKey, one: _Waiting, now_ns: int) -> Iterator[Edge | Missed]:
        rule, outcome = self._rule, one.outcome
        del self._waiting[key]
        if outcome is None:
            self._remember_over(key, one.turn_ns)
        ok = outcome is not None and outcome.ok
        disorder = self._disorder(one) if ok else None
        late_ns = now_ns - one.turn_ns
        if (ok and disorder is None) is not rule.opens_on_ok:
            yield from self._end_before(one)
        elif late_ns > rule.tolerance_ns:
            yield from self._end_before(one)
            yield self._missed(late_ns, "its turn was over", outcome)
        else:
            self.active = not rule.idle
            self._ends_ns = now_ns + rule.hold_ns
            self._opener = one
            yield Edge(active=self.active, due_ns=one.turn_ns, opens=True, outcome=outcome)
        if disorder is not None:
            yield Missed(late_ns=late_ns, passes=False, cause=disorder, outcome=outcome)
        self._latest_ns = max(self._latest_ns or one.exposed_ns, one.exposed_ns)

    def _disorder(self, one: _Waiting) -> str | None:
        """Return why an OK must not count: another part would pass on it; None where it may."""
        if self._latest_ns is not None and one.exposed_ns < self._latest_ns:
            return "a part behind it had its turn before it, and it was rejected"
        if any(other.exposed_ns < one.exposed_ns for other in self._waiting.values()):
            return "a part before it had no verdict yet, and it was rejected"
        return None

    def _end_before(self, one: _Waiting) -> Iterator[Edge | Missed]:
        """End what the turn of another part began; a pulse that rejects a later one stays."""
        opener = self._opener
        later = opener is not None and opener.exposed_ns > one.exposed_ns
        if later and not self._rule.opens_on_ok:
            return
        yield from self._close(one.turn_ns)
        if later and opener is not None:
            cause = "a part before it had its turn after it, and it may be rejected"
            yield self._missed(0, cause, opener.outcome)

    def _remember_over(self, key: PartKey, turn_ns: int) -> None:
        self._over[key] = turn_ns
        if len(self._over) > MAX_WAITING:
            self._over.popitem(last=False)

    def _close(self, due_ns: int) -> list[Edge]:
        """Go back to the idle level where the line is not there."""
        self._ends_ns = self._opener = None
        if self.active is self._rule.idle:
            return []
        self.active = self._rule.idle
        return [Edge(active=self.active, due_ns=due_ns, opens=False)]

    def _too_late(self, outcome: Outcome, turned_ns: int) -> list[Missed]:
        if not outcome.ok:
            return []  # it was treated as what it is
        late_ns = outcome.outcome_ns - turned_ns
        cause = "its OK was on record too late, and it was rejected"
        return [Missed(late_ns=late_ns, passes=False, cause=cause, outcome=outcome)]

    def _passed(self, outcome: Outcome) -> Missed | None:
        """Return what is missed of a part whose time was over before that of one behind it.

        Then the line is what the later part needs; without a delay no such time is known.
        """
        rule, latest_ns = self._rule, self._latest_ns
        if rule.delay_ns is None or latest_ns is None or outcome.exposed_ns >= latest_ns:
            return None
        late_ns = outcome.outcome_ns - outcome.exposed_ns - rule.delay_ns
        if late_ns <= rule.tolerance_ns:
            return None
        cause = "its verdict came after its turn"
        return Missed(late_ns=late_ns, passes=not outcome.ok, cause=cause, outcome=outcome)

    def _missed(self, late_ns: int, cause: str, outcome: Outcome | None) -> Missed:
        passes = not self._rule.opens_on_ok
        return Missed(late_ns=late_ns, passes=passes, cause=cause, outcome=outcome)
