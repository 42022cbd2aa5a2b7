"""The station: every part gets exactly one verdict, and nothing hangs."""

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.loading import load_bundle
from edge.cameras.interface import EndOfFrames
from edge.contract.verdict import Recipe, Verdict
from edge.errors import CameraLost
from edge.imaging.frame import Frame, FrameStatus
from edge.inspection.decision import Reason, Result
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.inspector import Inspection, Inspector
from edge.settings.code import CodeSettings
from edge.station.handshake.coordinator import HandshakeCoordinator
from edge.station.handshake.part import Input, Pairing, Rules
from edge.station.handshake.state_machine import HandshakeMachine
from edge.station.monitoring.heartbeat import Heartbeats
from edge.station.pipeline import pipeline
from edge.station.pipeline.code_reading import CodeReader
from edge.station.pipeline.mailbox import EveryMailbox, LatestMailbox, Mailbox
from edge.station.pipeline.pipeline import Station
from edge.station.pipeline.sinks import Sink
from edge.station.pipeline.work import Beats, InspectionSetup, QueuedFrame, StationRules
from edge.station.threads import Failures
from tests.edge.station.test_codes import with_code
from tests.support.small_bundle import defective_image, good_image

GENEROUS_S = 60.0
Step = Frame | Exception | Callable[[], None]


class ScriptedCamera:
    """A camera that plays a list: frames, an exception, or something to wait for."""

    identity = "scripted"
    simulated = True

    def __init__(self, steps: Iterable[Step], can_wait: bool = True) -> None:
        self.can_wait = can_wait
        self.closed = False
        self._steps: Iterator[Step] = iter(steps)

    def read(self, timeout_s: float) -> Frame | None:
        step = next(self._steps, EndOfFrames())
        if isinstance(step, Exception):
            raise step
        if isinstance(step, Frame):
            return step
        step()
        return None

    def close(self) -> None:
        self.closed = True


class Collected:
    """A sink's consumer that keeps verdicts; ``gate`` holds it back."""

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()

    def __call__(self, verdict: Verdict) -> None:
        self.reached.set()
        assert self.gate.wait(GENEROUS_S)
        self.verdicts.append(verdict)

    @property
    def numbers(self) -> list[int]:
        return [verdict.frame.number for verdict in self.verdicts]

    @property
    def decisions(self) -> list[tuple[Result, Reason]]:
        return [(v.inspection.decision.result, v.inspection.decision.reason) for v in self.verdicts]


class GatedInspector(Inspector):
    """The real inspector, which waits before its first part until the test lets it go on."""

    gate: threading.Event
    entered: threading.Event

    def inspect(self, frame: Frame) -> Inspection:
        self.entered.set()
        assert self.gate.wait(GENEROUS_S)
        return super().inspect(frame)


class BrokenInspector(Inspector):
    """An inspector with a defect."""

    def inspect(self, frame: Frame) -> Inspection:
        raise ZeroDivisionError("a defect")


class TogetherInspector(Inspector):
    """The real inspector; its first part waits until all inspectors have one.

    Attributes:
        meeting: where the inspectors wait for each other.
        broken: this one has a defect.
        met: it was at the meeting.
    """

    meeting: threading.Barrier
    broken = False
    met = False

    def inspect(self, frame: Frame) -> Inspection:
        if not self.met:
            self.met = True
            self.meeting.wait(GENEROUS_S)
        if self.broken:
            raise ZeroDivisionError("a defect")
        return super().inspect(frame)


@pytest.fixture(scope="module")
def inspector(bundle: Path) -> Inspector:
    loaded = load_bundle(bundle)
    return Inspector(Detector(CompiledModel(loaded)), loaded.manifest)


@pytest.fixture
def gated(bundle: Path) -> GatedInspector:
    loaded = load_bundle(bundle)
    inspector = GatedInspector(Detector(CompiledModel(loaded)), loaded.manifest)
    inspector.gate, inspector.entered = threading.Event(), threading.Event()
    return inspector


@pytest.fixture
def three(bundle: Path) -> list[TogetherInspector]:
    """Three inspectors of one network."""
    loaded = load_bundle(bundle)
    network = CompiledModel(loaded, plan=RunPlan(streams=3))
    inspectors = [TogetherInspector(Detector(network), loaded.manifest) for _ in range(3)]
    for inspector, barrier in zip(inspectors, [threading.Barrier(3)] * 3, strict=True):
        inspector.meeting = barrier
    return inspectors


