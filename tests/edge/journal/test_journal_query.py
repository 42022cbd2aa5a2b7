"""Looking into the journal: query, CSV, the chain, the command."""

import csv
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.cli.journal import run_journal_command
from edge.contract.event import Event, Severity, event_payload
from edge.errors import OutputNotWritable
from edge.journal.chain import link
from edge.journal.entries import Entry, JournalRow, JournalUnavailable, RecordKind
from edge.journal.export import COLUMNS, export_csv
from edge.journal.outbox import Outbox
from edge.journal.query import Query, query
from edge.journal.verification import verify_chain
from edge.settings.station import Settings
from edge.station.recording import journal_folder as records
from edge.station.recording.journal_folder import journal_folder, journal_folder_seen_from
from tests.support.journaling import rows, running_writer, verdict

UTC_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000

# As the station sends it, shortened.
FULL_VERDICT: dict[str, Any] = {
    "schema": "verdict/1",
    "id": "0198f2",
    "simulated": False,
    "part_id": 'B-"4711", left',
    "trigger_id": "9917",
    "result": "NOK",
    "reason": "score_above",
    "anomaly_score": 0.71,
    "threshold": 0.5,
    "image": {"sha256": "ab12"},
    "frame": {"id": 7},
    "time": {"decided_utc": "2026-01-02T03:04:05.000006Z"},
    "duration_ms": {"total": 12.5},
    "deadline_met": True,
    "model": {"name": "bottle", "version": "7", "sha256": "cd34"},
    "config_sha256": "ef56",
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A journal of a full verdict, an event and ten short verdicts, a second apart."""
    seconds = iter(range(1000))
    with running_writer(
        tmp_path / "journal", utc_ns=lambda: UTC_NS + next(seconds) * SECOND_NS
    ) as running:
        running.write(Entry(RecordKind.VERDICT, FULL_VERDICT, "NOK", FULL_VERDICT["part_id"]))
        alarm = Event("camera_lost", Severity.ALARM, "gone", {"camera": "top"})
        running.write(Entry(RecordKind.EVENT, event_payload(alarm, UTC_NS)))
        for n in range(10):
            running.write(verdict(n, "OK" if n % 2 else "ERROR", f"part {n}"))
        running.writer.acknowledge([1, 2])
        running.writer.mark_dead_letter(3, "too large")
        running.flush()
        yield tmp_path / "journal"


def found(folder: Path, **wanted: Any) -> list[tuple[str, int]]:
    return [(row.kind.value, row.seq) for row in query(folder / "journal.db", Query(**wanted))]


def test_rows_are_found_by_kind_result_part_number_and_time_while_the_station_runs(
    folder: Path,
) -> None:
    assert found(folder, kind=RecordKind.EVENT) == [("event", 1)]
    assert found(folder, result="NOK") == [("verdict", 1)]
    assert found(folder, part_id="part 3") == [("verdict", 5)]
    assert found(folder, kind=RecordKind.VERDICT, from_seq=4, to_seq=5) == [
        ("verdict", 4),
        ("verdict", 5),
    ]
    everything = rows(folder / "journal.db")
    third = everything[2].created_utc_ns
    assert found(folder, from_utc_ns=third, to_utc_ns=third) == [("verdict", 2)]
    assert len(found(folder, waiting=True)) == 9


def test_many_rows_come_in_order_and_none_twice(tmp_path: Path) -> None:
    with running_writer(tmp_path) as running:
        running.write(*(verdict(n) for n in range(1000)))

        assert found(tmp_path) == [("verdict", n) for n in range(1, 1001)]


def test_the_csv_has_stable_columns_and_every_value(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "rows.csv"

    assert export_csv(query(folder / "journal.db"), target) == 12

    with target.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == COLUMNS
    first, alarm = lines[0], lines[1]
    assert {name: first[name] for name in ("kind", "seq", "delivery", "result", "reason")} == {
        "kind": "verdict",
        "seq": "1",
        "delivery": "acknowledged",
        "result": "NOK",
        "reason": "score_above",
    }
    assert first["part_id"] == FULL_VERDICT["part_id"]
    assert first["trigger_id"] == "9917"
    assert first["decided_utc"] == "2026-01-02T03:04:05.000006Z"
    assert (first["anomaly_score"], first["threshold"]) == ("0.71", "0.5")
    assert (first["simulated"], first["deadline_met"]) == ("false", "true")
    assert (first["model_sha256"], first["image_sha256"]) == ("cd34", "ab12")
    assert (first["frame_id"], first["total_ms"]) == ("7", "12.5")
    assert first["event_kind"] == ""
    assert (alarm["event_kind"], alarm["event_severity"]) == ("camera_lost", "alarm")
    assert alarm["event_data"] == '{"camera":"top"}'
    assert lines[2]["delivery"] == "dead: too large"
    assert lines[3]["delivery"] == "waiting"


@pytest.mark.parametrize("part_id", ["=HYPERLINK(1)", "+1", "-1", "@a", "\tx"])
def test_no_part_number_is_a_formula_to_a_spreadsheet(
    part_id: str, folder: Path, tmp_path: Path
) -> None:
    row = next(iter(query(folder / "journal.db")))
    payload = json.dumps({**json.loads(row.payload), "part_id": part_id, "anomaly_score": -1.5})
    export_csv([replace(row, payload=payload.encode())], tmp_path / "rows.csv")

    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        line = next(csv.DictReader(file))
    assert line["part_id"] == f"'{part_id}"
    assert line["anomaly_score"] == "-1.5"


def test_a_csv_that_cannot_be_written_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputNotWritable):
        export_csv(query(folder / "journal.db"), tmp_path / "missing" / "rows.csv")

    def broken() -> Iterator[JournalRow]:
        yield from rows(folder / "journal.db")[:1]
        raise JournalUnavailable("gone")

    (tmp_path / "rows.csv").write_text("older")
    with pytest.raises(JournalUnavailable):
        export_csv(broken(), tmp_path / "rows.csv")

    assert (tmp_path / "rows.csv").read_text() == "older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal", "rows.csv"]


TAMPERINGS = {
    "altered payload": ("UPDATE record SET payload = replace(payload, 'n', 'm') WHERE seq = 4", 5),
    "altered result": ("UPDATE record SET result = 'OK' WHERE position = 1", 1),
    "altered part": ("UPDATE record SET part_id = 'other' WHERE position = 5", 5),
    "deleted row": ("DELETE FROM record WHERE position = 6", 6),
    "deleted first row": ("DELETE FROM record WHERE position = 1", 1),
    "deleted last row": ("DELETE FROM record WHERE position = 12", 12),
    "deleted everything": ("DELETE FROM record", 1),
    "swapped rows": (
        "UPDATE record SET payload = CASE position WHEN 7 THEN (SELECT payload FROM record WHERE"
        " position = 8) ELSE (SELECT payload FROM record WHERE position = 7) END"
        " WHERE position IN (7, 8)",
        7,
    ),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_the_chain_finds_the_first_row_that_was_tampered_with(tampering: str, folder: Path) -> None:
    statement, position = TAMPERINGS[tampering]
    assert verify_chain(folder / "journal.db").fault is None
    with closing(sqlite3.connect(folder / "journal.db")) as connection, connection:
        connection.execute(statement)

    report = verify_chain(folder / "journal.db")

    assert report.fault is not None
    assert report.fault.position == position


def written_anew(folder: Path, from_position: int) -> None:
    """Forge as the owner of the disk: alter a row, and compute all that rests on it anew."""
    with closing(sqlite3.connect(folder / "journal.db")) as connection, connection:
        rows = connection.execute(
            "SELECT position, payload, chain FROM record WHERE position >= ? ORDER BY position",
            (from_position - 1,),
        ).fetchall()
        chain = rows[0][2]
        for position, payload, _ in rows[1:]:
            forged = payload[:-1] + b',"forged":1}' if position == from_position else payload
            chain = link(chain, forged)
            connection.execute(
                "UPDATE record SET payload = ?, chain = ? WHERE position = ?",
                (forged, chain, position),
            )
        connection.execute("UPDATE tally SET chain = ?", (chain,))


def test_a_chain_that_was_written_anew_does_not_meet_the_head_that_was_published(
    folder: Path,
) -> None:
    path = folder / "journal.db"
    with closing(Outbox(path)) as outbox:
        head = outbox.backlog().head
    kept = bytes.fromhex(head.sha256)
    printed: list[str] = []
    assert run_journal_command(folder, head=kept, emit=printed.append) == 0
    assert f"the head is that of row {head.position}" in printed[-1]

    written_anew(folder, 11)

    assert verify_chain(path).fault is None
    assert run_journal_command(folder, head=kept, emit=printed.append) == 65
    assert f"no row has the head {head.sha256}" in printed[-1]


def test_rows_that_the_witness_has_seen_and_are_not_there_are_missing(folder: Path) -> None:
    path = folder / "journal.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM record WHERE position > 9")
        connection.execute(
            "UPDATE tally SET position = 9, verdict_seq = verdict_seq - 3,"
            " chain = (SELECT chain FROM record WHERE position = 9)"
        )
    printed: list[str] = []

    assert run_journal_command(folder, verify=True, emit=printed.append) == 65
    assert "at row 10: rows 10 to 12 are missing, up to verdict 11" in printed[0]
    assert "the witness file beside the journal recorded them" in printed[0]


def test_the_command_shows_the_newest_records_in_order(folder: Path) -> None:
    printed: list[str] = []

    assert run_journal_command(folder, Query(kind=RecordKind.VERDICT), 2, emit=printed.append) == 0
    assert [line.split()[2] for line in printed[1:]] == ["10", "11"]


def test_the_command_says_what_an_event_is_about(folder: Path) -> None:
    printed: list[str] = []

    run_journal_command(folder, Query(kind=RecordKind.EVENT), emit=printed.append)

    assert printed[1].split()[1:] == ["event", "1", "alarm", "camera_lost", "acknowledged", "gone"]


def test_the_command_says_why_a_part_was_not_decided(tmp_path: Path) -> None:
    printed: list[str] = []
    cut = FULL_VERDICT | {
        "result": "ERROR",
        "reason": "frame_incomplete",
        "detail": "it ends early",
    }
    with running_writer(tmp_path / "journal") as running:
        running.write(Entry(RecordKind.VERDICT, cut, "ERROR"))
        running.flush()

        run_journal_command(tmp_path / "journal", emit=printed.append)

    assert printed[1].endswith("  frame_incomplete: it ends early")


def test_what_no_broker_was_to_have_is_reported_as_kept(tmp_path: Path) -> None:
    printed: list[str] = []
    with running_writer(tmp_path / "journal", relayed=False) as running:
        running.write(verdict(0))
        running.flush()

        run_journal_command(tmp_path / "journal", emit=printed.append)

    assert "0 waiting for the broker" in printed[0]
    assert printed[1].endswith(" kept")


def test_the_command_shows_exports_and_verifies(folder: Path, tmp_path: Path) -> None:
    printed: list[str] = []

    assert run_journal_command(folder, Query(result="NOK"), emit=printed.append) == 0
    assert "newest verdict 11, event 1; 9 waiting for the broker" in printed[0]
    assert "NOK" in printed[1]
    assert "acknowledged" in printed[1]
    assert len(printed) == 2

    printed.clear()
    assert run_journal_command(folder, csv=tmp_path / "all.csv", emit=printed.append) == 0
    assert printed == [f"{tmp_path / 'all.csv'}: 12 rows"]

    printed.clear()
    assert run_journal_command(folder, verify=True, emit=printed.append) == 0
    assert "12 rows" in printed[0]
    assert "none is missing" in printed[0]

    with closing(sqlite3.connect(folder / "journal.db")) as connection, connection:
        connection.execute("DELETE FROM record WHERE position = 4")
    printed.clear()
    assert run_journal_command(folder, verify=True, emit=printed.append) == 65
    assert "at row 4 (verdict 4): rows 4 to 4 are missing" in printed[0]


def test_a_journal_of_another_user_is_reported_as_such(folder: Path) -> None:
    superuser = os.geteuid() == 0
    folder.chmod(0)
    if superuser:
        os.seteuid(65534)
    try:
        with pytest.raises(JournalUnavailable, match=r"Permission denied.*sudo"):
            run_journal_command(folder)
    finally:
        if superuser:
            os.seteuid(0)
        folder.chmod(0o755)


def test_the_journal_of_a_service_is_found_from_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "SERVICE_SETTINGS", tmp_path / "etc")
    monkeypatch.setattr(records, "SERVICE_STATE", tmp_path / "lib")
    (tmp_path / "lib" / "cam1").mkdir(parents=True)
    content: dict[str, Any] = {
        "camera": {"uri": "0"},
        "model": {"path": "a.xml"},
        "mqtt": {"url": "mqtt://broker"},
    }
    settings = Settings.model_validate(content)
    named = Settings.model_validate({**content, "journal": {"folder": "/own"}})
    own = journal_folder(settings)

    assert journal_folder_seen_from(tmp_path / "etc/cam1.yaml", settings) == (
        tmp_path / "lib/cam1/journal"
    )
    assert journal_folder_seen_from(tmp_path / "etc/cam1.yaml", named) == Path("/own")
    assert journal_folder_seen_from(tmp_path / "etc/cam2.yaml", settings) == own
    assert journal_folder_seen_from(tmp_path / "cam1.yaml", settings) == own
    assert journal_folder_seen_from(None, settings) == own


def test_the_command_names_a_folder_without_a_journal(tmp_path: Path) -> None:
    with pytest.raises(JournalUnavailable, match="no journal exists"):
        run_journal_command(tmp_path)
