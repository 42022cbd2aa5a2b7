"""The verdict on the wire: the published schema, whatever happened to the part."""

import hashlib
import json
import math
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from edge.bundle.bounds import MAX_ZONES
from edge.bundle.input_spec import Zone
from edge.contract.clock_sync import STA_UNSYNC, ClockSource, ClockSync, read_timex
from edge.contract.image_source import encoded_name, image_name
from edge.contract.verdict import (
    REASON_CODES,
    ImageAddresses,
    PartIdentity,
    Recipe,
    StationIdentity,
    Verdict,
    new_id,
    payload,
    shortened,
    to_json,
)
from edge.imaging.frame import Frame, FrameStatus, Pixels, Telemetry
from edge.imaging.pose import PartPose
from edge.inspection.alignment import Located
from edge.inspection.decision import Decision, Reason, Result
from edge.inspection.inspector import Durations, Inspection
from edge.inspection.regions import MAX_REGIONS, Region
from edge.inspection.zones import ZoneDecision
from edge.station.monitoring.kernel_clock import clock_sync
from tests.support.sample_verdict import GOOD, IDENTITY, SECOND_NS
from tests.support.sample_verdict import sample_verdict as verdict

EIGHT_KIB = 8192
SCHEMA = json.loads(
    resources.files("edge.contract").joinpath("schemas/verdict-1.json").read_text("utf-8")
)
VALIDATOR = Draft202012Validator(SCHEMA)
REGION = Region(x=10, y=20, width=30, height=40, area_px=900, peak=0.75)


def frame(pixels: Pixels | None = None, source: str | None = None, **changes: Any) -> Frame:
    grey = np.full((120, 160, 3), 90, np.uint8)
    return Frame(
        pixels=grey if pixels is None else pixels,
        number=7,
        captured_ns=SECOND_NS,
        captured_utc_ns=0,
        source=source,
        **changes,
    )


def failed(reason: Reason, detail: str = "Check the lamp.") -> Inspection:
    return Inspection(
        decision=Decision(Result.ERROR, reason), threshold=20.0, pixel_threshold=20.0, detail=detail
    )


def sent(
    what: Verdict, identity: StationIdentity = IDENTITY, session: str | None = None
) -> dict[str, Any]:
    """Send a verdict through JSON and check it against the schema."""
    line = to_json(payload(what, identity, session))
    assert "\n" not in line
    assert len(line.encode("utf-8")) <= EIGHT_KIB
    received = json.loads(line, parse_constant=pytest.fail)
    VALIDATOR.validate(received)
    return received


def test_the_schema_is_valid_and_names_units() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    for name, field in SCHEMA["properties"].items():
        described = "description" in field or name in {"schema"}
        assert described, name


def test_every_field_is_in_the_schema_and_every_required_one_is_sent() -> None:
    content = sent(verdict())
    # Only of models that look for the part, or have zones: tests/edge/inspection/test_alignment.py
    # and test_areas.py.
    always = set(SCHEMA["properties"]) - {"locator", "zones", "shared_raw_score"}
    assert set(content) == always >= set(SCHEMA["required"])
    for name in ("image", "frame", "time", "duration_ms", "model"):
        described = SCHEMA["properties"][name]
        assert set(content[name]) == set(described["properties"]) >= set(described["required"])


def test_consumers_accept_fields_that_later_versions_add() -> None:
    VALIDATOR.validate(sent(verdict()) | {"added_later": 1})


def test_a_good_part_reads_as_documented() -> None:
    content = sent(verdict())
    expected = {
        "schema": "verdict/1",
        "result": "OK",
        "reason": "score_below",
        "reason_code": 1,
        "detail": None,
        "anomaly_score": 0.32,
        "threshold": 0.5,
        "margin": -0.18,
        "score_scale": "minmax_0_1",
        "raw_score": 2.0,
        "raw_threshold": 20.0,
        "regions": [],
        "deadline_ms": None,
        "deadline_met": None,
    }
    assert content.items() >= expected.items()
    assert content["duration_ms"] == {
        "trigger_to_frame": None,
        "queue": 5.0,
        "preprocess": 1.0,
        "inference": 2.5,
        "postprocess": 0.3,
        "total": 12.0,
    }
    assert content["time"]["decided_utc"] == "2026-01-01T00:00:00.123456Z"