def frames(count: int, image: Callable[[int], np.ndarray] = good_image) -> list[Frame]:
    return [
        Frame(pixels=image(n), number=n, captured_ns=0, captured_utc_ns=0)
        for n in range(1, count + 1)
    ]


def waiting_for(event: threading.Event, timeout_s: float = GENEROUS_S) -> Callable[[], None]:
    def wait() -> None:
        event.wait(timeout_s)

    return wait


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GENEROUS_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def station(
    camera: ScriptedCamera,
    inspectors: Inspector | Sequence[Inspector],
    *consumers: Callable[[Verdict], None],
    mailbox: Mailbox[QueuedFrame] | None = None,
    bound: int = 100,
    rules: StationRules = StationRules(),
    triggering: HandshakeCoordinator | None = None,
    beats: Beats | None = None,
    recipe: Recipe | None = None,
    on_ending: Callable[[], None] = lambda: None,
    codes: CodeReader | None = None,
) -> Station:
    failures = Failures()
    sinks = [
        Sink(
            name=f"sink {i}",
            deliver=consumer,
            bound=bound,
            wait_for_room=camera.can_wait,
            failures=failures,
            keeps_all=beats is not None,
        )
        for i, consumer in enumerate(consumers)
    ]
    if mailbox is None:
        mailbox = EveryMailbox(4, None if camera.can_wait else 0.0)
    if isinstance(inspectors, Inspector):
        inspectors = [inspectors]
    return Station(
        camera=camera,
        mailbox=mailbox,
        line=InspectionSetup(tuple(inspectors), recipe=recipe),
        sinks=sinks,
        failures=failures,
        rules=rules,
        triggering=triggering,
        beats=beats,
        on_ending=on_ending,
        codes=codes,
    )


def every_image_a_part(
    recipe: Recipe | None = None, deadline_ms: float | None = None
) -> HandshakeCoordinator:
    """The hand-shake of a hardware line without announcements."""
    handshake = HandshakeMachine(
        Rules(pairing=Pairing.EVERY_FRAME, recipe=recipe, deadline_ms=deadline_ms)
    )
    return HandshakeCoordinator(
        handshake=handshake, ports=[], expose=lambda: None, record_event=lambda _: None
    )


def test_every_image_gets_one_verdict_in_order(inspector: Inspector) -> None:
    seen = Collected()
    camera = ScriptedCamera([*frames(20), *frames(1, defective_image)])

    summary = station(camera, inspector, seen).run()

    assert seen.numbers == [*range(1, 21), 1]
    assert summary.results == {Result.OK: 20, Result.NOK: 1}
    assert len({verdict.id for verdict in seen.verdicts}) == 21
    assert camera.closed


def test_a_part_that_had_an_image_has_its_error_under_the_number_and_time_of_that_image(
    inspector: Inspector,
) -> None:
    """Whoever was told of the image, as outputs are, knows the verdict again."""
    seen, images = Collected(), frames(2)
    triggering = every_image_a_part(deadline_ms=1.0)  # long over: the images came at time 0
    station(ScriptedCamera(images), inspector, seen, triggering=triggering).run()

    assert seen.decisions == [(Result.ERROR, Reason.TIMEOUT)] * 2
    stamps = [(one.frame.number, one.frame.captured_ns) for one in seen.verdicts]
    assert stamps == [(one.number, one.captured_ns) for one in images]


def test_the_end_is_announced_once_before_the_camera_is_closed(inspector: Inspector) -> None:
    camera, closed = ScriptedCamera(frames(2)), list[bool]()
    station(camera, inspector, Collected(), on_ending=lambda: closed.append(camera.closed)).run()
    assert closed == [False]


def test_bad_frames_are_errors_and_never_ok(inspector: Inspector) -> None:
    seen = Collected()
    bad = [
        Frame(
            pixels=np.empty((0, 0), np.uint8),
            number=1,
            captured_ns=0,
            captured_utc_ns=0,
            status=FrameStatus.INCOMPLETE,
            detail="cut",
        ),
        Frame(pixels=good_image()[:, :, 0], number=2, captured_ns=0, captured_utc_ns=0),
        Frame(pixels=good_image().astype(np.uint16), number=3, captured_ns=0, captured_utc_ns=0),
        Frame(pixels=good_image()[:1, :1], number=4, captured_ns=0, captured_utc_ns=0),
        Frame(pixels=good_image() * 0, number=5, captured_ns=0, captured_utc_ns=0),
        Frame(
            pixels=good_image(),
            number=6,
            captured_ns=0,
            captured_utc_ns=0,
            status=FrameStatus.FROZEN,
        ),
        Frame(
            pixels=good_image(),
            number=7,
            captured_ns=0,
            captured_utc_ns=0,
            status=FrameStatus.STALE,
        ),
    ]

    summary = station(ScriptedCamera(bad), inspector, seen).run()

    assert summary.results == {Result.ERROR: 7}
    assert all(verdict.inspection.detail for verdict in seen.verdicts[:5])


