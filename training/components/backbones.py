"""Backbones by name, with weights from a file, a cache on this disk or a download."""

import difflib
import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, hub, nn

from edge.errors import StationError
from edge.wording import counted
from training.components.small_backbone import SmallBackbone
from training.components.timm_backbones import (
    PREFIX,
    build_timm_backbone,
    is_timm,
    published_weights,
    stated_licence,
)
from training.components.torchvision_operators import load_torchvision
from training.errors import SettingError, WeightsError
from training.load_fault import load_fault

load_torchvision()
# Named twice: others import it from here, after the call above.
from torchvision import models as models  # noqa: E402

SMALL = "small"
CACHE = "cache"
DOWNLOAD = "download"


@dataclass(frozen=True, slots=True)
class Weights:
    """Tensors for a backbone and the terms they come under."""

    tensors: dict[str, Tensor]
    licence: str


def backbone_names() -> list[str]:
    """Return the classification networks; others would fetch weights when they are built."""
    return [SMALL, *models.list_models(module=models)]


def build_backbone(name: str) -> nn.Module:
    """Build an architecture with random weights; touches neither disk nor network.

    Raises:
        SettingError: no such backbone.
    """
    if is_timm(name):
        return build_timm_backbone(name)
    _require_known(name)
    return SmallBackbone() if name == SMALL else models.get_model(name, weights=None)


def find_weights(name: str, source: str, licence: str | None = None) -> Weights:
    """Find the weights of a backbone.

    Args:
        source: path of a ``.safetensors`` or ``.pth`` file; ``cache`` for the cache of torchvision
            or timm; ``download`` to fetch them. The network is used for nothing else.
        licence: terms of weights from a file.

    Raises:
        SettingError: no such backbone.
        WeightsError: not there, not readable, or not weights.
    """
    if is_timm(name):
        if source in (CACHE, DOWNLOAD):
            return _timm_weights(name, download=source == DOWNLOAD)
        terms = licence or stated_licence(name)
        return Weights(_read(Path(source)), terms)
    _require_known(name)
    if source in (CACHE, DOWNLOAD):
        return _torchvision_weights(name, download=source == DOWNLOAD)
    return Weights(_read(Path(source)), licence or "not stated")


def weights_identity(name: str, source: str) -> str:
    """Return what tells weights from others without loading them; empty where they are missing.

    Of torchvision's own it is the file's name, which holds its SHA-256.
    """
    if source in (CACHE, DOWNLOAD) and is_timm(name):
        try:
            cached = published_weights(name).cached
        except StationError:
            return ""
        return "" if cached is None else _sha256(cached)
    if source in (CACHE, DOWNLOAD):
        if name == SMALL or name not in backbone_names():
            return ""
        return Path(models.get_model_weights(name).DEFAULT.url).name
    try:
        return _sha256(Path(source))
    except OSError:
        return ""


def load_weights(backbone: nn.Module, weights: Weights, needed: Collection[str]) -> None:
    """Load weights into a backbone; those of parts that nobody uses may be absent.

    Args:
        needed: names of the tensors that must be there.

    Raises:
        WeightsError: a needed tensor is missing, or one does not fit.
    """
    own = backbone.state_dict()
    kind = type(backbone).__name__
    tensors = _without_prefix(weights.tensors, own, needed)
    unexpected = sorted(set(tensors) - set(own))
    if unexpected:
        raise WeightsError(
            f"the weights hold {unexpected[0]!r}, which {kind} does not have "
            f"({counted(len(unexpected), 'such tensor')}). They belong to another backbone."
        )
    # A classifier of other classes says nothing about the layers that are used.
    tensors = {
        key: tensor
        for key, tensor in tensors.items()
        if key in needed or tensor.shape == own[key].shape
    }
    for key, tensor in tensors.items():
        if tensor.shape != own[key].shape:
            raise WeightsError(
                f"{key}: the weights have shape {tuple(tensor.shape)}, {kind} needs "
                f"{tuple(own[key].shape)}. They belong to another backbone."
            )
        if not tensor.isfinite().all():
            raise WeightsError(f"{key}: the weights hold numbers that are not finite.")
    missing = [
        key
        for key in own
        if key in needed and key not in tensors and not key.endswith("num_batches_tracked")
    ]
    if missing:
        raise WeightsError(
            f"the weights lack {missing[0]!r} "
            f"({counted(len(missing), 'needed tensor is', 'needed tensors are')} missing). "
            "Choose earlier layers or complete weights."
        )
    backbone.load_state_dict(tensors, strict=False)


