"""What a manifest keeps of the fit: its images, its figures, how the algorithm was chosen."""

from typing import Annotated

from pydantic import Field

from edge.bundle.manifest_types import (
    Count,
    ManifestPart,
    Name,
    Score,
    Sha256,
    Share,
    Side,
    Text,
    Whole,
)


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
