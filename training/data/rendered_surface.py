"""The sample part as a surface: a turned aluminium flange, described per pixel before any light.

Lengths are millimetres on the part, ``x`` to the right and ``y`` down in the image, the origin on
the part's axis. A surface is a set of fields; light and camera (``rendered_light``) work on every
pixel by itself, so that whatever changes a field at one pixel changes the image only there.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from training.data.rendered_fields import Field, smooth_step

FIELD_OF_VIEW_MM = 140.0  # what the image's height shows
CAMERA_DISTANCE_MM = 420.0
CHAMFER_TILT = 0.62
_RADIUS_STEPS_PER_MM = 32
_POLAR_COLUMNS = 512
_POLAR_ROWS_PER_MM = 3.5
# How far the part's shadow lies from it.
_SHADOW_X_MM, _SHADOW_Y_MM = 3.5, 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDesign:
    """What is the same on every part of one drawing; lengths in mm.

    Attributes:
        outer_radius, bore_radius: edges of the disc.
        hub_radius: where the raised ring around the bore ends.
        groove_radius: middle of the turned sealing groove on the flange face.
        hole_circle_radius, hole_radius, hole_count: the bolt holes.
        chamfer: width of every broken edge, seen from above.
        thickness: how deep holes and shadow are.
        markings: stamped texts, one between each two neighbouring holes, from the first on.
        flat: distance of a straight edge from the axis, between the last hole and the first; None
            where the outline is round.
    """

    outer_radius: float = 59.0
    bore_radius: float = 17.0
    hub_radius: float = 28.0
    groove_radius: float = 32.5
    hole_circle_radius: float = 46.0
    hole_radius: float = 5.2
    hole_count: int = 6
    chamfer: float = 1.5
    thickness: float = 12.0
    markings: tuple[str, ...] = ("AW-6082", "", "", "DN34 PN16")
    flat: float | None = None

    def hole_angle(self, index: float) -> float:
        """Angle of a hole's middle in the part's own frame, in radians."""
        return 2 * np.pi * index / self.hole_count

    @property
    def flat_angle(self) -> float:
        """Angle at which the straight edge lies, in the part's own frame, in radians."""
        return self.hole_angle(-0.5)


