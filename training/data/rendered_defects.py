"""Defects of the sample part: each changes the surface inside a mask and nowhere else.

Every function takes the good surface and gives the defective one with the changed pixels,
``(H, W) bool``; the light falls on both alike, so that a dent is shaded like the face around it.
"""

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.rendered_fields import Field, blurred_noise, smooth_step
from training.data.rendered_surface import (
    PartDesign,
    Pose,
    Surface,
    hole_centre,
    with_changes,
)

Mask = NDArray[np.bool_]
Spoiled = tuple[Surface, Mask]

# Fainter than this share of a change, nobody could draw a mask by hand.
_FAINT = 0.04
_OVERSAMPLING = 4


class Defect(StrEnum):
    """Kinds of defect; the value is the folder's name in a data set."""

    SCRATCH = "scratch"
    DENT = "dent"
    STAIN = "stain"
    CHIPPED_EDGE = "chipped_edge"
    MISSING_HOLE = "missing_hole"
    CONTAMINATION = "contamination"


def missing_hole_mask(surface: Surface, design: PartDesign, pose: Pose, index: int) -> Mask:
    """Where a bolt hole and its chamfer would have been, had more than its centre been drilled."""
    x, y = hole_centre(design, pose, index)
    distance = cv2.magnitude(surface.x - np.float32(x), surface.y - np.float32(y))
    edge = design.hole_radius + 0.8 * design.chamfer + 0.5 / pose.scale_px_per_mm
    return np.asarray(distance < edge)


def scratched(
    surface: Surface, design: PartDesign, pose: Pose, random: np.random.Generator
) -> Spoiled:
    """A slightly bent scratch across the machining grooves, at times with a fainter companion."""
    radius, angle = _place_on_face(design, random, clearance=3.0)
    # Along the grooves a scratch would be one more groove.
    direction = (
        angle + pose.rotation + np.pi / 2 + random.choice([-1, 1]) * random.uniform(0.5, 1.4)
    )
    x, y = _in_image(radius, angle, pose)
    bend = random.choice([-1, 1]) * random.uniform(50, 220)
    length, width = random.uniform(18, 38), random.uniform(0.34, 0.54)
    lines = [(x, y, length, width, 1.0)]
    for _ in range(random.integers(0, 3)):
        aside, along = random.uniform(-1.8, 1.8), random.uniform(-6, 6)
        lines.append(
            (
                x - aside * np.sin(direction) + along * np.cos(direction),
                y + aside * np.cos(direction) + along * np.sin(direction),
                length * random.uniform(0.3, 0.7),
                width * 0.8,
                0.6,
            )
        )
    depth = random.uniform(0.5, 0.9)
    # The tip of whatever scratched jumped: the depth changes along the way.
    steps = np.linspace(-0.5, 0.5, 33)
    pressure = 1 - np.abs(np.cumsum(random.normal(0, 0.13, len(steps)))).clip(0, 0.5)
    changed = np.zeros(surface.x.shape, np.bool_)
    for line_x, line_y, line_length, line_width, strength in lines:
        # An arc of a large circle, whose distance is exact and cheap.
        normal_x, normal_y = -np.sin(direction), np.cos(direction)
        from_x = surface.x - np.float32(line_x - bend * normal_x)
        from_y = surface.y - np.float32(line_y - bend * normal_y)
        far = cv2.magnitude(from_x, from_y)
        aside_field = far - np.float32(abs(bend))
        near_x, near_y = surface.x - np.float32(line_x), surface.y - np.float32(line_y)
        along_field = near_x * np.float32(np.cos(direction))
        along_field += near_y * np.float32(np.sin(direction))
        taper = smooth_step(-np.abs(along_field), -line_length / 2, -line_length / 4)
        taper *= np.interp(along_field / line_length, steps, pressure).astype(np.float32)
        half = line_width / 2 + 0.5 / pose.scale_px_per_mm
        amount = smooth_step(-np.abs(aside_field), -2 * half, -0.6 * half) * taper * strength
        amount, seen = _clear(amount, surface)
        slope = np.clip(aside_field / np.float32(half), -1, 1) * np.float32(-depth)
        surface = with_changes(
            surface,
            amount,
            tilt_x=slope * from_x / far,
            tilt_y=slope * from_y / far,
            along=0.32,
            across=0.34,
            light=1.38,
        )
        changed |= seen
    return surface, changed


