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
STORED = ("journal u", "committed verdict 2 bb b1-2 OK", "checked")


def faults(second: tuple[str, ...], first: tuple[str, ...] = FIRST_BOOT) -> list[str]:
    report, found = StationReport(), []
    for boot, lines in enumerate((first, second), 1):
        report.begin(boot)
        found += [fault for line in lines if (fault := report.accept(line.split()))]
        found += report.faults
    return found


def test_a_station_that_keeps_its_word_passes() -> None:
    # Of its own last result this boot has named no record yet.
    assert faults((*STORED, "received verdict 2 bb", "accepted b2-1", "valid b2-1 3 OK")) == []


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (("journal v",), "journal u is now v"),
        (("checked",), "b1-2 was shown as 2 OK"),
        (("committed verdict 2 bb b1-2 NOK", "checked"), "b1-2 was shown as 2 OK"),
        (("committed verdict 2 bb b1-3 OK", "checked"), "b1-2 was shown as 2 OK"),
        ((*STORED, "committed verdict 2 cc b2-1 OK"), "verdict 2 came as number 3"),
        ((*STORED, "committed verdict 3 cc b1-2 OK"), "b1-2 has the verdicts 2 and 3"),
        ((*STORED, "committed verdict 3 cc b1-3 OK"), "b1-3 has its verdict 3 only from"),
        ((*STORED, "valid b1-2 2 OK"), "b1-2 is shown twice"),
        ((*STORED, "accepted b1-3"), "b1-3 is accepted twice"),
        ((*STORED, "received verdict 1 bb"), "verdict 1 was received with two contents"),
        ((*STORED, "received event 2 ee", "received event 1 ff"), "event 1 came only after 2"),
    ],
)
def test_a_station_that_breaks_its_word_is_found_out(lines: tuple[str, ...], fault: str) -> None:
    assert any(fault in found for found in faults(lines))


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (("received verdict 2 cc",), "verdict 2 was received and is not on record so"),
        (("received verdict 3 cc",), "verdict 3 was received and is not on record so"),
        (
            tuple(f"accepted b1-{number}" for number in range(4, 12)),
            "boot 1 left 9 accepted parts without a verdict",
        ),
    ],
)
def test_what_a_boot_does_not_bear_out_is_found(more: tuple[str, ...], fault: str) -> None:
    assert faults(STORED, (*FIRST_BOOT, *more)) == [fault]


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
        assert not expected and report.faults == []
    assert report.shown and report.received and len(report.accepted) >= parts
