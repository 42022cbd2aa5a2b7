"""What every model has in common: uint8 pictures in, raw numbers out."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from training.components.feature_extractor import FeatureExtractor
from training.components.k_center_greedy import Progress, ignore


class Prediction(NamedTuple):
    """Raw numbers, higher is more anomalous.

    Attributes:
        score: ``(N,) float32`` image scores.
        anomaly_map: ``(N, h, w) float32`` at feature resolution.
    """

    score: Tensor
    anomaly_map: Tensor


class StatisticalModel(nn.Module, ABC):
    """A model that is fitted in one pass over good pictures, without gradients."""

    # Whether each position is compared with itself only, which tiles would mix up.
    per_position: ClassVar[bool] = False

    extractor: FeatureExtractor
    grid: tuple[int, int]

    @abstractmethod
    def accumulate(self, pictures: Tensor) -> None:
        """Take in ``(N, H, W, 3) uint8`` good pictures; memory does not grow with their number."""

    @abstractmethod
    def finish(self, progress: Progress = ignore) -> None:
        """Turn what was accumulated into the fitted model.

        Args:
            progress: called with the number of new steps of the ``finish_steps()``.
        """

    def finish_steps(self) -> int:
        """Return how many steps ``finish`` reports; 0 where it takes no time worth showing."""
        return 0

    @abstractmethod
    def forward(self, pictures: Tensor) -> Prediction:
        """Score ``(N, H, W, 3) uint8`` pictures, each on its own."""

    @abstractmethod
    def fit_memory_bytes(self) -> int:
        """Return the most memory that fitting takes beside the network itself."""
