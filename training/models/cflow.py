"""CFLOW: conditional normalizing flows over positions (Gudovskiy et al., 2022)."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
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
_CLAMP = 1.9


@dataclass(frozen=True, slots=True, kw_only=True)
class CFLOWSettings(TrainedSettings):
    """Hyperparameters.

    Attributes:
        layers: layers of the backbone, each with a decoder of its own.
        couplings: of each decoder.
        condition_width: numbers that tell a decoder the position; a multiple of 4.
        fiber: positions of one step, drawn from all images of the batch.
    """

    layers: tuple[str, ...] = ("layer2", "layer3", "layer4")
    couplings: int = 8
    condition_width: int = 128
    fiber: int = 64
    epochs: int = 50
    batch_size: int = 32
    learning_rate: float = 1e-4
    patience: int = 3


class CFLOW(TrainedModel):
    """The likelihood of each feature vector, given where in the image it lies.

    The heaviest model here. The highest likelihood, which the original takes from the images it
    happens to score together, is a constant measured on good images, so that no score depends on
    other images.
    """

    map_score = MapScore(cells=1)
    per_position = True
    # A likelihood multiplies up what rounding loses in every coupling.
    floating_point = ("decoders",)
    extractor: FeatureExtractor
    settings: CFLOWSettings

    highest: Tensor

    def __init__(
        self,
        extractor: FeatureExtractor,
        image: tuple[int, int],
        settings: CFLOWSettings,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.extractor = extractor
        self.settings = settings
        shapes = extractor.feature_shapes(*image)
        self.grid = (shapes[0][1], shapes[0][2])
        width = max(4, settings.condition_width - settings.condition_width % 4)
        for number, (_, rows, columns) in enumerate(shapes):
            code = position_code(rows, columns, width)
            self.register_buffer(f"code_{number}", code, persistent=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.decoders = nn.ModuleList(
                CouplingFlow(
                    channels=channels,
                    networks=[_network(2 * channels)] * settings.couplings,
                    clamp=_CLAMP,
                    condition_width=width,
                    seed=seed + 1_000 * number,
                )
                for number, (channels, _, _) in enumerate(shapes)
            )
        self.register_buffer("highest", torch.zeros(len(shapes)))

    def optimizers(self) -> Sequence[Optimizer]:
        return [Adam(self.trainable(), self.settings.learning_rate)]

    def losses(self, images: Tensor, random: Generator) -> Iterator[Loss]:
        """Yield the mean of −log σ(log p) of each fiber (equation 7)."""
        for number, (vectors, codes) in enumerate(self.vectors_and_codes(images)):
            order = torch.randperm(len(vectors), generator=random).to(vectors.device)
            for few in order.split(self.settings.fiber):
                log_p = self.log_likelihood(number, vectors[few], codes[few])
                yield Loss(-F.logsigmoid(log_p).mean())

    def finish(self, images: Iterable[Tensor]) -> None:
        """Measure the highest log-likelihood of every layer on good images."""
        highest = torch.full_like(self.highest, -math.inf)
        for batch in images:
            found = [log_p.max() for log_p in self.layer_likelihoods(batch)]
            highest = torch.maximum(highest, torch.stack(found))
        self.highest = highest

    def forward(self, images: Tensor) -> Prediction:
        """Add the layers' 1 − exp(log p − highest log p) (equation 8, turned round)."""
        layers = [
            F.interpolate(
                1.0 - (log_p - self.highest[number]).clamp(max=0.0).exp()[:, None],
                size=self.grid,
                mode="bilinear",
                align_corners=True,
            )
            for number, log_p in enumerate(self.layer_likelihoods(images))
        ]
        grid = torch.cat(layers, 1).sum(1)
        return Prediction(grid.amax((1, 2)), grid)

    def layer_likelihoods(self, images: Tensor) -> list[Tensor]:
        """Return log p per channel at every position of every layer, ``(N, h, w)``."""
        return [
            self.log_likelihood(number, vectors, codes).view(-1, *self._code(number).shape[:2])
            for number, (vectors, codes) in enumerate(self.vectors_and_codes(images))
        ]

    def log_likelihood(self, layer: int, vectors: Tensor, codes: Tensor) -> Tensor:
        """Return log N(z; 0, I) + log |J| per channel, ``(P,)`` (equation 4)."""
        z, volume = self.decoders[layer](vectors, codes)
        width = vectors.shape[1]
        normal = -0.5 * z.square().sum(1) - 0.5 * width * math.log(2 * math.pi)
        return (normal + volume) / width

    def vectors_and_codes(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the ``(N·h·w, C)`` vectors of every layer and the codes of their positions."""
        found = []
        for number, feature in enumerate(self.extractor(images)):
            vectors = feature.permute(0, 2, 3, 1).flatten(0, 2)
            code = self._code(number)
            codes = code.expand(feature.shape[0], *code.shape).flatten(0, 2)
            found.append((vectors, codes))
        return found

    def _code(self, layer: int) -> Tensor:
        return self.get_buffer(f"code_{layer}")


def position_code(rows: int, columns: int, width: int) -> Tensor:
    """Return ``(rows, columns, width)`` sines and cosines, half for the row, half for the column.

    Source: Wang and Liu, Translating math formula images to LaTeX sequences, 2021, section 3.2.
    """
    quarter = width // 4
    rates = torch.exp(torch.arange(quarter) * (-math.log(10_000.0) / quarter))
    down = torch.arange(rows)[:, None, None] * rates
    across = torch.arange(columns)[None, :, None] * rates
    waves = [down.sin(), down.cos(), across.sin(), across.cos()]
    return torch.cat([wave.expand(rows, columns, quarter) for wave in waves], 2)


def _network(hidden: int) -> Callable[[int, int], nn.Module]:
    def build(channels: int, target: int) -> nn.Module:
        return zero_last_layer(
            nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, target))
        )

    return build
