"""The rules behind the page, without a station: who may act, what is shown, what is kept."""

import asyncio
import inspect
import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from starlette.requests import Request

import edge
from edge.bundle.loading import manifest_sha256
from edge.bundle.manifest import ThresholdMethod
from edge.contract.challenge import FAILED, PASSED
from edge.contract.state import will_payload
from edge.contract.verdict import Verdict
from edge.errors import ConfigurationError
from edge.hmi.contents import ImageLayout, NotTakenKind
from edge.hmi.server.answer_models import FeedbackRecord, MarkOutcome
from edge.hmi.server.auth import Guard, RequestRefused
from edge.hmi.server.limits import ACTIONS_PER_MINUTE, network
from edge.hmi.server.live_view import Image, LiveView
from edge.hmi.server.production_stats import (
    PartSummary,
    ProductionStats,
    histogram,
    latency,
    rate_per_minute,
)
from edge.hmi.server.threshold_preview import preview
from edge.hmi.station_end.preview_image import MAX_CELLS, make_preview
from edge.imaging.frame import Frame, FrameStatus
from edge.inspection.decision import Decision, Reason, Result
from edge.inspection.inspector import Inspection
from edge.inspection.normalization import ScoreScale
from edge.inspection.tolerance import rate_interval
from edge.journal.entries import JournalRow, RecordKind
from edge.mqtt.announcer import PACKET_LIMIT
from edge.mqtt.publisher import MqttPublisher
from edge.processes.link import MAX_BYTES
from edge.settings.hmi import HmiSettings
from edge.settings.loading import load_settings
from edge.settings.overrides import Override, Overrides
from edge.station.model.store import Change
from edge.teaching.refusals import RefusalKind
from tests.support.page_contents import sample_part, sample_status
from tests.support.small_bundle import defective_image

EDGE = Path(edge.__file__).parent

PROXY = "192.0.2.1"
LAYOUT = ImageLayout(
    width_px=2, height_px=2, shape=[2, 2], map_shape=[0, 0], placement=None, regions=[]
)


