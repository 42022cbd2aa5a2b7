"""Overlay images: readable on any frame, and the frame stays as it was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.input_spec import Areas, Crop, Zone
from edge.bundle.loading import load_bundle
from edge.contract.verdict import Verdict
from edge.imaging.frame import Box, Frame, FrameStatus, Pixels
from edge.imaging.image_files import read_image
from edge.imaging.pose import PartPose
from edge.inspection.alignment import Located
from edge.inspection.criteria import Limits, decision_criteria
from edge.inspection.decision import Result
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.inspector import Inspector
from edge.inspection.overlay import COLOURS, GREY, WHITE, draw_overlay
from edge.inspection.zones import ZoneDecision
from edge.station.images.overlay_folder import OverlayWriter, file_name
from tests.support.small_bundle import defective_image, good_image


@pytest.fixture(scope="module")
def inspector(bundle: Path) -> Inspector:
    loaded = load_bundle(bundle)
    return Inspector(Detector(CompiledModel(loaded)), loaded.manifest)


def overlay(inspector: Inspector, pixels: Pixels) -> np.ndarray:
    inspection = inspector.inspect(Frame(pixels=pixels, number=1, captured_ns=0, captured_utc_ns=0))
    return draw_overlay(pixels, inspection)


def test_a_defect_is_coloured_where_it_is_and_nowhere_else(inspector: Inspector) -> None:
    pixels = defective_image(1, 480, 640)

    drawn = overlay(inspector, pixels)

    changed = np.abs(drawn.astype(int) - pixels).max(axis=2) > 40
    changed[:60] = False  # the label
    rows, columns = np.nonzero(changed)
    assert drawn.shape == (480, 640, 3)
    assert rows.max() < 210
    assert columns.min() > 390 and columns.max() < 570


def test_a_good_part_is_only_labelled(inspector: Inspector) -> None:
    pixels = good_image(1, 480, 640)

    drawn = overlay(inspector, pixels)

    assert np.array_equal(drawn[60:], pixels[60:])
    assert not np.array_equal(drawn[:60], pixels[:60])


def test_what_is_ignored_and_zones_are_outlined_where_the_part_lies(inspector: Inspector) -> None:
    pixels = good_image(1, 480, 640)
    frame = Frame(pixels=pixels, number=1, captured_ns=0, captured_utc_ns=0)
    square = ((100.0, 100.0), (200.0, 100.0), (200.0, 200.0), (100.0, 200.0))
    zones = [
        Zone(name=name, polygon=tuple((x + right, y) for x, y in square))
        for name, right in (("face", 0.0), ("bore", 150.0))
    ]
    label = ((100.0, 250.0), (200.0, 250.0), (200.0, 300.0), (100.0, 300.0))
    # A quarter turn about (240, 240): what lay at (x, y) of the reference lies at (480 - y, x).
    pose = PartPose(x=240.0, y=240.0, angle_deg=90.0, pivot_x=240.0, pivot_y=240.0)
    inspection = replace(
        inspector.inspect(frame),
        located=Located(pose=pose, likeness=1.0, outside=0.0),
        map_box=Box(90, 90, 300, 300),
        areas=Areas(width=640, height=480, ignore=(label,), zones=tuple(zones)),
        zones=(
            ZoneDecision(
                name="bore", result=Result.NOK, score=2.0, threshold=1.0, normalized_score=0.9
            ),
        ),
    )

    drawn = draw_overlay(pixels, inspection)

    def shows(x: int, y: int, colour: tuple[int, int, int]) -> bool:
        """Tell whether a colour is drawn where a point of the reference lies."""
        column, row = 480 - y, x
        around = drawn[row - 2 : row + 3, column - 2 : column + 3].astype(int)
        return bool((np.abs(around - colour).max(axis=2) < 30).any())

    assert shows(150, 100, WHITE)  # the zone that is good
    assert shows(300, 100, COLOURS[Result.NOK])  # and the one that rejected
    assert shows(150, 250, GREY)  # what is ignored
    assert shows(240, 90, WHITE)  # the region that was looked for
    assert np.array_equal(drawn[440:, 560:], pixels[440:, 560:])


def test_the_name_of_a_zone_is_on_a_plate_inside_the_image(inspector: Inspector) -> None:
    pixels = good_image(1, 480, 640)
    frame = Frame(pixels=pixels, number=1, captured_ns=0, captured_utc_ns=0)
    corner = ((600.0, 0.0), (640.0, 0.0), (640.0, 60.0), (600.0, 60.0))
    inspection = replace(
        inspector.inspect(frame),
        areas=Areas(width=640, height=480, zones=(Zone(name="sealing face", polygon=corner),)),
        zones=(
            ZoneDecision(
                name="sealing face",
                result=Result.NOK,
                score=2.0,
                threshold=1.0,
                normalized_score=0.9,
            ),
        ),
    )

    drawn = draw_overlay(pixels, inspection)

    plate = (drawn[:24, 500:] == COLOURS[Result.NOK]).all(axis=2)
    rows, columns = np.nonzero(plate)
    assert plate.sum() > 600
    assert np.ptp(rows) + 1 >= 14 and np.ptp(columns) + 1 >= 70


def test_the_frame_itself_is_not_drawn_on(inspector: Inspector) -> None:
    pixels = defective_image()
    before = pixels.copy()

    overlay(inspector, pixels)

    assert np.array_equal(pixels, before)


@pytest.mark.parametrize(
    "pixels",
    [
        good_image()[:, :, 0],
        good_image().astype(np.uint16) * 200,
        good_image()[:, :, [0, 1, 2, 0]],
        np.zeros((50, 60), np.uint16),
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((2, 3000), np.uint8),
        np.zeros((3000, 2), np.uint8),
        np.empty((0, 0), np.uint8),
        defective_image(1, 16, 16),
    ],
    ids=lambda pixels: f"{pixels.shape} {pixels.dtype}",
)
def test_every_frame_gives_an_image_with_a_label(inspector: Inspector, pixels: Pixels) -> None:
    drawn = overlay(inspector, pixels)

    assert drawn.dtype == np.uint8 and drawn.ndim == 3 and drawn.shape[2] == 3
    assert drawn.shape[1] >= 240 and drawn.shape[0] >= 20
    assert len(np.unique(drawn[:20].reshape(-1, 3), axis=0)) > 3


def test_a_defect_in_a_crop_is_drawn_at_its_place_in_the_frame(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    crop = Crop(x=320, y=0, width=320, height=240)
    inspector = Inspector(Detector(CompiledModel(loaded)), loaded.manifest, Limits(crop=crop))
    pixels = defective_image(1, 480, 640)

    drawn = overlay(inspector, pixels)

    changed = np.abs(drawn.astype(int) - pixels).max(axis=2) > 40
    changed[:60] = False
    _, columns = np.nonzero(changed)
    assert columns.min() > 390 and columns.max() < 570


def test_a_map_is_drawn_by_what_its_part_was_decided_with_whatever_has_changed_since(
    bundle: Path, tmp_path: Path
) -> None:
    loaded = load_bundle(bundle)
    before = Inspector(Detector(CompiledModel(loaded)), loaded.manifest)
    limits = Limits(pixel_threshold=3 * loaded.manifest.threshold.pixel)
    after = before.deciding_by(decision_criteria(loaded.manifest, limits))
    writer = OverlayWriter(tmp_path)

    def written(inspector: Inspector, number: int) -> bytes:
        frame = Frame(
            pixels=defective_image(1, 480, 640), number=number, captured_ns=0, captured_utc_ns=0
        )
        one = Verdict(
            id="",
            inspection=inspector.inspect(frame),
            frame=frame,
            decided_ns=0,
            decided_utc_ns=0,
            inspection_started_ns=0,
        )
        writer.write(one)
        return read_image(tmp_path / file_name(one)).tobytes()

    first = written(before, 1)
    assert written(after, 2) != first
    assert written(before, 3) == first  # in work when the threshold changed


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (None, "000007_ERROR.jpg"),
        ("file:///data/good%201.png", "000007_good-1_ERROR.jpg"),
        ("file:///data/" + "x" * 200 + ".png", "000007_" + "x" * 80 + "_ERROR.jpg"),
        ("file:///data/" + "가" * 83 + ".png", "000007_" + "가" * 66 + "_ERROR.jpg"),
    ],
)
def test_files_are_named_by_part_source_and_result(
    inspector: Inspector, source: str | None, expected: str
) -> None:
    frame = Frame(
        pixels=np.empty((0, 0), np.uint8),
        number=7,
        captured_ns=0,
        captured_utc_ns=0,
        status=FrameStatus.INCOMPLETE,
        source=source,
    )

    assert (
        file_name(
            Verdict(
                id="",
                inspection=inspector.inspect(frame),
                frame=frame,
                decided_ns=0,
                decided_utc_ns=0,
                inspection_started_ns=0,
            )
        )
        == expected
    )