def dented(
    surface: Surface, design: PartDesign, pose: Pose, random: np.random.Generator
) -> Spoiled:
    """The mark of a blow: a round hollow with a raised rim, its floor rougher than the face."""
    size = random.uniform(2.8, 5.2)
    x, y = _in_image(*_place_on_face(design, random, clearance=size), pose)
    dx, dy = surface.x - np.float32(x), surface.y - np.float32(y)
    distance, around = cv2.cartToPolar(dx, dy)
    lobes, phase = random.uniform(0.05, 0.14), random.uniform(0, 2 * np.pi)
    outline = 1 + lobes * np.cos(2 * around + phase) + 0.05 * np.sin(3 * around + 2 * phase)
    share = distance / (np.float32(size) * np.asarray(outline, np.float32))
    hollow = np.clip(1 - share * share, 0, 1) * share
    rim = smooth_step(share, 0.85, 1.05) * smooth_step(-share, -1.35, -1.05)
    steepness = random.uniform(1.9, 2.9)
    slope = np.float32(steepness) * (np.float32(0.3) * rim - hollow)
    inverse = 1 / np.maximum(distance, np.float32(1e-3))
    amount, changed = _clear(smooth_step(-share, -1.35, -1.0), surface)
    floor = smooth_step(-share, -1.0, -0.5) * amount
    bent = replace(
        surface,
        tilt_x=surface.tilt_x + slope * dx * inverse * amount,
        tilt_y=surface.tilt_y + slope * dy * inverse * amount,
    )
    return with_changes(bent, floor, along=0.26, across=0.3, light=0.74), changed


