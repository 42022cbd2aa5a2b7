"""What the page answers and counts where a real station would take long to bring it about."""

import asyncio
import io
import sqlite3
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Message, Scope

from edge.hmi.actions import (
    AcknowledgeAlarm,
    AcknowledgeBody,
    Actor,
    SetThreshold,
    StationAction,
    StationActionResult,
    ThresholdBody,
)
from edge.hmi.server import part_queries as parts_module
from edge.hmi.server import production_stats as numbers_module
from edge.hmi.server.auth import Guard, RequestRefused
from edge.hmi.server.handlers import LIVE_WITHIN_S, MAX_EXPORTS, Application, OnceASecond
from edge.hmi.server.limits import READS_OF_ONE
from edge.hmi.server.live_view import LiveView
from edge.hmi.server.part_queries import PartQueries
from edge.hmi.server.production_stats import ProductionStats
from edge.hmi.server.responses import Download
from edge.hmi.server.routes import application
from edge.hmi.server.taught_images import TaughtImages
from edge.hmi.station_end.actions import ActionServices, PageActions
from edge.journal.entries import Entry, RecordKind
from edge.settings.loading import load_settings
from edge.settings.overrides import Overrides
from edge.station.model.manager import ModelManager
from edge.station.model.releases import Releases
from edge.station.monitoring.health import Health
from tests.support.journaling import PATIENCE_S, running_writer, wait_until
from tests.support.page_contents import sample_part, sample_status

SCORE = {"raw_score": 1.0, "raw_threshold": 5.0, "anomaly_score": 0.1}


def verdict(result: str, model: str = "a" * 64, **more: Any) -> Entry:
    """A verdict as the page reads it."""
    content = {
        "id": "id",
        "part_id": None,
        "result": result,
        "reason": "score_below" if result == "OK" else "score_above",
        **SCORE,
        "duration_ms": {"total": 1.0},
        "deadline_met": None,
        "model": {"sha256": model},
        **more,
    }
    return Entry(RecordKind.VERDICT, content, result, None)


def feedback(seq: int, verdict_id: str, by: str) -> Entry:
    data = {"seq": seq, "verdict_id": verdict_id, "mark": "false_reject", "by": by}
    return Entry(
        RecordKind.EVENT, {"kind": "feedback", "utc": "2026-11-23T00:00:00Z", "data": data}
    )


class BusyStation:
    """A station that has no time."""

    async def do(self, action: StationAction, actor: Actor) -> StationActionResult:
        raise RequestRefused(409, "the station is busy. Try again.")


def asked(path: str, view: LiveView | None = None, **options: Any) -> httpx.Response:
    """Ask a page without a station behind it."""
    app = application(
        Application(
            title="Cell 7",
            language="en",
            view=view or LiveView(1, lambda _: None),
            station=BusyStation(),
            guard=Guard(token="secret"),
            parts=PartQueries(Path("nowhere"), None),
            taught=TaughtImages(None),
            numbers=ProductionStats(Path("nowhere"), ["06:00"]),
        )
    )

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(options.pop("method", "GET"), path, **options)

    return asyncio.run(answer())


# What it answers.


def test_a_part_number_without_end_is_not_found() -> None:
    assert asked("/api/parts/" + "9" * 5000).status_code == 404


def test_a_refusal_has_its_reason_also_from_a_station_that_is_busy() -> None:
    headers = {"content-type": "application/json", "x-edge-request": "1"}

    refused = asked("/api/actions/capture", method="POST", json={"count": 1}, headers=headers)

    assert refused.status_code == 401 and "token" in refused.json()["error"]


def test_a_silent_station_has_no_numbers_for_prometheus() -> None:
    now_s = [100.0]
    view = LiveView(1, lambda _: None, lambda: now_s[0])
    view.on_status(sample_status())
    now_s[0] += LIVE_WITHIN_S

    view.on_part(sample_part(), None)

    assert asked("/metrics", view).status_code == 503
    status = asked("/api/status", view).json()
    assert (status["live"], status["part"]) == (False, None)
    assert asked("/livez", view).status_code == 503
    assert asked("/readyz", view).json()["reasons"] == {"silent": "the station does not answer"}


def test_an_export_of_a_journal_that_cannot_be_read_is_an_error_and_no_empty_file() -> None:
    answer = asked("/api/parts.csv")

    assert answer.status_code == 503 and "no journal" in answer.json()["error"]


