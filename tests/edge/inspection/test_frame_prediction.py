"""Frames in tiles: the whole path from a frame to one score and one map, on real networks."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.input_spec import Crop, InputSpec, Levels, TileSpec
from edge.bundle.loading import Bundle, load_bundle
from edge.errors import FrameUnsuitable, ModelError
from edge.imaging.frame import Box, Frame, PixelFormat
from edge.inspection.criteria import Limits
from edge.inspection.decision import Decision, Reason, Result
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.frame_prediction import FramePrediction, predict_frame
from edge.inspection.inspector import Inspector
from edge.inspection.pieces import frame_pieces
from edge.inspection.plausibility import image_statistics
from edge.inspection.predictor import Fill, RawPredictions
from edge.inspection.preprocessing import prepare
from tests.support.detecting import predict_one
from tests.support.small_bundle import CELLS, SIDE, difference_model, good_image, write_bundle

TILES = TileSpec(height=SIDE, width=SIDE, overlap=0.25)
HEIGHT, WIDTH = 150, 250  # 3 × 5 tiles, the last row and column moved back to the edge

PLANS = [
    RunPlan(),
    RunPlan(batch=4),
    RunPlan(streams=2),
    RunPlan(batch=2, streams=2, threads=2),
    RunPlan(batch=15),
    RunPlan(batch=32),
    RunPlan(batch=3, streams=8),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(write_bundle(tmp_path_factory.mktemp("tiled"), tile_plan=TILES))


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Detector:
    return tile_detector(bundle, RunPlan(batch=2, streams=2))


@pytest.fixture(scope="module")
def inspector(bundle: Bundle, detector: Detector) -> Inspector:
    return Inspector(detector, bundle.manifest)


@pytest.fixture(scope="module", params=[-math.inf, math.inf, math.nan], ids=str)
def faulty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A network whose score is no number for a tile with a white sample."""
    folder = tmp_path_factory.mktemp("faulty")
    model = difference_model(faulty=request.param)
    return load_bundle(write_bundle(folder, tile_plan=TILES, model=model))


def tile_detector(bundle: Bundle, plan: RunPlan) -> Detector:
    return Detector(CompiledModel(bundle, plan=plan), plan.streams)


def frame(pixels: np.ndarray) -> Frame:
    return Frame(pixels=pixels, number=1, captured_ns=0, captured_utc_ns=0)


