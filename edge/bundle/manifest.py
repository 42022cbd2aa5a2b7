"""The model bundle: IR plus manifest, verified as one thing.

``bottle.xml`` and ``bottle.bin`` are the OpenVINO IR, ``bottle.json`` is the manifest. OpenVINO
itself loads an IR with flipped or zeroed bytes without a word, so both files are read once, checked
against the manifest, and compiled from those very bytes.

A bundle comes from somebody else. Nothing of it is believed before it is bounded: the signature is
checked first, over the manifest; the manifest names sizes and hashes; only then the files are read.
"""

import base64
import hashlib
import os
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Generic, Literal, Protocol, Self, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from edge.atomic_files import open_regular
from edge.bundle.bounds import (
    MAX_BIN_BYTES,
    MAX_BUNDLE_MANIFEST_BYTES,
    MAX_INPUT_PX,
    MAX_NAME_LENGTH,
    MAX_POINTS,
    MAX_POLYGONS,
    MAX_REFERENCE_PX,
    MAX_RUNS,
    MAX_SCALE_SHARE,
    MAX_SCORE,
    MAX_SIDE_PX,
    MAX_SPREADS,
    MAX_TEXT_LENGTH,
    MAX_XML_BYTES,
    MAX_ZONE_NAME_LENGTH,
    MAX_ZONES,
    MIN_LIKENESS_SIZED,
    MIN_REFERENCE_PX,
)
from edge.bundle.polygons import polygon_fault
from edge.bundle.signature import verify_signature
from edge.errors import BundleDamaged, BundleError, BundleMissing, BundleVersionUnsupported
from edge.imaging.frame import PixelFormat
from edge.system.file_access import why_closed
from edge.system.processor import processor_features
from edge.validation import in_words

SCHEMA: Literal["bundle/1"] = "bundle/1"
TEACHER_SCHEMA: Literal["teacher/1"] = "teacher/1"


def plain_text(text: str, max_length: int = MAX_TEXT_LENGTH) -> str:
    """Return a text as a manifest may hold it: cut, and ``?`` for what is no plain character."""
    return "".join(one if one.isprintable() else "?" for one in text[:max_length])


def _plain(text: str) -> str:
    for one in text:
        if not one.isprintable():  # control, bidi, line and paragraph separators, surrogates
            name = unicodedata.name(one, "no name")
            raise ValueError(f"holds U+{ord(one):04X} ({name}), which is not a plain character")
    return text


Share = Annotated[float, Field(ge=0.0, le=1.0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH), AfterValidator(_plain)]
Text = Annotated[str, Field(max_length=MAX_TEXT_LENGTH), AfterValidator(_plain)]
Score = Annotated[float, Field(ge=-MAX_SCORE, le=MAX_SCORE)]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE_PX)]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**64)]
Count = Annotated[int, Field(ge=0, le=10**9)]


