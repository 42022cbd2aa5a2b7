"""The part of the demo that lies tilted: its images, its reference, and the mask drawn on it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from edge.errors import OutputNotWritable
from training.data.rendered import (
    Defect,
    ImageCounts,
    RenderedPart,
    Variation,
    render_part,
    write_dataset,
    write_encoded,
)
from training.data.rendered_surface import FIELD_OF_VIEW_MM, FLAT_FLANGE, PartDesign

# Seeds of different purposes never meet: no image of the fit is a frame of the demo.
_DATASET_SEED, _REFERENCE_STREAM, _FRAMES_STREAM = 4, 5, 6
_COUNTS = ImageCounts(
    train_good=100, test_good=10, test_defective=1, validation_good=40, validation_defective=3
)
_LAID = Variation(rotation_deg=20.0, shift_mm=12.0, scale=0.0)
_AS_DRAWN = Variation(rotation_deg=0.0, shift_mm=0.0, scale=0.0)
_WIDTH, _HEIGHT = 640, 480
_SERIAL_SECTOR = 2

# What is drawn on the reference; lengths in mm on the part, angles in degrees.
_SERIAL_FROM, _SERIAL_TO, _SERIAL_HALF_ANGLE = 28.0, 39.0, 27.0
_SEALING_FACE = 25.5
_SEALING_FACE_THRESHOLD = 0.36

# Each with the number of its seed: where its defect lies was looked up.
_FRAME_PLAN: tuple[tuple[int, Defect | None], ...] = (
    (3, None),
    (32, Defect.STAIN),
    (0, None),
    (33, Defect.CHIPPED_EDGE),
    (1, None),
)


def write_tilted_dataset(folder: Path, counts: ImageCounts | None = None) -> None:
    """Write what the tilted part's model is fitted with.

    ``images`` is a data set in the layout of MVTec AD; ``reference.png`` shows the part as it is
    drawn, ``mask.yaml`` the areas of it.

    Raises:
        OutputNotWritable: the folder exists already, or the disk refused it.
    """
    images = folder / "images"
    write_dataset(images, counts or _COUNTS, seed=_DATASET_SEED, variation=_LAID, design=_numbered)
    random = np.random.default_rng([_REFERENCE_STREAM])
    reference = render_part(random, design=_numbered(random), variation=_AS_DRAWN)
    try:
        write_encoded(folder / "reference.png", reference.pixels)
        (folder / "mask.yaml").write_text(yaml.safe_dump(_mask(), sort_keys=False))
    except OSError as error:
        raise _refused(folder, error) from error


def write_tilted_frames(folder: Path) -> list[Path]:
    """Write the frames of the tilted part; a name tells what is in the image.

    Raises:
        OutputNotWritable: the disk refused it.
    """
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in tilted_frames():
            paths.append(folder / f"{name}.jpg")
            write_encoded(paths[-1], part.pixels)
    except OSError as error:
        raise _refused(folder, error) from error
    return paths


def tilted_frames() -> Iterator[tuple[str, RenderedPart]]:
    """Give the frames of the tilted part with their names."""
    for number, (seed, defect) in enumerate(_FRAME_PLAN):
        random = np.random.default_rng([_FRAMES_STREAM, seed])
        part = render_part(random, defect, design=_numbered(random), variation=_LAID)
        yield f"{number:02d}_{defect or 'good'}", part


def _numbered(random: np.random.Generator) -> PartDesign:
    """Return the part with a serial number of its own."""
    texts = ["AW-6082"] + [""] * (FLAT_FLANGE.hole_count - 1)
    texts[_SERIAL_SECTOR] = f"SN {random.integers(100_000):05d}"
    return replace(FLAT_FLANGE, markings=tuple(texts))


def _mask() -> dict[str, object]:
    """Return the mask file: the serial number is ignored, the sealing face is a zone."""
    middle = np.degrees(FLAT_FLANGE.hole_angle(_SERIAL_SECTOR + 0.5))
    angles = np.linspace(middle - _SERIAL_HALF_ANGLE, middle + _SERIAL_HALF_ANGLE, 9)
    outer, inner = _on_reference(_SERIAL_TO, angles), _on_reference(_SERIAL_FROM, angles)
    return {
        "size": [_WIDTH, _HEIGHT],
        "ignore": [outer + inner[::-1]],
        "zones": [
            {
                "name": "sealing face",
                "polygon": _on_reference(_SEALING_FACE, np.arange(0.0, 360.0, 10.0)),
                "threshold": _SEALING_FACE_THRESHOLD,
            }
        ],
    }


def _on_reference(radius: float, angles: NDArray[np.float64]) -> list[list[int]]:
    """Return points of a circle around the part's axis, in pixels of the reference."""
    turns, pixels = np.radians(angles), radius * _HEIGHT / FIELD_OF_VIEW_MM
    x = _WIDTH / 2 + pixels * np.cos(turns)
    y = _HEIGHT / 2 + pixels * np.sin(turns)
    return [[round(a), round(b)] for a, b in zip(x.tolist(), y.tolist(), strict=True)]


def _refused(folder: Path, error: OSError) -> OutputNotWritable:
    return OutputNotWritable(
        f"{folder}: cannot be written ({error.strerror}). Check space and permissions."
    )
