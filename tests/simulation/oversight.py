"""The promises, checked whenever something happens that they speak of.

What is true is known from outside of the product: from the statements that reached the disk, from
what the camera really exposed, from what the broker took and what the PLC was shown.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edge.imaging.frame import Frame
from edge.inspection.decision import Result
from edge.station.handshake.part import Part, PartResult, Rejection, Repeated
from tests.simulation.broker import Published
from tests.simulation.camera import Exposure
from tests.simulation.disk import Row
from tests.simulation.scheduler import MILLISECOND, SECOND, Scheduler
from tests.simulation.story import Story

# From a complete frame to its record, where disk and inspector are well, a part.
RECORD_LIMIT_NS = 400 * MILLISECOND
FRESH_NS = 13 * SECOND
CAMERA_LOSS_LIMIT_NS = 2100 * MILLISECOND
CAMERA_BACK_LIMIT_NS = 6 * SECOND


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken."""

    promise: str
    text: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.text}"


@dataclass(slots=True)
class Sent:
    """What the PLC knows of a trigger that it sent.

    Attributes:
        part: number of the thing that stood there.
        void: it must never be accepted, such as one that the broker had kept.
    """

    trigger_id: str
    part_id: str
    part: int
    bad: bool
    recipe: str | None
    void: bool = False


@dataclass(slots=True)
class Life:
    """What one process of the station promised."""

    number: int
    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    recorded: Counter[str] = field(default_factory=Counter)
    accepted_ns: dict[str, int] = field(default_factory=dict)
    exposed: dict[str, tuple[int, int]] = field(default_factory=dict)
    valid: dict[int, tuple[str, int]] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    troubled_ns: int | None = None


