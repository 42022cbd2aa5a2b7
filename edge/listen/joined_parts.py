"""edge-listen's parts: takes arrived verdicts, joins them, keeps and publishes what they make."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from edge.contract.encoding import new_id, to_json, utc_text
from edge.contract.part import JoinedPart, PartReason, View, part_payload
from edge.inspection.decision import Result
from edge.listen.part_join import MAX_DECIDED_KNOWN, Added, JoinRules, PartJoin
from edge.listen.part_settings import PartSettings
from edge.listen.part_store import PartStore
from edge.listen.records import NotStoredNow

log = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Parts on their way to the broker at once.
MAX_IN_FLIGHT = 20
MAX_PART_ID_LENGTH = 100
REFUSED_PAUSE_NS = 30_000_000_000
# As the rest of the listener looks around, at the latest.
MAX_WAIT_S = 0.2


class ArrivedVerdict(Protocol):
    """A verdict as the listener has it."""

    @property
    def station(self) -> str: ...
    @property
    def content(self) -> dict[str, Any]: ...


class Publishes(Protocol):
    """What of an MQTT client is needed here."""

    def publish(self, topic: str, payload: str, qos: int) -> Any: ...


class Parts:
    """Joins views to parts; each is on the disk before the broker forgets its verdicts."""

    def __init__(self, settings: PartSettings, store: PartStore, now_ns: int, utc_ns: int) -> None:
        """Go on where an earlier process ended.

        Args:
            settings: which stations, and in what time.
            store: what was kept.
            now_ns: monotonic.
            utc_ns: the same moment by this PC's clock.
        """
        self._settings = settings
        self._store = store
        self._join = PartJoin(
            JoinRules(
                settings.views,
                round(settings.within_ms * 1e6),
                round(settings.replayed_within_s * 1e9),
                settings.open_parts,
            )
        )
        self._in_flight: dict[int, int] = {}
        self._unmarked: list[int] = []
        self._sent_row = 0
        self._pause_until_ns = 0
        self._nameless: set[str] = set()
        for payload in store.newest(MAX_DECIDED_KNOWN):
            self._join.remember(_part(payload))
        with store.writing():
            for part_id, kept in store.open_views():
                view = _view(kept)
                if view.station not in settings.views:
                    store.remove_view(part_id, view.id)
                    log.warning(
                        "%s: verdict %s of %s is not joined, because %s is no longer a view",
                        *(part_id, view.id, settings.name, view.station),
                    )
                    continue
                self._keep(self._join.add(part_id, view, now_ns, utc_ns)[1])
        self._join.resume(now_ns)

    def add(self, arrived: Sequence[ArrivedVerdict], now_ns: int, utc_ns: int) -> None:
        """Join verdicts; on the disk when this returns.

        Raises:
            NotStoredNow: not at present; none of them is joined.
            OutputNotWritable: the disk refuses.
        """
        views = [one for one in arrived if one.station in self._settings.views]
        if not views:
            return
        with self._store.writing():
            for one in views:
                try:
                    part_id, view = _arrived_view(one)
                except (KeyError, TypeError, ValueError) as error:
                    log.warning("%s: a verdict is not joined (%s)", one.station, error)
                    continue
                if part_id is None:
                    self._warn_nameless(one.station)
                elif self._store.add_verdict(view.id):
                    self._add_one(part_id, view, now_ns, utc_ns)

    def _add_one(self, part_id: str, view: View, now_ns: int, utc_ns: int) -> None:
        added, done = self._join.add(part_id, view, now_ns, utc_ns)
        if added is Added.JOINED:
            self._store.add_view(part_id, _kept(view))
        elif added is Added.LATE:
            log.warning(
                "%s: the verdict %s of %s came too late: the part was decided without it as ERROR",
                *(part_id, view.result.value, view.station),
            )
        self._keep(done)

    def tick(self, now_ns: int, utc_ns: int) -> None:
        """Decide what can wait no longer; to be called while the broker is connected.

        Raises:
            NotStoredNow: not at present; nothing is decided.
            OutputNotWritable: the disk refuses.
        """
        due_ns = self._join.next_due_ns()
        if due_ns is not None and due_ns <= now_ns:
            with self._store.writing():
                self._keep(self._join.expired(now_ns, utc_ns))

    def wait_s(self, now_ns: int) -> float:
        """Return how long there is nothing to do, at most 0.2 s."""
        due_ns = self._join.next_due_ns()
        if due_ns is None:
            return MAX_WAIT_S
        return min(max(due_ns - now_ns, 0) / 1e9, MAX_WAIT_S)

    def connected(self, now_ns: int) -> None:
        """Begin to publish on a new connection; parts that wait get the time of replayed ones."""
        self._in_flight.clear()
        self._sent_row = 0
        self._pause_until_ns = 0
        self._join.resume(now_ns)

    def publish(self, client: Publishes, now_ns: int) -> None:
        """Publish decided parts that the broker does not have, a few at a time.

        Raises:
            NotStoredNow: what it has cannot be marked at present.
            OutputNotWritable: the disk refuses.
        """
        while self._unmarked:
            self._store.mark_published(self._unmarked[-1])
            self._unmarked.pop()
        room = MAX_IN_FLIGHT - len(self._in_flight)
        if room <= 0 or now_ns < self._pause_until_ns:
            return
        for row, payload in self._store.unpublished(self._sent_row, room):
            self._in_flight[client.publish(self._settings.topic, payload, 1).mid] = row
            self._sent_row = row

    def on_published(self, mid: int, refused: str | None, now_ns: int) -> None:
        """Take the broker's answer to a message.

        Args:
            mid: of the message.
            refused: why the broker does not take it; None where it does.
            now_ns: monotonic.
        """
        row = self._in_flight.pop(mid, None)
        if row is None:
            return
        if refused is None:
            try:
                self._store.mark_published(row)
            except NotStoredNow:
                self._unmarked.append(row)
            return
        log.error(
            "the broker refuses a part on %s. %s Trying again in %d s.",
            *(self._settings.topic, refused, REFUSED_PAUSE_NS // 1_000_000_000),
        )
        self._sent_row = min(self._sent_row, row - 1)
        self._pause_until_ns = now_ns + REFUSED_PAUSE_NS

    def close(self) -> None:
        self._store.close()

    def _keep(self, parts: Sequence[JoinedPart]) -> None:
        for part in parts:
            for view in part.views:
                self._store.remove_view(part.part_id, view.id)
            payload = part_payload(
                part,
                self._settings.name,
                new_id(part.decided_utc_ns),
                self._settings.within_ms,
            )
            self._store.add_part(payload, to_json(payload))

    def _warn_nameless(self, station: str) -> None:
        if station not in self._nameless:
            self._nameless.add(station)
            log.warning(
                "%s: its verdicts without a part_id cannot be joined. Send a part_id with "
                "the trigger, or let the station read a code.",
                station,
            )


def _arrived_view(one: ArrivedVerdict) -> tuple[str | None, View]:
    content = one.content
    part_id = content["part_id"]
    if not (part_id is None or isinstance(part_id, str)) or len(part_id or "") > MAX_PART_ID_LENGTH:
        raise ValueError(f"part_id is not a text of at most {MAX_PART_ID_LENGTH} characters")
    if not isinstance(content["id"], str):
        raise ValueError("id is no text")
    decided_utc_ns = _utc_ns(content["time"]["decided_utc"])
    utc_text(decided_utc_ns)  # as it is kept: not every year of another zone is one of UTC
    view = View(
        station=one.station,
        id=content["id"],
        journal=content["journal"],
        seq=content["seq"],
        result=Result(content["result"]),
        reason=str(content["reason"]),
        decided_utc_ns=decided_utc_ns,
        in_time=content["deadline_met"] is not False,
        simulated=content["simulated"] is not False,
        replayed=content["replayed"],
    )
    return part_id, view


def _kept(view: View) -> dict[str, Any]:
    return {
        "station": view.station,
        "id": view.id,
        "journal": view.journal,
        "seq": view.seq,
        "result": view.result.value,
        "reason": view.reason,
        "decided_utc": utc_text(view.decided_utc_ns),
        "in_time": view.in_time,
        "simulated": view.simulated,
        "replayed": view.replayed,
    }


def _view(kept: dict[str, Any]) -> View:
    fields = {name: value for name, value in kept.items() if name != "decided_utc"}
    return View(
        **{**fields, "result": Result(kept["result"])},
        decided_utc_ns=_utc_ns(kept["decided_utc"]),
    )


def _part(payload: dict[str, Any]) -> JoinedPart:
    return JoinedPart(
        part_id=payload["part_id"],
        result=Result(payload["result"]),
        reason=PartReason(payload["reason"]),
        views=tuple(_view(view) for view in payload["views"]),
        missing=tuple(payload["missing"]),
        detail=payload["detail"] or "",
        simulated=payload["simulated"],
        replayed=payload["replayed"],
        decided_utc_ns=_utc_ns(payload["decided_utc"]),
    )


def _utc_ns(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone")
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
