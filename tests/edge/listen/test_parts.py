"""Parts of several views: the rule, every order of arrival, restarts, and two real stations."""

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion

from edge.contract.part import JoinedPart, PartReason, View, judge_views
from edge.errors import ConfigurationError
from edge.inspection.decision import Result
from edge.listen.cli import main
from edge.listen.joined_parts import Parts
from edge.listen.part_join import Added, JoinRules, PartJoin
from edge.listen.part_settings import PartSettings, read_part_settings
from edge.listen.part_store import PartStore
from edge.listen.records import Arrived, NotStoredNow
from tests.support.broker import GENEROUS_S, Broker
from tests.support.relaying import VERDICT
from tests.support.small_bundle import write_images
from tests.support.station_process import StationProcess, until

SECOND_NS = 1_000_000_000
UTC_NS = 1_767_225_600 * SECOND_NS
TOP, SIDE, REAR = "site/line/cell/top", "site/line/cell/side", "site/line/cell/rear"
RULES = JoinRules((TOP, SIDE), 2 * SECOND_NS, 60 * SECOND_NS, open_parts=3)


def view(station: str, result: Result = Result.OK, at_s: float = 0.0, **more: Any) -> View:
    content: dict[str, Any] = {"id": f"{station} {at_s}", **more}
    return View(
        station=station,
        journal="j",
        seq=1,
        result=result,
        reason="score_below",
        decided_utc_ns=UTC_NS + round(at_s * SECOND_NS),
        **content,
    )


class Joining:
    """A join with a clock in seconds."""

    def __init__(self, rules: JoinRules = RULES) -> None:
        self.join = PartJoin(rules)
        self.parts: list[JoinedPart] = []

    def add(self, part_id: str, one: View, at_s: float) -> Added:
        now_ns = round(at_s * SECOND_NS)
        taken, done = self.join.add(part_id, one, now_ns, UTC_NS + now_ns)
        self.parts += done
        return taken

    def wait(self, until_s: float) -> None:
        now_ns = round(until_s * SECOND_NS)
        self.parts += self.join.expired(now_ns, UTC_NS + now_ns)

    @property
    def results(self) -> list[tuple[str, Result, PartReason]]:
        return [(part.part_id, part.result, part.reason) for part in self.parts]


OK, NOK, UNCLEAR, ERROR = Result.OK, Result.NOK, Result.NOT_DECIDABLE, Result.ERROR


@pytest.mark.parametrize(
    ("results", "missing", "expected"),
    [
        ((OK, OK), (), (OK, PartReason.VIEWS_OK)),
        ((OK, UNCLEAR), (), (UNCLEAR, PartReason.VIEW_NOT_DECIDABLE)),
        ((OK,), (SIDE,), (ERROR, PartReason.VIEW_MISSING)),
        ((UNCLEAR, ERROR), (), (ERROR, PartReason.VIEW_ERROR)),
        ((NOK, ERROR), (), (NOK, PartReason.VIEW_NOK)),
        ((NOK,), (SIDE,), (NOK, PartReason.VIEW_NOK)),
    ],
)
def test_the_worst_view_counts(
    results: tuple[Result, ...], missing: tuple[str, ...], expected: tuple[Result, PartReason]
) -> None:
    for order in permutations(zip((TOP, SIDE), results, strict=False)):
        assert judge_views([view(*one) for one in order], missing) == expected


def test_an_ok_that_missed_its_own_deadline_is_no_ok() -> None:
    late = replace(view(SIDE), in_time=False)
    assert judge_views([view(TOP), late], ()) == (ERROR, PartReason.VIEW_LATE)


@given(st.data())
def test_every_part_is_decided_once_and_ok_only_where_all_views_came_in_time(
    data: st.DataObject,
) -> None:
    rules = replace(RULES, views=(TOP, SIDE, REAR), open_parts=50)
    line = Joining(rules)
    arrivals = [
        (data.draw(st.floats(0, 6), label=f"{part} {station}"), str(part), station)
        for part in range(4)
        for station in data.draw(st.sets(st.sampled_from(rules.views)), label=f"views of {part}")
    ]
    for at_s, part_id, station in sorted(arrivals):
        line.add(part_id, view(station, at_s=at_s, id=f"{part_id} {station}"), at_s)
    line.wait(100.0)

    assert line.join.open_parts == ()
    for part_id in {one[1] for one in arrivals}:
        times = [at_s for at_s, name, _ in arrivals if name == part_id]
        in_time = len(times) == len(rules.views) and max(times) - min(times) < 2.0
        found = [part for part in line.parts if part.part_id == part_id]
        assert [part.result for part in found if part.result is OK] == [OK] * in_time
        views = [one.id for part in found for one in part.views]
        assert len(views) == len(set(views))


