"""Masks and zones: what counts, what each zone scores, and who rejects."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.bundle.input_spec import Areas, Crop, TileSpec, Zone
from edge.bundle.loading import Bundle, load_bundle
from edge.bundle.manifest import Guarantee
from edge.contract.verdict import payload
from edge.imaging.frame import Frame, Pixels
from edge.inspection.areas import AreasUnusable, filled, ignored_pixels
from edge.inspection.criteria import Limits, decision_criteria, guarantee_in_force
from edge.inspection.decision import Decision, Reason, Result
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.inspector import Inspection, Inspector
from tests.edge.contract.test_verdict import VALIDATOR
from tests.support.sample_verdict import IDENTITY, sample_verdict
from tests.support.small_bundle import (
    CELLS,
    IMAGE_THRESHOLD,
    SIDE,
    defective_image,
    good_image,
    write_bundle,
)

WIDTH, HEIGHT = 160, 120
SPOT = ((100, 10), (140, 10), (140, 50), (100, 50))  # of defective_image, and around it
AWAY = ((0, 60), (80, 60), (80, 120), (0, 120))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(write_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Detector:
    return Detector(CompiledModel(bundle))


def drawn(**changes: Any) -> Areas:
    return Areas.model_validate({"width": WIDTH, "height": HEIGHT, **changes})


def zone(polygon: tuple[tuple[float, float], ...], name: str = "face", **limits: Any) -> Zone:
    return Zone(name=name, polygon=polygon, **limits)


def inspect(bundle: Bundle, detector: Detector, pixels: Pixels, areas: Areas | None) -> Inspection:
    limits = Limits(areas=areas, image_threshold=IMAGE_THRESHOLD)
    frame = Frame(pixels=pixels, number=1, captured_ns=0, captured_utc_ns=0)
    return Inspector(detector, bundle.manifest, limits).inspect(frame)


def test_a_polygon_holds_the_pixels_whose_centre_it_holds() -> None:
    inside = filled(((1, 1), (4, 1), (4, 3), (1, 3)), 5, 6)
    assert inside.sum() == 6 and inside[1:3, 1:4].all()
    triangle = filled(((0, 0), (4, 0), (0, 4)), 4, 4)
    # The diagonal runs through four centres; a side belongs to what lies to the right of it.
    assert triangle.sum() == 6


def test_a_drawn_mask_is_its_polygons_and_what_was_painted() -> None:
    areas = Areas(
        width=3, height=2, ignored_runs=(1, 2, 3), ignore=(((0, 1), (1, 1), (1, 2), (0, 2)),)
    )
    assert ignored_pixels(areas).tolist() == [[False, True, True], [True, False, False]]


def test_what_is_masked_rejects_no_part_and_is_not_shown(
    bundle: Bundle, detector: Detector
) -> None:
    pixels = defective_image()
    before = inspect(bundle, detector, pixels, None)
    assert before.decision == Decision(Result.NOK, Reason.SCORE_ABOVE) and before.regions
    masked = inspect(bundle, detector, pixels, drawn(ignore=(SPOT,)))
    assert masked.decision == Decision(Result.OK, Reason.SCORE_BELOW)
    assert not masked.regions and masked.anomaly_map is not None
    assert masked.score == masked.anomaly_map.max() < 10
    elsewhere = inspect(bundle, detector, pixels, drawn(ignore=(AWAY,)))
    assert elsewhere.decision.result is Result.NOK
    assert elsewhere.score == before.score and elsewhere.regions == before.regions


def test_a_zone_decides_by_its_own_limits_and_the_verdict_names_it(
    bundle: Bundle, detector: Detector
) -> None:
    pixels = defective_image()
    face, other = zone(SPOT, "sealing face"), zone(AWAY, "back", threshold=1.0)
    found = inspect(bundle, detector, pixels, drawn(zones=(face, other)))
    assert found.decision.result is Result.NOK
    assert found.detail == "rejected by zones 'sealing face', 'back'"
    lenient = zone(SPOT, threshold=200.0, pixel_threshold=300.0)
    passed = inspect(bundle, detector, pixels, drawn(zones=(lenient,)))
    assert passed.decision.result is Result.OK and not passed.regions and not passed.detail
    assert passed.score is not None and passed.score < IMAGE_THRESHOLD
    assert [one.result for one in passed.zones] == [Result.OK]
    undecided = zone(SPOT, threshold=passed.zones[0].score, guard_band=0.1)
    assert inspect(bundle, detector, pixels, drawn(zones=(undecided,))).decision == Decision(
        Result.NOT_DECIDABLE, Reason.NEAR_THRESHOLD
    )
    small = zone(SPOT, smallest_region_px=100_000)
    assert not inspect(bundle, detector, pixels, drawn(zones=(small,))).regions
    content = payload(sample_verdict(found), IDENTITY, None)
    VALIDATOR.validate(content)
    assert content["raw_score"] >= content["raw_threshold"]
    assert [(one["name"], one["result"]) for one in content["zones"]] == [
        ("sealing face", "NOK"),
        ("back", "NOK"),
    ]
    assert "zones" not in payload(
        sample_verdict(inspect(bundle, detector, pixels, None)), IDENTITY, None
    )


def test_the_detail_names_what_makes_the_verdict(bundle: Bundle, detector: Detector) -> None:
    pixels = defective_image()
    scored = inspect(bundle, detector, pixels, drawn(zones=(zone(SPOT), zone(AWAY, "away"))))
    spot, away = (one.score for one in scored.zones)
    unsure = zone(AWAY, "away", threshold=away, guard_band=0.1)
    found = inspect(bundle, detector, pixels, drawn(zones=(zone(SPOT, "face"), unsure)))
    assert [one.result for one in found.zones] == [Result.NOK, Result.NOT_DECIDABLE]
    assert found.decision.result is Result.NOK and found.detail == "rejected by zone 'face'"
    outside = inspect(bundle, detector, pixels, drawn(zones=(unsure,)))
    assert [one.result for one in outside.zones] == [Result.NOT_DECIDABLE]
    assert outside.decision.result is Result.NOK
    assert outside.detail == "rejected outside of the zones"
    lenient = zone(SPOT, "face", threshold=2 * spot)
    undecided = inspect(bundle, detector, pixels, drawn(zones=(lenient, unsure)))
    assert undecided.decision.result is Result.NOT_DECIDABLE
    assert undecided.detail == "undecided in zone 'away'"
    masked = inspect(bundle, detector, pixels, drawn(ignore=(AWAY,)))
    assert masked.decision.result is Result.NOK and masked.detail == ""


def test_overlapping_zones_each_decide_by_all_that_lies_in_them(
    bundle: Bundle, detector: Detector
) -> None:
    lenient = zone(SPOT, "lenient", threshold=200.0)
    strict = zone(((90, 0), (150, 0), (150, 60), (90, 60)), "strict")
    found = inspect(bundle, detector, defective_image(), drawn(zones=(lenient, strict)))
    assert [one.result for one in found.zones] == [Result.OK, Result.NOK]
    assert found.decision.result is Result.NOK and found.detail == "rejected by zone 'strict'"


def test_all_that_counts_scores_what_the_network_says(bundle: Bundle, detector: Detector) -> None:
    """A zone over everything, without limits of its own, changes nothing."""
    everything = zone(((0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT)))
    for pixels in (good_image(3), defective_image(4)):
        plain = inspect(bundle, detector, pixels, None)
        zoned = inspect(bundle, detector, pixels, drawn(zones=(everything,)))
        assert zoned.score == plain.score and zoned.decision == plain.decision
        assert zoned.regions == plain.regions


def test_tiles_are_masked_each_by_its_part(tmp_path: Path) -> None:
    path = write_bundle(tmp_path, tile_plan=TileSpec(height=SIDE, width=SIDE, overlap=0.25))
    tiled = load_bundle(path)
    detector = Detector(CompiledModel(tiled))
    pixels = defective_image()
    assert inspect(tiled, detector, pixels, None).decision.result is Result.NOK
    assert inspect(tiled, detector, pixels, drawn(ignore=(SPOT,))).decision.result is Result.OK
    # All of the left tiles is ignored, and none of them counts.
    left: tuple[tuple[float, float], ...] = ((0, 0), (90, 0), (90, HEIGHT), (0, HEIGHT))
    found = inspect(tiled, detector, pixels, drawn(ignore=(left,)))
    assert found.score == inspect(tiled, detector, pixels, None).score


def test_a_frame_of_another_size_is_an_error(bundle: Bundle, detector: Detector) -> None:
    found = inspect(bundle, detector, good_image(0, 240, 320), drawn(ignore=(SPOT,)))
    assert found.decision == Decision(Result.ERROR, Reason.FRAME_INCOMPLETE)
    assert "160×120" in found.detail and "320×240" in found.detail


def test_numbers_that_are_not_finite_are_an_error_under_a_mask_too(bundle: Bundle) -> None:
    from tests.edge.inspection.test_inspector import Says

    anomaly_map = np.zeros((CELLS, CELLS), np.float32)
    anomaly_map[3, 12] = np.nan  # under the mask
    found = Inspector(
        Says(0.0, anomaly_map),
        bundle.manifest,
        Limits(areas=drawn(ignore=(SPOT,)), image_threshold=1.0),
    ).inspect(Frame(pixels=good_image(), number=1, captured_ns=0, captured_utc_ns=0))
    assert found.decision == Decision(Result.ERROR, Reason.MODEL_ERROR)


@pytest.mark.parametrize(
    ("changes", "limits", "words"),
    [
        ({"ignore": (((0, 0), (160, 0), (160, 120), (0, 120)),)}, {}, "covers everything"),
        ({"ignore": (AWAY,)}, {"crop": Crop(x=0, y=60, width=80, height=60)}, "covers everything"),
        ({"zones": (zone(SPOT),), "ignore": (SPOT,)}, {}, "zone face: nothing of it is inspected"),
        ({"zones": (zone(((0, 0), (2, 0), (2, 2), (0, 2))),)}, {}, "10×8 pixels"),
        ({"zones": (zone(SPOT),)}, {"crop": Crop(x=0, y=60, width=80, height=60)}, "zone face"),
        ({"ignore": (AWAY,)}, {"crop": Crop(x=100, y=60, width=80, height=60)}, "does not fit"),
        ({"ignore": (AWAY,)}, {"image_threshold": None}, "train-station calibrate"),
    ],
)
def test_a_mask_that_cannot_be_used_is_refused_before_the_first_frame(
    bundle: Bundle, changes: dict[str, Any], limits: dict[str, Any], words: str
) -> None:
    given = {"image_threshold": 1.0, **limits}
    with pytest.raises(AreasUnusable, match=words):
        decision_criteria(bundle.manifest, Limits(areas=drawn(**changes), **given))


def test_a_model_whose_score_is_not_of_its_map_takes_no_mask(bundle: Bundle) -> None:
    output = bundle.manifest.output.model_copy(update={"map_score": None})
    manifest = bundle.manifest.model_copy(update={"output": output})
    with pytest.raises(AreasUnusable, match="score comes from its map"):
        decision_criteria(manifest, Limits(areas=drawn(ignore=(AWAY,)), image_threshold=1.0))


def test_a_mask_of_the_bundle_needs_no_threshold_of_the_site(bundle: Bundle) -> None:
    own = drawn(ignore=(AWAY,), zones=(zone(SPOT, threshold=30.0),))
    spec = bundle.manifest.input.model_copy(update={"areas": own})
    manifest = bundle.manifest.model_copy(update={"input": spec})
    assert decision_criteria(manifest).input.areas == own
    # Limits of the zones may change: the threshold does not rest on them.
    moved = drawn(ignore=(AWAY,), zones=(zone(SPOT, "new", threshold=40.0),))
    assert decision_criteria(manifest, Limits(areas=moved)).input.areas == moved
    with pytest.raises(AreasUnusable, match="another mask"):
        decision_criteria(manifest, Limits(areas=drawn(zones=own.zones)))


@pytest.mark.parametrize(
    ("limits", "own_areas", "holds"),
    [
        (Limits(), None, True),
        (Limits(smallest_region_px=40, pixel_threshold=9.0), None, True),
        (Limits(), drawn(ignore=(AWAY,)), True),
        (Limits(image_threshold=1.0), None, False),
        (Limits(guard_band=0.02), None, False),
        (Limits(crop=Crop(x=0, y=0, width=80, height=60)), None, False),
        (Limits(), drawn(ignore=(AWAY,), zones=(zone(SPOT, threshold=30.0),)), False),
    ],
)
def test_a_guarantee_holds_while_parts_are_decided_as_its_images_were(
    bundle: Bundle, limits: Limits, own_areas: Areas | None, holds: bool
) -> None:
    given = Guarantee(of="false_reject_rate", rate=0.103, confidence=0.95, count=100)
    own = bundle.manifest
    manifest = own.model_copy(
        update={
            "threshold": own.threshold.model_copy(update={"guarantee": given}),
            "input": own.input.model_copy(update={"areas": own_areas}),
        }
    )
    found = guarantee_in_force(manifest, decision_criteria(manifest, limits))
    assert found == (given if holds else None)
    assert guarantee_in_force(own, decision_criteria(own)) is None
