"""The page's interface: what it tells, what it does, and what it refuses; on a real station."""

import io
import json
import signal
import socket
import sqlite3
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import psutil
import pytest

from edge.station.images.snapshot_policy import SnapshotName, SnapshotReason
from tests.support.page_station import GENEROUS_S, NO_TLS, TOKEN, PageStation, wait_until
from tests.support.small_bundle import write_images


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[PageStation]:
    """A station that sees good and defective parts in turn, again and again."""
    folder = tmp_path_factory.mktemp("station")
    images = write_images(folder / "pictures", good=3, defective=2)
    camera = {"uri": str(images), "rate_fps": 8, "loop": True}
    with PageStation(folder, camera, bundle) as one:
        wait_until(lambda: bool(one.parts(result="NOK")), "good and defective parts")
        yield one


def journalled(station: PageStation, condition: str) -> list[Any]:
    with sqlite3.connect(f"file:{station.journal}?mode=ro", uri=True) as connection:
        return connection.execute(f"SELECT * FROM record WHERE {condition}").fetchall()


# What it tells.


def test_every_number_of_a_part_is_the_journals(station: PageStation) -> None:
    part = station.parts(max_count=5)[-1]

    found = station.json(f"/api/parts/{part['seq']}")

    ((_, _, _, result, *_, payload),) = [
        (*row[:4], row[-1])
        for row in journalled(station, f"kind = 'verdict' AND seq = {part['seq']}")
    ]
    assert found["verdict"] == json.loads(payload)
    assert (part["result"], part["id"]) == (result, found["verdict"]["id"])


def test_counts_of_the_hours_are_the_journals(station: PageStation) -> None:
    numbers = station.json("/api/numbers")

    newest = numbers["trend"][-1][0]
    hours = {r: sum(h["counts"].get(r, 0) for h in numbers["hours"]) for r in ("OK", "NOK")}

    for result in ("OK", "NOK"):
        rows = journalled(station, f"kind = 'verdict' AND seq <= {newest} AND result = '{result}'")
        assert hours[result] == len(rows)
    assert numbers["complete"]


