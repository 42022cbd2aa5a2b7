"""Features along axes, in a module of its own: a layer of the network, that may take eight bits."""

from torch import Tensor, nn
from torch.nn import functional as F


class Projection(nn.Module):
    """Writes the features of each cell along axes."""

    def forward(self, features: Tensor, axes: Tensor) -> Tensor:
        """Return ``(N, q, h, w)`` of ``(N, C, h, w)`` features along ``(C, q)`` axes."""
        return F.conv2d(features, axes.T[:, :, None, None])
