"""Compare images by pretrained features."""

from collections.abc import Sequence

import torch
from torch import Tensor


def feature_distance(maps: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Return the mean absolute difference of the maps of `PretrainedFeatures`, each map counting the same.

    As a loss it asks for the texture that squared errors blur. As a metric it is uncalibrated: unlike LPIPS, no
    judgements of people went into its weights, so compare figures of this function with each other only.

    Args:
        maps: of one batch of images, each (B, C, h, w).
        other: of another batch with the same shapes.

    Returns:
        (B,), in units of the spread of the features.
    """
    each = [(a - b).abs().mean((1, 2, 3)) for a, b in zip(maps, other, strict=True)]
    return torch.stack(each).mean(0)
