"""Sample part images rendered by the project: good parts and six kinds of defect, with masks."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import OutputNotWritable
from training.data.rendered_defects import SPOIL, Defect, missing_hole_mask
from training.data.rendered_light import (
    LENS_REACH_PX,
    Lamp,
    Lighting,
    draw_belt,
    draw_sensor_noise,
    expose,
    shade,
)
from training.data.rendered_surface import (
    FIELD_OF_VIEW_MM,
    FLANGE,
    PartDesign,
    Pose,
    draw_machining,
    turned_surface,
)

__all__ = ["Defect", "ImageCounts", "RenderedPart", "Variation", "render_part", "write_dataset"]


@dataclass(frozen=True, slots=True)
class RenderedPart:
    """One image and what is wrong in it.

    Attributes:
        pixels: ``(H, W, 3) uint8`` BGR.
        mask: ``(H, W) uint8``; 255 where the defect changed the image, else 0.
        defect: None for a good part.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    defect: Defect | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """How much good parts differ; each value is the half-width of a uniform spread.

    Attributes:
        rotation_deg, shift_mm, scale: how the part is placed; scale as a share.
        lamp_deg, lamp_strength: direction of the lamps, their strength as a share.
        exposure: gain as a share.
    """

    rotation_deg: float = 12.0
    shift_mm: float = 2.5
    scale: float = 0.015
    lamp_deg: float = 7.0
    lamp_strength: float = 0.1
    exposure: float = 0.07


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCounts:
    """Images of a data set; the defective ones of each kind."""

    train_good: int = 60
    test_good: int = 20
    test_defective: int = 8
    validation_good: int = 0
    validation_defective: int = 0


def render_part(
    random: np.random.Generator,
    defect: Defect | None = None,
    width: int = 640,
    height: int = 480,
    *,
    design: PartDesign = FLANGE,
    variation: Variation | None = None,
) -> RenderedPart:
    """Render one part from above; generators of equal state give equal bytes.

    The good part is drawn before its defect: the same seed with and without a defect is the same
    part, and the two images differ nowhere outside the mask.
    """
    variation = variation or Variation()
    pose = _draw_pose(random, variation, width, height)
    lighting = _draw_lighting(random, variation)
    machining = draw_machining(random, design)
    belt = draw_belt(random, height, width)
    noise = draw_sensor_noise(random, height, width)

    missing = None
    if defect is Defect.MISSING_HOLE:
        missing = int(random.integers(design.hole_count))
    surface = turned_surface(design, pose, machining, (height, width), missing_hole=missing)
    changed = np.zeros((height, width), np.bool_)
    if missing is not None:
        changed = missing_hole_mask(surface, design, pose, missing)
    elif defect is not None:
        surface, changed = SPOIL[defect](surface, design, pose, random)

    pixels = expose(shade(surface, lighting, belt), lighting, noise)
    reach = np.ones((2 * LENS_REACH_PX + 1, 2 * LENS_REACH_PX + 1), np.uint8)
    mask = cv2.dilate(changed.astype(np.uint8) * np.uint8(255), reach)
    return RenderedPart(pixels, mask, defect)


def write_dataset(
    folder: Path,
    counts: ImageCounts | None = None,
    *,
    seed: int = 0,
    suffix: str = ".jpg",
    jpeg_quality: int = 92,
    width: int = 640,
    height: int = 480,
    variation: Variation | None = None,
    design: Callable[[np.random.Generator], PartDesign] | None = None,
) -> None:
    """Write a data set in the layout of MVTec AD, whole or not at all.

    ``train/good``, ``test/good``, ``test/<defect>``, ``validation/…`` hold ``NNN.jpg`` (or
    ``.png``); ``ground_truth/<defect>/NNN_mask.png`` the masks, for which numbers of validation
    images go on where those of the test end. An image depends on the seed, its folder
    and its number only, not on how many there are.

    Args:
        design: draws the drawing of each part, as one with its own serial number.

    Raises:
        OutputNotWritable: the folder exists already, or the disk refused it.
    """
    counts = counts or ImageCounts()
    if folder.exists():
        raise OutputNotWritable(f"{folder}: exists already. Remove it or name another folder.")
    partial = folder.with_name(f".{folder.name}.partial")
    test, validation = counts.test_defective, counts.validation_defective
    plan: list[tuple[str, Defect | None, range]] = [
        ("train/good", None, range(counts.train_good)),
        ("test/good", None, range(counts.test_good)),
    ]
    plan += [(f"test/{defect}", defect, range(test)) for defect in Defect]
    if counts.validation_good:
        plan.append(("validation/good", None, range(counts.validation_good)))
    if validation:
        numbers = range(test, test + validation)
        plan += [(f"validation/{defect}", defect, numbers) for defect in Defect]
    try:
        shutil.rmtree(partial, ignore_errors=True)
        for group, (place, defect, numbers) in enumerate(plan):
            (partial / place).mkdir(parents=True)
            masks = partial / "ground_truth" / str(defect)
            if defect is not None:
                masks.mkdir(parents=True, exist_ok=True)
            for number in numbers:
                random = np.random.default_rng([seed, group, number])
                part = render_part(
                    random,
                    defect,
                    width,
                    height,
                    design=FLANGE if design is None else design(random),
                    variation=variation,
                )
                write_encoded(partial / place / f"{number:03d}{suffix}", part.pixels, jpeg_quality)
                if defect is not None:
                    write_encoded(masks / f"{number:03d}_mask.png", part.mask)
        partial.replace(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise OutputNotWritable(
            f"{folder}: cannot be written ({error.strerror}). Check space and permissions."
        ) from error


def write_encoded(path: Path, pixels: NDArray[np.uint8], jpeg_quality: int = 92) -> None:
    """Write an image file in the format of its suffix."""
    options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if path.suffix == ".jpg" else []
    _, encoded = cv2.imencode(path.suffix, pixels, options)
    path.write_bytes(encoded.tobytes())


def _draw_pose(random: np.random.Generator, variation: Variation, width: int, height: int) -> Pose:
    scale = height / FIELD_OF_VIEW_MM * (1 + variation.scale * random.uniform(-1, 1))
    shift_x, shift_y = random.uniform(-1, 1, 2) * variation.shift_mm * scale
    return Pose(
        centre_x_px=(width - 1) / 2 + shift_x,
        centre_y_px=(height - 1) / 2 + shift_y,
        rotation=float(np.radians(variation.rotation_deg * random.uniform(-1, 1))),
        scale_px_per_mm=scale,
    )


def _draw_lighting(random: np.random.Generator, variation: Variation) -> Lighting:
    turn = np.radians(variation.lamp_deg)
    share = variation.lamp_strength
    main = Lamp(-0.7 + turn * random.uniform(-1, 1), 260.0, 300.0, 0.46)
    fill = Lamp(2.05 + turn * random.uniform(-1, 1), 240.0, 320.0, 0.22)
    lamps = tuple(
        Lamp(
            lamp.azimuth,
            lamp.distance_mm,
            lamp.height_mm,
            lamp.strength * (1 + share * random.uniform(-1, 1)),
        )
        for lamp in (main, fill)
    )
    return Lighting(
        lamps=lamps,
        dome=0.30 * (1 + share * random.uniform(-1, 1)),
        exposure=1 + variation.exposure * random.uniform(-1, 1),
        warmth=0.02 + 0.01 * random.uniform(-1, 1),
        vignette=random.uniform(0.14, 0.24),
    )