def test_parts_are_found_by_result_and_time_and_exported(station: PageStation) -> None:
    rejected = station.parts(max_count=3, result="NOK")
    assert {part["result"] for part in rejected} == {"NOK"}
    assert [p["seq"] for p in rejected] == sorted((p["seq"] for p in rejected), reverse=True)

    moment = datetime.fromisoformat(rejected[-1]["utc"])
    span: dict[str, Any] = {
        "from": (moment - timedelta(seconds=1)).isoformat(),
        "to": (moment + timedelta(seconds=1)).isoformat(),
    }
    assert rejected[-1]["seq"] in [part["seq"] for part in station.parts(max_count=100, **span)]
    later: dict[str, Any] = {"from": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    assert station.parts(**later) == []

    lines = station.get("/api/parts.csv", params={"result": "NOK", **span}).text.splitlines()
    assert lines[0].startswith("kind,seq,recorded_utc")
    assert all(",NOK," in line for line in lines[1:]) and len(lines) > 1


def test_older_parts_follow_page_by_page(station: PageStation) -> None:
    wait_until(lambda: len(station.parts(max_count=9)) == 9, "nine parts")
    first = station.get("/api/parts", params={"limit": "4"}).json()
    second = station.get("/api/parts", params={"limit": "4", "before": first["before"]}).json()

    seqs = [part["seq"] for part in (*first["parts"], *second["parts"])]
    assert seqs == list(range(seqs[0], seqs[0] - 8, -1))


def test_a_rejected_part_has_its_image_and_overlay(station: PageStation) -> None:
    def kept() -> list[dict[str, Any]]:
        return [part for part in station.parts(result="NOK") if part["image"]]

    wait_until(lambda: bool(kept()), "a snapshot")
    part = kept()[0]

    assert station.get(f"/images/{part['id']}/image").content.startswith(b"\x89PNG")
    assert station.get(f"/images/{part['id']}/overlay").content.startswith(b"\xff\xd8")

    # Whoever has the file finds the part, and whoever has the part the file, also where the verdict
    # names the snapshot.
    found = station.json(f"/api/parts/{part['seq']}")
    name = Path(unquote(found["verdict"]["image"]["source_uri"])).name
    assert name.startswith("spot_") and name == part["image_name"] == found["image_name"]
    assert str(station.folder / "snapshots") in unquote(found["verdict"]["image"]["uri"])
    named = station.parts(part_id=name)
    assert part["seq"] in [one["seq"] for one in named]
    assert {one["image_name"] for one in named} == {name}
    assert name in station.get("/api/parts.csv", params={"part_id": name}).text
    assert station.parts(part_id=name[1:]) == []

    def thumbnail_of_the_newest() -> bytes:
        newest = station.json("/api/numbers")["strip"][0]["id"]
        return station.get(f"/images/{newest}/thumbnail").content

    # Its record may be there a moment before its image, which a busy station may leave out.
    wait_until(lambda: thumbnail_of_the_newest().startswith(b"\xff\xd8"), "the small image")


def test_probes_of_an_orchestrator_are_answered(station: PageStation) -> None:
    for path, printed in (("/livez", "live"), ("/readyz", "ready")):
        answers: list[httpx.Response] = []

        def answered(path: str = path, answers: list[httpx.Response] = answers) -> bool:
            answers.append(station.get(path))
            return answers[-1].status_code == 200

        wait_until(answered, "200")  # a busy machine may starve a station into silence
        assert answers[-1].json()[printed]
    assert answers[-1].json()["condition"] in ("online", "degraded")


# What it does.


def test_a_threshold_is_previewed_changed_kept_over_a_restart_and_taken_back(
    tmp_path: Path, bundle: Path
) -> None:
    images = write_images(tmp_path / "pictures", good=1, defective=1)
    station = PageStation(tmp_path, {"uri": str(images), "rate_fps": 8, "loop": True}, bundle)
    with station:
        shown = station.status()
        assert (shown["may_act"], shown["may_unlock"]) == (False, True)  # nobody has said who it is
        own = shown["status"]["model"]["threshold"]
        wait_until(lambda: len(station.parts(max_count=8)) == 8, "some parts")

        tried = station.json("/api/threshold/preview?image_threshold=100000")
        assert tried["before"]["NOK"] > 0 and tried["after"] == {"OK": tried["parts"]}
        assert tried["changed"] == tried["before"]["NOK"]
        assert station.status()["status"]["model"]["threshold"] == own

        done = station.act("threshold", {"image_threshold": 100_000.0, "comment": "a trial"})
        assert done.json()["done"] == {"before": own, "now": 100_000.0}
        # What was decided before may be journalled only now; every other part is defective.
        wait_until(
            lambda: {p["result"] for p in station.parts(max_count=3)} == {"OK"}, "parts with it"
        )
        first = station.parts(max_count=1)[0]["seq"]
        wait_until(lambda: station.parts(max_count=1)[0]["seq"] > first + 4, "more of them")
        after = [part["result"] for part in station.parts(max_count=50) if part["seq"] >= first]
        assert set(after) == {"OK"}
        wait_until(lambda: bool(station.events("threshold_changed")), "it is recorded")
        event = station.event("threshold_changed")
        assert event["data"]["comment"] == "a trial" and event["data"]["by"] == "token"
        assert station.stop() == 0

        station.start()
        assert station.status()["status"]["model"]["threshold"] == 100_000.0
        assert station.act("threshold", {"image_threshold": None}).status_code == 200
        wait_until(
            lambda: station.status()["status"]["model"]["threshold"] == own, "the bundle's own"
        )
        assert not (tmp_path / "journal" / "overrides.json").exists()

        before = station.status()["status"]["model"]["before"]
        assert before["threshold"] == 100_000.0
        back = station.act("rollback").json()["done"]
        assert (back["threshold"], back["now"]) == (100_000.0, 100_000.0)
        assert station.act("rollback").status_code == 409


def test_marked_parts_are_recorded_and_exported_for_calibration(station: PageStation) -> None:
    def rejected() -> list[dict[str, Any]]:
        return [part for part in station.parts(result="NOK") if part["image"]]

    wait_until(lambda: bool(rejected()), "a snapshot")
    part = rejected()[-1]

    assert station.act("feedback", {"seq": part["seq"], "mark": "missed_defect"}).status_code == 409
    done = station.act("feedback", {"seq": part["seq"], "mark": "false_reject"})
    expected = {"seq": part["seq"], "mark": "false_reject", "image_kept": True}
    assert done.json()["done"] == expected

    def printed() -> list[int]:
        return [one["seq"] for one in station.json("/api/feedback")["feedback"]]

    wait_until(lambda: part["seq"] in printed(), "the mark is in the journal")
    content = station.get("/api/feedback.tar").content
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert f"good/{part['id']}_nok.png" in tar.getnames()
        table = tar.extractfile("feedback.csv")
        assert table is not None and part["id"] in table.read().decode()

    assert station.act("feedback", {"seq": part["seq"], "mark": "none"}).status_code == 200
    wait_until(lambda: part["seq"] not in printed(), "the mark is taken back")


def test_a_missed_defect_is_marked_with_its_image_hours_after_it_was_found_good(
    tmp_path: Path, bundle: Path
) -> None:
    images = write_images(tmp_path / "pictures", good=2)
    station = PageStation(tmp_path, {"uri": str(images), "rate_fps": 8, "loop": True}, bundle)
    station.settings["snapshots"] |= {"every_nth_ok": 0, "near_threshold": 0.0}
    with station:
        wait_until(lambda: len(station.parts()) > 3, "parts that are good")
        part = station.parts()[-1]
        assert part["result"] == "OK"
        wait_until(lambda: station.parts()[-1]["image"], "its image")
        shown = station.get(f"/images/{part['id']}/image")
        assert shown.headers["content-type"] == "image/jpeg"

        done = station.act("feedback", {"seq": part["seq"], "mark": "missed_defect"}).json()

        assert done["done"]["image_kept"] is True
        day = tmp_path / "snapshots" / SnapshotName(part["id"], SnapshotReason.MARKED).day
        files = [day / f"{part['id']}_marked{end}" for end in (".png", "_overlay.jpg", ".json")]
        assert sorted(day.iterdir()) == sorted(files)
        assert json.loads(files[2].read_text())["id"] == part["id"]
        wait_until(lambda: bool(station.json("/api/feedback")["feedback"]), "the mark")
        with tarfile.open(fileobj=io.BytesIO(station.get("/api/feedback.tar").content)) as tar:
            assert f"defect/{part['id']}_marked.png" in tar.getnames()
        assert "edge_recent_images_written_total" in station.get("/metrics").text


def test_training_images_are_kept_of_the_next_parts_and_no_more(
    tmp_path: Path, bundle: Path
) -> None:
    images = write_images(tmp_path / "pictures", good=2)
    station = PageStation(tmp_path, {"uri": str(images), "rate_fps": 8, "loop": True}, bundle)
    station.settings["snapshots"] |= {"every_nth_ok": 0, "near_threshold": 0.0}
    with station:
        assert station.act("capture", {"count": 4}).json()["done"]["count"] == 4

        def kept() -> int:
            return len(list((tmp_path / "snapshots").rglob("*_asked.png")))

        wait_until(lambda: kept() == 4, "four images")
        first = station.parts(max_count=1)[0]["seq"]
        wait_until(lambda: station.parts(max_count=1)[0]["seq"] > first + 8, "more parts")
        assert kept() == 4
        wait_until(lambda: bool(station.events("capture_asked")), "it is recorded")
        assert station.events("capture_asked")[0]["data"]["count"] == 4


def test_an_alarm_is_acknowledged_and_stays_until_its_cause_is_gone(
    tmp_path: Path, bundle: Path
) -> None:
    images = write_images(tmp_path / "pictures", good=2)
    station = PageStation(tmp_path, {"uri": str(images), "rate_fps": 8, "loop": True}, bundle)
    station.journal.parent.mkdir()
    station.journal.write_bytes(b"no database" * 1000)
    with station:
        wait_until(
            lambda: "journal_quarantined" in station.status()["status"]["reasons"], "the alarm"
        )

        assert station.act("acknowledge", {"reason": "drift"}).status_code == 409
        assert station.act("acknowledge", {"reason": "journal_quarantined"}).status_code == 200
        wait_until(
            lambda: "journal_quarantined" not in station.status()["status"]["reasons"], "its end"
        )
        wait_until(lambda: bool(station.events("alarm_acknowledged")), "it is recorded")
        assert station.events("alarm_acknowledged")[0]["data"]["reason"] == "journal_quarantined"


# What it refuses.


def test_without_or_with_a_wrong_token_nothing_is_done_and_it_is_recorded(
    station: PageStation,
) -> None:
    assert station.act("capture", {"count": 1}, authorization=None).status_code == 401
    assert station.act("capture", {"count": 1}, authorization="Bearer no").status_code == 401
    assert station.act("capture", {"count": 1}, authorization="Basic Og==").status_code == 401

    wait_until(lambda: bool(station.events("page_refused")), "the attempt is recorded")
    assert not station.events("capture_asked")
    assert TOKEN not in station.log


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"x_edge_request": None},
        {"content_type": "text/plain"},
        {"content_type": "application/x-www-form-urlencoded"},
        {"host": "evil.example"},
    ],
)
def test_no_foreign_site_can_act_even_with_the_token(
    station: PageStation, headers: dict[str, str | None]
) -> None:
    refused = station.act("capture", {"count": 1}, **headers)

    assert refused.status_code in (403, 415, 421)
    assert refused.json()["error"]
    assert not station.events("capture_asked")


