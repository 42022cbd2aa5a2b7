"""EfficientAD: a student and an auto-encoder against a teacher (Batzner et al., 2024).

Patents: MVTec Software GmbH holds patents on this method (EP, JP and pending others), and the
teacher's published weights carry no clear licence. It is off by default; who switches it on with
``patents_cleared`` states that the use is cleared, be it research or with a licence. This project
brings no weights for it: the teacher is the backbone that the user gives.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from edge.bundle.manifest import MapScore
from training.components.feature_extractor import FeatureExtractor
from training.components.perlin import perlin_noise
from training.errors import SettingError
from training.models.anomaly_model import Prediction
from training.models.trained_model import Loss, TrainedModel, TrainedSettings
from training.size_text import size_text

# What a patch description network loses at its borders, in cells on each side.
_BORDER = 4

# Share of the positions with the largest error that the student learns from.
_HARD = 0.001

# Share of their range by which brightness, contrast and saturation are changed.
_JITTER = 0.2

# Of a channel of the teacher, in shares of the channels' mean.
_MIN_DEVIATION = 0.1

_LOW, _HIGH = 0.9, 0.995

# Images on whose maps the quantiles rest at most, evenly over all of them.
_QUANTILE_IMAGES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficientADSettings(TrainedSettings):
    """Hyperparameters.

    Attributes:
        patents_cleared: the user's word that the use is cleared with the patents' holder.
        layers: layers of the backbone that together are the teacher.
        channels: of the student's last hidden layer; the others follow.
        weight_decay: of Adam.
    """

    patents_cleared: bool = False
    layers: tuple[str, ...] = ("layer2", "layer3")
    channels: int = 256
    weight_decay: float = 1e-5
    epochs: int = 300
    batch_size: int = 1
    learning_rate: float = 1e-4
    patience: int = 40


class EfficientAD(TrainedModel):
    """Student against teacher finds local defects, student against auto-encoder logical ones."""

    map_score = MapScore(cells=1)
    min_side_px = 33  # of which the patch descriptions leave one cell
    extractor: FeatureExtractor
    settings: EfficientADSettings

    taught_mean: Tensor
    taught_deviation: Tensor
    quantiles: Tensor

    def __init__(
        self,
        extractor: FeatureExtractor,
        image: tuple[int, int],
        settings: EfficientADSettings,
        seed: int = 0,
    ) -> None:
        """Build the model.

        Raises:
            SettingError: the patents were not cleared, or the image is too small.
        """
        super().__init__()
        if not settings.patents_cleared:
            raise SettingError(
                "efficientad is covered by patents of MVTec Software GmbH (EP, JP). Clear the use "
                "with them, then pass --set patents_cleared=true; or take supersimplenet or "
                "patchcore, which are free of them."
            )
        self.extractor = extractor
        self.settings = settings
        self.image = image
        self.inner = tuple(_described(side) for side in image)
        if min(self.inner) < 1:
            nearest = size_text((max(image[0], self.min_side_px), max(image[1], self.min_side_px)))
            raise SettingError(
                f"efficientad does not take images of {image[1]}×{image[0]} pixels. The nearest "
                f"size that it takes: --image-size {nearest}."
            )
        self.grid = (self.inner[0] + 2 * _BORDER, self.inner[1] + 2 * _BORDER)
        self.channels = sum(shape[0] for shape in extractor.feature_shapes(*image))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.student = patch_description(settings.channels, 2 * self.channels)
            self.encoder = _encoder(image)
            self.decoder = _Decoder(image, self.inner, self.channels)
        self.register_buffer("taught_mean", torch.zeros(1, self.channels, 1, 1))
        self.register_buffer("taught_deviation", torch.ones(1, self.channels, 1, 1))
        # Rows: student, auto-encoder; columns: low and high quantile of their maps.
        self.register_buffer("quantiles", torch.tensor([[0.0, 1.0], [0.0, 1.0]]))

    def begin(self, images: Iterable[Tensor]) -> None:
        """Measure mean and deviation of the teacher's channels."""
        count, total = 0, torch.zeros(2, self.channels, dtype=torch.float64)
        for batch in images:
            taught = self.teacher(self.extractor(batch)).double().cpu()
            total += torch.stack([taught.sum((0, 2, 3)), taught.square().sum((0, 2, 3))])
            count += taught[:, 0].numel()
        mean, squares = total / count
        deviation = (squares - mean.square()).clamp(min=0.0).sqrt()
        # A channel that is as good as dead on good images must not outweigh all others.
        deviation = deviation.clamp(min=_MIN_DEVIATION * float(deviation.mean()) + 1e-6)
        self.taught_mean.copy_(mean.float()[None, :, None, None])
        self.taught_deviation.copy_(deviation.float()[None, :, None, None])

    def optimizers(self) -> Sequence[Optimizer]:
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        return [Adam(self.trainable(), rate, weight_decay=decay)]

    def rate_factor(self, progress: float) -> float:
        """Fall to a tenth at 95 % of the epochs."""
        return 0.1 if progress >= 0.95 else 1.0

    def losses(self, images: Tensor, random: Generator) -> Iterator[Loss]:
        """Yield the sum of the student's, the penalty's and the auto-encoder's losses."""
        taught, by_teacher, _ = self.answers(images)
        distance = (taught - by_teacher).square()
        hardest = distance.flatten().topk(max(1, math.ceil(_HARD * distance.numel()))).values
        # The paper keeps the student from imitating the teacher elsewhere with ImageNet images;
        # noise fields need no download.
        strange = self.extractor.normalized(_strange_like(images, random))
        imitated = self.student(strange)[:, : self.channels]
        changed = _jittered(images, random)
        taught, _, by_encoder = self.answers(changed)
        coded = self.autoencoded(changed)
        yield Loss(
            hardest.mean()
            + imitated.square().mean()
            + (taught - coded).square().mean()
            + (coded - by_encoder).square().mean()
        )

    def finish(self, images: Iterable[Tensor]) -> None:
        """Measure the quantiles of both maps, so that they can be added (section 3.4)."""
        kept: list[Tensor] = []
        every = 1
        for number, maps in enumerate(m for batch in images for m in self.maps(batch).cpu()):
            if number % every == 0:
                kept.append(maps)
            if len(kept) > _QUANTILE_IMAGES:
                kept, every = kept[::2], 2 * every
        values = torch.stack(kept, 1).flatten(1).double()
        probabilities = torch.tensor([_LOW, _HIGH], dtype=torch.float64)
        ordered = values.sort(1).values
        places = (probabilities * (ordered.shape[1] - 1)).round().long()
        found = ordered[:, places]
        found[:, 1] = torch.maximum(found[:, 1], found[:, 0] + 1e-6)
        self.quantiles.copy_(found.float())

    def forward(self, images: Tensor) -> Prediction:
        """Add both maps, each brought to 0 at its low and 0.1 at its high quantile."""
        # Where the student sees nothing it errs by nothing: less than anywhere else.
        maps = F.pad(self.maps(images), (_BORDER, _BORDER, _BORDER, _BORDER))
        low, high = self.quantiles[:, 0], self.quantiles[:, 1]
        grid = (0.1 * (maps - low[:, None, None]) / (high - low)[:, None, None]).mean(1)
        return Prediction(grid.amax((1, 2)), grid)

    def maps(self, images: Tensor) -> Tensor:
        """Return student against teacher and against auto-encoder, ``(N, 2, h, w)`` (3.3)."""
        taught, by_teacher, by_encoder = self.answers(images)
        coded = self.autoencoded(images)
        return torch.stack(
            [(taught - by_teacher).square().mean(1), (coded - by_encoder).square().mean(1)], 1
        )

    def answers(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the teacher's normalized features and both halves of the student's."""
        taught = (self.teacher(self.extractor(images)) - self.taught_mean) / self.taught_deviation
        answer = self.student(self.extractor.normalized(images))
        return taught, answer[:, : self.channels], answer[:, self.channels :]

    def teacher(self, features: list[Tensor]) -> Tensor:
        """Join the layers at the student's grid, ``(N, C, h, w)``."""
        joined = [
            F.interpolate(feature, size=self.grid, mode="bilinear", align_corners=False)
            for feature in features
        ]
        # The student sees less than the image: its border is cut off the teacher's too.
        return torch.cat(joined, 1)[:, :, _BORDER:-_BORDER, _BORDER:-_BORDER]

    def autoencoded(self, images: Tensor) -> Tensor:
        """Return the teacher's features as the auto-encoder imagines them."""
        return self.decoder(self.encoder(self.extractor.normalized(images)))


class _Decoder(nn.Module):
    """From one vector back to the teacher's features, in stages of growing size."""

    def __init__(self, image: tuple[int, int], inner: tuple[int, ...], channels: int) -> None:
        super().__init__()
        stages = list(zip(*(_stage_sizes(side) for side in image), strict=True))
        self.sizes: list[tuple[int, ...]] = [*stages, inner]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(64, 64, 4, padding=2), nn.ReLU(), nn.Dropout(0.2))
            for _ in stages
        )
        self.last = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, channels, 3, padding=1)
        )

    def forward(self, code: Tensor) -> Tensor:
        """Map ``(N, 64, 1, 1)`` to ``(N, channels, h, w)``."""
        for stage, size in zip(self.stages, self.sizes[:-1], strict=True):
            code = stage(_enlarged(code, size))
        return self.last(_enlarged(code, self.sizes[-1]))


