"""What every model has in common: uint8 images in, raw numbers out."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from edge.bundle.manifest import MapScore
from training.components.feature_extractor import FeatureExtractor
from training.components.k_center_greedy import Progress, ignore
from training.components.light_variation import LightVariation


class Prediction(NamedTuple):
    """Raw numbers, higher is more anomalous.

    Attributes:
        score: ``(N,) float32`` image scores.
        anomaly_map: ``(N, h, w) float32`` at feature resolution.
    """

    score: Tensor
    anomaly_map: Tensor


class AnomalyModel(nn.Module, ABC):
    """A network from images to raw numbers; the same ``forward`` tests and exports.

    Built as ``Model(extractor, image, settings, seed)``: what is random follows from the seed,
    and no score depends on other images or on earlier calls.

    Attributes:
        extractor: the frozen backbone; None for a model without one.
        grid: rows and columns of the anomaly map.
    """

    # Whether it reads features of a backbone; else it is built with None for an extractor.
    needs_backbone: ClassVar[bool] = True

    # Whether each position is compared with itself only, which tiles would mix up.
    per_position: ClassVar[bool] = False

    # Strides of the backbone's deepest layer that a side of the input is best a multiple of.
    side_strides: ClassVar[int] = 1

    # The shorter side of the input must have so many pixels.
    min_side_px: ClassVar[int] = 1

    # How the score follows from the map, which masks and zones need; None where it does not.
    map_score: MapScore | None = None

    # Sub-modules whose maths keeps its digits when the others are quantized; what ``forward`` does
    # outside its sub-modules always does.
    floating_point: ClassVar[tuple[str, ...]] = ("smoothing",)

    # Sub-modules whose outputs a quantized model may bring back to the mean, place by place, that
    # they have over good images.
    mean_corrected: ClassVar[tuple[str, ...]] = ("extractor",)

    extractor: FeatureExtractor | None
    grid: tuple[int, int]

    @abstractmethod
    def forward(self, images: Tensor) -> Prediction:
        """Score ``(N, H, W, 3) uint8`` images, each on its own."""

    @abstractmethod
    def fit_memory_bytes(self) -> int:
        """Return the most memory that fitting takes beside the network itself."""


class StatisticalModel(AnomalyModel):
    """A model that is fitted in one pass over good images, without gradients."""

    # What a fit that ran out of memory is told to lower.
    memory_settings: ClassVar[str] = "--image-size"

    # What is learned beside each image; None for nothing.
    light_variation: LightVariation | None = None

    def learn(self, images: Tensor, counted: Tensor | None = None) -> None:
        """Take in ``(N, H, W, 3) uint8`` good images, and as they look in other light if set.

        Args:
            counted: ``(N, h, w) bool`` cells of the map that count; None where all do.
        """
        self.accumulate_counted(images, counted)
        if self.light_variation is not None:
            copies = self.light_variation.copies(images)
            if counted is not None:
                counted = counted.repeat_interleave(len(copies) // len(images), 0)
            self.accumulate_counted(copies, counted)

    def accumulate_counted(self, images: Tensor, counted: Tensor | None) -> None:
        """Take in what counts of images; where each position is by itself, all of them."""
        self.accumulate(images)

    @abstractmethod
    def accumulate(self, images: Tensor) -> None:
        """Take in ``(N, H, W, 3) uint8`` good images; memory does not grow with their number."""

    @abstractmethod
    def finish(self, progress: Progress = ignore) -> None:
        """Turn what was accumulated into the fitted model.

        Args:
            progress: called with the number of new steps of the ``finish_steps()``.
        """

    def finish_steps(self) -> int:
        """Return how many steps ``finish`` reports; 0 where it takes no time worth showing."""
        return 0
