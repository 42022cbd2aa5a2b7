"""What one defect among the good images does to a fit, and whether the check of these finds it.

python -m tests.bench.mis_sorted DATA [--draws 5] [--good 30] [--size 128] [--bank 512]

DATA holds data sets in the layout of MVTec AD, and ``weights/`` of ResNet-18. Of each, good images
are drawn at random, and PatchCore is fitted to them three times: alone, with one defective image
among them, and with it and ``--no-check-good``. Defective images that no fit has seen say what each
threshold misses.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from training.config import FitConfig
from training.data.samples import GOOD, Sample, Splits, images_in
from training.data.settings import DataSettings
from training.data.splitting import split_off
from training.evaluation import TorchPredictor, score_samples
from training.fit_pipeline import fit_checkpoint
from training.metrics import share_text

# As of a plain folder.
HELD_OUT = 0.15
JUDGED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One draw.

    Attributes:
        suspected: whether the mis-sorted defect was named as a suspect.
        looked_at: whether it was, or among the images to look at first.
        others: good images that were named, too.
        thresholds: of the fit without it, with it, and with it unchecked, in shares of the first.
        missed: of the defective test images, by each of the three.
        defective: how many of these there are.
    """

    suspected: bool
    looked_at: bool
    others: int
    thresholds: tuple[float, float, float]
    missed: tuple[int, int, int]
    defective: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--good", type=int, default=30)
    parser.add_argument("--size", default="128")
    parser.add_argument("--bank", type=int, default=512)
    given = parser.parse_args()
    weights = next((given.data / "weights").glob("resnet18*.safetensors"))
    head = ["set", "suspected", "or to look at first", "good ones suspected"]
    head += ["threshold with it", "unchecked", "missed without it", "with it", "unchecked"]
    print(f"| {' | '.join(head)} |", "|---" * len(head) + "|", sep="\n")
    for folder in sorted(path.parents[1] for path in given.data.glob("**/train/good")):
        config = FitConfig(
            data=DataSettings(path=folder),
            weights=str(weights),
            image_size=given.size,
            hyperparameters={"bank_size": given.bank},
        )
        rows = [one_draw(config, given.good, draw) for draw in range(given.draws)]
        print(table_row(folder.name, given.good, rows), flush=True)
    return 0


def table_row(name: str, count: int, rows: Sequence[Row]) -> str:
    """Return a line of the table; thresholds as the range over the draws, misses summed up."""
    found = share_text(sum(row.suspected for row in rows), len(rows))
    looked_at = share_text(sum(row.looked_at for row in rows), len(rows))
    others = sum(row.others for row in rows)
    factors = np.array([row.thresholds for row in rows])
    ranges = [f"{column.min():.2f} to {column.max():.2f} ×" for column in factors[:, 1:].T]
    defective = sum(row.defective for row in rows)
    missed = [f"{sum(row.missed[n] for row in rows)} of {defective}" for n in range(3)]
    cells = [name, found, looked_at, f"{others} of {count * len(rows)}", *ranges, *missed]
    return f"| {' | '.join(cells)} |"


def one_draw(config: FitConfig, count: int, draw: int) -> Row:
    """Draw good images and a defective one, fit, and judge."""
    random = np.random.default_rng(draw)
    root = config.data.path
    good = [*images_in(root / "train" / GOOD), *images_in(root / "test" / GOOD)]
    kinds = sorted(path for path in (root / "test").iterdir() if path.name != GOOD)
    defective = [Sample(path=path, kind=kind.name) for kind in kinds for path in images_in(kind)]
    drawn = [Sample(path=good[i], kind=GOOD) for i in random.choice(len(good), count, False)]
    wrong, *judged = (defective[i] for i in random.permutation(len(defective))[: 1 + JUDGED])
    mis_sorted = Sample(path=wrong.path, kind=GOOD)
    unchecked = config.model_copy(update={"check_good": False})
    thresholds, missed, check = [], [], None
    for settings, samples in (
        (config, drawn),
        (config, [*drawn, mis_sorted]),
        (unchecked, [*drawn, mis_sorted]),
    ):
        if check is not None and not check.suspects and settings is unchecked:
            thresholds.append(thresholds[-1])  # the same fit again
            missed.append(missed[-1])
            continue
        fit, held_out = split_off(tuple(samples), HELD_OUT, draw, "validation")
        made = fit_checkpoint(
            settings, splits=Splits(name="drawn", fit=fit, validation=held_out, test=())
        )
        threshold, spec = made.description.threshold.image, made.description.input
        predictor = TorchPredictor(made.model, spec, torch.device("cpu"))
        scores = [one.score for one in score_samples(predictor, judged, spec, "judged")]
        thresholds.append(threshold)
        missed.append(sum(score < threshold for score in scores))
        if mis_sorted in samples:
            check = made.description.training.good_check or check
    assert check is not None
    named = mis_sorted.label in check.suspects
    first, second, third = (threshold / thresholds[0] for threshold in thresholds)
    return Row(
        suspected=named,
        looked_at=named or mis_sorted.label in check.strangest,
        others=len(check.suspects) - named,
        thresholds=(first, second, third),
        missed=(missed[0], missed[1], missed[2]),
        defective=len(judged),
    )


if __name__ == "__main__":
    raise SystemExit(main())
