"""The hand-shake in registers: a master reads one state, and what it writes becomes messages.

Reads never wait and never tear: the status block is a tuple that is replaced whole.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edge.contract.commands import Ack, Trigger
from edge.contract.verdict import REASON_CODES
from edge.imaging.frame import Frame
from edge.inspection.decision import Result
from edge.plc import registers as table
from edge.plc.registers import Bit, Kind, Order, RejectionCode
from edge.station.handshake.part import INPUTS, Input, Part, PartResult, Rejection, Repeated

_REJECTIONS = {
    Rejection.BUSY: RejectionCode.BUSY,
    Rejection.NOT_READY: RejectionCode.NOT_READY,
    Rejection.RECIPE_MISMATCH: RejectionCode.RECIPE_MISMATCH,
    Rejection.EXPIRED: RejectionCode.EXPIRED,
}
_MISSING = {
    Input.CAMERA: table.CAMERA_MISSING,
    Input.MODEL: table.MODEL_MISSING,
    Input.JOURNAL: table.JOURNAL_MISSING,
    Input.OUTPUTS: table.OUTPUTS_MISSING,
}
_READS_COMMAND, _READS_STATUS, _READS_COILS, _READS_INPUTS = 3, 4, 1, 2
_COIL_FUNCTIONS = frozenset({1, 5, 15})


@dataclass(frozen=True, slots=True)
class StandingResult:
    """A result as registers show it."""

    part: Part
    trigger: int
    seq: int
    decided: PartResult


@dataclass(slots=True, kw_only=True)
class LastTrigger:
    """The newest trigger of the master.

    Attributes:
        number: as the master counts.
        part_id: that came with it; empty for none.
        key: under which the station knows it; None of one that it never got.
        rejection: None while nothing is known.
        result: once there is one.
    """

    number: int
    part_id: str = ""
    key: str | None = None
    rejection: RejectionCode | None = None
    exposed: bool = False
    result: StandingResult | None = None


class ModbusPort:
    """A port of the hand-shake, and the registers of a ``ModbusServer``; any thread calls it.

    One result stands at a time, until the master acknowledges its number or its hold is over; the
    next one waits until ``ack`` has fallen, so that ``result_valid`` is seen to fall between them.
    The registers have one master at a time: two would count their triggers alike, and one of them
    would take the other's result for that of its own part.
    """

    def __init__(
        self,
        *,
        leads: bool,
        accepts_triggers: bool,
        max_results: int,
        order: Order,
        master_timeout_ns: int,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Begin with registers that say nothing is ready.

        Args:
            leads: acknowledgements of the master count.
            accepts_triggers: and so do its triggers; False where every frame is a part, or it
                watches.
            max_results: that may wait for their turn; the oldest makes room, and is counted.
        """
        self._leads = leads
        self._accepts_triggers = accepts_triggers
        self._max_results = max_results
        self._order = order
        self._master_timeout_ns = master_timeout_ns
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._command = [0] * table.COMMAND_WORDS
        self._messages: list[Trigger | Ack] = []
        self._ready = False
        self._missing = INPUTS
        self._asked: dict[str, int] = {}  # key → trigger of the master, until it is answered
        self._in_flight: dict[int, int] = {}  # number of the part → trigger of the master
        self._forgotten: set[int] = set()  # parts in flight at a reset
        self._standing: OrderedDict[int, StandingResult] = OrderedDict()
        self._again: StandingResult | None = None  # shown once more, for a repeated trigger
        self._shown: StandingResult | None = None
        self._last: LastTrigger | None = None
        self._exposed_id = 0
        self._latched = 0
        self._missed = 0
        self._acknowledges = False
        self._beats = 0
        self._triggers = 0
        self._heard_ns: int | None = None  # the master's heartbeat changed
        self._master: str | None = None  # address of who commanded last
        self._status = tuple[int, ...]()
        self._on_change: Callable[[], None] = _nobody_waits
        self._on_trigger_refused: Callable[[int], None] = _nobody_asks
        self._not_taken: list[int] = []  # when they came; not reported yet
        self._began_anew = self._announced_again = False  # since somebody asked
        with self._lock:
            self._show()

    def on_change(self, call: Callable[[], None]) -> None:
        """Call this, which must not wait, whenever the status block has changed."""
        self._on_change = call

    def on_trigger_refused(self, call: Callable[[int], None]) -> None:
        """Call this, which must not wait, with the time of each trigger that is not taken."""
        self._on_trigger_refused = call

    # What the station calls.

    def ready(self, ready: bool) -> None:
        with self._lock:
            self._ready = ready
            if ready:  # then nothing is missing
                self._missing = frozenset()
            self._show()

    def accepted(self, part: Part) -> None:
        with self._lock:
            number = self._asked.pop(part.trigger_id or "", None)
            self._in_flight[part.number] = number or 0
            if number is None and self._accepts_triggers:
                self._forgotten.add(part.number)
            last = self._find_last(part)
            if last:
                last.rejection = RejectionCode.NONE
            self._show()

    def rejected(self, part: Part, rejection: Rejection, recorded: bool) -> None:
        with self._lock:
            self._asked.pop(part.trigger_id or "", None)
            last = self._find_last(part)
            if last:
                self._refuse(last, _REJECTIONS[rejection])
            self._show()

    def repeated(self, known: Repeated) -> None:
        """Ids of this port are never sent twice; see ``_on_trigger``."""

    def exposed(self, part: Part) -> None:
        with self._lock:
            last = self._find_last(part)
            if last:
                last.exposed = True
            self._exposed_id = self._in_flight.setdefault(part.number, 0)
            self._show()

    def unexpected(self, frame: Frame) -> None:
        """No signal is of a frame without a part."""

    def result_valid(self, part: Part, seq: int, decided: PartResult) -> None:
        with self._lock:
            trigger = self._in_flight.pop(part.number, 0)
            if part.number in self._forgotten:
                self._forgotten.discard(part.number)
            else:
                result = StandingResult(part, trigger, seq, decided)
                last = self._find_last(part)
                if last:
                    last.result = result
                self._standing[part.number] = result
                while len(self._standing) > self._max_results:
                    self._miss(next(iter(self._standing.values())))
            self._show()

    def result_cleared(self, part: Part) -> None:
        with self._lock:
            self._in_flight.pop(part.number, None)
            self._forgotten.discard(part.number)
            if part.number in self._standing:
                self._miss(self._standing[part.number])
            self._show()

    # What the master does.

    def read(self, function: int, address: int, count: int) -> list[int] | None:
        """Return what a function code reads there; None outside of the table."""
        if function in (_READS_COILS, *_COIL_FUNCTIONS):
            return _slice(_bits(self._command[:1]), address, count)
        if function == _READS_INPUTS:
            return _slice(_bits(self._status[:2]), address, count)
        if function == _READS_STATUS:
            return _slice(self._status, address, count)
        if address >= table.STATUS_IN_HOLDING:
            return _slice(self._status, address - table.STATUS_IN_HOLDING, count)
        with self._lock:
            return _slice(self._command, address, count)

    def write(self, function: int, address: int, values: list[int], master: str) -> bool:
        """Write into the command block; False, and nothing written, outside of it.

        Args:
            master: address of who writes; another one than before begins anew, as with ``reset``.
        """
        with self._lock:
            if function in _COIL_FUNCTIONS:
                if not values or address + len(values) > table.BITS_PER_WORD:
                    return False
                control = self._command[0]
                for number, value in enumerate(values, address):
                    control = control | 1 << number if value else control & ~(1 << number)
                values, address = [control], 0
            if not values or address + len(values) > table.COMMAND_WORDS:
                return False
            before = tuple(self._command)
            self._command[address : address + len(values)] = values
            self._commanded(before, master)
            self._show()
        self._report_not_taken()
        return True

    # What the thread of the server does.

    def read_messages(self) -> list[Trigger | Ack]:
        """Return what the master asked for since the last call, in order."""
        with self._lock:
            taken, self._messages = self._messages, []
            return taken

    def has_begun_anew(self) -> bool:
        """Tell whether the master has, since the last call: of earlier parts it knows nothing."""
        with self._lock:
            began, self._began_anew = self._began_anew, False
            return began

    def has_announced_again(self) -> bool:
        """Tell whether the master has sent a refused trigger again, since the last call."""
        with self._lock:
            again, self._announced_again = self._announced_again, False
            return again

    def on_overload(self, message: Trigger | Ack) -> None:
        """Note that the station had no room for a message."""
        with self._lock:
            last = self._last
            if isinstance(message, Trigger):
                self._not_taken.append(message.received_ns)
                self._asked.pop(message.trigger_id, None)
                if last and last.key == message.trigger_id:
                    self._refuse(last, RejectionCode.OVERLOADED)
            self._show()
        self._report_not_taken()

    def master_is_there(self) -> bool:
        """Tell whether the master's heartbeat has changed in time; one that has not starts anew."""
        with self._lock:
            heard = self._heard_ns
            if heard is None:
                return False
            if self._clock_ns() - heard < self._master_timeout_ns:
                return True
            self._lose_master()
            return False

    def on_master_lost(self) -> None:
        """Note that the master cannot be reached; it is back with its next heartbeat."""
        with self._lock:
            if self._heard_ns is not None:
                self._lose_master()

    @property
    def master(self) -> str | None:
        """Address of the master whose heartbeat changes; None without one."""
        with self._lock:
            return self._master if self._heard_ns is not None else None

    def beat(self) -> None:
        """Count the station's own heartbeat up."""
        with self._lock:
            self._beats = self._beats + 1 & 0xFFFF
            self._show()

    def set_missing(self, missing: frozenset[Input]) -> None:
        """Note what the station lacks; of the master the port knows more itself."""
        missing -= {Input.MASTER}
        with self._lock:
            # It was read before the station became ready.
            missing = frozenset() if self._ready else missing
            if missing != self._missing:
                self._missing = missing
                self._show()

    @property
    def last_trigger(self) -> int | None:
        """Id of the newest trigger of the master; None before the first."""
        with self._lock:
            return self._last.number if self._last else None

    @property
    def triggers(self) -> int:
        """How many triggers the master gave."""
        return self._triggers

    @property
    def missed(self) -> int:
        """Results that left unacknowledged."""
        return self._missed

    def _report_not_taken(self) -> None:
        """Tell of the triggers that were not taken, without the lock: the hand-shake has its own.

        Only the thread of the server takes triggers.
        """
        not_taken, self._not_taken = self._not_taken, []
        for received_ns in not_taken:
            self._on_trigger_refused(received_ns)

    # Under the lock.

    def _lose_master(self) -> None:
        """Let the master begin anew: what it writes when it is back is a new trigger."""
        self._heard_ns = None
        self._command[0] = 0
        self._show()

    def _find_last(self, part: Part) -> LastTrigger | None:
        """Return the newest trigger where the part is its."""
        last = self._last
        return last if last and last.key is not None and last.key == part.trigger_id else None

    def _refuse(self, last: LastTrigger, code: RejectionCode) -> None:
        last.rejection = code
        self._latched |= table.TRIGGER_REFUSED.mask

    def _miss(self, result: StandingResult) -> None:
        """Let go of a result that nobody acknowledged; without a master that ever does, none is."""
        del self._standing[result.part.number]
        if self._acknowledges:
            self._missed += 1
            self._latched |= table.RESULT_MISSED.mask

    def _commanded(self, before: tuple[int, ...], master: str) -> None:
        control, rose = self._command[0], self._command[0] & ~before[0]
        beats = self._value("master_heartbeat") != before[1]
        if (beats or rose) and master != self._master:
            if self._master is not None and self._accepts_triggers:
                self._reset()  # its numbers are not those of the one before
            self._master = master
        if beats:
            self._heard_ns = self._clock_ns()
        if rose & table.RESET.mask:
            self._reset()
        if control & table.ACK.mask:
            self._acknowledge()
        if rose & table.TRIGGER.mask:
            self._on_trigger()

    def _reset(self) -> None:
        self._began_anew = True
        self._latched = self._missed = 0
        self._last = self._again = None
        if self._leads:
            self._messages += [Ack(one.seq, None, "modbus") for one in self._standing.values()]
        self._standing.clear()
        self._forgotten |= self._in_flight.keys()
        self._asked.clear()

    def _acknowledge(self) -> None:
        shown = self._shown
        if shown is None or shown.seq & 0xFFFF != self._value("ack_seq"):
            return
        self._acknowledges = True
        self._again = None
        if self._standing.pop(shown.part.number, None) and self._leads:
            self._messages.append(Ack(shown.seq, None, "modbus"))

    def _on_trigger(self) -> None:
        number, last = self._value("trigger_id"), self._last
        part_id = self._text("part_id")
        reused = False
        if last is not None and last.number == number:
            reused = bool(part_id and last.part_id and part_id != last.part_id)
            if not reused:  # the same part, never a second one
                self._announced_again = self._announced_again or bool(last.rejection)
                if last.result is not None and last.result.part.number not in self._standing:
                    self._again = last.result
                return
            self._withdraw(number)
        self._again = None
        self._triggers += 1
        self._last = last = LastTrigger(number=number, part_id=part_id or "")
        if not self._accepts_triggers:
            code = RejectionCode.NO_TRIGGERS if self._leads else RejectionCode.NOT_LEADER
            self._refuse(last, code)
        elif part_id is None or reused:
            self._refuse(last, RejectionCode.ID_REUSED if reused else RejectionCode.MALFORMED)
            self._not_taken.append(self._clock_ns())
        else:
            # Of its own: a PLC that starts anew counts from the beginning.
            last.key = f"modbus-{self._triggers}-{number}"
            self._asked[last.key] = number
            recipe = self._value("recipe")
            self._messages.append(
                Trigger(
                    trigger_id=last.key,
                    part_id=part_id or None,
                    recipe_id=str(recipe) if recipe else None,
                    recipe_version=None,
                    deadline_ms=None,
                    received_ns=self._clock_ns(),
                    port="modbus",
                )
            )

    def _withdraw(self, number: int) -> None:
        """Show no result of an id that two parts claim."""
        self._asked = {key: one for key, one in self._asked.items() if one != number}
        self._forgotten |= {part for part, one in self._in_flight.items() if one == number}
        for result in tuple(self._standing.values()):
            if result.trigger == number:
                self._miss(result)

    def _value(self, name: str) -> int:
        one = table.named(table.COMMAND, name)
        words = self._command[one.address : one.end]
        return table.decoded_number(words, one.kind, self._order)

    def _text(self, name: str) -> str | None:
        one = table.named(table.COMMAND, name)
        return table.decoded_text(self._command[one.address : one.end], self._order)

    def _show(self) -> None:
        """Replace the status block, whole."""
        acking = bool(self._command[0] & table.ACK.mask)
        standing = next(iter(self._standing.values()), None) or self._again
        still = self._shown is not None and (
            self._shown is self._again or self._shown.part.number in self._standing
        )
        if not still:
            self._shown = None if acking else standing
        values: dict[str, int | bytes] = {
            "heartbeat_count": self._beats,
            "exposed_id": self._exposed_id,
            "results_missed": self._missed,
            "order_check": table.ORDER_CHECK,
        }
        errors = self._latched | _mask(_MISSING[one] for one in self._missing)
        if self._accepts_triggers and self._heard_ns is None:
            errors |= table.MASTER_MISSING.mask
        last, shown = self._last, self._shown
        taken = last is not None and last.rejection is not None
        if last is not None and last.rejection is not None:
            values["rejection"] = last.rejection.value
            values["taken_id"] = last.number
        if shown is not None:
            part_id = shown.part.part_id or ""
            if len(part_id.encode()) > table.TEXT_BYTES:
                errors |= table.PART_ID_CUT.mask
            values |= {
                "result_id": shown.trigger,
                "result": table.RESULT_CODES[shown.decided.result],
                "reason": REASON_CODES[shown.decided.reason],
                "score_milli": _thousandths(shown.decided.score),
                "seq": shown.seq,
                "result_part_id": table.fitting_text(part_id),
            }
        control = self._command[0]
        bits = {
            table.READY: self._ready and self._leads,
            table.BUSY: bool(self._in_flight),
            table.TAKEN: taken and bool(control & table.TRIGGER.mask),
            table.EXPOSED: last is not None and last.exposed,
            table.RESULT_VALID: shown is not None,
            table.RESULT_OK: shown is not None and shown.decided.result is Result.OK,
            table.REJECTED: last is not None and bool(last.rejection),
            table.ERROR: errors != 0,
            table.HEARTBEAT: bool(self._beats & 1),
            table.ONLINE: not self._missing & INPUTS,
        }
        values["status"] = _mask(bit for bit, is_set in bits.items() if is_set)
        values["errors"] = errors
        words: list[int] = []
        for one in table.STATUS:
            empty = b"" if one.kind is Kind.TEXT else 0
            words += table.encoded(values.get(one.name, empty), one.kind, self._order)
        before, self._status = self._status, tuple(words)
        if self._status != before:
            self._on_change()


def _nobody_asks(_received_ns: int) -> None:
    """No line switches for a refused trigger."""


def _nobody_waits() -> None:
    """A server's master comes by itself."""


def _mask(bits: Iterable[Bit]) -> int:
    return sum(bit.mask for bit in bits)


def _bits(words: Iterable[int]) -> list[int]:
    return [word >> number & 1 for word in words for number in range(table.BITS_PER_WORD)]


def _slice(values: "tuple[int, ...] | list[int]", address: int, count: int) -> list[int] | None:
    if count < 1 or address + count > len(values):
        return None
    return list(values[address : address + count])


def _thousandths(score: float | None) -> int:
    """Return a score × 1000, rounded down, so that one below the threshold never shows as at it."""
    if score is None or not math.isfinite(score) or abs(score) > 2e6:
        return table.NO_SCORE
    return math.floor(score * 1000.0)