def _without_prefix(
    tensors: dict[str, Tensor], own: Collection[str], needed: Collection[str]
) -> dict[str, Tensor]:
    """Take off what a wrapper put in front of every name, as ``module.`` or ``model.backbone.``.

    Tensors of the wrapper's other parts, such as a head of its own, are left out.
    """
    known = [key for key in needed or own if not key.endswith("num_batches_tracked")]
    if known[0] in tensors:
        return tensors
    prefixes = {n.removesuffix(known[0]) for n in tensors if n.endswith(f".{known[0]}")}
    whole = [prefix for prefix in prefixes if all(f"{prefix}{key}" in tensors for key in known)]
    if len(whole) != 1:
        return tensors
    (prefix,) = whole
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _require_known(name: str) -> None:
    known = backbone_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, 5, 0.6)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        raise SettingError(
            f"backbone {name!r} does not exist. {hint}There are: {', '.join(known)}; and "
            f"{PREFIX}NAME for the networks of timm."
        )


def _torchvision_weights(name: str, download: bool) -> Weights:
    if name == SMALL:
        raise WeightsError(
            "the small backbone has no published weights. Pass --weights FILE; "
            "`python -m training.demo` trains it on rendered parts."
        )
    url = models.get_model_weights(name).DEFAULT.url
    cached = Path(hub.get_dir()) / "checkpoints" / Path(url).name
    # torchvision names its files after the first digits of their SHA-256.
    digits = cached.stem.rpartition("-")[2]
    if not cached.is_file():
        if not download:
            raise WeightsError(
                f"{cached}: not in torchvision's cache. Copy {cached.name} there, pass "
                f"--weights FILE, or allow the network once with --weights {DOWNLOAD}."
            )
        _download(url, cached, digits)
    if not _sha256(cached).startswith(digits):
        raise WeightsError(
            f"{cached}: damaged, its SHA-256 does not begin with {digits}. Remove the file and "
            "fetch it again."
        )
    return Weights(_read(cached), "BSD-3-Clause (torchvision), trained on ImageNet-1k")


def _timm_weights(name: str, download: bool) -> Weights:
    published = published_weights(name)
    cached = published.cached
    if cached is None:
        if not download:
            raise WeightsError(
                f"the weights of {name} are neither in the cache of Hugging Face nor in "
                f"{published.place}. Copy {published.url} there, pass --weights FILE, or allow the "
                f"network once with --weights {DOWNLOAD}."
            )
        _download(published.url, published.place)
        cached = published.place
    return Weights(_read(cached), published.licence)


def _download(url: str, place: Path, digits: str | None = None) -> None:
    """Fetch a file whole or not at all.

    Args:
        digits: that its SHA-256 begins with, where they are known.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        hub.download_url_to_file(url, str(place), hash_prefix=digits)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"{url}: download failed ({error}). Fetch the file elsewhere and pass --weights FILE."
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix.lower() == ".safetensors":
            tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails in any way it likes
        raise WeightsError(
            f"{path}: cannot be read as weights ({load_fault(error)}). Give a .safetensors or "
            f".pth file, '{CACHE}' or '{DOWNLOAD}'."
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise WeightsError(
            f"{path}: does not hold tensors by name, as `torch.save(model.state_dict(), …)` writes "
            "them. Save the state_dict itself."
        )
    return tensors


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