def test_an_overrun_of_a_live_camera_is_an_error_verdict_for_each_part(
    gated: GatedInspector,
) -> None:
    seen = Collected()
    first, *others = frames(10)
    steps: list[Step] = [first, waiting_for(gated.entered), *others, gated.gate.set]
    camera = ScriptedCamera(steps, can_wait=False)

    summary = station(camera, gated, seen, mailbox=EveryMailbox(4)).run()

    assert sorted(seen.numbers) == list(range(1, 11))
    assert summary.results == {Result.OK: 5, Result.ERROR: 5}
    assert seen.decisions.count((Result.ERROR, Reason.OVERRUN)) == 5


def test_free_run_inspects_the_newest_and_counts_skipped_frames(gated: GatedInspector) -> None:
    seen = Collected()
    first, *others = frames(10)
    steps: list[Step] = [first, waiting_for(gated.entered), *others, gated.gate.set]
    camera = ScriptedCamera(steps, can_wait=False)

    summary = station(camera, gated, seen, mailbox=LatestMailbox()).run()

    assert seen.numbers == [1, 10]
    assert summary.skipped == 8


def test_a_lost_camera_is_one_error_verdict_and_an_error(inspector: Inspector) -> None:
    seen = Collected()
    degraded: list[str] = []
    camera = ScriptedCamera([*frames(3), CameraLost("scripted: unplugged")], can_wait=False)

    with pytest.raises(CameraLost, match="unplugged"):
        station(camera, inspector, seen).run(on_degraded=degraded.append)

    assert seen.decisions[-1] == (Result.ERROR, Reason.CAMERA_LOST)
    assert [r for r, _ in seen.decisions] == [Result.OK] * 3 + [Result.ERROR]
    assert degraded == ["camera_lost"]


def test_stopping_finishes_what_is_queued(gated: GatedInspector) -> None:
    seen = Collected()
    nothing = itertools.repeat(waiting_for(threading.Event(), 0.01))
    camera = ScriptedCamera(itertools.chain(frames(3), [gated.gate.set], nothing))
    one = station(camera, gated, seen)
    runner = threading.Thread(target=one.run)
    runner.start()
    assert seen.reached.wait(GENEROUS_S)
    one.stop()
    runner.join(GENEROUS_S)

    assert not runner.is_alive()
    assert seen.numbers == [1, 2, 3]


def test_a_part_exposed_while_the_station_stops_has_its_verdict(inspector: Inspector) -> None:
    seen = Collected()
    mailbox: EveryMailbox[QueuedFrame] = EveryMailbox(4)

    class StoppedMeanwhile(ScriptedCamera):
        def read(self, timeout_s: float) -> Frame | None:
            mailbox.close()
            return super().read(timeout_s)

    camera = StoppedMeanwhile(frames(1), can_wait=False)

    station(camera, inspector, seen, mailbox=mailbox, triggering=every_image_a_part()).run()

    assert seen.decisions == [(Result.ERROR, Reason.INTERNAL)]


def test_a_journal_that_stands_still_is_not_blamed_on_the_camera(inspector: Inspector) -> None:
    seen = Collected()
    seen.gate.clear()
    heartbeats = Heartbeats()
    unreadable = [replace(one, status=FrameStatus.INCOMPLETE) for one in frames(4)]
    run = station(
        *(ScriptedCamera(unreadable, can_wait=False), inspector, seen),
        bound=1,
        triggering=every_image_a_part(),
        beats=Beats.of(heartbeats, 1, capture_s=0.2, inspect_s=GENEROUS_S),
    )
    running = threading.Thread(target=run.run)
    running.start()
    assert seen.reached.wait(GENEROUS_S)
    # The first is with the journal, the second in its queue; the camera's thread has the third.
    wait_until(lambda: run.summary().parts == 3)

    time.sleep(0.5)
    silent = heartbeats.stale(time.monotonic_ns())

    seen.gate.set()
    running.join(GENEROUS_S)
    assert silent == []
    assert seen.decisions == [(Result.ERROR, Reason.FRAME_INCOMPLETE)] * 4


