"""Scores of samples and the metrics of a split, through the runtime's own functions."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from edge.frame import Frame, Pixels
from edge.inspection.frame_prediction import predict_frame
from edge.inspection.inspector import Calibrated, Inspection, Inspector
from edge.inspection.prediction import Fill, RawPredictions
from edge.inspection.regions import enlarge, region_resolution
from edge.manifest import InputSpec, SplitMetrics
from training.data.loading import prepare_sample, read_mask, read_sample
from training.data.samples import Sample
from training.metrics import aupro, auroc, f1_max, f1_reject_all


class TorchPredictor:
    """Runs a torch model, one picture at a time so that no score depends on its neighbours."""

    def __init__(self, model: nn.Module, spec: InputSpec, device: torch.device) -> None:
        self._model = model.to(device).eval()
        self._picture_shape = (spec.height, spec.width, 3)
        self._device = device

    def predict_all(self, count: int, fill: Fill) -> RawPredictions:
        scores, maps = [], []
        for index in range(count):
            picture = np.empty(self._picture_shape, np.uint8)
            fill(index, picture)
            with torch.inference_mode():
                score, anomaly_map = self._model(torch.from_numpy(picture)[None].to(self._device))
            scores.append(score.cpu().numpy())
            maps.append(anomaly_map.cpu().numpy())
        return RawPredictions(np.concatenate(scores), np.concatenate(maps))


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Raw numbers of one sample.

    Attributes:
        frame: height and width of its picture, which its mask must share.
        worst: tile that gave the score; 0 for a picture that is inspected whole.
    """

    sample: Sample
    frame: tuple[int, int]
    score: float
    anomaly_map: NDArray[np.float32]
    worst: int = 0


def score_samples(
    predictor: TorchPredictor, samples: Sequence[Sample], spec: InputSpec, purpose: str
) -> list[Scored]:
    """Score samples one by one, so that no score depends on its neighbours.

    Raises:
        DataError: a picture cannot be used; names the file.
    """
    scored = []
    for sample in tqdm(samples, desc=purpose, unit="pic", disable=not samples):
        pixels = read_sample(sample)
        prepare_sample(sample, pixels, spec)
        predicted = predict_frame(predictor, pixels, spec)
        frame = (pixels.shape[0], pixels.shape[1])
        scored.append(Scored(sample, frame, *predicted.prediction, predicted.worst))
    return scored


class Inspected(NamedTuple):
    """A sample, its picture, and what the line would say about it."""

    sample: Sample
    pixels: Pixels
    inspection: Inspection


def inspect_samples(
    predictor: TorchPredictor, samples: Sequence[Sample], calibrated: Calibrated, purpose: str
) -> Iterator[Inspected]:
    """Inspect samples one after the other exactly as the line does.

    Raises:
        DataError: a picture cannot be read; names the file.
    """
    inspector = Inspector(predictor, calibrated)
    for number, sample in enumerate(tqdm(samples, desc=purpose, unit="pic")):
        frame = Frame(read_sample(sample), number, time.monotonic_ns(), time.time_ns())
        yield Inspected(sample, frame.pixels, inspector.inspect(frame))


def split_metrics(scored: Sequence[Scored], spec: InputSpec) -> SplitMetrics:
    """Return the metrics of a split.

    Pixel metrics are taken at model resolution. A defective picture without a mask is left out of
    them; without any mask, or without defects, they are None.
    """
    labels = np.array([item.sample.is_defective for item in scored], np.bool_)
    scores = np.array([item.score for item in scored], np.float64)
    counts = {
        "good_count": int((~labels).sum()),
        "defective_count": int(labels.sum()),
    }
    if not labels.any():
        return SplitMetrics(**counts)
    maps, masks = maps_and_masks(scored, spec)
    pixels = np.concatenate([m.ravel() for m in maps]) if maps else np.zeros(0, np.float32)
    truth = np.concatenate([m.ravel() for m in masks]) if masks else np.zeros(0, np.bool_)
    masked = bool(truth.any())
    return SplitMetrics(
        **counts,
        image_auroc=auroc(scores, labels),
        image_f1_max=f1_max(scores, labels),
        f1_reject_all=f1_reject_all(labels),
        pixel_auroc=auroc(pixels, truth) if masked else None,
        pixel_f1_max=f1_max(pixels, truth) if masked else None,
        aupro=aupro(maps, masks) if masked else None,
    )


def maps_and_masks(
    scored: Iterable[Scored], spec: InputSpec
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.bool_]]]:
    """Return enlarged maps and masks of the samples whose defective area is known."""
    known = [s for s in scored if s.sample.mask is not None or not s.sample.is_defective]
    sizes = [region_resolution(item.anomaly_map, spec) for item in known]
    maps = [enlarge(item.anomaly_map, *size) for item, size in zip(known, sizes, strict=True)]
    masks = [
        read_mask(item.sample, spec, item.frame, size)
        for item, size in zip(known, sizes, strict=True)
    ]
    return maps, masks
