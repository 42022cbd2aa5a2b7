"""``edge-run --journal``: look into a journal, export it, verify it."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from edge.contract.encoding import utc_text
from edge.contract.image_source import image_name
from edge.journal.database import FILE_NAME
from edge.journal.entries import JournalRow, RecordKind
from edge.journal.export import delivery, export_csv
from edge.journal.outbox import Outbox
from edge.journal.query import Query, newest, query
from edge.journal.verification import ChainReport, verify_chain
from edge.redaction import one_line
from edge.system.log_output import print_line
from edge.wording import counted

# Of a data file that is not what it should be (EX_DATAERR).
ALTERED = 65


def run_journal_command(
    folder: Path,
    wanted: Query = Query(),
    max_count: int = 20,
    csv: Path | None = None,
    *,
    verify: bool = False,
    head: bytes | None = None,
    emit: Callable[[str], None] = print_line,
) -> int:
    """Print what a journal holds, write it as CSV, or follow its chain; the station may run.

    Args:
        wanted: which rows to print or write.
        max_count: newest rows to print; a CSV file gets all.
        csv: file to write instead of printing rows.
        verify: follow the hash chain.
        head: and meet this value of it, which was published with the state.

    Returns:
        The exit code: 0, or 65 when the chain is broken or rows are missing.

    Raises:
        JournalUnavailable: there is no journal in the folder, or it cannot be read.
        JournalUnsuitable: another program's database, or a newer version's.
        OutputNotWritable: the CSV file cannot be written.
    """
    path = folder / FILE_NAME
    if verify or head is not None:
        report = verify_chain(path, head)
        emit(_verification(path, report))
        return 0 if report.fault is None else ALTERED
    if csv is not None:
        emit(f"{csv}: {counted(export_csv(query(path, wanted), csv), 'row')}")
        return 0
    emit(_overview(path))
    for row in newest(path, wanted, max_count):
        emit(_line(row))
    return 0


def _overview(path: Path) -> str:
    with closing(Outbox(path)) as outbox:
        backlog = outbox.backlog()
    waiting = f"{backlog.count} waiting for the broker ({backlog.bytes} bytes)"
    if backlog.oldest_utc_ns is not None:
        waiting += f", the oldest since {utc_text(backlog.oldest_utc_ns)}"
    numbers = ", ".join(f"{kind.value} {backlog.last_seq[kind]}" for kind in RecordKind)
    return f"{path}: newest {numbers}; {waiting}"


def _line(row: JournalRow) -> str:
    content = json.loads(row.payload)
    what, of, detail = row.result or "", row.part_id or image_name(content) or "", ""
    if row.result in ("ERROR", "NOT_DECIDABLE"):
        detail = "  " + ": ".join(filter(None, map(content.get, ("reason", "detail"))))
    if row.kind is RecordKind.EVENT:
        what, of, detail = content["severity"], content["kind"], f"  {content['detail']}"
    return one_line(
        f"{utc_text(row.created_utc_ns)}  {row.kind.value:<7} {row.seq:>8}  "
        f"{what:<13} {of:<20} {delivery(row)}{detail}"
    )


def _verification(path: Path, report: ChainReport) -> str:
    followed = f"{path}: {counted(report.rows, 'row')} of journal {report.journal}"
    if report.removed:
        followed += f", {report.removed} removed by retention or overflow"
    if report.fault is None:
        met = ""
        if report.head_position is not None:
            met = f"; the head is that of row {report.head_position}"
        return f"{followed}: every row is as it was written, none is missing{met}"
    number = "" if report.fault.seq is None else f" ({report.fault.kind} {report.fault.seq})"
    return f"{followed}; at row {report.fault.position}{number}: {report.fault.what}"
