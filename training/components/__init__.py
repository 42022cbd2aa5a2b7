"""Building blocks of anomaly models, each usable on its own::

    from training.components import FeatureExtractor, KCenterGreedy

A block is imported when it is first asked for, so that importing one does not load them all.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.components.backbones import build_backbone, find_weights, load_weights
    from training.components.coupling_flows import AffineCoupling, CouplingFlow
    from training.components.feature_extractor import FeatureExtractor
    from training.components.fresh_copies import fresh_copy
    from training.components.gaussian_kde import GaussianKDE
    from training.components.gaussian_smoothing import GaussianSmoothing
    from training.components.incremental_pca import PCA, PrincipalComponents
    from training.components.k_center_greedy import KCenterGreedy
    from training.components.perlin import perlin_noise
    from training.components.random_projection import SparseRandomProjection
    from training.components.running_gaussian import (
        RunningDiagonalGaussian,
        RunningGaussian,
        whitening_factor,
    )

_HOMES = {
    "build_backbone": "backbones",
    "find_weights": "backbones",
    "load_weights": "backbones",
    "AffineCoupling": "coupling_flows",
    "CouplingFlow": "coupling_flows",
    "FeatureExtractor": "feature_extractor",
    "fresh_copy": "fresh_copies",
    "GaussianKDE": "gaussian_kde",
    "GaussianSmoothing": "gaussian_smoothing",
    "PCA": "incremental_pca",
    "PrincipalComponents": "incremental_pca",
    "KCenterGreedy": "k_center_greedy",
    "perlin_noise": "perlin",
    "SparseRandomProjection": "random_projection",
    "RunningDiagonalGaussian": "running_gaussian",
    "RunningGaussian": "running_gaussian",
    "whitening_factor": "running_gaussian",
}

__all__ = [
    "PCA",
    "AffineCoupling",
    "CouplingFlow",
    "FeatureExtractor",
    "GaussianKDE",
    "GaussianSmoothing",
    "KCenterGreedy",
    "PrincipalComponents",
    "RunningDiagonalGaussian",
    "RunningGaussian",
    "SparseRandomProjection",
    "build_backbone",
    "find_weights",
    "fresh_copy",
    "load_weights",
    "perlin_noise",
    "whitening_factor",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
