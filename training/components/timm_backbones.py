"""Backbones of timm, an optional library: by name, with layers by their depth.

Building one touches neither disk nor network; timm itself never fetches anything here.
"""

import difflib
import importlib
import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import hub, nn

from training.components.torchvision_operators import load_torchvision
from training.errors import SettingError, WeightsError

PREFIX = "timm:"

# Depths that every algorithm's settings name, and how much smaller their maps are.
_REDUCTIONS = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}


@dataclass(frozen=True, slots=True)
class BackboneTraits:
    """How a backbone is read.

    Attributes:
        mean, std: of RGB in 0 to 1, that its weights were trained with.
        layers: names of modules by depth: ``layer2`` gives maps of an eighth.
        tracing: modules and functions that torch.fx does not look into.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    layers: dict[str, str] = field(default_factory=dict)
    tracing: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """Where the weights are that timm names for a network.

    Attributes:
        url: of the file.
        cached: where it lies on this disk already; None where it does not.
        place: where a download puts it.
        licence: terms that timm states.
    """

    url: str
    cached: Path | None
    place: Path
    licence: str


def is_timm(name: str) -> bool:
    """Tell whether a backbone's name asks for timm."""
    return name.startswith(PREFIX)


def build_timm_backbone(name: str) -> nn.Module:
    """Build a network with random weights.

    Raises:
        SettingError: timm is not installed, has no such network, or this one gives no feature maps.
    """
    timm = _timm()
    own = _known(timm, name)
    network: nn.Module = timm.create_model(own, pretrained=False, exportable=True)
    rows_first = getattr(network, "output_fmt", None) not in (None, "NCHW")
    if not getattr(network, "feature_info", None) or rows_first:
        raise SettingError(
            f"backbone {name!r}: gives no maps of channels, rows and columns that features can be "
            "taken from. Choose a convolutional network, for example timm:resnet18, "
            "timm:convnext_atto or timm:efficientnet_b0."
        )
    return network


def timm_traits(network: nn.Module) -> BackboneTraits | None:
    """Return how a network is read; None of one that is not timm's."""
    trained = getattr(network, "pretrained_cfg", None)
    if trained is None:
        return None
    infos: Any = network.feature_info
    by_reduction = {int(info["reduction"]): str(info["module"]) for info in infos}
    fx = importlib.import_module("timm.layers")
    return BackboneTraits(
        mean=tuple(trained["mean"]),
        std=tuple(trained["std"]),
        layers={
            layer: by_reduction[reduction]
            for layer, reduction in _REDUCTIONS.items()
            if reduction in by_reduction
        },
        tracing={
            "leaf_modules": list(fx.get_notrace_modules()),
            "autowrap_functions": list(fx.get_notrace_functions()),
        },
    )


def published_weights(name: str) -> PublishedWeights:
    """Return where the weights of a network are; looks at this disk alone.

    Raises:
        SettingError: timm is not installed or has no such network.
        WeightsError: nobody published weights of it.
    """
    timm = _timm()
    config = timm.get_pretrained_cfg(_known(timm, name))
    folder = Path(hub.get_dir()) / "checkpoints"
    tagged = ".".join(filter(None, (config.architecture, config.tag)))
    licence = f"{config.license or 'not stated'} ({tagged} of timm {timm.__version__})"
    if config.hf_hub_id:
        client = importlib.import_module("huggingface_hub")
        file = config.hf_hub_filename or "model.safetensors"
        place = folder / f"timm-{tagged}{Path(file).suffix}"
        known = client.try_to_load_from_cache(config.hf_hub_id, file)
        found = Path(known) if isinstance(known, str | os.PathLike) else place
        url = client.hf_hub_url(config.hf_hub_id, file)
    elif isinstance(config.url, str) and config.url:
        url, place = config.url, folder / Path(config.url).name
        found = place
    else:
        raise WeightsError(
            f"timm has no weights of {name.removeprefix(PREFIX)}. Pass --weights FILE, or choose a "
            f"network that has: {_some(timm.list_pretrained())}."
        )
    return PublishedWeights(url, found if found.is_file() else None, place, licence)


def stated_licence(name: str) -> str:
    """Return the terms that timm states for a network's weights, of a file that holds them.

    Raises:
        SettingError: timm is not installed or has no such network.
    """
    timm = _timm()
    config = timm.get_pretrained_cfg(_known(timm, name))
    if config is None or not config.license:
        return "not stated"
    tagged = ".".join(filter(None, (config.architecture, config.tag)))
    return (
        f"{config.license} (of {tagged}, as timm {timm.__version__} states; the weights come from "
        "a file)"
    )


def _timm() -> Any:
    if find_spec("timm") is None:
        raise SettingError(
            "timm is not installed, which a backbone 'timm:NAME' needs: "
            "pip install 'inspection-station[timm]'. Or choose a backbone of torchvision."
        )
    load_torchvision()  # which timm imports
    return importlib.import_module("timm")  # takes seconds


def _known(timm: Any, name: str) -> str:
    """Return the name as timm has it: a network of its own, perhaps with a tag of its weights."""
    own = name.removeprefix(PREFIX)
    networks = timm.list_models()
    network, _, tag = own.partition(".")
    tagged = timm.list_models(f"{network}.*", include_tags=True) if network in networks else []
    if own in networks or own in tagged:
        return own
    if tagged and tag:
        raise SettingError(
            f"backbone {name!r}: timm has no weights {tag!r} of {network}. "
            f"There are: {_some(tagged)}."
        )
    near = difflib.get_close_matches(network, networks, 5, 0.6)
    hint = f"Did you mean {_some(near)}? " if near else ""
    raise SettingError(
        f"backbone {name!r} does not exist: timm {timm.__version__} has {len(networks)} networks, "
        f"none of this name. {hint}`python -c 'import timm; print(timm.list_models())'` lists them."
    )


def _some(names: list[str]) -> str:
    shown = ", ".join(f"{PREFIX}{one}" for one in names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown
