"""Single parts: found in the journal, shown with what is kept of them, exported."""

import io
import json
import os
import re
import sqlite3
import tarfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from edge.contract.encoding import utc_text
from edge.contract.image_source import image_name
from edge.csv_table import write_rows
from edge.errors import StationError
from edge.hmi.actions import InspectedPart, MarkedImage
from edge.hmi.server.answer_models import FeedbackRecord, FoundPart, PartDetail
from edge.journal import database
from edge.journal.entries import JournalRow
from edge.journal.export import write_csv
from edge.journal.outbox import COLUMNS, as_row
from edge.journal.query import Query, query
from edge.station.images.snapshot_policy import SnapshotName, SnapshotReason, recent_root

SEARCH_LIMIT_S = 5.0
MAX_FEEDBACK = 2000
# Of the newest marks; no build takes more images.
MAX_LEARNED = 500
# Newest parts that a candidate is compared on, where their images are kept.
MAX_INSPECTED = 1000
MARKS_S = 0.5
THUMBNAIL_PX = 320
LARGE_BYTES = 300_000
# So many verdicts are looked at for those of one model.
MAX_LOOKED_AT = 20_000
_OPERATIONS_PER_LOOK = 20_000
_CSV_ROWS = 500
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
IMAGES = {"image": SnapshotName.IMAGE, "overlay": SnapshotName.OVERLAY}
MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}


class SearchTooLong(StationError):
    """The journal is too long to be searched whole for this; a narrower question helps."""


@dataclass(frozen=True, slots=True)
class SearchPage:
    """A page of a search, newest first.

    Attributes:
        before: position to go on from; None when there is nothing older.
    """

    rows: list[JournalRow]
    before: int | None


