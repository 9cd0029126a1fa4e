"""The moving average of a network's weights."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = list[Tensor] | tuple[Tensor, ...]


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """Copy a network, so that ``average.update_parameters(network)`` after each step averages its weights.

    The first update copies the weights. Update ``n + 1`` keeps ``min(decay, (1 + n) / (10 + n))`` of the average, so
    that a short training is not dominated by the weights that it began with.

    Args:
        network: the network that learns.
        decay: share of the average that an update keeps after a long training, 0..1.
    """

    def update(averages: Tensors, weights: Tensors, updates: Tensor | int) -> None:
        n = float(updates)
        torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + n) / (10 + n)))

    return AveragedModel(network, multi_avg_fn=update)
