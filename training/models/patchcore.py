"""PatchCore: distance to the nearest of a core-set of good patches (Roth et al., 2022)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.components.feature_extractor import FeatureExtractor
from training.components.gaussian_smoothing import GaussianSmoothing
from training.components.incremental_pca import PCA
from training.components.k_center_greedy import KCenterGreedy, Progress, ignore
from training.models.anomaly_model import Prediction, StatisticalModel
from training.models.settings_checks import require_share

# Bank vectors whose neighbours are sought together: bounds the memory of their distances.
_ROWS = 1024

# Bank vectors that share a lowest value while the nearest is sought: one pass over all distances
# finds the group, and what is left is small.
_GROUP = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchCoreSettings:
    """Hyperparameters.

    Attributes:
        layers: layers of the backbone whose features are joined.
        bank_size: vectors of the memory bank at most; the bank is most of the model's time.
        variance: share of the bank's variance that its vectors keep, as principal components; 1
            keeps all their numbers. With 0.99 they are half to three quarters as long.
        neighbours: b of the score's re-weighting; 1 switches it off.
        buffer_size: patch vectors held while fitting at most.
    """

    layers: tuple[str, ...] = ("layer2", "layer3")
    bank_size: int = 4096
    variance: float = 1.0
    neighbours: int = 9
    buffer_size: int = 262_144


class PatchCore(StatisticalModel):
    """One memory bank for all positions, so a part may move in the image."""

    memory_settings = "--set buffer_size, --set bank_size or --image-size"
    extractor: FeatureExtractor

    bank: Tensor
    bank_centre: Tensor
    bank_neighbours: Tensor
    axes: Tensor

    def __init__(
        self,
        extractor: FeatureExtractor,
        image: tuple[int, int],
        settings: PatchCoreSettings,
        seed: int = 0,
    ) -> None:
        """Build the model.

        Raises:
            SettingError: no share of the bank's variance.
        """
        super().__init__()
        require_share("patchcore", "variance", settings.variance)
        self.extractor = extractor
        self.settings = settings
        shapes = extractor.feature_shapes(*image)
        self.grid = (shapes[0][1], shapes[0][2])
        self.width = sum(channels for channels, _, _ in shapes)
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.smoothing = GaussianSmoothing(self.grid, image)
        self.search = NearestVector()
        self.reduces = settings.variance < 1.0
        if self.reduces:
            self.register_buffer("axes", torch.empty(0, 0))
        self.register_buffer("bank", torch.empty(0, 0 if self.reduces else self.width))
        self.register_buffer("bank_centre", torch.zeros(self.width))
        self.register_buffer("bank_neighbours", torch.empty(0, 1, dtype=torch.int64))
        self._core_set = KCenterGreedy(settings.bank_size, settings.buffer_size, seed)

    def accumulate(self, images: Tensor) -> None:
        self._core_set.add(self.embed(images).flatten(0, 1))

    def finish(self, progress: Progress = ignore) -> None:
        """Pick the core-set; centre it, so that distances by norms keep their digits."""
        bank = self._core_set.finish(progress).to(self.bank_centre.device)
        self.bank_centre = bank.mean(0)
        if self.reduces:
            components = PCA(self.width)
            components.add(bank)
            self.axes = components.finish(self.settings.variance).axes.T.to(bank.device)
        self.bank = self.reduced(bank)
        self.bank_neighbours = self._nearest_in_bank(min(self.settings.neighbours, len(bank)))

    def finish_steps(self) -> int:
        return self._core_set.picks

    def forward(self, images: Tensor) -> Prediction:
        patches = self.reduced(self.embed(images))
        nearest = self.search(patches, self.bank)
        distances = self.distances(patches, nearest)
        score = self.image_score(patches, distances, nearest)
        grid = distances.unflatten(1, self.grid)
        return Prediction(score, self.smoothing.at_grid(grid))

    def embed(self, images: Tensor) -> Tensor:
        """Join locally aware patch features (section 3.1): ``(N, P, C)``."""
        first, *deeper = (self.pool(feature) for feature in self.extractor(images))
        joined = [first] + [
            F.interpolate(feature, size=self.grid, mode="bilinear", align_corners=False)
            for feature in deeper
        ]
        return torch.cat(joined, 1).flatten(2).transpose(1, 2)

    def reduced(self, vectors: Tensor) -> Tensor:
        """Return vectors around the bank's centre, along its principal components if so set."""
        centred = vectors - self.bank_centre
        return centred @ self.axes if self.reduces else centred

    def distances(self, patches: Tensor, nearest: Tensor) -> Tensor:
        """Return the distance of each patch to its bank vector, ``(N, P)`` (equation 6).

        From the difference itself, not from the norms of the search: so it is exact where patch and
        vector nearly agree, and stays so when the search is done in eight bits. A vector that is
        wrongly found nearest is about as near.
        """
        return (patches - self.bank[nearest]).square().sum(2).sqrt()

    def image_score(self, patches: Tensor, distances: Tensor, nearest: Tensor) -> Tensor:
        """Return the re-weighted distance of the most distant patch, ``(N,)`` (equation 7)."""
        worst = distances.argmax(1, keepdim=True)
        index = worst[:, :, None].expand(-1, -1, patches.shape[2])
        patch = patches.gather(1, index)
        neighbours = self.bank[self.bank_neighbours[nearest.gather(1, worst).squeeze(1)]]
        from_neighbours = (patch - neighbours).square().sum(2).sqrt()
        # The first neighbour of a bank vector is itself.
        distance = from_neighbours[:, 0]
        if self.bank_neighbours.shape[1] == 1:
            return distance
        return (1.0 - from_neighbours.softmax(1)[:, 0]) * distance

    def fit_memory_bytes(self) -> int:
        return self._core_set.memory_bytes(self.width)

    def _nearest_in_bank(self, count: int) -> Tensor:
        """Return the ``(K, count)`` nearest bank vectors of each bank vector, itself first."""
        bank = self.bank.double()
        nearest = []
        for first in range(0, len(bank), _ROWS):
            distances = torch.cdist(bank[first : first + _ROWS], bank)
            distances.diagonal(first).fill_(-1.0)
            nearest.append(distances.topk(count, dim=1, largest=False).indices)
        return torch.cat(nearest)


class NearestVector(nn.Module):
    """Finds the nearest vector of a bank: the one part of the head that bears eight bits."""

    def forward(self, patches: Tensor, bank: Tensor) -> Tensor:
        """Return the index of the nearest bank vector, ``(N, P) int64``.

        ‖a − m‖² − ‖a‖² = ‖m‖² − 2 a·m: one matrix product with the norms as its bias, no
        (N, P, K, C) broadcast. The lowest of K values is sought in two small steps, because
        OpenVINO's own takes three times as long as the product.

        Args:
            patches: ``(N, P, C)``.
            bank: ``(K, C)``.
        """
        group = min(_GROUP, len(bank))
        # A vector twice changes nothing: the first of equals is found.
        missing = -len(bank) % group
        padded = torch.cat([bank, bank[-1:].expand(missing, -1)]) if missing else bank
        values = patches @ (-2.0 * padded).T + padded.square().sum(1)
        grouped = values.unflatten(2, (-1, group))
        best_group = grouped.amin(3).argmin(2)
        place = best_group[:, :, None, None].expand(-1, -1, 1, group)
        best = grouped.gather(2, place).squeeze(2).argmin(2)
        return (best_group * group + best).clamp(max=len(bank) - 1)
