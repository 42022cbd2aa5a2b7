"""What ``--algorithm auto`` chooses on real sets, and how each candidate does on real defects.

``python -m tests.bench.algorithms DATA SET ...``; DATA holds the sets, and weights/ of ResNet-18.
Of each set 100 images to fit on, 60 good and 60 defective test images spread over it are taken.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from training.algorithm_choice import choice_lines, with_chosen_algorithm
from training.components.backbones import find_weights
from training.config import AUTO_ALGORITHM, FitConfig, load_fit_config
from training.data.loading import first_sight
from training.data.open_data_set import open_splits
from training.data.samples import Sample, Splits
from training.evaluation import TorchPredictor, score_samples
from training.metrics import auroc, auroc_interval
from training.models.anomaly_model import StatisticalModel
from training.models.building import build_model, make_settings
from training.statistical_fit import fit_statistical

FITTED, JUDGED = 100, 60


def main(arguments: list[str]) -> int:
    data = Path(arguments[0])
    for name in arguments[1:]:
        config = load_fit_config(
            None,
            {
                "data": [data / name],
                "algorithm": AUTO_ALGORITHM,
                "weights": str(data / "weights" / "resnet18-imagenet-to-layer3.safetensors"),
            },
        )
        splits = choose_some(open_splits(config.data))
        _, choice = with_chosen_algorithm(config, splits)
        assert choice is not None
        print(f"## {name}", *choice_lines(choice), sep="\n", flush=True)
        for one in choice.tried:
            size = (one.height, one.width)
            print(f"{one.name}: real defects {judged(config, one.name, size, splits)}", flush=True)
    return 0


def judged(config: FitConfig, name: str, size: tuple[int, int], splits: Splits) -> str:
    """Return the AUROC of real defects with its interval, of a model fitted to all images."""
    algorithm = name.partition(",")[0]
    weights = find_weights(config.backbone, config.weights)
    settings = make_settings(algorithm, {})
    model = build_model(algorithm, config.backbone, weights, size, settings=settings, seed=0)
    assert isinstance(model, StatisticalModel)
    spec, device = first_sight(size), torch.device("cpu")
    fit_statistical(model, splits.fit, spec, device)
    scored = score_samples(TorchPredictor(model, spec, device), splits.test, spec, name)
    scores = np.array([item.score for item in scored])
    labels = np.array([item.sample.is_defective for item in scored])
    interval = auroc_interval(scores, labels)
    assert interval is not None
    return f"{auroc(scores, labels):.4f} ({interval.low:.4f} to {interval.high:.4f})"


def choose_some(splits: Splits) -> Splits:
    good = spread([one for one in splits.test if not one.is_defective], JUDGED)
    defective = spread([one for one in splits.test if one.is_defective], JUDGED)
    return replace(splits, fit=spread(splits.fit, FITTED), test=good + defective)


def spread(samples: "tuple[Sample, ...] | list[Sample]", max_count: int) -> tuple[Sample, ...]:
    count = min(max_count, len(samples))
    return tuple(samples[number * len(samples) // count] for number in range(count))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
