"""Parts with a texture of their own are found by what they have in common."""

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.bundle.input_spec import AlignMode, Crop, Locator
from edge.errors import FrameUnsuitable
from edge.imaging.pose import PartPose
from edge.inspection.alignment import locate, reference_box, reference_image
from edge.teaching.part_reference import LocatorChoice, SeenImage, most_typical, tried_locator
from tests.support.turned_part import moved

SIZE, PLATE = (200, 260), (84, 60)
LEFT, TOP = (SIZE[1] - PLATE[0]) // 2, (SIZE[0] - PLATE[1]) // 2
ROI = Crop(x=LEFT - 4, y=TOP - 4, width=PLATE[0] + 8, height=PLATE[1] + 8)
CHOICE = LocatorChoice(mode=AlignMode.SHIFT_ROTATION, roi=ROI)


def plate(seed: int) -> NDArray[np.uint8]:
    """Return ``(H, W) uint8``: a ground plate on a white belt, with a grain that no other has."""
    random = np.random.default_rng(seed)
    grain = cv2.GaussianBlur(random.normal(0, 1, PLATE[::-1]), (0, 0), 5.0)
    image = np.full(SIZE, 235.0)
    image[TOP : TOP + PLATE[1], LEFT : LEFT + PLATE[0]] = 110 + 24 * grain / grain.std()
    return np.clip(image + random.normal(0, 2, SIZE), 0, 255).astype(np.uint8)


def found(by: Locator, seeds: range) -> list[tuple[float, float]]:
    """Return the errors of plates that are found, in shares of the longest side and degrees."""
    errors = []
    for seed in seeds:
        random = np.random.default_rng(1000 + seed)
        pose = PartPose(
            x=SIZE[1] / 2 + random.uniform(-40, 40),
            y=SIZE[0] / 2 + random.uniform(-25, 25),
            angle_deg=random.uniform(-40, 40),
            pivot_x=SIZE[1] / 2,
            pivot_y=SIZE[0] / 2,
        )
        try:
            place = locate(moved(plate(seed), pose), by, reference_box(by, None)).pose
        except FrameUnsuitable:
            continue
        off = math.hypot(place.x - pose.x, place.y - pose.y) / ROI.width
        errors.append((off, abs(place.angle_deg - pose.angle_deg)))
    return errors


def test_what_plates_have_in_common_finds_more_of_them_and_none_wrongly() -> None:
    images = [SeenImage(f"{seed}.png", plate(seed)) for seed in range(12)]
    common, name = most_typical(images, CHOICE)
    single = tried_locator(images[int(name.partition(".")[0])], CHOICE)
    assert single.model_copy(update={"reference": common.reference}) == common
    # The grain is gone, the outline is there.
    inside = (slice(12, -12), slice(12, -12))
    grains = [float(reference_image(one)[inside].std()) for one in (common, single)]
    assert grains[0] < 0.5 * grains[1]
    others = range(100, 130)
    by_common, by_single = found(common, others), found(single, others)
    assert len(by_common) > 0.8 * len(others) and len(by_single) < 0.5 * len(others)
    for off, turn in by_common:
        assert off < 0.01 and turn < 1.0


def test_of_few_images_one_is_the_reference() -> None:
    images = [SeenImage(f"{seed}.png", plate(seed)) for seed in range(3)]
    common, name = most_typical(images, CHOICE)
    assert common == tried_locator(images[int(name.partition(".")[0])], CHOICE)


@pytest.mark.parametrize("seed", [3, 4])
def test_an_image_without_the_part_does_not_count(seed: int) -> None:
    images = [SeenImage(f"{seed}.png", plate(seed)) for seed in range(8)]
    belt = SeenImage("belt.png", np.full(SIZE, 235, np.uint8))
    assert most_typical([*images, belt], CHOICE) == most_typical(images, CHOICE)
