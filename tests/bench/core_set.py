"""The greedy core-set beside the textbook's loop: same picks, less time."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from training.checkpoint import load_checkpoint
from training.components.k_center_greedy import k_center_greedy
from training.data.loading import prepared_batches
from training.data.open_data_set import open_splits
from training.models.patchcore import PatchCore


@dataclass(frozen=True, slots=True)
class CoreSetTimes:
    """Both ways on the same patch vectors.

    Attributes:
        same: picks that both ways share; ties may be broken otherwise.
    """

    vectors: int
    picks: int
    same: int
    ours_s: float
    textbook_s: float

    @property
    def speedup(self) -> float:
        return self.textbook_s / self.ours_s


def core_set_times(checkpoint: Path, data: Path, picks: int = 4096) -> CoreSetTimes:
    """Pick a core-set of all patch vectors of a data set's good training images both ways."""
    loaded = load_checkpoint(checkpoint)
    model = loaded.model
    assert isinstance(model, PatchCore)
    samples = open_splits(data).fit
    with torch.inference_mode():
        batches = prepared_batches(samples, loaded.description.input, 8, set())
        vectors = torch.cat([model.embed(batch).flatten(0, 1) for batch in batches])
        started = time.perf_counter()
        ours = k_center_greedy(vectors, picks, start=0)
        between = time.perf_counter()
        textbook = one_by_one(vectors, picks)
        ended = time.perf_counter()
    same = len(set(ours.tolist()) & set(textbook))
    return CoreSetTimes(len(vectors), picks, same, between - started, ended - between)


def one_by_one(vectors: Tensor, picks: int) -> list[int]:
    """Pick the farthest vector, update all distances by one product, and so on."""
    norms = vectors.square().sum(1)
    picked = [0]
    nearest = torch.full((len(vectors),), torch.inf)
    for _ in range(picks - 1):
        last = vectors[picked[-1]]
        squared = norms - 2.0 * (vectors @ last) + norms[picked[-1]]
        nearest = torch.minimum(nearest, squared)
        picked.append(int(nearest.argmax()))
    return picked
