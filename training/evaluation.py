"""Scores of samples, through the runtime's own functions."""

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from edge.frame import Frame, Pixels
from edge.inspection.criteria import Calibrated
from edge.inspection.frame_prediction import predict_frame
from edge.inspection.inspector import Inspection, Inspector
from edge.inspection.prediction import Fill, RawPredictions
from edge.manifest import InputSpec
from training.data.loading import prepare_sample, read_sample
from training.data.samples import Sample
from training.figures import Scored, split_metrics

__all__ = ["Inspected", "Scored", "TorchPredictor", "inspect_samples", "score_samples"]
__all__ += ["split_metrics"]


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
