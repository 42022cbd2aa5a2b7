"""What a part is decided by, apart from the network, and exchanged without it."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Protocol

from edge.bundle.input_spec import Areas, Crop, InputSpec
from edge.bundle.manifest import Guarantee, MapScore, Normalization, Threshold
from edge.errors import ConfigurationError
from edge.inspection.areas import AreasUnusable, demand_areas
from edge.inspection.image_limits import ImageLimits
from edge.inspection.normalization import ScoreScale, score_scale

# Of the ratios of sides; below, shapes are about the same.
_STRETCHED = 1.5


class Calibrated(Protocol):
    """What an inspection rests on: the manifest on the line, the checkpoint in training."""

    @property
    def input(self) -> InputSpec: ...
    @property
    def normalization(self) -> Normalization: ...
    @property
    def threshold(self) -> Threshold: ...
    @property
    def map_score(self) -> MapScore | None: ...
    @property
    def map_shape(self) -> tuple[int, int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a station may set; None keeps the bundle's value.

    Attributes:
        image_threshold, pixel_threshold: raw.
        guard_band: half-width of the undecided band on the normalized scale, 0 to 0.5.
        smallest_region_px: regions below this area are not reported.
        crop: region of interest in frame pixels.
        areas: what of the image counts, and by which limits.
        image: what a frame must show for a part to be judged on it.

    Raises:
        ConfigurationError: a number that no part could be decided by.
    """

    image_threshold: float | None = None
    pixel_threshold: float | None = None
    guard_band: float = 0.0
    smallest_region_px: int = 0
    crop: Crop | None = None
    areas: Areas | None = None
    image: ImageLimits = field(default_factory=ImageLimits)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionCriteria:
    """What a part is decided by, exchanged as one.

    Attributes:
        threshold, pixel_threshold: raw, of the image score and of the regions.
        guard_band: half-width of the undecided band, raw.
        image_scale, map_scale: normalization of image score and map.
        smallest_region_px: regions below this area are not reported.
        input: how a frame becomes the network's input, with the station's crop, mask and zones.
        image: what a frame must show for a part to be judged on it.
    """

    threshold: float
    pixel_threshold: float
    guard_band: float
    image_scale: ScoreScale
    map_scale: ScoreScale
    smallest_region_px: int
    input: InputSpec
    image: ImageLimits

    @property
    def sha256(self) -> str:
        """Hash of all that decides beside the network, wherever it was set."""
        content = asdict(self) | {"input": self.input.model_dump(mode="json")}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def crop_sentence(spec: InputSpec, crop: Crop | None) -> str | None:
    """Return what to know where a station's crop has another shape than the model was made for.

    None where it has not, and where nobody knows: a square input takes frames of every shape.

    Args:
        spec: of the bundle.
        crop: that the station sets.
    """
    own = spec.crop or (spec.locator.roi if spec.locator is not None else None)
    if crop is None or spec.tile_plan is not None or (own is None and spec.height == spec.width):
        return None
    made_for = (spec.width, spec.height) if own is None else (own.width, own.height)
    stretched = (crop.width / crop.height) / (made_for[0] / made_for[1])
    if max(stretched, 1.0 / stretched) < _STRETCHED:
        return None
    return (
        f"camera.crop of {crop.width}×{crop.height} pixels is squeezed out of shape: the model was "
        f"made for regions of the shape of {made_for[0]}×{made_for[1]}, and its threshold does not "
        "hold for others. Give a crop of that shape, or fit the model with this one"
    )


def decision_criteria(calibrated: Calibrated, limits: Limits = Limits()) -> DecisionCriteria:
    """Take the bundle's values, and the station's where it has set its own.

    Raises:
        AreasUnusable: mask or zones do not fit the model, or its threshold rests on others.
    """
    threshold, pixel_threshold = limits.image_threshold, limits.pixel_threshold
    if threshold is None:
        threshold = calibrated.threshold.image
    if pixel_threshold is None:
        pixel_threshold = calibrated.threshold.pixel
    image_scale = score_scale(threshold, calibrated.normalization.image)
    spec = calibrated.input
    if limits.crop is not None:
        spec = spec.model_copy(update={"crop": limits.crop})
    if limits.areas is not None:
        _demand_threshold_for(limits.areas, calibrated, limits)
        spec = spec.model_copy(update={"areas": limits.areas})
    demand_areas(spec, calibrated.map_score, calibrated.map_shape)
    return DecisionCriteria(
        threshold=threshold,
        pixel_threshold=pixel_threshold,
        guard_band=limits.guard_band * image_scale.range,
        image_scale=image_scale,
        map_scale=score_scale(pixel_threshold, calibrated.normalization.map),
        smallest_region_px=limits.smallest_region_px,
        input=spec,
        image=limits.image,
    )


def guarantee_in_force(calibrated: Calibrated, criteria: DecisionCriteria) -> Guarantee | None:
    """Return what the bundle's threshold guarantees of parts that these criteria decide.

    None where it guarantees nothing, where zones decide beside it, and where the station has set
    anything that a score or its decision depends on: another threshold, a guard band, a crop or a
    mask.
    """
    own, spec = calibrated.threshold, criteria.input
    if criteria.threshold != own.image or criteria.guard_band > 0.0:
        return None
    if spec != calibrated.input or (spec.areas is not None and spec.areas.zones):
        return None
    return own.guarantee


def _demand_threshold_for(areas: Areas, calibrated: Calibrated, limits: Limits) -> None:
    """Demand a threshold that rests on what is scored.

    A bundle keeps no maps, so what its good images score outside of another mask is not known.

    Raises:
        AreasUnusable: the bundle's rests on scores of something else.
    """
    own = calibrated.input.areas
    if (own is None or not areas.scores_like(own)) and limits.image_threshold is None:
        raise AreasUnusable(
            "the bundle's threshold rests on scores "
            f"{'without a mask' if own is None else 'with another mask'}, and it keeps no maps to "
            "score its images again. On the workstation run train-station calibrate with --mask, "
            "and export; or set decision.image_threshold for this mask."
        )
