"""PatchCore: distance to the nearest of a core-set of good patches (Roth et al., 2022)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.components.feature_extractor import FeatureExtractor
from training.components.gaussian_smoothing import GaussianSmoothing
from training.components.k_center_greedy import KCenterGreedy, Progress, ignore
from training.models.anomaly_model import Prediction, StatisticalModel

# Bank vectors whose neighbours are sought together: bounds the memory of their distances.
_ROWS = 1024


@dataclass(frozen=True, slots=True)
class PatchCoreSettings:
    """Hyperparameters.

    Attributes:
        layers: layers of the backbone whose features are joined.
        bank_size: vectors of the memory bank at most; the bank is most of the model's time.
        neighbours: b of the score's re-weighting; 1 switches it off.
        buffer_size: patch vectors held while fitting at most.
    """

    layers: tuple[str, ...] = ("layer2", "layer3")
    bank_size: int = 4096
    neighbours: int = 9
    buffer_size: int = 262_144


class PatchCore(StatisticalModel):
    """One memory bank for all positions, so a part may move in the picture."""

    bank: Tensor
    bank_centre: Tensor
    bank_neighbours: Tensor

    def __init__(
        self,
        extractor: FeatureExtractor,
        picture: tuple[int, int],
        settings: PatchCoreSettings,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.extractor = extractor
        self.settings = settings
        shapes = extractor.feature_shapes(*picture)
        self.grid = (shapes[0][1], shapes[0][2])
        self.width = sum(channels for channels, _, _ in shapes)
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.smoothing = GaussianSmoothing(self.grid, picture)
        self.register_buffer("bank", torch.empty(0, self.width))
        self.register_buffer("bank_centre", torch.zeros(self.width))
        self.register_buffer("bank_neighbours", torch.empty(0, 1, dtype=torch.int64))
        self._core_set = KCenterGreedy(settings.bank_size, settings.buffer_size, seed)

    def accumulate(self, pictures: Tensor) -> None:
        self._core_set.add(self.embed(pictures).flatten(0, 1))

    def finish(self, progress: Progress = ignore) -> None:
        """Pick the core-set; centre it, so that distances by norms keep their digits."""
        bank = self._core_set.finish(progress).to(self.bank_centre.device)
        self.bank_centre = bank.mean(0)
        self.bank = bank - self.bank_centre
        self.bank_neighbours = self._nearest_in_bank(min(self.settings.neighbours, len(bank)))

    def finish_steps(self) -> int:
        return self._core_set.picks

    def forward(self, pictures: Tensor) -> Prediction:
        patches = self.embed(pictures) - self.bank_centre
        distances = self.distances(patches)
        score = self.image_score(patches, distances)
        grid = distances.unflatten(1, self.grid)
        return Prediction(score, self.smoothing.at_grid(grid))

    def embed(self, pictures: Tensor) -> Tensor:
        """Join locally aware patch features (section 3.1): ``(N, P, C)``."""
        first, *deeper = (self.pool(feature) for feature in self.extractor(pictures))
        joined = [first] + [
            F.interpolate(feature, size=self.grid, mode="bilinear", align_corners=False)
            for feature in deeper
        ]
        return torch.cat(joined, 1).flatten(2).transpose(1, 2)

    def distances(self, patches: Tensor) -> Tensor:
        """Return the distance of each patch to the bank, ``(N, P)`` (equation 6).

        ‖a − m‖² = ‖a‖² + min(‖m‖² − 2 a·m): one matrix product, no (N, P, K, C) broadcast.
        """
        nearest = (self.bank.square().sum(1) - 2.0 * (patches @ self.bank.T)).amin(2)
        return (patches.square().sum(2) + nearest).clamp(min=0.0).sqrt()

    def image_score(self, patches: Tensor, distances: Tensor) -> Tensor:
        """Return the re-weighted distance of the most distant patch, ``(N,)`` (equation 7)."""
        worst = distances.argmax(1)
        index = worst[:, None, None].expand(-1, 1, patches.shape[2])
        patch = patches.gather(1, index).squeeze(1)
        to_bank = self.bank.square().sum(1) - 2.0 * (patch @ self.bank.T)
        neighbours = self.bank[self.bank_neighbours[to_bank.argmin(1)]]
        from_neighbours = (patch[:, None, :] - neighbours).square().sum(2).sqrt()
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
