"""DFM: deep feature modeling by principal components (Ahuja et al., 2019)."""

from dataclasses import dataclass

from torch import Tensor, cat, empty, ones_like
from torch.nn import functional as F

from training.components.area_mean import AreaMean
from training.components.feature_extractor import FeatureExtractor
from training.components.incremental_pca import PCA
from training.components.k_center_greedy import Progress, ignore
from training.models.anomaly_model import Prediction, StatisticalModel
from training.models.settings_checks import light_variation, require_choice, require_share

# Smallest deviation that a component counts with, as a share of the largest: fewer images than
# components would else divide by nothing.
_FLOOR = 1e-3

RESIDUAL, LIKELIHOOD = "fre", "nll"


@dataclass(frozen=True, slots=True, kw_only=True)
class DFMSettings:
    """Hyperparameters.

    Attributes:
        layers: the layers whose features are modelled, side by side.
        pooling: side of the cells over which features are averaged, at most.
        variance: share of the features' variance that the components hold.
        most_components: components held at most, whatever the number of images.
        score: ``fre``, the feature reconstruction error, or ``nll``, the negative log-likelihood.
        brightness: share by which light and contrast of further copies of each image vary; 0 for
            no copies.
    """

    layers: tuple[str, ...] = ("layer3",)
    pooling: int = 2
    variance: float = 0.97
    most_components: int = 512
    score: str = RESIDUAL
    brightness: float = 0.0


class DFM(StatisticalModel):
    """The features of a good image lie near a plane; a defect leads away from it.

    The map shows the reconstruction error whatever the score: the likelihood has no place.
    """

    per_position = True
    memory_settings = "--set most_components or --image-size"
    extractor: FeatureExtractor

    mean: Tensor
    axes: Tensor
    deviations: Tensor

    def __init__(
        self,
        extractor: FeatureExtractor,
        image: tuple[int, int],
        settings: DFMSettings,
        seed: int = 0,
    ) -> None:
        """Build the model; nothing of it is random.

        Raises:
            SettingError: no such score, or no share of the variance.
        """
        super().__init__()
        require_choice("dfm", "score", settings.score, (RESIDUAL, LIKELIHOOD))
        require_share("dfm", "variance", settings.variance)
        self.extractor = extractor
        self.settings = settings
        self.light_variation = light_variation("dfm", settings.brightness, seed)
        shapes = extractor.feature_shapes(*image)
        rows, columns = shapes[0][1], shapes[0][2]
        self.cells = AreaMean((rows, columns), settings.pooling)
        self.grid = self.cells.grid
        self.channels = sum(channels for channels, _, _ in shapes)
        self.width = self.channels * self.grid[0] * self.grid[1]
        self.register_buffer("mean", empty(0))
        self.register_buffer("axes", empty(0, self.width))
        self.register_buffer("deviations", empty(0))
        self._components = PCA(settings.most_components)

    def accumulate(self, images: Tensor) -> None:
        self._components.add(self.embed(images))

    def finish(self, progress: Progress = ignore) -> None:
        """Keep the components that hold the share of variance (section 2.1)."""
        found = self._components.finish(self.settings.variance)
        device = self.mean.device
        self.mean, self.axes = found.mean.to(device), found.axes.to(device)
        largest = float(found.deviations.max())
        # Without any variance every direction is as good as another.
        deviations = found.deviations.clamp(min=_FLOOR * largest)
        self.deviations = (deviations if largest > 0 else ones_like(deviations)).to(device)
        self._components = PCA(self.settings.most_components)

    def forward(self, images: Tensor) -> Prediction:
        centred = self.embed(images) - self.mean
        coordinates = centred @ self.axes.T
        residual = (centred - coordinates @ self.axes).square()
        # The mean, where the paper sums: a score then does not grow with the image.
        error = residual.unflatten(1, (self.channels, *self.grid)).mean(1)
        if self.settings.score == RESIDUAL:
            return Prediction(error.mean((1, 2)), error)
        return Prediction(self.negative_log_likelihood(coordinates), error)

    def embed(self, images: Tensor) -> Tensor:
        """Average the features over cells, all layers at the first one's: ``(N, C·h·w)``."""
        first, *deeper = self.extractor(images)
        joined = [first] + [
            F.interpolate(feature, size=first.shape[2:], mode="nearest") for feature in deeper
        ]
        return self.cells(cat(joined, 1)).flatten(1)

    def negative_log_likelihood(self, coordinates: Tensor) -> Tensor:
        """Return Σ (zᵢ/sᵢ)² + 2 Σ log sᵢ, ``(N,)``: twice −log p but for a constant (2.2)."""
        return (coordinates / self.deviations).square().sum(1) + 2.0 * self.deviations.log().sum()

    def fit_memory_bytes(self) -> int:
        return self._components.memory_bytes(self.width)
