"""The gate for commands: what passes is typed, what does not is answered and recorded."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.contract.commands import (
    Ack,
    CommandRequest,
    Reload,
    Resend,
    SelfTest,
    SetRecipe,
    Snapshot,
    Status,
    Trigger,
    answer_payloads,
)
from edge.contract.event import event_payload
from edge.contract.topics import StationTopic
from edge.contract.verdict import Recipe
from edge.mqtt.command_gate import (
    MAX_BYTES,
    MAX_RESENT,
    AcceptedCommand,
    CommandGate,
    RefusedCommand,
)
from edge.mqtt.command_queue import CommandQueue
from edge.mqtt.connection import Incoming
from edge.token_bucket import MINUTE_NS, TokenBucket
from tests.support.payloads import check_payload, validator

TOPIC = StationTopic.parse("site/line/cell/top")
SECOND_NS = 1_000_000_000


def gate(commands_per_minute: int = 1000, audits_per_minute: int = 1000) -> CommandGate:
    return CommandGate(TOPIC, commands_per_minute, audits_per_minute)


def incoming(suffix: str, content: Any = None, **envelope: Any) -> Incoming:
    payload = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Incoming(
        topic=f"{TOPIC.root}/{suffix}", payload=b"" if content is None else payload, **envelope
    )


def accepted(what: Incoming) -> Any:
    judged = gate().examine(what, SECOND_NS)
    assert isinstance(judged, AcceptedCommand), judged
    if judged.audit:
        check_payload(TOPIC.event, event_payload(judged.audit, 0))
    return judged.message


def refused(what: Incoming, at: CommandGate | None = None) -> RefusedCommand:
    judged = (at or gate()).examine(what, SECOND_NS)
    assert isinstance(judged, RefusedCommand), judged
    if judged.answer:
        check_payload(TOPIC.response("x"), answer_payloads(judged.answer)[0])
    if judged.audit:
        check_payload(TOPIC.event, event_payload(judged.audit, 0))
    return judged


def test_a_trigger_is_read_with_all_it_says() -> None:
    printed = {
        "trigger_id": "4711",
        "part_id": "B-1",
        "recipe": {"id": "bottle", "version": 7},
        "deadline_ms": 150,
        "schema": "trigger/1",
    }
    expected = Trigger(
        trigger_id="4711",
        part_id="B-1",
        recipe_id="bottle",
        recipe_version=7,
        deadline_ms=150.0,
        received_ns=SECOND_NS,
        expires_ns=None,
    )
    assert accepted(incoming("trigger", printed)) == expected
    assert accepted(incoming("trigger", {"trigger_id": "1"})) == Trigger(
        trigger_id="1",
        part_id=None,
        recipe_id=None,
        recipe_version=None,
        deadline_ms=None,
        received_ns=SECOND_NS,
    )


def test_a_trigger_expires_when_its_message_does() -> None:
    trigger = accepted(incoming("trigger", {"trigger_id": "1"}, expiry_s=2))
    assert trigger.expires_ns == 3 * SECOND_NS


def test_acks_and_every_command_become_typed_messages() -> None:
    def asked(name: str) -> CommandRequest:
        return CommandRequest(name=name, sender="meier")

    who = {"sender": "meier"}
    assert accepted(incoming("ack", {"seq": 7})) == Ack(7, None)
    assert accepted(incoming("cmd/reload", **who)) == Reload(asked("reload"))
    assert accepted(incoming("cmd/snapshot", {}, **who)) == Snapshot(asked("snapshot"))
    assert accepted(incoming("cmd/selftest", {}, **who)) == SelfTest(asked("selftest"))
    assert accepted(incoming("cmd/set_recipe", {"id": "b", "version": "2a"}, **who)) == SetRecipe(
        asked("set_recipe"), Recipe("b", "2a")
    )
    assert accepted(incoming("cmd/resend", {"from_seq": 3, "to_seq": 9}, **who)) == Resend(
        asked("resend"), "verdict", 3, 9
    )


@pytest.mark.parametrize("suffix", ["trigger", "ack", "cmd/reload", "cmd/resend"])
def test_a_retained_message_is_refused_and_recorded(suffix: str) -> None:
    right = {"trigger": {"trigger_id": "1"}, "ack": {"seq": 1}}.get(suffix, {})
    judged = refused(incoming(suffix, right, retained=True))
    assert judged.reason == "retained"
    assert judged.audit is not None
    assert judged.audit.data["accepted"] is False


@pytest.mark.parametrize(
    ("suffix", "content", "reason"),
    [
        ("trigger", b"", "malformed"),
        ("trigger", b"\xff\xfe", "malformed"),
        ("trigger", b"[" * 4000, "malformed"),
        ("trigger", {"trigger_id": 4711}, "malformed"),
        ("trigger", {"trigger_id": ""}, "malformed"),
        ("trigger", {"trigger_id": "a\nb"}, "malformed"),
        ("trigger", {"trigger_id": "x" * 65}, "malformed"),
        ("trigger", {"trigger_id": "1", "extra": 1}, "malformed"),
        ("trigger", {"trigger_id": "1", "deadline_ms": 0}, "malformed"),
        ("trigger", {"trigger_id": "1", "deadline_ms": True}, "malformed"),
        ("trigger", b'{"trigger_id":"1","deadline_ms":NaN}', "malformed"),
        ("trigger", b'{"trigger_id":"1","deadline_ms":1e999}', "malformed"),
        ("trigger", {"trigger_id": "1", "schema": "trigger/2"}, "malformed"),
        ("ack", {"seq": 0}, "malformed"),
        ("ack", {"seq": "1"}, "malformed"),
        ("ack", {"seq": 2**63}, "malformed"),
        ("cmd/resend", {"from_seq": 2, "to_seq": 1}, "malformed"),
        ("cmd/resend", {"from_seq": 1, "to_seq": MAX_RESENT + 1}, "malformed"),
        ("cmd/resend", {"from_seq": 1, "to_seq": 1, "kind": "metrics"}, "malformed"),
        ("cmd/reload", {"now": True}, "malformed"),
        ("cmd/erase", {}, "unknown_command"),
        ("cmd/a/b", {}, "unknown_topic"),
        ("cmd/Reload", {}, "unknown_topic"),
        ("verdict", {}, "unknown_topic"),
        ("trigger", b" " * (MAX_BYTES + 1), "too_large"),
        ("cmd/reload", b"{}" + b" " * MAX_BYTES, "too_large"),
    ],
)
def test_what_breaks_the_contract_is_refused_with_its_reason(
    suffix: str, content: Any, reason: str
) -> None:
    judged = refused(incoming(suffix, content))
    assert judged.reason == reason
    assert judged.audit is not None
    assert judged.audit.data["reason"] == reason
    is_command = suffix.count("/") == 1 and suffix.islower()
    assert (judged.answer is not None) == (suffix.startswith("cmd/") and is_command)


def test_a_command_to_another_station_is_refused() -> None:
    elsewhere = Incoming(topic="vi/v1/site/line/cell/side/cmd/reload", payload=b"{}")
    assert refused(elsewhere).reason == "unknown_topic"


@given(
    st.binary(max_size=300),
    st.sampled_from(["trigger", "ack", "cmd/resend", "cmd/set_recipe", "cmd/reload", "cmd/\x00"]),
    st.text(max_size=40),
    st.binary(max_size=20),
    st.text(max_size=200),
)
def test_no_bytes_make_the_gate_raise(
    payload: bytes, suffix: str, reply_to: str, correlation: bytes, sender: str
) -> None:
    what = Incoming(
        topic=f"{TOPIC.root}/{suffix}",
        payload=payload,
        retained=False,
        expiry_s=None,
        response_topic=reply_to,
        correlation=correlation,
        sender=sender,
    )
    judged = gate().examine(what, 0)
    assert isinstance(judged, AcceptedCommand | RefusedCommand)
    if judged.audit is not None:
        check_payload(TOPIC.event, event_payload(judged.audit, 0))


scalars = st.one_of(st.none(), st.booleans(), st.integers(-5, 2**64), st.text(max_size=70))
recipes = st.one_of(
    scalars, st.fixed_dictionaries({}, optional={"id": scalars, "version": scalars, "x": scalars})
)


def contents(**fields: Any) -> Any:
    return st.fixed_dictionaries({}, optional={**fields, "schema": scalars, "unknown": scalars})


CONTENTS = {
    "trigger": contents(
        trigger_id=scalars,
        part_id=scalars,
        recipe=recipes,
        deadline_ms=st.one_of(scalars, st.floats(-1, 700_000)),
    ),
    "ack": contents(seq=scalars, journal=st.one_of(scalars, st.uuids().map(str))),
    "cmd/set_recipe": contents(id=scalars, version=scalars),
    "cmd/reload": contents(),
}


@pytest.mark.parametrize("suffix", CONTENTS)
@given(data=st.data())
def test_the_gate_and_the_published_schema_agree(suffix: str, data: st.DataObject) -> None:
    content = data.draw(CONTENTS[suffix])
    right = {"trigger": {"trigger_id": "1"}, "ack": {"seq": 1}}.get(suffix, {})
    if suffix == "cmd/set_recipe":
        right = {"id": "b", "version": 1}
    for mixed in (content, right | content, right):
        judged = gate().examine(incoming(suffix, mixed), 0)
        name = suffix.replace("/", "-").replace("_", "-") + "/1"
        assert isinstance(judged, AcceptedCommand) == validator(name).is_valid(mixed)


def test_commands_beyond_the_rate_are_refused_and_triggers_are_not() -> None:
    limited = gate(commands_per_minute=3)
    for _ in range(3):
        assert isinstance(limited.examine(incoming("cmd/reload"), 0), AcceptedCommand)

    assert refused_at(limited, 0) == "rate_limited"
    assert isinstance(limited.examine(incoming("trigger", {"trigger_id": "1"}), 0), AcceptedCommand)
    assert isinstance(limited.examine(incoming("cmd/reload"), MINUTE_NS // 3), AcceptedCommand)
    assert refused_at(limited, MINUTE_NS // 3) == "rate_limited"


def refused_at(limited: CommandGate, now_ns: int) -> str:
    judged = limited.examine(incoming("cmd/reload"), now_ns)
    assert isinstance(judged, RefusedCommand)
    assert judged.answer is not None
    assert judged.answer.status is Status.REFUSED
    return judged.reason


@given(st.integers(1, 50), st.lists(st.integers(-MINUTE_NS, MINUTE_NS), max_size=100))
def test_no_minute_sees_more_than_twice_the_rate(rate: int, steps_ns: list[int]) -> None:
    bucket, now_ns, passed = TokenBucket(rate), 0, []
    for step_ns in steps_ns:
        now_ns += abs(step_ns) // 20
        if bucket.try_consume(now_ns):
            passed.append(now_ns)
    for start in passed:
        assert sum(start <= one < start + MINUTE_NS for one in passed) <= 2 * rate


def test_a_clock_that_stands_or_goes_back_gives_nothing_away() -> None:
    bucket = TokenBucket(1)
    assert bucket.try_consume(MINUTE_NS)
    assert not bucket.try_consume(0)
    assert not bucket.try_consume(0)


def test_a_flood_of_refusals_does_not_fill_the_journal_and_is_counted() -> None:
    flooded = gate(audits_per_minute=2)
    audits = [flooded.examine(incoming("trigger", b"x"), 0).audit for _ in range(50)]
    assert [audit is not None for audit in audits] == [True] * 2 + [False] * 48

    later = flooded.examine(incoming("trigger", b"x"), MINUTE_NS).audit
    assert later is not None
    assert later.data["not_recorded_before"] == 48


@pytest.mark.parametrize(
    "reply_to",
    [
        "vi/v1/site/line/cell/side/trigger",
        "vi/v1/site/line/cell/top/trigger",
        "vi/v1/site/line/cell/top/cmd/selftest",
        "vi/v1/site/line/cell/top/verdict",
        "vi",
        "$SYS/broker",
        "a/+/b",
        "a/#",
        "",
        "x" * 257,
    ],
)
def test_an_answer_is_never_sent_where_it_would_pass_for_another_message(reply_to: str) -> None:
    judged = refused(incoming("cmd/reload", response_topic=reply_to, correlation=b"1"))
    assert judged.reason == "response_topic"
    assert judged.answer is not None
    assert judged.answer.request.response_topic is None


@pytest.mark.parametrize("reply_to", ["mes/answers", "vi/v1/site/line/cell/top/cmd/reload/res/7"])
def test_an_answer_goes_where_the_sender_asked(reply_to: str) -> None:
    message = accepted(incoming("cmd/reload", response_topic=reply_to, correlation=b"1"))
    assert (message.request.response_topic, message.request.correlation) == (reply_to, b"1")


def test_the_audit_names_who_asked_for_what_in_bounded_words() -> None:
    asked = incoming("cmd/resend", {"from_seq": 1, "to_seq": 2}, sender="m\x00" * 500)
    judged = gate().examine(asked, 0)
    assert judged.audit is not None
    data = event_payload(judged.audit, 0)["data"]
    assert (data["command"], data["accepted"], data["to_seq"]) == ("resend", True, 2)
    assert len(data["who"]) == 100
    assert data["who"].isprintable()


def test_what_the_station_has_no_time_for_is_refused_as_busy() -> None:
    at = gate()
    judged = at.examine(incoming("cmd/reload"), 0)
    assert isinstance(judged, AcceptedCommand)
    busy = at.refuse(judged.message, 0)
    assert (busy.reason, busy.answer and busy.answer.status) == ("busy", Status.REFUSED)
    assert at.refuse(Ack(1, None), 0).answer is None


def test_the_queue_of_messages_is_bounded_and_in_order() -> None:
    queue = CommandQueue(max_waiting=2)
    assert [queue.put(Ack(seq, None)) for seq in (1, 2, 3)] == [True, True, False]
    assert [queue.get(0.0), queue.get(0.0), queue.get(0.0)] == [Ack(1, None), Ack(2, None), None]
    queue.close()
    assert not queue.put(Ack(4, None))
    assert queue.get(60.0) is None


@pytest.mark.parametrize("version", [10**100, -1, 2**63])
def test_a_recipes_number_that_nothing_could_hold_is_refused(version: int) -> None:
    wanted = {"trigger_id": "1", "recipe": {"id": "b", "version": version}}
    for message in (incoming("trigger", wanted), incoming("cmd/set_recipe", wanted["recipe"])):
        assert isinstance(gate().examine(message, 0), RefusedCommand)
