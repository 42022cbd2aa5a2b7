"""Features of images that several models are fitted to in turn: extracted once."""

import hashlib

import torch
from torch import Tensor, nn

from training.components.feature_extractor import FeatureExtractor


class RememberedFeatures(nn.Module):
    """Stands for a feature extractor; an image that was seen before is not run again.

    Each image is run alone, so that its features do not depend on its neighbours.
    """

    def __init__(self, extractor: FeatureExtractor, room_bytes: int) -> None:
        """Set the bound.

        Args:
            room_bytes: that features take at most; those of further images are not kept.
        """
        super().__init__()
        self._extractor = extractor
        self._room = room_bytes
        self._known: dict[bytes, list[Tensor]] = {}
        self.layers = extractor.layers

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return what the extractor gives for ``(N, H, W, 3) uint8`` images."""
        each = [self._features(image) for image in images]
        return [torch.cat(layer) for layer in zip(*each, strict=True)]

    def normalized(self, images: Tensor) -> Tensor:
        """Return what the backbone itself reads."""
        return self._extractor.normalized(images)

    def feature_shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """Return ``(C, h, w)`` of each layer for images of this size."""
        return self._extractor.feature_shapes(height, width)

    def _features(self, image: Tensor) -> list[Tensor]:
        content = image.cpu().contiguous().numpy()
        key = hashlib.blake2b(content.tobytes(), digest_size=16).digest()
        known = self._known.get(key)
        if known is not None:
            return known
        features: list[Tensor] = self._extractor(image[None])
        size = sum(layer.numel() * layer.element_size() for layer in features)
        if size <= self._room:
            self._room -= size
            self._known[key] = features
        return features
