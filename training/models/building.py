"""From names and settings to a model, as fitting and loading a checkpoint both need it."""

import math
from dataclasses import asdict
from functools import cache
from typing import Any

import torch
from torch import Tensor

from edge.wording import counted
from training.components.backbones import Weights, build_backbone, load_weights
from training.components.feature_extractor import FeatureExtractor
from training.components.remembered_features import RememberedFeatures
from training.errors import CheckpointError, SettingError
from training.input_size import SideUnit
from training.models.anomaly_model import AnomalyModel
from training.models.registry import find_algorithm

# Of a whole-number hyperparameter: far above any use, far below what memory sizes overflow at.
_MAX_SETTING = 100_000_000

# Sides of networks without a backbone, which halve them, are multiples of it.
_UNIT_PX = 32


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
        try:
            defaults[name] = _like(defaults[name], value)
        except ValueError as error:
            raise SettingError(f"{algorithm}.{name}: found {value!r}; {error}.") from error
    return settings_class(**defaults)


def kept_settings(algorithm: str, recorded: dict[str, Any]) -> Any:
    """Build the hyperparameters that a checkpoint was fitted with.

    One that its version could not set yet has what that version did, not today's default.

    Raises:
        SettingError: no such hyperparameter, or a value of another type.
    """
    before = getattr(find_algorithm(algorithm).settings_class(), "BEFORE", {})
    return make_settings(algorithm, {**before, **recorded})


def _like(default: Any, value: Any) -> Any:
    """Return the value as the type of the default; only what loses nothing is converted."""
    if isinstance(default, tuple):
        items = [item.strip() for item in value.split(",")] if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(i, str) for i in items):
            raise ValueError("give names separated by commas")
        return tuple(items)
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise ValueError(f"give a value like the default, {default!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("give a finite number")
    if type(value) is int and not 1 <= value <= _MAX_SETTING:
        raise ValueError(f"give a whole number from 1 to {_MAX_SETTING}")
    return value


def build_model(
    algorithm: str,
    backbone: str,
    weights: Weights | None,
    image: tuple[int, int],
    *,
    settings: Any,
    seed: int,
) -> AnomalyModel:
    """Build an unfitted model.

    Args:
        backbone: its name; of no account for an algorithm that needs none.
        weights: of the backbone; None when a checkpoint will bring them.
        image: height and width of the model input.
    """
    model_class = find_algorithm(algorithm).model_class()
    # Every network draws first weights; the caller's random numbers stay as they were.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        extractor = None
        if model_class.needs_backbone:
            network = build_backbone(backbone)
            extractor = FeatureExtractor(network, settings.layers)
            if weights is not None:
                # The extractor shares the network's tensors, and has only those its layers need.
                load_weights(network, weights, extractor.body.state_dict().keys())
        model: AnomalyModel = model_class(extractor, image, settings, seed)
    return model.eval().requires_grad_(False)


def side_unit(algorithm: str, backbone: str, settings: Any) -> SideUnit:
    """Return what sides of the model input suit an algorithm and its backbone.

    Raises:
        SettingError: the backbone takes images of one size only, or a layer is none of its.
    """
    model_class = find_algorithm(algorithm).model_class()
    if not model_class.needs_backbone:
        return SideUnit(_UNIT_PX, model_class.min_side_px)
    step = _stride(backbone, settings.layers) * int(model_class.side_strides)
    return SideUnit(step, model_class.min_side_px)


@cache
def _stride(backbone: str, layers: tuple[str, ...]) -> int:
    """Return the stride of a backbone's deepest layer; whoever compares algorithms asks again."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):  # only shapes count
        return FeatureExtractor(build_backbone(backbone), layers).stride()


def model_around(
    algorithm: str,
    extractor: FeatureExtractor | RememberedFeatures | None,
    image: tuple[int, int],
    settings: Any,
    *,
    seed: int,
) -> AnomalyModel:
    """Build an unfitted model whose backbone is there already, for a fit beside another one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: AnomalyModel = find_algorithm(algorithm).model_class()(
            extractor, image, settings, seed
        )
    return model.eval().requires_grad_(False)


def adopt_tensors(model: AnomalyModel, tensors: dict[str, Tensor]) -> None:
    """Fill a model from a checkpoint's tensors; fitted buffers take the checkpoint's shapes.

    Raises:
        CheckpointError: a tensor is missing, left over, or of another type.
    """
    own = model.state_dict()
    differing = sorted(set(own) ^ set(tensors))
    if differing:
        raise CheckpointError(
            f"it and {type(model).__name__} differ in {differing[0]!r} "
            f"({counted(len(differing), 'tensor')}). "
            "It was made by another version; fit again."
        )
    for name, tensor in tensors.items():
        if tensor.dtype != own[name].dtype or tensor.ndim != own[name].ndim:
            raise CheckpointError(
                f"its tensor {name!r}, {tensor.dtype} {tuple(tensor.shape)}, does not fit "
                f"{type(model).__name__}. Fit again."
            )
        owner, _, last = name.rpartition(".")
        module = model.get_submodule(owner)
        if last in module._buffers and own[name].numel() == 0:
            module.register_buffer(last, tensor)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"its tensors do not fit {type(model).__name__} ({str(error).splitlines()[-1].strip()})"
            ". It was made by another version; fit again."
        ) from error