def test_only_a_few_exports_are_made_at_a_time() -> None:
    making: list[int] = []
    max_count: list[int] = []
    statuses: list[int] = []
    as_many_as_may = threading.Event()

    def pieces() -> Iterator[bytes]:
        making.append(1)
        if len(making) == MAX_EXPORTS:
            as_many_as_may.set()
        assert as_many_as_may.wait(PATIENCE_S)
        for _ in range(3):
            max_count.append(len(making))
            yield b"piece"
        making.pop()

    async def export(turns: asyncio.Semaphore) -> None:
        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        scope: Scope = {"type": "http", "method": "GET", "headers": []}
        await Download(pieces(), "parts.csv", "text/csv", turns)(scope, receive, send)

    async def all_at_once() -> None:
        turns = asyncio.Semaphore(MAX_EXPORTS)
        await asyncio.gather(*(export(turns) for _ in range(5)))
        await export(turns)  # and afterwards there is room again

    asyncio.run(all_at_once())

    assert max(max_count) == MAX_EXPORTS
    assert sorted(statuses) == [200, 200, 200, 503, 503, 503]


def test_an_answer_for_all_is_made_once_however_many_ask() -> None:
    made: list[int] = []

    def make() -> bytes:
        made.append(1)
        return b"numbers"

    async def ask() -> list[bytes]:
        one = OnceASecond(make)
        return await asyncio.gather(*(one.made() for _ in range(50)))

    assert asyncio.run(ask()) == [b"numbers"] * 50
    assert len(made) == 1


def test_of_one_address_only_some_reads_wait_and_others_take_their_turn() -> None:
    def request(address: str) -> Request:
        return Request({"type": "http", "headers": [], "client": (address, 1)})

    async def ask() -> list[bool]:
        guard = Guard(token=None, trusted_proxies=["192.0.2.1"])
        ended = asyncio.Event()

        async def read(address: str) -> bool:
            try:
                async with guard.reading(request(address)):
                    await ended.wait()
            except RequestRefused as refused:
                assert refused.status == 429
                return False
            return True

        addresses = ["192.0.2.7"] * 20 + ["192.0.2.8"] + ["192.0.2.1"] * 20
        reads = [asyncio.create_task(read(address)) for address in addresses]
        await asyncio.sleep(0)
        ended.set()
        return await asyncio.gather(*reads)

    answered = asyncio.run(ask())
    assert sum(answered[:20]) == READS_OF_ONE
    assert all(answered[20:])  # others, and a proxy that does not say for whom it asks


# What it reads.


def test_an_image_that_is_deleted_while_marks_are_exported_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_writer(tmp_path) as running:
        running.write(verdict("NOK"), feedback(1, "id", 'kim, "the" boss'))
        parts = PartQueries(running.path, tmp_path)
        monkeypatch.setattr(PartQueries, "snapshot", lambda *_: tmp_path / "deleted.png")

        content = b"".join(parts.feedback_tar())

    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert tar.getnames() == ["feedback.csv"]
        table = tar.extractfile("feedback.csv")
        assert table is not None
        lines = table.read().decode().splitlines()
    assert lines[1] == '1,id,false_reject,"kim, ""the"" boss",2026-11-23T00:00:00Z,'


def test_parts_of_a_new_model_are_not_looked_for_through_the_whole_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts_module, "MAX_LOOKED_AT", 3)
    old, new = "a" * 64, "b" * 64
    with running_writer(tmp_path) as running:
        running.write(verdict("NOK", new), *[verdict("OK", old)] * 2, verdict("NOK", new))
        parts = PartQueries(running.path, None)

        assert [row.seq for row in parts.last_decided(new, 10)] == [4]
        assert [row.seq for row in parts.last_decided(old, 10)] == [3, 2]


NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def make_journal(folder: Path, parts: Mapping[datetime, str]) -> Path:
    """Return a journal whose parts were recorded then."""
    with running_writer(folder) as running:
        running.write(*(verdict(result) for result in parts.values()))
    with sqlite3.connect(running.path) as connection:
        for seq, moment in enumerate(parts, 1):
            connection.execute(
                "UPDATE record SET created_utc_ns = ? WHERE seq = ?",
                (int(moment.timestamp()) * 1_000_000_000, seq),
            )
    return running.path


def test_the_shift_before_is_counted_whole_also_after_a_restart(tmp_path: Path) -> None:
    ago = {30: "OK", 20: "OK", 10: "NOK", 1: "OK"}
    parts = {NOON - timedelta(hours=hours): result for hours, result in ago.items()}

    found = ProductionStats(make_journal(tmp_path, parts), ["06:00"]).numbers(NOON)

    # One shift a day: the one before began 30 hours ago.
    assert (found.shift_before.total, found.shift_before.yield_) == (3, 2 / 3)
    assert found.shift.total == 1
    assert sum(hour.total for hour in found.hours) == 3
    assert found.complete


def test_a_long_journal_is_counted_back_piece_by_piece_and_ends_with_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = ["OK", "NOK", "OK", "OK", "ERROR"] * 8
    parts = {NOON - timedelta(minutes=len(results) - n): r for n, r in enumerate(results)}
    journal = make_journal(tmp_path, parts)
    whole = ProductionStats(journal, ["06:00"]).numbers(NOON)
    for name, value in {"FRESH_ROWS": 6, "PIECE_ROWS": 7, "COUNTING_S": 0.0}.items():
        monkeypatch.setattr(numbers_module, name, value)
    numbers = ProductionStats(journal, ["06:00"])

    answers = [numbers.numbers(NOON)]
    while not answers[-1].complete:
        answers.append(numbers.numbers(NOON))

    assert len(answers) == 5
    assert [one.shift.total for one in answers] == [13, 20, 27, 34, 40]
    assert str(answers[0].since) > str(answers[-1].since) == whole.since
    same = {"hours", "shift", "shift_before", "strip", "events"}
    assert answers[-1].model_dump(include=same) == whole.model_dump(include=same)
    assert sorted(answers[-1].reasons) == sorted(whole.reasons)


