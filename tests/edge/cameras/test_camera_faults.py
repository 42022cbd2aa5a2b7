"""Whatever a camera does, in whatever order: only a new, whole image of a good part is OK.

The whole path of an image is real: supervisor, freshness, pairing, station and the small bundle.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge.bundle.loading import load_bundle
from edge.cameras.supervised.camera import SupervisedCamera
from edge.cameras.supervised.state_machine import AWAY, CameraStatus
from edge.contract.verdict import Verdict
from edge.inspection.decision import Result
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.inspector import Inspector
from edge.settings.camera import SupervisionSettings
from edge.station.handshake.coordinator import HandshakeCoordinator
from edge.station.handshake.part import Input, Pairing, Rules, TriggerRequest, TriggerSource
from edge.station.handshake.state_machine import HandshakeMachine
from edge.station.pipeline.mailbox import EveryMailbox
from edge.station.pipeline.pipeline import Station
from edge.station.pipeline.sinks import Sink
from edge.station.pipeline.work import InspectionSetup, NewestFrame, StationRules
from edge.station.threads import Failures
from tests.soak import times
from tests.support.faulty_camera import Fault, FaultyCamera

GENEROUS_S = 60.0
# A machine that stands still loses no camera, whose next image would count as the first, and
# ages no image as much as LONG_AGO_NS does.
SUPERVISION = SupervisionSettings(
    first_delay_s=0.01, longest_delay_s=0.02, lost_after_s=GENEROUS_S, max_age_ms=3000.0
)
FRAME_TIMEOUT_MS = 150.0

PULLED = frozenset({Fault.PULLED, Fault.PULLED_AND_FROZEN, Fault.PULLED_AND_REFUSING})

Mode = Literal["software", "hardware"]


@pytest.fixture(scope="module")
def inspector(bundle: Path) -> Inspector:
    loaded = load_bundle(bundle)
    return Inspector(Detector(CompiledModel(loaded)), loaded.manifest)


class RunningLine:
    """A station on a faulty camera; ``verdicts`` grows while it runs."""

    def __init__(self, inspector: Inspector, mode: Mode | None = None) -> None:
        self.device = FaultyCamera()
        self.verdicts: list[Verdict] = []
        self._working = False
        self._recoveries = 0
        self.camera = SupervisedCamera(
            open_camera=self.device.open,
            settings=SUPERVISION,
            triggered=mode is not None,
            on_change=self._changed,
            identity="faulty",
        )
        self.triggering = None
        if mode is not None:
            pairing = Pairing.SOFTWARE if mode == "software" else Pairing.ANNOUNCED
            rules = Rules(pairing=pairing, frame_timeout_ms=FRAME_TIMEOUT_MS)
            self.triggering = HandshakeCoordinator(
                handshake=HandshakeMachine(rules),
                ports=[],
                expose=self._expose,
                record_event=lambda _: None,
            )
            self.triggering.set_ready(Input.MODEL, True)
            self.triggering.set_ready(Input.JOURNAL, True)
        failures, self.newest = Failures(), NewestFrame()
        self.station = Station(
            camera=self.camera,
            mailbox=EveryMailbox(64),
            line=InspectionSetup((inspector,)),
            sinks=[
                Sink(
                    name="verdicts",
                    deliver=self._record,
                    bound=1000,
                    wait_for_room=False,
                    failures=failures,
                )
            ],
            failures=failures,
            rules=StationRules(max_age_ms=SUPERVISION.max_age_ms),
            triggering=self.triggering,
            newest=self.newest,
        )
        self.in_front: Callable[[], None] = lambda: None

    def until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + GENEROUS_S
        while not reached():
            last = [(v.inspection.decision, v.frame.detail) for v in self.verdicts[-5:]]
            assert time.monotonic() < deadline, (self.camera.status, last)
            time.sleep(0.001)

    def oks(self) -> list[Verdict]:
        return [v for v in self.verdicts if v.inspection.decision.result is Result.OK]

    def until_ok(self) -> None:
        """Give good images until one is OK: whatever happened, the line goes on by itself."""
        before = self.device.shown

        def ok() -> bool:
            self.device.play(Fault.GOOD)
            time.sleep(0.005)
            seen = [self.device.what(verdict.frame.pixels) for verdict in self.oks()]
            return any(shown is not None and shown.number > before for shown in seen)

        self.until(ok)

    @property
    def ready(self) -> bool:
        return self.triggering is not None and self.triggering.ready

    def stray(self) -> None:
        """Expose what nobody announced; the station may meet the image after the next trigger."""
        self.device.play(Fault.GOOD)

    def until_met(self) -> None:
        """Wait until the station has the image that was shown last."""
        number = self.device.shown

        def met() -> bool:
            newest = self.newest.frame
            shown = self.device.what(newest.pixels) if newest is not None else None
            return shown is not None and shown.number == number

        self.until(met)

    def pull(self) -> None:
        """Pull the camera and plug it in again; returns when the station knows of both."""
        before = self._recoveries
        self.device.pull()
        self.until(lambda: self._recoveries > before and self.ready)

    def _expose(self) -> None:
        self.camera.trigger()
        self.in_front()

    def _record(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)
        if self.triggering is not None:
            self.triggering.on_committed(verdict.id, len(self.verdicts))

    def _changed(self, status: CameraStatus) -> None:
        if status.state in AWAY and self._working:
            self.station.camera_lost(status.detail)
        elif status.working and not self._working:
            self.station.camera_back()
        self._working = status.working
        self._recoveries = status.recoveries


@contextmanager
def running(inspector: Inspector, mode: Mode | None = None) -> Iterator[RunningLine]:
    line = RunningLine(inspector, mode)
    if mode is None:
        line.device.play(Fault.GOOD)  # what a camera gives first is new
    line.camera.start()
    thread = threading.Thread(target=line.station.run)
    thread.start()
    try:
        yield line
    finally:
        line.station.stop()
        thread.join(GENEROUS_S)
    assert not thread.is_alive()


def has_opened_again(device: FaultyCamera, before: int) -> bool:
    return device.openings > before


@settings(max_examples=times(40, 1000), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedule=st.lists(st.sampled_from(Fault), max_size=25))
@example(schedule=[Fault.GOOD, *Fault, Fault.GOOD, *reversed(Fault)])
def test_no_stale_frozen_or_incomplete_image_is_ever_ok(
    inspector: Inspector, schedule: list[Fault]
) -> None:
    with running(inspector) as line:
        for number, fault in enumerate(schedule):
            openings = line.device.openings
            line.device.play(fault)
            if fault in PULLED:  # what it gave before reaches the station first
                line.until(partial(has_opened_again, line.device, openings))
            if number % 6 == 5:
                time.sleep(0.02)  # a camera gives its images one by one
        line.until_ok()

    seen = [line.device.what(verdict.frame.pixels) for verdict in line.oks()]
    assert all(shown is not None and shown.good for shown in seen)
    assert len({id(shown) for shown in seen}) == len(seen)  # none is the verdict of two parts


class Fate(Enum):
    """What becomes of a part that was announced; only of GOOD the result may be OK."""

    GOOD = auto()
    DEFECTIVE = auto()
    INCOMPLETE = auto()
    TWICE = auto()  # the driver gives its image again
    MISSED = auto()  # exposed and counted, and the image is lost
    LATE = auto()  # its image comes with that of the next part, or when its time is over


class Between(Enum):
    """What happens while no part is there."""

    STRAY = auto()  # an exposure that nobody announced
    COUNTED = auto()  # the camera counts one that it does not give
    PULLED = auto()


Happening = Between | tuple[Fate, ...]

BURSTS = st.lists(st.sampled_from(Fate), min_size=1, max_size=4).map(tuple)
HAPPENINGS = st.lists(st.one_of(BURSTS, st.sampled_from(Between)), max_size=8)


def exposed(device: FaultyCamera, part: str, fate: Fate) -> None:
    """Let the camera expose a part."""
    match fate:
        case Fate.GOOD | Fate.TWICE:
            device.play(Fault.GOOD, part)
            if fate is Fate.TWICE:
                device.play(Fault.REPEATED, part)
        case Fate.DEFECTIVE:
            device.play(Fault.DEFECTIVE, part)
        case Fate.INCOMPLETE:
            device.play(Fault.INCOMPLETE, part)
        case Fate.MISSED:
            device.count_one()
        case Fate.LATE:
            device.play(Fault.GOOD, part, held=True)


def announce(line: RunningLine, part: str, source: TriggerSource) -> None:
    request = TriggerRequest(
        trigger_id=part,
        part_id=part,
        recipe=None,
        deadline_ms=None,
        received_ns=time.monotonic_ns(),
        received_utc_ns=time.time_ns(),
        source=source,
    )
    line.station.trigger(request)


def burst(line: RunningLine, mode: Mode, names: list[str], fates: tuple[Fate, ...]) -> None:
    """Announce and expose parts, and wait until each has its verdict."""
    parts = list(zip(names, fates, strict=True))
    if mode == "software":
        for name, fate in parts:
            line.in_front = partial(exposed, line.device, name, fate)
            announce(line, name, TriggerSource.SOFTWARE)
    else:
        for name in names:
            announce(line, name, TriggerSource.HARDWARE)
        for name, fate in parts:
            exposed(line.device, name, fate)
    line.until(lambda: set(names) <= {v.part.part_id for v in line.verdicts if v.part})
    if line.device.release():
        line.until_met()


@pytest.mark.parametrize("mode", ["software", "hardware"])
@settings(max_examples=times(10, 400), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(happenings=HAPPENINGS)
@example(happenings=[(Fate.MISSED, Fate.GOOD), (Fate.LATE, Fate.GOOD), Between.STRAY, (Fate.GOOD,)])
@example(happenings=[(Fate.LATE,), (Fate.GOOD,), Between.COUNTED, (Fate.GOOD,), Between.PULLED])
def test_no_part_is_ever_ok_by_another_parts_image(
    inspector: Inspector, mode: Mode, happenings: list[Happening]
) -> None:
    announced: list[str] = []

    def announced_and_exposed(fates: tuple[Fate, ...]) -> Result:
        line.until(lambda: line.ready)
        names = [f"part-{len(announced) + n}" for n in range(len(fates))]
        announced.extend(names)
        burst(line, mode, names, fates)
        return line.verdicts[-1].inspection.decision.result

    with running(inspector, mode) as line:
        line.until(lambda: line.ready)
        for happening in happenings:
            match happening:
                case Between.STRAY:
                    line.stray()
                case Between.COUNTED:
                    line.device.count_one()
                case Between.PULLED:
                    line.pull()
                case fates:
                    announced_and_exposed(fates)
        announced_and_exposed((Fate.GOOD,))
        # A machine that stands still for longer than the frame timeout spoils good parts, too.
        last_results = (announced_and_exposed((Fate.GOOD,)) for _ in range(3))
        goes_on = Result.OK in last_results

    reported = [verdict.part.part_id or "" for verdict in line.verdicts if verdict.part]
    assert sorted(reported) == sorted(announced)  # each part has one verdict
    for verdict in line.oks():
        shown = line.device.what(verdict.frame.pixels)
        assert shown is not None and shown.good
        assert verdict.part is not None and shown.part == verdict.part.part_id
    assert goes_on  # whatever happened, the line goes on by itself
