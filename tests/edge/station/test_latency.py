"""Latency histograms: quantiles to 2 % in memory that does not grow."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.contract.verdict import PartIdentity, Verdict
from edge.imaging.frame import Frame
from edge.inspection.decision import Decision, Reason, Result
from edge.inspection.inspector import Durations, Inspection
from edge.station.pipeline.latency import (
    STAGES,
    Histogram,
    Quantiles,
    StageLatencies,
)

MS = 1_000_000
probabilities = st.floats(0.001, 1.0)


def histogram(durations_ns: np.ndarray) -> Histogram:
    counted = Histogram()
    for duration_ns in durations_ns.tolist():
        counted.record(duration_ns)
    return counted


def verdict(durations: Durations, queue_ns: int = 2 * MS, total_ns: int = 9 * MS) -> Verdict:
    captured = 1_000 * MS
    return Verdict(
        id="",
        inspection=Inspection(
            decision=Decision(Result.OK, Reason.SCORE_BELOW),
            threshold=1,
            pixel_threshold=1,
            durations=durations,
        ),
        frame=Frame(
            pixels=np.empty((0, 0), np.uint8), number=1, captured_ns=captured, captured_utc_ns=0
        ),
        decided_ns=captured + total_ns,
        decided_utc_ns=0,
        inspection_started_ns=captured + queue_ns,
    )


def size_bytes(counted: Histogram) -> int:
    return sum(sys.getsizeof(value) for value in vars(counted).values())


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 10, 999, 1000, 5000]), probabilities)
def test_quantiles_are_within_2_percent_of_numpys(
    seed: int, count: int, probability: float
) -> None:
    random = np.random.default_rng(seed)
    durations_ns = random.lognormal(15.0, 1.5, count).astype(np.int64).clip(1_000)
    exact = np.quantile(durations_ns, probability, method="inverted_cdf")
    assert histogram(durations_ns).quantile_ns(probability) == pytest.approx(exact, rel=0.02)


@given(st.lists(st.integers(1_000, 10**11), min_size=1, max_size=50))
def test_quantiles_ascend_and_never_exceed_the_longest(durations_ns: list[int]) -> None:
    q = histogram(np.array(durations_ns)).quantiles()
    assert q.p50_ms <= q.p95_ms <= q.p99_ms <= q.p999_ms <= q.max_ms
    assert q.max_ms == max(durations_ns) / 1e6
    assert q.count == len(durations_ns)


def test_a_rank_that_floats_cannot_hold_is_not_one_too_high() -> None:
    """0.55 × 100 is a hair more than 55 in floats."""
    durations_ns = np.array([MS] * 55 + [100 * MS] * 45)
    assert histogram(durations_ns).quantile_ns(0.55) == pytest.approx(MS, rel=0.02)


def test_nothing_counted_is_zero_and_no_stage() -> None:
    assert Histogram().quantiles() == Quantiles(
        count=0, p50_ms=0.0, p95_ms=0.0, p99_ms=0.0, p999_ms=0.0, max_ms=0.0
    )
    assert StageLatencies().quantiles() == {}


@pytest.mark.parametrize("duration_ns", [-(10**18), -1, 0, 1, 10**11, 10**12, 10**18])
def test_durations_out_of_range_are_counted(duration_ns: int) -> None:
    counted = histogram(np.array([duration_ns, duration_ns]))
    assert counted.count == 2
    assert 0.0 <= counted.quantile_ns(0.5) <= 1.05e11


def test_memory_does_not_grow_with_the_number_of_durations() -> None:
    random = np.random.default_rng(0)
    few = histogram(random.integers(1, 10**12, 100))
    many = histogram(random.integers(1, 10**12, 50_000))
    # Only the counts themselves get longer.
    assert size_bytes(many) - size_bytes(few) <= 64


def test_the_time_from_trigger_to_frame_is_counted_where_an_image_came() -> None:
    latencies = StageLatencies()
    one = verdict(Durations(1 * MS, 4 * MS, 1 * MS))
    pixels = np.zeros((2, 2, 3), np.uint8)
    triggered = PartIdentity(
        part_id="p",
        trigger_id="t",
        trigger_source="software",
        recipe=None,
        triggered_ns=one.frame.captured_ns - 5 * MS,
        triggered_utc_ns=0,
    )
    latencies.record(replace(one, frame=replace(one.frame, pixels=pixels), part=triggered))
    latencies.record(replace(one, part=triggered))  # without an image

    stage = latencies.quantiles()["trigger_to_frame"]
    assert stage.count == 1 and stage.p50_ms == pytest.approx(5.0, rel=0.02)


def test_every_stage_that_a_part_went_through_is_counted() -> None:
    latencies = StageLatencies()
    latencies.record(verdict(Durations(1 * MS, 4 * MS, 1 * MS)))
    latencies.record(verdict(Durations()))  # a frame that could not be inspected

    quantiles = latencies.quantiles()

    counts = {stage: q.count for stage, q in quantiles.items()}
    assert counts == {"queue": 2, "preprocess": 1, "inference": 1, "postprocess": 1, "total": 2}
    assert quantiles["queue"].p50_ms == pytest.approx(2.0, rel=0.02)
    assert quantiles["inference"].p50_ms == pytest.approx(4.0, rel=0.02)
    assert quantiles["total"].max_ms == 9.0
    assert set(quantiles) <= set(STAGES)