def stained(
    surface: Surface, design: PartDesign, pose: Pose, random: np.random.Generator
) -> Spoiled:
    """Dried coolant: a brownish film of uneven outline, darkest at its edge."""
    size = random.uniform(4.0, 8.0)
    x, y = _in_image(*_place_on_face(design, random, clearance=size / 2), pose)
    rows, columns = surface.x.shape
    # Two drops that ran together, their outline and thickness uneven.
    broad, narrow = (
        cv2.resize(
            blurred_noise(random, rows // 4, columns // 4, blur_x=blur, blur_y=blur),
            (columns, rows),
            interpolation=cv2.INTER_CUBIC,
        )
        for blur in (3.2, 1.2)
    )
    heading, apart = random.uniform(0, 2 * np.pi), random.uniform(0.4, 0.9) * size
    distance = cv2.magnitude(surface.x - np.float32(x), surface.y - np.float32(y))
    second = cv2.magnitude(
        surface.x - np.float32(x + apart * np.cos(heading)),
        surface.y - np.float32(y + apart * np.sin(heading)),
    )
    level = 1 - np.minimum(distance, second * np.float32(1.5)) / np.float32(size)
    level += np.float32(0.22) * broad + np.float32(0.07) * narrow
    # Noise alone must not make islands far away from the drop.
    level -= smooth_step(distance, size * 1.2, size * 1.7)
    film = smooth_step(level, 0.0, 0.12)
    edge = film * smooth_step(-level, -0.22, -0.06)
    thickness = np.clip(np.float32(0.55) + np.float32(0.16) * broad, 0.25, 1)
    amount, changed = _clear(film * thickness + edge * np.float32(0.55), surface)
    strength = random.uniform(0.6, 1.0)
    absorbs = np.array([1.0, 0.72, 0.5], np.float32) * np.float32(strength)
    film_colour = cv2.exp(-amount[:, :, None] * absorbs)
    dulled = with_changes(surface, np.minimum(amount, 1), along=0.17)
    return replace(dulled, transmission=film_colour), changed


def chipped(
    surface: Surface, design: PartDesign, pose: Pose, random: np.random.Generator
) -> Spoiled:
    """A piece broken out of the rim: belt where it is gone, a rough break beside it."""
    width, depth = random.uniform(4.0, 7.0), random.uniform(3.8, 6.0)
    middle = np.float32(random.uniform(0, 2 * np.pi))
    turn = np.mod(surface.angle - middle + np.float32(np.pi), np.float32(2 * np.pi))
    along = (turn - np.float32(np.pi)) * np.float32(design.outer_radius / width)
    inwards = surface.inwards
    noise = blurred_noise(random, surface.x.shape[0], surface.x.shape[1], blur_x=2.2, blur_y=2.2)
    skew = random.uniform(-0.3, 0.3)
    bow = np.clip(1 - along * along, 0, 1) * (1 + np.float32(skew) * along)
    reach = np.float32(depth) * (bow + np.float32(0.10) * noise * (bow > 0))
    px = 1 / pose.scale_px_per_mm
    broken_off = smooth_step(reach - inwards, -px / 2, px / 2) * (bow > 0)
    break_amount, changed = _clear(np.asarray(broken_off, np.float32), surface)
    gone = smooth_step(reach * np.float32(0.5) - inwards, -px / 2, px / 2) * break_amount
    rough = cv2.GaussianBlur(noise - cv2.GaussianBlur(noise, (5, 5), 1.5), (3, 3), 0.6)
    rough_x = cv2.Sobel(rough, cv2.CV_32F, 1, 0)
    rough_y = cv2.Sobel(rough, cv2.CV_32F, 0, 1)
    broken = with_changes(
        surface,
        break_amount,
        tilt_x=np.float32(0.25) * surface.across_x + rough_x,
        tilt_y=np.float32(0.25) * surface.across_y + rough_y,
        along=0.28,
        across=0.28,
        light=0.95,
    )
    # The belt below lies in the shadow of the break.
    return replace(
        broken,
        metal=broken.metal * (1 - gone),
        belt=np.maximum(broken.belt, np.float32(0.3) * (changed & (gone > 0))),
    ), changed


def contaminated(
    surface: Surface, design: PartDesign, pose: Pose, random: np.random.Generator
) -> Spoiled:
    """A thing that does not belong there: a fibre or a curled metal chip, with its shadow."""
    x, y = _in_image(*_place_on_face(design, random, clearance=2.0), pose)
    if random.random() < 0.5:
        path, width, brightness = _fibre(random)
        colours = ([0.035, 0.03, 0.03], [0.30, 0.13, 0.06], [0.08, 0.10, 0.30])
        colour = np.array(colours[random.integers(len(colours))], np.float32)
    else:
        path, width, brightness = _curl(random)
        colour = np.array([1.0, 1.02, 1.04], np.float32)
    cover, shine = _drawn(path + np.array([x, y]), width, brightness, surface, pose=pose)
    cover, thing = _clear(cover, None)
    shift = np.array([[1, 0, 2.0], [0, 1, 1.6]], np.float32)
    shadow = cv2.warpAffine(cover, shift, cover.shape[::-1], flags=cv2.INTER_LINEAR)
    shadow, shaded = _clear(cv2.GaussianBlur(shadow, (5, 5), 1.1) * np.float32(0.6), None)
    through = (1 - cover) * (1 - shadow)
    added = (cover * shine)[:, :, None] * colour
    return replace(
        surface,
        transmission=np.repeat(through[:, :, None], 3, axis=2),
        added=np.asarray(added, np.float32),
    ), thing | shaded


SPOIL: dict[Defect, Callable[[Surface, PartDesign, Pose, np.random.Generator], Spoiled]] = {
    Defect.SCRATCH: scratched,
    Defect.DENT: dented,
    Defect.STAIN: stained,
    Defect.CHIPPED_EDGE: chipped,
    Defect.CONTAMINATION: contaminated,
}


def _clear(amount: Field, surface: Surface | None) -> tuple[Field, Mask]:
    """Cut off what is too faint to see, and what would lie beside the part."""
    seen = amount > _FAINT
    if surface is not None:
        seen &= surface.metal > 0
    return np.where(seen, amount, np.float32(0)), np.asarray(seen)


def _place_on_face(
    design: PartDesign, random: np.random.Generator, clearance: float
) -> tuple[float, float]:
    """Draw a radius (mm) and an angle (part's frame) that keep clear of edges and bolt holes."""
    flat = np.inf if design.flat is None else design.flat
    keep = design.chamfer + clearance
    angles = [design.hole_angle(index) for index in range(design.hole_count)]
    while True:
        radius = random.uniform(design.bore_radius + keep, design.outer_radius - keep)
        angle = random.uniform(0, 2 * np.pi)
        point = radius * np.exp(1j * angle)
        away = [abs(point - design.hole_circle_radius * np.exp(1j * hole)) for hole in angles]
        beside = radius * np.cos(angle - design.flat_angle) < flat - keep
        if beside and min(away) > design.hole_radius + design.chamfer + 0.6 * clearance:
            return radius, angle


def _in_image(radius: float, angle: float, pose: Pose) -> tuple[float, float]:
    """From the part's polar frame to mm along the image's axes."""
    turned = angle + pose.rotation
    return radius * float(np.cos(turned)), radius * float(np.sin(turned))


def _fibre(random: np.random.Generator) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """A thread whose bend wanders: points (N, 2) in mm, width in mm, brightness (N)."""
    steps = 48
    length = random.uniform(14, 32)
    bend = np.cumsum(random.normal(0, 0.022, steps)) + random.uniform(-0.04, 0.04)
    heading = random.uniform(0, 2 * np.pi) + np.cumsum(bend)
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0)
    path *= length / steps
    width = random.uniform(0.42, 0.65)
    return path - path.mean(axis=0), width, random.uniform(0.9, 1.1) * np.ones(steps)