FLANGE = PartDesign()
# Small enough to lie anywhere in the image, and its outline tells how it is turned.
FLAT_FLANGE = PartDesign(
    outer_radius=42.0,
    bore_radius=12.0,
    hub_radius=20.0,
    groove_radius=23.5,
    hole_circle_radius=33.5,
    hole_radius=4.0,
    hole_count=5,
    chamfer=1.3,
    markings=("AW-6082",),
    flat=34.5,
)


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the part lies in the image.

    Attributes:
        centre_x_px, centre_y_px: the part's axis.
        rotation: radians, clockwise in the image.
        scale_px_per_mm: pixels for one millimetre.
    """

    centre_x_px: float
    centre_y_px: float
    rotation: float
    scale_px_per_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """What light falls on, per pixel; every field ``(H, W) float32``.

    Attributes:
        x, y, radius, angle: position on the part in mm, and polar (radians, in the part's frame).
        inwards: distance from the outer edge in mm, negative beside the part.
        metal: share of the pixel covered by the part; the rest is belt.
        tilt_x, tilt_y: slope of the surface normal; 0 is facing the camera.
        across_x, across_y: unit direction across the machining grooves.
        along, across: roughness along and across the grooves, as spread of slopes.
        light: share of the light that arrives (recesses, shadows).
        belt: share of the light that arrives at the belt.
        wall: brightness of hole walls where the part does not cover the pixel.
        transmission, added: ``(H, W, 3) BGR``: a film or thing on top, or None.
    """

    x: Field
    y: Field
    radius: Field
    angle: Field
    inwards: Field
    metal: Field
    tilt_x: Field
    tilt_y: Field
    across_x: Field
    across_y: Field
    along: Field
    across: Field
    light: Field
    belt: Field
    wall: Field
    transmission: Field | None = None
    added: Field | None = None


@dataclass(frozen=True, slots=True)
class Machining:
    """What the tool left by chance on one part: noise over radius, and over radius and angle."""

    rings: Field
    arcs: Field


def draw_machining(random: np.random.Generator, design: PartDesign) -> Machining:
    rings = (3, int((design.outer_radius + 4) * _RADIUS_STEPS_PER_MM))
    arcs = (int(design.outer_radius * _POLAR_ROWS_PER_MM) + 8, _POLAR_COLUMNS)
    return Machining(
        random.standard_normal(rings, dtype=np.float32),
        random.standard_normal(arcs, dtype=np.float32),
    )


def turned_surface(
    design: PartDesign,
    pose: Pose,
    machining: Machining,
    shape: tuple[int, int],
    *,
    missing_hole: int | None = None,
) -> Surface:
    """Give the surface of one good part.

    Args:
        shape: height and width of the image.
        missing_hole: a hole that was only marked, not drilled; the rest stays the same.
    """
    px = 1 / pose.scale_px_per_mm
    x = (np.arange(shape[1], dtype=np.float32) - np.float32(pose.centre_x_px)) * np.float32(px)
    y = (np.arange(shape[0], dtype=np.float32) - np.float32(pose.centre_y_px)) * np.float32(px)
    x, y = np.tile(x, (shape[0], 1)), np.repeat(y[:, None], shape[1], axis=1)
    turn_x, turn_y = np.float32(np.cos(pose.rotation)), np.float32(np.sin(pose.rotation))
    radius, angle = cv2.cartToPolar(x * turn_x + y * turn_y, y * turn_x - x * turn_y)
    inverse = 1 / np.maximum(radius, np.float32(1e-3))
    across_x, across_y = x * inverse, y * inverse

    profile = _turning_profile(design, px, machining.rings)
    step = np.minimum(radius * _RADIUS_STEPS_PER_MM, len(profile.tilt) - 1).astype(np.int32)
    streaks = _polar_streaks(radius, angle, machining.arcs)
    tilt = profile.tilt[step] + streaks * profile.machined[step]
    surface = Surface(
        x=x,
        y=y,
        radius=radius,
        angle=angle,
        inwards=np.float32(design.outer_radius) - radius,
        metal=smooth_step(radius, design.bore_radius - px / 2, design.bore_radius + px / 2)
        * smooth_step(-radius, -design.outer_radius - px / 2, -design.outer_radius + px / 2),
        tilt_x=tilt * across_x,
        tilt_y=tilt * across_y,
        across_x=across_x,
        across_y=across_y,
        along=profile.along[step],
        across=profile.across[step],
        light=profile.light[step] * (1 + np.float32(0.025) * streaks),
        belt=_belt_light(x, y, radius, design),
        wall=np.zeros(shape, np.float32),
    )
    _cut_wall(surface, design, pose, x=0.0, y=0.0, radius=design.bore_radius)
    if design.flat is not None:
        surface = _with_flat(surface, design, pose, distance=design.flat)
    for index in range(design.hole_count):
        if index == missing_hole:
            _mark_centre(surface, design, pose, index)
        else:
            _drill(surface, design, pose, index)
    for index, text in enumerate(design.markings):
        if text:
            _stamp(surface, design, pose, index, text=text)
    return surface


def hole_centre(design: PartDesign, pose: Pose, index: int) -> tuple[float, float]:
    """Middle of a bolt hole in mm, along the image's axes."""
    angle = design.hole_angle(index) + pose.rotation
    return (
        design.hole_circle_radius * float(np.cos(angle)),
        design.hole_circle_radius * float(np.sin(angle)),
    )


def with_changes(surface: Surface, amount: Field, **fields: Field | float) -> Surface:
    """Blend fields towards new values by ``amount`` (0 to 1 per pixel)."""
    return replace(
        surface,
        **{
            name: getattr(surface, name) + (value - getattr(surface, name)) * amount
            for name, value in fields.items()
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Profile:
    """Tables over the radius, ``_RADIUS_STEPS_PER_MM`` to the millimetre."""

    tilt: Field
    machined: Field
    along: Field
    across: Field
    light: Field


def _turning_profile(design: PartDesign, px: float, rings: Field) -> _Profile:
    radius = np.arange(rings.shape[1], dtype=np.float32)
    radius /= _RADIUS_STEPS_PER_MM

    def band(start: float, stop: float) -> Field:
        return smooth_step(radius, start - px / 2, start + px / 2) * smooth_step(
            -radius, -stop - px / 2, -stop + px / 2
        )

    inner_edge = band(0.0, design.bore_radius + design.chamfer)
    outer_edge = band(design.outer_radius - design.chamfer, 99.0)
    step_down = band(design.hub_radius - 1.4, design.hub_radius)
    foot = band(design.hub_radius, design.hub_radius + 1.2)
    groove_in = band(design.groove_radius - 1.1, design.groove_radius - 0.2)
    groove_out = band(design.groove_radius + 0.2, design.groove_radius + 1.1)
    groove = band(design.groove_radius - 1.1, design.groove_radius + 1.1)
    chamfers = np.maximum(np.maximum(inner_edge, outer_edge), step_down)
    machined = 1 - np.clip(chamfers + groove, 0, 1)

    marks = sum(
        weight * _blurred_line(line, sigma)
        for line, sigma, weight in zip(rings, (3.0, 14.0, 70.0), (0.85, 0.3, 0.12), strict=True)
    )
    # A tool leaves no groove much deeper than the others.
    marks = np.tanh(marks / np.float32(1.3)) * np.float32(1.3)
    # The hub is faced with a finer feed than the flange.
    fine = np.where(radius < design.hub_radius, np.float32(0.6), np.float32(1))
    tilt = (
        CHAMFER_TILT * (outer_edge - inner_edge)
        + 0.75 * step_down
        + 0.55 * (groove_in - groove_out)
        + 0.031 * marks * fine * machined
    )
    light = 1 - 0.45 * foot - 0.4 * groove + 0.04 * marks * machined
    return _Profile(
        tilt=np.asarray(tilt, np.float32),
        machined=np.asarray(machined * 0.025, np.float32),
        along=np.asarray(0.105 + 0.05 * chamfers + 0.03 * (fine < 1), np.float32),
        across=np.asarray(0.27 - 0.08 * chamfers, np.float32),
        light=np.asarray(light, np.float32),
    )


def _blurred_line(noise: Field, sigma: float) -> Field:
    blurred = cv2.GaussianBlur(noise[None], (0, 0), sigma, sigmaY=0.01)[0]
    return blurred / max(float(blurred.std()), 1e-6)


def _polar_streaks(radius: Field, angle: Field, arcs: Field) -> Field:
    """Short arcs along the grooves, where the tool dragged; deviation 1."""
    margin = 16
    closed = np.hstack([arcs[:, -margin:], arcs, arcs[:, :margin]])
    noise = cv2.GaussianBlur(closed, (2 * margin - 1, 1), 7.0)
    noise /= max(float(noise.std()), 1e-6)
    return cv2.remap(
        noise,
        angle * np.float32(_POLAR_COLUMNS / (2 * np.pi)) + np.float32(margin),
        np.minimum(radius * np.float32(_POLAR_ROWS_PER_MM), len(arcs) - 1),
        cv2.INTER_LINEAR,
    )


def _with_flat(surface: Surface, design: PartDesign, pose: Pose, *, distance: float) -> Surface:
    """Mill a straight edge, broken like the round one; the belt beside it is seen and lit."""
    px, direction = 1 / pose.scale_px_per_mm, design.flat_angle + pose.rotation
    normal_x, normal_y = np.float32(np.cos(direction)), np.float32(np.sin(direction))
    inwards = np.float32(distance) - surface.x * normal_x - surface.y * normal_y
    edge = smooth_step(-inwards, -design.chamfer - px / 2, -design.chamfer + px / 2)
    cut = with_changes(
        surface,
        edge,
        tilt_x=float(CHAMFER_TILT * normal_x),
        tilt_y=float(CHAMFER_TILT * normal_y),
        across_x=float(normal_x),
        across_y=float(normal_y),
        along=0.155,
        across=0.19,
    )
    _make_unit(cut.across_x, cut.across_y)
    shifted = inwards - np.float32(_SHADOW_X_MM) * normal_x - np.float32(_SHADOW_Y_MM) * normal_y
    lit = _light_beside(-shifted, -inwards)
    return replace(
        cut,
        inwards=np.minimum(surface.inwards, inwards),
        metal=surface.metal * smooth_step(inwards, -px / 2, px / 2),
        belt=np.where(inwards < 0, np.maximum(surface.belt, lit), surface.belt),
    )


def _make_unit(across_x: Field, across_y: Field) -> None:
    """Directions blended half-way are too short, and would shine from everywhere."""
    length = np.maximum(cv2.magnitude(across_x, across_y), np.float32(1e-3))
    across_x /= length
    across_y /= length


def _belt_light(x: Field, y: Field, radius: Field, design: PartDesign) -> Field:
    """The part's own shadow: two soft discs, and the dark gap right under the edge."""
    shifted = cv2.magnitude(x + np.float32(_SHADOW_X_MM), y + np.float32(_SHADOW_Y_MM))
    return _light_beside(shifted, radius, edge=design.outer_radius)


def _light_beside(shifted: Field, distance: Field, *, edge: float = 0.0) -> Field:
    """Light on the belt, by the distance from an edge in mm and from where its shadow lies."""
    wide = smooth_step(shifted, edge - 3, edge + 9)
    tight = smooth_step(distance, edge - 0.5, edge + 3.5)
    return (0.25 + 0.75 * wide) * (0.45 + 0.55 * tight)


def _window(
    surface: Surface, pose: Pose, *, x: float, y: float, half_mm: float
) -> tuple[slice, slice]:
    """The part of the image within ``half_mm`` of a point."""
    rows, columns = surface.x.shape
    half = half_mm * pose.scale_px_per_mm
    column = pose.centre_x_px + x * pose.scale_px_per_mm
    row = pose.centre_y_px + y * pose.scale_px_per_mm
    return (
        slice(max(0, int(row - half)), max(0, min(rows, int(row + half) + 2))),
        slice(max(0, int(column - half)), max(0, min(columns, int(column + half) + 2))),
    )


def _cut_wall(
    surface: Surface, design: PartDesign, pose: Pose, *, x: float, y: float, radius: float
) -> None:
    """Show the wall of a hole: its far end is shifted towards the image's middle."""
    rows, columns = surface.x.shape
    window = _window(surface, pose, x=x, y=y, half_mm=radius + 1)
    depth = design.thickness / CAMERA_DISTANCE_MM
    from_axis_x = x + (pose.centre_x_px - columns / 2) / pose.scale_px_per_mm
    from_axis_y = y + (pose.centre_y_px - rows / 2) / pose.scale_px_per_mm
    px = 1 / pose.scale_px_per_mm
    dx, dy = surface.x[window] - np.float32(x), surface.y[window] - np.float32(y)
    inside = smooth_step(-cv2.magnitude(dx, dy), -radius - px / 2, -radius + px / 2)
    far = cv2.magnitude(dx + np.float32(from_axis_x * depth), dy + np.float32(from_axis_y * depth))
    end = radius * (1 - depth)
    seen = smooth_step(far, end - px, end + px / 2) * inside
    facing = 0.5 - 0.35 * (dx + 0.7 * dy) / radius
    surface.wall[window] += seen * (0.1 + 0.3 * np.clip(facing, 0, 1))
    surface.belt[window] *= 1 - inside * (0.55 + 0.4 * seen)


def _drill(surface: Surface, design: PartDesign, pose: Pose, index: int) -> None:
    x, y = hole_centre(design, pose, index)
    radius, px = design.hole_radius, 1 / pose.scale_px_per_mm
    window = _window(surface, pose, x=x, y=y, half_mm=radius + design.chamfer + 1)
    dx, dy = surface.x[window] - np.float32(x), surface.y[window] - np.float32(y)
    distance = cv2.magnitude(dx, dy)
    inverse = 1 / np.maximum(distance, np.float32(1e-3))
    edge = radius + 0.8 * design.chamfer
    chamfer = smooth_step(-distance, -edge - px / 2, -edge + px / 2)
    surface.metal[window] *= smooth_step(distance, radius - px / 2, radius + px / 2)
    for tilt, across, direction in (
        (surface.tilt_x, surface.across_x, dx * inverse),
        (surface.tilt_y, surface.across_y, dy * inverse),
    ):
        tilt[window] += (-CHAMFER_TILT * direction - tilt[window]) * chamfer
        across[window] += (direction - across[window]) * chamfer
    _make_unit(surface.across_x[window], surface.across_y[window])
    surface.along[window] += np.float32(0.06) * chamfer
    _cut_wall(surface, design, pose, x=x, y=y, radius=radius)


def _mark_centre(surface: Surface, design: PartDesign, pose: Pose, index: int) -> None:
    """Leave a hole at its centre drilling: a small cone, as when the drill after it broke."""
    x, y = hole_centre(design, pose, index)
    radius, px = 0.42 * design.hole_radius, 1 / pose.scale_px_per_mm
    window = _window(surface, pose, x=x, y=y, half_mm=radius + 1)
    dx, dy = surface.x[window] - np.float32(x), surface.y[window] - np.float32(y)
    distance = cv2.magnitude(dx, dy)
    inverse = 1 / np.maximum(distance, np.float32(1e-3))
    cone = smooth_step(-distance, -radius - px / 2, -radius + px / 2)
    surface.tilt_x[window] += (-dx * inverse - surface.tilt_x[window]) * cone
    surface.tilt_y[window] += (-dy * inverse - surface.tilt_y[window]) * cone
    surface.along[window] += np.float32(0.12) * cone
    surface.light[window] *= 1 - np.float32(0.9) * smooth_step(-distance, -0.5 * radius, 0)


def _stamp(surface: Surface, design: PartDesign, pose: Pose, index: int, *, text: str) -> None:
    """Stamp a text along the hole circle, half-way between two holes."""
    sector = 2 * np.pi / design.hole_count
    middle = design.hole_angle(index) + sector / 2
    direction = middle + pose.rotation
    reach = design.hole_circle_radius * np.sin(sector / 2)
    window = _window(
        surface,
        pose,
        x=design.hole_circle_radius * float(np.cos(direction)),
        y=design.hole_circle_radius * float(np.sin(direction)),
        half_mm=float(reach),
    )
    strip, per_mm = _text_strip(text)
    turn = np.mod(surface.angle[window] - np.float32(middle) + np.pi, 2 * np.pi) - np.pi
    # Read from outside the part: letters stand on the hole circle, tops towards the rim.
    along = turn * np.float32(design.hole_circle_radius * per_mm)
    upwards = (surface.radius[window] - np.float32(design.hole_circle_radius)) * per_mm
    depth = cv2.remap(
        strip,
        np.asarray(along + strip.shape[1] / 2, np.float32),
        np.asarray(strip.shape[0] / 2 - upwards, np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )
    surface.tilt_x[window] += 0.5 * cv2.Sobel(depth, cv2.CV_32F, 1, 0, scale=0.25)
    surface.tilt_y[window] += 0.5 * cv2.Sobel(depth, cv2.CV_32F, 0, 1, scale=0.25)
    surface.light[window] *= 1 - np.float32(0.42) * depth


def _text_strip(text: str, height_mm: float = 4.6, per_mm: float = 8.0) -> tuple[Field, float]:
    """The text as a depth map, 0 to 1, and its pixels per millimetre."""
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, 3
    (_, unit), _ = cv2.getTextSize("H", font, 1.0, thickness)
    size = height_mm * per_mm / unit
    (width, height), below = cv2.getTextSize(text, font, size, thickness)
    strip = np.zeros((height + below + 24, width + 24), np.uint8)
    cv2.putText(strip, text, (12, 12 + height), font, size, 255, thickness, cv2.LINE_AA)
    blurred = cv2.GaussianBlur(strip.astype(np.float32) / 255, (0, 0), 1.2)
    return np.clip(blurred * 1.3, 0, 1), per_mm
