"""A part is inspected as it lies in the reference; what is not found is an ERROR, never OK."""

import json
from dataclasses import replace
from importlib import resources
from typing import Any

import cv2
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from numpy.typing import NDArray
from pydantic import ValidationError

from edge.bundle.input_spec import AlignMode, Areas, Crop, InputSpec, Locator
from edge.bundle.loading import load_bundle
from edge.bundle.manifest import MapScore
from edge.contract.verdict import payload, to_json
from edge.errors import FrameUnsuitable, PartAmbiguous, PartNotFound
from edge.imaging.area_resize import resize_area
from edge.imaging.frame import Box, Frame, PixelFormat
from edge.imaging.pose import PartPose, warp_area
from edge.inspection.alignment import (
    Located,
    aligned_mask,
    locate,
    make_locator,
    mapped_back,
    reference_box,
)
from edge.inspection.areas import AreasUnusable, demand_areas
from edge.inspection.decision import Reason, Result
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.frame_prediction import view_frame
from edge.inspection.inspector import Inspection, Inspector
from edge.inspection.overlay import draw_overlay
from tests.support.sample_verdict import IDENTITY, sample_verdict
from tests.support.small_bundle import write_bundle
from tests.support.turned_part import (
    DEFECT,
    HEIGHT,
    WIDTH,
    Laid,
    anywhere,
    bracket,
    placed,
    resized_bracket,
)

