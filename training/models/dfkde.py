"""DFKDE: kernel density estimate of deep features (Akcay et al., Anomalib, 2022)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.components.feature_extractor import FeatureExtractor
from training.components.gaussian_kde import GaussianKDE
from training.components.incremental_pca import PCA
from training.components.k_center_greedy import Progress, ignore
from training.models.anomaly_model import Prediction, StatisticalModel
from training.models.settings_checks import light_variation, require_choice

WHOLE_SET, EACH = "scale", "norm"


@dataclass(frozen=True, slots=True, kw_only=True)
class DFKDESettings:
    """Hyperparameters.

    Attributes:
        layers: layers of the backbone whose averages are joined.
        components: principal components that are kept at most.
        normalization: ``scale`` divides by the largest length met in the fit, ``norm`` each vector
            by its own.
        most_pictures: images whose points the estimate rests on; of more a random choice.
        brightness: share by which light and contrast of further copies of each image vary; 0 for
            no copies.
    """

    layers: tuple[str, ...] = ("layer4",)
    components: int = 16
    normalization: str = WHOLE_SET
    most_pictures: int = 40_000
    brightness: float = 0.0


class DFKDE(StatisticalModel):
    """Tells unusual images from usual ones; where in the image it does not say.

    For reference: of the models here it is the weakest. The score is −log p, which orders images
    as the original's logistic of it does, but still tells very unusual ones apart.
    """

    floating_point = ("density",)
    memory_settings = "--set most_pictures or --image-size"
    extractor: FeatureExtractor

    mean: Tensor
    axes: Tensor
    length: Tensor

    def __init__(
        self,
        extractor: FeatureExtractor,
        image: tuple[int, int],
        settings: DFKDESettings,
        seed: int = 0,
    ) -> None:
        """Build the model.

        Raises:
            SettingError: no such normalization.
        """
        super().__init__()
        choices = (WHOLE_SET, EACH)
        require_choice("dfkde", "normalization", settings.normalization, choices)
        self.extractor = extractor
        self.settings = settings
        self.light_variation = light_variation("dfkde", settings.brightness, seed)
        self.grid = (1, 1)
        self.channels = sum(shape[0] for shape in extractor.feature_shapes(*image))
        self.density = GaussianKDE()
        self.register_buffer("mean", torch.zeros(self.channels))
        self.register_buffer("axes", torch.empty(0, self.channels))
        self.register_buffer("length", torch.ones(()))
        self._seen = 0
        self._vectors: list[Tensor] = []
        self._random = torch.Generator().manual_seed(seed)

    def accumulate(self, images: Tensor) -> None:
        """Keep a vector of each image, beyond the bound a fair random choice of them."""
        for vector in self.embed(images).cpu():
            self._seen += 1
            if len(self._vectors) < self.settings.most_pictures:
                self._vectors.append(vector)
                continue
            place = int(torch.randint(self._seen, (1,), generator=self._random))
            if place < len(self._vectors):
                self._vectors[place] = vector

    def finish(self, progress: Progress = ignore) -> None:
        """Reduce to the principal components, scale, and put a kernel on each point."""
        vectors = torch.stack(self._vectors)
        analysis = PCA(self.channels)
        analysis.add(vectors)
        found = analysis.finish(max_count=self.settings.components)
        device = self.mean.device
        self.mean, self.axes = found.mean.to(device), found.axes.to(device)
        points = found.project(vectors)
        largest = points.norm(dim=1).max()
        self.length = (largest if float(largest) > 0 else torch.ones(())).to(device)
        self.density.fit(self.scaled(points.to(device)))
        self._vectors, self._seen = [], 0

    def forward(self, images: Tensor) -> Prediction:
        points = (self.embed(images) - self.mean) @ self.axes.T
        score = -self.density(self.scaled(points))
        return Prediction(score, score[:, None, None])

    def embed(self, images: Tensor) -> Tensor:
        """Average each layer over the image and join them: ``(N, C)``."""
        return torch.cat([feature.mean((2, 3)) for feature in self.extractor(images)], 1)

    def scaled(self, points: Tensor) -> Tensor:
        """Bring points to lengths around one."""
        if self.settings.normalization == WHOLE_SET:
            return points / self.length
        return points / points.square().sum(1, keepdim=True).clamp(min=1e-12).sqrt()

    def fit_memory_bytes(self) -> int:
        vectors = 2 * 4 * self.settings.most_pictures * self.channels
        return vectors + PCA(self.channels).memory_bytes(self.channels)
