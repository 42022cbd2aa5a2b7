"""What a report shows of a split: every image's verdict, and a bounded choice of images."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from edge.imaging.frame import Pixels
from edge.inspection.decision import Result
from edge.inspection.inspector import Inspection
from edge.inspection.overlay import Image, draw_overlay
from training.checkpoint import Checkpoint
from training.data.samples import Sample
from training.evaluation import TorchPredictor, inspect_samples
from training.figures import Scored, SplitTotals

# Of each group of images in a report.
_MAX_SHOWN = 6
_SHOWN_WIDTH_PX = 480
_QUALITY = 82


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    """One image's verdict.

    Attributes:
        score, normalized: None where the image could not be inspected.
    """

    label: str
    kind: str
    defective: bool
    synthetic: bool
    score: float | None
    normalized: float | None
    result: Result
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, order=True)
class Shown:
    """An image beside its heat map, as JPEG; ordered by how much it belongs into its group."""

    weight: float
    number: int
    row: ImageRow = field(compare=False)
    jpeg: bytes = field(compare=False, repr=False)


class Gallery:
    """The images worth looking at, at most six of each group, whatever is offered."""

    def __init__(self) -> None:
        self._groups: dict[str, list[Shown]] = {}
        self._number = 0

    def offer(self, row: ImageRow, pixels: Pixels, inspection: Inspection) -> None:
        """Keep an image where it is among the most telling ones of a group."""
        if row.score is None:
            return
        self._number += 1
        jpeg: bytes | None = None
        for group, weight in _grouped_scores(row):
            kept = self._groups.setdefault(group, [])
            if len(kept) == _MAX_SHOWN and weight <= kept[0].weight:
                continue
            if jpeg is None:
                jpeg = _side_by_side(pixels, draw_overlay(pixels, inspection))
            heapq.heappush(kept, Shown(weight, -self._number, row, jpeg))
            if len(kept) > _MAX_SHOWN:
                heapq.heappop(kept)

    def group(self, name: str) -> list[Shown]:
        """Return the images of a group, the most telling first."""
        return sorted(self._groups.get(name, ()), reverse=True)

    def kinds(self) -> list[str]:
        """Return the groups of single kinds of defects."""
        return sorted(name for name in self._groups if name.startswith(_KIND))


MISSED, FALSELY_REJECTED, NEAREST_GOOD = "missed", "falsely rejected", "nearest good"
_KIND = "kind "


def _grouped_scores(row: ImageRow) -> Iterator[tuple[str, float]]:
    assert row.score is not None
    if not row.defective:
        rejected = row.result is not Result.OK
        yield (FALSELY_REJECTED if rejected else NEAREST_GOOD), row.score
        return
    # Shown once: a missed defect is the hardest of its kind anyway.
    yield (MISSED if row.result is Result.OK else f"{_KIND}{row.kind}"), -row.score


@dataclass(slots=True)
class Evidence:
    """A split as the line would have inspected it."""

    name: str
    totals: SplitTotals
    rows: list[ImageRow]
    gallery: Gallery

    @property
    def errors(self) -> list[ImageRow]:
        return [row for row in self.rows if row.result is Result.ERROR]


def gather(
    checkpoint: Checkpoint,
    predictor: TorchPredictor,
    samples: Sequence[Sample],
    name: str,
    *,
    purpose: str,
) -> Evidence:
    """Inspect samples exactly as the line does.

    Args:
        name: of the split, for the report.
        purpose: in front of the progress bar.

    Raises:
        DataError: an image cannot be read; names the file.
    """
    description = checkpoint.description
    evidence = Evidence(name, SplitTotals(description.input), [], Gallery())
    for sample, pixels, inspection in inspect_samples(predictor, samples, description, purpose):
        row = _row(sample, inspection)
        evidence.rows.append(row)
        if inspection.score is not None and inspection.decided_map is not None:
            frame = (pixels.shape[0], pixels.shape[1])
            found = inspection.located
            evidence.totals.add(
                Scored(
                    sample=sample,
                    frame=frame,
                    score=inspection.score,
                    anomaly_map=inspection.decided_map,
                    pose=None if found is None else found.pose,
                )
            )
            evidence.gallery.offer(row, pixels, inspection)
    return evidence


def unreadable_row(sample: Sample, fault: str) -> ImageRow:
    """Return the row of an image that cannot be read."""
    return ImageRow(
        label=sample.label,
        kind=sample.kind,
        defective=sample.is_defective,
        synthetic=sample.is_synthetic,
        score=None,
        normalized=None,
        result=Result.ERROR,
        reason="unreadable",
        detail=fault,
    )


def _row(sample: Sample, inspection: Inspection) -> ImageRow:
    return ImageRow(
        label=sample.label,
        kind=sample.kind,
        defective=sample.is_defective,
        synthetic=sample.is_synthetic,
        score=inspection.score,
        normalized=inspection.normalized_score,
        result=inspection.decision.result,
        reason=inspection.decision.reason.value,
        detail=inspection.detail,
    )


def _side_by_side(pixels: Pixels, overlay: Image) -> bytes:
    plain = _small(as_bgr(pixels))
    beside = cv2.resize(overlay, plain.shape[1::-1], interpolation=cv2.INTER_AREA)
    done, encoded = cv2.imencode(
        ".jpg", np.hstack([plain, beside]), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    assert done
    return encoded.tobytes()


def _small(image: Image) -> Image:
    height = max(1, round(image.shape[0] * _SHOWN_WIDTH_PX / image.shape[1]))
    return cv2.resize(image, (_SHOWN_WIDTH_PX, height), interpolation=cv2.INTER_AREA)


def as_bgr(pixels: Pixels) -> Image:
    """Return an image with 8 bits and three channels; may share its memory."""
    if pixels.dtype != np.uint8:  # as in the overlay: 16 bits are stretched to what is there
        pixels = cv2.normalize(pixels, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    image = np.ascontiguousarray(pixels, np.uint8)
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(image[:, :, :3])