def test_what_this_run_does_not_have_is_null() -> None:
    content = sent(verdict())
    for name in ("seq", "journal", "session", "part_id", "trigger_id", "recipe"):
        assert content[name] is None
    assert content["frame"]["exposure_us"] is None


def test_the_session_is_passed_on() -> None:
    session = "7b1e8b0c-9f5e-4f1a-8a52-0c6d2c7f3a11"
    assert sent(verdict(), session=session)["session"] == session


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_code_of_its_own(reason: Reason) -> None:
    assert REASON_CODES[reason] in range(65536)
    assert list(REASON_CODES.values()).count(REASON_CODES[reason]) == 1
    documented = SCHEMA["properties"]["reason_code"]["description"]
    assert f"{REASON_CODES[reason]} {reason}" in documented
    assert reason in SCHEMA["properties"]["reason"]["enum"]


@pytest.mark.parametrize("reason", [r for r in Reason if not r.startswith(("score", "near"))])
def test_every_failure_is_sent_with_its_cause(reason: Reason) -> None:
    content = sent(verdict(failed(reason)))
    assert (content["result"], content["reason"]) == ("ERROR", reason.value)
    assert content["detail"] == "Check the lamp."
    assert content["anomaly_score"] is content["margin"] is content["raw_score"] is None
    assert content["duration_ms"]["inference"] is None


