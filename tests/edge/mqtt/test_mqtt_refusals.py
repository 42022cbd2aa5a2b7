"""Brokers that refuse records: what concerns one record, what passes, and what is said of it."""

import subprocess
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from edge.contract.delivery import Intervals
from edge.contract.event import Event, Severity
from tests.support.broker import Broker
from tests.support.relaying import (
    STATION,
    RelayedJournal,
    Relaying,
    has_all,
    numbers,
    relayed_journals,
)
from tests.support.scripted_broker import Published, ScriptedBroker

MILLISECOND_NS = 1_000_000
ROOT = f"vi/v1/{STATION}"
QUICK = {"refused_pause_ns": (MILLISECOND_NS, 20 * MILLISECOND_NS)}


@pytest.fixture
def relaying(tmp_path: Path) -> Iterator[Relaying]:
    with relayed_journals(tmp_path) as begin:
        yield begin


def kinds(station: RelayedJournal) -> list[str]:
    return [event.kind for event in station.events]


@pytest.mark.parametrize("code", [0x80, 0x83, 0x97, 0x99])
def test_a_broker_that_refuses_them_all_for_a_while_costs_no_verdict(
    relaying: Relaying, code: int
) -> None:
    refused: list[int] = []

    def refuse_for_a_while(one: Published) -> int:
        if one.kind != "verdict" or one.content["seq"] < 3 or len(refused) >= 40:
            return 0 if len(refused) in (0, 40) else code
        refused.append(one.content["seq"])
        return code

    with ScriptedBroker(on_publish=refuse_for_a_while) as failing:
        station = relaying(failing.url, publisher=QUICK)
        station.record(2)
        failing.wait_for(lambda: failing.seqs() == [1, 2])
        station.record(1)
        failing.wait_for(lambda: len(refused) >= 20)
        station.record(2)

        assert station.delivered()
        assert failing.seqs() == [1, 2, 3, 4, 5]
        assert station.publisher.delivery().dead_letters == 0


@pytest.mark.parametrize("poisoned", [1, 2])
def test_a_record_that_alone_is_refused_is_given_up(relaying: Relaying, poisoned: int) -> None:
    def refuse_one(one: Published) -> int:
        return 0x99 if one.kind == "verdict" and one.content["seq"] == poisoned else 0

    with ScriptedBroker(on_publish=refuse_one) as fussy:
        station = relaying(fussy.url, publisher=QUICK)
        station.record(4)
        assert station.delivered()

        assert kinds(station)[:2] == ["refused_by_broker", "dead_letter"]
        assert station.publisher.delivery().dead_letters == 1
        assert sorted(fussy.seqs()) == sorted({1, 2, 3, 4} - {poisoned})


def test_a_quota_is_one_state_and_one_event_at_each_change(relaying: Relaying) -> None:
    turn = count()
    shift_ns = [0]
    asked_ns: list[int] = []

    def clock_ns() -> int:
        asked_ns.append(time.monotonic_ns() + shift_ns[0])
        return asked_ns[-1]

    def quota(one: Published) -> int:
        return 0x97 if one.kind == "verdict" and next(turn) % 5 > 2 else 0

    longest_ns = 600_000 * MILLISECOND_NS
    pauses = {"refused_pause_ns": (MILLISECOND_NS, longest_ns), "clock_ns": clock_ns}
    with ScriptedBroker(on_publish=quota) as narrow:
        station = relaying(narrow.url, publisher=pauses, intervals=Intervals(state_s=0.05))
        station.record(30)
        assert station.delivered()
        assert kinds(station) == ["refused_by_broker"]
        assert station.events[0].data["code"] == 0x97
        assert "a limit on number or size is used up" in station.events[0].detail
        reasons = [one.content["reasons"] for one in narrow.published if one.kind == "state"]
        assert [r for n, r in enumerate(reasons) if not n or reasons[n - 1] != r] == [
            [],
            ["refused_by_broker"],
        ]
        shift_ns[0] = longest_ns
        station.wait_until(lambda: len(station.events) == 2)

        assert kinds(station) == ["refused_by_broker", "accepted_by_broker"]
        narrow.wait_for(
            lambda: [o.content["reasons"] for o in narrow.published if o.kind == "state"][-1] == []
        )
        assert sorted(narrow.seqs()) == [*range(1, 31)]