def request(address: str = "192.0.2.7", **headers: str) -> Request:
    """An action as the page sends it, from an address."""
    given = {
        "host": "station:8080",
        "content-type": "application/json",
        "x-edge-request": "1",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    return Request({"type": "http", "method": "POST", "headers": raw, "client": (address, 1)})


def refusal(guard: Guard, asked: Request) -> int:
    with pytest.raises(RequestRefused) as raised:
        guard.actor(asked)
    return raised.value.status


def test_without_token_and_proxy_nobody_may_act() -> None:
    guard = Guard(token=None)

    assert not guard.may_act
    assert refusal(guard, request(authorization="Bearer ")) == 403


def test_the_kind_of_content_counts_whatever_its_case() -> None:
    guard = Guard(token="geheim")
    asked = request(authorization="BEARER geheim", content_type="Application/JSON; charset=UTF-8")

    assert guard.actor(asked).name == "token"


def test_addresses_of_proxies_are_kept_as_the_network_names_them() -> None:
    settings = HmiSettings(user_header="X-User", trusted_proxies=["FE80::1", "2001:DB8:0::7"])

    assert settings.trusted_proxies == ["fe80::1", "2001:db8::7"]


def test_only_a_trusted_proxy_can_name_a_user() -> None:
    guard = Guard(token=None, user_header="X-Forwarded-User", trusted_proxies=["192.0.2.1"])

    assert guard.actor(request("192.0.2.1", x_forwarded_user="kim")).name == "kim"
    assert refusal(guard, request("192.0.2.7", x_forwarded_user="kim")) == 401
    assert refusal(guard, request("192.0.2.1", x_forwarded_user=" ")) == 401


def test_a_user_may_have_a_name_in_any_script() -> None:
    guard = Guard(token=None, user_header="X-Forwarded-User", trusted_proxies=["192.0.2.1"])

    assert guard.actor(request("192.0.2.1", x_forwarded_user="김철수")).name == "김철수"


def test_who_guesses_waits_ever_longer_from_how_many_addresses_it_may_be() -> None:
    now_s = 0.0
    guard = Guard(token="secret", clock_s=lambda: now_s)

    waits = [guard.wrong_tokens.wait_s() for _ in range(15)]

    assert waits[:6] == [0.0] * 5 + [0.25]
    assert waits == sorted(waits) and set(waits[-4:]) == {8.0}
    now_s = 60.0
    assert guard.wrong_tokens.wait_s() == 0.0


def test_however_many_guesses_the_right_token_is_taken_from_everywhere() -> None:
    guard = Guard(token="secret", trusted_proxies=[PROXY], clock_s=lambda: 0.0)
    for number in range(500):
        guess = request(f"192.0.2.{number % 250}", authorization=f"Bearer {number}")
        assert refusal(guard, guess) == 401
        guard.wrong_tokens.wait_s()
    right = {"authorization": "Bearer secret"}

    assert guard.actor(request("192.0.2.7", **right)).name == "token"
    assert guard.actor(request(PROXY, **right)).name == "token"
    behind = guard.actor(request(PROXY, x_forwarded_for="1.2.3.4, 192.0.2.10", **right))
    assert behind.address == "192.0.2.10"


def test_refusals_are_recorded_now_and_then_and_the_others_counted() -> None:
    guard = Guard(token="secret", clock_s=lambda: 0.0)

    recorded = [guard.noting(f"192.0.2.{number}") for number in range(200)]

    assert [found for found in recorded if found is not None] == [0] * 10
    assert Guard(token="secret", clock_s=lambda: 0.0).noting("::1") == 0


def test_addresses_of_one_ipv6_network_are_one() -> None:
    assert network("2001:db8::1") == network("2001:db8:0:0:ffff::2") != network("2001:db8:0:1::1")
    assert network("192.0.2.1") == "192.0.2.1" and network("fe80::1%eth0") == network("fe80::2")


def test_actions_are_limited_for_each_sender() -> None:
    guard = Guard(token="secret", clock_s=lambda: 0.0)
    asked = request(authorization="Bearer secret")

    for _ in range(ACTIONS_PER_MINUTE):
        guard.actor(asked)
    assert refusal(guard, asked) == 429


@pytest.mark.parametrize(
    ("address", "headers", "ours"),
    [
        # Whoever stands before the page keeps the name and not the port, or neither.
        (PROXY, {"host": "hmi", "x_forwarded_host": "hmi:8443"}, True),
        (PROXY, {"host": "10.0.0.2:8080", "x_forwarded_host": "hmi:8443"}, True),
        (PROXY, {"host": "hmi", "x_forwarded_port": "8443", "x_forwarded_proto": "https"}, True),
        (
            PROXY,
            {"host": "hmi", "x_forwarded_host": "hmi:8443", "x_forwarded_proto": "http"},
            False,
        ),
        (PROXY, {"host": "hmi", "x_forwarded_host": "hmi"}, False),
        (PROXY, {"host": "hmi"}, False),
        (PROXY, {"host": "hmi", "x_forwarded_host": "evil.example"}, False),
        (PROXY, {"host": "hmi", "x_forwarded_host": "["}, False),
        (PROXY, {"host": "hmi", "x_forwarded_port": "x"}, False),
        ("192.0.2.7", {"host": "hmi", "x_forwarded_host": "hmi:8443"}, False),
        ("192.0.2.7", {"host": "hmi:8443"}, True),
    ],
)
def test_a_page_behind_a_proxy_is_where_the_proxy_says_if_it_is_trusted(
    address: str, headers: dict[str, str], ours: bool
) -> None:
    guard = Guard(token="secret", trusted_proxies=[PROXY], allowed_hosts=["hmi"])
    asked = request(address, origin="https://hmi:8443", authorization="Bearer secret", **headers)

    if ours:
        assert guard.actor(asked).name == "token"
    else:
        assert refusal(guard, asked) == 403


def test_a_public_address_of_the_settings_is_ours_whatever_the_proxy_says() -> None:
    guard = Guard(token="secret", public_urls=["https://Plant.example/cell7/"])
    right = {"authorization": "Bearer secret", "host": "10.0.0.2:8080"}

    assert guard.actor(request(origin="https://plant.example", **right)).name == "token"
    assert refusal(guard, request(origin="http://plant.example", **right)) == 403
    assert refusal(guard, request(origin="https://plant.example:8443", **right)) == 403
    guard.check_host(request(host="plant.example"))


def test_one_that_is_foreign_also_for_the_proxy_is_refused() -> None:
    guard = Guard(token="secret", trusted_proxies=[PROXY])
    evil = {"origin": "http://evil.example", "x_forwarded_host": "evil.example"}

    assert refusal(guard, request(PROXY, authorization="Bearer secret", **evil)) == 403


@pytest.mark.parametrize("origin", ["http://[", "http://hmi:x", "null"])
def test_an_origin_that_is_none_is_foreign_whatever_the_proxy_says(origin: str) -> None:
    guard = Guard(token="secret", trusted_proxies=[PROXY], allowed_hosts=["hmi"])
    for forwarded in ({"x_forwarded_host": "hmi"}, {"x_forwarded_port": "x"}):
        asked = request(PROXY, origin=origin, authorization="Bearer secret", **forwarded)
        assert refusal(guard, asked) == 403


@pytest.mark.parametrize("name", ["X-Forwarded-User", "Authorization", "Origin", "Host"])
def test_a_header_that_decides_and_is_there_twice_is_refused(name: str) -> None:
    guard = Guard(token="secret", user_header="X-Forwarded-User", trusted_proxies=[PROXY])
    asked = request(PROXY)
    raw = [
        (name.lower().encode(), b"kim"),
        *asked.scope["headers"],
        (name.lower().encode(), b"lee"),
    ]

    doubled = Request({**asked.scope, "headers": raw})

    if name == "Host":
        with pytest.raises(RequestRefused) as raised:
            guard.check_host(doubled)
        assert raised.value.status == 400
    else:
        assert refusal(guard, doubled) == 400


def test_users_of_a_proxy_are_limited_each_for_themselves() -> None:
    guard = Guard(
        token=None, user_header="X-Forwarded-User", trusted_proxies=[PROXY], clock_s=lambda: 0.0
    )

    for _ in range(ACTIONS_PER_MINUTE):
        guard.actor(request(PROXY, x_forwarded_user="kim"))
    assert refusal(guard, request(PROXY, x_forwarded_user="kim")) == 429
    assert guard.actor(request(PROXY, x_forwarded_user="lee")).name == "lee"


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("192.0.2.1:8080", True),
        ("[::1]:8080", True),
        ("localhost", True),
        ("cell7.example", True),
        ("evil.example", False),
        ("192.0.2.1.evil.example", False),
        ("", False),
        ("[", False),
    ],
)
def test_only_our_own_names_are_answered(host: str, ours: bool) -> None:
    guard = Guard(token=None, allowed_hosts=["Cell7.example"])
    if ours:
        guard.check_host(request(host=host))
        return
    with pytest.raises(RequestRefused):
        guard.check_host(request(host=host))