def test_a_failure_that_claims_to_be_ok_breaks_the_schema() -> None:
    content = sent(verdict(failed(Reason.CAMERA_LOST)))
    assert not VALIDATOR.is_valid(content | {"result": "OK"})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_never_sent(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(payload(verdict(replace(GOOD, score=number)), IDENTITY, None))


@given(st.floats(0.0, 1.0))
@example(0.4999999)
@example(math.nextafter(0.5, 0.0))
def test_the_score_on_the_wire_agrees_with_its_result(normalized: float) -> None:
    content = sent(verdict(replace(GOOD, normalized_score=normalized)))
    assert (content["anomaly_score"] >= content["threshold"]) == (normalized >= 0.5)
    assert (content["margin"] >= 0.0) == (normalized >= 0.5)
    assert content["anomaly_score"] == pytest.approx(normalized, abs=1.01e-6)


@pytest.mark.parametrize(
    ("deadline_ms", "met"), [(11.999, False), (12.0, True), (100.0, True), (None, None)]
)
def test_the_deadline_counts_from_arrival_to_decision(
    deadline_ms: float | None, met: bool | None
) -> None:
    content = sent(verdict(), replace(IDENTITY, deadline_ms=deadline_ms))
    assert (content["deadline_ms"], content["deadline_met"]) == (deadline_ms, met)


PART = PartIdentity(
    part_id="B-1",
    trigger_id="4711",
    trigger_source="hardware",
    recipe=Recipe("bottle", 7),
    triggered_ns=SECOND_NS - 30_000_000,
    triggered_utc_ns=1_767_225_600 * SECOND_NS,
)


def test_a_triggered_part_echoes_its_trigger_and_counts_from_it() -> None:
    content = sent(replace(verdict(), part=PART))
    expected = {
        "part_id": "B-1",
        "trigger_id": "4711",
        "trigger_source": "hardware",
        "recipe": {"id": "bottle", "version": 7},
    }
    assert content.items() >= expected.items()
    assert content["time"]["triggered_utc"] == "2026-01-01T00:00:00.000000Z"
    assert content["duration_ms"]["trigger_to_frame"] == 30.0
    assert content["duration_ms"]["total"] == 42.0


@pytest.mark.parametrize(("deadline_ms", "met"), [(41.999, False), (42.0, True)])
def test_a_triggers_own_deadline_counts_from_the_trigger(deadline_ms: float, met: bool) -> None:
    part = replace(PART, deadline_ms=deadline_ms)
    content = sent(replace(verdict(), part=part), replace(IDENTITY, deadline_ms=1.0))
    assert (content["deadline_ms"], content["deadline_met"]) == (deadline_ms, met)


def test_the_stations_deadline_counts_from_the_image_also_for_triggered_parts() -> None:
    content = sent(replace(verdict(), part=PART), replace(IDENTITY, deadline_ms=12.0))
    assert (content["deadline_ms"], content["deadline_met"]) == (12.0, True)


def test_a_part_whose_image_never_came_has_no_time_from_trigger_to_frame() -> None:
    missing = frame(np.empty((0, 0), np.uint8), status=FrameStatus.INCOMPLETE)
    content = sent(replace(verdict(failed(Reason.TIMEOUT), missing), part=PART))
    assert content["duration_ms"]["trigger_to_frame"] is None


def test_what_the_camera_says_about_the_exposure_is_passed_on() -> None:
    telemetry = Telemetry(123, 0, 2500.5, 6.0)
    reported = sent(verdict(of=frame(telemetry=telemetry)))["frame"]
    assert (reported["device_ts_ns"], reported["missing_packets"]) == (123, 0)
    assert (reported["exposure_us"], reported["gain_db"]) == (2500.5, 6.0)
    unsure = sent(verdict(of=frame(telemetry=Telemetry(gain_db=math.nan))))["frame"]
    assert unsure["gain_db"] is None


def test_a_snapshot_is_named_before_the_file_the_image_came_from() -> None:
    images = ImageAddresses("file:///kept.png", "file:///heat.jpg")
    image = sent(replace(verdict(of=frame(source="file:///a.png")), images=images))["image"]
    assert (image["uri"], image["heatmap_uri"]) == ("file:///kept.png", "file:///heat.jpg")
    assert image["source_uri"] == "file:///a.png"


def test_the_clocks_state_is_passed_on() -> None:
    clock = ClockSync(ClockSource.NTP, 1.5)
    content = json.loads(to_json(payload(verdict(), IDENTITY, None, clock)))
    VALIDATOR.validate(content)
    assert (content["time"]["clock_sync"], content["time"]["clock_error_ms"]) == ("ntp", 1.5)


@pytest.mark.parametrize(
    ("state", "status", "under_ptp", "expected"),
    [
        (0, 0, False, ClockSync(ClockSource.NTP, 2.5)),
        (0, 0, True, ClockSync(ClockSource.PTP, 2.5)),
        (0, STA_UNSYNC, False, ClockSync(ClockSource.FREE)),
        (5, 0, False, ClockSync(ClockSource.FREE)),
        (5, STA_UNSYNC, True, ClockSync(ClockSource.PTP)),
    ],
)
def test_the_kernel_is_believed_about_the_clock(
    state: int, status: int, under_ptp: bool, expected: ClockSync
) -> None:
    assert read_timex(state, status, 2500, under_ptp) == expected


def test_this_machines_clock_is_read_without_rights() -> None:
    now = clock_sync()
    assert now.source in ClockSource
    assert now.error_ms is None or 0.0 <= now.error_ms <= 16_500.0


def test_regions_are_boxes_in_frame_pixels() -> None:
    content = sent(verdict(replace(GOOD, regions=(REGION,), regions_truncated=True)))
    assert content["regions"] == [{"bbox": [10, 20, 30, 40], "area_px": 900, "peak": 0.75}]
    assert content["regions_truncated"] is True


@given(st.text(max_size=5000), st.text(max_size=2000), st.text(min_size=100, max_size=100))
def test_no_text_makes_a_verdict_longer_than_8_kib(detail: str, source: str, name: str) -> None:
    huge = Region(x=99999, y=99999, width=99999, height=99999, area_px=9999999999, peak=0.123456)
    inspection = replace(
        failed(Reason.INTERNAL, detail * 3), regions=(huge,) * MAX_REGIONS, regions_truncated=True
    )
    identity = replace(IDENTITY, model_name=name, runtime=name)
    assert len(sent(verdict(inspection, frame(source=source)), identity)["regions"]) == 32


def test_the_weakest_regions_give_way_when_a_verdict_would_be_longer_than_8_kib() -> None:
    regions = tuple(
        Region(x=99999, y=99999, width=99999, height=99999, area_px=10**10 - n, peak=0.9)
        for n in range(MAX_REGIONS)
    )
    inspection = replace(failed(Reason.INTERNAL, "\U0001f600" * 300), regions=regions)
    part = replace(PART, part_id="\U0001f600" * 64, trigger_id="\U0001f600" * 64)
    images = ImageAddresses("a" * 1000, "b" * 1000)
    long = replace(verdict(inspection), part=part, images=images)
    emoji = "\U0001f600" * 100
    wordy = replace(IDENTITY, runtime=emoji, model_name=emoji, device=emoji)
    content = sent(long, wordy, session=str(UUID(int=0)))

    assert content["regions_truncated"] is True
    kept = [region["area_px"] for region in content["regions"]]
    assert kept == [10**10 - n for n in range(len(kept))]
    filled_in = content | {"seq": 2**63, "journal": str(UUID(int=0))}
    assert EIGHT_KIB - 300 < len(to_json(filled_in).encode()) <= EIGHT_KIB


EMOJI = "\U0001f600"
# As long as bytes and characters of a zone's name allow: a quotation mark has two in JSON.
ZONE_NAME = EMOJI * 13 + '"' * 25
RAW = -1.2345678901234567e-17


def longest(
    name: str = ZONE_NAME, word: str = EMOJI, detail: str = EMOJI * 1000, source: str = ""
) -> tuple[Verdict, StationIdentity]:
    """Return a verdict whose every field is as long as it can be."""
    zones = tuple(
        ZoneDecision(
            name=Zone(name=f"{name}{number:X}", polygon=((0, 0), (9, 0), (9, 9))).name,
            result=Result.NOT_DECIDABLE,
            score=RAW,
            threshold=RAW,
            normalized_score=0.123456,
        )
        for number in range(MAX_ZONES)
    )
    huge = Region(x=65535, y=65535, width=65535, height=65535, area_px=2**32, peak=0.123456)
    located = Located(
        pose=PartPose(
            x=-12345.67, y=-12345.67, angle_deg=-179.123, pivot_x=0, pivot_y=0, scale=1.09876
        ),
        likeness=-0.1234,
        outside=0.1234,
    )
    inspection = Inspection(
        decision=Decision(Result.NOT_DECIDABLE, Reason.NEAR_THRESHOLD),
        detail=detail,
        score=RAW,
        threshold=RAW,
        pixel_threshold=RAW,
        normalized_score=0.123456,
        shared_score=RAW,
        zones=zones,
        regions=(huge,) * MAX_REGIONS,
        located=located,
        part_id=word * 100,
        durations=Durations(10**15 + 1, 10**15 + 1, 10**15 + 1),
    )
    telemetry = Telemetry(2**63, 2**32, 12345.678901234567, -12345.678901234567)
    part = replace(
        PART,
        part_id=None,
        trigger_id=word * 64,
        trigger_source="software",
        recipe=Recipe(word * 64, word * 64),
        deadline_ms=599999.9999999999,
    )
    images = ImageAddresses("file:///" + "a" * 992, "file:///" + "b" * 992)
    of = frame(
        np.zeros((1, 65535, 4), np.uint16),
        source=source or f"file:///{'a' * 206}/{'%F0' * 255}#frame=9999999",
        telemetry=telemetry,
        source_modified_utc_ns=0,
    )
    whole = replace(
        verdict(inspection, replace(of, number=2**63)),
        part=part,
        images=images,
        code_recipe=Recipe(word * 100, 0),
    )
    identity = replace(
        IDENTITY,
        simulated=False,
        model_name=word * 100,
        precision="int8_mixed/bf16",
        device="G" * 100,
        runtime=f"openvino {'9' * 20}",
    )
    return whole, identity


def bytes_sent(content: dict[str, Any]) -> int:
    filled_in = content | {"seq": 2**64 - 1, "journal": str(UUID(int=0))}
    return len(to_json(filled_in).encode())


def test_the_longest_of_everything_is_at_most_8_kib_and_keeps_the_result() -> None:
    whole, identity = longest()
    content = sent(whole, identity, session=str(UUID(int=0)))
    assert bytes_sent(content) <= EIGHT_KIB
    assert [zone["name"] for zone in content["zones"]] == [f"{ZONE_NAME}{n:X}" for n in range(16)]
    assert (content["part_id"], content["trigger_id"]) == (EMOJI * 100, EMOJI * 64)
    assert content["recipe"] == {"id": EMOJI * 100, "version": 0}
    assert content["model"]["name"] == EMOJI * 100
    assert content["regions"] == [] and content["regions_truncated"] is True
    assert content["detail"].endswith("…")


@pytest.mark.parametrize("word", [EMOJI, '"'])
def test_a_file_is_known_by_its_name_however_long_the_rest_is(word: str) -> None:
    name = f"{'%F0' * 255}#frame=9999999"
    for part in (PART, None):
        whole, identity = longest(word=word)
        if part is None:
            whole = replace(whole, part=None)
        content = sent(whole, identity, session=str(UUID(int=0)))
        assert content["image"]["source_uri"] == name
        assert len(content["zones"]) == MAX_ZONES and content["detail"].endswith("…")


def test_what_gives_way_in_a_verdict_goes_in_the_order_of_the_schema() -> None:
    whole, identity = longest(word="x", name="x" * 39, detail="y" * 300)
    content = sent(whole, identity, session=str(UUID(int=0)))
    assert (
        "regions, heatmap_uri, the folder of source_uri, uri, words of detail"
        in (SCHEMA["description"])
    )
    lost: list[str] = []
    size = bytes_sent(content | {"session": str(UUID(int=0))})
    for limit in range(size, 4000, -10):
        shorter = shortened(to_json(content).encode(), limit)
        if shorter is None:
            break
        assert len(shorter) <= limit
        image = json.loads(shorter)["image"]
        found = {
            "heatmap_uri": image["heatmap_uri"] is None,
            "folder": not (image["source_uri"] or "").startswith("file:"),
            "uri": image["uri"] is None,
            "detail": len(json.loads(shorter)["detail"]) < 300,
            "source_uri": image["source_uri"] is None,
        }
        lost += [name for name, gone in found.items() if gone and name not in lost]
    assert lost == ["heatmap_uri", "folder", "uri", "detail", "source_uri"]


@given(
    name=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=39).filter(
        lambda name: len(name.encode()) < 80
    ),
    word=st.characters(exclude_categories=["C"]),
    detail=st.text(max_size=300),
    source=st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=1500),
)
def test_no_names_and_texts_make_a_verdict_longer_than_8_kib(
    name: str, word: str, detail: str, source: str
) -> None:
    whole, identity = longest(name, word, detail, source)
    content = sent(whole, identity, session=str(UUID(int=0)))
    assert bytes_sent(content) <= EIGHT_KIB
    assert len(content["zones"]) == MAX_ZONES