def test_a_view_that_comes_after_the_decision_changes_nothing() -> None:
    line = Joining()
    line.add("1", view(TOP), 0.0)
    line.wait(2.0)
    assert line.add("1", view(SIDE, at_s=0.5), 2.1) is Added.LATE
    line.wait(10.0)
    assert line.results == [("1", ERROR, PartReason.VIEW_MISSING)]
    assert line.parts[0].missing == (SIDE,)


def test_rework_is_another_time_of_the_part_and_joins_no_view_of_the_first() -> None:
    line = Joining()
    line.add("1", view(TOP), 0.0)
    line.wait(2.0)
    line.add("1", view(SIDE, at_s=30.0), 30.0)
    line.add("1", view(TOP, at_s=30.2), 30.2)
    assert line.results == [("1", ERROR, PartReason.VIEW_MISSING), ("1", OK, PartReason.VIEWS_OK)]


def test_clocks_that_disagree_are_an_error_that_says_so() -> None:
    line = Joining()
    line.add("1", view(TOP), 0.0)
    line.add("1", view(SIDE, at_s=3600.0), 0.1)
    line.wait(10.0)
    assert [result for _, result, _ in line.results] == [ERROR, ERROR]
    assert "decided 3600.0 s after" in line.parts[0].detail

    line.add("2", view(SIDE, at_s=3600.0), 20.0)
    line.add("2", view(TOP, NOK), 20.1)  # older: of an earlier time
    line.wait(30.0)
    assert [result for _, result, _ in line.results[2:]] == [NOK, ERROR]


def test_a_station_that_decides_twice_makes_an_error() -> None:
    line = Joining()
    line.add("1", view(TOP), 0.0)
    line.add("1", view(TOP), 0.1)  # the same verdict again
    line.add("1", view(TOP, at_s=0.2), 0.2)
    line.add("1", view(SIDE, at_s=0.3), 0.3)
    assert line.results == [("1", ERROR, PartReason.VIEW_REPEATED)]


def test_replayed_views_wait_longer_and_are_not_to_be_acted_on() -> None:
    line = Joining()
    line.add("1", view(TOP, replayed=True), 100.0)
    line.wait(130.0)
    line.add("1", view(SIDE, at_s=0.5, replayed=True), 150.0)
    assert line.results == [("1", OK, PartReason.VIEWS_OK)] and line.parts[0].replayed


def test_what_waits_is_bounded() -> None:
    line = Joining()
    for number in range(5):
        line.add(str(number), view(TOP, id=str(number)), 0.0)
    assert line.results == [(name, ERROR, PartReason.OVERFLOW) for name in ("0", "1")]
    assert line.join.open_parts == ("2", "3", "4")


def arrived(station: str, part_id: str | None, at_s: float = 0.0, **more: Any) -> Arrived:
    decided = f"2026-01-01T00:00:{at_s:09.6f}Z"
    times = {**VERDICT["time"], "decided_utc": decided}
    content = {**VERDICT, "part_id": part_id, "time": times, "seq": 1, "journal": "j", **more}
    return Arrived(station=station, journal="j", seq=1, content=content, payload="", arrived_utc="")


