"""Affine coupling flows: invertible networks whose volume change is known.

Source: Dinh et al., Density estimation using Real NVP, ICLR 2017; the soft clamp after Ardizzone et
al., Guided image generation with conditional invertible neural networks, 2019.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

# From channels in and channels out to the network that a coupling learns.
SubNetwork = Callable[[int, int], nn.Module]


class AffineCoupling(nn.Module):
    """One step: scale and shift half of the channels by what the other half says.

    Then every channel has a scale and shift of its own, and a fixed permutation mixes the halves
    for the next step.
    """

    permutation: Tensor
    inverse_permutation: Tensor

    def __init__(
        self,
        *,
        channels: int,
        network: SubNetwork,
        clamp: float,
        condition_width: int = 0,
        seed: int = 0,
    ) -> None:
        """Build the step; it begins as the permutation alone when the network begins at zero.

        Args:
            channels: of the vectors or maps, at least 2.
            network: makes the sub-network.
            clamp: bound of the logarithm of a scale; between the bounds it is smooth.
            condition_width: channels of the condition that the sub-network reads too.
        """
        super().__init__()
        self.kept = channels - channels // 2
        self.clamp = clamp
        self.network = network(self.kept + condition_width, 2 * (channels // 2))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        order = torch.randperm(channels, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("permutation", order)
        self.register_buffer("inverse_permutation", order.argsort())

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Transform.

        Args:
            x: ``(N, C)`` or ``(N, C, H, W)``.
            condition: as ``x``, with its own channels.

        Returns:
            As ``x``, and ``(N,)`` log of the volume change.
        """
        kept, changed = x[:, : self.kept], x[:, self.kept :]
        log_scale, shift = self._read(kept, condition)
        changed = changed * log_scale.exp() + shift
        own = self._bounded(self.log_scale)
        joined = torch.cat([kept, changed], 1) * self._aligned(own.exp(), x)
        joined = joined + self._aligned(self.shift, x)
        cells = math.prod(x.shape[2:])
        volume = log_scale.flatten(1).sum(1) + own.sum() * cells
        return joined[:, self.permutation], volume

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Undo ``forward``."""
        joined = z[:, self.inverse_permutation] - self._aligned(self.shift, z)
        joined = joined * self._aligned((-self._bounded(self.log_scale)).exp(), z)
        kept, changed = joined[:, : self.kept], joined[:, self.kept :]
        log_scale, shift = self._read(kept, condition)
        return torch.cat([kept, (changed - shift) * (-log_scale).exp()], 1)

    def _read(self, kept: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        output = self.network(kept if condition is None else torch.cat([kept, condition], 1))
        log_scale, shift = output.chunk(2, 1)
        return self._bounded(log_scale), shift

    def _bounded(self, log_scale: Tensor) -> Tensor:
        return self.clamp * torch.tanh(log_scale / self.clamp)

    @staticmethod
    def _aligned(values: Tensor, x: Tensor) -> Tensor:
        return values.view(1, -1, *[1] * (x.ndim - 2))


class CouplingFlow(nn.Module):
    """A sequence of couplings that turns features into a standard normal distribution."""

    def __init__(
        self,
        *,
        channels: int,
        networks: list[SubNetwork],
        clamp: float,
        condition_width: int = 0,
        seed: int = 0,
    ) -> None:
        """Build one coupling for each of ``networks``; see ``AffineCoupling``."""
        super().__init__()
        self.steps = nn.ModuleList(
            AffineCoupling(
                channels=channels,
                network=network,
                clamp=clamp,
                condition_width=condition_width,
                seed=seed + number,
            )
            for number, network in enumerate(networks)
        )

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return z, as ``x``, and the ``(N,)`` log of the volume change."""
        volume = x.new_zeros(x.shape[0])
        for step in self.steps:
            x, change = step(x, condition)
            volume = volume + change
        return x, volume

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Undo ``forward``."""
        for step in reversed(self.steps):
            assert isinstance(step, AffineCoupling)
            z = step.inverse(z, condition)
        return z


def zero_last_layer(network: nn.Sequential) -> nn.Sequential:
    """Let a sub-network begin by saying nothing, so that a deep flow begins near the identity."""
    last = network[-1]
    assert isinstance(last, nn.Linear | nn.Conv2d)
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
    return network