def test_a_foreign_name_reads_nothing(station: PageStation) -> None:
    assert station.get("/api/status", headers={"host": "evil.example"}).status_code == 421
    assert station.get("/api/status", headers={"host": "localhost"}).status_code == 200


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("threshold", b"{", 400),
        ("threshold", b"\xff\xfe", 400),
        ("threshold", b'{"image_threshold": NaN}', (400, 422)),
        ("threshold", b'{"image_threshold": "1"}', 422),
        ("threshold", b'{"image_threshold": 1, "more": 2}', 422),
        ("threshold", b"[" * 5000, (400, 422)),
        ("feedback", b'{"seq": 1e30, "mark": "none"}', 422),
        ("feedback", b'{"seq": 4611686018427387904, "mark": "none"}', 404),
        ("feedback", b'{"seq": 1, "mark": "\'; DROP TABLE record"}', 422),
        ("capture", b'{"count": -1}', 422),
        ("capture", b'{"count": 100000}', 422),
        ("acknowledge", b'{"reason": "../../etc"}', 422),
        ("format", b"{}", 404),
        ("capture", b" " * 100_000, 413),
    ],
)
def test_malformed_and_huge_bodies_get_a_clear_answer(
    station: PageStation, name: str, body: bytes, status: int | tuple[int, ...]
) -> None:
    answer = httpx.post(
        f"{station.address}/api/actions/{name}",
        content=body,
        headers={
            "content-type": "application/json",
            "x-edge-request": "1",
            "authorization": f"Bearer {TOKEN}",
        },
        timeout=GENEROUS_S,
        verify=NO_TLS,
    )

    assert answer.status_code in ((status,) if isinstance(status, int) else status)
    assert answer.json()["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/images/../../../../etc/passwd/image",
        "/images/..%2f..%2f..%2fetc%2fpasswd/image",
        "/images/%2e%2e/image",
        "/images/01a20a8b-e623-7a43-9125-03f2af0aacac/..%2f..%2ftoken",
        "/images/01a20a8b-e623-7a43-9125-03f2af0aacac/image",
        "/static/..%2fapp.py",
        "/static/../app.py",
        "/static/%2e%2e%2f%2e%2e%2fcli.py",
        "/live/..%2f..%2ftoken",
        "/api/parts/999999999999",
        "/api/parts/99999999999999999999999999",
        "/api/parts/0",
        "/api/parts/-1",
        "/api/parts/x",
    ],
)
def test_paths_that_lead_elsewhere_and_unknown_parts_are_not_found(
    station: PageStation, path: str
) -> None:
    with socket.create_connection(("127.0.0.1", int(station.address.rpartition(":")[2]))) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))

    assert b" 404 " in answer.partition(b"\r\n")[0]
    assert TOKEN.encode() not in answer and b"root:" not in answer