def test_after_the_first_refusal_a_quota_does_not_change_the_order(relaying: Relaying) -> None:
    turn = count()
    began: list[int] = []
    pauses = {"refused_pause_ns": (MILLISECOND_NS, 600_000 * MILLISECOND_NS)}

    def quota(one: Published) -> int:
        if one.kind != "verdict":
            return 0
        began.append(one.content["seq"])
        return 0 if len(began) == 1 or next(turn) % 3 == 2 else 0x97

    with ScriptedBroker(on_publish=quota) as narrow:
        station = relaying(narrow.url, publisher=pauses)
        station.record(1)
        assert station.delivered()
        station.record(1)
        narrow.wait_for(lambda: len(began) >= 2)
        station.record(20)

        assert station.delivered()
        assert narrow.seqs() == [*range(1, 23)]


class StrictBroker:
    """A mosquitto whose access rules deny the station one of its topics, until told otherwise."""

    def __init__(self, folder: Path, denied: str) -> None:
        folder.mkdir()
        passwords = folder / "passwords"
        passwords.touch(mode=0o600)
        for user in ("station", "observer"):
            subprocess.run(["mosquitto_passwd", "-b", passwords, user, "geheim"], check=True)
        self._access = folder / "access"
        self._write(denied)
        self.broker = Broker(
            folder, f"password_file {passwords}\nacl_file {self._access}\nallow_anonymous false"
        )
        self.broker.start()
        self.broker.subscribe("observer", "geheim")

    def allow_all(self) -> None:
        self._write("")
        self.broker.reload()

    def _write(self, denied: str) -> None:
        topics = [
            f"topic write {ROOT}/{name}"
            for name in ("state", "meta", "event", "metrics", "last", "verdict")
            if name != denied
        ]
        rules = "\n".join(("user observer", "topic read vi/#", "user station", *topics))
        self._access.write_text(rules + "\n")


@pytest.mark.parametrize("denied", ["event", "verdict"])
def test_access_rules_that_deny_one_topic_do_not_hold_up_the_other(
    tmp_path: Path, relaying: Relaying, denied: str
) -> None:
    strict = StrictBroker(tmp_path / "strict", denied)
    try:
        pauses = {"refused_pause_ns": (100 * MILLISECOND_NS, 1_000 * MILLISECOND_NS)}
        login = {"password": "geheim", "username": "station", "publisher": pauses}
        station = relaying(strict.broker.url, **login)
        for number in range(30):
            station.record_event(Event("noted", Severity.INFO, f"event {number}"))
            station.record(1)
        other = "verdict" if denied == "event" else "event"
        strict.broker.collect(f"/{other}", lambda got: len(numbers(got)) >= 30)
        strict.broker.collect("/state", lambda got: "refused_by_broker" in got[-1]["reasons"])
        refusals = [e for e in station.events if e.kind == "refused_by_broker"]
        assert [(e.data["kind"], e.data["code"]) for e in refusals] == [(denied, 0x87)]
        if denied == "event":  # the line ends in order: events wait in the journal
            assert station.delivered()
        delivery = station.publisher.delivery()
        assert (delivery.complete, delivery.dead_letters) == (False, 0)

        strict.allow_all()
        strict.broker.collect("/verdict", has_all(30))
        # Two of them tell of the refusal and of its end.
        events = strict.broker.collect("/event", lambda got: len(numbers(got)) == 32)
        assert numbers(events) == [*range(1, 33)]
        assert numbers(strict.broker.collect("/verdict", has_all(30))) == [*range(1, 31)]
    finally:
        station.close()
        strict.broker.close()
