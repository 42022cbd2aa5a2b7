"""How often a guaranteed false-reject rate is broken by scores of real good images.

python -m tests.bench.guarantees DATA [--splits 1000] [--rate 0.05] [--calibration 100]

DATA holds data sets in the layout of MVTec AD, and ``weights/`` of ResNet-18. Of each, PatchCore is
fitted to 100 good images, and scores all others. These are then split at random, often: one
part calibrates the threshold, and all of them together say what share of good parts it rejects.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge.inspection.thresholding import guaranteed_false_reject_rate
from edge.inspection.tolerance import rate_interval
from training.config import FitConfig
from training.data.samples import GOOD, Sample, Splits, images_in
from training.data.settings import DataSettings
from training.evaluation import TorchPredictor, score_samples
from training.fit_pipeline import fit_checkpoint

FITTED = 100
CONFIDENCE = 0.95


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--splits", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--calibration", type=int, default=100)
    given = parser.parse_args()
    print(f"| set | good images | broken ({given.rate:g}@{CONFIDENCE:g}), 95 % interval |")
    print("|---|---|---|")
    for folder in sorted(path.parents[1] for path in given.data.glob("**/train/good")):
        scores = held_out_scores(folder, given.data / "weights")
        broken = broken_splits(scores, given.rate, given.calibration, given.splits)
        low, high = rate_interval(broken, given.splits)
        print(
            f"| {folder.name} | {len(scores)} | {broken} of {given.splits} "
            f"({low:.3f} to {high:.3f}) |",
            flush=True,
        )
    return 0


def broken_splits(scores: NDArray[np.float32], rate: float, count: int, splits: int) -> int:
    """Count the random splits whose threshold rejects more than the rate of all good images."""
    random = np.random.default_rng(0)
    broken = 0
    for _ in range(splits):
        threshold = guaranteed_false_reject_rate(
            random.choice(scores, count, replace=False), rate, CONFIDENCE
        )
        broken += float((scores >= threshold).mean()) > rate
    return broken


def held_out_scores(folder: Path, weights: Path) -> NDArray[np.float32]:
    """Return ``(N,)`` scores of the good images that a model was not fitted on."""
    paths = [*images_in(folder / "train" / "good"), *images_in(folder / "test" / "good")]
    order = np.random.default_rng(0).permutation(len(paths))
    samples = tuple(Sample(path=paths[i], kind=GOOD) for i in order)
    config = FitConfig(
        data=DataSettings(path=folder),
        weights=str(next(weights.glob("resnet18*.safetensors"))),
        image_size="256",
        check_good=False,
    )
    fitted, others = samples[:FITTED], samples[FITTED:]
    # Something has to be calibrated on; the threshold is not used.
    made = fit_checkpoint(
        config, splits=Splits(name="drawn", fit=fitted, validation=others[:8], test=())
    )
    spec = made.description.input
    predictor = TorchPredictor(made.model, spec, torch.device("cpu"))
    scored = score_samples(predictor, others, spec, "held out")
    return np.array([one.score for one in scored], np.float32)


if __name__ == "__main__":
    raise SystemExit(main())