def test_no_part_is_inspected_for_another_recipe_than_its_own(
    inspector: Inspector, gated: GatedInspector
) -> None:
    seen = Collected()
    bottle, can = Recipe("bottle", 1), Recipe("can", 1)
    first, second, third = frames(3)
    exchanged = threading.Event()
    steps: list[Step] = [first, second, waiting_for(exchanged), third]
    triggering = every_image_a_part(bottle)
    run = station(ScriptedCamera(steps), gated, seen, triggering=triggering, recipe=bottle)
    running = threading.Thread(target=run.run)
    running.start()
    assert gated.entered.wait(GENEROUS_S)
    wait_until(lambda: triggering.counts().get("Exposed") == 2)

    run.exchange(InspectionSetup((inspector,), recipe=can))
    exchanged.set()
    gated.gate.set()
    running.join(GENEROUS_S)

    results = [result for result, _ in seen.decisions]
    assert results == [Result.OK, Result.ERROR, Result.OK]
    assert "announced for recipe bottle version 1" in seen.verdicts[1].inspection.detail
    reported = [verdict.part.recipe for verdict in seen.verdicts if verdict.part]
    assert reported == [bottle, bottle, can]


def test_most_parts_ends_the_run(inspector: Inspector) -> None:
    seen = Collected()

    station(ScriptedCamera(frames(50)), inspector, seen, rules=StationRules(max_parts=2)).run()

    assert seen.numbers == [1, 2]


def test_a_full_sink_drops_for_itself_alone(inspector: Inspector) -> None:
    stuck, quick = Collected(), Collected()
    stuck.gate.clear()

    def after_all_others(verdict: Verdict) -> None:
        quick(verdict)
        if verdict.frame.number == 20:
            stuck.gate.set()

    failures = Failures()
    sinks = [
        Sink(name="stuck", deliver=stuck, bound=2, wait_for_room=False, failures=failures),
        Sink(
            name="quick",
            deliver=after_all_others,
            bound=100,
            wait_for_room=False,
            failures=failures,
        ),
    ]
    camera = ScriptedCamera(frames(20), can_wait=False)
    summary = Station(
        camera=camera,
        mailbox=EveryMailbox(100),
        line=InspectionSetup((inspector,)),
        sinks=sinks,
        failures=failures,
    ).run()

    assert quick.numbers == list(range(1, 21))
    assert summary.dropped["stuck"] == 20 - len(stuck.verdicts)
    assert summary.dropped["stuck"] >= 17


def test_large_frames_are_bounded_by_bytes_where_they_wait(inspector: Inspector) -> None:
    stuck, quick = Collected(), Collected()
    stuck.gate.clear()

    def after_all_others(verdict: Verdict) -> None:
        quick(verdict)
        if verdict.frame.number == 20:
            stuck.gate.set()

    failures, three_bytes = Failures(), 3 * good_image(0).nbytes
    sinks = [
        Sink(
            name="stuck",
            deliver=stuck,
            bound=16,
            wait_for_room=False,
            failures=failures,
            max_bytes=three_bytes,
        ),
        Sink(
            name="quick",
            deliver=after_all_others,
            bound=100,
            wait_for_room=False,
            failures=failures,
        ),
    ]
    camera = ScriptedCamera(frames(20), can_wait=False)

    summary = Station(
        camera=camera,
        mailbox=EveryMailbox(100),
        line=InspectionSetup((inspector,)),
        sinks=sinks,
        failures=failures,
    ).run()

    # One in work, and two that wait: their anomaly maps count, too.
    assert 1 <= len(stuck.verdicts) <= 3
    assert summary.dropped["stuck"] == 20 - len(stuck.verdicts)


