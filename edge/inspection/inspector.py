"""The inspector: one frame in, one decided inspection out. No threads, no I/O."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import ConfigurationError, FrameUnsuitable, ModelError
from edge.frame import Box, Frame, FrameStatus
from edge.inspection.frame_prediction import FramePrediction, predict_frame
from edge.inspection.normalization import ScoreScale, normalize, score_scale
from edge.inspection.plausibility import picture_fault
from edge.inspection.prediction import NOT_FINITE, Predictor
from edge.inspection.regions import Region, enlarge, find_regions, region_resolution
from edge.inspection.thresholding import Decision, Reason, Result, decide
from edge.manifest import Crop, InputSpec, Normalization, Threshold

_STATUS_REASON = {
    FrameStatus.INCOMPLETE: Reason.FRAME_INCOMPLETE,
    FrameStatus.STALE: Reason.FRAME_STALE,
    FrameStatus.FROZEN: Reason.FRAME_FROZEN,
}


class Calibrated(Protocol):
    """What an inspection rests on: the manifest on the line, the checkpoint in training."""

    @property
    def input(self) -> InputSpec: ...
    @property
    def normalization(self) -> Normalization: ...
    @property
    def threshold(self) -> Threshold: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What a station may set; None keeps the bundle's value.

    Attributes:
        image_threshold, pixel_threshold: raw.
        guard_band: half-width of the undecided band on the normalized scale, 0 to 0.5.
        smallest_region_px: regions below this area are not reported.
        crop: region of interest in frame pixels.

    Raises:
        ConfigurationError: a number that no part could be decided by.
    """

    image_threshold: float | None = None
    pixel_threshold: float | None = None
    guard_band: float = 0.0
    smallest_region_px: int = 0
    crop: Crop | None = None

    def __post_init__(self) -> None:
        for name in ("image_threshold", "pixel_threshold"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ConfigurationError(
                    f"{name} is {value}. Give a finite raw score, or leave it out to keep the "
                    "bundle's."
                )
        if not 0.0 <= self.guard_band <= 0.5:
            raise ConfigurationError(
                f"guard_band is {self.guard_band}. Give a share of the normalized scale from 0 "
                "(off) to 0.5."
            )
        if self.smallest_region_px < 0:
            raise ConfigurationError(
                f"smallest_region_px is {self.smallest_region_px}. Give an area in pixels, 0 to "
                "report every region."
            )


@dataclass(frozen=True, slots=True)
class Durations:
    """Monotonic stage times of one frame in nanoseconds; None where the stage was not reached."""

    preprocess_ns: int | None = None
    inference_ns: int | None = None
    postprocess_ns: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """What is known about one frame after the decision.

    Attributes:
        decision: result and reason.
        detail: the reason in words, where there is more to say.
        score: raw image score; None unless computed.
        normalized_score: in [0, 1] with the threshold at 0.5; for display and messages.
        threshold: raw image threshold the part was decided with.
        pixel_threshold: raw threshold of the regions.
        anomaly_map: ``(h, w) float32`` raw; None unless computed.
        regions: anomalous areas in frame pixels, strongest first; ``peak`` is normalized here.
        regions_truncated: there were more than are listed.
        placement: where the map lies in the frame; None unless computed.
        durations: stage times.
    """

    decision: Decision
    threshold: float
    pixel_threshold: float
    detail: str = ""
    score: float | None = None
    normalized_score: float | None = None
    anomaly_map: NDArray[np.float32] | None = field(default=None, repr=False)
    regions: tuple[Region, ...] = ()
    regions_truncated: bool = False
    placement: Box | None = None
    durations: Durations = Durations()


class Inspector:
    """Prepare, infer, normalize, decide, locate: the whole inspection of one frame.

    Training evaluates with this same class and a torch predictor, so that its numbers are the
    line's numbers.
    """

    def __init__(
        self,
        predictor: Predictor,
        manifest: Calibrated,
        limits: Limits = Limits(),
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Take the bundle's values, and the station's where it has set its own.

        Args:
            predictor: what runs the network; one inspector owns it.
            manifest: of the bundle that the predictor runs.
            limits: what the station has set.
            clock_ns: monotonic clock of the stage times.
        """
        chosen = limits.image_threshold
        self.threshold = manifest.threshold.image if chosen is None else chosen
        chosen = limits.pixel_threshold
        self.pixel_threshold = manifest.threshold.pixel if chosen is None else chosen
        self.image_scale = score_scale(self.threshold, manifest.normalization.image)
        self.map_scale = score_scale(self.pixel_threshold, manifest.normalization.map)
        self._spec = manifest.input
        if limits.crop is not None:
            self._spec = manifest.input.model_copy(update={"crop": limits.crop})
        self._guard_band = limits.guard_band * self.image_scale.range
        self._smallest_region_px = limits.smallest_region_px
        self._predictor = predictor
        self._clock_ns = clock_ns

    def inspect(self, frame: Frame) -> Inspection:
        """Inspect one frame. Never raises for a bad frame: that is an ERROR inspection."""
        if frame.status is not FrameStatus.COMPLETE:
            return self.failure(_STATUS_REASON[frame.status], frame.detail)
        try:
            predicted = predict_frame(self._predictor, frame.pixels, self._spec, self._clock_ns)
        except FrameUnsuitable as error:
            return self.failure(Reason.FRAME_INCOMPLETE, str(error))
        except ModelError as error:
            return self.failure(Reason.MODEL_ERROR, str(error))
        inferred_at = self._clock_ns()
        fault = picture_fault(predicted.statistics)
        if fault is None and not predicted.prediction.is_finite():
            fault = Reason.MODEL_ERROR, NOT_FINITE
        inspection = self._evaluate(predicted) if fault is None else self.failure(*fault)
        return replace(
            inspection,
            durations=Durations(
                preprocess_ns=predicted.preprocess_ns,
                inference_ns=predicted.inference_ns,
                postprocess_ns=self._clock_ns() - inferred_at,
            ),
        )

    def failure(self, reason: Reason, detail: str) -> Inspection:
        """Return the ERROR inspection of a part that could not be inspected."""
        return Inspection(
            Decision(Result.ERROR, reason), self.threshold, self.pixel_threshold, detail
        )

    def _evaluate(self, predicted: FramePrediction) -> Inspection:
        score, anomaly_map = predicted.prediction
        regions: tuple[Region, ...] = ()
        truncated = False
        # Enlarging never raises the peak, so most good parts are done here.
        if float(anomaly_map.max()) >= self.pixel_threshold:
            regions, truncated = find_regions(
                enlarge(anomaly_map, *region_resolution(anomaly_map, self._spec)),
                self.pixel_threshold,
                predicted.box,
                self._smallest_region_px,
            )
        return Inspection(
            decision=decide(score, self.threshold, self._guard_band),
            threshold=self.threshold,
            pixel_threshold=self.pixel_threshold,
            score=score,
            normalized_score=_normalized(score, self.image_scale),
            anomaly_map=anomaly_map,
            regions=tuple(replace(r, peak=_normalized(r.peak, self.map_scale)) for r in regions),
            regions_truncated=truncated,
            placement=predicted.box,
        )


def _normalized(value: float, scale: ScoreScale) -> float:
    return float(normalize(np.asarray(value), scale))
