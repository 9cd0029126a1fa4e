"""Images as tensors: from 8 bits and back, and one check of batches, so that every mistake has the same sentence."""

import numpy as np
import torch
from torch import Tensor

from degrade.images.geometry import Crops, Rgb


def check_batch(images: Tensor, name: str, *, size: str = "H, W") -> None:
    """Refuse what is no batch of RGB images in [0, 1].

    Args:
        images: (B, 3, H, W), floats, none of the sides empty.
        name: what it is called, for the sentence.
        size: what its height and width are called.

    Raises:
        ValueError: another shape, type or range, or values that are not finite.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        raise ValueError(f"{name} has shape {tuple(images.shape)}; pass RGB images as (B, 3, {size})")
    if not images.is_floating_point():
        raise ValueError(f"{name} is {images.dtype}; pass floats in [0, 1], for example {name}.float() / 255")
    low, high = (float(value) for value in images.detach().aminmax())
    if not (low >= -0.01 and high <= 1.01):  # so put, nan is refused too
        raise ValueError(f"{name} ranges over {low:.3g}..{high:.3g}; pass floats in [0, 1]")


def to_tensor(image: Rgb) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float() / 255


def to_image(tensor: Tensor) -> Rgb:
    """(3, H, W) float in [0, 1] -> (H, W, 3) uint8."""
    return (tensor.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def to_tensors(crops: Crops) -> torch.Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float in [0, 1]."""
    return torch.cat([to_tensor(crop) for crop in crops])
