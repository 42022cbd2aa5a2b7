"""Images as they would look under a little more or less light."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

# Beyond, images would show what no lamp of a line does.
MAX_BRIGHTNESS = 0.5


@dataclass(frozen=True, slots=True)
class LightVariation:
    """Darker and brighter copies of images, the same for the same image in any order.

    Attributes:
        share: b; levels are multiplied by 1 − b to 1 + b, and so is their distance from the mean.
        seed: of what is random.
    """

    share: float
    seed: int

    def copies(self, images: Tensor) -> Tensor:
        """Return one darker and one brighter copy of each of ``(N, H, W, 3) uint8`` images."""
        return torch.cat([self._copies(image) for image in images])

    def _copies(self, image: Tensor) -> Tensor:
        content = image.cpu().contiguous().numpy().tobytes()
        digest = hashlib.blake2b(content, key=str(self.seed).encode()[:64]).digest()
        random = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
        drawn = torch.rand(4, generator=random).tolist()
        found = []
        for side, light, contrast in ((-1.0, *drawn[:2]), (1.0, *drawn[2:])):
            lit = image.float() * (1.0 + side * light * self.share)
            mean = lit.mean()
            spread = 1.0 + (2.0 * contrast - 1.0) * self.share
            found.append((mean + (lit - mean) * spread).round().clamp(0, 255).to(torch.uint8))
        return torch.stack(found)
