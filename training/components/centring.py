"""Values as deviations from their mean over good images."""

from torch import Tensor, nn


class Centring(nn.Module):
    """Subtracts a mean.

    A module of its own, so that it is found again in an exported graph: where layers before it are
    rounded to eight bits, the mean of what they give is no longer the one that was fitted.
    """

    def forward(self, values: Tensor, mean: Tensor) -> Tensor:
        """Return ``values - mean``; the mean has the shape of one sample, or of a part of it."""
        return values - mean
