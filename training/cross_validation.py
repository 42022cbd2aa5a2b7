"""Scores of the images of a fit by models that did not see them.

The images are dealt to folds, and for each fold a model is fitted to all others. Together with the
images that are held out, which the final model itself scores, that makes a cross-validation whose
models are all fitted to about as many images as the final one: six folds of a sixth beside a
hold-out of about a seventh. So the scores are those that the final model gives to new images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from edge.bundle.input_spec import InputSpec
from edge.teaching.lots import FOLDS, MIN_LEARNED, dealt
from training.data.content import image_hash
from training.data.kept_images import KeptImages
from training.data.loading import prepared_batches
from training.data.samples import Sample
from training.evaluation import Scored, TorchPredictor, score_samples
from training.models.anomaly_model import StatisticalModel
from training.out_of_memory import naming_settings
from training.statistical_fit import BATCH_SIZE, Learning


@dataclass(frozen=True, slots=True)
class Fold:
    """Images to score, and those that the model which scores them is fitted to."""

    learned: tuple[Sample, ...]
    judged: tuple[Sample, ...]


def make_folds(fit: Sequence[Sample], beside: Sequence[Sample], count: int = FOLDS) -> list[Fold]:
    """Deal the images of a fit to folds of about one size.

    The same image, under whatever name or view, and images of one group stay together, so that no
    image is scored by a model that has seen it. The deal hangs on what the images show, not on
    their names.

    Args:
        fit: good images; views are learned and not judged.
        beside: good images that every fold's model learns, too.
        count: of folds, or as many as there are different images.

    Returns:
        No fold where its model would learn fewer than two images.
    """
    keys = [s.group.encode(errors="surrogateescape") or image_hash(s) for s in fit]
    parts: dict[bytes, list[Sample]] = {}
    for key, sample in zip(keys, fit, strict=True):
        parts.setdefault(key, []).append(sample)
    folds = []
    for chosen in dealt(keys, count):
        learned = [s for key, samples in parts.items() if key not in chosen for s in samples]
        judged = [s for key in parts if key in chosen for s in parts[key] if s.view is None]
        if len(learned) + len(beside) >= MIN_LEARNED:
            folds.append(Fold((*learned, *beside), tuple(judged)))
    return folds


def cross_validated(
    folds: Sequence[Fold],
    unfitted: Callable[[], StatisticalModel],
    spec: InputSpec,
    device: torch.device,
    *,
    kept: KeptImages | None,
) -> list[Scored]:
    """Score the images of each fold by a model fitted to the others, as the line would.

    Args:
        unfitted: makes a model; those of one fit share what is extracted from an image.
        kept: prepared images, which each fold needs again.

    Raises:
        DataError: an image cannot be used; names the file.
        OutOfMemory: names the settings to lower.
    """
    scored: list[Scored] = []
    for fold in tqdm(folds, desc="cross-validate", unit="fold", disable=not folds):
        model = unfitted().to(device)
        with torch.inference_mode(), naming_settings(model.memory_settings):
            learning = Learning(model, spec, device)
            for batch in prepared_batches(fold.learned, spec, BATCH_SIZE, set(), kept=kept):
                learning.learn(batch)
            model.finish()
        scored += score_samples(TorchPredictor(model, spec, device), fold.judged, spec, "")
    return scored