@pytest.mark.parametrize("character", ["\udcff", "\0", "\n", "😀", '"', "\x7f", "\u2028"])
def test_any_character_of_a_detail_can_be_sent(character: str) -> None:
    detail = sent(verdict(failed(Reason.INTERNAL, character * 1000)))["detail"]
    assert len(detail) == 300
    assert detail.endswith("…")


def test_a_file_is_named_by_its_uri() -> None:
    source = "file:///pictures/bottle%20%C3%A4.png"
    assert sent(verdict(of=frame(source=source)))["image"]["uri"] == source


@pytest.mark.parametrize("source", ["file:///" + "a" * 1000, "file:///\udcff.png"])
def test_a_uri_that_cannot_be_sent_whole_is_left_out(source: str) -> None:
    assert sent(verdict(of=frame(source=source)))["image"]["uri"] is None


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("file:///in/bottle%20%C3%A4.png", "bottle ä.png"),
        ("file:///in/sch%F6n%20%C3%BC.png", r"sch\xf6n ü.png"),
        ("file:///in/line.mp4#frame=12", "line.mp4#frame=12"),
        (Path("/in/50%#frame=1.png").as_uri(), "50%#frame=1.png"),
        (f"file:///{'a' * 1000}/part_7.png", "part_7.png"),
        (None, None),
    ],
)
def test_a_verdict_names_the_file_of_its_image(source: str | None, name: str | None) -> None:
    record = sent(verdict(of=frame(source=source)))
    assert image_name(record) == name
    if name is not None:
        stored = "/" + to_json(record["image"]).partition('"source_uri":"')[2]
        assert encoded_name(name) + b'"' in stored.encode()


