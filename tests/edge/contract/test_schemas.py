"""The published schemas: sound, complete, and what the code produces."""

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from edge.contract import announcements as printed
from edge.contract.announcements import HandshakeMessage, Meta, Metrics, TriggerPhase
from edge.contract.commands import CommandAnswer, CommandRequest, Status, answer_payloads
from edge.contract.encoding import to_json
from edge.contract.event import Event, Severity, event_payload
from edge.contract.state import Condition, State, StationReport, state_payloads, will_payload
from edge.contract.topics import StationTopic
from edge.mqtt.command_gate import MAX_BYTES, MAX_RESENT
from edge.station.command_threads import NO_TRIGGERS
from edge.station.handshake.part import Rejection
from tests.support.example_messages import BEGIN, END, GUIDE, documented, example_messages
from tests.support.payloads import (
    check_payload,
    read_schema,
    schema_names,
    undocumented,
    validator,
)

TOPIC = StationTopic.parse("site/line/cell/top")
SESSION = "7b1e8b0c-9f5e-4f1a-8a52-0c6d2c7f3a11"
STATE = State(condition=Condition.ONLINE, since_utc="2026-01-01T00:00:00.000000Z")


@pytest.mark.parametrize("name", schema_names())
def test_a_schema_is_sound_and_describes_each_of_its_fields(name: str) -> None:
    schema = read_schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["title"] == name
    assert schema["$id"].endswith(name.replace("/", "-"))
    for path, field in fields(schema):
        assert "description" in field or "const" in field or path.startswith("recipe."), path


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in schema.get("properties", {}).items():
        if path + name in ("duration_ms.trigger_to_frame",) or "$ref" in field:
            continue  # durations explain themselves together
        if name in NAMED_BY_ITSELF:
            continue
        yield path + name, field
        yield from fields(field, f"{path}{name}.")


# Of verdict/1: the model's name and version, a recipe's id and version.
NAMED_BY_ITSELF = {"id", "name", "version"}


def test_there_is_a_schema_for_every_topic_that_meta_lists() -> None:
    every = Meta(commands=("resend", "reload", "set_recipe", "snapshot", "selftest"), fleet=True)
    listed = printed.meta_payloads(every, TOPIC, SESSION)[0]["topics"]
    # part is edge-listen's
    of_others = {"response/1", "part/1", "fleet-owner/1", "fleet-rollout/1"}
    assert {one["schema"] for one in listed.values()} | of_others == set(schema_names())


@pytest.mark.parametrize("condition", [c for c in Condition if c is not Condition.OFFLINE])
def test_every_condition_is_in_the_schema_and_offline_is_the_brokers(condition: Condition) -> None:
    content, short = state_payloads(
        State(condition=condition, since_utc=STATE.since_utc, reasons=("camera_lost",)), SESSION
    )
    check_payload(TOPIC.state, content)
    check_payload(TOPIC.state, short)
    assert not validator("state/1").is_valid(content | {"state": "offline"})
    assert not validator("state/1").is_valid(will_payload(SESSION) | {"state": "online"})
    check_payload(TOPIC.state, will_payload(SESSION))


def test_a_state_has_room_for_a_hundred_characters_of_what_a_camera_is_called() -> None:
    content, _ = state_payloads(STATE, SESSION, StationReport(camera_model="G\x07" * 9999))
    assert content["camera"]["model"] == "G " * 49 + "G…"


@pytest.mark.parametrize("phase", list(TriggerPhase))
@pytest.mark.parametrize(
    "reason",
    [None, *Rejection, "malformed", "too_large", "retained", NO_TRIGGERS],
)
def test_every_phase_and_rejection_is_in_the_schema(
    phase: TriggerPhase, reason: str | None
) -> None:
    reported = HandshakeMessage(
        phase=phase, trigger_id="1", part_id=None, utc_ns=0, reason=reason, seq=7
    )
    check_payload(TOPIC.handshake, printed.handshake_payload(reported, SESSION))


@pytest.mark.parametrize("status", list(Status))
def test_every_status_of_an_answer_is_in_the_schema(status: Status) -> None:
    answer = CommandAnswer(
        request=CommandRequest(name="reload"), status=status, detail="Done.", data={"parts": 1}
    )
    for content in answer_payloads(answer):
        check_payload(TOPIC.response("reload"), content)


@pytest.mark.parametrize("severity", list(Severity))
def test_an_event_is_at_most_32_kib_whatever_its_content(severity: Severity) -> None:
    data = {f"{number:02}" + "\U0001f600" * 99: "\U0001f600" * 9999 for number in range(99)}
    event = event_payload(Event("kind", severity, "x" * 9999, {**data, "n": 1.5}), 0)
    check_payload(TOPIC.event, event)
    assert len(to_json(event).encode()) <= 32768


def test_metrics_may_not_know() -> None:
    reported = Metrics({"a": 1}, {"b": None}, {"c": {"p50": None}})
    for content in printed.metrics_payloads(reported, SESSION, 0):
        check_payload(TOPIC.metrics, content)


def test_what_is_shortened_for_a_broker_is_in_the_schema() -> None:
    for content in printed.meta_payloads(Meta(), TOPIC, SESSION):
        check_payload(TOPIC.meta, content)


@pytest.mark.parametrize("name", example_messages())
def test_every_example_of_the_guide_is_as_its_schema_says(name: str) -> None:
    content = example_messages()[name]
    suffix = name.partition(" ")[0]
    if "schema" in content:
        check_payload(f"{TOPIC.root}/{suffix}", content)
    else:  # to the station
        validator(f"{suffix.replace('/', '-').replace('_', '-')}/1").validate(content)


def test_the_guide_shows_the_examples_as_they_are() -> None:
    guide = GUIDE.read_text("utf-8")
    shown = guide.partition(BEGIN)[2].partition(END)[0]
    assert shown == documented(example_messages()), "run python -m tests.support.example_messages"
    sent = {name.partition(" ")[0] for name in example_messages()}
    every = Meta(commands=("resend", "reload", "set_recipe", "snapshot", "selftest"), fleet=True)
    assert sent >= printed.meta_payloads(every, TOPIC, SESSION)[0]["topics"].keys()


def test_limits_in_the_schemas_are_those_of_the_gate() -> None:
    assert f"at most {MAX_RESENT} at once" in read_schema("cmd-resend/1")["description"].lower()
    for name in ("trigger/1", "ack/1", "cmd-reload/1"):
        assert f"At most {MAX_BYTES} bytes" in read_schema(name)["description"]


def test_a_field_that_no_schema_describes_is_found() -> None:
    content, _ = state_payloads(STATE, SESSION, StationReport())
    schema = read_schema("state/1")
    assert undocumented(content, schema) == []
    content["camera"]["colour"] = "red"
    assert undocumented(content | {"mood": 1}, schema) == ["camera.colour", "mood"]
