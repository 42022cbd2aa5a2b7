"""The inspector: one frame in, one decided inspection out. No threads, no I/O."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import ConfigurationError, FrameUnsuitable, ModelError
from edge.frame import Frame, FrameStatus
from edge.inspection.normalization import ScoreScale, normalize, score_scale
from edge.inspection.prediction import NOT_FINITE, Predictor, RawPrediction
from edge.inspection.regions import Placement, Region, enlarge, find_regions
from edge.inspection.thresholding import Decision, Reason, Result, decide
from edge.manifest import Crop, InputSpec, Normalization, Threshold
from edge.preparation import prepare

# Prepared pictures below these grey-level limits show no part: lens cap, lamp off, all white.
LEAST_CONTRAST = 8
DARKEST_MEAN = 4.0
BRIGHTEST_MEAN = 251.0

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
    placement: Placement | None = None
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
        started = self._clock_ns()
        try:
            prepared = prepare(frame.pixels, self._spec)
        except FrameUnsuitable as error:
            return self.failure(Reason.FRAME_INCOMPLETE, str(error))
        fault = picture_fault(prepared)
        prepared_at = self._clock_ns()
        durations = Durations(preprocess_ns=prepared_at - started)
        if fault is not None:
            return replace(self.failure(*fault), durations=durations)
        try:
            prediction = self._predictor.predict(prepared)
        except ModelError as error:
            return replace(self.failure(Reason.MODEL_ERROR, str(error)), durations=durations)
        inferred_at = self._clock_ns()
        if not prediction.is_finite():
            return replace(self.failure(Reason.MODEL_ERROR, NOT_FINITE), durations=durations)
        inspection = self._evaluate(prediction, self._placement(frame))
        return replace(
            inspection,
            durations=Durations(
                preprocess_ns=prepared_at - started,
                inference_ns=inferred_at - prepared_at,
                postprocess_ns=self._clock_ns() - inferred_at,
            ),
        )

    def failure(self, reason: Reason, detail: str) -> Inspection:
        """Return the ERROR inspection of a part that could not be inspected."""
        return Inspection(
            Decision(Result.ERROR, reason), self.threshold, self.pixel_threshold, detail
        )

    def _evaluate(self, prediction: RawPrediction, placement: Placement) -> Inspection:
        regions, truncated = find_regions(
            enlarge(prediction.anomaly_map, self._spec.height, self._spec.width),
            self.pixel_threshold,
            placement,
            self._smallest_region_px,
        )
        return Inspection(
            decision=decide(prediction.score, self.threshold, self._guard_band),
            threshold=self.threshold,
            pixel_threshold=self.pixel_threshold,
            score=prediction.score,
            normalized_score=_normalized(prediction.score, self.image_scale),
            anomaly_map=prediction.anomaly_map,
            regions=tuple(replace(r, peak=_normalized(r.peak, self.map_scale)) for r in regions),
            regions_truncated=truncated,
            placement=placement,
        )

    def _placement(self, frame: Frame) -> Placement:
        crop = self._spec.crop
        if crop is not None:
            return Placement(crop.x, crop.y, crop.width, crop.height)
        rows, columns = frame.pixels.shape[:2]
        return Placement(0, 0, columns, rows)


def picture_fault(prepared: NDArray[np.uint8]) -> tuple[Reason, str] | None:
    """Tell why a prepared ``(H, W, 3) uint8`` picture cannot show a part, or None if it may."""
    mean = float(prepared.mean())
    if not DARKEST_MEAN <= mean <= BRIGHTEST_MEAN:
        what = "dark" if mean < DARKEST_MEAN else "white"
        return Reason.EXPOSURE_OUT_OF_RANGE, (
            f"the picture is all {what} (mean grey level {mean:.1f}). "
            "Check lamp, lens cap and exposure."
        )
    contrast = int(prepared.max()) - int(prepared.min())
    if contrast < LEAST_CONTRAST:
        return Reason.BLUR_OR_DARK, (
            f"the picture has no contrast ({contrast} grey levels). Check lamp, focus and lens cap."
        )
    return None


def _normalized(value: float, scale: ScoreScale) -> float:
    return float(normalize(np.asarray(value), scale))