def spotted(x: int, y: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Return a good image with one bright spot of 6 × 6 pixels."""
    pixels = good_image(1, height, width)
    pixels[y : y + 6, x : x + 6] = 250
    return pixels


def tile_scores(bundle: Bundle, pixels: np.ndarray) -> list[float]:
    """Predict the tiles of a frame one by one."""
    spec = bundle.manifest.input
    one_by_one = Detector(CompiledModel(bundle))
    untiled = spec.model_copy(update={"tile_plan": None})
    return [
        predict_one(
            one_by_one, prepare(pixels[b.y : b.y + b.height, b.x : b.x + b.width].copy(), untiled)
        ).score
        for b in frame_pieces(pixels.shape, spec).boxes
    ]


def same(one: FramePrediction, other: FramePrediction) -> bool:
    return one.prediction.score == other.prediction.score and np.array_equal(
        one.prediction.anomaly_map, other.prediction.anomaly_map
    )


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 64), (150, 250), (201, 133)])
def test_the_score_is_the_highest_of_the_tiles(
    bundle: Bundle, inspector: Inspector, height: int, width: int
) -> None:
    pixels = spotted(width - 20, height - 20, height, width)
    assert inspector.inspect(frame(pixels)).score == max(tile_scores(bundle, pixels))


def test_the_worst_tile_is_named(bundle: Bundle, detector: Detector) -> None:
    pixels = spotted(WIDTH - 6, HEIGHT - 6)
    predicted = predict_frame(detector, pixels, bundle.manifest.input)
    assert predicted.worst == int(np.argmax(tile_scores(bundle, pixels)))


@pytest.mark.parametrize(
    ("x", "y"),
    [(0, 0), (WIDTH - 6, HEIGHT - 6), (WIDTH - 6, 0), (0, HEIGHT - 6), (120, 70)],
    ids=["first tile", "last tile", "right edge", "lower edge", "middle"],
)
def test_a_defect_is_found_in_every_tile_and_its_region_lies_on_it(
    inspector: Inspector, x: int, y: int
) -> None:
    inspection = inspector.inspect(frame(spotted(x, y)))

    assert inspection.decision == Decision(Result.NOK, Reason.SCORE_ABOVE)
    (region,) = inspection.regions
    assert region.x <= x + 3 < region.x + region.width
    assert region.y <= y + 3 < region.y + region.height
    assert max(region.width, region.height) <= 16
    assert region.x + region.width <= WIDTH and region.y + region.height <= HEIGHT


def test_a_good_frame_is_ok(inspector: Inspector) -> None:
    inspection = inspector.inspect(frame(good_image(1, HEIGHT, WIDTH)))
    assert inspection.decision == Decision(Result.OK, Reason.SCORE_BELOW)
    assert inspection.placement == Box(0, 0, WIDTH, HEIGHT)


def test_the_map_has_the_resolution_of_the_tiles_maps(bundle: Bundle, detector: Detector) -> None:
    pixels = good_image(1, HEIGHT, WIDTH)
    anomaly_map = predict_frame(detector, pixels, bundle.manifest.input).prediction.anomaly_map
    cell = SIDE // CELLS
    assert anomaly_map.shape == (-(-HEIGHT // cell), -(-WIDTH // cell))  # half a cell is one


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_batches_and_streams_change_nothing(
    bundle: Bundle, detector: Detector, plan: RunPlan
) -> None:
    spec = bundle.manifest.input
    other = tile_detector(bundle, plan)
    for pixels in (spotted(240, 140), good_image(2, HEIGHT, WIDTH), spotted(10, 90)):
        assert same(predict_frame(other, pixels, spec), predict_frame(detector, pixels, spec))


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_partly_filled_batch_says_nothing_about_the_frame_before(
    bundle: Bundle, plan: RunPlan
) -> None:
    """The inputs are used again: what stays of a defect must not reach the next frame."""
    used = Inspector(tile_detector(bundle, plan), bundle.manifest)
    good = good_image(3, SIDE, SIDE + 10)  # two tiles
    expected = (
        Inspector(Detector(CompiledModel(bundle)), bundle.manifest).inspect(frame(good)).score
    )

    used.inspect(frame(np.full((HEIGHT, WIDTH, 3), 250, np.uint8)))

    assert used.inspect(frame(good)).score == expected


def test_the_order_of_frames_changes_nothing(bundle: Bundle, detector: Detector) -> None:
    spec = bundle.manifest.input
    images = [spotted(240, 140), good_image(2, HEIGHT, WIDTH), spotted(0, 0)]
    forward = [predict_frame(detector, p, spec) for p in images]
    backward = [predict_frame(detector, p, spec) for p in reversed(images)]
    assert all(same(one, other) for one, other in zip(forward, backward[::-1], strict=True))


def test_a_map_stays_its_callers_own(bundle: Bundle, detector: Detector) -> None:
    spec = bundle.manifest.input
    first = predict_frame(detector, good_image(1, SIDE, SIDE), spec).prediction.anomaly_map
    before = first.copy()
    predict_frame(detector, spotted(5, 5, SIDE, SIDE), spec)
    assert np.array_equal(first, before)


def test_frames_of_changing_size_are_each_inspected_whole(
    bundle: Bundle, inspector: Inspector
) -> None:
    for height, width in [(150, 250), (64, 64), (333, 70), (150, 250), (90, 400)]:
        pixels = spotted(width - 6, height - 6, height, width)
        inspection = inspector.inspect(frame(pixels))
        assert inspection.placement == Box(0, 0, width, height)
        assert inspection.decision.result is Result.NOK
        assert inspection.score == max(tile_scores(bundle, pixels))


@pytest.mark.parametrize(("height", "width"), [(SIDE - 1, 200), (200, SIDE - 1), (20, 20)])
def test_a_frame_smaller_than_a_tile_is_an_error_that_names_both_sizes(
    inspector: Inspector, height: int, width: int
) -> None:
    inspection = inspector.inspect(frame(good_image(1, height, width)))
    assert inspection.decision == Decision(Result.ERROR, Reason.FRAME_INCOMPLETE)
    assert f"{width}×{height}" in inspection.detail
    assert f"{SIDE}×{SIDE}" in inspection.detail


def test_a_crop_is_tiled_and_its_regions_lie_in_the_frame(
    bundle: Bundle, detector: Detector
) -> None:
    crop = Crop(x=100, y=30, width=140, height=100)
    inspector = Inspector(detector, bundle.manifest, Limits(crop=crop))

    inspection = inspector.inspect(frame(spotted(230, 120)))

    assert inspection.placement == Box(100, 30, 140, 100)
    (region,) = inspection.regions
    assert region.x <= 233 < region.x + region.width
    assert region.y <= 123 < region.y + region.height
    assert inspector.inspect(frame(spotted(20, 120))).decision.result is Result.OK


@pytest.mark.parametrize("tile", [TileSpec(height=48, width=96, overlap=0.5)])
def test_tiles_need_not_have_the_size_of_the_models_input(tmp_path: Path, tile: TileSpec) -> None:
    bundle = load_bundle(write_bundle(tmp_path, tile_plan=tile))
    inspector = Inspector(tile_detector(bundle, RunPlan(batch=2)), bundle.manifest)
    pixels = spotted(WIDTH - 6, HEIGHT - 6)
    inspection = inspector.inspect(frame(pixels))
    assert inspection.score == max(tile_scores(bundle, pixels))
    (region,) = inspection.regions
    assert region.x <= WIDTH - 3 < region.x + region.width


@pytest.mark.parametrize(("x", "y"), [(0, 0), (120, 70), (WIDTH - 6, HEIGHT - 6)])
def test_one_tile_without_a_number_is_an_error_beside_good_and_bad_ones(
    faulty: Bundle, x: int, y: int
) -> None:
    inspector = Inspector(tile_detector(faulty, RunPlan(batch=2, streams=2)), faulty.manifest)
    for pixels in (good_image(1, HEIGHT, WIDTH), spotted(60, 60)):
        assert inspector.inspect(frame(pixels)).decision.result in (Result.OK, Result.NOK)
        pixels[y, x] = 255
        inspection = inspector.inspect(frame(pixels))
        assert inspection.decision == Decision(Result.ERROR, Reason.MODEL_ERROR)
        assert inspection.score is None


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("failing_tile", [0, 1, 7, 14])
def test_a_failure_amid_the_tiles_leaves_nothing_behind(
    bundle: Bundle, detector: Detector, plan: RunPlan, failing_tile: int
) -> None:
    """No request may run on and write into inputs and outputs of the next frame."""
    fragile = tile_detector(bundle, plan)
    pixels, spec = spotted(240, 140), bundle.manifest.input

    def fill(index: int, out: np.ndarray) -> None:
        if index == failing_tile:
            raise RuntimeError("the runtime gave up")
        out[:] = 255

    with pytest.raises(ModelError, match="inference failed"):
        fragile.predict_all(15, fill)

    assert same(predict_frame(fragile, pixels, spec), predict_frame(detector, pixels, spec))


def test_inputs_are_filled_in_order_each_once_and_never_while_in_use(bundle: Bundle) -> None:
    seen: list[int] = []

    def fill(index: int, out: np.ndarray) -> None:
        seen.append(index)
        out[:] = index

    scores, maps = tile_detector(bundle, RunPlan(batch=4, streams=3)).predict_all(30, fill)

    assert seen == list(range(30))
    assert scores.tolist() == [abs(128.0 - index) for index in range(30)]
    assert maps[:, 0, 0].tolist() == scores.tolist()


def test_the_statistics_are_those_of_all_tiles(bundle: Bundle, detector: Detector) -> None:
    spec = bundle.manifest.input
    pixels = spotted(WIDTH - 6, HEIGHT - 6)

    statistics = predict_frame(detector, pixels, spec).statistics

    tiles = [
        pixels[b.y : b.y + SIDE, b.x : b.x + SIDE] for b in frame_pieces(pixels.shape, spec).boxes
    ]
    together = image_statistics(np.concatenate(tiles))
    assert (statistics.lowest, statistics.highest) == (together.lowest, together.highest)
    assert statistics.mean == pytest.approx(together.mean)


@pytest.mark.parametrize(
    ("grey", "reason"),
    [
        (0, Reason.EXPOSURE_OUT_OF_RANGE),
        (255, Reason.EXPOSURE_OUT_OF_RANGE),
        (90, Reason.BLUR_OR_DARK),
    ],
)
def test_a_frame_whose_tiles_show_nothing_is_an_error(
    inspector: Inspector, grey: int, reason: Reason
) -> None:
    pixels = np.full((HEIGHT, WIDTH, 3), grey, np.uint8)
    assert inspector.inspect(frame(pixels)).decision == Decision(Result.ERROR, reason)


def test_an_even_tile_beside_others_is_no_fault(inspector: Inspector) -> None:
    """The background of a part may fill a tile."""
    pixels = good_image(1, HEIGHT, WIDTH)
    pixels[:SIDE, :SIDE] = 128
    assert inspector.inspect(frame(pixels)).decision.result is Result.OK


class Batchless:
    """Predicts images in the order given, as training does."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.map_score = detector.map_score

    def predict_all(self, count: int, fill: Fill) -> RawPredictions:
        scores, maps = [], []
        for index in range(count):
            out = np.empty((SIDE, SIDE, 3), np.uint8)
            fill(index, out)
            prediction = predict_one(self._detector, out)
            scores.append(prediction.score)
            maps.append(prediction.anomaly_map)
        return RawPredictions(np.array(scores, np.float32), np.stack(maps))


def test_every_predictor_goes_the_same_path(bundle: Bundle, detector: Detector) -> None:
    spec, pixels = bundle.manifest.input, spotted(33, 99)
    training = predict_frame(Batchless(Detector(CompiledModel(bundle))), pixels, spec)
    assert same(training, predict_frame(detector, pixels, spec))


@pytest.mark.parametrize("layout", [PixelFormat.BGRA8, PixelFormat.BGR16, PixelFormat.GREY16])
def test_an_empty_frame_of_any_format_is_refused(detector: Detector, layout: PixelFormat) -> None:
    spec = InputSpec(
        height=SIDE, width=SIDE, pixel_formats=(layout,), levels=Levels(black=0, white=4095)
    )
    channels = {PixelFormat.BGRA8: (4,), PixelFormat.BGR16: (3,), PixelFormat.GREY16: ()}[layout]
    pixels = np.empty((0, 50, *channels), np.uint16 if layout.is_16_bit else np.uint8)
    with pytest.raises(FrameUnsuitable, match="50×0 pixels"):
        predict_frame(detector, pixels, spec)


@pytest.mark.parametrize(
    "view",
    [
        lambda pixels: pixels[::-1],
        lambda pixels: pixels[:, ::-1],
        lambda pixels: pixels[:, :, ::-1],
        lambda pixels: pixels[::2, ::2],
        lambda pixels: pixels.transpose(1, 0, 2),
    ],
    ids=["upside down", "mirrored", "rgb", "every other", "turned"],
)
def test_a_view_of_a_frame_gives_what_its_copy_gives(
    bundle: Bundle, detector: Detector, view: Callable[[np.ndarray], np.ndarray]
) -> None:
    spec = bundle.manifest.input
    pixels = spotted(20, 200, 300, 260)
    pixels[:, :, 0] //= 2
    pixels.flags.writeable = False
    copy = view(pixels).copy()
    assert same(predict_frame(detector, view(pixels), spec), predict_frame(detector, copy, spec))
