"""FastFlow: two-dimensional normalizing flows on feature maps (Yu et al., 2021)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from edge.bundle.manifest import MapScore
from training.components.coupling_flows import CouplingFlow, zero_last_layer
from training.components.feature_extractor import FeatureExtractor
from training.models.anomaly_model import Prediction
from training.models.trained_model import Loss, TrainedModel, TrainedSettings

# Bound of the logarithm of a coupling's scale.
_CLAMP = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FastFlowSettings(TrainedSettings):
    """Hyperparameters.

    Attributes:
        layers: layers of the backbone, each with a flow of its own.
        flow_steps: couplings of each flow.
        hidden_ratio: hidden channels of a coupling's network, in shares of its input's.
        only_3x3: whether all couplings look at neighbours; else every other one does.
        weight_decay: of Adam.
    """

    layers: tuple[str, ...] = ("layer1", "layer2", "layer3")
    flow_steps: int = 8
    hidden_ratio: float = 1.0
    only_3x3: bool = False
    weight_decay: float = 1e-5
    epochs: int = 200


class FastFlow(TrainedModel):
    """Features of good images become standard normal; the rest has a low likelihood.

    Its normalization has a weight for every position, so the part must lie the same way.
    """

    map_score = MapScore(cells=1)
    per_position = True
    # A likelihood multiplies up what rounding loses in every coupling.
    floating_point = ("norms", "flows")
    extractor: FeatureExtractor
    settings: FastFlowSettings

    def __init__(
        self,
        extractor: FeatureExtractor,
        image: tuple[int, int],
        settings: FastFlowSettings,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.extractor = extractor
        self.settings = settings
        shapes = extractor.feature_shapes(*image)
        self.grid = (shapes[0][1], shapes[0][2])
        self.norms = nn.ModuleList(nn.LayerNorm(list(shape)) for shape in shapes)
        sizes = [
            1 if step % 2 and not settings.only_3x3 else 3 for step in range(settings.flow_steps)
        ]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            networks = [_network(size, settings.hidden_ratio) for size in sizes]
            self.flows = nn.ModuleList(
                CouplingFlow(
                    channels=channels, networks=networks, clamp=_CLAMP, seed=seed + 1_000 * number
                )
                for number, (channels, _, _) in enumerate(shapes)
            )

    def optimizers(self) -> Sequence[Optimizer]:
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        return [Adam(self.trainable(), rate, weight_decay=decay)]

    def losses(self, images: Tensor, random: Generator) -> Iterator[Loss]:
        """Yield −log p over all layers, per dimension (equation 2)."""
        total, dimensions = torch.zeros((), device=images.device), 0
        for z, volume in self.latents(images):
            total = total + (0.5 * z.square().flatten(1).sum(1) - volume).mean()
            dimensions += z[0].numel()
        yield Loss(total / dimensions)

    def forward(self, images: Tensor) -> Prediction:
        """Return 1 − the layers' mean likelihood exp(−½ mean z²) at every position."""
        likelihoods = [
            F.interpolate(
                (-0.5 * z.square().mean(1, keepdim=True)).exp(),
                size=self.grid,
                mode="bilinear",
                align_corners=False,
            )
            for z, _ in self.latents(images)
        ]
        grid = 1.0 - torch.cat(likelihoods, 1).mean(1)
        return Prediction(grid.amax((1, 2)), grid)

    def latents(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return z, ``(N, C, h, w)``, and the log of the volume change, ``(N,)``, of each layer."""
        features = self.extractor(images)
        return [
            flow(norm(feature))
            for flow, norm, feature in zip(self.flows, self.norms, features, strict=True)
        ]


def _network(size: int, ratio: float) -> Callable[[int, int], nn.Module]:
    def build(channels: int, target: int) -> nn.Module:
        hidden = max(1, int(ratio * channels))
        return zero_last_layer(
            nn.Sequential(
                nn.Conv2d(channels, hidden, size, padding=size // 2),
                nn.ReLU(),
                nn.Conv2d(hidden, target, size, padding=size // 2),
            )
        )

    return build
