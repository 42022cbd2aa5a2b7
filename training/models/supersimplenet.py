"""SuperSimpleNet: anomalies made of noise in feature space (Rolih et al., 2024).

Convolutions only, a single pass, an image score of its own: the model that takes INT8 best. With
``supervision=mixed`` it learns real defects, too, marked or not (Rolih et al., No Label Left
Behind, Journal of Intelligent Manufacturing, 2025).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer

from training.components.feature_extractor import FeatureExtractor
from training.components.gaussian_smoothing import GaussianSmoothing
from training.components.perlin import perlin_noise
from training.models.anomaly_model import Prediction
from training.models.settings_checks import require_choice
from training.models.trained_model import Loss, MarkedImages, MixedModel, TrainedSettings

# Where the noise field lies above this, the features of an image are disturbed.
_LEVEL = 0.2

# Finest lattice of the noise field, as a power of two.
_FINEST = 5

# Share of images that stay undisturbed among those that could be.
_EMPTY = 0.5

# Logits that the truncated L1 loss wants between good and disturbed positions.
_MARGIN = 0.5

_FOCUS = 4.0
_SIGMA_PX = 4.0

_UNSUPERVISED, _MIXED = "unsupervised", "mixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SuperSimpleNetSettings(TrainedSettings):
    """Hyperparameters.

    Attributes:
        layers: layers of the backbone whose features are joined.
        noise: deviation of the noise, in shares of the features' own; the weaker it is, the longer
            the heads take to tell it at all (of 0.1 they had learned nothing after 170 steps, of
            0.3 most).
        adaptor_rate: learning rate of the adaptor; ``learning_rate`` is that of the heads.
        weight_decay: of the heads.
        hidden: channels of the segmentation head.
        supervision: ``unsupervised`` learns good images alone, ``mixed`` defective ones beside
            them: where they are marked, and of those without a mask that they are defective.
    """

    layers: tuple[str, ...] = ("layer2", "layer3")
    noise: float = 0.3
    adaptor_rate: float = 1e-4
    learning_rate: float = 2e-4
    weight_decay: float = 1e-5
    hidden: int = 1024
    supervision: str = _UNSUPERVISED
    epochs: int = 300
    batch_size: int = 32
    patience: int = 50

    @property
    def learns_defects(self) -> bool:
        return self.supervision == _MIXED


class SuperSimpleNet(MixedModel):
    """Two small heads tell disturbed features from good ones: per position and per image."""

    floating_point = ("smoothing", "verdict")
    extractor: FeatureExtractor
    settings: SuperSimpleNetSettings

    deviation: Tensor

    def __init__(
        self,
        extractor: FeatureExtractor,
        image: tuple[int, int],
        settings: SuperSimpleNetSettings,
        seed: int = 0,
    ) -> None:
        super().__init__()
        choices = (_UNSUPERVISED, _MIXED)
        require_choice("supersimplenet", "supervision", settings.supervision, choices)
        self.extractor = extractor
        self.settings = settings
        shapes = extractor.feature_shapes(*image)
        self.grid = (min(2 * shapes[0][1], image[0]), min(2 * shapes[0][2], image[1]))
        self.channels = sum(channels for channels, _, _ in shapes)
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.smoothing = GaussianSmoothing(self.grid, image, _SIGMA_PX)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.adaptor = nn.Conv2d(self.channels, self.channels, 1)
            nn.init.xavier_normal_(self.adaptor.weight)
            self.segmentation = nn.Sequential(
                nn.Conv2d(self.channels, settings.hidden, 1),
                nn.BatchNorm2d(settings.hidden),
                nn.LeakyReLU(0.2),
                nn.Conv2d(settings.hidden, 1, 1, bias=False),
            )
            self.classification = nn.Sequential(
                nn.Conv2d(self.channels + 1, 128, 5, padding=2), nn.BatchNorm2d(128), nn.ReLU()
            )
            self.verdict = nn.Linear(2 * 128 + 2, 1)
        self.register_buffer("deviation", torch.ones(()))

    def begin(self, images: Iterable[Tensor]) -> None:
        """Measure the deviation of the features, so that noise and heads suit any backbone."""
        self.deviation.fill_(1.0)
        count, total = 0, torch.zeros(2, self.channels, dtype=torch.float64)
        for batch in images:
            features = self.embed(batch).double().cpu()
            total += torch.stack([features.sum((0, 2, 3)), features.square().sum((0, 2, 3))])
            count += features[:, 0].numel()
        mean, squares = total / count
        self.deviation.fill_(float((squares - mean.square()).mean().clamp(min=1e-12).sqrt()))

    def optimizers(self) -> Sequence[Optimizer]:
        heads = [self.segmentation, self.classification, self.verdict]
        parameters = [p for head in heads for p in head.parameters()]
        return [
            AdamW(
                [
                    {"params": list(self.adaptor.parameters()), "lr": self.settings.adaptor_rate},
                    {"params": parameters, "weight_decay": self.settings.weight_decay},
                ],
                self.settings.learning_rate,
            )
        ]

    def rate_factor(self, progress: float) -> float:
        """Fall to 0.4 of it at 80 %, again at 90 % of the epochs."""
        return float(0.4 ** sum(progress >= limit for limit in (0.8, 0.9)))

    def losses(self, images: Tensor, random: Generator) -> Iterator[Loss]:
        """Yield the loss of good features and of the same features disturbed (section III-D)."""
        nowhere = torch.zeros(len(images), 1, *self.grid, device=images.device)
        yield self._loss(images, nowhere, len(images), random)

    def mixed_losses(
        self, images: Tensor, marked: MarkedImages, random: Generator
    ) -> Iterator[Loss]:
        """Yield the loss of good and defective images together (Rolih et al., 2025).

        Noise makes further defects, but not where there is a real one. An image that is not marked
        counts in the loss of the image score alone, and stays as it is.
        """
        nowhere = torch.zeros(len(images), 1, *self.grid, device=images.device)
        masks = torch.cat([nowhere, marked.masks])
        yield self._loss(torch.cat([images, marked.images]), masks, len(images), random)

    def _loss(self, images: Tensor, real: Tensor, good_count: int, random: Generator) -> Loss:
        """Return the loss of images and of the same images disturbed.

        Args:
            real: ``(N, 1, h, w)`` of 0 and 1, where defects are marked.
            good_count: the images from this one on are defective.
        """
        raw = self.embed(images)
        adapted = self.adaptor(raw)
        defective = torch.arange(len(images), device=raw.device) >= good_count
        located = (~defective | real.flatten(1).any(1)).repeat(2)
        real = real.repeat(2, 1, 1, 1)
        disturbed = self.masks(len(real), random).to(raw.device)
        disturbed = disturbed * (1.0 - real) * located[:, None, None, None]
        noise = torch.randn(len(real), *raw.shape[1:], generator=random).to(raw.device)
        noise = noise * self.settings.noise * disturbed
        raw, adapted = raw.repeat(2, 1, 1, 1) + noise, adapted.repeat(2, 1, 1, 1) + noise
        logits, scores = self.heads(raw, adapted, joined=good_count < len(images))
        masks = real + disturbed
        labels = torch.maximum(masks.flatten(1).amax(1), defective.repeat(2).float())
        logits, masks = logits[located], masks[located]
        return Loss(_focal(logits, masks) + _truncated(logits, masks) + _focal(scores, labels))

    def forward(self, images: Tensor) -> Prediction:
        """Return the verdict head's logit and the blurred logits of the segmentation head.

        Logits, where the original takes their sigmoid: the order is the same, and what lies far
        from the threshold stays apart.
        """
        raw = self.embed(images)
        logits, score = self.heads(raw, self.adaptor(raw))
        return Prediction(score, self.smoothing.at_grid(logits.squeeze(1)))

    def embed(self, images: Tensor) -> Tensor:
        """Join the layers at twice the first one's resolution, averaged over 3×3 (III-A).

        In shares of their mean deviation, where the original takes them as the backbone gives them.
        """
        joined = [
            F.interpolate(feature, size=self.grid, mode="bilinear", align_corners=False)
            for feature in self.extractor(images)
        ]
        return self.pool(torch.cat(joined, 1)) / self.deviation

    def heads(self, raw: Tensor, adapted: Tensor, *, joined: bool = False) -> tuple[Tensor, Tensor]:
        """Return logits per position, ``(N, 1, h, w)``, and per image, ``(N,)`` (III-C).

        Args:
            joined: the loss of the image's verdict teaches the map, too.
        """
        logits = self.segmentation(adapted)
        # Of noise alone the verdict must not teach the map where to look; of real defects without
        # a mask nothing else can.
        seen = logits if joined else logits.detach()
        features = self.classification(torch.cat([raw, seen], 1))
        peaks = [features.amax((2, 3)), features.mean((2, 3)), seen.amax((2, 3)), seen.mean((2, 3))]
        return logits, self.verdict(torch.cat(peaks, 1)).squeeze(1)

    def masks(self, count: int, random: Generator) -> Tensor:
        """Draw where features are disturbed: ``(count, 1, h, w)`` of 0 and 1 (III-B)."""
        masks = torch.zeros(count, 1, *self.grid)
        for mask in masks:
            if float(torch.rand((), generator=random)) < _EMPTY:
                continue
            rows, columns = (2 ** torch.randint(0, _FINEST + 1, (2,), generator=random)).tolist()
            cells = (min(rows, self.grid[0]), min(columns, self.grid[1]))
            mask[0] = (perlin_noise(self.grid, cells, random) > _LEVEL).float()
        return masks


def _focal(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the focal loss: what is told right with certainty counts little."""
    crossed = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return ((1.0 - (-crossed).exp()) ** _FOCUS * crossed).mean()


def _truncated(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the truncated L1 loss: good positions below −½, disturbed ones above ½."""
    good = (1.0 - masks) * (logits + _MARGIN).clamp(min=0.0)
    disturbed = masks * (_MARGIN - logits).clamp(min=0.0)
    return good.sum() / (1.0 - masks).sum().clamp(min=1.0) + disturbed.sum() / masks.sum().clamp(
        min=1.0
    )