def _curl(random: np.random.Generator) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """A helical turning chip seen from above: bright where its windings face the light."""
    turns, steps = random.uniform(2.0, 4.5), 140
    t = np.linspace(0, 1, steps)
    phase = 2 * np.pi * turns * t
    radius = random.uniform(1.4, 2.1) * (1 - 0.3 * t)
    run = random.uniform(7.0, 12.0) * t
    heading = random.uniform(0, 2 * np.pi)
    along = run + 0.5 * radius * np.cos(phase)
    aside = radius * np.sin(phase) + random.uniform(-1.2, 1.2) * t**2
    path = np.stack(
        [
            along * np.cos(heading) - aside * np.sin(heading),
            along * np.sin(heading) + aside * np.cos(heading),
        ],
        axis=1,
    )
    brightness = 0.1 + 0.9 * np.clip(np.cos(phase + random.uniform(0, 6.3)), 0, 1) ** 1.5
    return path - path.mean(axis=0), random.uniform(0.75, 1.1), brightness


def _drawn(
    path: NDArray[np.float64],
    width: float,
    brightness: NDArray[np.float64],
    surface: Surface,
    *,
    pose: Pose,
) -> tuple[Field, Field]:
    """Draw a line of changing brightness: its coverage and its brightness, ``(H, W)``."""
    rows, columns = surface.x.shape
    points = path * pose.scale_px_per_mm + [pose.centre_x_px + 0.5, pose.centre_y_px + 0.5]
    margin = 6
    low = np.clip(np.floor(points.min(axis=0)).astype(int) - margin, 0, [columns - 1, rows - 1])
    high = np.clip(np.ceil(points.max(axis=0)).astype(int) + margin, low + 1, [columns, rows])
    size = high - low
    fine = np.zeros((size[1] * _OVERSAMPLING, size[0] * _OVERSAMPLING, 2), np.float32)
    thickness = max(1, round(width * pose.scale_px_per_mm * _OVERSAMPLING))
    corners = np.round((points - low) * _OVERSAMPLING).astype(int)
    for start, stop, value in zip(corners[:-1], corners[1:], brightness, strict=False):
        cv2.line(fine, start.tolist(), stop.tolist(), (1.0, float(value)), thickness)
    small = cv2.resize(fine, size.tolist(), interpolation=cv2.INTER_AREA)
    whole = np.zeros((rows, columns, 2), np.float32)
    whole[low[1] : high[1], low[0] : high[0]] = small
    cover = np.ascontiguousarray(whole[:, :, 0])
    return cover, np.asarray(whole[:, :, 1] / np.maximum(cover, np.float32(1e-3)), np.float32)