def test_the_image_hash_is_of_the_pixels_row_by_row() -> None:
    whole = np.arange(120 * 160 * 3).reshape(120, 160, 3).astype(np.uint8)
    for pixels in (whole, whole[::-1, 10:90], whole[:, :, ::-1]):
        image = sent(verdict(of=frame(pixels)))["image"]
        assert image["sha256"] == hashlib.sha256(pixels.tobytes()).hexdigest()
        assert (image["height_px"], image["width_px"]) == pixels.shape[:2]
        assert image["pixel_format"] == "bgr8"


@pytest.mark.parametrize(
    "pixels", [np.empty((0, 0), np.uint8), np.empty((0, 5, 3), np.uint8), np.zeros(9, np.uint8)]
)
def test_an_image_that_could_not_be_read_has_no_size_and_no_hash(pixels: Pixels) -> None:
    unread = frame(pixels, status=FrameStatus.INCOMPLETE)
    image = sent(verdict(failed(Reason.FRAME_INCOMPLETE), unread))["image"]
    assert set(image.values()) == {None}


def test_a_layout_that_is_no_frames_has_a_size_but_no_format() -> None:
    image = sent(verdict(failed(Reason.FRAME_INCOMPLETE), frame(np.zeros((4, 5, 2), np.uint8))))
    assert (image["image"]["width_px"], image["image"]["pixel_format"]) == (5, None)


@given(st.integers(0, (1 << 48) - 1))
def test_ids_are_uuids_of_version_7(utc_ms: int) -> None:
    identifier = new_id(utc_ms * 1_000_000)
    Draft202012Validator(SCHEMA["$defs"]["uuid7"]).validate(identifier)
    value = int(identifier.replace("-", ""), 16)
    assert value >> 80 == utc_ms
    assert value >> 76 & 0xF == 7
    assert value >> 62 & 0b11 == 0b10


@given(st.lists(st.integers(0, (1 << 48) - 1), unique=True, min_size=2, max_size=20))
def test_ids_sort_by_time(times_ms: list[int]) -> None:
    ids = [new_id(ms * 1_000_000 + 999_999) for ms in sorted(times_ms)]
    assert ids == sorted(ids)


def test_ids_of_one_moment_differ() -> None:
    assert len({new_id(SECOND_NS) for _ in range(1000)}) == 1000


def test_ids_of_one_millisecond_ascend_with_time_too() -> None:
    ids = [new_id(SECOND_NS + ns) for ns in range(0, 1_000_000, 250)]
    assert ids == sorted(ids) and len(set(ids)) == len(ids)