# Images.


def verdict(pixels: np.ndarray, cells: int = 8) -> Verdict:
    anomaly_map = np.zeros((cells, cells), np.float32)
    anomaly_map[0, cells - 1] = 9.0
    inspection = Inspection(
        decision=Decision(Result.NOK, Reason.SCORE_ABOVE),
        threshold=5.0,
        pixel_threshold=5.0,
        score=9.0,
        normalized_score=0.9,
        decided_map=anomaly_map,
        map_scale=ScoreScale(5.0, 10.0),
    )
    return Verdict(
        id="id",
        inspection=inspection,
        frame=Frame(pixels=pixels, number=1, captured_ns=0, captured_utc_ns=0),
        decided_ns=0,
        decided_utc_ns=0,
        inspection_started_ns=0,
    )


@pytest.mark.parametrize(
    "pixels",
    [
        defective_image(height=480, width=640),
        np.zeros((480, 640), np.uint8),
        np.full((480, 640), 40_000, np.uint16),
        np.zeros((480, 640, 4), np.uint8),
        np.zeros((1, 5000, 3), np.uint8),
    ],
)
def test_frames_of_every_format_become_images_of_bounded_size(pixels: np.ndarray) -> None:
    found = make_preview(verdict(pixels), 320)
    assert found is not None
    image = Image(found.layout, found.blobs)

    assert found.layout.shape[1] <= 320
    assert image.jpeg().startswith(b"\xff\xd8") and image.jpeg() is image.jpeg()
    assert image.drawn().startswith(b"\xff\xd8")