class ManifestPart(BaseModel):
    """What every part of a manifest keeps: unknown keys and numbers that are none are refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


class Identity(ManifestPart):
    """What the bundle is and who made it.

    Attributes:
        created: also the version: of two bundles of one name the later one is the newer release.
        xml_bytes, bin_bytes: sizes; None where the maker named none.
    """

    name: Name
    algorithm: Text
    backbone: Text
    weights_licence: Text
    created: AwareDatetime
    made_with: dict[Name, Text] = Field(max_length=100)
    xml_sha256: Sha256
    bin_sha256: Sha256
    xml_bytes: int | None = Field(default=None, ge=1, le=MAX_XML_BYTES)
    bin_bytes: int | None = Field(default=None, ge=0, le=MAX_BIN_BYTES)


class Crop(ManifestPart):
    """Region of interest in frame pixels, origin top-left."""

    x: int = Field(ge=0, le=MAX_SIDE_PX)
    y: int = Field(ge=0, le=MAX_SIDE_PX)
    width: Side
    height: Side


def _demand_pixels(height: int, width: int) -> None:
    if height * width > MAX_INPUT_PX:
        raise ValueError(f"{width}×{height} are more than {MAX_INPUT_PX} pixels")


class Levels(ManifestPart):
    """The 16-bit samples that become 0 and 255."""

    black: int = Field(ge=0, le=65535)
    white: int = Field(ge=0, le=65535)

    @model_validator(mode="after")
    def _ordered(self) -> "Levels":
        if self.black >= self.white:
            raise ValueError(f"black ({self.black}) must lie below white ({self.white})")
        return self


class TileSpec(ManifestPart):
    """Pieces that a frame is inspected in.

    Attributes:
        height, width: of a tile in frame pixels.
        overlap: share of a tile that neighbours have in common at least.
    """

    height: int = Field(ge=16, le=MAX_SIDE_PX)
    width: int = Field(ge=16, le=MAX_SIDE_PX)
    overlap: float = Field(ge=0.0, le=0.9)


class AlignMode(StrEnum):
    """How a part may lie; the angles that are searched."""

    SHIFT = "shift"
    SHIFT_ROTATION = "shift+rotation"
    FULL_ROTATION = "full-rotation"

    @property
    def most_turn_deg(self) -> float:
        """By so much the part may be turned, to either side."""
        return {"shift": 0.0, "shift+rotation": 45.0, "full-rotation": 180.0}[self.value]


class Locator(ManifestPart):
    """How the part is found in a frame, before anything of it is inspected.

    Attributes:
        mode: how the part may lie.
        roi: what of the reference image shows the part; without a crop this is inspected.
        frame_height, frame_width: of the reference image.
        reference: the region of interest in grey, reduced as it is searched: base64 of
            ``(reference_height, reference_width) uint8``.
        least_likeness: normalized cross-correlation that a part reaches at least.
        most_outside: this share of what is inspected may lie outside the frame.
        most_scale: by this share the part may be larger or smaller than in the reference.
    """

    mode: AlignMode
    roi: Crop
    frame_height: Side
    frame_width: Side
    reference: str = Field(max_length=4 * MAX_REFERENCE_PX**2 // 3 + 4)
    reference_height: int = Field(ge=MIN_REFERENCE_PX, le=MAX_REFERENCE_PX)
    reference_width: int = Field(ge=MIN_REFERENCE_PX, le=MAX_REFERENCE_PX)
    least_likeness: float = Field(default=0.5, ge=0.2, le=1.0)
    most_outside: float = Field(default=0.0, ge=0.0, le=0.5)
    most_scale: float = Field(default=0.0, ge=0.0, le=MAX_SCALE_SHARE)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        roi = self.roi
        if roi.x + roi.width > self.frame_width or roi.y + roi.height > self.frame_height:
            raise ValueError("roi does not lie inside the reference image")
        if roi.width < self.reference_width or roi.height < self.reference_height:
            raise ValueError("roi is smaller than the reference")
        if self.most_scale and self.least_likeness < MIN_LIKENESS_SIZED:
            raise ValueError(
                f"least_likeness is below {MIN_LIKENESS_SIZED:g}, by which no size is certain"
            )
        try:
            size = len(base64.b64decode(self.reference, validate=True))
        except ValueError:
            raise ValueError("reference is no base64") from None
        if size != self.reference_height * self.reference_width:
            raise ValueError(
                f"reference has {size} bytes, not {self.reference_width}×{self.reference_height}"
            )
        return self


Polygon = Annotated[tuple[tuple[float, float], ...], Field(min_length=3, max_length=MAX_POINTS)]


class Zone(ManifestPart):
    """A part of the image with limits of its own; what is None is as everywhere.

    Attributes:
        polygon: ``(x, y)`` in pixels; its sides do not cross.
        threshold, pixel_threshold: raw.
        guard_band: half-width of the undecided band on the normalized scale.
        smallest_region_px: regions below this area are not reported.
    """

    name: Annotated[
        str, Field(min_length=1, max_length=MAX_ZONE_NAME_LENGTH), AfterValidator(_plain)
    ]
    polygon: Polygon
    threshold: Score | None = None
    pixel_threshold: Score | None = None
    guard_band: float | None = Field(default=None, ge=0.0, lt=0.5)
    smallest_region_px: int | None = Field(default=None, ge=0)


class Areas(ManifestPart):
    """What of an image counts: a mask of what does not, and zones with limits of their own.

    Coordinates are those of the whole frame; where parts are found first, of the whole reference
    image. What is ignored is so in zones, too. Zones may overlap: each decides by all that lies in
    it.

    Attributes:
        width, height: of the image that it was drawn on; another one is refused.
        ignore: polygons that do not count.
        ignored_runs: pixels that do not count either, as painted: row by row, by turns how many
            count and how many do not; empty where nothing was painted.
    """

    width: Side
    height: Side
    ignore: tuple[Polygon, ...] = Field(default=(), max_length=MAX_POLYGONS)
    ignored_runs: tuple[Annotated[int, Field(ge=0, le=MAX_SIDE_PX**2)], ...] = Field(
        default=(), max_length=MAX_RUNS
    )
    zones: tuple[Zone, ...] = Field(default=(), max_length=MAX_ZONES)
    _hash: int = PrivateAttr()

    @model_validator(mode="after")
    def _drawn_inside(self) -> Self:
        named = [(f"ignore {number + 1}", points) for number, points in enumerate(self.ignore)]
        named += [(f"zone {zone.name}", zone.polygon) for zone in self.zones]
        for name, points in named:
            fault = polygon_fault(points, self.width, self.height)
            if fault is not None:
                raise ValueError(f"{name}: {fault}")
        names = [zone.name for zone in self.zones]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two zones are called {name}")
        if self.ignored_runs and sum(self.ignored_runs) != self.width * self.height:
            raise ValueError(
                f"ignored_runs holds {sum(self.ignored_runs)} pixels, not "
                f"{self.width}×{self.height}"
            )
        return self

    def model_post_init(self, _: object, /) -> None:
        """Hash the drawing once: what is made of it is looked up with every frame."""
        self._hash = hash((self.width, self.height, self.ignore, self.ignored_runs, self.zones))

    def __hash__(self) -> int:
        return self._hash

    def scores_like(self, other: "Areas") -> bool:
        """Tell whether an image gets the same score, whatever the zones' own limits are."""
        return self._scored() == other._scored()

    def _scored(self) -> tuple[object, ...]:
        zones = [(zone.polygon, zone.threshold is None) for zone in self.zones]
        return self.width, self.height, self.ignore, self.ignored_runs, zones


