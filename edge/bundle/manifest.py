"""The manifest of a bundle: everything the runtime needs beside the graph.

Export writes it; a site never does.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, Field, ValidationError, model_validator

from edge.bundle.bounds import (
    MAX_BIN_BYTES,
    MAX_INPUT_PX,
    MAX_NAME_LENGTH,
    MAX_SCORE,
    MAX_SPREADS,
    MAX_XML_BYTES,
)
from edge.bundle.input_spec import InputSpec
from edge.bundle.manifest_types import (
    Count,
    ManifestPart,
    Name,
    Score,
    Sha256,
    Share,
    Side,
    Text,
    demand_pixels,
    plain_text,
)
from edge.bundle.training_record import SeenImagesSummary, Training
from edge.errors import BundleDamaged, BundleVersionUnsupported
from edge.validation import in_words
from edge.wording import counted

SCHEMA: Literal["bundle/1"] = "bundle/1"
TEACHER_SCHEMA: Literal["teacher/1"] = "teacher/1"


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
        demand_pixels(self.map_height, self.map_width)
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
                f"{len(self.probabilities)} probabilities but {counted(len(self.scores), 'score')}"
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
        single_tiles: of how many of these images, inspected in tiles, one tile was compared alone.
    """

    images: int = Field(validation_alias="pictures", serialization_alias="pictures", ge=1, le=10**9)
    largest_score_difference: Score
    smallest_map_correlation: Score
    verdict_flips: Share
    auroc_before: Share | None
    auroc_after: Share | None
    flips_interval: tuple[Share, Share] | None = None
    single_tiles: Count = 0


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
