"""Scores of samples, through the runtime's own functions."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from edge.bundle.input_spec import InputSpec
from edge.bundle.manifest import MapScore
from edge.errors import FrameUnsuitable
from edge.imaging.frame import Frame, Pixels
from edge.inspection.criteria import Calibrated
from edge.inspection.frame_prediction import predict_frame
from edge.inspection.inspector import Inspection, Inspector
from edge.inspection.predictor import Fill, RawPredictions
from training.data.content import image_hash
from training.data.loading import demand_content, demand_format, read_sample
from training.data.samples import Sample
from training.errors import DataError
from training.figures import Scored, split_metrics

__all__ = ["Inspected", "Scored", "TorchPredictor", "inspect_samples", "score_samples"]
__all__ += ["split_metrics"]

# Images are scored side by side, each by few threads: a network of one image has dozens of short
# steps, and threads that wait for each other at the end of every step stand still as soon as
# another program needs a core. On two busy cores that took five times as long.
_MAX_WORKERS = 8
# Of all images that are in work at one time; bounds memory where the model input is large.
_PIXELS_IN_WORK = 8 * 512 * 512

_Result = TypeVar("_Result")


class TorchPredictor:
    """Runs a torch model, one image at a time so that no score depends on its neighbours."""

    def __init__(self, model: nn.Module, spec: InputSpec, device: torch.device) -> None:
        self._model = model.to(device).eval()
        self.map_score: MapScore | None = getattr(model, "map_score", None)
        self._image_shape = (spec.height, spec.width, 3)
        self._device = device

    def predict_all(self, count: int, fill: Fill) -> RawPredictions:
        scores, maps = [], []
        for index in range(count):
            image = np.empty(self._image_shape, np.uint8)
            fill(index, image)
            with torch.inference_mode():
                score, anomaly_map = self._model(torch.from_numpy(image)[None].to(self._device))
            scores.append(score.cpu().numpy())
            maps.append(anomaly_map.cpu().numpy())
        return RawPredictions(np.concatenate(scores), np.concatenate(maps))


def score_samples(
    predictor: TorchPredictor, samples: Sequence[Sample], spec: InputSpec, purpose: str
) -> list[Scored]:
    """Score samples one by one, so that no score depends on its neighbours.

    Raises:
        DataError: an image cannot be used; names the file.
    """

    def score(sample: Sample) -> Scored:
        pixels = read_sample(sample)
        demand_format(sample, pixels, spec)
        try:
            predicted = predict_frame(predictor, pixels, spec)
        except FrameUnsuitable as error:
            raise DataError(f"{sample.label}: {error}") from error
        demand_content(sample, predicted.statistics)
        frame = (pixels.shape[0], pixels.shape[1])
        raw, counted = predicted.prediction, predicted.counted
        return Scored(
            sample=sample,
            frame=frame,
            score=raw.score,
            anomaly_map=raw.anomaly_map if counted is None else counted.only(raw.anomaly_map),
            areas=predicted.areas,
            worst=predicted.worst,
            content=image_hash(sample),
            pose=None if predicted.located is None else predicted.located.pose,
        )

    return list(side_by_side(score, samples, spec, purpose))


class Inspected(NamedTuple):
    """A sample, its image, and what the line would say about it."""

    sample: Sample
    pixels: Pixels
    inspection: Inspection


def inspect_samples(
    predictor: TorchPredictor, samples: Sequence[Sample], calibrated: Calibrated, purpose: str
) -> Iterator[Inspected]:
    """Inspect samples one after the other exactly as the line does.

    Raises:
        DataError: an image cannot be read; names the file.
    """
    inspector = Inspector(predictor, calibrated)

    def inspect(sample: Sample) -> Inspected:
        frame = Frame(
            pixels=read_sample(sample),
            number=0,
            captured_ns=time.monotonic_ns(),
            captured_utc_ns=time.time_ns(),
        )
        return Inspected(sample, frame.pixels, inspector.inspect(frame))

    yield from side_by_side(inspect, samples, calibrated.input, purpose)


def side_by_side(
    work: Callable[[Sample], _Result], samples: Sequence[Sample], spec: InputSpec, purpose: str
) -> Iterator[_Result]:
    """Yield the results of samples in their order; several are in work at one time.

    Each sample is worked on alone, so its result does not depend on its neighbours. At most twice
    as many results wait as there are workers.

    Args:
        purpose: in front of the progress bar; empty shows none.

    Raises:
        Exception: what the work raised for the first sample that failed.
    """
    room = max(_PIXELS_IN_WORK // (spec.height * spec.width), 1)
    workers = min(torch.get_num_threads(), _MAX_WORKERS, room)
    upcoming = iter(samples)
    waiting: deque[Future[_Result]] = deque()
    bar = tqdm(total=len(samples), desc=purpose, unit="image", disable=not (samples and purpose))
    with bar, _threads_each(workers), ThreadPoolExecutor(workers) as pool:
        try:
            while True:
                while len(waiting) < 2 * workers and (sample := next(upcoming, None)) is not None:
                    waiting.append(pool.submit(work, sample))
                if not waiting:
                    break
                yield waiting.popleft().result()
                bar.update()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def _threads_each(workers: int) -> Iterator[None]:
    """Share torch's threads among workers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(threads // workers, 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
