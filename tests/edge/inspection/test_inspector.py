"""The inspector: one frame in, one decided inspection out, never OK by accident."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edge.bundle.input_spec import Crop, InputSpec
from edge.bundle.loading import Bundle, load_bundle
from edge.bundle.manifest import MapScore
from edge.errors import ConfigurationError
from edge.imaging.frame import Box, Frame, FrameStatus, PixelFormat, Pixels
from edge.inspection.criteria import Limits, crop_sentence
from edge.inspection.decision import Decision, Reason, Result
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.image_limits import ImageLimits, ReferenceRegion
from edge.inspection.inspector import Durations, Inspector
from edge.inspection.plausibility import image_fault, image_statistics
from edge.inspection.predictor import Fill, RawPredictions
from edge.inspection.preprocessing import prepare
from edge.inspection.regions import MAX_REGIONS
from tests.support.detecting import predict_one
from tests.support.small_bundle import (
    CELLS,
    IMAGE_THRESHOLD,
    SIDE,
    defective_image,
    good_image,
    write_bundle,
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(write_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Detector:
    return Detector(CompiledModel(bundle))


@pytest.fixture(scope="module")
def inspector(bundle: Bundle, detector: Detector) -> Inspector:
    return Inspector(detector, bundle.manifest)


class Says:
    """A network that says the same of every image."""

    def __init__(self, score: float, anomaly_map: np.ndarray | None = None) -> None:
        blank = np.zeros((CELLS, CELLS), np.float32)
        self.score = score
        self.map_score = MapScore(cells=1)
        self.anomaly_map = blank if anomaly_map is None else anomaly_map

    def predict_all(self, count: int, fill: Fill) -> RawPredictions:
        image = np.empty((SIDE, SIDE, 3), np.uint8)
        for index in range(count):
            fill(index, image)
        return RawPredictions(np.full(count, self.score), np.stack([self.anomaly_map] * count))


def frame(pixels: Pixels, status: FrameStatus = FrameStatus.COMPLETE, detail: str = "") -> Frame:
    return Frame(
        pixels=pixels, number=1, captured_ns=0, captured_utc_ns=0, status=status, detail=detail
    )


def ticking(*times_ns: int) -> Iterator[int]:
    yield from times_ns


def test_a_good_part_is_ok(inspector: Inspector) -> None:
    inspection = inspector.inspect(frame(good_image()))
    assert inspection.decision == Decision(Result.OK, Reason.SCORE_BELOW)
    assert inspection.normalized_score is not None
    assert inspection.normalized_score < 0.5
    assert inspection.regions == ()


def test_a_defective_part_is_nok_and_its_region_lies_on_the_defect(inspector: Inspector) -> None:
    inspection = inspector.inspect(frame(defective_image()))
    assert inspection.decision == Decision(Result.NOK, Reason.SCORE_ABOVE)
    assert inspection.normalized_score is not None
    assert inspection.normalized_score >= 0.5
    (region,) = inspection.regions
    assert region.x < 120 < region.x + region.width
    assert region.y < 30 < region.y + region.height
    assert 0.5 <= region.peak <= 1.0


def test_the_score_is_the_predictors_own(
    bundle: Bundle, detector: Detector, inspector: Inspector
) -> None:
    pixels = defective_image(height=480, width=640)
    prediction = predict_one(detector, prepare(pixels, bundle.manifest.input))
    inspection = inspector.inspect(frame(pixels))
    assert inspection.score == prediction.score
    assert np.array_equal(inspection.anomaly_map, prediction.anomaly_map)  # type: ignore[arg-type]


def test_an_inspection_says_what_it_was_decided_by(bundle: Bundle, detector: Detector) -> None:
    limits = Limits(image_threshold=200.0, pixel_threshold=90.0)
    inspection = Inspector(detector, bundle.manifest, limits).inspect(frame(defective_image()))
    assert (inspection.threshold, inspection.pixel_threshold) == (200.0, 90.0)
    assert inspection.decision.result is Result.OK


def test_the_stations_threshold_lies_at_one_half_too(bundle: Bundle) -> None:
    limits = Limits(image_threshold=33.0)
    inspection = Inspector(Says(33.0), bundle.manifest, limits).inspect(frame(good_image()))
    assert inspection.normalized_score == 0.5
    assert inspection.decision.result is Result.NOK


def test_a_score_just_below_the_threshold_is_ok_and_reads_below_one_half(bundle: Bundle) -> None:
    just_below = float(np.nextafter(IMAGE_THRESHOLD, 0.0))
    inspection = Inspector(Says(just_below), bundle.manifest).inspect(frame(good_image()))
    assert inspection.decision.result is Result.OK
    assert inspection.normalized_score is not None
    assert inspection.normalized_score < 0.5


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (IMAGE_THRESHOLD - 10.0, Result.OK),
        (IMAGE_THRESHOLD - 9.9, Result.NOT_DECIDABLE),
        (IMAGE_THRESHOLD, Result.NOT_DECIDABLE),
        (IMAGE_THRESHOLD + 9.9, Result.NOT_DECIDABLE),
        (IMAGE_THRESHOLD + 10.0, Result.NOK),
    ],
)
def test_the_guard_band_is_a_share_of_the_validation_range(
    bundle: Bundle, score: float, expected: Result
) -> None:
    inspector = Inspector(Says(score), bundle.manifest, Limits(guard_band=0.1))
    assert inspector.inspect(frame(good_image())).decision.result is expected


def test_a_crop_inspects_only_its_part_of_the_frame(bundle: Bundle, detector: Detector) -> None:
    crop = Crop(x=80, y=0, width=80, height=60)
    inspector = Inspector(detector, bundle.manifest, Limits(crop=crop))
    inspection = inspector.inspect(frame(defective_image()))
    assert inspection.placement == Box(80, 0, 80, 60)
    (region,) = inspection.regions
    assert region.x < 120 < region.x + region.width
    assert region.y < 30 < region.y + region.height

    away = Crop(x=0, y=60, width=80, height=60)
    inspector = Inspector(detector, bundle.manifest, Limits(crop=away))
    assert inspector.inspect(frame(defective_image())).decision.result is Result.OK


def test_a_crop_that_does_not_fit_is_an_error_that_says_so(
    bundle: Bundle, detector: Detector
) -> None:
    limits = Limits(crop=Crop(x=0, y=0, width=161, height=120))
    inspection = Inspector(detector, bundle.manifest, limits).inspect(frame(good_image()))
    assert inspection.decision == Decision(Result.ERROR, Reason.FRAME_INCOMPLETE)
    assert "does not fit the 160×120 frame" in inspection.detail


@pytest.mark.parametrize(
    ("size", "own", "crop", "notes"),
    [
        ((256, 256), None, (400, 100), None),  # a square input takes every shape
        ((160, 400), None, (500, 200), None),
        ((160, 400), None, (200, 200), "200×200 pixels is squeezed .* shape of 400×160"),
        ((256, 256), (300, 300), (100, 300), "100×300 pixels is squeezed .* shape of 300×300"),
        ((160, 400), (800, 320), None, None),
    ],
)
def test_a_crop_of_another_shape_than_the_models_is_reported(
    size: tuple[int, int],
    own: tuple[int, int] | None,
    crop: tuple[int, int] | None,
    notes: str | None,
) -> None:
    region, wanted = (
        None if sides is None else Crop(x=0, y=0, width=sides[0], height=sides[1])
        for sides in (own, crop)
    )
    formats = (PixelFormat.BGR8,)
    spec = InputSpec(height=size[0], width=size[1], pixel_formats=formats, crop=region)
    found = crop_sentence(spec, wanted)
    assert (found is None) if notes is None else re.search(notes, found or "")


@pytest.mark.parametrize(
    ("gain", "level", "expected"),
    [
        (1.0, None, Decision(Result.OK, Reason.SCORE_BELOW)),
        (0.8, "102.", Decision(Result.ERROR, Reason.EXPOSURE_OUT_OF_RANGE)),
        (1.2, "153.", Decision(Result.ERROR, Reason.EXPOSURE_OUT_OF_RANGE)),
    ],
)
def test_a_reference_region_that_leaves_its_level_is_an_error_before_the_part_is_judged(
    bundle: Bundle, detector: Detector, gain: float, level: str | None, expected: Decision
) -> None:
    """The region lies outside of the crop, whose image stays as it is."""
    pixels = good_image()
    pixels[:, :40] = (pixels[:, :40] * gain).astype(np.uint8)
    limits = Limits(
        crop=Crop(x=40, y=0, width=120, height=120),
        image=ImageLimits(reference=ReferenceRegion(Box(0, 100, 40, 20), 110.0, 150.0)),
    )
    inspection = Inspector(detector, bundle.manifest, limits).inspect(frame(pixels))
    assert inspection.decision == expected
    assert level is None or f"mean grey level of {level}" in inspection.detail
    assert (inspection.score is None) is (level is not None)


def test_a_reference_region_that_does_not_fit_is_an_error_that_says_so(
    bundle: Bundle, detector: Detector
) -> None:
    limits = Limits(image=ImageLimits(reference=ReferenceRegion(Box(150, 0, 16, 16), 0.0, 255.0)))
    inspection = Inspector(detector, bundle.manifest, limits).inspect(frame(good_image()))
    assert inspection.decision == Decision(Result.ERROR, Reason.FRAME_INCOMPLETE)
    assert "16×16+150+0 does not fit the 160×120 frame. Change image" in inspection.detail


def test_regions_below_the_stations_size_are_not_reported(
    bundle: Bundle, detector: Detector
) -> None:
    inspector = Inspector(detector, bundle.manifest, Limits(smallest_region_px=10_000))
    inspection = inspector.inspect(frame(defective_image()))
    assert inspection.regions == ()
    assert inspection.decision.result is Result.NOK


def test_many_regions_are_truncated_and_reported(bundle: Bundle) -> None:
    spots = np.zeros((CELLS, CELLS), np.float32)
    spots[::2, ::2] = 100.0
    limits = Limits(pixel_threshold=70.0)  # enlarging flattens a single cell to about 77
    inspection = Inspector(Says(100.0, spots), bundle.manifest, limits).inspect(frame(good_image()))
    assert len(inspection.regions) == MAX_REGIONS
    assert inspection.regions_truncated


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (FrameStatus.INCOMPLETE, Reason.FRAME_INCOMPLETE),
        (FrameStatus.STALE, Reason.FRAME_STALE),
        (FrameStatus.FROZEN, Reason.FRAME_FROZEN),
    ],
)
def test_only_complete_frames_are_inspected(
    inspector: Inspector, status: FrameStatus, reason: Reason
) -> None:
    inspection = inspector.inspect(frame(good_image(), status, "12 packets missing"))
    assert inspection.decision == Decision(Result.ERROR, reason)
    assert inspection.detail == "12 packets missing"
    assert inspection.score is None


def test_every_status_but_complete_has_its_reason(inspector: Inspector) -> None:
    for status in FrameStatus:
        result = inspector.inspect(frame(good_image(), status)).decision.result
        assert (result is Result.OK) == (status is FrameStatus.COMPLETE)


def test_an_image_that_could_not_be_read_is_an_error(inspector: Inspector) -> None:
    nothing = np.empty((0, 0), np.uint8)
    assert inspector.inspect(frame(nothing)).decision.result is Result.ERROR
    unread = frame(nothing, FrameStatus.INCOMPLETE, "part.png: not a complete image")
    assert inspector.inspect(unread).detail == "part.png: not a complete image"


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.zeros((120, 160, 3), np.uint8), Reason.EXPOSURE_OUT_OF_RANGE),
        (np.full((120, 160, 3), 255, np.uint8), Reason.EXPOSURE_OUT_OF_RANGE),
        (np.full((120, 160, 3), 1, np.uint8), Reason.EXPOSURE_OUT_OF_RANGE),
        (np.full((120, 160, 3), 90, np.uint8), Reason.BLUR_OR_DARK),
        (np.zeros((1, 1, 3), np.uint8), Reason.FRAME_INCOMPLETE),
        (good_image()[:, :, 0], Reason.FRAME_INCOMPLETE),
        (good_image().astype(np.uint16), Reason.FRAME_INCOMPLETE),
        (np.dstack([good_image(), good_image()[:, :, :1]]), Reason.FRAME_INCOMPLETE),
    ],
    ids=["black", "white", "lens cap", "no contrast", "1x1", "grey", "16 bits", "bgra"],
)
def test_a_frame_that_cannot_show_the_part_is_an_error(
    inspector: Inspector, pixels: Pixels, reason: Reason
) -> None:
    inspection = inspector.inspect(frame(pixels))
    assert inspection.decision == Decision(Result.ERROR, reason)
    assert inspection.detail
    assert inspection.normalized_score is None


@given(
    arrays(np.uint8, array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=20))
    | arrays(np.uint16, array_shapes(max_dims=3, max_side=20))
)
def test_no_array_makes_inspect_raise_or_pass(inspector: Inspector, pixels: Pixels) -> None:
    inspection = inspector.inspect(frame(pixels))
    inspected = inspection.score is not None
    assert inspected or inspection.decision.result is Result.ERROR


@pytest.mark.parametrize(
    "prediction",
    [
        Says(np.nan),
        Says(np.inf),
        Says(-np.inf),
        Says(1.0, np.full((CELLS, CELLS), np.nan, np.float32)),
        Says(1.0, np.full((CELLS, CELLS), -np.inf, np.float32)),
    ],
)
def test_whatever_network_gives_no_finite_number_is_a_model_error(
    bundle: Bundle, prediction: Says
) -> None:
    inspection = Inspector(prediction, bundle.manifest).inspect(frame(good_image()))
    assert inspection.decision == Decision(Result.ERROR, Reason.MODEL_ERROR)
    assert inspection.score is None
    assert "not finite" in inspection.detail


def test_the_frame_is_not_changed(inspector: Inspector) -> None:
    pixels = defective_image(height=SIDE, width=SIDE)
    before = pixels.copy()
    pixels.flags.writeable = False
    inspector.inspect(frame(pixels))
    assert np.array_equal(pixels, before)


def test_the_order_of_frames_changes_nothing(inspector: Inspector) -> None:
    frames = [frame(good_image(1)), frame(defective_image(2)), frame(good_image(3))]
    forward = [inspector.inspect(each).score for each in frames]
    backward = [inspector.inspect(each).score for each in reversed(frames)]
    assert forward == backward[::-1]


def test_stages_are_timed_by_the_clock_that_was_given(bundle: Bundle) -> None:
    clock = ticking(100, 130, 140, 150, 200, 200, 250)
    inspector = Inspector(Says(1.0), bundle.manifest, clock_ns=lambda: next(clock))
    assert inspector.inspect(frame(good_image())).durations == Durations(40, 60, 50)


def test_a_failure_is_decided_by_the_same_thresholds(bundle: Bundle) -> None:
    inspector = Inspector(Says(1.0), bundle.manifest, Limits(image_threshold=7.0))
    failure = inspector.failure(Reason.CAMERA_LOST, "unplugged")
    assert failure.decision == Decision(Result.ERROR, Reason.CAMERA_LOST)
    assert (failure.threshold, failure.detail) == (7.0, "unplugged")


@pytest.mark.parametrize("name", ["image_threshold", "pixel_threshold", "guard_band"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_limit_that_is_not_finite_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is .*Give"):
        Limits(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"), [("guard_band", -0.1), ("guard_band", 0.6), ("smallest_region_px", -1)]
)
def test_a_limit_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is {value}"):
        Limits(**{name: value})  # type: ignore[arg-type]


@given(st.integers(0, 255), st.integers(0, 255))
def test_an_image_with_contrast_and_light_has_no_fault(dark: int, bright: int) -> None:
    board = np.where(np.indices((16, 16)).sum(axis=0) % 2, dark, bright)
    image = np.repeat(board[:, :, None], 3, axis=2).astype(np.uint8)
    usable = 8 <= dark + bright <= 502 and abs(dark - bright) >= 8
    assert (image_fault(image_statistics(image)) is None) == usable


def test_the_bundle_on_disk_gives_the_same_inspection_every_time(tmp_path: Path) -> None:
    scores = set()
    for name in ("first", "second"):
        bundle = load_bundle(write_bundle(tmp_path, name))
        inspector = Inspector(Detector(CompiledModel(bundle)), bundle.manifest)
        scores.add(inspector.inspect(frame(defective_image())).score)
    assert len(scores) == 1