class InputSpec(ManifestPart):
    """How a frame becomes the model's input; all that preprocessing needs to know.

    Attributes:
        height, width: model input in pixels.
        colour_order: order of the three prepared channels.
        resize: ``area``: area-averaging where the image shrinks, bilinear where it grows.
        pixel_formats: formats of the images the model was trained on; others are refused.
        levels: mapping of 16-bit samples; required when a 16-bit format is listed.
        crop: default region of interest; the station may set its own. With a locator it lies in
            the reference image.
        tile_plan: pieces the frame is inspected in; null inspects it whole.
        locator: how the part is found; null inspects what lies at the same place of every frame.
        areas: what of the image counts, and by which limits; null: all of it by the same.
    """

    height: Side
    width: Side
    colour_order: Literal["bgr"] = "bgr"
    resize: Literal["area"] = "area"
    pixel_formats: tuple[PixelFormat, ...] = Field(min_length=1, max_length=len(PixelFormat))
    levels: Levels | None = None
    crop: Crop | None = None
    tile_plan: TileSpec | None = None
    locator: Locator | None = None
    areas: Areas | None = None

    @model_validator(mode="after")
    def _levels_for_16_bit(self) -> "InputSpec":
        if self.levels is None and any(f.is_16_bit for f in self.pixel_formats):
            raise ValueError("levels are required for 16-bit pixel formats")
        return self

    @model_validator(mode="after")
    def _of_a_size_to_work_with(self) -> Self:
        _demand_pixels(self.height, self.width)
        return self


class MapScore(ManifestPart):
    """How an image score follows from the anomaly map, so that a part of it can be scored, too.

    Attributes:
        cells: the mean of so many highest values is the score.
        sigma_px: the map is a sample of one of the input's size that was smoothed by so many
            pixels, and the values are those of that one; null: they are the map's own.
    """

    cells: int = Field(ge=1, le=MAX_INPUT_PX)
    sigma_px: float | None = Field(default=None, gt=0.0, le=1000.0)


class OutputSpec(ManifestPart):
    """What the graph gives.

    Attributes:
        map_height, map_width: size of the raw anomaly map in cells.
        image_score: the graph gives an image score; where false, the largest map value is it.
        map_score: null where the score is none of the map, or nobody knows.
    """

    map_height: Side
    map_width: Side
    image_score: bool
    map_score: MapScore | None = None

    @model_validator(mode="after")
    def _of_a_size_to_work_with(self) -> Self:
        _demand_pixels(self.map_height, self.map_width)
        return self


