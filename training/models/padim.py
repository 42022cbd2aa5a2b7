"""PaDiM: one Gaussian per position (Defard et al., 2021)."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from edge.wording import counted
from training.components.centring import Centring
from training.components.feature_extractor import FeatureExtractor
from training.components.gaussian_smoothing import GaussianSmoothing
from training.components.k_center_greedy import Progress, ignore
from training.components.running_gaussian import (
    RunningDiagonalGaussian,
    RunningGaussian,
    whitening_factor,
)
from training.models.anomaly_model import Prediction, StatisticalModel
from training.models.settings_checks import light_variation, require_choice

# Added to the covariance's diagonal: the paper's 0.01, and what keeps the inversion stable.
_RIDGE = 0.01 + 1e-5

# Positions whose covariances are inverted together: bounds the memory of that.
_POSITIONS = 256

FULL, LOW_RANK, DIAGONAL = "full", "low_rank", "diagonal"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaDiMSettings:
    """Hyperparameters.

    Attributes:
        layers: layers of the backbone whose features are joined.
        feature_count: randomly chosen channels that are kept, the same for every position.
        covariance: ``low_rank`` keeps the variance of each channel and their strongest relations,
            in a seventh of the room of ``full``, at the same accuracy; ``diagonal`` keeps the
            variances alone, in a hundredth of the room, and is coarser.
        rank: relations that ``low_rank`` keeps.
        brightness: share by which light and contrast of further copies of each image vary; 0 for
            no copies.
    """

    layers: tuple[str, ...] = ("layer1", "layer2", "layer3")
    feature_count: int = 100
    covariance: str = LOW_RANK
    rank: int = 14
    brightness: float = 0.0


class PaDiM(StatisticalModel):
    """Compares each position with itself, so the part must always lie the same way."""

    per_position = True
    mean_corrected = ("centring",)
    memory_settings = (
        "--set feature_count or --image-size; --set covariance=diagonal needs a hundredth"
    )
    extractor: FeatureExtractor

    channels: Tensor
    whitening: Tensor
    whitened_mean: Tensor
    subspace: Tensor

    def __init__(
        self,
        extractor: FeatureExtractor,
        image: tuple[int, int],
        settings: PaDiMSettings,
        seed: int = 0,
    ) -> None:
        """Build the model.

        Raises:
            SettingError: no such covariance.
        """
        super().__init__()
        require_choice("padim", "covariance", settings.covariance, (LOW_RANK, FULL, DIAGONAL))
        self.extractor = extractor
        self.settings = settings
        self.light_variation = light_variation("padim", settings.brightness, seed)
        shapes = extractor.feature_shapes(*image)
        self.grid = (shapes[0][1], shapes[0][2])
        self.positions = self.grid[0] * self.grid[1]
        total = sum(channels for channels, _, _ in shapes)
        self.width = min(settings.feature_count, total)
        self.centring = Centring()
        self.smoothing = GaussianSmoothing(self.grid, image)
        self.map_score = self.smoothing.peak
        chosen = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("channels", chosen[: self.width].sort().values)
        self._totals = [channels for channels, _, _ in shapes]
        self._count_channels()
        self.register_load_state_dict_post_hook(  # type: ignore[no-untyped-call]
            lambda model, _: model._count_channels()
        )
        self.covariance = settings.covariance
        square = (self.width,) if self.covariance == FULL else ()
        self.register_buffer("whitening", torch.empty(0, self.width, *square))
        column = (1,) if self.covariance == FULL else ()
        self.register_buffer("whitened_mean", torch.empty(0, self.width, *column))
        self.rank = min(settings.rank, max(self.width - 1, 1))
        if self.covariance == LOW_RANK:
            self.register_buffer("subspace", torch.empty(0, self.width, self.rank))
        self._gaussian: RunningGaussian | RunningDiagonalGaussian | None = None

    def accumulate(self, images: Tensor) -> None:
        if self._gaussian is None:
            diagonal = self.covariance == DIAGONAL
            kind = RunningDiagonalGaussian if diagonal else RunningGaussian
            self._gaussian = kind(self.positions, self.width)
        self._gaussian.add(self.embed(images))

    def finish(self, progress: Progress = ignore) -> None:
        """Turn sums into mean and whitening factor (equation 1)."""
        assert self._gaussian is not None, "accumulate comes first"
        if isinstance(self._gaussian, RunningDiagonalGaussian):
            mean = self._gaussian.mean()
            whitening = (self._gaussian.variance() + _RIDGE).rsqrt()
            whitened_mean = whitening * mean
            progress(self.positions)
        elif self.covariance == LOW_RANK:
            whitening, whitened_mean, subspace = self._low_rank(self._gaussian, progress)
            self.subspace = subspace.float().to(self.channels.device)
        else:
            whitening, whitened_mean = self._full_whitening(self._gaussian, progress)
        self.whitening = whitening.float().to(self.channels.device)
        self.whitened_mean = whitened_mean.float().to(self.channels.device)
        self._gaussian = None

    def finish_steps(self) -> int:
        return self.positions

    def forward(self, images: Tensor) -> Prediction:
        grid = self.distances(self.embed(images)).unflatten(1, self.grid)
        return Prediction(self.smoothing(grid).amax((1, 2)), self.smoothing.at_grid(grid))

    def embed(self, images: Tensor) -> Tensor:
        """Join the layers at the first one's resolution and keep the chosen channels: (N, P, D)."""
        kept = []
        place = offset = 0
        for feature, count, total in zip(
            self.extractor(images), self._counts, self._totals, strict=True
        ):
            # Chosen before they are enlarged: most channels never leave their layer. By a product
            # with ones and zeros: to gather them OpenVINO would lay all maps out anew.
            numbers = self.channels[place : place + count, None] - offset
            choice = (numbers == torch.arange(total, device=numbers.device)).to(feature.dtype)
            chosen = F.conv2d(feature, choice[:, :, None, None]).contiguous()
            kept.append(F.interpolate(chosen, size=self.grid, mode="nearest"))
            place, offset = place + count, offset + total
        return torch.cat(kept, 1).flatten(2).transpose(1, 2)

    def distances(self, vectors: Tensor) -> Tensor:
        """Return the Mahalanobis distances ‖W (e − μ)‖, ``(N, P)`` (equation 2)."""
        if self.covariance == DIAGONAL:
            scaled = self.centring(vectors * self.whitening, self.whitened_mean)
            return scaled.square().sum(2).sqrt()
        if self.covariance == LOW_RANK:
            scaled = self.centring(vectors * self.whitening, self.whitened_mean)
            explained = (scaled[:, :, None] @ self.subspace).square().sum((2, 3))
            return (scaled.square().sum(2) - explained).clamp(min=0.0).sqrt()
        whitened = self.centring(self.whitening @ vectors.permute(1, 2, 0), self.whitened_mean)
        return whitened.square().sum(1).sqrt().T

    def _count_channels(self) -> None:
        """Count the chosen channels of each layer: the graph must know them as constants."""
        ends = torch.tensor(self._totals).cumsum(0)
        layers = torch.bucketize(self.channels.cpu(), ends, right=True)
        self._counts: list[int] = torch.bincount(layers, minlength=len(ends)).tolist()

    def fit_memory_bytes(self) -> int:
        if self.covariance == DIAGONAL:
            return 4 * 8 * self.positions * self.width
        sums = 8 * self.positions * self.width * (self.width + 1)
        # The products of one batch while accumulating, the whitening factors while finishing.
        return sums + 4 * self.positions * self.width * (self.width + 1)

    def _low_rank(
        self, gaussian: RunningGaussian, progress: Progress
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Approximate each correlation matrix by its strongest directions and an even rest.

        With R ≈ U Λ Uᵀ + δ (I − U Uᵀ) the squared distance of a scaled vector z = D^(−½)(e − μ) is
        (‖z‖² − ‖(I − δ Λ⁻¹)^½ Uᵀ z‖²) / δ: a thin product in place of a square one.

        Returns:
            Scale and scaled mean ``(P, D)``, both with 1/√δ in them, and U (I − δ Λ⁻¹)^½
            ``(P, D, r)``.
        """
        self._warn_of_few(gaussian)
        rest = max(self.width - self.rank, 1)
        scales, subspaces = [], []
        for few in self._parts():
            covariance = gaussian.covariance(few)
            covariance.diagonal(dim1=1, dim2=2).add_(_RIDGE)
            deviation = covariance.diagonal(dim1=1, dim2=2).sqrt()
            correlation = covariance / (deviation[:, :, None] * deviation[:, None, :])
            values, directions = torch.linalg.eigh(correlation)
            even = values[:, :rest].mean(1, keepdim=True)
            strength = (1.0 - even / values[:, -self.rank :]).clamp(min=0.0).sqrt()
            subspaces.append(directions[:, :, -self.rank :] * strength[:, None, :])
            scales.append(1.0 / (deviation * even.sqrt()))
            progress(few.stop - few.start)
        scale = torch.cat(scales)
        return scale, scale * gaussian.mean(), torch.cat(subspaces)

    def _parts(self) -> Iterator[slice]:
        """Return the positions in parts that are worked on together."""
        for first in range(0, self.positions, _POSITIONS):
            yield slice(first, min(first + _POSITIONS, self.positions))

    def _warn_of_few(self, gaussian: RunningGaussian) -> None:
        if gaussian.count <= self.width:
            log.warning(
                "%s for %s: the covariances depend on the "
                "regularization. Use more images, or a smaller feature_count.",
                counted(gaussian.count, "good image"),
                counted(self.width, "channel"),
            )

    def _full_whitening(
        self, gaussian: RunningGaussian, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        self._warn_of_few(gaussian)
        mean = gaussian.mean()[:, :, None]
        whitening = torch.empty(self.positions, self.width, self.width)
        whitened_mean = torch.empty(self.positions, self.width, 1)
        for few in self._parts():
            covariance = gaussian.covariance(few)
            covariance.diagonal(dim1=1, dim2=2).add_(_RIDGE)
            factor = whitening_factor(covariance)
            whitening[few] = factor.float()
            whitened_mean[few] = (factor @ mean[few]).float()
            progress(few.stop - few.start)
        return whitening, whitened_mean