class Client:
    """What was published, as an MQTT client would."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def publish(self, _topic: str, payload: str, _qos: int) -> Any:
        self.sent.append(json.loads(payload))
        return paho.MQTTMessageInfo(len(self.sent))


def test_parts_and_what_was_not_published_outlive_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = PartSettings(name="site/line/cell/all", views=(TOP, SIDE))

    def begun(at_s: float) -> Parts:
        store = PartStore(tmp_path / "v.db", settings.name)
        return Parts(settings, store, round(at_s * SECOND_NS), UTC_NS)

    first = begun(0)
    same = arrived(TOP, "B-2", id="c")
    first.add([arrived(TOP, "B-1", id="a"), arrived(SIDE, "B-1", id="b"), same], 0, UTC_NS)
    first.add([arrived(SIDE, None, id="d"), arrived(REAR, "B-1", id="e")], 0, UTC_NS)
    first.close()

    second, client = begun(1000), Client()
    second.add([same, arrived(SIDE, "B-2", 1.0, id="f")], 1001 * SECOND_NS, UTC_NS)
    second.publish(client, 0)
    second.on_published(1, None, 0)
    second.on_published(2, "Not authorized.", 0)
    second.publish(client, SECOND_NS)
    assert [part["part_id"] for part in client.sent] == ["B-1", "B-2"]
    second.publish(client, 31 * SECOND_NS)
    second.close()

    assert [(part["part_id"], part["result"]) for part in client.sent] == [
        ("B-1", "OK"),
        ("B-2", "OK"),
        ("B-2", "OK"),
    ]
    assert client.sent[1]["id"] == client.sent[2]["id"]
    assert f"{SIDE}: its verdicts without a part_id cannot be joined" in caplog.text


@pytest.mark.parametrize(
    ("decided", "parts"),
    [
        ("9999-12-31T23:59:59.999999Z", ["ERROR"]),
        ("9999-12-31T23:59:59-01:00", []),
        ("0001-01-01T00:00:00+23:59", []),
    ],
)
def test_a_time_at_the_end_of_time_ends_no_listener(
    tmp_path: Path, decided: str, parts: list[str]
) -> None:
    settings, client = PartSettings(name="site/line/cell/all", views=(TOP, SIDE)), Client()
    with closing(Parts(settings, PartStore(tmp_path / "v.db", settings.name), 0, 0)) as joined:
        when = {**VERDICT["time"], "decided_utc": decided}
        joined.add([arrived(TOP, "B-1", id="a"), arrived(SIDE, "B-1", id="b", time=when)], 0, 0)
        joined.publish(client, 0)
    assert [part["result"] for part in client.sent] == parts


def test_parts_wait_for_the_lock_of_somebody_else(tmp_path: Path) -> None:
    settings = PartSettings(name="site/line/cell/all", views=(TOP, SIDE))
    parts = Parts(settings, PartStore(tmp_path / "v.db", settings.name), 0, UTC_NS)
    both, client = [arrived(TOP, "B-1", id="a"), arrived(SIDE, "B-1", id="b")], Client()
    lone = arrived(TOP, "B-2", id="c")
    with closing(sqlite3.connect(tmp_path / "v.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(NotStoredNow, match="locked"):
            parts.add([*both, lone], 0, UTC_NS)
        other.execute("ROLLBACK")
        parts.add([*both, lone], 0, UTC_NS)
        parts.publish(client, 0)

        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(NotStoredNow, match="locked"):
            parts.tick(100 * SECOND_NS, UTC_NS)
        parts.on_published(1, None, 0)
        with pytest.raises(NotStoredNow, match="locked"):
            parts.publish(client, 0)
        other.execute("ROLLBACK")
    parts.tick(100 * SECOND_NS, UTC_NS)
    parts.connected(100 * SECOND_NS)
    parts.publish(client, 100 * SECOND_NS)
    parts.close()

    assert [(part["part_id"], part["result"]) for part in client.sent] == [
        ("B-1", "OK"),
        ("B-2", "ERROR"),
    ]


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        ("part: {name: a/b/c/d, views: [a/b/c/e]}", "part.views"),
        ("part: {name: a/b/c/d, views: [a/b/c/e, a/b/c/e]}", "names a station twice"),
        ("part: {name: a/b, views: [a/b/c/e, a/b/c/f]}", "SITE/LINE/STATION/CAMERA"),
        ("part: {name: a/b/c/d, views: [a/b/c/e, x/b/c/f]}", "is not covered by --station"),
        ("part: {name: a/b/c/d, views: [a/b/c/e, a/b/c/f], within: 3}", "line 1: part.within"),
    ],
)
def test_a_wrong_file_is_named_with_the_line_and_ends_with_78(
    content: str, reported: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "part.yaml").write_text(content)
    with pytest.raises(ConfigurationError, match=reported):
        read_part_settings(tmp_path / "part.yaml", "a/+/+/+")
    options = ["--mqtt", "mqtt://h", "--sqlite", str(tmp_path / "v.db"), "--station", "a/+/+/+"]
    assert main([*options, "--part", str(tmp_path / "part.yaml")]) == 78
    assert str(tmp_path / "part.yaml") in capsys.readouterr().err
    assert main([*options, "--part", str(tmp_path / "none.yaml")]) == 78
    err = capsys.readouterr().err
    assert f"{tmp_path / 'none.yaml'}: cannot be read" in err and "--config" not in err


def test_two_stations_make_one_verdict_of_each_part(
    running_broker: Broker, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "part.yaml").write_text(
        f"part: {{name: site/line/cell/all, views: [{TOP}, {SIDE}], within_ms: 8000,"
        " replayed_within_s: 5}"
    )
    database, log = tmp_path / "mes.db", tmp_path / "listen.log"

    def listen() -> subprocess.Popen[bytes]:
        options = ("--mqtt", running_broker.url, "--sqlite", database)
        command = [sys.executable, "-m", "edge.listen.cli", *options]
        with log.open("ab") as reported:
            return subprocess.Popen(
                [*map(str, command), "--part", str(tmp_path / "part.yaml")], stderr=reported
            )

    def station(name: str, defective: int) -> StationProcess:
        folder = tmp_path / name.rpartition("/")[2]
        images = write_images(folder / "frames", good=1, defective=defective)
        settings = {
            "camera": {"uri": str(images), "loop": True, "trigger": {"mode": "software"}},
            "model": {"path": str(bundle)},
            "mqtt": {"url": running_broker.url, "station": name},
        }
        return StationProcess(folder, running_broker, settings)

    sender = paho.Client(CallbackAPIVersion.VERSION2, client_id="plc")
    sender.connect("127.0.0.1", running_broker.port)
    sender.loop_start()

    def send(name: str, suffix: str, content: dict[str, Any]) -> None:
        message = json.dumps(content)
        sender.publish(f"vi/v1/{name}/{suffix}", message, 1).wait_for_publish(GENEROUS_S)

    def inspect(part_id: str, *names: str) -> None:
        for name in names:
            send(name, "trigger", {"trigger_id": f"t {part_id}", "part_id": part_id})

    def parts(count: int) -> list[tuple[str, str, str]]:
        seen = running_broker.collect(
            "/part", lambda seen: len({one["id"] for one in seen}) >= count
        )
        found = {one["id"]: (one["part_id"], one["result"], one["reason"]) for one in seen}
        return list(found.values())

    def open_parts() -> set[str]:
        with closing(sqlite3.connect(database)) as kept:
            return {name for (name,) in kept.execute("SELECT part_id FROM part_open")}

    listener = listen()
    try:
        with station(TOP, defective=0), station(SIDE, defective=1) as side:
            running_broker.collect(
                "/state",
                lambda seen: len({one["session"] for one in seen if one["trigger_ready"]}) == 2,
            )
            until(lambda: "listening to" in log.read_text(), "the listener has begun")
            inspect("B-1", TOP, SIDE)
            parts(1)
            inspect("B-2", TOP, SIDE)
            assert parts(2) == [("B-1", "OK", "views_ok"), ("B-2", "NOK", "view_nok")]
            inspect("B-3", TOP)
            side.verdicts(5)
            inspect("B-4", TOP)
            until(lambda: open_parts() == {"B-3", "B-4"}, "two parts wait for their second view")
            listener.kill()
            listener.wait(GENEROUS_S)
            inspect("B-3", SIDE)
            side.verdicts(7)
            listener = listen()
            send(TOP, "cmd/resend", {"from_seq": 1, "to_seq": 2})
            assert parts(4)[2:] == [("B-3", "OK", "views_ok"), ("B-4", "ERROR", "view_missing")]
            inspect("B-5", TOP)
            inspect("B-5", SIDE)
            assert parts(5)[4:] == [("B-5", "NOK", "view_nok")]
            listener.send_signal(signal.SIGTERM)
            assert listener.wait(GENEROUS_S) == 0
    finally:
        listener.kill()
        sender.disconnect()
        sender.loop_stop()
    with closing(sqlite3.connect(database)) as kept:
        rows = kept.execute("SELECT part_id, published FROM part ORDER BY row").fetchall()
    assert rows == [(f"B-{number}", 1) for number in (1, 2, 3, 4, 5)]