class Extent(ManifestPart):
    """Lowest and highest raw value seen in validation."""

    min: Score
    max: Score

    @model_validator(mode="after")
    def _ordered(self) -> "Extent":
        if self.min > self.max:
            raise ValueError(f"min ({self.min:g}) must not lie above max ({self.max:g})")
        return self


class Normalization(ManifestPart):
    """Ranges that become one unit of the normalized scale."""

    image: Extent
    map: Extent


class ThresholdMethod(StrEnum):
    """How a threshold came about; the functions of ``edge.inspection.thresholding``."""

    F1_ADAPTIVE = "f1_adaptive"
    RECALL = "recall"
    FALSE_REJECT_RATE = "false_reject_rate"
    MISS_RATE = "miss_rate"
    QUANTILE = "quantile"
    BALANCED = "balanced"
    MANUAL = "manual"


class Guarantee(ManifestPart):
    """What holds of all parts that are drawn like the calibration images, whatever their scores.

    Attributes:
        of: good parts that are rejected, or defective parts that are passed.
        rate: at most this share of them.
        confidence: with this probability over the choice of the calibration images.
        count: calibration images of that kind that it rests on.
    """

    of: Literal["false_reject_rate", "miss_rate"]
    rate: Share
    confidence: Share
    count: Count


class Threshold(ManifestPart):
    """Raw thresholds and the evidence they rest on.

    Attributes:
        image, pixel: raw values; a score at or above is anomalous.
        good_count, defective_count: validation images behind them.
        interval: bootstrap interval (2.5 % to 97.5 %) of the image threshold.
        cross_validated_count: of the good ones, scored by models that were fitted without them;
            the others were kept out of the fit.
        guarantee: None where the method promises none: the threshold is an estimate.
    """

    image: Score
    pixel: Score
    method: ThresholdMethod
    good_count: Count
    defective_count: Count
    interval: tuple[Score, Score] | None
    cross_validated_count: Count = 0
    guarantee: Guarantee | None = None

    @model_validator(mode="after")
    def _interval_ordered(self) -> "Threshold":
        if self.interval is not None and self.interval[0] > self.interval[1]:
            raise ValueError(f"interval {self.interval} must be (low, high)")
        return self


class ScoreStatistics(ManifestPart):
    """Quantiles of the image scores of good parts, for drift alarms without labels.

    Attributes:
        probabilities: ascending.
        scores: the raw score at each probability.
    """

    probabilities: tuple[Share, ...] = Field(max_length=10_000)
    scores: tuple[Score, ...] = Field(max_length=10_000)

    @model_validator(mode="after")
    def _paired_and_ascending(self) -> "ScoreStatistics":
        if len(self.probabilities) != len(self.scores):
            raise ValueError(
                f"{len(self.probabilities)} probabilities but {len(self.scores)} scores"
            )
        for name, values in (("probabilities", self.probabilities), ("scores", self.scores)):
            if list(values) != sorted(values):
                raise ValueError(f"{name} must ascend")
        return self


class GateReport(ManifestPart):
    """What the parity gate measured at export.

    Attributes:
        images: how many images were compared.
        largest_score_difference: between torch and OpenVINO, in shares of the score's spread.
        smallest_map_correlation: Pearson, between torch and OpenVINO maps.
        verdict_flips: validation images whose decision changed, as a share.
        flips_interval: where that share of many more images would lie, 95 %.
        auroc_before, auroc_after: image AUROC of torch and of the IR; None without defects.
    """

    images: int = Field(validation_alias="pictures", serialization_alias="pictures", ge=1, le=10**9)
    largest_score_difference: Score
    smallest_map_correlation: Score
    verdict_flips: Share
    auroc_before: Share | None
    auroc_after: Share | None
    flips_interval: tuple[Share, Share] | None = None


class GoldenScore(ManifestPart):
    """What the exported graph said about one of the images of ``edge.inspection.self_test``.

    Attributes:
        image: its name.
        score: raw image score.
        map_peak: largest value of the raw map.
        tolerance: another PC's numbers may be so far away, in raw units.
    """

    image: Name = Field(validation_alias="picture", serialization_alias="picture")
    score: Score
    map_peak: Score
    tolerance: float = Field(gt=0, le=MAX_SCORE)


