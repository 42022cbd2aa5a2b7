"""The register table of the Modbus hand-shake: one definition for server, documents and exports.

Two blocks. The master writes the command block; the station writes the status block, of which one
read gives one state: nothing in it is of another moment. Coils and discrete inputs are the bits of
its words.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from edge.contract.verdict import REASON_CODES
from edge.inspection.decision import Reason, Result

# Bytes of a part id, two to a register.
TEXT_WORDS = 16
TEXT_BYTES = 2 * TEXT_WORDS
# Where the status block is read as holding registers, for masters without function code 4.
STATUS_IN_HOLDING = 100
# A score that there is none of, and whatever does not fit into 32 bits.
NO_SCORE = -(2**31)
# What ``order_check`` holds: read as 16909060, byte and word order are right.
ORDER_CHECK = 0x01020304
BITS_PER_WORD = 16


class Kind(StrEnum):
    """How a value lies in its registers."""

    WORD = "16 bits"
    UINT16 = "unsigned 16 bit"
    UINT32 = "unsigned 32 bit"
    INT32 = "signed 32 bit"
    TEXT = "32 bytes of text"

    @property
    def words(self) -> int:
        """How many registers it takes."""
        return _WORDS.get(self, 1)


_WORDS = {Kind.UINT32: 2, Kind.INT32: 2, Kind.TEXT: TEXT_WORDS}


@dataclass(frozen=True, slots=True)
class Bit:
    """One bit of a word; also a coil or a discrete input."""

    number: int
    name: str
    meaning: str

    @property
    def mask(self) -> int:
        return 1 << self.number


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """One value of a block.

    Attributes:
        address: of its first register, counted from 0 at the block's own beginning.
        bits: of a word; empty for numbers and text.
    """

    address: int
    name: str
    kind: Kind
    meaning: str
    bits: tuple[Bit, ...] = ()

    @property
    def end(self) -> int:
        return self.address + self.kind.words


def _value(address: int, name: str, kind: Kind, meaning: str) -> Register:
    return Register(address=address, name=name, kind=kind, meaning=meaning)


def _word(address: int, name: str, meaning: str, bits: tuple[Bit, ...]) -> Register:
    return Register(address=address, name=name, kind=Kind.WORD, meaning=meaning, bits=bits)


TRIGGER = Bit(
    0, "trigger", "Rising edge: inspect the part of `trigger_id`. Clear it after `taken`."
)
ACK = Bit(1, "ack", "While set, the PLC has read the result whose number is in `ack_seq`.")
RESET = Bit(
    2,
    "reset",
    "Rising edge: clear errors and results, and forget the last trigger id. For "
    "the start of the PLC.",
)

COMMAND = (
    _word(0, "control", "Control bits.", (TRIGGER, ACK, RESET)),
    _value(
        1,
        "master_heartbeat",
        Kind.UINT16,
        "Count it up: the station is ready only while it changes within `master_timeout_ms`.",
    ),
    _value(
        2,
        "trigger_id",
        Kind.UINT32,
        "Id of the part's trigger. Repeating the last id means the same part, never a second one.",
    ),
    _value(4, "ack_seq", Kind.UINT16, "`seq` of the result that the PLC has read."),
    _value(
        5, "recipe", Kind.UINT16, "Number of the recipe; 0: the one that is chosen at the station."
    ),
    _value(6, "part_id", Kind.TEXT, "Part id in UTF-8, ends at a zero byte; empty for none."),
)

READY = Bit(0, "ready", "A trigger would be accepted now.")
BUSY = Bit(1, "busy", "A part has no result yet.")
TAKEN = Bit(2, "taken", "The trigger in `taken_id` was accepted or refused; falls with `trigger`.")
EXPOSED = Bit(3, "exposed", "The image of the last trigger has arrived; the part may move on.")
RESULT_VALID = Bit(4, "result_valid", "A result is available and recorded.")
RESULT_OK = Bit(5, "result_ok", "The available result is OK. Let a part pass only on this bit.")
REJECTED = Bit(6, "rejected", "The last trigger was refused, see `rejection`.")
ERROR = Bit(7, "error", "A bit of `errors` is set.")
HEARTBEAT = Bit(8, "heartbeat", "Toggles twice a second: the low bit of `heartbeat_count`.")
ONLINE = Bit(9, "online", "Camera, model and journal are ready.")

STATUS_BITS = (
    *(READY, BUSY, TAKEN, EXPOSED, RESULT_VALID, RESULT_OK, REJECTED, ERROR, HEARTBEAT, ONLINE),
)

CAMERA_MISSING = Bit(0, "camera_missing", "The camera is not ready.")
MODEL_MISSING = Bit(1, "model_missing", "The model is not ready.")
JOURNAL_MISSING = Bit(2, "journal_missing", "The journal accepts no records.")
MASTER_MISSING = Bit(3, "master_missing", "`master_heartbeat` does not change.")
TRIGGER_REFUSED = Bit(4, "trigger_refused", "A trigger was refused. Stays until `reset`.")
RESULT_MISSED = Bit(
    5,
    "result_missed",
    "A result was dropped without acknowledgement, see `results_missed`. Stays until `reset`.",
)
PART_ID_CUT = Bit(6, "part_id_cut", "The part id of the result is longer than its registers.")
OUTPUTS_MISSING = Bit(7, "outputs_missing", "A digital output is disconnected or missed an edge.")

ERROR_BITS = (
    *(CAMERA_MISSING, MODEL_MISSING, JOURNAL_MISSING, MASTER_MISSING),
    *(TRIGGER_REFUSED, RESULT_MISSED, PART_ID_CUT, OUTPUTS_MISSING),
)


class RejectionCode(IntEnum):
    """Values of ``rejection``."""

    NONE = 0
    BUSY = 1
    NOT_READY = 2
    RECIPE_MISMATCH = 3
    EXPIRED = 4
    NOT_LEADER = 5
    MALFORMED = 6
    OVERLOADED = 7
    NO_TRIGGERS = 8
    ID_REUSED = 9


REJECTION_MEANINGS = {
    RejectionCode.NONE: "not refused",
    RejectionCode.BUSY: "no slot was free",
    RejectionCode.NOT_READY: "the station was not ready",
    RejectionCode.RECIPE_MISMATCH: "the recipe is not in force",
    RejectionCode.EXPIRED: "its deadline had passed, or it was read when its frame was due",
    RejectionCode.NOT_LEADER: "another port leads the hand-shake",
    RejectionCode.MALFORMED: "the part id is not valid text",
    RejectionCode.OVERLOADED: "too many messages were waiting; the part is not recorded",
    RejectionCode.NO_TRIGGERS: "every frame is a part; triggers are not used",
    RejectionCode.ID_REUSED: "the last id came again with another part id",
}

RESULT_CODES = {Result.OK: 1, Result.NOK: 2, Result.NOT_DECIDABLE: 3, Result.ERROR: 4}

STATUS = (
    _word(0, "status", "Status bits.", STATUS_BITS),
    _word(1, "errors", "Error bits.", ERROR_BITS),
    _value(2, "heartbeat_count", Kind.UINT16, "Counts up twice a second."),
    _value(3, "rejection", Kind.UINT16, "Why the last trigger was refused."),
    _value(4, "taken_id", Kind.UINT32, "Id of the last trigger that was accepted or refused."),
    _value(6, "exposed_id", Kind.UINT32, "Id of the newest part whose image has arrived."),
    _value(8, "result_id", Kind.UINT32, "Trigger id of the part of the result."),
    _value(10, "result", Kind.UINT16, "Result; 0 while none is available."),
    _value(11, "reason", Kind.UINT16, "`reason_code` of the verdict."),
    _value(12, "score_milli", Kind.INT32, f"Score × 1000, threshold at 500; {NO_SCORE} for none."),
    _value(14, "seq", Kind.UINT16, "Low 16 bits of the verdict's number in the journal."),
    _value(15, "results_missed", Kind.UINT16, "Results that were dropped without acknowledgement."),
    _value(16, "result_part_id", Kind.TEXT, "Part id of the result."),
    _value(32, "order_check", Kind.UINT32, f"Always {ORDER_CHECK}; proves byte and word order."),
)

COMMAND_WORDS = COMMAND[-1].end
STATUS_WORDS = STATUS[-1].end

# Which numbers stand for what, for documents and exports.
CODES: dict[str, dict[int, str]] = {
    "rejection": {code.value: text for code, text in REJECTION_MEANINGS.items()},
    "result": {0: "none", **{code: result.value for result, code in RESULT_CODES.items()}},
    "reason": {REASON_CODES[reason]: reason.value for reason in Reason},
}


@dataclass(frozen=True, slots=True)
class Order:
    """How values of more than one byte lie in registers; single registers are as Modbus has them.

    Attributes:
        low_word_first: the low word of a 32-bit value stands at the lower address.
        swap_bytes: the bytes of each register of a 32-bit value or text are exchanged.
    """

    low_word_first: bool = False
    swap_bytes: bool = False


def named(block: tuple[Register, ...], name: str) -> Register:
    """Return a register of a block by its name."""
    return next(one for one in block if one.name == name)


def fitting_text(text: str) -> bytes:
    """Return as much of a text, in UTF-8, as its registers hold; no half character at its end."""
    return text.encode()[:TEXT_BYTES].decode(errors="ignore").encode()


def encoded(value: int | bytes, kind: Kind, order: Order) -> list[int]:
    """Return the registers of a value.

    Args:
        value: a number within the bounds of its kind; bytes for text, cut and filled with zeros.
    """
    if kind is Kind.TEXT:
        assert isinstance(value, bytes)
        raw = value[:TEXT_BYTES].ljust(TEXT_BYTES, b"\0")
        words = [int.from_bytes(raw[at : at + 2], "big") for at in range(0, TEXT_BYTES, 2)]
        return [_swapped(word, order) for word in words]
    assert isinstance(value, int)
    if kind.words == 1:
        return [value & 0xFFFF]
    pair = [value >> 16 & 0xFFFF, value & 0xFFFF]
    return [_swapped(word, order) for word in (reversed(pair) if order.low_word_first else pair)]


def decoded_number(words: list[int], kind: Kind, order: Order) -> int:
    """Return the number that registers hold."""
    if kind.words == 1:
        return words[0]
    pair = [_swapped(word, order) for word in words]
    if order.low_word_first:
        pair.reverse()
    value = pair[0] << 16 | pair[1]
    return value - 2**32 if kind is Kind.INT32 and value >= 2**31 else value


def decoded_text(words: list[int], order: Order) -> str | None:
    """Return the text that registers hold; None where it is no UTF-8 or cannot be printed."""
    raw = b"".join(_swapped(word, order).to_bytes(2, "big") for word in words)
    try:
        text = raw.partition(b"\0")[0].decode().rstrip()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


def _swapped(word: int, order: Order) -> int:
    return (word & 0xFF) << 8 | word >> 8 if order.swap_bytes else word
