"""Names of stations and their topics."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from edge.contract.topics import StationTopic
from edge.errors import ConfigurationError
from edge.mqtt.reconnect import station_subscriptions
from edge.settings.station import Settings

segments = st.from_regex(r"[a-z0-9_-]{1,32}", fullmatch=True)


@given(segments, segments, segments, segments)
def test_a_station_is_found_again_in_each_of_its_topics(
    site: str, line: str, station: str, camera: str
) -> None:
    topic = StationTopic(site, line, station, camera)

    assert StationTopic.of_topic(topic.verdict) == topic
    assert StationTopic.of_topic(topic.state) == topic
    assert StationTopic.parse(topic.name) == topic


def test_topics_and_client_id_follow_the_contract() -> None:
    topic = StationTopic.parse("plant-1/line-2/cap/top")

    assert topic.verdict == "vi/v1/plant-1/line-2/cap/top/verdict"
    assert topic.state == "vi/v1/plant-1/line-2/cap/top/state"
    assert topic.event == "vi/v1/plant-1/line-2/cap/top/event"
    assert topic.response("reload") == "vi/v1/plant-1/line-2/cap/top/cmd/reload/res"
    assert topic.client_id == "vi.plant-1.line-2.cap.top"


def test_no_two_stations_share_a_client_id() -> None:
    names = ["a", "b", "a-b", "-", "a-", "vi", "_"]
    stations = [StationTopic(*segments) for segments in product(names, repeat=4)]

    assert len({one.client_id for one in stations}) == len(stations)
    assert StationTopic.parse("a/b/c/d").client_id == "vi-a-b-c-d"  # as it always was


def make_settings(station: str) -> Settings:
    return Settings.model_validate(
        {
            "camera": {"uri": "0"},
            "model": {"path": "a.xml"},
            "mqtt": {"url": "mqtt://broker", "station": station},
        }
    )


def test_a_station_listens_to_its_own_topics_and_not_to_what_it_says() -> None:
    topic = StationTopic.parse("plant-1/line-2/cap/top")

    listened = station_subscriptions(topic)
    heard = (topic.trigger, topic.ack, topic.command("reload"))
    printed = (topic.verdict, topic.state, topic.event, topic.meta, topic.last, topic.metrics)

    def listens(where: str) -> bool:
        return any(topic_matches_sub(pattern, where) for pattern in listened.patterns)

    assert all(listens(where) for where in heard)
    assert not any(
        listens(where) for where in (*printed, topic.handshake, topic.response("reload"))
    )
    assert not listens(StationTopic.parse("plant-1/line-2/cap/side").trigger)
    assert all(listens(where) for where in listened.named)
    assert set(heard) <= set(listened.named)


@pytest.mark.parametrize(
    "name",
    ["", "a/b/c", "a/b/c/d/e", "a/b/c/", "A/b/c/d", "a/+/c/d", "a/#/c/d", "a/b/c/d\n", "x" * 33],
)
def test_a_name_that_would_break_topics_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        StationTopic.parse(name)
