"""What PaDiM, which compares each place with itself, makes of parts that shift and turn.

``python -m tests.bench.turned_parts ../shared/data WEIGHTS [SIZE]`` fits and tests it on the images
as they are, on the same moved by up to 15 % of their sides and turned, and on these aligned.

Tiles fill their images, so that nothing tells where they lie: each is laid as one of a common size
on a white belt and turned by up to 45°, and found by ``shift+rotation`` and a box with a little of
the belt around it. Cast parts are round and have no angle of their own: their background goes on,
they are turned by up to 180°, and found by ``shift`` and what stands out. The reference is the most
typical of some parts that lie upright; what was the image is inspected. Images in which the part is
not found are an ERROR on the line: they are counted, and no score of theirs goes into an AUROC.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from edge.bundle.input_spec import AlignMode, Crop, InputSpec
from edge.errors import FrameUnsuitable
from edge.imaging.pose import PartPose
from edge.inspection.frame_prediction import view_frame
from edge.teaching.part_reference import (
    JUDGES,
    LocatorChoice,
    SeenImage,
    most_typical,
    with_agreed_likeness,
)
from tests.support.turned_part import moved
from training.components.backbones import find_weights
from training.data.loading import first_sight, read_sample
from training.data.open_data_set import open_splits
from training.data.samples import Sample
from training.evaluation import TorchPredictor, score_samples
from training.metrics.scores import auroc
from training.models.anomaly_model import StatisticalModel
from training.models.building import build_model, make_settings
from training.statistical_fit import fit_statistical

SHIFT, MARGIN = 0.15, 160  # of the sides, and pixels around them
TILE = 240, 300  # width and height, as all are laid on the belt
BELT = 255
CPU = torch.device("cpu")

Image = NDArray[np.uint8]


def on_a_belt(tile: Image) -> Image:
    """Return a tile of the common size in the middle of a belt."""
    upright = tile if tile.shape[0] >= tile.shape[1] else np.rot90(tile)
    laid = np.asarray(cv2.resize(upright, TILE, interpolation=cv2.INTER_AREA), np.uint8)
    return np.pad(laid, MARGIN, constant_values=BELT)


def continued(image: Image) -> Image:
    """Return an image whose background goes on."""
    margins = (MARGIN, MARGIN, MARGIN, MARGIN)
    return np.asarray(cv2.copyMakeBorder(image, *margins, cv2.BORDER_REPLICATE), np.uint8)


class MovedSet(NamedTuple):
    """How images of a set are moved, and their parts found.

    Attributes:
        beside: share of the part's sides that the box of the reference holds around it; None takes
            what stands out.
    """

    folder: str
    lay: Callable[[Image], Image]
    mode: AlignMode
    most_turn_deg: float
    beside: float | None


SETS = {
    "tiles": MovedSet("magnetic_tile", on_a_belt, AlignMode.SHIFT_ROTATION, 45.0, 0.05),
    "cast parts": MovedSet("casting", continued, AlignMode.SHIFT, 180.0, None),
}


def upright(sample: Sample, lay: Callable[[Image], Image]) -> Image:
    """Return an image of a set with room around it."""
    pixels = read_sample(sample)
    return lay(np.asarray(pixels if pixels.ndim == 2 else pixels[:, :, 0], np.uint8))


def write_moved(
    samples: Sequence[Sample], folder: Path, one: MovedSet, random: np.random.Generator
) -> list[Sample]:
    """Write each image as it lies elsewhere, and return the new samples."""
    folder.mkdir()
    found = []
    for number, sample in enumerate(samples):
        wide = upright(sample, one.lay)
        rows, columns = wide.shape
        pose = PartPose(
            x=columns / 2 + random.uniform(-SHIFT, SHIFT) * (columns - 2 * MARGIN),
            y=rows / 2 + random.uniform(-SHIFT, SHIFT) * (rows - 2 * MARGIN),
            angle_deg=random.uniform(-one.most_turn_deg, one.most_turn_deg),
            pivot_x=columns / 2,
            pivot_y=rows / 2,
        )
        path = folder / f"{number:04}.png"
        cv2.imwrite(str(path), moved(wide, pose))
        found.append(Sample(path=path, kind=sample.kind))
    return found


def aligned_spec(
    fit: Sequence[Sample], laid: Sequence[Sample], spec: InputSpec, one: MovedSet
) -> InputSpec:
    """Return a spec that finds the part by the most typical image, as a fit chooses it.

    Args:
        fit: images as they are.
        laid: images as they were moved.
    """
    judges = [fit[index * len(fit) // JUDGES] for index in range(JUDGES)]
    images = [SeenImage(sample.label, upright(sample, one.lay)) for sample in judges]
    rows, columns = images[0].samples.shape
    crop = Crop(x=MARGIN, y=MARGIN, width=columns - 2 * MARGIN, height=rows - 2 * MARGIN)
    roi = None
    if one.beside is not None:
        left, top = round(one.beside * crop.width), round(one.beside * crop.height)
        width, height = crop.width + 2 * left, crop.height + 2 * top
        roi = Crop(x=MARGIN - left, y=MARGIN - top, width=width, height=height)
    locator, _ = most_typical(images, LocatorChoice(mode=one.mode, roi=roi, crop=crop))
    spec = spec.model_copy(update={"locator": locator, "crop": crop})
    good = [view_frame(read_sample(sample), spec).located for sample in found_in(laid, spec)]
    agreed = with_agreed_likeness(locator, [one for one in good if one is not None])
    return spec.model_copy(update={"locator": agreed})


def found_in(samples: Sequence[Sample], spec: InputSpec) -> list[Sample]:
    """Return the images in which the part is found."""
    found = []
    for sample in samples:
        try:
            view_frame(read_sample(sample), spec)
        except FrameUnsuitable:
            continue
        found.append(sample)
    return found


def judged(
    fit: Sequence[Sample], test: Sequence[Sample], spec: InputSpec, weights: str
) -> float | None:
    """Fit PaDiM and return its image AUROC."""
    model = build_model(
        "padim",
        "resnet18",
        find_weights("resnet18", weights),
        (spec.height, spec.width),
        settings=make_settings("padim", {}),
        seed=0,
    )
    assert isinstance(model, StatisticalModel)
    fit_statistical(model, fit, spec, CPU)
    scored = score_samples(TorchPredictor(model, spec, CPU), test, spec, "test")
    scores = np.array([item.score for item in scored])
    return auroc(scores, np.array([item.sample.is_defective for item in scored]))


def main(data: str, weights: str, size: str = "128") -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    spec = first_sight((int(size), int(size)), None)
    for name, one in SETS.items():
        splits = open_splits(Path(data) / one.folder)
        fit, test = (
            [*splits.fit, *(s for s in splits.validation if not s.is_defective)],
            splits.test,
        )
        print(f"{name}: {len(fit)} to learn, {len(test)} to test", flush=True)
        print(f"  as they are: {judged(fit, test, spec, weights):.4f}", flush=True)
        random = np.random.default_rng(0)
        with tempfile.TemporaryDirectory() as place:
            laid = write_moved(fit, Path(place) / "fit", one, random)
            shown = write_moved(test, Path(place) / "test", one, random)
            print(f"  moved, not aligned: {judged(laid, shown, spec, weights):.4f}", flush=True)
            aligned = aligned_spec(fit, laid, spec, one)
            fit_found, found = found_in(laid, aligned), found_in(shown, aligned)
            area = judged(fit_found, found, aligned, weights)
            defective = sum(sample.is_defective for sample in shown if sample not in found)
            print(
                f"  moved, aligned ({one.mode.value}): {area:.4f}; found {len(fit_found)} of "
                f"{len(laid)} to learn, {len(found)} of {len(shown)} to test ({defective} of "
                "those left out are defective)",
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
