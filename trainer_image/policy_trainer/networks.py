"""A small network in torch, while it learns: linear layers with one activation between them."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from policy_models.layers import Activation, Layers
from torch import nn

MODULES: dict[Activation, type[nn.Module]] = {Activation.RELU: nn.ReLU, Activation.TANH: nn.Tanh}


def network(sizes: Sequence[int], activation: Activation) -> nn.Sequential:
    """Return a network with torch's initial weights.

    Args:
        sizes: Width of the input, of each hidden layer, and of the output.
        activation: What stands between two layers.
    """
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(pairwise(sizes)):
        layers += [MODULES[activation]()] if number else []
        layers.append(nn.Linear(before, after))
    return nn.Sequential(*layers)


def arrays(state: Mapping[str, torch.Tensor], activation: Activation) -> Layers:
    """Return the weights of a network's `state_dict` as arrays."""
    tensors = [tensor.cpu().numpy() for tensor in state.values()]
    return Layers(tuple(zip(tensors[::2], tensors[1::2], strict=True)), activation)
