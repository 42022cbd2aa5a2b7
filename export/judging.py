"""Test pictures of a data set that judge a precision, with defects where there are any."""

import logging
from pathlib import Path

import numpy as np

from export.gate import Engine, Pictures, Validation
from training.checkpoint import Description
from training.data.loading import prepare_sample, read_sample
from training.data.opening import open_judging

# Bound of memory; of more pictures those spread evenly are taken.
_MOST = 1000

log = logging.getLogger(__name__)


def read_judging_pictures(data: Path, description: Description, reference: Engine) -> Validation:
    """Prepare the test pictures of a data set; of a tiled one the tile that decides it.

    Raises:
        DataError: there are none, or one cannot be used.
    """
    samples = open_judging(data, description.seed).samples
    if len(samples) > _MOST:
        log.warning("of %d test pictures %d judge", len(samples), _MOST)
        samples = tuple(samples[index * len(samples) // _MOST] for index in range(_MOST))
    pictures = [
        _decisive(prepare_sample(sample, read_sample(sample), description.input), reference)
        for sample in samples
    ]
    defective = np.array([sample.is_defective for sample in samples], np.bool_)
    return Validation(np.stack(pictures), defective)


def _decisive(pieces: Pictures, reference: Engine) -> Pictures:
    if len(pieces) == 1:
        return pieces[0]
    return pieces[int(np.argmax([reference(piece[None])[0].score for piece in pieces]))]
