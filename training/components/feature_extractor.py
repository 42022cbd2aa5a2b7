"""Feature extraction: uint8 images in, feature maps of named layers out."""

import re
from copy import deepcopy

import torch
from torch import Tensor, nn

from training.components.timm_backbones import BackboneTraits, timm_traits
from training.components.torchvision_operators import load_torchvision
from training.errors import SettingError
from training.input_size import nearest_size
from training.out_of_memory import naming_settings
from training.size_text import size_text

load_torchvision()
from torchvision.models.feature_extraction import (  # noqa: E402
    create_feature_extractor,
    get_graph_node_names,
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Sides of the images by which a stride is found.
_PROBED = (256, 512)

# In messages of a traced network, where the true number would stand.
_TRACED = re.compile(r" but got Proxy\(\w+\)!?| \(Proxy\(\w+\)\)")


class FeatureExtractor(nn.Module):
    """The part of a frozen backbone up to the last named layer.

    The first step is the float half of the pre-processing (layout, colour order, mean, standard
    deviation), so that torch, ONNX and OpenVINO all start from the same uint8 images.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, layers: tuple[str, ...]) -> None:
        """Cut the backbone after the last of ``layers``.

        Args:
            backbone: a network of torchvision or timm; of the latter ``layer1`` to ``layer4`` are
                the maps of a quarter to a thirty-second of the image, however it calls them.

        Raises:
            SettingError: a layer does not exist; the message lists those that do.
        """
        super().__init__()
        self.layers = layers
        traits = timm_traits(backbone) or BackboneTraits(IMAGENET_MEAN, IMAGENET_STD)
        modules = _find_layers(backbone, layers, traits)
        self.body = create_feature_extractor(
            backbone,
            {module: layer for layer, module in zip(layers, modules, strict=True)},
            tracer_kwargs=traits.tracing,
            suppress_diff_warning=True,
        )
        self.requires_grad_(False).eval()
        self.register_buffer("mean", 255.0 * torch.tensor(traits.mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255.0 * torch.tensor(traits.std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Extract features.

        Args:
            images: ``(N, H, W, 3) uint8`` BGR, as ``preprocessing.prepare`` gives them.

        Returns:
            One ``(N, C, h, w) float32`` map per layer, in the order of ``layers``.
        """
        features = self.body(self.normalized(images))
        return [features[layer] for layer in self.layers]

    def normalized(self, images: Tensor) -> Tensor:
        """Return what the backbone itself reads: ``(N, 3, H, W) float32`` RGB around zero."""
        # By rows: pixels of three numbers would keep a processor from its width. The colours are
        # turned round last, where OpenVINO turns the weights of the first layer round instead.
        width = images.shape[2]
        mean, std = (number.flatten().flip(0).repeat(width) for number in (self.mean, self.std))
        bgr = ((images.flatten(2).to(torch.float32) - mean) / std).unflatten(2, (width, 3))
        rgb = torch.tensor([2, 1, 0], device=images.device)
        planes = bgr.permute(0, 3, 1, 2).index_select(1, rgb)
        # Pixel by pixel in memory again: torch convolves that in 0.7 of the time on a processor.
        return planes.contiguous(memory_format=torch.channels_last)

    def feature_shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """Return ``(C, h, w)`` of each layer for images of this size.

        Raises:
            SettingError: the backbone does not take this size, or a layer gives no feature map.
        """
        blank = torch.zeros(1, height, width, 3, dtype=torch.uint8, device=self.mean.device)
        try:
            with torch.inference_mode(), naming_settings("--image-size"):
                # Not by calling the body, which prints where it failed.
                found = self.body.forward(self.normalized(blank))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise SettingError(self._refusal(height, width, error)) from error
        features = [found[layer] for layer in self.layers]
        for layer, feature in zip(self.layers, features, strict=True):
            if feature.ndim != 4:
                raise SettingError(
                    f"layer {layer!r} gives {tuple(feature.shape[1:])}, not a feature map of "
                    "channels, rows and columns. Choose a convolutional layer."
                )
        return [tuple(feature.shape[1:]) for feature in features]

    def stride(self) -> int:
        """Return how many pixels a cell of the deepest layer stands for, per side.

        Layers whose maps do not grow with the image do not count; 1 where none does.

        Raises:
            SettingError: the backbone takes images of one size only, or a layer gives no map.
        """
        small, large = (self.feature_shapes(side, side) for side in _PROBED)
        cells = [b[1] - a[1] for a, b in zip(small, large, strict=True)]
        return max((round((_PROBED[1] - _PROBED[0]) / n) for n in cells if n > 0), default=1)

    def _refusal(self, height: int, width: int, error: Exception) -> str:
        """Return what is wrong with a size, and the nearest one that is right."""
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        why = _TRACED.sub("", first_line)
        text = f"the backbone does not take images of {width}×{height} pixels ({why})."
        body = deepcopy(self.body).to("meta")

        def accepts(height: int, width: int) -> bool:
            try:
                with torch.inference_mode():
                    body.forward(torch.empty(1, 3, height, width, device="meta"))
            except (RuntimeError, AssertionError, ValueError):
                return False
            return True

        nearest = nearest_size(accepts, height, width)
        if nearest is None:
            return f"{text} Choose another --backbone, or other layers."
        return f"{text} The nearest size that it takes: --image-size {size_text(nearest)}."


def _find_layers(backbone: nn.Module, layers: tuple[str, ...], traits: BackboneTraits) -> list[str]:
    """Return the modules that layers stand for."""
    kind = type(backbone).__name__
    try:
        _, (_, *nodes) = get_graph_node_names(  # first: the input
            backbone, tracer_kwargs=traits.tracing, suppress_diff_warning=True
        )
    except Exception as error:  # its forward fails in any way it likes when it is followed
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise SettingError(
            f"no features can be taken from {kind}: its way from image to layers cannot be "
            f"followed ({_TRACED.sub('', first_line)}). Choose another --backbone."
        ) from error
    # A module stands for its last node: layer2 is layer2.1.relu_1.
    parts = [node.split(".") for node in nodes]
    known = {".".join(part[: depth + 1]) for part in parts for depth in range(len(part))}
    by_depth = {layer: module for layer, module in traits.layers.items() if module in known}
    for layer in layers:
        if layer not in known and layer not in by_depth:
            stages = [name for name, _ in backbone.named_children() if name in known]
            inner = [node for node in nodes if "." in node]
            raise SettingError(
                f"layer {layer!r} does not exist in {kind}. "
                f"There are: {', '.join([*by_depth, *stages])}, and their parts such as "
                f"{inner[-1]!r}."
            )
    if not layers or len(set(layers)) < len(layers):
        raise SettingError(f"layers: {', '.join(layers) or 'none'}. Name each layer once.")
    return [layer if layer in known else by_depth[layer] for layer in layers]
