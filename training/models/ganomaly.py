"""GANomaly: a generator that cannot give back what it never saw (Akcay et al., 2018)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from edge.bundle.manifest import MapScore
from training.components.area_mean import AreaMean
from training.models.anomaly_model import Prediction
from training.models.settings_checks import require_choice
from training.models.trained_model import Loss, TrainedModel, TrainedSettings

# Side of the narrowest feature map: what is left of it becomes the latent vector.
_NARROWEST = 4

# Channels grow up to this multiple of the first layer's: wider ones only add weights.
_WIDEST = 8

# Of a code's difference on good images, in shares of all codes' differences.
_MIN_DEVIATION = 0.1

RECONSTRUCTION, LATENT = "reconstruction", "latent"

# Pixels of an image that one cell of the map stands for at most, per side.
_CELL_PX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class GANomalySettings(TrainedSettings):
    """Hyperparameters.

    Attributes:
        channels: of the first layer; they double with every halving of the size.
        latent: numbers that an image is squeezed into.
        weight_features, weight_pixels, weight_latent: of the generator's three losses.
        score: ``reconstruction``, the largest difference of the images, or ``latent``, that of
            the codes, as the paper has it.
    """

    channels: int = 64
    latent: int = 100
    weight_features: float = 1.0
    weight_pixels: float = 50.0
    weight_latent: float = 1.0
    score: str = RECONSTRUCTION
    epochs: int = 100
    batch_size: int = 32
    learning_rate: float = 2e-4


class GANomaly(TrainedModel):
    """Compares an image with its reconstruction, and the code of the one with the other's.

    For reference: weak on fine defects. Unlike the usual code, images are brought to the [−1, 1]
    that the generator can give, the generator learns by the discriminator's features as the paper
    says, and no score is scaled by the scores of other images. The paper's own score, of the
    codes, hardly tells defects that are small in the image; its pixels do, so they are the
    default. Each code's difference counts in deviations that it has on good images.
    """

    needs_backbone = False
    extractor = None
    settings: GANomalySettings

    usual: Tensor
    deviation: Tensor

    def __init__(
        self,
        extractor: None,
        image: tuple[int, int],
        settings: GANomalySettings,
        seed: int = 0,
    ) -> None:
        """Build the model.

        Raises:
            SettingError: no such score.
        """
        super().__init__()
        require_choice("ganomaly", "score", settings.score, (RECONSTRUCTION, LATENT))
        self.settings = settings
        if settings.score == RECONSTRUCTION:
            self.map_score = MapScore(cells=1)
        # The network halves sizes down to the narrowest; what is missing to that is padded.
        self.halvings = max(1, (min(image) // _NARROWEST).bit_length() - 1)
        unit = 2**self.halvings
        self.padding = tuple(-side % unit for side in image)
        self.image = image
        padded = (image[0] + self.padding[0], image[1] + self.padding[1])
        self.cells = AreaMean(image, _CELL_PX)
        self.grid = self.cells.grid
        narrow = (padded[0] // unit, padded[1] // unit)
        widths = [min(2**i, _WIDEST) * settings.channels for i in range(self.halvings)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = nn.Sequential(
                _encoder(widths), nn.Conv2d(widths[-1], settings.latent, narrow, bias=False)
            )
            self.decoder = _decoder(widths, settings.latent, narrow)
            self.second_encoder = nn.Sequential(
                _encoder(widths), nn.Conv2d(widths[-1], settings.latent, narrow, bias=False)
            )
            self.features = _encoder(widths)
            self.judgement = nn.Conv2d(widths[-1], 1, narrow, bias=False)
            self.apply(_initialize)
        self.register_buffer("usual", torch.zeros(settings.latent))
        self.register_buffer("deviation", torch.ones(settings.latent))

    def optimizers(self) -> Sequence[Optimizer]:
        """Return the generator's and the discriminator's."""
        generator = [self.encoder, self.decoder, self.second_encoder]
        discriminator = [self.features, self.judgement]
        return [
            Adam(
                [p for network in networks for p in network.parameters()],
                self.settings.learning_rate,
                betas=(0.5, 0.999),
            )
            for networks in (generator, discriminator)
        ]

    def losses(self, images: Tensor, random: Generator) -> Iterator[Loss]:
        """Yield the generator's loss (equation 4), then the discriminator's."""
        real = self.padded(images)
        z, fake, z_again = self.reconstructed(real)
        yield Loss(self.generator_loss(real, z, fake, z_again), 0)
        answers = [
            self.judgement(self.features(shown)).flatten() for shown in (real, fake.detach())
        ]
        yield Loss(
            0.5 * F.binary_cross_entropy_with_logits(answers[0], torch.ones_like(answers[0]))
            + 0.5 * F.binary_cross_entropy_with_logits(answers[1], torch.zeros_like(answers[1])),
            1,
        )

    def validation_loss(self, images: Tensor, random: Generator) -> Tensor:
        """Return the generator's loss; the discriminator's rises when the generator is good."""
        real = self.padded(images)
        return self.generator_loss(real, *self.reconstructed(real))

    def generator_loss(self, real: Tensor, z: Tensor, fake: Tensor, z_again: Tensor) -> Tensor:
        """Weigh feature matching, pixels and latents (equations 1 to 3)."""
        settings = self.settings
        return (
            settings.weight_features * F.mse_loss(self.features(fake), self.features(real).detach())
            + settings.weight_pixels * F.l1_loss(fake, real)
            + settings.weight_latent * F.smooth_l1_loss(z_again, z)
        )

    def finish(self, images: Iterable[Tensor]) -> None:
        """Measure mean and deviation of the codes' difference on good images."""
        found = []
        for batch in images:
            z, _, z_again = self.reconstructed(self.padded(batch))
            found.append((z - z_again).flatten(1))
        differences = torch.cat(found)
        self.usual.copy_(differences.mean(0))
        deviation = differences.std(0, correction=0)
        # Of few images a deviation is a guess; none may count for more than all others.
        least = _MIN_DEVIATION * differences.square().mean().sqrt() + 1e-6
        self.deviation.copy_(deviation.clamp(min=float(least)))

    def forward(self, images: Tensor) -> Prediction:
        """Return the difference of the images by cell, and its peak or that of the codes."""
        real = self.padded(images)
        z, fake, z_again = self.reconstructed(real)
        difference = (real - fake).abs().mean(1, keepdim=True)
        shown = difference[:, :, : self.image[0], : self.image[1]]
        grid = self.cells(shown).squeeze(1)
        if self.settings.score == RECONSTRUCTION:
            return Prediction(grid.amax((1, 2)), grid)
        # The paper's A(x) (equation 5), with each code in its own deviation.
        codes = ((z - z_again).flatten(1) - self.usual) / self.deviation
        return Prediction(codes.square().mean(1), grid)

    def padded(self, images: Tensor) -> Tensor:
        """Return ``(N, 3, H, W) float32`` RGB in [−1, 1], padded to what can be halved."""
        rgb = images.permute(0, 3, 1, 2).to(torch.float32).flip(1) / 127.5 - 1.0
        return F.pad(rgb, (0, self.padding[1], 0, self.padding[0]))

    def reconstructed(self, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return z, the reconstruction, and the z of the reconstruction (figure 2)."""
        z = self.encoder(real)
        fake = self.decoder(z)
        return z, fake, self.second_encoder(fake)


def _encoder(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for wide, wider in pairwise(widths):
        layers += [
            nn.Conv2d(wide, wider, 4, 2, 1, bias=False),
            nn.BatchNorm2d(wider),
            nn.LeakyReLU(0.2),
        ]
    return nn.Sequential(*layers)


def _decoder(widths: list[int], latent: int, narrow: tuple[int, int]) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.ConvTranspose2d(latent, widths[-1], narrow, bias=False),
        nn.BatchNorm2d(widths[-1]),
        nn.ReLU(),
    ]
    for wide, narrower in pairwise(widths[::-1]):
        layers += [
            nn.ConvTranspose2d(wide, narrower, 4, 2, 1, bias=False),
            nn.BatchNorm2d(narrower),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.ConvTranspose2d(widths[0], 3, 4, 2, 1, bias=False), nn.Tanh())


def _initialize(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
