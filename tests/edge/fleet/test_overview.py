"""The page of all stations, over what a real broker has retained."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from playwright.sync_api import expect

from edge.fleet import overview as overview_page
from edge.fleet.cli import main
from edge.fleet.fleet_link import FleetLink, Retained
from edge.fleet.overview import FleetView
from edge.fleet.station_rows import SILENT_S, station_rows
from edge.settings.mqtt import MqttSettings
from tests.soak import times
from tests.support.broker import Broker
from tests.support.browser import running_browser
from tests.support.fleet_states import publish_states, retained, station_topic
from tests.support.station_process import until

STATIC = Path(__file__).parents[3] / "edge" / "fleet" / "static"
COUNT = 200


@pytest.fixture
def overview(broker: Broker) -> Iterator[str]:
    """The address of the page over 200 stations."""
    broker.start()
    client = publish_states(broker.port, COUNT)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "edge.fleet.cli", "overview", "--port", "0"),
            *("--mqtt", broker.url, "--title", "Plant 1"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        client.disconnect()
        client.loop_stop()
        process.terminate()
        assert process.wait(30) == 0


def test_the_page_has_two_hundred_stations_and_answers_for_its_own_name_only(
    overview: str,
) -> None:
    content = httpx.get(f"{overview}/api/stations").json()
    assert len(content["stations"]) == COUNT
    assert [one["station"] for one in content["stations"][19:21]] == [
        "plant-1/line-1/cell-20/top",
        "plant-1/line-2/cell-01/top",
    ]
    third = content["stations"][3]
    assert (third["state"], third["alarms"], third["product"], third["release"]) == (
        *("degraded", ["camera_lost"]),
        *("bottle-3", 8),
    )
    assert httpx.get(overview, headers={"host": "evil.example"}).status_code == 421
    assert httpx.post(f"{overview}/api/stations").status_code == 405


def test_the_page_gets_each_file_that_it_names(overview: str) -> None:
    wanted = set(re.findall(r"(?:href|src)=\"(static/[^\"]+)", httpx.get(overview).text))
    asked = set[str]()
    while wanted - asked:
        name = (wanted - asked).pop()
        asked.add(name)
        answer = httpx.get(f"{overview}/{name}")
        assert answer.status_code == 200, name
        if name.endswith(".js"):
            wanted |= {f"static/{one}" for one in re.findall(r"from \"\./([^\"]+)", answer.text)}
    assert {"static/overview.js", "static/texts.js", "static/align_texts.js"} <= asked


@pytest.mark.skipif(not times(0, 1), reason="a browser takes long; make soak looks")
def test_a_phone_shows_the_page_in_korean_finds_stations_and_says_when_it_is_old(
    overview: str, broker: Broker
) -> None:
    with running_browser() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844}, locale="ko-KR")
        page.goto(overview)
        expect(page.locator("#rows tr")).to_have_count(COUNT)
        expect(page.locator("#title")).to_have_text("Plant 1")
        expect(page.locator("label[class=check]")).to_contain_text("조치가 필요한 것만")
        alarms = page.evaluate(
            """async () => {
                const { reasonText } = await import("/static/texts.js");
                return ["drift", "journal_full", "broker_packet_limit", "nobody_listens"]
                    .map(reasonText);
            }"""
        )
        assert not [text for text in alarms if re.search(r"[a-z_]", text)]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.fill("#search", "bottle-1 line-2/")
        expect(page.locator("#rows tr")).to_have_count(5)
        broker.kill()
        expect(page.locator("#contact")).to_be_visible(timeout=60_000)


def test_the_page_comes_back_after_another_command_took_its_connection(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(overview_page, "TAKEN_OVER_S", 0.0)
    broker.start()
    view = FleetView(MqttSettings(url=broker.url), "")
    view.connect()
    connection = view._link._connection
    assert connection is not None
    connection.hang_up()
    # What other brokers say then; mosquitto 2.0.11 says nothing.
    connection.reason = ReasonCode(PacketTypes.DISCONNECT, "Session taken over")
    reading = threading.Thread(target=view.run)
    reading.start()
    try:
        until(lambda: json.loads(view.answer())["connected"], "the broker")
    finally:
        view.stop()
        reading.join()
        view.close()
    assert "another edge-fleet" in caplog.text


def test_a_station_that_says_nothing_is_silent_whatever_its_state_says(broker: Broker) -> None:
    """Its will is not published where the broker was killed."""
    broker.start()
    client = publish_states(broker.port, 2)
    link = FleetLink(MqttSettings(url=broker.url), stopping=lambda: False)
    link.connect()
    first, second = (station_topic(number) for number in range(2))

    def has_heard() -> bool:
        client.publish(first.metrics, "{}")
        link.turn(0.1)
        return first.name in link.retained.heard_s

    until(has_heard, "metrics")
    now_s = link.retained.heard_s[first.name] + SILENT_S
    link.close()
    client.disconnect()
    client.loop_stop()
    broker.forget()
    rows = {row.station: row.state for row in station_rows(link.retained, now_s)}
    assert rows == {first.name: "online", second.name: "silent"}
    assert {row.state for row in station_rows(link.retained)} == {"online"}


def test_every_word_of_the_page_is_there_in_both_languages() -> None:
    script = (STATIC / "overview.js").read_text("utf-8")
    english, korean = (
        set(re.findall(r"(\w+): \"", script.partition(f"  {name}: {{")[2].partition("\n  },")[0]))
        for name in ("en", "ko")
    )
    assert english == korean
    page = (STATIC / "overview.html").read_text("utf-8")
    assert set(re.findall(r"data-(?:word|name)=\"(\w+)\"", page)) <= english


def test_the_status_is_a_table_and_json(broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    broker.start()
    publish_states(broker.port, 5).disconnect()
    assert main(["status", "--mqtt", broker.url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["STATION", "STATE", "PRODUCT"]
    assert lines[4].split()[:4] == ["plant-1/line-1/cell-04/top", "degraded", "bottle-3", "3"]
    assert main(["status", "--json", "--mqtt", broker.url]) == 0
    assert len(json.loads(capsys.readouterr().out)["stations"]) == 5


def test_the_status_waits_for_counts_which_are_not_retained(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.start()
    publish_states(broker.port, 2).disconnect()
    assert main(["status", "--mqtt", broker.url]) == 0
    assert "OK: not known for 2 stations" in capsys.readouterr().out

    reported = [(topic, content) for topic, content in retained(2) if topic.endswith("/metrics")]
    done = threading.Event()

    def report() -> None:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="test-metrics")
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        while not done.wait(0.2):
            for topic, content in reported:
                client.publish(topic, json.dumps(content))
        client.disconnect()
        client.loop_stop()

    telling = threading.Thread(target=report)
    telling.start()
    try:
        assert main(["status", "--mqtt", broker.url, "--wait", "600"]) == 0
    finally:
        done.set()
        telling.join()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "98.0 % of 5000" in lines[1]


def test_a_broker_that_is_away_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--mqtt", "mqtt://127.0.0.1:9"]) == 69
    assert "cannot be reached" in capsys.readouterr().err


def test_a_station_that_was_never_heard_is_silent_since_it_is_listened_to() -> None:
    retained = Retained(since_s=100.0)
    assert retained.silent_s("plant/line/cell/top", 130.0) == 30.0
    retained.heard_s["plant/line/cell/top"] = 125.0
    assert retained.silent_s("plant/line/cell/top", 130.0) == 5.0