class Oversight:
    """Holds the truth, and the first promise that was broken.

    Attributes:
        violation: None while all hold.
        checked: how often each promise was held against what happened.
    """

    def __init__(self, scheduler: Scheduler, story: Story, slots: int, hold_ms: float) -> None:
        self._scheduler = scheduler
        self._story = story
        self._slots = slots
        self._hold_ns = round(hold_ms * MILLISECOND)
        self.violation: Violation | None = None
        self.checked: Counter[str] = Counter()
        self.sent: dict[str, Sent] = {}
        self.shown: dict[str, Exposure] = {}
        self.journals: dict[str, dict[int, bytes]] = {}
        self.events: dict[str, dict[int, bytes]] = {}
        self.committed_ns: dict[tuple[str, int], int] = {}
        self.arrived: dict[str, int] = {}
        self.refused_by_broker: set[tuple[str, int]] = set()
        self.refused_ever = False
        self.passed: set[int] = set()
        self.used: dict[int, str] = {}
        self.chain: dict[str, bytes] = {}
        self.undisturbed_from_ns = 0
        self.life = Life(0)
        self.settings_known: dict[str, float] = {}
        self.lost_rows: set[tuple[str, int]] = set()
        self._states_seen_on: set[int] = set()
        self._sessions: list[str] = []
        self.results: Counter[str] = Counter()

    def broken(self, promise: str, text: str) -> None:
        if self.violation is None:
            self.violation = Violation(promise, text)
            self._story.add(f"BROKEN {promise}: {text}")
            self._scheduler.stopped = True

    def expect(self, promise: str, holds: bool, text: Callable[[], str] | str) -> None:
        self.checked[promise] += 1
        if not holds:
            self.broken(promise, text if isinstance(text, str) else text())

    def disturbed(self, until_ns: int | None = None) -> None:
        """Expect no limit of time of what goes on now."""
        self.undisturbed_from_ns = max(
            self.undisturbed_from_ns, self._scheduler.now_ns if until_ns is None else until_ns
        )

    # The process.

    def begin(self, number: int) -> None:
        self.life = Life(number)
        self.disturbed(self._scheduler.now_ns + SECOND)

    def on_image(self, pixels_sha256: str, exposure: Exposure) -> None:
        """Note what an image of the camera shows."""
        self.shown[pixels_sha256] = exposure
        if len(self.shown) > 4000:
            self.shown.pop(next(iter(self.shown)))

    # The PLC's side: what a port was shown.

    def on_accepted(self, part: Part) -> None:
        life, trigger_id = self.life, part.trigger_id or ""
        sent = self.sent.get(trigger_id)
        self._story.add(f"accepted {trigger_id}")
        self.expect(
            "contract", sent is not None, lambda: f"{trigger_id} was accepted, and never sent"
        )
        if sent is None:
            return
        self.expect(
            "contract",
            not sent.void,
            lambda: f"{trigger_id} was accepted, which must never be carried out",
        )
        life.accepted[trigger_id] += 1
        self.expect(
            "P1",
            life.accepted[trigger_id] == 1,
            lambda: f"{trigger_id} was accepted twice by one process",
        )
        life.accepted_ns[trigger_id] = self._scheduler.now_ns
        troubled_ns = life.troubled_ns
        self.expect(
            "P7",
            troubled_ns is None or self._scheduler.now_ns - troubled_ns < 50 * MILLISECOND,
            lambda: f"{trigger_id} was accepted while the journal could not be written",
        )

    def on_rejected(self, part: Part, rejection: Rejection, recorded: bool) -> None:
        self._story.add(f"refused {part.trigger_id}: {rejection.value}")
        if recorded:
            self.life.refused[part.trigger_id or ""] += 1

    def on_repeated(self, known: Repeated) -> None:
        self._story.add(f"known already: {known.part.trigger_id}, {known.phase.value}")

    def on_exposed(self, part: Part, frame: Frame) -> None:
        if part.trigger_id is not None:
            self.life.exposed[part.trigger_id] = (self._scheduler.now_ns, frame.number)

    def on_result_valid(self, part: Part, seq: int, decided: PartResult, journal: str) -> None:
        rows, life = self.journals.get(journal, {}), self.life
        content = json.loads(rows[seq]) if seq in rows else None
        self._story.add(f"result of {part.trigger_id or 'a part'} valid: {decided.result.value}")
        self.expect(
            "contract",
            content is not None,
            lambda: f"the PLC was shown result {seq}, which is not on record",
        )
        if content is None:
            return
        self.expect(
            "P13",
            content["trigger_id"] == part.trigger_id,
            lambda: (
                f"result {seq} stands for {part.trigger_id}, its record is of "
                f"{content['trigger_id']}"
            ),
        )
        self.expect(
            "P13",
            decided.result in (Result.ERROR, content["result"]),
            lambda: f"result {seq} is shown as {decided.result}, on record is {content['result']}",
        )
        late = part.due_ns is not None and self._scheduler.now_ns >= part.due_ns
        self.expect(
            "P1",
            not (late and decided.result is Result.OK),
            lambda: f"result {seq} was shown as OK after its deadline",
        )
        life.valid[seq] = (part.trigger_id or "", self._scheduler.now_ns)

    def on_cleared(self, part: Part) -> None:
        life = self.life
        seq = next((seq for seq, (one, _) in life.valid.items() if one == part.trigger_id), None)
        if seq is None:
            return
        _, since_ns = life.valid[seq]
        held = self._scheduler.now_ns - since_ns >= self._hold_ns
        crowded = len(life.valid) > self._slots - 1
        del life.valid[seq]
        self.expect(
            "contract",
            held or crowded or seq in life.acknowledged,
            lambda: f"result {seq} was taken away, which nobody had acknowledged",
        )

    # The disk.

    def on_commit(self, rows: list[Row]) -> None:
        for row in rows:
            content = json.loads(row.payload)
            journal = content["journal"]
            self._follow_chain(row, journal)
            kept = self.journals if row.kind == "verdict" else self.events
            numbers = kept.setdefault(journal, {})
            before = max(numbers, default=0)
            self.expect(
                "P3",
                row.seq not in numbers and row.seq > before,
                f"{row.kind} {row.seq} was given after {before}",
            )
            numbers[row.seq] = row.payload
            if row.kind == "verdict":
                self.committed_ns[journal, row.seq] = self._scheduler.now_ns
                self._judge(row, content)
            else:
                self._story.add(f"event on record: {content['kind']}")

    def _follow_chain(self, row: Row, journal: str) -> None:
        before = self.chain.get("")
        if before is not None:
            self.expect(
                "P3",
                row.chain == hashlib.sha256(before + row.payload).digest()
                or journal not in self.journals,
                lambda: f"row {row.position} does not follow from the one before it",
            )
        self.chain[""] = row.chain

    def _judge(self, row: Row, content: dict[str, Any]) -> None:
        life, trigger_id, result = self.life, content["trigger_id"], content["result"]
        self.results[result] += 1
        self._story.add(
            f"verdict {row.seq} on record: {trigger_id or 'a part'} {result} ({content['reason']})"
        )
        if trigger_id is not None:
            life.recorded[trigger_id] += 1
            expected = life.accepted[trigger_id] + life.refused[trigger_id]
            self.expect(
                "P1",
                life.recorded[trigger_id] <= expected,
                lambda: (
                    f"{trigger_id} has {life.recorded[trigger_id]} verdicts for {expected} triggers"
                ),
            )
            sent = self.sent.get(trigger_id)
            self.expect(
                "P1",
                sent is None or content["part_id"] == sent.part_id,
                lambda: f"verdict {row.seq} of {trigger_id} is of {content['part_id']}",
            )
        self._judge_times(row, content)
        if result in ("OK", "NOK"):
            self._judge_decision(row, content)

    def _judge_times(self, row: Row, content: dict[str, Any]) -> None:
        total_ms, now_ns, life = content["duration_ms"]["total"], self._scheduler.now_ns, self.life
        accepted_ns = life.accepted_ns.get(content["trigger_id"])
        if accepted_ns is not None:
            max_ms = (now_ns - accepted_ns) / MILLISECOND + 300
            self.expect(
                "P8",
                -1 <= total_ms <= max_ms,
                lambda: f"verdict {row.seq} took {total_ms} ms, by the true clock at most {max_ms}",
            )
            deadline_ms = content["deadline_ms"]
            # The station's own deadline counts from the frame.
            from_frame_ms = total_ms - (content["duration_ms"]["trigger_to_frame"] or 0.0)
            whole = content["image"]["sha256"] is not None
            if whole and deadline_ms is not None and from_frame_ms > deadline_ms:
                self.expect(
                    "P1",
                    content["deadline_met"] is False,
                    lambda: (
                        f"verdict {row.seq} came {from_frame_ms} ms after its frame, later than "
                        f"its deadline of {deadline_ms} ms, and is not marked"
                    ),
                )
        exposed = life.exposed.get(content["trigger_id"])
        if exposed is not None and exposed[0] > self.undisturbed_from_ns:
            self.expect(
                "P4",
                now_ns - exposed[0] <= RECORD_LIMIT_NS * (1 + self._slots),
                lambda: (
                    f"verdict {row.seq} was on record {(now_ns - exposed[0]) / SECOND:.1f} s "
                    "after its frame, and neither disk nor inspection was slow"
                ),
            )

    def _judge_decision(self, row: Row, content: dict[str, Any]) -> None:
        exposure = self.shown.get(content["image"]["sha256"])
        trigger_id, result = content["trigger_id"], content["result"]
        known = self.settings_known.get(content["config_sha256"])
        self.expect(
            "contract",
            known is not None and abs(known - content["raw_threshold"]) < 1e-9,
            lambda: (
                f"verdict {row.seq} names settings that decide by {known}, it was decided by "
                f"{content['raw_threshold']}"
            ),
        )
        recipe = content["recipe"]
        if recipe is not None:
            self.expect(
                "contract",
                recipe["id"] == content["model"]["name"],
                lambda: (
                    f"verdict {row.seq} for {recipe['id']} was decided by "
                    f"{content['model']['name']}"
                ),
            )
        if exposure is None:
            self.expect("P2", False, lambda: f"verdict {row.seq} {result} is of no whole image")
            return
        self.expect(
            "P2",
            exposure.number not in self.used,
            lambda: (
                f"verdict {row.seq} {result} uses the image of verdict "
                f"{self.used[exposure.number]} again"
            ),
        )
        self.used[exposure.number] = f"{row.seq}"
        if trigger_id is not None:
            sent = self.sent.get(trigger_id)
            self.expect(
                "P2",
                sent is not None and sent.part == exposure.part,
                lambda: (
                    f"verdict {row.seq} of {trigger_id} (part {sent.part if sent else '?'}) "
                    f"was decided on an image of part {exposure.part}"
                ),
            )
        self.expect(
            "P2",
            exposure.fit,
            lambda: f"verdict {row.seq} {result} was decided on an image that was not fit",
        )
        self.expect(
            "P2",
            not (result == "OK" and exposure.bad),
            lambda: f"verdict {row.seq} is OK, and part {exposure.part} is bad",
        )

    # The broker.

    def on_connected(self, number: int) -> None:
        self._story.add("the station connects to the broker")

    def on_refused(self, message: Published) -> None:
        content = json.loads(message.payload)
        self.refused_ever = True
        had_arrived = content["seq"] <= self.arrived.get(content["journal"], 0)
        if message.topic.endswith("/verdict") and not had_arrived:
            self.refused_by_broker.add((content["journal"], content["seq"]))

    def on_message(self, message: Published) -> None:
        kind = message.topic.rsplit("/", 1)[1]
        if kind == "state":
            self._on_state(message)
        elif kind == "verdict":
            self._on_verdict(message)
        elif kind == "event":
            content = json.loads(message.payload)
            kept = self.events.get(content["journal"], {}).get(content["seq"])
            self.expect(
                "P3",
                kept is not None and message.payload.startswith(kept[:-1]),
                lambda: f"event {content['seq']} was published, and is not on record so",
            )

    def _on_state(self, message: Published) -> None:
        self._states_seen_on.add(message.connection)
        self.expect(
            "contract",
            message.retain and message.qos == 1,
            lambda: "a state was published that the broker does not keep",
        )

    def _on_verdict(self, message: Published) -> None:
        content = json.loads(message.payload)
        journal, seq = content["journal"], content["seq"]
        kept = self.journals.get(journal, {}).get(seq)
        self.expect(
            "P3",
            kept is not None,
            lambda: f"verdict {seq} reached the broker before it was on record",
        )
        self.expect(
            "P3",
            kept is None or message.payload.startswith(kept[:-1]),
            lambda: f"verdict {seq} reached the broker otherwise than it is on record",
        )
        self.expect(
            "contract",
            message.qos == 1 and not message.retain,
            lambda: f"verdict {seq} was published with QoS {message.qos}, retain {message.retain}",
        )
        self.expect(
            "contract",
            message.connection in self._states_seen_on,
            lambda: f"verdict {seq} came before the state of its connection",
        )
        newest = self.arrived.get(journal, 0)
        first = seq > newest
        for missing in range(newest + 1, seq):
            excused = (
                (journal, missing) in self.refused_by_broker
                or (journal, missing) in self.lost_rows
                or missing not in self.journals[journal]
            )
            self.expect(
                "P3",
                excused,
                f"verdict {seq} arrived before verdict {missing}",
            )
        self.arrived[journal] = max(newest, seq)
        was_refused = (journal, seq) in self.refused_by_broker
        self.refused_by_broker.discard((journal, seq))
        if not content["replayed"]:
            age_ns = self._scheduler.now_ns - self.committed_ns.get((journal, seq), 0)
            disturbed = self.committed_ns.get((journal, seq), 0) < self.undisturbed_from_ns
            self.expect(
                "contract",
                (first or was_refused) and (age_ns <= FRESH_NS or disturbed),
                lambda: (
                    f"verdict {seq} came {age_ns / SECOND:.1f} s after its commit"
                    f"{'' if first else ', again,'} and is not marked as replayed"
                ),
            )

    # At rest: nothing is wrong any more, and everybody had time.

    def expected(self) -> list[str]:
        """Return triggers of this process that are owed a verdict and have none."""
        life = self.life
        expected = life.accepted + life.refused
        return [one for one, count in expected.items() if life.recorded[one] < count]

    def at_rest(self, *, waiting: int | None, state: dict[str, Any] | None) -> None:
        """Check what has to be true once all faults are over."""
        expected = self.expected()
        self.expect("P1", not expected, f"{expected[:5]} are owed a verdict and have none")
        for journal, rows in self.journals.items():
            newest = self.arrived.get(journal, 0)
            missing = [seq for seq in rows if seq > newest and (journal, seq) not in self.lost_rows]
            missing += [seq for one, seq in self.refused_by_broker if one == journal]
            self.expect(
                "P3",
                not missing,
                (f"verdicts {sorted(missing)[:5]} are on record and never reached the broker"),
            )
        self.expect(
            "P3", not waiting, lambda: f"{waiting} records are taken for undelivered for ever"
        )
        self.expect(
            "contract",
            state is not None and not state["will"] and state["state"] in ("online", "degraded"),
            lambda: f"the state is {state and state['state']} while the station inspects",
        )

    def at_end_in_order(self) -> None:
        """Check a process that ended because it was asked to."""
        expected = self.expected()
        self.expect(
            "P1",
            not expected,
            f"the station was stopped in order, and {expected[:5]} have no verdict",
        )
