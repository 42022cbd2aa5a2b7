"""What systemd is told: the exact datagrams, on sockets of both kinds, and silence without one."""

import logging
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.station.monitoring.systemd import ServiceManager
from tests.support.journaling import wait_until
from tests.support.service_manager import NotifySocket


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NotifySocket]:
    address = tmp_path / "notify" if request.param == "path" else f"@edge-test-{uuid.uuid4()}"
    with NotifySocket(address) as one:
        yield one


@pytest.fixture
def manager(listener: NotifySocket) -> ServiceManager:
    return ServiceManager(listener.environment(watchdog_s=15.0), clock_ns=lambda: 42_000_999)


def test_each_message_is_one_datagram_in_the_words_of_the_protocol(
    manager: ServiceManager, listener: NotifySocket
) -> None:
    manager.status("compiling bottle")
    manager.extend_timeout(20.0)
    manager.ready("inspecting")
    manager.alive()
    manager.reloading("reading settings")
    manager.ready()
    manager.stopping("on SIGTERM")
    assert listener.waiting() == [
        "STATUS=compiling bottle",
        "EXTEND_TIMEOUT_USEC=20000000",
        "READY=1\nSTATUS=inspecting",
        "WATCHDOG=1",
        "RELOADING=1\nMONOTONIC_USEC=42000\nSTATUS=reading settings",
        "READY=1",
        "STOPPING=1\nSTATUS=on SIGTERM",
    ]


def test_a_line_break_in_a_status_begins_no_other_field(
    manager: ServiceManager, listener: NotifySocket
) -> None:
    manager.status("camera lost\nREADY=1")
    assert listener.waiting() == ["STATUS=camera lost READY=1"]


def test_the_start_is_extended_as_long_as_the_block_runs_and_no_longer(
    manager: ServiceManager, listener: NotifySocket
) -> None:
    with manager.more_time(max_s=60.0, every_s=0.01, by_s=20.0):
        for _ in range(3):
            assert listener.next() == "EXTEND_TIMEOUT_USEC=20000000"
    for thread in threading.enumerate():  # it is not waited for without end when a block ends
        if thread.name == "more time":
            thread.join()
    listener.waiting()
    manager.status("done")
    assert listener.next() == "STATUS=done"


def test_a_start_that_hangs_is_extended_up_to_its_limit_only(
    listener: NotifySocket, caplog: pytest.LogCaptureFixture
) -> None:
    times = iter([0, 0, 1_000_000_000, 2_000_000_000])
    manager = ServiceManager(listener.environment(), clock_ns=lambda: next(times))
    with manager.more_time(max_s=2.0, every_s=0.001):
        listener.next()
        listener.next()
        wait_until(lambda: "not finished after 2 s" in caplog.text, "it is told")
        assert listener.next(0.2) is None


def test_without_a_service_manager_nothing_is_sent_and_nothing_fails() -> None:
    manager = ServiceManager({})
    assert not manager.present
    assert manager.watchdog_interval_s is None
    with manager.more_time(max_s=1.0):
        manager.ready("inspecting")
        manager.alive()


def test_a_manager_that_is_gone_is_logged_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            manager.alive()
    assert len(caplog.records) == 1
    assert "cannot be sent WATCHDOG" in caplog.text


def test_an_address_that_is_none_is_logged_and_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ServiceManager({"NOTIFY_SOCKET": "/" + "x" * 300}).ready()
    assert "cannot be sent READY" in caplog.text


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({"WATCHDOG_USEC": "15000000"}, 15.0),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_by_the_process_it_is_meant_for(
    environment: dict[str, str], interval_s: float | None
) -> None:
    assert ServiceManager(environment).watchdog_interval_s == interval_s