class PartQueries:
    """Reads one journal and one folder of snapshots. Any thread may call anything."""

    def __init__(self, journal: Path, snapshots: Path | None) -> None:
        self.journal = journal
        self._snapshots = snapshots
        self._reading_marks = threading.Lock()
        self._marks: tuple[float, dict[int, FeedbackRecord]] | None = None

    def search(self, question: Query, before: int | None, max_count: int) -> SearchPage:
        """Return the newest rows that answer a question, in front of a position.

        Raises:
            JournalError: it cannot be read.
            SearchTooLong: it takes longer than somebody who waits for it should.
        """
        condition, values = question.condition()
        # Backwards through the table itself: the newest are found at once, nothing is sorted.
        statement = f"SELECT {COLUMNS} FROM record NOT INDEXED WHERE {condition}"
        if before is not None:
            statement, values = statement + " AND position < ?", [*values, before]
        rows = self._rows(f"{statement} ORDER BY position DESC LIMIT ?", [*values, max_count + 1])
        more = len(rows) > max_count
        return SearchPage(rows[:max_count], rows[max_count - 1].position if more else None)

    def verdict(self, seq: int) -> JournalRow | None:
        """Return a verdict by its number.

        Raises:
            JournalError: it cannot be read.
        """
        rows = self._rows(f"SELECT {COLUMNS} FROM record WHERE kind = 'verdict' AND seq = ?", [seq])
        return rows[0] if rows else None

    def feedback(self) -> dict[int, FeedbackRecord]:
        """Return by ``seq`` how people marked parts, the newest mark of each.

        Read at most once in ``MARKS_S``, however many ask.

        Raises:
            JournalError: it cannot be read.
            SearchTooLong: as ``search``.
        """
        with self._reading_marks:
            now_s = time.monotonic()
            if self._marks is None or now_s - self._marks[0] >= MARKS_S:
                self._marks = now_s, self._feedback_now()
            return self._marks[1]

    def marked_images(self, recipe: str) -> list[MarkedImage]:
        """Return the parts of a recipe that are marked, with their images; the oldest first.

        Raises:
            JournalError: it cannot be read.
            SearchTooLong: as ``search``.
        """
        found = []
        for seq, record in sorted(self.feedback().items())[-MAX_LEARNED:]:
            row = self.verdict(seq)
            payload = json.loads(row.payload) if row is not None else {}
            judged_by = payload.get("recipe")
            if judged_by is None or judged_by["id"] != recipe or record.verdict_id is None:
                continue
            path = self.snapshot(record.verdict_id, "image")
            found.append(
                MarkedImage.model_validate(
                    {
                        "seq": seq,
                        "mark": record.mark,
                        "path": str(path) if path else None,
                        "sha256": payload["image"]["sha256"],
                    }
                )
            )
        return found

    def inspected_for(self, recipe: str) -> list[InspectedPart]:
        """Return which of the newest parts of a recipe have an image; the newest first.

        Raises:
            JournalError: it cannot be read.
            SearchTooLong: as ``search``.
        """
        rows = self._rows(
            f"SELECT {COLUMNS} FROM record INDEXED BY record_by_seq"
            " WHERE kind = 'verdict' ORDER BY seq DESC LIMIT ?",
            [MAX_INSPECTED],
        )
        found = []
        for row in rows:
            payload = json.loads(row.payload)
            judged_by = payload["recipe"]
            if judged_by is None or judged_by["id"] != recipe:
                continue
            path = self.snapshot(payload["id"], "image")
            if path is not None:
                found.append(
                    InspectedPart.model_validate(
                        {
                            "seq": row.seq,
                            "id": payload["id"],
                            "result": row.result,
                            "path": str(path),
                            "sha256": payload["image"]["sha256"],
                        }
                    )
                )
        return found

    def _feedback_now(self) -> dict[int, FeedbackRecord]:
        rows = self._rows(
            f"SELECT {COLUMNS} FROM record INDEXED BY record_by_seq"
            " WHERE kind = 'event' AND instr(payload, ?) ORDER BY seq DESC LIMIT ?",
            [b'"kind":"feedback"', MAX_FEEDBACK],
        )
        found: dict[int, FeedbackRecord] = {}
        for row in rows:
            content = json.loads(row.payload)
            data = content["data"]
            if content["kind"] == "feedback" and isinstance(data.get("seq"), int):
                record = FeedbackRecord.model_validate({**data, "utc": content["utc"]})
                found.setdefault(record.seq, record)
        return {seq: record for seq, record in found.items() if record.mark != "none"}

    def csv(self, question: Query) -> Iterator[bytes]:
        """Yield rows as CSV in pieces, oldest first, in bounded memory.

        Raises:
            JournalError: it cannot be read.
        """
        rows = query(self.journal, question)
        first = True
        while True:
            some = list(islice(rows, _CSV_ROWS))
            if not some and not first:
                return
            text = io.StringIO()
            write_csv(some, text)
            piece = text.getvalue()
            yield (piece if first else piece.partition("\n")[2]).encode()
            first = False

    def feedback_tar(self) -> Iterator[bytes]:
        """Yield a tar with ``good/`` and ``defect/`` images and ``feedback.csv``.

        Unpacked it is a folder for ``train-station calibrate --data``.

        Raises:
            JournalError: it cannot be read.
        """
        marks = self.feedback()
        buffer, text = io.BytesIO(), io.StringIO()
        table: list[tuple[Any, ...]] = [("seq", "verdict_id", "mark", "by", "utc", "image")]
        with tarfile.open(fileobj=buffer, mode="w|") as tar:
            for seq, record in sorted(marks.items()):
                verdict_id, mark = str(record.verdict_id), record.mark
                name, image = self._image(verdict_id)
                if image is not None:
                    name = f"{'good' if mark == 'false_reject' else 'defect'}/{name}"
                    _add(tar, name, image)
                    yield _emptied(buffer)
                table.append((seq, verdict_id, mark, record.by, record.utc, name))
            write_rows(text, table, "\n")
            _add(tar, "feedback.csv", text.getvalue().encode())
        yield _emptied(buffer)

    def _image(self, verdict_id: str) -> tuple[str, bytes | None]:
        """Return name and content of a kept image; nothing if the bounds have deleted it."""
        path = self.snapshot(verdict_id, "image")
        file = self.opened(verdict_id, "image")
        if path is None or file is None:
            return "", None
        with file:
            return path.name, file.read()

    def kept(self, verdict_id: str, which: str) -> Path | None:
        """Return a file of the snapshot folder as ``snapshot``, none of the last hours only."""
        if self._snapshots is None or not _ID.fullmatch(verdict_id):
            return None
        names = (SnapshotName(verdict_id, why) for why in SnapshotReason)
        return _file(name.path(self._snapshots, IMAGES[which]) for name in names)

    def snapshot(self, verdict_id: str, which: str) -> Path | None:
        """Return a file of the snapshot folder, by the id of its verdict; None where none is kept.

        The path is made of a checked id and of names of ours, never of what a browser sent.
        """
        if self._snapshots is None or not _ID.fullmatch(verdict_id):
            return None
        found = self.kept(verdict_id, which)
        if found is None and which == "image":
            name = SnapshotName(verdict_id, SnapshotReason.RECENT)
            found = _file(name.paths(recent_root(self._snapshots)))
        return found

    def opened(self, verdict_id: str, which: str) -> BinaryIO | None:
        """Return a file as ``snapshot``, open; a link is not followed."""
        path = self.snapshot(verdict_id, which)
        try:
            return None if path is None else open(path, "rb", opener=_no_link)
        except OSError:  # deleted by the bounds of the folder since
            return None

    def thumbnail(self, verdict_id: str) -> bytes | None:
        """Return a small JPEG of a part, with its heat map where that is kept."""
        file = self.opened(verdict_id, "overlay") or self.opened(verdict_id, "image")
        if file is None:
            return None
        with file:
            content = np.frombuffer(file.read(), np.uint8)
        # JPEG decodes to a quarter in a fraction of the time.
        large = content.size > LARGE_BYTES
        pixels = cv2.imdecode(content, cv2.IMREAD_REDUCED_COLOR_4 if large else cv2.IMREAD_COLOR)
        if pixels is None:  # cut off by a power failure
            return None
        height = max(1, round(pixels.shape[0] * THUMBNAIL_PX / pixels.shape[1]))
        small = cv2.resize(pixels, (THUMBNAIL_PX, height), interpolation=cv2.INTER_AREA)
        return cv2.imencode(".jpg", small)[1].tobytes()

    def found_part(self, row: JournalRow, marks: Mapping[int, FeedbackRecord]) -> FoundPart:
        """Return a row for a list."""
        payload = json.loads(row.payload)
        return FoundPart(
            seq=row.seq,
            id=payload["id"],
            utc=payload["time"]["decided_utc"],
            part_id=row.part_id,
            image_name=image_name(payload),
            result=row.result,
            reason=payload["reason"],
            score=payload["anomaly_score"],
            raw_score=payload["raw_score"],
            raw_threshold=payload["raw_threshold"],
            total_ms=payload["duration_ms"]["total"],
            simulated=payload["simulated"],
            mark=marks[row.seq].mark if row.seq in marks else None,
            image=any(self.snapshot(payload["id"], which) for which in IMAGES),
        )

    def detail(self, row: JournalRow, marks: Mapping[int, FeedbackRecord]) -> PartDetail:
        """Return everything that is known of a part."""
        payload = json.loads(row.payload)
        return PartDetail(
            seq=row.seq,
            recorded_utc=utc_text(row.created_utc_ns),
            acknowledged=row.acknowledged,
            dead=row.dead,
            verdict=payload,
            image_name=image_name(payload),
            feedback=marks.get(row.seq),
            images=[kind for kind in IMAGES if self.snapshot(payload["id"], kind) is not None],
        )

    def last_decided(self, model_sha256: str, max_count: int) -> list[JournalRow]:
        """Return the newest verdicts of a model, newest first; others are not looked for for long.

        Raises:
            JournalError: it cannot be read.
            SearchTooLong: as ``search``.
        """
        newest = (
            "SELECT * FROM record INDEXED BY record_by_seq"
            f" WHERE kind = 'verdict' ORDER BY seq DESC LIMIT {MAX_LOOKED_AT}"
        )
        return self._rows(
            f"SELECT {COLUMNS} FROM ({newest}) WHERE instr(payload, ?) ORDER BY seq DESC LIMIT ?",
            [model_sha256.encode(), max_count],
        )

    def _rows(self, statement: str, values: list[Any]) -> list[JournalRow]:
        deadline = time.monotonic() + SEARCH_LIMIT_S
        with closing(database.connect_reading(self.journal)) as connection:
            connection.set_progress_handler(
                lambda: time.monotonic() > deadline, _OPERATIONS_PER_LOOK
            )
            try:
                return [as_row(found) for found in connection.execute(statement, values)]
            except sqlite3.OperationalError as error:
                if time.monotonic() > deadline:
                    raise SearchTooLong(
                        f"the search took longer than {SEARCH_LIMIT_S:g} s. Give a "
                        "period of time, or "
                        "use `edge-run --journal` on this PC."
                    ) from error
                raise database.unreadable(self.journal, error) from error
            except sqlite3.Error as error:
                raise database.unreadable(self.journal, error) from error


def _file(paths: Iterable[Path]) -> Path | None:
    return next((path for path in paths if path.is_file() and not path.is_symlink()), None)


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = len(content), int(time.time())
    tar.addfile(entry, io.BytesIO(content))


def _emptied(buffer: io.BytesIO) -> bytes:
    content = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return content