SCHEMA = json.loads(
    resources.files("edge.contract").joinpath("schemas/verdict-1.json").read_text("utf-8")
)
MIDDLE = Laid(WIDTH / 2, HEIGHT / 2, 0.0)
ROI = Crop(x=WIDTH // 2 - 50, y=HEIGHT // 2 - 34, width=100, height=68)


def locator(
    mode: AlignMode = AlignMode.FULL_ROTATION,
    image: NDArray[np.uint8] | None = None,
    roi: Crop = ROI,
    most_outside: float = 0.0,
    *,
    most_scale: float = 0.0,
) -> Locator:
    shown = bracket(MIDDLE) if image is None else image
    return make_locator(
        shown,
        mode,
        roi,
        least_likeness=0.5,
        most_outside=most_outside,
        most_scale=most_scale,
    )


def found(pixels: NDArray[np.uint8], by: Locator) -> Located:
    return locate(pixels, by, reference_box(by, None))


EACH_MODE = pytest.mark.parametrize(
    ("mode", "most_turn_deg"),
    [(AlignMode.SHIFT, 0.0), (AlignMode.SHIFT_ROTATION, 45.0), (AlignMode.FULL_ROTATION, 180.0)],
)


@EACH_MODE
def test_a_part_is_found_to_a_hundredth_of_its_side_and_a_degree(
    mode: AlignMode, most_turn_deg: float
) -> None:
    random = np.random.default_rng(1)
    by = locator(mode)
    for number in range(12):
        laid = anywhere(random, most_turn_deg)
        pose = found(bracket(laid, seed=number), by).pose
        assert pose.x == pytest.approx(laid.x, abs=0.01 * ROI.width)
        assert pose.y == pytest.approx(laid.y, abs=0.01 * ROI.width)
        assert (pose.angle_deg - laid.angle_deg + 180) % 360 - 180 == pytest.approx(0, abs=1)


@EACH_MODE
def test_a_larger_or_smaller_part_is_found_to_a_hundredth_of_its_size(
    mode: AlignMode, most_turn_deg: float
) -> None:
    random = np.random.default_rng(2)
    by = locator(mode, most_scale=0.1)
    for number, scale in enumerate([0.9, 0.93, 0.97, 1.0, 1.04, 1.08, 1.1]):
        laid = anywhere(random, most_turn_deg)
        pixels = resized_bracket(laid, scale, number)
        pose = found(pixels, by).pose
        assert (pose.x, pose.y) == pytest.approx((laid.x, laid.y), abs=0.01 * ROI.width)
        assert (pose.angle_deg - laid.angle_deg + 180) % 360 - 180 == pytest.approx(0, abs=1)
        assert pose.scale == pytest.approx(scale, abs=0.01)
        with pytest.raises(FrameUnsuitable):  # never taken for one that lies the other way
            found(np.ascontiguousarray(pixels[:, ::-1]), by)


@pytest.mark.parametrize("scale", [0.8, 0.85, 1.15, 1.25])
def test_a_part_beyond_the_sizes_that_are_searched_is_not_found(scale: float) -> None:
    for angle in (0.0, 33.0, 171.0):
        with pytest.raises(PartNotFound):
            found(
                resized_bracket(Laid(WIDTH / 2, HEIGHT / 2, angle), scale), locator(most_scale=0.1)
            )


def test_grey_and_large_frames_are_searched_alike() -> None:
    laid = Laid(130, 95, -70)
    grey = cv2.cvtColor(bracket(laid), cv2.COLOR_BGR2GRAY)
    assert found(grey, locator()).pose.angle_deg == pytest.approx(-70, abs=1)
    large, wide = (
        cv2.resize(bracket(one), None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
        for one in (MIDDLE, laid)
    )
    roi = Crop(x=6 * ROI.x, y=6 * ROI.y, width=6 * ROI.width, height=6 * ROI.height)
    pose = found(wide, locator(image=large, roi=roi)).pose
    assert (pose.x, pose.y) == pytest.approx((780, 570), abs=6)


def disc() -> NDArray[np.uint8]:
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    for radius, level in ((40, 180), (28, 60), (12, 200)):
        cv2.circle(image, (WIDTH // 2, HEIGHT // 2), radius, (level,) * 3, cv2.FILLED, cv2.LINE_AA)
    noise = np.random.default_rng(2).normal(0, 2, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def test_a_round_part_has_no_angle_but_a_place() -> None:
    roi = Crop(x=WIDTH // 2 - 48, y=HEIGHT // 2 - 48, width=96, height=96)
    turned = locator(AlignMode.FULL_ROTATION, disc(), roi)
    with pytest.raises(PartAmbiguous, match="--align shift"):
        found(disc(), turned)
    shifted = np.roll(disc(), (7, -20), (0, 1))
    pose = found(shifted, locator(AlignMode.SHIFT, disc(), roi)).pose
    assert (pose.x, pose.y, pose.angle_deg) == (WIDTH / 2 - 20, HEIGHT / 2 + 7, 0.0)


def gear(teeth: int) -> NDArray[np.uint8]:
    angles = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    radius = 4 * (60 + 5 * np.sign(np.sin(teeth * angles)))
    points = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1) + 4 * 90
    image = np.full((4 * HEIGHT, 4 * HEIGHT), 90, np.uint8)
    cv2.fillPoly(image, [np.rint(points).astype(np.int32)], (180,))
    return np.asarray(cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize("teeth", [3, 4, 18, 32])
def test_a_part_that_looks_alike_a_tooth_further_is_ambiguous_at_every_pitch(teeth: int) -> None:
    roi = Crop(x=16, y=16, width=148, height=148)
    with pytest.raises(PartAmbiguous, match="could lie in two ways"):
        found(gear(teeth), locator(AlignMode.FULL_ROTATION, gear(teeth), roi))


def two() -> NDArray[np.uint8]:
    return np.hstack([bracket(MIDDLE), bracket(Laid(WIDTH / 2, HEIGHT / 2, 60), seed=1)])


def stripes() -> NDArray[np.uint8]:
    columns = np.arange(WIDTH)[None, :, None] + np.zeros((HEIGHT, 1, 3))
    return (128 + 90 * np.sin(columns / 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("pixels", "fault", "reason"),
    [
        (two(), PartAmbiguous, "two ways"),
        (bracket(MIDDLE)[:, ::-1].copy(), FrameUnsuitable, None),  # mirrored
        (bracket(Laid(WIDTH + 5, HEIGHT / 2, 30)), FrameUnsuitable, None),
        (bracket(Laid(45, HEIGHT / 2, 0)), PartNotFound, "lies outside"),
        (np.full((HEIGHT, WIDTH, 3), 90, np.uint8), PartNotFound, "not found"),
        (stripes(), FrameUnsuitable, None),
        (bracket(MIDDLE)[60:100, 90:150].copy(), FrameUnsuitable, None),  # smaller than the part
        (
            np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8),
            PartNotFound,
            None,
        ),
    ],
)
def test_what_is_not_the_part_is_never_taken_for_it(
    pixels: NDArray[np.uint8], fault: type[Exception], reason: str | None
) -> None:
    with pytest.raises(fault, match=reason):
        found(pixels, locator())


@pytest.mark.parametrize(
    ("image", "roi", "reason"),
    [
        (np.full((HEIGHT, WIDTH, 3), 90, np.uint8), ROI, "contrast"),
        (bracket(MIDDLE), Crop(x=200, y=100, width=100, height=68), "does not fit"),
        (bracket(MIDDLE), Crop(x=20, y=20, width=200, height=8), "too narrow"),
    ],
)
def test_a_useless_reference_is_refused(image: NDArray[np.uint8], roi: Crop, reason: str) -> None:
    with pytest.raises(FrameUnsuitable, match=reason):
        locator(image=image, roi=roi)


def test_a_repetitive_reference_is_ambiguous_in_its_own_image() -> None:
    with pytest.raises(PartAmbiguous, match="something in it that is there once") as refused:
        found(stripes(), locator(AlignMode.SHIFT, stripes()))
    assert "--align shift" not in str(refused.value)  # it is set


@pytest.mark.parametrize("mode", list(AlignMode))
def test_two_parts_that_lie_alike_are_no_matter_of_their_angle(mode: AlignMode) -> None:
    alike = np.hstack([bracket(MIDDLE), bracket(MIDDLE, seed=1)])
    with pytest.raises(PartAmbiguous, match=r" 0° apart.*one part at a time.*there once") as bad:
        found(alike, locator(mode))
    assert "symmetric" not in str(bad.value)


def test_a_part_that_is_cut_off_is_not_blamed_on_the_reference_alone() -> None:
    cut = bracket(MIDDLE)[60:120, 80:160].copy()
    with pytest.raises(PartNotFound, match=r"29\.\d% of what .* Show the whole part"):
        found(cut, locator())
    # Where that is agreed, it is found where it lies.
    pose = found(cut, locator(most_outside=0.5)).pose
    assert (pose.x, pose.y, pose.angle_deg) == pytest.approx((40, 30, 0), abs=0.5)


def test_a_mask_of_another_size_than_the_reference_is_refused_with_both() -> None:
    spec = InputSpec(
        height=64,
        width=96,
        pixel_formats=(PixelFormat.BGR8,),
        locator=locator(),
        areas=Areas(width=320, height=240, ignore=(((0, 0), (9, 0), (9, 9)),)),
    )
    with pytest.raises(AreasUnusable) as refused:
        demand_areas(spec, MapScore(cells=1), (8, 12))
    assert str(refused.value) == (
        "the mask was drawn on an image of 320×240, the reference image has 240×180. Draw it on "
        "the reference image."
    )


def test_a_reference_larger_than_the_frame_is_named_as_the_cause() -> None:
    large = cv2.resize(bracket(MIDDLE), None, fx=4, fy=4)
    roi = Crop(x=4 * ROI.x, y=4 * ROI.y, width=4 * ROI.width, height=4 * ROI.height)
    with pytest.raises(PartNotFound, match="400×272 pixels, is larger than the frame of 240×180"):
        found(bracket(MIDDLE), locator(image=large, roi=roi))


def test_what_lies_outside_is_inspected_only_where_that_is_agreed() -> None:
    pixels = bracket(Laid(45, HEIGHT / 2, 0))
    assert found(pixels, locator(most_outside=0.1)).outside == pytest.approx(0.05, abs=0.01)


def test_a_shift_by_whole_pixels_is_the_very_crop() -> None:
    pixels, out, plain = bracket(MIDDLE), *(np.empty((40, 56, 3), np.uint8) for _ in range(2))
    pose = PartPose(x=60, y=40, angle_deg=0.0, pivot_x=50, pivot_y=50)
    warp_area(pixels, pose, Box(20, 30, 100, 68), out)
    resize_area(pixels, Box(30, 20, 100, 68), plain)
    assert np.array_equal(out, plain)


def test_an_aligned_part_looks_as_in_the_reference() -> None:
    spec = InputSpec(height=68, width=100, pixel_formats=(PixelFormat.BGR8,), locator=locator())
    seen = []
    for laid in (MIDDLE, Laid(100, 80, 133)):
        view = view_frame(bracket(laid), spec)
        seen.append(np.empty((68, 100, 3), np.uint8))
        view.fill(0, seen[-1])
    difference = np.abs(seen[0].astype(float) - seen[1])
    assert difference.mean() < 4.0  # noise and edges; unaligned it is above 30


def test_a_larger_part_is_shown_as_large_as_in_the_reference() -> None:
    spec = InputSpec(
        height=68,
        width=100,
        pixel_formats=(PixelFormat.BGR8,),
        locator=locator(most_scale=0.1),
    )
    seen = []
    for pixels in (bracket(MIDDLE), resized_bracket(Laid(100, 80, 133), 1.09)):
        view = view_frame(pixels, spec)
        seen.append(np.empty((68, 100, 3), np.uint8))
        view.fill(0, seen[-1])
    assert np.abs(seen[0].astype(float) - seen[1]).mean() < 4.0


def test_what_lies_outside_of_a_larger_part_is_its_share() -> None:
    box = Box(70, 56, 100, 68)
    pose = PartPose(x=0, y=90, angle_deg=0, pivot_x=120, pivot_y=90, scale=1.1)
    assert pose.outside(box, (HEIGHT, WIDTH)) == pytest.approx(0.5)
    assert pose.outside(box, (400, 60)) == pytest.approx(0.5)
    assert pose.enclosing(box, (HEIGHT, WIDTH)) == Box(0, 52, 55, 76)


def test_masks_and_maps_go_there_and_back() -> None:
    box = Box(70, 56, 100, 68)
    pose = PartPose(x=110, y=80, angle_deg=40, pivot_x=120, pivot_y=90, scale=1.08)
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[70:84, 96:112] = True
    back = mapped_back(
        aligned_mask(mask, pose, box).astype(np.float32),
        pose,
        box,
        Box(0, 0, WIDTH, HEIGHT),
        fill=-1.0,
    )
    assert ((back > 0.5) != mask).sum() < 0.25 * mask.sum()  # its edges alone
    assert back[0, 0] == -1.0


@pytest.fixture(scope="module")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> Inspector:
    """Of a network whose map is the difference from mid-grey, taught the aligned part's."""
    bundle = load_bundle(write_bundle(tmp_path_factory.mktemp("bundle")))
    spec = bundle.manifest.input.model_copy(update={"locator": locator()})
    manifest = bundle.manifest.model_copy(update={"input": spec})
    # Of the part alone nothing is as far from mid-grey as the spot.
    threshold = manifest.threshold.model_copy(update={"image": 75.0, "pixel": 75.0})
    manifest = manifest.model_copy(update={"threshold": threshold})
    return Inspector(Detector(CompiledModel(bundle)), manifest)


def sent(inspection: Inspection) -> dict[str, Any]:
    """Return the message of a verdict, checked against its schema."""
    content: dict[str, Any] = json.loads(
        to_json(payload(sample_verdict(inspection), IDENTITY, None))
    )
    Draft202012Validator(SCHEMA).validate(content)
    return content


def inspect(inspector: Inspector, pixels: NDArray[np.uint8]) -> Inspection:
    return inspector.inspect(Frame(pixels=pixels, number=1, captured_ns=0, captured_utc_ns=0))


def test_a_defect_of_a_turned_part_is_shown_where_it_lies_in_the_frame(
    inspector: Inspector,
) -> None:
    laid = Laid(105, 96, -110)
    spotted = bracket(laid)
    x, y = placed(laid, DEFECT)
    cv2.circle(spotted, (round(x), round(y)), 6, (255, 255, 255), cv2.FILLED)
    inspection = inspect(inspector, spotted)
    assert inspection.decision.result is Result.NOK
    (region,) = inspection.regions
    assert (region.x + region.width / 2, region.y + region.height / 2) == pytest.approx(
        (x, y), abs=5
    )
    place, shown = inspection.placement, inspection.anomaly_map
    assert place is not None and shown is not None
    row, column = np.unravel_index(shown.argmax(), shown.shape)
    peak = (
        place.x + (column + 0.5) * place.width / shown.shape[1],
        place.y + (row + 0.5) * place.height / shown.shape[0],
    )
    assert peak == pytest.approx((x, y), abs=7)
    assert inspection.anomaly_map is not shown  # it is made for who asks
    assert draw_overlay(spotted, inspection).shape == spotted.shape


def test_the_verdict_says_where_the_part_lies(inspector: Inspector) -> None:
    content = sent(inspect(inspector, bracket(Laid(105, 96, -110))))
    assert content["locator"]["angle_deg"] == pytest.approx(-110, abs=1)
    assert content["locator"]["x"] == pytest.approx(105, abs=1)
    assert content["locator"]["outside"] == 0.0
    assert "scale" not in content["locator"]


def test_the_verdict_says_how_large_the_part_is_where_that_is_searched(
    inspector: Inspector,
) -> None:
    spec = inspector.criteria.input.model_copy(update={"locator": locator(most_scale=0.1)})
    sized = inspector.deciding_by(replace(inspector.criteria, input=spec))
    laid = Laid(105, 96, -110)
    pixels = resized_bracket(laid, 0.92)
    x, y = laid.x, laid.y + 9
    cv2.circle(pixels, (round(x), round(y)), 4, (255, 255, 255), cv2.FILLED)
    inspection = inspect(sized, pixels)
    content = sent(inspection)
    assert content["locator"]["scale"] == pytest.approx(0.92, abs=0.01)
    (region,) = inspection.regions
    assert (region.x + region.width / 2, region.y + region.height / 2) == pytest.approx(
        (x, y), abs=5
    )
    assert region.area_px == pytest.approx(np.pi * 16, rel=0.6)


@pytest.mark.parametrize(
    ("pixels", "reason", "code"),
    [
        (np.full((HEIGHT, WIDTH, 3), 90, np.uint8), Reason.PART_NOT_FOUND, 22),
        (two(), Reason.PART_AMBIGUOUS, 23),
    ],
)
def test_a_part_that_is_not_found_is_an_error(
    inspector: Inspector, pixels: NDArray[np.uint8], reason: Reason, code: int
) -> None:
    inspection = inspect(inspector, pixels)
    assert (inspection.decision.result, inspection.decision.reason) == (Result.ERROR, reason)
    content = sent(inspection)
    assert content["reason_code"] == code
    assert "locator" not in content


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"reference": "AAAA"}, "3 bytes"),
        ({"reference": "ä" * 8}, "base64"),
        ({"frame_width": 100}, "inside"),
        ({"reference_height": 97}, "96"),
        ({"roi": {"x": 0, "y": 0, "width": 20, "height": 20}}, "smaller"),
        ({"least_likeness": 0.0}, "0.2"),
        ({"most_scale": 0.2}, "0.1"),
        ({"most_scale": 0.1}, "no size is certain"),
    ],
)
def test_a_locator_that_nobody_wrote_is_refused(change: dict[str, object], fault: str) -> None:
    document = json.loads(locator().model_dump_json()) | change
    with pytest.raises(ValidationError, match=fault):
        Locator.model_validate_json(json.dumps(document), strict=True)


def test_a_locator_of_before_sizes_were_searched_is_read_as_one_that_searches_none() -> None:
    document = json.loads(locator().model_dump_json())
    del document["most_scale"]
    assert Locator.model_validate_json(json.dumps(document), strict=True) == locator()