def test_a_line_scan_without_end_fits_into_a_message_to_the_page() -> None:
    found = make_preview(verdict(np.zeros((60_000, 1000), np.uint8)), 4096)

    assert found is not None and 3 * len(found.blobs[0]) < MAX_BYTES


def test_a_part_that_cannot_be_drawn_takes_the_place_of_the_one_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def shown() -> list[bytes]:
        view = LiveView(1, lambda _: None)
        view.on_part(sample_part(id="a"), None)
        part = sample_part(id="b", result="ERROR", reason="internal")
        damaged = LAYOUT.model_copy(update={"map_shape": [9, 9]})
        view.on_part(part, Image(damaged, (b"", b"")))
        assert view.part == part and view.image("b") is None
        return (await view.newer(0, 1.0))[1].splitlines()

    found = json.loads(asyncio.run(shown())[1][6:])
    assert (found["id"], found["result"], found["image"]) == ("b", "ERROR", None)
    assert "part b cannot be shown" in caplog.text


def test_thinning_a_large_map_keeps_its_peak() -> None:
    found = make_preview(verdict(np.zeros((480, 640), np.uint8), 1001), 320)
    assert found is not None
    levels = np.frombuffer(found.blobs[1], np.uint8).reshape(found.layout.map_shape)

    assert max(levels.shape) <= MAX_CELLS
    assert levels[0, -1] == levels.max() >= 128
    assert (levels >= 128).sum() == 1


def test_a_part_without_image_has_none() -> None:
    assert make_preview(verdict(np.empty((0, 0), np.uint8)), 320) is None


# The stream.


def test_a_late_viewer_gets_the_newest_of_each_kind_and_nothing_else() -> None:
    async def seen() -> tuple[int, bytes]:
        view = LiveView(4, lambda _: None)
        for number in range(100):
            view.on_status(sample_status(to_capture=number))
            view.on_part(sample_part(id=str(number)), None)
        return await view.newer(0, 1.0)

    version, events = asyncio.run(seen())

    assert version == 200
    status, part = (
        json.loads(line[6:]) for line in events.decode().splitlines() if line[:5] == "data:"
    )
    assert (status["to_capture"], part["id"], part["image"]) == (99, "99", None)
    assert "counts" not in status and "run" not in status  # they change with every part


def test_the_station_is_notified_when_watching_begins_and_ends() -> None:
    reported: list[bool] = []

    async def watch() -> None:
        view = LiveView(4, reported.append)
        view.add_viewer()
        view.add_viewer()
        view.remove_viewer()
        view.remove_viewer()

    asyncio.run(watch())
    assert reported == [True, False]


def test_small_images_are_bounded() -> None:
    async def kept() -> list[bool]:
        view = LiveView(2, lambda _: None)
        for name in "abc":
            view.on_rejected(name, Image(LAYOUT, ()))
        return [view.thumbnail(name) is not None for name in "abc"]

    assert asyncio.run(kept()) == [False, True, True]


# Numbers.


def seen(seq: int, score: float | None, utc_ns: int = 0, model: str = "a") -> PartSummary:
    return PartSummary(
        seq=seq,
        id="id",
        part_id=None,
        utc_ns=utc_ns,
        result="OK",
        reason="score_below",
        raw_score=score,
        raw_threshold=5.0,
        score=0.1,
        total_ms=1.0,
        model_sha256=model,
    )


def test_a_histogram_holds_the_parts_of_the_newest_model_alone() -> None:
    found = histogram([seen(1, 99.0, model="b"), seen(2, 1.0), seen(3, None), seen(4, 3.0)])

    assert found is not None
    assert (sum(found.counts), found.parts, found.model_sha256) == (2, 2, "a")
    assert found.low < 1.0 and found.high > 5.0  # the threshold is on it
    assert histogram([]) is None


def test_parts_that_were_not_inspected_make_the_line_look_no_faster() -> None:
    found = latency([replace(seen(1, None), total_ms=0.1), seen(2, 1.0)])

    assert found is not None and (found.p50, found.parts) == (1.0, 1)
    assert latency([seen(1, None)]) is None