def test_what_a_sink_cannot_finish_while_the_station_stops_is_counted_and_reported(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edge.station.pipeline.dispatcher.SINK_STOP_LIMIT_S", 0.0)
    stuck = Collected()
    stuck.gate.clear()
    one = station(ScriptedCamera([*frames(5), lambda: one.stop()]), inspector, stuck)

    summary = one.run()
    stuck.gate.set()

    assert summary.dropped["sink 0"] in (4, 5)  # the first may be in work
    assert f"{summary.dropped['sink 0']} verdicts that waited are not written" in caplog.text


def test_the_end_names_every_verdict_that_a_stuck_sink_keeps_all_left_behind(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sinks", "dispatcher"):
        monkeypatch.setattr(f"edge.station.pipeline.{module}.SINK_STOP_LIMIT_S", 0.0)
    stuck, failures = Collected(), Failures()
    stuck.gate.clear()
    left: list[Verdict] = []
    sink = Sink(
        name="record",
        deliver=stuck,
        bound=2,
        wait_for_room=False,
        failures=failures,
        keeps_all=True,
        undelivered=left.append,
    )
    camera = ScriptedCamera([*frames(6), lambda: one.stop()], can_wait=False)
    one = Station(
        camera=camera,
        mailbox=EveryMailbox(100),
        line=InspectionSetup((inspector,)),
        sinks=[sink],
        failures=failures,
    )

    summary = one.run()
    stuck.gate.set()

    assert summary.parts == 6
    assert sink.join(GENEROUS_S)
    named = [verdict.frame.number for verdict in left]
    assert sorted(stuck.numbers + named) == [1, 2, 3, 4, 5, 6]


def test_a_source_that_can_wait_loses_no_verdict_to_a_slow_sink(inspector: Inspector) -> None:
    slow = Collected()

    summary = station(ScriptedCamera(frames(30)), inspector, slow, bound=1).run()

    assert slow.numbers == list(range(1, 31))
    assert summary.dropped == {"sink 0": 0}


def test_a_finished_run_waits_for_a_slow_sink(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.station.pipeline.dispatcher.SINK_STOP_LIMIT_S", 0.0)
    slow = Collected()
    slow.gate.clear()
    one = station(ScriptedCamera(frames(5)), inspector, slow)
    runner = threading.Thread(target=one.run)
    runner.start()
    assert slow.reached.wait(GENEROUS_S)
    slow.gate.set()
    runner.join(GENEROUS_S)

    assert slow.numbers == [1, 2, 3, 4, 5]


def test_a_defect_in_a_sink_ends_the_run(inspector: Inspector) -> None:
    def broken(_verdict: Verdict) -> None:
        raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError):
        station(ScriptedCamera(frames(500)), inspector, broken, bound=1).run()


def test_a_defect_in_the_camera_ends_the_run_with_its_parts_reported(inspector: Inspector) -> None:
    seen = Collected()

    with pytest.raises(ZeroDivisionError):
        station(ScriptedCamera([*frames(2), ZeroDivisionError()]), inspector, seen).run()

    assert seen.numbers == [1, 2]


def test_a_part_that_meets_a_defect_in_the_inspector_gets_its_verdict(bundle: Path) -> None:
    seen = Collected()
    loaded = load_bundle(bundle)
    broken = BrokenInspector(Detector(CompiledModel(loaded)), loaded.manifest)

    with pytest.raises(ZeroDivisionError):
        station(ScriptedCamera(frames(1)), broken, seen).run()

    assert seen.decisions == [(Result.ERROR, Reason.INTERNAL)]


class SlowToClose(ScriptedCamera):
    """A camera that closes once the hand-shake asks for no more triggers, or gives up on that."""

    triggering: HandshakeCoordinator
    asked_for_triggers = True

    def close(self) -> None:
        until_s = time.monotonic() + 10.0
        while self.triggering.ready and time.monotonic() < until_s:
            time.sleep(0.01)
        self.asked_for_triggers = self.triggering.ready


def test_no_trigger_is_asked_for_while_the_camera_closes_behind_a_defect(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "CAPTURE_STOP_LIMIT_S", GENEROUS_S)
    loaded = load_bundle(bundle)
    broken = BrokenInspector(Detector(CompiledModel(loaded)), loaded.manifest)
    camera = SlowToClose(frames(1))
    camera.triggering = every_image_a_part()
    for name in Input:
        camera.triggering.set_ready(name, True)
    assert camera.triggering.ready

    with pytest.raises(ZeroDivisionError):
        station(camera, broken, Collected(), triggering=camera.triggering).run()

    assert not camera.asked_for_triggers


def test_a_part_that_meets_a_defect_while_its_code_is_read_gets_its_verdict(
    inspector: Inspector,
) -> None:
    def broken(_name: str) -> Recipe | None:
        raise ZeroDivisionError("a defect")

    settings = CodeSettings.model_validate({"timeout_ms": 10_000, "recipe": {}})
    codes = CodeReader(settings, 1, offered=broken)
    part = replace(frames(1)[0], pixels=with_code("nut", "qr"))
    seen = Collected()

    with pytest.raises(ZeroDivisionError):
        station(ScriptedCamera([part]), inspector, seen, codes=codes).run()

    assert seen.decisions == [(Result.ERROR, Reason.INTERNAL)]


def test_parts_that_wait_behind_a_defect_get_their_verdicts_too(bundle: Path) -> None:
    """Never silence: no inspector is left for them, and the line must know."""
    seen = Collected()
    loaded = load_bundle(bundle)
    broken = TogetherInspector(Detector(CompiledModel(loaded)), loaded.manifest)
    broken.broken, broken.meeting = True, threading.Barrier(2)
    queued = threading.Event()

    def all_are_queued() -> None:
        queued.set()
        broken.meeting.wait(GENEROUS_S)

    camera = ScriptedCamera([*frames(4), all_are_queued], can_wait=False)

    with pytest.raises(ZeroDivisionError):
        station(camera, broken, seen).run()

    assert queued.is_set()
    assert seen.numbers == [1, 2, 3, 4]
    assert seen.decisions == [(Result.ERROR, Reason.INTERNAL)] * 4
    assert "Inspect it again" in seen.verdicts[-1].inspection.detail


def test_three_inspectors_give_verdicts_in_the_order_of_the_frames(
    three: list[TogetherInspector],
) -> None:
    seen = Collected()
    parts = [
        Frame(
            pixels=(defective_image if n % 5 == 0 else good_image)(n),
            number=n,
            captured_ns=0,
            captured_utc_ns=0,
        )
        for n in range(1, 101)
    ]

    summary = station(ScriptedCamera(parts), three, seen).run()

    assert seen.numbers == list(range(1, 101))
    expected = [Result.NOK if n % 5 == 0 else Result.OK for n in range(1, 101)]
    assert [result for result, _ in seen.decisions] == expected
    assert summary.results == {Result.OK: 80, Result.NOK: 20}
    assert summary.latency["total"].count == 100


@pytest.mark.parametrize("broken", [0, 1, 2], ids=["caller's", "second", "third"])
def test_when_one_of_three_inspectors_raises_every_part_still_gets_one_verdict_in_order(
    three: list[TogetherInspector], broken: int
) -> None:
    seen = Collected()
    three[broken].broken = True

    with pytest.raises(ZeroDivisionError):
        station(ScriptedCamera(frames(40)), three, seen).run()

    # The camera may have given more by the time the station ended; none is told twice or left out.
    assert seen.numbers == list(range(1, len(seen.numbers) + 1))
    assert len(seen.numbers) >= 3
    failed = [decision for decision in seen.decisions if decision[0] is Result.ERROR]
    assert failed == [(Result.ERROR, Reason.INTERNAL)]


def test_when_all_three_inspectors_raise_nothing_hangs(three: list[TogetherInspector]) -> None:
    seen = Collected()
    for inspector in three:
        inspector.broken = True

    with pytest.raises(ZeroDivisionError):
        station(ScriptedCamera(frames(40)), three, seen).run()

    assert seen.numbers == list(range(1, len(seen.numbers) + 1))
    assert {result for result, _ in seen.decisions} == {Result.ERROR}


def test_stopping_three_inspectors_finishes_what_is_queued(three: list[TogetherInspector]) -> None:
    seen = Collected()
    nothing = itertools.repeat(waiting_for(threading.Event(), 0.01))
    one = station(ScriptedCamera(itertools.chain(frames(9), nothing)), three, seen)
    runner = threading.Thread(target=one.run)
    runner.start()
    assert seen.reached.wait(GENEROUS_S)
    one.stop()
    runner.join(GENEROUS_S)

    assert not runner.is_alive()
    assert seen.numbers == list(range(1, len(seen.numbers) + 1))
    assert len(seen.numbers) >= 3


@pytest.mark.parametrize("max_parts", [3, 4, 5])
def test_most_parts_holds_for_all_inspectors_together(
    three: list[TogetherInspector], max_parts: int
) -> None:
    seen = Collected()

    rules = StationRules(max_parts=max_parts)
    station(ScriptedCamera(frames(50)), three, seen, rules=rules).run()

    assert seen.numbers == list(range(1, max_parts + 1))


def test_a_sink_may_read_the_counts_while_the_others_wait_for_it(
    three: list[TogetherInspector],
) -> None:
    counts: list[int] = []

    def read(verdict: Verdict) -> None:
        counts.append(one.summary().parts)

    one = station(ScriptedCamera(frames(60)), three, read, bound=1)
    runner = threading.Thread(target=one.run, daemon=True)
    runner.start()
    runner.join(GENEROUS_S)

    assert not runner.is_alive()
    assert counts == sorted(counts)
    assert (len(counts), counts[-1]) == (60, 60)