@pytest.mark.parametrize(
    "query",
    [
        "result=FINE",
        "from=yesterday",
        "to=99999-01-01",
        "limit=-1",
        "before=1e9",
        "limit=' OR 1=1",
    ],
)
def test_queries_that_make_no_sense_are_refused_with_the_reason(
    station: PageStation, query: str
) -> None:
    for path in ("/api/parts", "/api/parts.csv"):
        if path.endswith("csv") and query.startswith(("limit", "before")):
            continue
        answer = station.get(f"{path}?{query}")
        assert (answer.status_code, "error" in answer.json()) == (400, True)


def test_a_link_in_the_snapshot_folder_is_not_followed(station: PageStation) -> None:
    # Only what is kept for good is a PNG here: an image of the last hours is a JPEG.
    folder = station.folder / "snapshots"
    wait_until(lambda: any(folder.rglob("*.png")), "a snapshot")
    image = max(folder.rglob("*.png"))
    verdict_id = image.name.partition("_")[0]
    assert station.get(f"/images/{verdict_id}/image").status_code == 200
    image.unlink()
    image.symlink_to(station.folder / "token")

    answer = station.get(f"/images/{verdict_id}/image")

    assert answer.status_code == 404 and TOKEN not in answer.text


def test_a_user_that_a_trusted_proxy_names_may_act_and_is_recorded(
    tmp_path: Path, bundle: Path
) -> None:
    images = write_images(tmp_path / "pictures", good=1)
    station = PageStation(tmp_path, {"uri": str(images), "rate_fps": 8, "loop": True}, bundle)
    station.settings["hmi"] |= {
        "user_header": "X-Forwarded-User",
        "trusted_proxies": ["127.0.0.1"],
    }
    with station:
        done = station.act(
            "capture", {"count": 1}, authorization=None, x_forwarded_user="kim@plant"
        )
        assert done.status_code == 200
        wait_until(lambda: bool(station.events("capture_asked")), "the event")
        assert station.events("capture_asked")[0]["data"]["by"] == "kim@plant"
        anonymous = station.act("capture", {"count": 1}, authorization=None)
        assert anonymous.status_code == 401