class Fallback(ManifestPart):
    """Arithmetic for processors without the features; validated at the export like the other.

    Attributes:
        gate: what it changes of the verdicts of FP32 in f32.
        self_test: what the golden images give in it.
    """

    inference: Literal["f32"] = "f32"
    gate: GateReport
    self_test: tuple[GoldenScore, ...] = Field(max_length=100)


class ComparedPrecision(ManifestPart):
    """One of the precisions that ``--precision auto`` compared.

    Attributes:
        name: of the precision.
        milliseconds: of one inference, median; None of one that was not made.
        relative: to FP32, median of pairs.
        refused: why it was not made.
    """

    name: Name
    milliseconds: Annotated[float, Field(ge=0.0)] | None = None
    relative: Annotated[float, Field(ge=0.0)] | None = None
    refused: Text | None = None


class Precision(ManifestPart):
    """Number format of the weights and of the arithmetic the thresholds were validated with.

    Attributes:
        weights: ``int8`` computes in integers too, ``int8-weights`` only stores them.
        inference: of what is not integer.
        floating: layers of an ``int8`` graph that stay in floating point to keep its verdicts.
        requested, refused: the precision that was asked for, and why it is another one; None where
            it is what was asked for.
        cpu_features: of which the processor needs one for the arithmetic, as the kernel names them;
            empty: any processor will do.
        fallback: for one that has none of them; None: there the bundle does not run.
        compared, compared_on: where the fastest was taken, what else was measured on which PC.
    """

    weights: Literal["fp32", "fp16", "int8-weights", "int8"]
    inference: Literal["f32", "f16", "bf16"]
    gate: GateReport
    floating: tuple[Text, ...] = Field(default=(), max_length=10_000)
    requested: Text | None = None
    refused: Text | None = None
    cpu_features: tuple[Name, ...] = Field(default=(), max_length=20)
    fallback: Fallback | None = None
    compared: tuple[ComparedPrecision, ...] = Field(default=(), max_length=10)
    compared_on: Text | None = None


class SplitMetrics(ManifestPart):
    """Metrics of one split; ``f1_reject_all`` is what rejecting everything would score."""

    good_count: Count
    defective_count: Count
    image_auroc: Share | None = None
    image_f1_max: Share | None = None
    f1_reject_all: Share | None = None
    pixel_auroc: Share | None = None
    pixel_f1_max: Share | None = None
    aupro: Share | None = None


class GoodCheck(ManifestPart):
    """What the search for defects among the good images found.

    Attributes:
        compared: good images that were looked at, whatever their split.
        suspects: names of those that look like defects, at most 100; they count neither for the
            fit nor for a threshold.
        suspect_count: how many there are.
        confirmed: names of images that somebody confirmed as good, at most 100; they count.
        image_with, pixel_with: the raw thresholds, had the suspects among the scored images
            counted; None where there is none among them.
        strangest: names of the good images with the highest scores that are no suspects, the
            highest first: where a faint defect among them would be.
    """

    compared: Count
    suspects: tuple[Text, ...] = Field(default=(), max_length=100)
    suspect_count: Count = 0
    confirmed: tuple[Text, ...] = Field(default=(), max_length=100)
    image_with: Score | None = None
    pixel_with: Score | None = None
    strangest: tuple[Text, ...] = Field(default=(), max_length=10)


class TriedModel(ManifestPart):
    """One of the models that ``--algorithm auto`` compared.

    Attributes:
        name: of the candidate; its algorithm, and what else tells it from the others.
        width, height: of its input.
        auroc: of held-out good images and synthetic defects.
        gained: AUROC over that of the first one.
        gained_interval: where the gain of many more such images would lie.
    """

    name: Text
    width: Side
    height: Side
    auroc: Share
    gained: Annotated[float, Field(ge=-1.0, le=1.0)] = 0.0
    gained_interval: tuple[float, float] | None = None


