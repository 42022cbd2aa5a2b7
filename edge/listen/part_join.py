"""Joins the verdicts of several stations by part id; pure, time is passed in.

A part id may come again (rework, a repaired part): views belong together where the stations'
clocks place them within ``within_ms`` of the first one that came.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from edge.contract.part import JoinedPart, View, judge_views
from edge.contract.verdict import ACT_WITHIN_NS

# Of so many decided parts it is known what was missing.
MAX_DECIDED_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class JoinRules:
    """Which views make a part, and how long it waits for them.

    Attributes:
        views: names of the stations.
        within_ns: from the first view's arrival; also how far decisions may lie apart.
        replayed_within_ns: the same from its arrival where a view was replayed, or the
            connection was lost meanwhile.
        open_parts: so many wait at most.
    """

    views: tuple[str, ...]
    within_ns: int
    replayed_within_ns: int
    open_parts: int


class Added(Enum):
    """What became of a view."""

    JOINED = "joined"
    LATE = "late"
    KNOWN = "known"


@dataclass(slots=True)
class _Waiting:
    views: list[View]
    arrived_ns: int
    due_ns: int

    def has(self, station: str) -> bool:
        return any(view.station == station for view in self.views)


@dataclass(frozen=True, slots=True)
class _Decided:
    decided_utc_ns: int
    missing: tuple[str, ...]


@dataclass(slots=True)
class PartJoin:
    """The parts that wait for a view; bounded."""

    rules: JoinRules
    _waiting: OrderedDict[str, _Waiting] = field(default_factory=OrderedDict)
    _decided: OrderedDict[str, _Decided] = field(default_factory=OrderedDict)

    def add(
        self, part_id: str, view: View, now_ns: int, utc_ns: int
    ) -> tuple[Added, list[JoinedPart]]:
        """Take a view of one of the named stations; return what became of it, and of parts.

        Args:
            part_id: as the verdict names it.
            view: what the verdict says.
            now_ns: monotonic.
            utc_ns: the same moment by this PC's clock.
        """
        done = self.expired(now_ns, utc_ns)
        waiting = self._waiting.get(part_id)
        if waiting is not None and any(one.id == view.id for one in waiting.views):
            return Added.KNOWN, done
        if waiting is None or not self._together(waiting.views[0].decided_utc_ns, view):
            if self._was_missing(part_id, view):
                return Added.LATE, done
            if waiting is not None and view.decided_utc_ns < waiting.views[0].decided_utc_ns:
                # Of an earlier time of this part, of which nothing else has come or will.
                alone = _Waiting([view], now_ns, now_ns)
                return Added.JOINED, [*done, self._decide(part_id, alone, utc_ns)]
            if waiting is not None:
                done.append(self._close(part_id, utc_ns, other=view))
            waiting = _Waiting([], now_ns, now_ns)
            if len(self._waiting) >= self.rules.open_parts:
                done.append(self._close(next(iter(self._waiting)), utc_ns, overflow=True))
            self._waiting[part_id] = waiting
        elif sum(one.station == view.station for one in waiting.views) > 1:
            return Added.KNOWN, done  # that it is repeated is known; no third one is kept
        waiting.views.append(view)
        patience_ns = (
            self.rules.replayed_within_ns
            if any(one.replayed for one in waiting.views)
            else self.rules.within_ns
        )
        waiting.due_ns = max(waiting.due_ns, waiting.arrived_ns + patience_ns)
        if all(waiting.has(station) for station in self.rules.views):
            done.append(self._close(part_id, utc_ns))
        return Added.JOINED, done

    def expired(self, now_ns: int, utc_ns: int) -> list[JoinedPart]:
        """Decide the parts whose time is over."""
        late = [one for one, waiting in self._waiting.items() if waiting.due_ns <= now_ns]
        return [self._close(part_id, utc_ns) for part_id in late]

    def resume(self, now_ns: int) -> None:
        """Go on after a pause in which nothing could arrive: what waits at the broker may come."""
        for waiting in self._waiting.values():
            waiting.due_ns = max(waiting.due_ns, now_ns + self.rules.replayed_within_ns)

    def next_due_ns(self) -> int | None:
        """Return when the next part is to be decided; None where none waits."""
        return min((waiting.due_ns for waiting in self._waiting.values()), default=None)

    def remember(self, part: JoinedPart) -> None:
        """Know of a part that was decided, by an earlier process or just now."""
        self._decided[part.part_id] = _Decided(part.views[0].decided_utc_ns, part.missing)
        self._decided.move_to_end(part.part_id)
        while len(self._decided) > MAX_DECIDED_KNOWN:
            self._decided.popitem(last=False)

    @property
    def open_parts(self) -> Sequence[str]:
        """The ids of the parts that wait, oldest first."""
        return tuple(self._waiting)

    def _together(self, decided_utc_ns: int, view: View) -> bool:
        return abs(view.decided_utc_ns - decided_utc_ns) <= self.rules.within_ns

    def _was_missing(self, part_id: str, view: View) -> bool:
        decided = self._decided.get(part_id)
        return (
            decided is not None
            and view.station in decided.missing
            and self._together(decided.decided_utc_ns, view)
        )

    def _close(
        self, part_id: str, utc_ns: int, *, overflow: bool = False, other: View | None = None
    ) -> JoinedPart:
        return self._decide(
            part_id, self._waiting.pop(part_id), utc_ns, overflow=overflow, other=other
        )

    def _decide(
        self,
        part_id: str,
        waiting: _Waiting,
        utc_ns: int,
        *,
        overflow: bool = False,
        other: View | None = None,
    ) -> JoinedPart:
        views = tuple(waiting.views)
        missing = tuple(one for one in self.rules.views if not waiting.has(one))
        result, reason = judge_views(views, missing, overflow)
        newest_ns = max(view.decided_utc_ns for view in views)
        part = JoinedPart(
            part_id=part_id,
            result=result,
            reason=reason,
            views=views,
            missing=missing,
            detail=_detail(views[0], other, overflow=overflow),
            simulated=any(view.simulated for view in views),
            replayed=any(view.replayed for view in views)
            or utc_ns - newest_ns > ACT_WITHIN_NS + self.rules.within_ns,
            decided_utc_ns=utc_ns,
        )
        self.remember(part)
        return part


def _detail(first: View, other: View | None, *, overflow: bool) -> str:
    if overflow:
        return (
            "Too many parts waited for a view. Raise part.open_parts, or find out which "
            "station is late."
        )
    if other is None:
        return ""
    apart_s = (other.decided_utc_ns - first.decided_utc_ns) / 1e9
    return (
        f"{other.station} decided {apart_s:.1f} s after {first.station}, so this is "
        "another pass of this part. If not, compare the clocks of both stations, or "
        "raise part.within_ms."
    )
