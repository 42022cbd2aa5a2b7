"""Defective images to learn from: which they are, and what a model reads of them."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from edge.bundle.input_spec import InputSpec
from edge.inspection.frame_prediction import view_frame
from edge.wording import counted
from training.data.disjoint_splits import named
from training.data.loading import prepare_sample, read_mask, read_sample
from training.data.samples import Sample, Splits
from training.data.splitting import split_off
from training.models.trained_model import MarkedImages

# Share of the defective images that the threshold is held against; the others are learned.
_HELD_OUT_SHARE = 1 / 3

# Of prepared images, in memory.
_MAX_BYTES = 2**30

log = logging.getLogger(__name__)


def with_learned_defects(splits: Splits, seed: int) -> Splits:
    """Move about two thirds of the defective validation images to those that are learned.

    Test images are never learned, nor are synthetic defects, whose images are held out. A single
    defective image is learned. Good images of an item whose defect is learned join the fit, as far
    as one is left for validation.
    """
    if splits.validation == splits.test:
        return splits
    real = [s for s in splits.validation if s.is_defective and not s.is_synthetic]
    learned, kept = split_off(real, _HELD_OUT_SHARE, seed, "learned defects")
    learned = learned or kept
    groups = {sample.group for sample in learned if sample.group}
    beside = tuple(s for s in splits.validation if s.group in groups and not s.is_defective)
    moved = {*learned, *beside}
    validation = tuple(sample for sample in splits.validation if sample not in moved)
    if all(sample.is_defective for sample in validation):
        return splits
    return replace(splits, fit=splits.fit + beside, validation=validation, learned=learned)


def held_against(splits: Splits) -> tuple[Sample, ...]:
    """Return the real defects that are left for the threshold, where others are learned."""
    if not splits.learned:
        return ()
    return tuple(s for s in splits.validation if s.is_defective and not s.is_synthetic)


def read_marked(
    samples: Sequence[Sample], spec: InputSpec, grid: tuple[int, int], max_bytes: int = _MAX_BYTES
) -> MarkedImages | None:
    """Read defective images whole, and their masks on the grid of a model's map.

    A defect that lies outside of what is inspected is left out. More images than there is memory
    for are thinned out evenly; both are said.

    Args:
        max_bytes: bound of the memory that the prepared images take.

    Returns:
        None where no image is left.

    Raises:
        DataError: an image or a mask cannot be used; names the file.
    """
    room = max(1, max_bytes // (3 * spec.height * spec.width))
    if len(samples) > room:
        log.warning(
            "of %s %d can be learned: there is no room for more in memory",
            *(counted(len(samples), "defective image"), room),
        )
        samples = [samples[index * len(samples) // room] for index in range(room)]
    images, masks, outside = [], [], []
    for sample in samples:
        pixels = read_sample(sample)
        frame, pose = pixels.shape[:2], None
        (prepared,) = prepare_sample(sample, pixels, spec)
        if spec.locator is not None:
            located = view_frame(pixels, spec).located
            pose = None if located is None else located.pose
        mask = read_mask(sample, spec, frame, grid, pose=pose)
        if mask is not None and not mask.any():
            outside.append(sample.path)
            continue
        images.append(prepared)
        masks.append(np.zeros(grid, np.float32) if mask is None else mask.astype(np.float32))
    if outside:
        log.warning(
            "%s not learned: what is marked lies outside of what is inspected: %s",
            *(
                counted(len(outside), "defective image is", "defective images are"),
                named(outside),
            ),
        )
    if not images:
        return None
    marks = torch.from_numpy(np.stack(masks))[:, None]
    return MarkedImages(torch.from_numpy(np.stack(images)), marks)
