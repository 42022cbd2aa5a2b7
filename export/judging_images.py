"""Test images of a data set that judge a precision, with defects where there are any."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge.bundle.input_spec import InputSpec
from export.parity_gate import Engine, Images
from training.calibrated_fit import rests_on_test
from training.checkpoint import Checkpoint
from training.data.loading import prepare_sample, read_sample
from training.data.open_data_set import open_judging
from training.data.samples import Sample
from training.seen_images import Role, SeenImages, phrase, sift

# Bound of memory; of more images those spread evenly are taken.
_MAX_IMAGES = 1000

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
        log.info("%s: %d images are stored in the checkpoint and used already", data, repeated)
    samples = sifted.unseen
    if len(samples) > _MAX_IMAGES:
        log.warning("%d test images, %d used", len(samples), _MAX_IMAGES)
        samples = tuple(
            samples[index * len(samples) // _MAX_IMAGES] for index in range(_MAX_IMAGES)
        )
    return samples


def prepare_judging(samples: Sequence[Sample], spec: InputSpec, reference: Engine) -> Images:
    """Prepare images to judge by, ``(N, H, W, 3) uint8``; of a tiled one the tile that decides it.

    Raises:
        DataError: one cannot be used.
    """
    prepared = [
        _decisive(prepare_sample(sample, read_sample(sample), spec), reference)
        for sample in samples
    ]
    return np.stack(prepared) if prepared else np.zeros((0, spec.height, spec.width, 3), np.uint8)


def _decisive(pieces: Images, reference: Engine) -> Images:
    if len(pieces) == 1:
        return pieces[0]
    return pieces[int(np.argmax([reference(piece[None])[0].score for piece in pieces]))]