class AlgorithmChoice(ManifestPart):
    """Which model ``--algorithm auto`` took, and why.

    Attributes:
        chosen: name of the candidate.
        shown_better: whether it is shown to be better than the first one; the first one is taken
            where none is.
        good_count, synthetic_count: images that judged; the model was fitted to none of them then.
        confidence: of each interval, so that all of them together hold with 95 %.
        tried: what was compared, the default first.
        not_tried: why others were not.
    """

    chosen: Text
    shown_better: bool
    good_count: Count
    synthetic_count: Count
    confidence: Share
    tried: tuple[TriedModel, ...] = Field(max_length=10)
    not_tried: tuple[Text, ...] = Field(default=(), max_length=10)


class Training(ManifestPart):
    """Where the model came from.

    Attributes:
        good_check: None where it was switched off.
        choice: how the algorithm was chosen; None where it was set.
    """

    dataset: Text
    dataset_fingerprint: Sha256
    fit_count: int = Field(ge=1, le=10**9)
    validation_good_count: Count
    validation_defective_count: Count
    seed: Whole
    hyperparameters: dict[Name, Text | Whole | float | bool] = Field(max_length=1000)
    metrics: dict[Name, SplitMetrics] = Field(max_length=100)
    good_check: GoodCheck | None = None
    choice: AlgorithmChoice | None = None


class UsedImages(ManifestPart):
    """Images that went into a model in one way; each is known by the SHA-256 of its pixels.

    Attributes:
        count: of different images.
        sha256: over the first 16 bytes of all their hashes, sorted.
        hashes: the first 8 bytes of each, sorted, in base64; empty of more than 10,000.
    """

    count: Count
    sha256: Sha256
    hashes: Annotated[str, Field(max_length=120_000, pattern=r"^[A-Za-z0-9+/]*={0,2}$")]


class SeenImagesSummary(ManifestPart):
    """What the model has seen: nothing of it says how good the model is.

    Attributes:
        fitted: images that it learned from.
        stopping: images that told when a training had to stop.
        calibrated: images that the threshold rests on.
        quantized: images that INT8 took its ranges from; none in another precision.
    """

    fitted: UsedImages
    stopping: UsedImages
    calibrated: UsedImages
    quantized: UsedImages


