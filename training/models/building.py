"""From names and settings to a model, as fitting and loading a checkpoint both need it."""

from dataclasses import asdict, fields
from typing import Any

from torch import Tensor

from training.components.backbones import Weights, build_backbone, load_weights
from training.components.feature_extractor import FeatureExtractor
from training.errors import CheckpointError, SettingError
from training.models import find_algorithm
from training.models.anomaly_model import StatisticalModel


def make_settings(algorithm: str, changes: dict[str, Any]) -> Any:
    """Build an algorithm's hyperparameters from its defaults and the user's changes.

    Raises:
        SettingError: no such hyperparameter, or a value of another type.
    """
    settings_class = find_algorithm(algorithm).settings_class()
    defaults = asdict(settings_class())
    for name, value in changes.items():
        if name not in defaults:
            raise SettingError(
                f"{algorithm} has no hyperparameter {name!r}. It has: "
                + ", ".join(f"{known} ({default!r})" for known, default in defaults.items())
            )
        default = defaults[name]
        if isinstance(default, tuple):
            value = tuple(value.split(",")) if isinstance(value, str) else tuple(value)
        elif isinstance(default, float) and isinstance(value, int):
            value = float(value)
        if not isinstance(value, type(default)):
            raise SettingError(
                f"{algorithm}.{name}: {value!r} is not of type {type(default).__name__}, "
                f"like the default {default!r}."
            )
        if isinstance(value, int) and not isinstance(value, bool) and value < 1:
            raise SettingError(f"{algorithm}.{name}: {value} must be at least 1.")
        defaults[name] = value
    return settings_class(**{field.name: defaults[field.name] for field in fields(settings_class)})


def build_model(
    algorithm: str,
    backbone: str,
    weights: Weights | None,
    picture: tuple[int, int],
    settings: Any,
    seed: int,
) -> StatisticalModel:
    """Build an unfitted model.

    Args:
        weights: of the backbone; None when a checkpoint will bring them.
        picture: height and width of the model input.
    """
    network = build_backbone(backbone)
    if weights is not None:
        load_weights(network, weights, settings.layers)
    extractor = FeatureExtractor(network, settings.layers)
    model: StatisticalModel = find_algorithm(algorithm).model_class()(
        extractor, picture, settings, seed
    )
    return model.eval().requires_grad_(False)


def adopt_tensors(model: StatisticalModel, tensors: dict[str, Tensor]) -> None:
    """Fill a model from a checkpoint's tensors; fitted buffers take the checkpoint's shapes.

    Raises:
        CheckpointError: a tensor is missing, left over, or of another type.
    """
    own = model.state_dict()
    differing = sorted(set(own) ^ set(tensors))
    if differing:
        raise CheckpointError(
            f"the checkpoint and {type(model).__name__} differ in {differing[0]!r} "
            f"({len(differing)} tensors). It was made by another version; fit again."
        )
    for name, tensor in tensors.items():
        if tensor.dtype != own[name].dtype or tensor.ndim != own[name].ndim:
            raise CheckpointError(f"{name}: {tensor.dtype} {tuple(tensor.shape)} does not fit.")
        owner, _, buffer = name.rpartition(".")
        if not owner:
            model.register_buffer(buffer, tensor)
    model.load_state_dict(tensors)
