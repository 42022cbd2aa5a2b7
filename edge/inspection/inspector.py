"""The inspector: one frame in, one decided inspection out. No threads, no I/O."""

import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import Areas
from edge.errors import FrameUnsuitable, ModelError, PartAmbiguous, PartNotFound
from edge.imaging.frame import Box, Frame, FrameStatus, Pixels
from edge.imaging.pose import PartPose
from edge.inspection.alignment import Located, mapped_back
from edge.inspection.criteria import Calibrated, DecisionCriteria, Limits, decision_criteria
from edge.inspection.decision import Decision, Reason, Result, decide
from edge.inspection.frame_prediction import FramePrediction, predict_frame
from edge.inspection.normalization import ScoreScale, normalize
from edge.inspection.plausibility import image_fault, reference_fault
from edge.inspection.predictor import NOT_FINITE, Predictor
from edge.inspection.regions import Region, enlarge, find_regions, region_resolution
from edge.inspection.zones import ZoneDecision, area_regions, decide_areas

_STATUS_REASON = {
    FrameStatus.INCOMPLETE: Reason.FRAME_INCOMPLETE,
    FrameStatus.STALE: Reason.FRAME_STALE,
    FrameStatus.FROZEN: Reason.FRAME_FROZEN,
}


@dataclass(frozen=True, slots=True)
class Durations:
    """Monotonic stage times of one frame in nanoseconds; None where the stage was not reached."""

    preprocess_ns: int | None = None
    inference_ns: int | None = None
    postprocess_ns: int | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Inspection:
    """What is known about one frame after the decision.

    Attributes:
        decision: result and reason.
        detail: the reason in words, where there is more to say.
        score: raw image score; None unless computed.
        shared_score: raw, the highest of what has no threshold of its own, which the part's is for;
            None without zones, where ``score`` is that.
        normalized_score: in [0, 1] with the threshold at 0.5; for display and messages.
        threshold: raw image threshold the part was decided with.
        pixel_threshold: raw threshold of the regions.
        decided_map: ``(h, w) float32`` raw, as it was decided by: of a part that was looked for it
            lies as in the reference image; None unless computed.
        map_box: what of the frame, or of the reference image, it shows.
        map_scale: normalization of the map it was decided with; None without a map.
        regions: anomalous areas in frame pixels, strongest first; ``peak`` is normalized here.
        regions_truncated: there were more than are listed.
        placement: where the map lies in the frame; None unless computed.
        located: where the part was found; None of a model that does not look for it.
        part_id: what a code on the part says; None where none was read.
        zones: what was decided about each zone; empty of a model without any.
        areas: what of the image counts; None where all of it does, or nothing was decided.
        durations: stage times.
    """

    decision: Decision
    threshold: float
    pixel_threshold: float
    detail: str = ""
    score: float | None = None
    shared_score: float | None = None
    normalized_score: float | None = None
    decided_map: NDArray[np.float32] | None = field(default=None, repr=False)
    map_box: Box | None = None
    map_scale: ScoreScale | None = None
    regions: tuple[Region, ...] = ()
    regions_truncated: bool = False
    placement: Box | None = None
    located: Located | None = None
    zones: tuple[ZoneDecision, ...] = ()
    areas: Areas | None = field(default=None, repr=False)
    part_id: str | None = None
    durations: Durations = Durations()

    @property
    def anomaly_map(self) -> NDArray[np.float32] | None:
        """The map as it lies in the frame, at ``placement``.

        Of a part that was looked for it is turned back at each call: most parts nobody draws.
        """
        found, scale, place = self.decided_map, self.map_scale, self.placement
        if found is None or self.located is None or scale is None:
            return found
        if place is None or self.map_box is None:
            return None
        # Far from what is shown at all.
        fill = min(float(found.min()), scale.threshold) - scale.range
        return mapped_back(found, self.located.pose, self.map_box, place, fill=fill)


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
        """Put a network and what decides of its scores together.

        Args:
            predictor: what runs the network; one inspector owns it.
            manifest: of the bundle that the predictor runs.
            limits: what the station has set.
            clock_ns: monotonic clock of the stage times.
        """
        self.criteria = decision_criteria(manifest, limits)
        self._predictor = predictor
        self._clock_ns = clock_ns

    def deciding_by(self, criteria: DecisionCriteria) -> Self:
        """Return an inspector of the same network with other criteria.

        Both use one predictor, so one of them inspects at a time.
        """
        other = copy(self)
        other.criteria = criteria
        return other

    def inspect(self, frame: Frame) -> Inspection:
        """Inspect one frame. Never raises for a bad frame: that is an ERROR inspection."""
        if frame.status is not FrameStatus.COMPLETE:
            return self.failure(_STATUS_REASON[frame.status], frame.detail)
        criteria = self.criteria
        try:
            if criteria.image.reference is not None:
                fault = reference_fault(frame.pixels, criteria.input, criteria.image.reference)
                if fault is not None:
                    return self.failure(*fault)
            predicted = predict_frame(
                self._predictor,
                frame.pixels,
                criteria.input,
                self._clock_ns,
                limits=criteria.image,
            )
        except PartNotFound as error:
            return self.failure(Reason.PART_NOT_FOUND, str(error))
        except PartAmbiguous as error:
            return self.failure(Reason.PART_AMBIGUOUS, str(error))
        except FrameUnsuitable as error:
            return self.failure(Reason.FRAME_INCOMPLETE, str(error))
        except ModelError as error:
            return self.failure(Reason.MODEL_ERROR, str(error))
        except MemoryError:
            height, width = frame.pixels.shape[:2]
            detail = f"{width}×{height} pixels need more memory than there is."
            return self.failure(Reason.FRAME_INCOMPLETE, detail)
        inferred_at = self._clock_ns()
        fault = image_fault(predicted.statistics, criteria.image)
        if fault is None and not predicted.prediction.is_finite():
            fault = Reason.MODEL_ERROR, NOT_FINITE
        if fault is None:
            inspection = self._evaluate(predicted, frame.pixels)
        else:
            inspection = self.failure(*fault)
        return replace(
            inspection,
            located=predicted.located,
            durations=Durations(
                preprocess_ns=predicted.preprocess_ns,
                inference_ns=predicted.inference_ns,
                postprocess_ns=self._clock_ns() - inferred_at,
            ),
        )

    def failure(self, reason: Reason, detail: str) -> Inspection:
        """Return the ERROR inspection of a part that could not be inspected."""
        return Inspection(
            decision=Decision(Result.ERROR, reason),
            threshold=self.criteria.threshold,
            pixel_threshold=self.criteria.pixel_threshold,
            detail=detail,
        )

    def _evaluate(self, predicted: FramePrediction, pixels: Pixels) -> Inspection:
        criteria = self.criteria
        score, anomaly_map = predicted.prediction
        zones, detail = tuple[ZoneDecision, ...](), ""
        if predicted.counted is None:
            decision = decide(score, criteria.threshold, criteria.guard_band)
            regions, truncated = self._regions(anomaly_map, predicted.box)
        else:
            decided = decide_areas(predicted.areas, criteria)
            decision, score = decided.decision, decided.score
            zones, detail = decided.zones, decided.detail
            anomaly_map = predicted.counted.only(anomaly_map)
            regions, truncated = area_regions(
                predicted.counted, anomaly_map, predicted.box, criteria
            )
        placement, located = predicted.box, predicted.located
        if located is not None:
            frame = (pixels.shape[0], pixels.shape[1])
            regions = tuple(_in_frame(region, located.pose, frame) for region in regions)
            placement = located.pose.enclosing(predicted.box, frame)
        return Inspection(
            decision=decision,
            detail=detail,
            threshold=criteria.threshold,
            pixel_threshold=criteria.pixel_threshold,
            score=score,
            shared_score=predicted.prediction.score if zones else None,
            normalized_score=_normalized(score, criteria.image_scale),
            decided_map=anomaly_map,
            map_box=predicted.box,
            map_scale=criteria.map_scale,
            regions=tuple(
                replace(r, peak=_normalized(r.peak, criteria.map_scale)) for r in regions
            ),
            regions_truncated=truncated,
            placement=placement,
            zones=zones,
            areas=criteria.input.areas,
        )

    def _regions(
        self, anomaly_map: NDArray[np.float32], box: Box
    ) -> tuple[tuple[Region, ...], bool]:
        criteria = self.criteria
        # Enlarging never raises the peak, so most good parts are done here.
        if float(anomaly_map.max()) < criteria.pixel_threshold:
            return (), False
        return find_regions(
            enlarge(anomaly_map, *region_resolution(anomaly_map, criteria.input)),
            criteria.pixel_threshold,
            box,
            criteria.smallest_region_px,
        )


def _in_frame(region: Region, pose: PartPose, frame: tuple[int, int]) -> Region:
    """Return a region of the reference image as it lies in the frame: the box that holds it."""
    box = pose.enclosing(Box(region.x, region.y, region.width, region.height), frame)
    area_px = round(region.area_px * pose.scale**2)
    return replace(region, x=box.x, y=box.y, width=box.width, height=box.height, area_px=area_px)


def _normalized(value: float, scale: ScoreScale) -> float:
    return float(normalize(np.asarray(value), scale))