class Manifest(ManifestPart):
    """Everything the runtime needs beside the graph; written by export, never by a site."""

    schema_version: Literal["bundle/1"] = SCHEMA
    identity: Identity
    input: InputSpec
    output: OutputSpec
    normalization: Normalization
    threshold: Threshold
    statistics: ScoreStatistics
    precision: Precision
    training: Training
    self_test: tuple[GoldenScore, ...] = Field(default=(), max_length=100)
    # Not known of imported models.
    seen_images: SeenImagesSummary | None = None

    @property
    def map_score(self) -> MapScore | None:
        return self.output.map_score

    @property
    def map_shape(self) -> tuple[int, int]:
        return self.output.map_height, self.output.map_width

    @model_validator(mode="after")
    def _thresholds_among_the_scores(self) -> Self:
        for name, threshold, extent in (
            ("image", self.threshold.image, self.normalization.image),
            ("pixel", self.threshold.pixel, self.normalization.map),
        ):
            reach = MAX_SPREADS * max(extent.max - extent.min, abs(extent.min), abs(extent.max), 1)
            if not extent.min - reach <= threshold <= extent.max + reach:
                raise ValueError(
                    f"the {name} threshold {threshold:g} is far from all observed scores, "
                    f"{extent.min:g} to {extent.max:g}"
                )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A verified bundle in memory.

    Attributes:
        manifest: the parsed manifest.
        sha256: of the manifest file; it contains the other two hashes, so it names all three.
        xml, weights: the bytes that were hashed, private to this process.
        path: the ``.xml`` it was read from, symbolic links resolved.
        made_for: arithmetic that it was made for, where this processor does not compute in it and
            the manifest here is that of the fallback; else None.
    """

    manifest: Manifest
    sha256: str
    xml: bytes
    weights: bytes
    path: Path
    made_for: str | None = None


def load_bundle(xml_path: Path, public_key: Path | None = None) -> Bundle:
    """Read and verify ``NAME.xml``, ``NAME.bin`` and ``NAME.json``.

    Args:
        xml_path: may lead through symbolic links, such as ``models/bottle/current/bottle.xml``;
            they are resolved once, so that all files are of one version.
        public_key: PEM file of an ed25519 key that must have signed the manifest; None asks for
            no signature.

    Raises:
        BundleMissing: a file is not there or not readable.
        BundleDamaged: a hash does not match, or the manifest is not a manifest.
        BundleVersionUnsupported: the manifest has another schema version.
        SignatureMissing, SignatureInvalid: the bundle is not signed by that key.
        PublicKeyUnusable, SigningNotInstalled: signatures cannot be checked here.
    """
    files = read_verified(xml_path, public_key, parse_manifest)
    here = manifest_here(files.manifest, processor_features())
    return Bundle(
        manifest=here,
        sha256=files.sha256,
        xml=files.xml,
        weights=files.weights,
        path=files.path,
        made_for=None if here is files.manifest else precision_text(files.manifest),
    )


class Identified(Protocol):
    """A manifest, of whatever schema."""

    @property
    def identity(self) -> Identity:
        """What names the files."""
        ...


_Manifest = TypeVar("_Manifest", bound=Identified)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedFiles(Generic[_Manifest]):
    """The files of a bundle or a teacher: see ``Bundle``."""

    manifest: _Manifest
    sha256: str
    xml: bytes
    weights: bytes
    path: Path


def read_verified(
    xml_path: Path, public_key: Path | None, parse: Callable[[bytes, Path], _Manifest]
) -> VerifiedFiles[_Manifest]:
    """Read and verify three files, whatever the schema of their manifest.

    Args:
        parse: gives the manifest of its bytes, and refuses another schema.

    Raises:
        BundleError: as ``load_bundle``.
    """
    if xml_path.suffix != ".xml":
        raise BundleMissing(f"{xml_path}: --model takes the .xml of a bundle made by export-model.")
    xml_path = _resolved(xml_path)
    json_path, bin_path = xml_path.with_suffix(".json"), xml_path.with_suffix(".bin")
    with _opened(xml_path) as xml_file:  # what the user named is missed first
        with _opened(json_path) as file:
            text = _content(file, json_path, MAX_BUNDLE_MANIFEST_BYTES)
        if public_key is not None:
            # Before it is parsed, and the very bytes that are parsed.
            verify_signature(text, xml_path.with_suffix(".sig"), public_key)
        manifest = parse(text, json_path)
        identity = manifest.identity
        with _opened(bin_path) as bin_file:
            xml = _verified(
                xml_file,
                xml_path,
                max_bytes=MAX_XML_BYTES,
                named=identity.xml_bytes,
                sha256=identity.xml_sha256,
            )
            weights = _verified(
                bin_file,
                bin_path,
                max_bytes=MAX_BIN_BYTES,
                named=identity.bin_bytes,
                sha256=identity.bin_sha256,
            )
    return VerifiedFiles(
        manifest=manifest,
        sha256=hashlib.sha256(text).hexdigest(),
        xml=xml,
        weights=weights,
        path=xml_path,
    )


def manifest_here(manifest: Manifest, features: frozenset[str]) -> Manifest:
    """Return the manifest, on a processor without what its arithmetic needs with its fallback.

    Args:
        features: of the processor, as the kernel names them.
    """
    precision = manifest.precision
    if precision.fallback is None or computes(precision, features):
        return manifest
    fallback = precision.fallback
    update = {"inference": fallback.inference, "gate": fallback.gate, "cpu_features": ()}
    return manifest.model_copy(
        update={
            "precision": precision.model_copy(update={**update, "fallback": None}),
            "self_test": fallback.self_test,
        }
    )


def computes(precision: Precision, features: frozenset[str]) -> bool:
    """Whether a processor has what an arithmetic needs."""
    return not precision.cpu_features or bool(features & set(precision.cpu_features))


def precision_text(manifest: Manifest) -> str:
    """Return number formats of weights and arithmetic, as verdicts have them."""
    return f"{manifest.precision.weights}/{manifest.precision.inference}"


def fallback_sentence(bundle: Bundle) -> str | None:
    """Return what to know where a bundle runs in its fallback; None where it does not."""
    if bundle.made_for is None:
        return None
    return (
        f"{bundle.manifest.identity.name} was made for {bundle.made_for}, which this "
        f"processor cannot compute; it runs in {precision_text(bundle.manifest)}, in "
        "which it was validated, too, only slower"
    )


def manifest_sha256(xml_path: Path) -> str | None:
    """Return what names a bundle; None where it cannot be read, which its loading will tell."""
    try:
        path = _resolved(xml_path).with_suffix(".json")
        with _opened(path) as file:
            return hashlib.sha256(_content(file, path, MAX_BUNDLE_MANIFEST_BYTES)).hexdigest()
    except (BundleError, ValueError):  # also a path that is none
        return None


def parse_manifest(text: bytes, path: Path) -> Manifest:
    """Parse a manifest; ``path`` is only named in errors.

    Raises:
        BundleDamaged: not JSON, or a key is unknown, missing, of another type or out of range.
        BundleVersionUnsupported: the manifest has another schema version.
    """
    found = schema_version(text, path)
    if found == TEACHER_SCHEMA:
        raise BundleVersionUnsupported(
            f"{path}: is a teacher, which cannot inspect parts itself. Make a model with "
            "it: edge-run --teach NAME --from FOLDER --teacher "
            f"{path.with_suffix('.xml').name}."
        )
    if found != SCHEMA:
        raise BundleVersionUnsupported(
            f"{path}: schema {found[:50]!r}, this edge-run reads {SCHEMA!r}. "
            "Export the checkpoint again with the export-model of this version."
        )
    try:
        return Manifest.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise BundleDamaged(
            f"{path}: {first_fault(error)}. The site never edits a manifest; "
            "copy it again, or export the model again with this version."
        ) from error


def schema_version(text: bytes, path: Path) -> str:
    """Return which schema a manifest has; ``path`` is only named in errors.

    Raises:
        BundleDamaged: it is no manifest.
    """
    try:
        return _Header.model_validate_json(text).schema_version
    except ValidationError as error:
        raise BundleDamaged(
            f"{path}: not a bundle manifest ({first_fault(error)}). "
            "Copy it again, or export the model again."
        ) from error


class _Header(BaseModel):
    """The one key that every version of the manifest has."""

    schema_version: str


def first_fault(error: ValidationError) -> str:
    """Return the first fault of a manifest: its key and what is wrong."""
    fault = error.errors()[0]
    key = plain_text(".".join(str(part) for part in fault["loc"]), MAX_NAME_LENGTH)
    message = plain_text(in_words(fault), 3 * MAX_NAME_LENGTH)
    return f"{key}: {message}" if key else message


def _resolved(path: Path) -> Path:
    """Follow symbolic links; one that leads to a file of no bundle's name is left alone."""
    try:
        if not any(part.is_symlink() for part in (path, *path.parents)):
            return path
    except PermissionError:
        return path  # reading it says why
    real = Path(os.path.realpath(path))
    return real if real.suffix == ".xml" else Path(os.path.realpath(path.parent)) / path.name


