"""What a broker has retained of many stations, without the stations."""

import json
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge.contract.announcements import Meta, Metrics, meta_payloads, metrics_payloads
from edge.contract.fleet import FleetReport, InForce, ReleasePhase, payload
from edge.contract.state import (
    Condition,
    JournalReport,
    State,
    StationReport,
    state_payloads,
    will_payload,
)
from edge.contract.topics import StationTopic

SESSION = "0d0a5d0e-3c5c-4a7e-9c34-51c1f1b0a001"
SINCE = "2026-01-01T00:00:00.000000Z"


def journal_id(number: int) -> str:
    return f"7b1e8b0c-9f5e-4f1a-8a52-{number:012x}"


def station_topic(number: int) -> StationTopic:
    return StationTopic("plant-1", f"line-{number // 20 + 1}", f"cell-{number % 20 + 1:02}", "top")


def retained(count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield topic and content of stations: every 10th degraded, every 25th away or refusing."""
    for number in range(count):
        topic, condition, alarms = station_topic(number), Condition.ONLINE, tuple[str, ...]()
        if number % 10 == 3:
            condition, alarms = Condition.DEGRADED, ("camera_lost",)
        state = State(condition=condition, since_utc=SINCE, reasons=alarms)
        journal = JournalReport(
            journal=journal_id(number),
            last_seq=5000,
            backlog=number % 7,
            oldest_age_s=None,
            bytes=10**6,
        )
        report = StationReport(journal=journal)
        away = number % 25 == 7
        content = will_payload(SESSION) if away else state_payloads(state, SESSION, report)[0]
        yield topic.state, content
        yield topic.meta, meta_payloads(Meta(journal=journal_id(number)), topic, SESSION)[0]
        metrics = Metrics({"parts_ok": 4900 - number, "parts_nok": 100 + number})
        yield topic.metrics, metrics_payloads(metrics, SESSION, 1_767_225_600 * 10**9)[0]
        refused = number % 25 == 11
        yield (
            topic.fleet_report,
            payload(
                FleetReport(
                    journal=journal_id(number),
                    phase=ReleasePhase.REFUSED if refused else ReleasePhase.IN_FORCE,
                    reason="foreign" if refused else None,
                    in_force=InForce(name=f"bottle-{number % 4}", version=3, release=8),
                )
            ),
        )


def publish_states(port: int, count: int) -> paho.Client:
    """Have the broker keep the states of so many stations; metrics are sent, not kept."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="test-states")
    client.max_queued_messages_set(0)
    client.connect("127.0.0.1", port)
    client.loop_start()
    sent = [
        client.publish(topic, json.dumps(content), 1, retain=not topic.endswith("/metrics"))
        for topic, content in retained(count)
    ]
    for one in sent:
        one.wait_for_publish(60)
    return client