def test_what_came_while_nobody_looked_is_counted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FRESH_ROWS": 3, "PIECE_ROWS": 2, "COUNTING_S": 0.0}.items():
        monkeypatch.setattr(numbers_module, name, value)
    now = datetime.now().astimezone()
    with running_writer(tmp_path) as running:
        running.write(verdict("NOK"))
        numbers = ProductionStats(running.path, ["06:00"])
        numbers.numbers(now)
        running.write(*[verdict("OK")] * 5, verdict("NOK"), feedback(1, "id", "kim"))

        while not (found := numbers.numbers(now)).complete:
            continue

    assert sum(hour.total for hour in found.hours) == 7
    assert [part.seq for part in found.strip] == [7, 1]
    assert [event.kind for event in found.events] == ["feedback"]


def test_causes_are_those_of_the_shift(tmp_path: Path) -> None:
    parts = {NOON - timedelta(hours=hours): "NOK" for hours in (8, 7, 5, 1)}

    found = ProductionStats(make_journal(tmp_path, parts), ["06:00"]).numbers(NOON)

    assert found.reasons == [("score_above", 2)]


def test_a_journal_that_cannot_be_read_yet_is_begun_where_it_should_be(tmp_path: Path) -> None:
    numbers = ProductionStats(tmp_path / "journal.db", ["06:00"])
    with pytest.raises(Exception, match="no journal"):
        numbers.numbers(NOON)
    parts = {NOON - timedelta(hours=hours): "OK" for hours in (1000, 1)}
    make_journal(tmp_path, parts)

    assert len(numbers.numbers(NOON).trend) == 1


def test_parts_that_missed_their_deadline_are_counted(tmp_path: Path) -> None:
    met = (True, False, None, False)
    with running_writer(tmp_path) as running:
        running.write(*(verdict("OK", deadline_met=one) for one in met))

    found = ProductionStats(running.path, ["06:00"]).numbers(datetime.now().astimezone())

    assert (found.deadlines.parts, found.deadlines.late) == (3, 2)


# What it does.


def page_actions(folder: Path, health: Health, **more: Any) -> PageActions:
    given: dict[str, Any] = {
        "model": None,
        "reread": None,
        "reload": None,
        "choose_recipe": None,
        "overrides": Overrides.beside(folder),
        "snapshots": lambda: None,
        "recent": lambda: None,
        "health": health,
        "record_event": lambda _: None,
    }
    return PageActions(ActionServices(**given | more))


class LookedAt(dict[str, str]):
    """Reasons; when the first is looked up, somebody acknowledges another."""

    meanwhile: Callable[[], None] | None = None

    def __contains__(self, reason: object) -> bool:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            thread = threading.Thread(target=meanwhile)
            thread.start()
            thread.join(0.3)
        return super().__contains__(reason)


def test_an_acknowledgement_while_the_status_is_made_breaks_and_loses_nothing(
    tmp_path: Path,
) -> None:
    reasons = LookedAt(drift="look", journal_full="look")
    done = page_actions(tmp_path, cast(Health, SimpleNamespace(reasons=reasons)))
    kim = Actor("kim", "192.0.2.7")

    def acknowledge(reason: str) -> None:
        done.do(AcknowledgeAlarm(body=AcknowledgeBody(reason=reason)), kim)

    acknowledge("drift")

    reasons.meanwhile = lambda: acknowledge("journal_full")
    done.acknowledged()

    wait_until(lambda: len(done.acknowledged()) == 2, "both")


def test_a_threshold_that_a_defect_kept_out_of_force_is_not_there_at_the_next_start(
    tmp_path: Path, bundle: Path
) -> None:
    settings = load_settings(None, {"camera": {"uri": "0"}, "model": {"path": str(bundle)}})
    model = ModelManager(
        settings=settings,
        tuning=tmp_path / "tuning.json",
        simulated=True,
        trial=lambda: None,
        reread=lambda _: settings,
        record_event=lambda _: None,
        releases=Releases(None),
    )

    def fails() -> Mapping[str, Any]:
        raise RuntimeError("a defect")

    done = page_actions(tmp_path, Health(), model=model, reread=lambda: settings, reload=fails)

    with pytest.raises(RuntimeError):
        done.do(SetThreshold(body=ThresholdBody(image_threshold=7.0)), Actor("kim", "::1"))
    assert Overrides.beside(tmp_path).read() is None
