"""Test images of a data set that judge a precision, with defects where there are any."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.bundle.input_spec import InputSpec
from edge.wording import counted
from export.parity_gate import Images
from training.calibrated_fit import rests_on_test
from training.checkpoint import Checkpoint
from training.data.loading import prepare_sample, read_sample
from training.data.open_data_set import open_judging
from training.data.samples import Sample
from training.seen_images import Role, SeenImages, phrase, sift

# Bound of memory; of more images those spread evenly are taken.
_MAX_IMAGES = 1000
# Each precision answers every tile, INT8 a dozen times.
_MAX_TILES = 2048
_MIN_TILED = 8

log = logging.getLogger(__name__)


def judging_samples(data: Path, checkpoint: Checkpoint) -> tuple[Sample, ...]:
    """Return the images of a data set that the model has not seen and that no others repeat.

    Those that its threshold rests on count as seen, unless these are test images by choice.

    Raises:
        DataError: there are none.
    """
    roles = [role for role in Role if role is not Role.CALIBRATED or not rests_on_test(checkpoint)]
    opened = open_judging(data, checkpoint.description.seed, checkpoint.seen, roles)
    if opened.left_out:
        log.info("%s: left out %s", data, phrase(opened.left_out))
    known = frozenset(row.tobytes() for row in checkpoint.validation.hashes)
    sifted = sift(opened.samples, SeenImages(calibrated=known), (Role.CALIBRATED,))
    repeated = len(opened.samples) - len(sifted.unseen)
    if repeated:
        log.info(
            "%s: %s stored in the checkpoint and used already",
            data,
            counted(repeated, "image is", "images are"),
        )
    samples = sifted.unseen
    if len(samples) > _MAX_IMAGES:
        log.warning("%s, %d used", counted(len(samples), "test image"), _MAX_IMAGES)
        samples = tuple(
            samples[index * len(samples) // _MAX_IMAGES] for index in range(_MAX_IMAGES)
        )
    return samples


@dataclass(frozen=True, slots=True, eq=False)
class PreparedJudging:
    """Images that judge a precision.

    Attributes:
        samples: those that were prepared.
        images: ``(P, H, W, 3) uint8``, the pieces of all, one image after the other.
        frames: height and width of each image.
    """

    samples: tuple[Sample, ...]
    images: Images
    frames: tuple[tuple[int, int], ...]


def prepare_judging(samples: Sequence[Sample], spec: InputSpec) -> PreparedJudging:
    """Prepare images to judge by; of many that are inspected in tiles those spread evenly.

    Raises:
        DataError: one cannot be used.
    """
    samples, pieces, frames = tuple(samples), list[Images](), list[tuple[int, int]]()
    if spec.tile_plan is not None and samples:
        first = read_sample(samples[0])
        count = max(_MAX_TILES // len(prepare_sample(samples[0], first, spec)), _MIN_TILED)
        if len(samples) > count:
            log.warning(
                "%s, %d used: each is judged in all its tiles",
                counted(len(samples), "test image"),
                count,
            )
            samples = tuple(samples[n * len(samples) // count] for n in range(count))
    for sample in samples:
        pixels = read_sample(sample)
        pieces.append(prepare_sample(sample, pixels, spec))
        frames.append((pixels.shape[0], pixels.shape[1]))
    none = np.zeros((0, spec.height, spec.width, 3), np.uint8)
    return PreparedJudging(samples, np.concatenate([none, *pieces]), tuple(frames))
