"""What goes into the journal and what comes out of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edge.contract.encoding import to_json
from edge.contract.state import ChainHead
from edge.errors import ConfigurationError, StationError

# What the journal itself adds to a record, and what the relay adds when it sends one.
ADDED_BY_JOURNAL = ("seq", "journal")
ADDED_BY_RELAY = ("session", "replayed")
# Eight times what the contract allows a verdict; a larger record is a programming error.
MAX_PAYLOAD_BYTES = 65536


class JournalError(StationError):
    """Base of journal faults (EX_IOERR)."""

    exit_code = 74


class JournalUnavailable(JournalError):
    """The journal cannot be opened, read or written at the moment."""


class JournalDamaged(JournalError):
    """The file is no longer a sound database; the next start sets it aside."""


class JournalUnsuitable(ConfigurationError):
    """The journal in this folder is in use, or of another program or version."""


class Refusal(StrEnum):
    """Why the journal takes no more at the moment."""

    QUEUE_FULL = "journal_queue_full"
    JOURNAL_FULL = "journal_full"
    CLOSED = "journal_closed"


class JournalRefuses(JournalError):
    """An entry was not accepted; nothing of it will be recorded.

    Attributes:
        refusal: why, machine-readable.
    """

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal


class RecordKind(StrEnum):
    """What a record is; also the last level of the topic it is published on."""

    VERDICT = "verdict"
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class Entry:
    """Something to be recorded.

    Attributes:
        kind: each kind has a sequence of numbers of its own.
        content: the payload; the journal adds ``seq`` and ``journal``. What it holds of these two
            and of ``session`` and ``replayed``, which the relay adds, is left out.
        result: of a verdict, ``OK``, ``NOK``, ``NOT_DECIDABLE`` or ``ERROR``.
        part_id: where one is known.
    """

    kind: RecordKind
    content: Mapping[str, Any]
    result: str | None = None
    part_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """An entry that is on the disk.

    Attributes:
        position: in the journal, over all kinds.
        seq: number within its kind, from 1, without gaps, never used again.
        payload: the record as compact UTF-8 JSON, with ``seq`` and ``journal``.
    """

    position: int
    seq: int
    kind: RecordKind
    payload: bytes
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRow:
    """A record as it was read.

    Attributes:
        payload: compact UTF-8 JSON; ``for_sending`` makes it a message.
        created_utc_ns: wall-clock time of the commit; it may jump, ``position`` never does.
        acknowledged: the broker has it, or nobody relays.
        dead: why it is no longer tried to be sent; None for every other row.
        kept_only: no broker was to have it; not known of rows of version 0.2.0.
    """

    position: int
    kind: RecordKind
    seq: int
    result: str | None
    part_id: str | None
    payload: bytes
    created_utc_ns: int
    acknowledged: bool
    dead: str | None
    kept_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What the broker does not have yet.

    Attributes:
        count, bytes: rows that are neither acknowledged nor dead, and their payloads.
        oldest_utc_ns: wall-clock time of the oldest of them; None when there is none.
        last_seq: of each kind, the highest number given; 0 before the first.
        first_seq: number with which the verdicts of this UUID begin.
        follows: UUID of what was recorded before; None where there was none.
        head: the end of the hash chain.
    """

    count: int
    bytes: int
    oldest_utc_ns: int | None
    last_seq: Mapping[RecordKind, int]
    first_seq: int
    follows: str | None
    head: ChainHead


def body(entry: Entry) -> bytes:
    """Serialise an entry, without what the journal and the relay add.

    Raises:
        ValueError: a number is NaN or infinite, or the record is larger than a record may be.
    """
    content = {
        name: value
        for name, value in entry.content.items()
        if name not in ADDED_BY_JOURNAL and name not in ADDED_BY_RELAY
    }
    encoded = to_json(content).encode()
    if len(encoded) > MAX_PAYLOAD_BYTES:
        raise ValueError(
            f"a {entry.kind.value} of {len(encoded)} bytes; at most {MAX_PAYLOAD_BYTES}"
        )
    return encoded


def payload(entry_body: bytes, seq: int, journal: str) -> bytes:
    """Add to a serialised entry what the journal knows; ``seq`` comes first."""
    return _joined(b'{"seq":%d,"journal":"%s"}' % (seq, journal.encode()), entry_body)


def for_sending(recorded: bytes, session: str, replayed: bool) -> bytes:
    """Add to a recorded payload what is known when it is sent."""
    added = {"session": session, "replayed": replayed}
    return _joined(recorded, json.dumps(added, separators=(",", ":")).encode())


def _joined(first: bytes, second: bytes) -> bytes:
    """Join two JSON objects that share no key; the first is not empty."""
    return first if second == b"{}" else first[:-1] + b"," + second[1:]
