"""No frame that is not new and whole stays COMPLETE."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cameras.supervised.freshness import Freshness, aged, identical
from edge.imaging.frame import Frame, FrameStatus, Pixels, Telemetry

COMPLETE, STALE, FROZEN = FrameStatus.COMPLETE, FrameStatus.STALE, FrameStatus.FROZEN
INCOMPLETE = FrameStatus.INCOMPLETE
MAX_AGE_MS = 100.0
PERIOD_NS = 40_000_000
WAY_NS = 3_000_000


def noise(seed: int, height: int = 12, width: int = 16) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


def exposure(number: int, clock: bool = True, offset_ns: int = 0, drift: float = 0.0) -> Frame:
    """The frame of an exposure as a sound camera gives it, 40 ms after the one before."""
    exposed_ns = number * PERIOD_NS
    device_ns = round(exposed_ns * (1 + drift)) + offset_ns if clock else None
    return Frame(
        pixels=noise(number),
        number=number,
        captured_ns=exposed_ns + WAY_NS,
        captured_utc_ns=0,
        telemetry=Telemetry(device_ns=device_ns),
    )


def statuses(frames: list[Frame], freshness: Freshness | None = None) -> list[FrameStatus]:
    judge = freshness or Freshness(MAX_AGE_MS, frozen_after=2)
    return [judge.judged(frame).status for frame in frames]


def test_frames_of_a_sound_camera_stay_complete() -> None:
    assert statuses([exposure(number) for number in range(1, 60)]) == [COMPLETE] * 59


def test_a_number_that_was_there_before_is_stale() -> None:
    assert statuses([exposure(1), exposure(2), exposure(2)]) == [COMPLETE, COMPLETE, STALE]


def test_an_image_that_comes_after_a_later_one_is_stale() -> None:
    frames = [exposure(number, clock=False) for number in (1, 3, 2, 4)]

    assert statuses(frames) == [COMPLETE, COMPLETE, STALE, COMPLETE]


def test_the_same_image_again_is_frozen_whatever_its_number() -> None:
    first = exposure(1)
    frames = [first, replace(exposure(2), pixels=first.pixels.copy()), exposure(3)]

    assert statuses(frames) == [COMPLETE, FROZEN, COMPLETE]


@pytest.mark.parametrize("between", ["it lacks packets", "it is cut"])
def test_an_image_that_comes_again_behind_a_damaged_one_is_frozen(between: str) -> None:
    one, other = exposure(1), exposure(2)
    damaged = (
        replace(other, status=FrameStatus.INCOMPLETE)
        if between == "it lacks packets"
        else replace(other, pixels=other.pixels[:6])
    )
    again = replace(exposure(3), pixels=one.pixels.copy())
    assert statuses([one, damaged, again]) == [COMPLETE, INCOMPLETE, FROZEN]


def test_how_many_identical_images_are_frozen_is_a_setting() -> None:
    same = [replace(exposure(number), pixels=noise(0)) for number in range(1, 5)]

    assert statuses(same, Freshness(MAX_AGE_MS, 3)) == [COMPLETE, COMPLETE, FROZEN, FROZEN]
    assert statuses(same, Freshness(MAX_AGE_MS, 0)) == [COMPLETE] * 4


def test_an_image_that_was_seen_before_a_reconnection_is_frozen_after_it() -> None:
    freshness = Freshness(MAX_AGE_MS, frozen_after=2)
    freshness.judged(exposure(500))
    freshness.reopened()

    again = freshness.judged(replace(exposure(1), pixels=noise(500)))

    assert again.status is FROZEN
    assert freshness.judged(exposure(2)).status is COMPLETE


def test_one_sample_makes_two_images_different() -> None:
    one = noise(0, 2048, 64)
    for row in (0, 1, 63, 64, 1000, 2047):
        other = one.copy()
        other[row, 17] ^= 1
        assert not identical(one, other)
    assert identical(one, one.copy())
    assert not identical(one, one.astype(np.uint16)) and not identical(one, one[:-1])


def test_an_image_that_was_long_on_its_way_is_stale() -> None:
    late = exposure(3)
    late = replace(late, captured_ns=late.captured_ns + 150_000_000)

    assert statuses([exposure(1), exposure(2), late]) == [COMPLETE, COMPLETE, STALE]


@pytest.mark.parametrize("drift", [-1e-4, 1e-4])
def test_a_clock_that_drifts_for_hours_makes_nothing_stale(drift: float) -> None:
    numbers = range(1, 12 * 3600 * 25, 25 * 60)  # one frame a minute

    assert set(statuses([exposure(n, drift=drift) for n in numbers])) == {COMPLETE}


def test_a_camera_clock_that_is_set_costs_one_image() -> None:
    before = [exposure(number, offset_ns=10**15) for number in (1, 2)]
    after = [exposure(number) for number in (3, 4, 5)]

    assert statuses(before + after) == [COMPLETE, COMPLETE, STALE, COMPLETE, COMPLETE]


def test_a_delayed_queue_stays_stale_however_long_it_is() -> None:
    """The numbers are new, the exposures are old: frames of parts that are gone."""
    queue = [
        replace(exposure(n), telemetry=exposure(n - 6).telemetry, pixels=noise(n - 6))
        for n in range(8, 60)
    ]

    assert set(statuses([exposure(n) for n in range(1, 8)] + queue)[7:]) == {STALE}


def test_a_cut_image_is_incomplete_and_the_next_whole_one_is_not() -> None:
    cut = replace(exposure(2), pixels=noise(2)[:5])
    empty = replace(exposure(3), pixels=np.empty((0, 0), np.uint8))

    assert statuses([exposure(1), cut, empty, exposure(4)]) == [
        *(COMPLETE, INCOMPLETE, INCOMPLETE, COMPLETE),
    ]


def test_images_of_files_may_each_have_their_size() -> None:
    frames = [replace(exposure(n), pixels=noise(n, height=10 + n)) for n in (1, 2, 3)]
    files = Freshness(MAX_AGE_MS, frozen_after=2, live=False)

    assert statuses(frames, files) == [COMPLETE] * 3


def test_what_is_incomplete_stays_so_and_says_why() -> None:
    frame = replace(exposure(1), status=INCOMPLETE, detail="3 packets are missing")
    freshness = Freshness(MAX_AGE_MS, frozen_after=2)

    assert freshness.judged(frame) is frame
    again = freshness.judged(frame)
    assert (again.status, again.detail) == (INCOMPLETE, "3 packets are missing")
    assert aged(frame, frame.captured_ns + 10**12, MAX_AGE_MS) is frame


def test_a_frame_that_waited_too_long_is_stale() -> None:
    frame = exposure(1)

    assert aged(frame, frame.captured_ns + 100_000_000, MAX_AGE_MS) is frame
    old = aged(frame, frame.captured_ns + 101_000_000, MAX_AGE_MS)

    assert old.status is STALE
    assert old.detail == "it waited 101 ms; 100 ms are allowed"


FAULTS = ("repeat", "renumber", "delay", "swap", "truncate", "incomplete", "mispair")


def faulty(fault: str, sound: Frame, last: Frame) -> Frame:
    """What arrives instead of a sound frame, after the frame ``last``."""
    match fault:
        case "repeat":  # the driver gives its last buffer again
            return replace(last, captured_ns=sound.captured_ns, status=COMPLETE)
        case "renumber":  # and counts it
            return replace(sound, pixels=last.pixels.copy())
        case "delay":  # the network held this one back
            return replace(sound, captured_ns=sound.captured_ns + 101_000_000)
        case "truncate":
            return replace(sound, pixels=sound.pixels[: 1 + sound.number % 11])
        case "mispair":  # an exposure of before under this number
            return replace(sound, telemetry=last.telemetry, pixels=noise(1000 + sound.number))
    return replace(sound, status=INCOMPLETE)


def delivered(faults: list[str | None]) -> Iterator[tuple[Frame, bool]]:
    """What arrives of one exposure after the other, and whether it may be inspected."""
    last = exposure(1)
    overtaken: Frame | None = None
    yield last, True
    for number, fault in enumerate(faults, start=2):
        sound = exposure(number)
        if fault == "swap":
            overtaken = overtaken or sound
            continue
        last = faulty(fault, sound, last) if fault else sound
        yield last, fault is None
        if overtaken is not None and fault is None:
            last = replace(overtaken, captured_ns=sound.captured_ns + 1)
            overtaken = None
            yield last, False


@given(st.lists(st.sampled_from([None, None, *FAULTS]), max_size=40), st.booleans())
def test_no_faulty_image_ever_stays_complete(faults: list[str | None], frames_wait: bool) -> None:
    freshness = Freshness(MAX_AGE_MS, frozen_after=2)
    for frame, sound in delivered(faults):
        judged = freshness.judged(frame)
        waited_ns = 101_000_000 if frames_wait else 1_000_000
        handed = aged(judged, frame.captured_ns + waited_ns, MAX_AGE_MS)

        assert (handed.status is COMPLETE) <= (sound and not frames_wait)
        if frame.status is not COMPLETE:
            assert handed.status is frame.status


@given(st.lists(st.sampled_from([None, *FAULTS]), max_size=40))
def test_every_fault_is_forgotten_three_sound_images_later(faults: list[str | None]) -> None:
    freshness = Freshness(MAX_AGE_MS, frozen_after=2)
    judged = [freshness.judged(f) for f, _ in delivered([*faults, None, None, None])]

    assert judged[-1].status is COMPLETE