def test_the_rate_counts_the_last_minute() -> None:
    now_ns = 10**18
    parts = [seen(n, 1.0, now_ns - int(age_s * 1e9)) for n, age_s in enumerate((90, 61, 59, 1))]

    assert rate_per_minute(parts, now_ns) == 2


def test_a_preview_decides_as_the_line_does_and_counts_marks() -> None:
    def row(seq: int, score: float | None, result: str) -> JournalRow:
        payload = {"id": str(seq), "part_id": None, "raw_score": score, "result": result}
        text = json.dumps(payload).encode()
        return JournalRow(
            position=seq,
            kind=RecordKind.VERDICT,
            seq=seq,
            result=result,
            part_id=None,
            payload=text,
            created_utc_ns=0,
            acknowledged=True,
            dead=None,
        )

    rows = [row(4, None, "ERROR"), row(3, 5.0, "NOK"), row(2, 4.0, "OK"), row(1, 9.0, "NOK")]
    utc = "2026-11-23T12:00:00Z"
    marks = {
        3: FeedbackRecord(seq=3, mark="false_reject", utc=utc),
        2: FeedbackRecord(seq=2, mark="missed_defect", utc=utc),
    }

    same = preview(rows, 5.0, 0.0, marks)
    higher = preview(rows, 5.5, 0.0, marks)
    unsure = preview(rows, 5.0, 0.5, marks)

    assert (same.before, same.after, same.changed) == ({"NOK": 2, "OK": 1},) * 2 + (0,)
    assert higher.after == {"OK": 2, "NOK": 1}
    assert higher.nok_interval == rate_interval(1, 3)
    assert preview(rows[:1], 5.0, 0.0, marks).nok_interval is None
    assert [(flip.seq, flip.before, flip.after) for flip in higher.flips] == [(3, "NOK", "OK")]
    assert higher.marks["false_reject"] == MarkOutcome(marked=1, put_right=1)
    assert higher.marks["missed_defect"] == MarkOutcome(marked=1, put_right=0)
    assert unsure.after == {"NOT_DECIDABLE": 1, "OK": 1, "NOK": 1}


def test_shifts_begin_where_the_settings_say_also_before_the_first_of_a_day(
    tmp_path: Path,
) -> None:
    numbers = ProductionStats(tmp_path / "journal.db", ["06:00", "14:00", "22:00"])
    midnight = datetime(2026, 11, 23).astimezone()

    def begin(hour: int) -> timedelta:
        return numbers.shift_begin(midnight + timedelta(hours=hour)) - midnight

    assert [begin(h) for h in (3, 6, 13, 14, 23)] == [
        timedelta(hours=h) for h in (-2, 6, 6, 14, 22)
    ]


# A threshold that was set at the page.


@pytest.fixture
def override(bundle: Path) -> Override:
    sha256 = manifest_sha256(bundle)
    assert sha256 is not None
    return Override(image_threshold=7.5, model_sha256=sha256, by="kim", utc="2026-11-23T00:00:00Z")


