"""STFPM: student-teacher feature pyramid matching (Wang et al., 2021)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

from edge.bundle.manifest import MapScore
from training.components.feature_extractor import FeatureExtractor
from training.components.fresh_copies import fresh_copy
from training.models.anomaly_model import Prediction
from training.models.trained_model import Loss, TrainedModel, TrainedSettings

# Keeps the logarithm of a layer's distance finite where student and teacher agree entirely.
_MIN_DISTANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class STFPMSettings(TrainedSettings):
    """Hyperparameters.

    Attributes:
        layers: layers at which the student imitates the teacher.
        momentum, weight_decay: of the stochastic gradient descent.
    """

    layers: tuple[str, ...] = ("layer1", "layer2", "layer3")
    batch_size: int = 32
    learning_rate: float = 0.4
    momentum: float = 0.9
    weight_decay: float = 1e-4


class STFPM(TrainedModel):
    """A student that never saw a defect fails to imitate the teacher on one."""

    map_score = MapScore(cells=1)

    extractor: FeatureExtractor
    settings: STFPMSettings

    def __init__(
        self,
        extractor: FeatureExtractor,
        image: tuple[int, int],
        settings: STFPMSettings,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.extractor = extractor
        self.settings = settings
        shapes = extractor.feature_shapes(*image)
        self.grid = (shapes[0][1], shapes[0][2])
        self.student = fresh_copy(extractor.body, seed)

    def optimizers(self) -> Sequence[Optimizer]:
        rate, momentum = self.settings.learning_rate, self.settings.momentum
        decay = self.settings.weight_decay
        return [SGD(self.student.parameters(), rate, momentum, weight_decay=decay)]

    def losses(self, images: Tensor, random: Generator) -> Iterator[Loss]:
        """Yield Σ_l of the mean distance over positions and images (equations 1 to 3)."""
        yield Loss(torch.stack([d.mean() for d in self.layer_distances(images)]).sum())

    def forward(self, images: Tensor) -> Prediction:
        """Multiply the layers' distances (equation 4).

        Of the product its L-th root, which orders images alike and keeps digits in every
        precision: the product of three tiny numbers does not.
        """
        enlarged = [
            F.interpolate(d[:, None], size=self.grid, mode="bilinear", align_corners=False)
            for d in self.layer_distances(images)
        ]
        grid = (torch.cat(enlarged, 1) + _MIN_DISTANCE).log().mean(1).exp()
        return Prediction(grid.amax((1, 2)), grid)

    def layer_distances(self, images: Tensor) -> list[Tensor]:
        """Return ½‖t̂ − ŝ‖² of every layer, ``(N, h, w)``, features at unit length per position."""
        read = self.student(self.extractor.normalized(images))
        return [
            0.5 * (_unit(taught) - _unit(read[layer])).square().sum(1)
            for layer, taught in zip(self.extractor.layers, self.extractor(images), strict=True)
        ]


def _unit(features: Tensor) -> Tensor:
    return features / features.square().sum(1, keepdim=True).clamp(min=1e-12).sqrt()
