"""Reverse distillation from a one-class embedding (Deng and Li, 2022)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from training.components.feature_extractor import FeatureExtractor
from training.components.fresh_copies import initialize
from training.components.gaussian_smoothing import GaussianSmoothing
from training.models.anomaly_model import Prediction
from training.models.trained_model import Loss, TrainedModel, TrainedSettings

Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverseDistillationSettings(TrainedSettings):
    """Hyperparameters.

    Attributes:
        layers: layers of the encoder that the decoder gives back, finest first.
    """

    layers: tuple[str, ...] = ("layer1", "layer2", "layer3")
    learning_rate: float = 5e-3


class ReverseDistillation(TrainedModel):
    """A decoder gives back the encoder's features from a narrow code, which holds no defects."""

    side_strides = 2  # the code lies one stage deeper
    extractor: FeatureExtractor
    settings: ReverseDistillationSettings

    def __init__(
        self,
        extractor: FeatureExtractor,
        image: tuple[int, int],
        settings: ReverseDistillationSettings,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.extractor = extractor
        self.settings = settings
        shapes = extractor.feature_shapes(*image)
        self.grid = (shapes[0][1], shapes[0][2])
        self.bottleneck = Bottleneck(shapes)
        self.decoder = Decoder(shapes, self.bottleneck.channels)
        self.smoothing = GaussianSmoothing(self.grid, image)
        self.map_score = self.smoothing.peak
        initialize(self.bottleneck, seed)
        initialize(self.decoder, seed + 1)

    def optimizers(self) -> Sequence[Optimizer]:
        return [Adam(self.trainable(), self.settings.learning_rate, betas=(0.5, 0.99))]

    def losses(self, images: Tensor, random: Generator) -> Iterator[Loss]:
        """Yield Σ_l (1 − cos) of the whole flattened maps, mean over images (equation 2)."""
        cosines = [
            F.cosine_similarity(read.flatten(1), given.flatten(1)).mean()
            for read, given in self.pairs(images)
        ]
        yield Loss((1.0 - torch.stack(cosines)).sum())

    def forward(self, images: Tensor) -> Prediction:
        """Add the layers' 1 − cos per position, blur, take the peak (equations 1 and 3)."""
        layers = [
            F.interpolate(
                1.0 - _cosine(read, given), size=self.grid, mode="bilinear", align_corners=True
            )
            for read, given in self.pairs(images)
        ]
        grid = torch.cat(layers, 1).sum(1)
        return Prediction(self.smoothing(grid).amax((1, 2)), self.smoothing.at_grid(grid))

    def pairs(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the encoder's and the decoder's features of every layer."""
        read = self.extractor(images)
        return list(zip(read, self.decoder(self.bottleneck(read)), strict=True))


class Bottleneck(nn.Module):
    """One-class bottleneck embedding: all layers at the deepest grid, then one stage deeper."""

    def __init__(self, shapes: list[Shape]) -> None:
        super().__init__()
        deepest, self.grid = shapes[-1][0], shapes[-1][1:]
        self.narrowing = nn.ModuleList()
        total = 0
        for depth, (channels, _, _) in enumerate(shapes):
            blocks: list[nn.Module] = []
            for _ in shapes[depth + 1 :]:
                wider = min(2 * channels, deepest)
                blocks += _convolution(channels, wider, stride=2)
                channels = wider
            self.narrowing.append(nn.Sequential(*blocks))
            total += channels
        self.channels = 2 * deepest
        self.embedding = Residual(total, self.channels, stride=2)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return the ``(N, 2·C, ⌈h/2⌉, ⌈w/2⌉)`` code; the deepest layer is ``(N, C, h, w)``."""
        narrowed = [
            _resized(narrow(feature), self.grid)
            for narrow, feature in zip(self.narrowing, features, strict=True)
        ]
        return self.embedding(torch.cat(narrowed, 1))


class Decoder(nn.Module):
    """The encoder's stages backwards: each twice as fine as the one before.

    The original's transposed convolutions are enlargements followed by convolutions here: without
    a checkerboard, and for grids of odd size too.
    """

    def __init__(self, shapes: list[Shape], channels: int) -> None:
        super().__init__()
        self.grids = [shape[1:] for shape in reversed(shapes)]
        widths = [channels, *(shape[0] for shape in reversed(shapes))]
        self.stages = nn.ModuleList(
            nn.Sequential(Residual(wide, narrow), Residual(narrow, narrow))
            for wide, narrow in pairwise(widths)
        )

    def forward(self, code: Tensor) -> list[Tensor]:
        """Return features shaped like the encoder's, finest first."""
        found = []
        for stage, grid in zip(self.stages, self.grids, strict=True):
            code = stage(F.interpolate(code, size=grid, mode="nearest"))
            found.append(code)
        return found[::-1]


class Residual(nn.Module):
    """Two 3×3 convolutions and a way past them."""

    def __init__(self, channels: int, target: int, stride: int = 1) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *_convolution(channels, target, stride), *_convolution(target, target)[:-1]
        )
        self.past = (
            nn.Identity()
            if channels == target and stride == 1
            else nn.Sequential(
                nn.Conv2d(channels, target, 1, stride, bias=False), nn.BatchNorm2d(target)
            )
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``(N, channels, H, W)`` to ``(N, target, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        return torch.relu(self.main(maps) + self.past(maps))


def _convolution(channels: int, target: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, target, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(target),
        nn.ReLU(),
    ]


def _resized(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return maps at a grid; stages of an unusual backbone need not halve exactly."""
    return maps if maps.shape[2:] == grid else F.interpolate(maps, size=grid, mode="nearest")


def _cosine(read: Tensor, given: Tensor) -> Tensor:
    """Return the ``(N, 1, h, w)`` cosine of the channels at every position."""
    lengths = read.square().sum(1, keepdim=True) * given.square().sum(1, keepdim=True)
    return (read * given).sum(1, keepdim=True) / lengths.clamp(min=1e-12).sqrt()