# What it withstands.


def test_a_viewer_that_never_reads_and_one_that_never_asks_change_nothing(
    station: PageStation,
) -> None:
    port = int(station.address.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port)) as deaf,
        socket.create_connection(("127.0.0.1", port)) as silent,
    ):
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        silent.sendall(b"GET /api/str")
        before = station.parts(max_count=1)[0]["seq"]
        memory = station.page_process.memory_info().rss

        wait_until(lambda: station.parts(max_count=1)[0]["seq"] > before + 60, "parts go on")

        assert station.page_process.memory_info().rss < memory + 64 * 2**20
        assert station.status()["status"]["condition"] == "online"


def test_viewers_that_take_no_large_image_take_no_memory(station: PageStation) -> None:
    verdict_id = "01a20a8b-e623-7a43-9125-03f2af0aacac"
    name = SnapshotName(verdict_id, SnapshotReason.NOK)
    path = name.path(station.folder / "snapshots", SnapshotName.IMAGE)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(32 * 2**20)
    before = station.page_process.memory_info().rss
    port = int(station.address.rpartition(":")[2])
    with ExitStack() as stack:
        for _ in range(10):
            viewer = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            viewer.sendall(
                f"GET /images/{verdict_id}/image HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            )
            assert viewer.recv(12) == b"HTTP/1.1 200"

        assert station.page_process.memory_info().rss < before + 64 * 2**20

    whole = station.get(f"/images/{verdict_id}/image")
    assert (len(whole.content), whole.headers["content-length"]) == (32 * 2**20, str(32 * 2**20))
    path.unlink()


def test_images_are_only_drawn_while_somebody_watches(station: PageStation) -> None:
    def live() -> int:
        return station.get(f"/live/{station.status()['part']['id']}.jpg").status_code

    wait_until(lambda: live() == 404, "nobody watches")
    stream_url = station.address + "/api/stream"
    with httpx.stream("GET", stream_url, timeout=GENEROUS_S, verify=NO_TLS) as stream:
        parts = (json.loads(line[6:]) for line in stream.iter_lines() if line[:11] == 'data: {"id"')
        for part in parts:
            if part["image"] is None:
                continue
            assert part["image"]["width_px"] == 160
            image = station.get(f"/live/{part['id']}.jpg")
            if image.status_code == 200:  # only the newest few are kept
                break
        assert image.content.startswith(b"\xff\xd8")
    wait_until(lambda: live() == 404, "nobody watches any more")


def ended(process: psutil.Process) -> bool:
    """Tell whether a process has ended, whoever is to be told of it."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_page_that_hangs_is_ended_and_comes_back_and_the_line_goes_on(
    tmp_path: Path, bundle: Path
) -> None:
    images = write_images(tmp_path / "pictures", good=1, defective=1)
    station = PageStation(tmp_path, {"uri": str(images), "rate_fps": 50, "loop": True}, bundle)
    with station:
        before = station.parts(max_count=1)[0]["seq"]
        dead = station.page_process
        dead.send_signal(signal.SIGSTOP)

        station.wait_for_page(count=2)

        assert station.parts(max_count=1)[0]["seq"] > before + 25
        assert not dead.is_running()
        page = station.page_process
        psutil.Process(station.pid).kill()
        wait_until(lambda: ended(page), "the page ends with its station")


def test_a_port_that_is_taken_degrades_the_station_and_stops_nothing(
    tmp_path: Path, bundle: Path
) -> None:
    images = write_images(tmp_path / "pictures", good=1)
    station = PageStation(tmp_path, {"uri": str(images), "rate_fps": 8, "loop": True}, bundle)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        station.settings["hmi"]["port"] = taken.getsockname()[1]
        station.launch()
        try:
            wait_until(lambda: "page cannot be served at this address" in station.log, "it is told")
            wait_until(
                lambda: len(journalled(station, "kind = 'verdict'")) > 20, "parts are decided"
            )
            assert station.stop() == 0
        finally:
            station.close()


def test_who_waits_for_an_action_of_a_station_that_is_killed_gets_an_answer(
    tmp_path: Path, bundle: Path
) -> None:
    images = write_images(tmp_path / "in", good=2)
    camera = {"uri": str(images), "rate_fps": 5, "loop": True}
    with PageStation(tmp_path, camera, bundle) as one, ThreadPoolExecutor(2) as pool:
        deciding = psutil.Process(one.pid)
        deciding.send_signal(signal.SIGSTOP)  # takes nothing over any more; the page is served
        body = {"image_threshold": 30.0}
        asked = [pool.submit(one.act, "threshold", body) for _ in range(2)]
        wait_until(lambda: any(request.done() for request in asked), "one waits, one is refused")
        deciding.send_signal(signal.SIGKILL)

        answers = {request.result().status_code: request.result() for request in asked}

        assert sorted(answers) == [409, 504]
        assert "the station has ended" in answers[504].json()["error"]
        assert "Traceback" not in one.log
