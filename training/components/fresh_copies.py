"""Networks of a given architecture that have learned nothing yet."""

import copy
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def fresh_copy(network: Network, seed: int) -> Network:
    """Return a copy of a network with random weights, trainable.

    Convolutions are drawn after He et al., Delving deep into rectifiers, 2015, equation 10.
    """
    made = copy.deepcopy(network)
    initialize(made, seed)
    return made.requires_grad_(True).train()


def initialize(network: nn.Module, seed: int) -> None:
    """Draw new weights for every layer; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in network.modules():
            reset = getattr(layer, "reset_parameters", None)
            if reset is not None:
                reset()
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