def _stage_sizes(side: int) -> list[int]:
    """Return the decoder's rows or columns; of 256: 3, 8, 15, 32, 63, 127."""
    sizes = [side // 64 - 1, side // 32, side // 16 - 1, side // 8, side // 4 - 1, side // 2 - 1]
    return [max(1, size) for size in sizes]


def patch_description(channels: int, target: int) -> nn.Sequential:
    """Return the small patch description network, without padding (table 6 of the paper)."""
    return nn.Sequential(
        nn.Conv2d(3, channels // 2, 4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(channels // 2, channels, 4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(channels, channels, 3),
        nn.ReLU(),
        nn.Conv2d(channels, target, 4),
    )


def _described(side: int) -> int:
    """Return what the patch description network leaves of a side."""
    return ((side - 3) // 2 - 3) // 2 - 5


def _encoder(image: tuple[int, int]) -> nn.Sequential:
    """Return the network from an image to one vector of 64 numbers."""
    layers: list[nn.Module] = []
    channels, (rows, columns) = 3, image
    for wider in (32, 32, 64, 64, 64):
        if min(rows, columns) >= 4:
            layers += [nn.Conv2d(channels, wider, 4, 2, 1), nn.ReLU()]
            channels, rows, columns = wider, rows // 2, columns // 2
    return nn.Sequential(*layers, nn.Conv2d(channels, 64, (rows, columns)))


def _enlarged(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def _jittered(images: Tensor, random: Generator) -> Tensor:
    """Change brightness, contrast or saturation of each image by up to a fifth."""
    changed = images.to(torch.float32)
    factors = 1.0 + _JITTER * (2.0 * torch.rand(len(images), generator=random) - 1.0)
    kinds = torch.randint(0, 3, (len(images),), generator=random)
    grey = changed.mean(3, keepdim=True)
    origins = [torch.zeros_like(grey), grey.mean((1, 2, 3), keepdim=True).expand_as(grey), grey]
    origin = torch.stack([origins[int(kind)][place] for place, kind in enumerate(kinds)])
    factor = factors.to(images.device)[:, None, None, None]
    return (origin + (changed - origin) * factor).clamp(0.0, 255.0)


def _strange_like(images: Tensor, random: Generator) -> Tensor:
    """Draw coloured noise fields of the images' shape: nothing a good part looks like."""
    count, rows, columns, _ = images.shape
    planes = []
    for _ in range(3 * count):
        cells = int(2 ** torch.randint(1, 6, (), generator=random))
        cells = min(cells, rows, columns)
        planes.append(perlin_noise((rows, columns), (cells, cells), random))
    fields = torch.stack(planes).view(count, 3, rows, columns).permute(0, 2, 3, 1)
    return (127.5 + 127.5 * fields).clamp(0.0, 255.0).to(images.device)
