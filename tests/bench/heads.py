"""PatchCore's default head beside the one it had before, on the same core-sets and images.

python -m tests.bench.heads WEIGHTS FOLDER...
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from edge.bundle.training_record import SplitMetrics
from training.components.remembered_features import RememberedFeatures
from training.config import FitConfig, taking_good_as_good
from training.data.open_data_set import open_splits
from training.data.settings import DataSettings
from training.evaluation import TorchPredictor, score_samples
from training.figures import SplitTotals
from training.fit_pipeline import fit_checkpoint
from training.metrics import auroc
from training.metrics.intervals import Interval, auroc_interval, bootstrap_interval
from training.metrics.scores import Labels, Scores
from training.models.building import model_around
from training.models.patchcore import PatchCore, PatchCoreSettings

SEEDS = (0, 1, 2)
BUILD = Path("build")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One fit, judged with both heads.

    Attributes:
        before, after: image scores of the test images.
        labels: which of them are defective.
        metrics_before, metrics_after: of the images and of their pixels.
    """

    before: Scores
    after: Scores
    labels: Labels
    metrics_before: SplitMetrics
    metrics_after: SplitMetrics


def judged(data: Path, weights: Path, seed: int) -> Judged:
    """Fit with the head from before, and judge its core-set with both."""
    earlier = dict(PatchCoreSettings.BEFORE)
    config = FitConfig(
        data=DataSettings(path=data), weights=str(weights), seed=seed, hyperparameters=earlier
    )
    splits = open_splits(config.data, config.validate_on, seed)
    checkpoint = fit_checkpoint(taking_good_as_good(config), splits=splits)
    spec, model = checkpoint.description.input, checkpoint.model
    assert isinstance(model, PatchCore)
    # What one head has seen, the other need not extract again.
    features = RememberedFeatures(model.extractor, 2**30)
    all_totals = []
    for name, settings in (("before", model.settings), ("after", PatchCoreSettings())):
        size = (spec.height, spec.width)
        head = model_around("patchcore", features, size, settings, seed=seed)
        assert isinstance(head, PatchCore)
        head.remember(model.bank + model.bank_centre)
        totals = SplitTotals(spec)
        predictor = TorchPredictor(head, spec, torch.device("cpu"))
        for item in score_samples(predictor, splits.test, spec, name):
            totals.add(item)
        all_totals.append(totals)
    before, after = all_totals
    return Judged(
        before=before.scores,
        after=after.scores,
        labels=before.labels,
        metrics_before=before.metrics(),
        metrics_after=after.metrics(),
    )


def mean_auroc(columns: slice, scores: Scores, labels: Labels) -> float:
    """Return the mean AUROC of the fits whose scores stand in these columns."""
    return fmean(auroc(column, labels) or 0.0 for column in scores[:, columns].T)


def gained(fits: int, scores: Scores, labels: Labels) -> float:
    """Return by how much the mean AUROC of the last columns is above that of the first."""
    before = mean_auroc(slice(0, fits), scores, labels)
    return mean_auroc(slice(fits, None), scores, labels) - before


def row(name: str, fits: Sequence[Judged]) -> str:
    """Return a line of the table: means over the seeds, intervals over the images."""
    count, labels = len(fits), fits[0].labels
    columns = np.stack([fit.before for fit in fits] + [fit.after for fit in fits], axis=1)
    cells = [name]
    for metric in (
        partial(mean_auroc, slice(0, count)),
        partial(mean_auroc, slice(count, None)),
        partial(gained, count),
    ):
        value = metric(columns, labels)
        interval = bootstrap_interval(metric, columns, labels, np.random.default_rng(0))
        if interval is None and value == 1.0:
            # Drawing again shows no spread; how many images there are still says something.
            interval = auroc_interval(labels.astype(np.float32), labels)
        cells.append(f"{value:.4f}{interval_text(interval)}")
    for metrics in ([fit.metrics_before for fit in fits], [fit.metrics_after for fit in fits]):
        for figure in ("pixel_auroc", "aupro"):
            values = [getattr(one, figure) for one in metrics]
            cells.append("–" if None in values else f"{fmean(values):.4f}")
    return f"| {' | '.join(cells)} |"


def interval_text(interval: Interval | None) -> str:
    return "" if interval is None else f" ({interval.low:.4f} to {interval.high:.4f})"


def main() -> int:
    weights, *folders = map(Path, sys.argv[1:])
    found: dict[str, list[Judged]] = {folder.name: [] for folder in folders}
    for seed in SEEDS:
        for folder in folders:
            fit = judged(folder, weights, seed)
            found[folder.name].append(fit)
            print(f"{seed} {row(folder.name, [fit])}", flush=True)
    head = ["set", "before", "now", "gained", "pixels", "AUPRO", "pixels now", "AUPRO now"]
    print(f"| {' | '.join(head)} |", "|---" * len(head) + "|", sep="\n")
    for name, fits in found.items():
        print(row(name, fits))
    before, after = (
        fmean(
            fmean(getattr(fit, f"metrics_{when}").image_auroc for fit in fits)
            for fits in found.values()
        )
        for when in ("before", "after")
    )
    print(f"mean {before:.4f} → {after:.4f}, {after - before:+.4f}")
    document = {
        name: [
            {
                "before": fit.metrics_before.model_dump(),
                "after": fit.metrics_after.model_dump(),
            }
            for fit in fits
        ]
        for name, fits in found.items()
    }
    BUILD.mkdir(exist_ok=True)
    (BUILD / "heads.json").write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
