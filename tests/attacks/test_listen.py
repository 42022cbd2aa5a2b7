"""What a station's account at the broker can publish, against edge-listen and its tables."""

import csv
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge.contract.encoding import new_id
from edge.listen.file_store import FileStore
from edge.listen.gap_repair import Repair
from edge.listen.listener import Listener, ListenOptions
from edge.listen.sequence_ranges import Stretch
from edge.settings.mqtt import MqttSettings
from tests.edge.conftest import broker as broker
from tests.edge.conftest import running_broker as running_broker
from tests.support.broker import GENEROUS_S, Broker
from tests.support.relaying import VERDICT, LogCollector

JOURNAL = "7b1e8b0c-9f5e-4f1a-8a52-0c6d2c7f3a11"
ROOT = "vi/v1/site/line/cell/top"
STATION = "site/line/cell/top"


class Sender:
    """Publishes verdicts and states as a station, or as whoever has its account."""

    def __init__(self, broker: Broker) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="sender")
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()

    def publish(self, kind: str, content: dict[str, object]) -> None:
        message = self._client.publish(f"{ROOT}/{kind}", json.dumps(content), 1)
        message.wait_for_publish(GENEROUS_S)

    def verdict(self, seq: int, **changed: object) -> None:
        identity = {"id": new_id(1_700_000_000_000_000_000), "seq": seq, "journal": JOURNAL}
        self.publish("verdict", {**VERDICT, **identity, **changed})

    def state(self, last_seq: int, **more: object) -> None:
        journal = {"journal": JOURNAL, "backlog": 0, "last_seq": last_seq, **more}
        self.publish("state", {"journal": journal})

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def listener(broker: Broker, database: Path, table: Path | None = None) -> Iterator[LogCollector]:
    """Run a listener that loses patience soon; what it tells can be waited for."""
    reported, ended = LogCollector(), threading.Event()
    logger = logging.getLogger("edge.listen.listener")
    logger.addHandler(reported)
    logger.setLevel(logging.INFO)

    def listen() -> None:
        settings, store = MqttSettings(url=broker.url), FileStore(database, table, None)
        Listener(
            settings=settings,
            wanted=ListenOptions(),
            store=store,
            repair=lambda: Repair(grace_s=0.0, again_s=0.001, every_s=0.0, sent_per_s=1e9),
        ).run(ended.is_set)
        store.close()

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        reported.wait_for("listening to")
        yield reported
    finally:
        ended.set()
        thread.join(GENEROUS_S)
        logger.removeHandler(reported)


@pytest.mark.parametrize(("far", "word"), [(2**63 - 1, "far ahead"), (5000, "are LOST")])
def test_a_number_forged_far_ahead_ends_no_repair(
    running_broker: Broker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    far: int,
    word: str,
) -> None:
    monkeypatch.setattr("edge.listen.listener.REPAIR_INTERVAL_S", 0.02)
    station = Sender(running_broker)
    with listener(running_broker, tmp_path / "mes.db") as reported:
        station.state(3)
        for seq in (1, 2, 3, far):
            station.verdict(seq)
        reported.wait_for(word)

        station.verdict(4)
        station.verdict(6)
        station.state(6)
        reported.wait_for("verdicts 5")  # alone, or with what is missing behind it
        running_broker.collect("/cmd/resend", lambda got: any(one["from_seq"] == 5 for one in got))
        station.verdict(5)
        station.verdict(9)
        station.state(9)
        reported.wait_for("verdicts 7 to 8 of journal")  # LOST: nobody answered
    station.close()

    store = FileStore(tmp_path / "mes.db", None, None)
    assert list(store.numbers(STATION, JOURNAL))[:2] == [Stretch(1, 6), Stretch(9, 9)]
    assert Stretch(7, 8) in store.lost(STATION, JOURNAL)
    store.close()
    running_broker.forget()


def test_a_name_that_is_used_again_is_reported_and_two_stations_of_one_name_are_a_conflict(
    running_broker: Broker, tmp_path: Path
) -> None:
    new, third = (f"{JOURNAL[:-1]}{digit}" for digit in "23")
    station = Sender(running_broker)
    with listener(running_broker, tmp_path / "mes.db") as announced:
        station.verdict(1)
        station.state(1)
        station.state(1, journal=new, follows=JOURNAL)  # goes on: not a word
        station.verdict(1, journal=third)
        station.state(1, journal=third)  # another PC under the name
        announced.wait_for(f"writes journal {third}, which does not continue {new}")
        station.state(1, journal=new)
        announced.wait_for("CONFLICT: two stations have this name")
    station.close()

    store = FileStore(tmp_path / "mes.db", None, None)
    assert store.numbers(STATION, JOURNAL).last == store.numbers(STATION, third).last == 1
    store.close()
    running_broker.forget()


def test_a_forged_state_ends_no_repair(
    running_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.listen.listener.REPAIR_INTERVAL_S", 0.02)
    head = {"position": 2**63 - 1, "seq": 2**63 - 1, "sha256": "0" * 64}
    station = Sender(running_broker)
    with listener(running_broker, tmp_path / "mes.db") as reported:
        for seq in (1, 2, 3):
            station.verdict(seq)
        station.state(2**63 - 1)
        reported.wait_for("verdicts 4 to 9223372036854775807 of journal")  # LOST: nobody answered
        station.state(3, first_seq=2**63 - 1, head=head)
        for seq in (4, 6):
            station.verdict(seq)
        station.state(6)
        reported.wait_for("verdicts 5 are missing; asking again")
        station.verdict(9)
        station.state(9)
        reported.wait_for("verdicts 7 to 8 of journal")
    station.close()
    running_broker.forget()


def test_no_cell_of_a_listeners_table_is_a_formula(running_broker: Broker, tmp_path: Path) -> None:
    station = Sender(running_broker)
    with listener(running_broker, tmp_path / "mes.state.db", tmp_path / "mes.csv") as reported:
        station.verdict(1, part_id='=HYPERLINK("http://x","y")', journal="@SUM(1)")
        station.verdict(2, part_id="-2+3", anomaly_score="+1")
        station.state(4)
        station.verdict(4)
        reported.wait_for("verdicts 3 are missing")
    station.close()

    with (tmp_path / "mes.csv").open(newline="", encoding="utf-8") as file:
        one, other, _ = csv.DictReader(file)
    assert one["part_id"] == '\'=HYPERLINK("http://x","y")' and one["journal"] == "'@SUM(1)"
    assert other["part_id"] == "'-2+3" and other["anomaly_score"] == "'+1"
    running_broker.forget()


@pytest.mark.parametrize("suffix", ["db", "csv"])
def test_an_id_that_is_no_text_ends_no_listener(
    running_broker: Broker, tmp_path: Path, suffix: str
) -> None:
    station, file = Sender(running_broker), tmp_path / f"mes.{suffix}"
    table = file if suffix == "csv" else None
    with listener(running_broker, tmp_path / "mes.db", table) as reported:
        for identity in ([1], [1], {"a": 1}, 1.5, None):
            station.verdict(1, id=identity)
        reported.wait_for("id is no text")
        running_broker.catch_up()
        running_broker.forget()
        station.verdict(2)
        station.verdict(4)
        reported.wait_for("verdicts 3")
    station.close()
    store = FileStore(tmp_path / "mes.db", table, None)
    assert [str(one) for one in store.numbers(STATION, JOURNAL)] == ["2", "4"]
    store.close()
