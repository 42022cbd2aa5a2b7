"""PatchCore: distance to the nearest of a core-set of good patches (Roth et al., 2022)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge.bundle.manifest import MapScore
from edge.teaching.memory_bank import make_bank
from training.components.cell_blocks import block_means, from_blocks, to_blocks
from training.components.feature_extractor import FeatureExtractor
from training.components.gaussian_smoothing import GaussianSmoothing
from training.components.k_center_greedy import KCenterGreedy, Progress, ignore
from training.components.nearest_vectors import NearestVectors
from training.components.projection import Projection
from training.errors import SettingError
from training.models.anomaly_model import Prediction, StatisticalModel
from training.models.settings_checks import (
    light_variation,
    require_choice,
    require_positive,
    require_share,
)

# Bank vectors whose neighbours are sought together: bounds the memory of their distances.
_ROWS = 1024

# Of the cells of the anomaly map, those whose mean is the score.
_TOP_SHARE = 0.01

# No squared distance of a patch is less than this share of its squared norm: of what is left of
# such numbers when they are subtracted, engines keep other digits.
_ALIKE = 2.0**-18

# More principal components than there are.
_ALL = 100_000

# So many patches cost little enough to be sought each for itself.
_ALONE = 256

# Two vectors whose squared distances differ by less than this share of the bank's mean squared norm
# are about equally near. Engines differ by about a thousandth of it.
_TIE = 2.0**-11


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchCoreSettings:
    """Hyperparameters.

    Attributes:
        layers: layers of the backbone whose features are joined.
        bank_size: vectors of the memory bank at most.
        variance: share of the bank's variance that its vectors keep, as principal components; 1
            keeps all their numbers. With 0.99 they are half to three quarters as long.
        search_components: principal components that the nearest vectors are sought by. Of no
            account where ``variance`` is 1.
        search_candidates: how many of them are measured along all components that are kept: the
            shortest of these distances counts. Of no account where ``variance`` is 1.
        search_block: side of the squares of cells whose nearest vectors are sought together, around
            the middle of their patches, which overlap and resemble each other. Of no account where
            there are no more than 256 cells, or ``variance`` is 1.
        score: ``map``, the mean of the highest hundredth of the smooth anomaly map, which is about
            what the smallest defect raises; or ``reweighted``, the paper's (equation 7), of the
            single most distant patch.
        sigma: of the map's Gaussian blur, in pixels of the model input; the paper's is 4.
        neighbours: b of the re-weighted score; 1 switches the re-weighting off.
        buffer_size: patch vectors held while fitting at most.
        brightness: share by which light and contrast of further copies of each image vary; 0 for
            no copies.
    """

    layers: tuple[str, ...] = ("layer2", "layer3")
    bank_size: int = 4096
    variance: float = 0.99
    search_components: int = 40
    search_candidates: int = 12
    search_block: int = 2
    score: str = "map"
    sigma: float = 6.0
    neighbours: int = 9
    buffer_size: int = 262_144
    brightness: float = 0.0

    # What a fit did before it could be set.
    BEFORE: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "variance": 1.0,
            "search_components": _ALL,
            "search_candidates": 1,
            "search_block": 1,
            "score": "reweighted",
            "sigma": 4.0,
        }
    )


class PatchCore(StatisticalModel):
    """One memory bank for all positions, so a part may move in the image."""

    mean_corrected = ("extractor", "projection")
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
            SettingError: no share of the bank's variance, a bank without one, no such score, or no
                blur.
        """
        super().__init__()
        require_share("patchcore", "variance", settings.variance)
        if settings.variance < 1.0 and settings.bank_size < 2:
            raise SettingError(
                f"patchcore.bank_size: found {settings.bank_size}, and a single vector has no "
                "components. Give 2 or more, or --set variance=1."
            )
        require_choice("patchcore", "score", settings.score, ("map", "reweighted"))
        require_positive("patchcore", "sigma", settings.sigma)
        self.extractor = extractor
        self.settings = settings
        self.light_variation = light_variation("patchcore", settings.brightness, seed)
        shapes = extractor.feature_shapes(*image)
        self.grid = (shapes[0][1], shapes[0][2])
        self.width = sum(channels for channels, _, _ in shapes)
        self.projection = Projection()
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.smoothing = GaussianSmoothing(self.grid, image, settings.sigma)
        self.highest = max(1, round(_TOP_SHARE * self.grid[0] * self.grid[1]))
        if settings.score == "map":
            self.map_score = MapScore(cells=self.highest)
        self.search = NearestVectors()
        self.reduces = settings.variance < 1.0
        if self.reduces:
            self.register_buffer("axes", torch.empty(0, 0))
        self.register_buffer("bank", torch.empty(0, 0 if self.reduces else self.width))
        self.register_buffer("bank_centre", torch.zeros(self.width))
        self.register_buffer("bank_neighbours", torch.empty(0, 1, dtype=torch.int64))
        self._core_set = KCenterGreedy(settings.bank_size, settings.buffer_size, seed)

    def accumulate(self, images: Tensor) -> None:
        self._core_set.add(self.embed(images).flatten(0, 1))

    def accumulate_counted(self, images: Tensor, counted: Tensor | None) -> None:
        patches = self.embed(images).flatten(0, 1)
        self._core_set.add(patches if counted is None else patches[counted.flatten()])

    def finish(self, progress: Progress = ignore) -> None:
        """Pick the core-set and measure to it from now on."""
        self.remember(self._core_set.finish(progress).to(self.bank_centre.device))

    def remember(self, bank: Tensor) -> None:
        """Make ``(K, C)`` vectors the bank, centred: distances by norms then keep their digits."""
        if self.reduces:
            made = make_bank(bank.cpu().numpy(), self.settings.variance)
            tensors = [torch.from_numpy(a) for a in (made.centre, made.axes, made.vectors)]
            self.bank_centre, self.axes, self.bank = (one.to(bank.device) for one in tensors)
        else:
            self.bank_centre = bank.mean(0)
            self.bank = bank - self.bank_centre
        self.bank_neighbours = self._nearest_in_bank(min(self.settings.neighbours, len(bank)))

    def finish_steps(self) -> int:
        return self._core_set.picks

    def forward(self, images: Tensor) -> Prediction:
        return self.judge(self.extractor(images))

    def judge(self, features: list[Tensor]) -> Prediction:
        """Compare the patches of what the extractor gives with the bank."""
        grid = self.coordinates(features)
        distances, nearest = self.measure(grid, self.bank)
        anomaly_map = self.smoothing.at_grid(distances.unflatten(1, self.grid))
        if self.settings.score == "map":
            highest = anomaly_map.flatten(1).topk(self.highest, dim=1).values
            return Prediction(highest.mean(1), anomaly_map)
        return Prediction(self.image_score(_patches(grid), distances, nearest), anomaly_map)

    def embed(self, images: Tensor) -> Tensor:
        """Join locally aware patch features (section 3.1): ``(N, P, C)``."""
        return self.joined(self.extractor(images))

    def joined(self, features: list[Tensor]) -> Tensor:
        """Return the patches of what the extractor gives: ``(N, P, C)``."""
        return _patches(self._side_by_side(features))

    def coordinates(self, features: list[Tensor]) -> Tensor:
        """Return the grid of patches around the bank's centre, ``(N, C or q, h, w)``.

        Along components each layer is projected before it is averaged and enlarged, which are as
        linear: so a projection reads the eight bits in which a quantized layer comes, and the
        deeper layers have fewer cells.
        """
        if not self.reduces:
            return self._side_by_side(features) - self.bank_centre[:, None, None]
        axes = self.axes.split([feature.shape[1] for feature in features])
        layers = [self.projection(*pair) for pair in zip(features, axes, strict=True)]
        along = reduce(torch.add, [self.pooled(layer) for layer in layers])
        return along - (self.bank_centre @ self.axes)[:, None, None]

    def _side_by_side(self, features: list[Tensor]) -> Tensor:
        return torch.cat([self.pooled(feature) for feature in features], 1)

    def pooled(self, layer: Tensor) -> Tensor:
        """Return a layer averaged with its eight neighbours (equation 2), in the grid's cells."""
        averaged = self.pool(layer)
        if averaged.shape[2:] == self.grid:
            return averaged
        return F.interpolate(averaged, size=self.grid, mode="bilinear", align_corners=False)

    def measure(self, grid: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
        """Return each patch's distance to the nearest vector (equation 6), and which that is.

        Args:
            grid: of patches, ``(N, C or q, h, w)``.
            bank: ``(K, C or q)``.

        Returns:
            Both ``(N, P)``.
        """
        if not self.reduces:
            patches = _patches(grid)
            nearest = self.search(grid, bank, 1)[:, :, 0]
            return (patches - F.embedding(nearest, bank)).square().sum(2).sqrt(), nearest
        height, width = grid.shape[2:]
        leading = slice(self.settings.search_components)
        side = self.settings.search_block if height * width > _ALONE else 1
        middles = block_means(grid[:, leading], side)
        # One more than counts: where it ties with the last that does, rounding decides which of the
        # two that is, and the distance must not depend on it.
        count = self.settings.search_candidates + 1
        found = self.search(middles, bank[:, leading], count)
        patches = to_blocks(grid, side)
        norms = F.embedding(found, bank.square().sum(1, keepdim=True)).mT
        products = patches @ F.embedding(found, bank).mT
        lengths = patches.square().sum(3, keepdim=True)
        squared = lengths + norms - 2.0 * products
        measured = torch.maximum(squared, _ALIKE * lengths).sqrt()
        shortest, which = measured[..., :-1].min(3)
        last = F.embedding(found[:, :, -2:], bank[:, leading])
        sought = (_patches(middles)[:, :, None] - last).square().sum(3)
        gap = sought[:, :, 1] - sought[:, :, 0]
        tie = 1.0 - gap / (_TIE * bank[:, leading].square().sum(1).mean())
        either = torch.minimum(shortest, measured[..., -1])
        distances = torch.lerp(shortest, either, tie.clamp(0.0, 1.0)[:, :, None])
        nearest = found.gather(2, which)
        cells = [from_blocks(values, side, height, width) for values in (distances, nearest)]
        return cells[0].flatten(1), cells[1].flatten(1)

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


def _patches(layer: Tensor) -> Tensor:
    """Return the vectors of ``(N, C, h, w)`` cells: ``(N, P, C)``."""
    return layer.flatten(2).transpose(1, 2)
