"""What the host holds a virtual machine to: a station that breaks its word is found out."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.powercut.reports import StationReport
from tests.soak import times
from tests.support.broker import GENEROUS_S, Broker

FIRST_BOOT = (
    "journal u",
    "checked",
    "accepted b1-1",
    "valid b1-1 1 NOK",
    "committed verdict 1 aa b1-1 NOK",
    "received verdict 1 aa",
    "accepted b1-2",
    "valid b1-2 2 OK",
    "accepted b1-3",
)
# The second verdict was on record, and the power went before its line was out.
SECOND_BOOT = ("journal u", "committed verdict 2 bb b1-2 OK", "checked", "received verdict 2 bb")


def faults(second: tuple[str, ...], first: tuple[str, ...] = FIRST_BOOT) -> list[str]:
    report, found = StationReport(), []
    for boot, lines in enumerate((first, second), 1):
        report.begin(boot)
        found += [fault for line in lines if (fault := report.accept(line.split()))]
    return found + report.check()


def test_a_station_that_keeps_its_word_passes() -> None:
    assert faults(SECOND_BOOT) == []


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (("journal v",), "journal u is now v"),
        (("checked",), "b1-2 was shown as 2 OK"),
        (("committed verdict 2 bb b1-2 NOK",), "b1-2 was shown as 2 OK"),
        (("committed verdict 2 bb b1-3 OK",), "b1-2 was shown as 2 OK"),
        ((*SECOND_BOOT, "received verdict 2 cc"), "two contents"),
        ((*SECOND_BOOT, "received verdict 3 cc"), "3 was received and is not on record"),
        (("received verdict 1 bb",), "verdict 1 was received with two contents"),
        ((*SECOND_BOOT, "committed verdict 2 cc b2-1 OK"), "verdict 2 came as number 3"),
        ((*SECOND_BOOT, "committed verdict 3 cc b1-2 OK"), "b1-2 has the verdicts 2 and 3"),
        ((*SECOND_BOOT, "committed verdict 3 cc b1-3 OK"), "b1-3 has its verdict 3 only from"),
        ((*SECOND_BOOT, "valid b1-2 2 OK"), "b1-2 is shown twice"),
        ((*SECOND_BOOT, "accepted b1-3"), "b1-3 is accepted twice"),
        (
            (*SECOND_BOOT, "received event 2 ee", "received event 1 ff"),
            "event 1 came only after 2",
        ),
        (
            (*SECOND_BOOT, *(f"accepted b2-{number}" for number in range(1, 10))),
            "boot 2 left 9 accepted parts without a verdict",
        ),
    ],
)
def test_a_station_that_breaks_its_word_is_found_out(lines: tuple[str, ...], fault: str) -> None:
    assert any(fault in found for found in faults(lines))


def test_what_the_broker_did_not_have_is_waited_for() -> None:
    report = StationReport()
    report.begin(2)
    for line in ("waiting verdict 1", "waiting verdict 2", "received verdict 1 aa"):
        assert report.accept(line.split()) is None
    assert report.undelivered == "verdict 2"


def test_a_record_that_was_named_and_is_gone_is_missed() -> None:
    report = StationReport()
    for line in FIRST_BOOT:
        report.accept(line.split())
    assert f"have verdict 1 {hashlib.sha256(b'aa').hexdigest()}" in report.expected()


RUNS = """
import sys
from pathlib import Path
from tests.powercut.guest import BootOptions
from tests.powercut.station_guest import run_station
run_station(Path(sys.argv[1]), BootOptions.parse(sys.argv[2]), int(sys.argv[3]))
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    (tmp_path / "broker").mkdir()
    one = Broker(tmp_path / "broker")
    one.start()
    yield one
    one.close()


def test_the_station_of_the_machine_keeps_its_word_when_its_process_is_killed(
    tmp_path: Path, broker: Broker
) -> None:
    report, parts = StationReport(), times(20, 300)
    for boot in (1, 2, 3):
        expected, missing = report.expected(), report.count + parts
        report.begin(boot)
        options = f"boot={boot} named={report.counts()} synchronous=full"
        process = subprocess.Popen(
            [sys.executable, "-c", RUNS, str(tmp_path / "journal"), options, str(broker.port)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            assert not line.startswith("fault")
            assert report.accept(line.split()) is None
            expected.discard(line.strip())
            if report.count >= missing:
                break
        process.kill()
        process.communicate(timeout=GENEROUS_S)
        assert not expected and report.check() == []
    assert report.shown and report.received and len(report.accepted) >= parts