def _opened(path: Path) -> BufferedReader:
    try:
        return open_regular(path)
    except PermissionError as error:
        raise BundleMissing(f"{path}: {why_closed()}.") from error
    except OSError as error:
        raise BundleMissing(
            f"{path}: cannot be read ({error.strerror}). A bundle is NAME.xml, NAME.bin and "
            "NAME.json in one folder; copy all three."
        ) from error


def _content(file: BufferedReader, path: Path, max_bytes: int, named: int | None = None) -> bytes:
    """Read a file of a bundle whose size is believed.

    Args:
        max_bytes: bytes that such a file may have.
        named: bytes that the manifest says it has; None where it does not say.
    """
    try:
        size = os.fstat(file.fileno()).st_size
        if named is not None and size != named:
            raise BundleDamaged(
                f"{path}: {size} bytes, which does not match {named} in the manifest. "
                "Copy all three files of the bundle again, or export it again."
            )
        if size > max_bytes:
            raise BundleDamaged(
                f"{path}: {size} bytes; such a file has at most {max_bytes}. It was not "
                "written by export-model: copy all three files of the bundle again."
            )
        return file.read(size)
    except OSError as error:
        raise BundleMissing(f"{path}: cannot be read ({error.strerror}). Copy it again.") from error


def _verified(
    file: BufferedReader, path: Path, *, max_bytes: int, named: int | None, sha256: str
) -> bytes:
    """Read a file that the manifest names."""
    content = _content(file, path, max_bytes, named)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise BundleDamaged(
            f"{path}: SHA-256 {found[:12]}… does not match {sha256[:12]}… in the manifest "
            f"({len(content)} bytes read). Copy all three files of the bundle again, or "
            "export it again."
        )
    return content
