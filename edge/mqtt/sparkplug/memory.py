"""What outlives the process: how far the verdicts were published, and the number of connections."""

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from edge.atomic_files import read_regular, write_all
from edge.errors import OutputNotWritable
from edge.journal.entries import Backlog, RecordKind

log = logging.getLogger(__name__)

FILE_NAME = "sparkplug.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far it has come.

    Attributes:
        journal: UUID of the journal that ``seq`` counts in.
        seq: of the newest verdict that the broker is known to have read.
        bd_seq: number of the next connection.
    """

    journal: str
    seq: int
    bd_seq: int = 0


class ProgressFile:
    """A small file beside the journal.

    Losing it costs no verdict that is still to come: what is repeated carries its own number, and
    is historical.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def read(self, journal: str, backlog: Backlog) -> Progress:
        """Return how far it had come.

        Without a file, verdicts from now on are published: a station that becomes an edge node
        does not publish its past. In a journal that is new they are published from its first on.
        """
        newest = backlog.last_seq[RecordKind.VERDICT]
        try:
            content = json.loads(read_regular(self._path))
            found = Progress(
                journal=str(content["journal"]),
                seq=int(content["seq"]),
                bd_seq=int(content["bd_seq"]) % 256,
            )
        except FileNotFoundError:
            return Progress(journal=journal, seq=newest)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning(
                "%s cannot be read (%s). Only verdicts from now on are published to "
                "Sparkplug; earlier ones are in the journal.",
                *(self._path, error),
            )
            return Progress(journal=journal, seq=newest)
        if found.journal != journal:
            return replace(found, journal=journal, seq=backlog.first_seq - 1)
        return replace(found, seq=min(found.seq, newest))

    def write(self, progress: Progress) -> str | None:
        """Keep it; return what is wrong where that was not possible."""
        try:
            write_all([(self._path, json.dumps(asdict(progress)).encode())], durable=False)
        except OutputNotWritable as error:
            return str(error)
        return None