def test_a_threshold_of_the_page_counts_for_its_model_and_until_the_settings_say_otherwise(
    tmp_path: Path, bundle: Path, override: Override
) -> None:
    overrides = Overrides.beside(tmp_path)
    settings = load_settings(None, {"camera": {"uri": "0"}, "model": {"path": str(bundle)}})
    own = load_settings(
        None,
        {
            "camera": {"uri": "0"},
            "model": {"path": str(bundle)},
            "decision": {"image_threshold": 3.0},
        },
    )
    assert overrides.laid_over(settings) == settings

    overrides.write(override)

    assert overrides.laid_over(settings).decision.image_threshold == 7.5
    assert overrides.laid_over(settings).sha256 != settings.sha256
    assert overrides.laid_over(own).decision.image_threshold == 3.0
    overrides.write(override.model_copy(update={"model_sha256": "0" * 64}))
    assert overrides.laid_over(settings) == settings
    overrides.write(None)
    assert overrides.read() is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b'{"image_threshold": NaN}', b"[]", b"x" * 1_000_000]
)
def test_a_damaged_file_of_the_page_is_left_out(
    tmp_path: Path, bundle: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load_settings(None, {"camera": {"uri": "0"}, "model": {"path": str(bundle)}})
    (tmp_path / "overrides.json").write_bytes(content)

    assert Overrides.beside(tmp_path).laid_over(settings) == settings
    assert "not used" in caplog.text


# What the page's process needs.


def test_the_process_of_the_page_loads_nothing_that_inspects() -> None:
    heavy = "numba", "openvino", "scipy", "paho"
    code = f"import sys, edge.hmi.server.main; print([m for m in {heavy} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


# Settings.


@pytest.mark.parametrize(
    ("hmi", "cause"),
    [
        ("{shifts: ['14:00', '06:00']}", "must ascend"),
        ("{shifts: ['6:00']}", "quarters"),
        ("{shifts: ['06:05']}", "quarters"),
        ("{user_header: X-User}", "needs trusted_proxies"),
        ("{user_header: 'X User', trusted_proxies: [192.0.2.1]}", "name of a header"),
        ("{trusted_proxies: [nobody], user_header: X-User}", "nobody"),
        ("{public_urls: [plant.example/cell7]}", "must be like https"),
        ("{port: 70000}", "65535"),
    ],
)
def test_a_page_that_cannot_be_served_so_is_reported_with_its_key(
    tmp_path: Path, hmi: str, cause: str
) -> None:
    path = tmp_path / "station.yaml"
    path.write_text(f"camera: {{uri: '0'}}\nmodel: {{path: x.xml}}\njournal: {{}}\nhmi: {hmi}\n")

    with pytest.raises(ConfigurationError, match=cause):
        load_settings(path)


def test_a_page_needs_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "station.yaml"
    path.write_text("camera: {uri: '0'}\nmodel: {path: x.xml}\nhmi: {port: 0}\n")

    with pytest.raises(ConfigurationError, match=r"Set journal\.folder"):
        load_settings(path)


# Texts.


def test_every_event_and_every_hint_has_a_text_in_every_language() -> None:
    code = "".join(path.read_text("utf-8") for path in sorted(EDGE.rglob("*.py")))
    static = EDGE / "hmi" / "static"
    texts = "".join(path.read_text("utf-8") for path in sorted(static.glob("*texts.js")))
    kinds = {*re.findall(r'\bEvent\(\s*"([a-z_]+)"', code), "images_taken", "images_skipped"}
    kinds |= {change.value for change in Change} | {PASSED, FAILED}
    hints = {PACKET_LIMIT, *re.findall(r'"(\w+)"', inspect.getsource(MqttPublisher._hints))}
    hints |= set(re.findall(r'_lacks \+= \("(\w+)"', code))
    hints -= {"refused_by_broker", "nobody_listens"}  # told in words of their own
    reasons = set(re.findall(r'_?health\.set\(\s*"([a-z_]+)"', code)) - {"page_down"}

    wanted = {f"event_{kind}" for kind in kinds} | {f"reason_{reason}" for reason in reasons}
    wanted |= {f"reason_{reason}" for reason in will_payload("s")["reasons"]}
    wanted |= {f"broker_{hint}{more}" for hint in hints for more in ("", "_more")}
    # What a part's record says in words of the interface.
    schema = json.loads((EDGE / "contract" / "schemas" / "verdict-1.json").read_text())[
        "properties"
    ]
    wanted |= {f"source_{one}" for one in schema["trigger_source"]["enum"]}
    wanted |= {f"status_{one.value}" for one in FrameStatus}
    wanted |= {f"method_{one.value}" for one in ThresholdMethod}
    stages = set(schema["duration_ms"]["properties"]) - {"total"}
    wanted |= {f"stage_{stage}" for stage in stages}
    # Why an image is not taken to teach with, and why nothing is taught.
    wanted |= {f"teach_why_{one}" for one in get_args(NotTakenKind)}
    wanted |= {f"refused_{one}" for one in get_args(RefusalKind)}
    assert len(kinds) > 15 and len(hints) > 3 and len(reasons) > 4
    # {n|image|images}, so that there is no "1 images".
    nouns = "images|parts|verdicts|frames|minutes|areas|zones|recipes|stations|records|files"
    assert re.findall(rf"\{{\w+\}} (?:[a-z]+ )?(?:{nouns})\b", texts) == ["{kept} parts"]
    lacking = [one for one in sorted(wanted) if len(re.findall(rf"\b{one}: ", texts)) != 2]
    assert lacking == []
