"""Backbones by name, with weights from a file, torchvision's cache or its download."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from training.components.small_backbone import SmallBackbone
from training.components.torchvision_operators import declare_missing_operators
from training.errors import SettingError, WeightsError

declare_missing_operators()
from torchvision import models  # noqa: E402

SMALL = "small"
CACHE = "cache"
DOWNLOAD = "download"


@dataclass(frozen=True, slots=True)
class Weights:
    """Tensors for a backbone and the terms they come under."""

    tensors: dict[str, Tensor]
    licence: str


def backbone_names() -> list[str]:
    return [SMALL, *models.list_models(module=models)]


def build_backbone(name: str) -> nn.Module:
    """Build an architecture with random weights; touches neither disk nor network.

    Raises:
        SettingError: no such backbone.
    """
    if name == SMALL:
        return SmallBackbone()
    try:
        return models.get_model(name, weights=None)
    except ValueError as error:
        near = [known for known in backbone_names() if name.split("_")[0][:6] in known]
        raise SettingError(
            f"backbone {name!r} does not exist. "
            f"{'Did you mean: ' if near else 'There are: '}"
            f"{', '.join(near or backbone_names())}."
        ) from error


def find_weights(name: str, source: str, licence: str | None = None) -> Weights:
    """Find the weights of a backbone.

    Args:
        source: path of a ``.safetensors`` or ``.pth`` file; ``cache`` for torchvision's own cache;
            ``download`` to let torchvision fetch them. The network is used for nothing else.
        licence: terms of weights from a file.

    Raises:
        WeightsError: not there, or not readable.
    """
    if source in (CACHE, DOWNLOAD):
        return _torchvision_weights(name, download=source == DOWNLOAD)
    path = Path(source)
    try:
        if path.suffix == ".safetensors":
            tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(
            f"{path}: cannot be read as weights ({error}). Give a .safetensors or .pth file, "
            f"'{CACHE}' or '{DOWNLOAD}'."
        ) from error
    return Weights(tensors, licence or "not stated")


def load_weights(backbone: nn.Module, weights: Weights, layers: tuple[str, ...]) -> None:
    """Load weights into a backbone; layers after the last one used may be absent.

    Raises:
        WeightsError: a tensor that the used layers need is missing, or one does not fit.
    """
    own = backbone.state_dict()
    unexpected = sorted(set(weights.tensors) - set(own))
    if unexpected:
        raise WeightsError(
            f"the weights hold {unexpected[0]!r}, which {type(backbone).__name__} does not have "
            f"({len(unexpected)} such tensors). They belong to another backbone."
        )
    for key, tensor in weights.tensors.items():
        if tensor.shape != own[key].shape:
            raise WeightsError(
                f"{key}: the weights have shape {tuple(tensor.shape)}, "
                f"{type(backbone).__name__} needs {tuple(own[key].shape)}. "
                "They belong to another backbone."
            )
    missing = [
        key
        for key in own
        if key not in weights.tensors
        and not key.endswith("num_batches_tracked")
        and _comes_before_end_of(key, layers, list(own))
    ]
    if missing:
        raise WeightsError(
            f"the weights lack {missing[0]!r}, needed for {', '.join(layers)} "
            f"({len(missing)} tensors are missing). Choose earlier layers or complete weights."
        )
    backbone.load_state_dict(weights.tensors, strict=False)


def _comes_before_end_of(key: str, layers: tuple[str, ...], keys: list[str]) -> bool:
    within = [i for i, k in enumerate(keys) if any(k.startswith(f"{layer}.") for layer in layers)]
    return bool(within) and keys.index(key) <= max(within)


def _torchvision_weights(name: str, download: bool) -> Weights:
    if name == SMALL:
        raise WeightsError(
            "the small backbone has no published weights. "
            "`python -m training.demo` trains it on rendered parts."
        )
    entry = models.get_model_weights(build_and_name(name)).DEFAULT
    filename = Path(entry.url).name
    cached = Path(torch.hub.get_dir()) / "checkpoints" / filename
    if not download and not cached.is_file():
        raise WeightsError(
            f"{cached}: not in torchvision's cache. Copy {filename} there, pass --weights FILE, "
            f"or allow the network once with --weights {DOWNLOAD}."
        )
    try:
        tensors = dict(entry.get_state_dict(progress=True, check_hash=True))
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"{entry.url}: download failed ({error}). Fetch the file elsewhere and pass "
            "--weights FILE."
        ) from error
    return Weights(tensors, "BSD-3-Clause (torchvision), trained on ImageNet-1k")


def build_and_name(name: str) -> str:
    """Return the name if torchvision has the model."""
    build_backbone(name)
    return name
