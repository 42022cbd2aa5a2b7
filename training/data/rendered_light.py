"""Light and camera for the sample part: from surface fields to the pixels a sensor gives."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.rendered_fields import Field, blurred_noise
from training.data.rendered_surface import (
    CAMERA_DISTANCE_MM,
    FIELD_OF_VIEW_MM,
    Surface,
)

# A step of one pixel in the lens blur: a change reaches its eight neighbours and no further.
LENS_REACH_PX = 1
_METAL_BGR = np.array([1.0, 0.985, 0.965], np.float32)
_BELT_BGR = np.array([1.04, 1.0, 0.93], np.float32)
_WALL_BGR = np.array([0.98, 0.99, 1.0], np.float32)


@dataclass(frozen=True, slots=True)
class Lamp:
    """A bar light: direction in the image (radians), distance and height in mm, strength."""

    azimuth: float
    distance_mm: float
    height_mm: float
    strength: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lighting:
    """All light of one image.

    Attributes:
        lamps: bar lights, the strongest first.
        dome: even light from above.
        exposure: gain of the camera.
        warmth: share by which red gains on blue.
        vignette: share of light lost in the corners.
    """

    lamps: tuple[Lamp, ...]
    dome: float
    exposure: float
    warmth: float
    vignette: float


@dataclass(frozen=True, slots=True)
class SensorNoise:
    """Drawn before the image is known, so that a defect does not change it elsewhere.

    Attributes:
        grain: ``(H, W, 3) float32``, deviation 1.
        shot, read: strength at full light and in the dark, in grey levels.
    """

    grain: Field
    shot: float
    read: float


def draw_belt(random: np.random.Generator, height: int, width: int) -> Field:
    """Brightness of the empty belt, ``(H, W) float32``: a fine weave, wear and specks of dust."""
    scale = height / FIELD_OF_VIEW_MM
    period = np.float32(2 * np.pi / (1.9 * scale))
    phase_x, phase_y = random.uniform(0, 2 * np.pi, 2)
    weft = np.sin(np.arange(height, dtype=np.float32) * period + np.float32(phase_y))
    warp = np.sin(np.arange(width, dtype=np.float32) * period + np.float32(phase_x))
    weave = np.outer(weft, warp)
    coarse = cv2.resize(
        blurred_noise(random, height // 8, width // 8, blur_x=4.0, blur_y=2.0), (width, height)
    )
    fine = blurred_noise(random, height, width, blur_x=0.8, blur_y=0.8)
    return np.asarray(0.05 + 0.008 * weave + 0.005 * coarse + 0.008 * fine, np.float32)


def draw_sensor_noise(random: np.random.Generator, height: int, width: int) -> SensorNoise:
    shot, read = random.uniform(1.2, 2.0), random.uniform(0.8, 1.4)
    # The sum of two uniform bytes is close enough to normal and much faster to draw.
    grain = np.frombuffer(random.bytes(2 * height * width * 3), np.uint8)
    grain = grain.reshape(2, height, width, 3)
    total = cv2.add(grain[0], grain[1], dtype=cv2.CV_32F)
    return SensorNoise((total - np.float32(255)) / np.float32(104.5), shot, read)


def shade(surface: Surface, lighting: Lighting, belt: Field) -> Field:
    """Give the light that reaches the camera, ``(H, W, 3) float32`` BGR, 1 is white.

    Metal is a dome's reflection plus, for each lamp, an anisotropic lobe in slope space (Ward,
    1992): bright where the slope half-way between lamp and camera is likely on this surface.
    """
    tilt_squared = surface.tilt_x**2 + surface.tilt_y**2
    main = lighting.lamps[0]
    towards = surface.tilt_x * np.float32(np.cos(main.azimuth))
    towards += surface.tilt_y * np.float32(np.sin(main.azimuth))
    metal = lighting.dome * (1 + np.float32(0.55) * towards) / (1 + np.float32(1.5) * tilt_squared)
    belt_light = np.full_like(belt, lighting.dome * 1.1)
    for lamp in lighting.lamps:
        half_x, half_y, fall = _half_slopes(lamp, surface)
        dx, dy = half_x - surface.tilt_x, half_y - surface.tilt_y
        across = (dx * surface.across_x + dy * surface.across_y) / surface.across
        along = (dy * surface.across_x - dx * surface.across_y) / surface.along
        lobe = cv2.exp(np.float32(-0.5) * (across * across + along * along))
        # Even polished grooves scatter a little to all sides.
        spread = 1 / (1 + np.float32(9) * (dx * dx + dy * dy))
        metal += np.float32(lamp.strength) * fall * (lobe + np.float32(0.24) * spread)
        belt_light += np.float32(1.5 * lamp.strength) * fall
    metal *= surface.light * surface.metal
    dark = 1 - surface.metal
    ground = belt * belt_light * surface.belt * dark
    wall = surface.wall * dark * np.float32(lighting.dome * 0.9)
    tint = np.array([1 - lighting.warmth, 1, 1 + lighting.warmth], np.float32)
    image = cv2.merge(
        [
            metal * _METAL_BGR[i] * tint[i] + ground * _BELT_BGR[i] * tint[i] + wall * _WALL_BGR[i]
            for i in range(3)
        ]
    )
    if surface.transmission is not None:
        image *= surface.transmission
    if surface.added is not None:
        image += surface.added
    return image


def expose(image: Field, lighting: Lighting, noise: SensorNoise) -> NDArray[np.uint8]:
    """Give what the sensor stores, ``(H, W, 3) uint8`` BGR: lens, tone curve, noise."""
    height, width = image.shape[:2]
    seen = cv2.GaussianBlur(image, (3, 3), 0.65, borderType=cv2.BORDER_REPLICATE)
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None] ** 2
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None] ** 2
    gain = lighting.exposure * (1 - lighting.vignette * 0.5 * (rows + columns))
    seen *= np.asarray(gain, np.float32)[:, :, None]
    # A soft shoulder instead of a hard clip, then the usual gamma of a camera.
    seen = seen / cv2.pow(1 + cv2.pow(seen, 4.0), 0.25)
    level = cv2.pow(seen, 1 / 1.6) * np.float32(255)
    strength = np.float32(noise.read) + np.float32(noise.shot / 255) * level
    return cv2.convertScaleAbs(np.maximum(level + noise.grain * strength, 0))


def _half_slopes(lamp: Lamp, surface: Surface) -> tuple[Field, Field, Field]:
    """Slopes half-way between lamp and camera, and the lamp's fall-off with distance.

    They change slowly, so they are worked out on a coarse grid.
    """
    height, width = surface.x.shape
    x = cv2.resize(surface.x, (40, 30), interpolation=cv2.INTER_AREA)
    y = cv2.resize(surface.y, (40, 30), interpolation=cv2.INTER_AREA)
    to_lamp = (
        lamp.distance_mm * np.cos(lamp.azimuth) - x,
        lamp.distance_mm * np.sin(lamp.azimuth) - y,
        np.full_like(x, lamp.height_mm),
    )
    far = np.sqrt(to_lamp[0] ** 2 + to_lamp[1] ** 2 + to_lamp[2] ** 2)
    near = np.sqrt(x**2 + y**2 + CAMERA_DISTANCE_MM**2)
    up = to_lamp[2] / far + CAMERA_DISTANCE_MM / near
    coarse = (
        (to_lamp[0] / far - x / near) / up,
        (to_lamp[1] / far - y / near) / up,
        (np.hypot(lamp.distance_mm, lamp.height_mm) / far) ** 2,
    )
    size = (width, height)
    half_x, half_y, fall = (cv2.resize(np.asarray(c, np.float32), size) for c in coarse)
    return half_x, half_y, fall
