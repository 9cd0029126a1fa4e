"""Convert 8-bit images to tensors and back, and check batches of images in one place."""

import numpy as np
import torch
from torch import Tensor

from degrade.images.geometry import Crops, Rgb


def check_batch(images: Tensor, name: str, *, size: str = "H, W", values: bool = True) -> None:
    """Check that a tensor is a batch of RGB images in [0, 1].

    Args:
        images: floats, (B, 3, H, W), with no empty side.
        name: name of the argument, for the error message.
        size: names of the height and the width, for the error message.
        values: False checks shape and type only.

    The values are not checked where there are none: in compiled and exported graphs, and for meta and fake tensors.

    Raises:
        ValueError: the tensor has another shape, type or range, or holds values that are not finite.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        raise ValueError(f"{name} has shape {tuple(images.shape)}; pass RGB images as (B, 3, {size})")
    if not images.is_floating_point():
        raise ValueError(f"{name} is {images.dtype}; pass floats in [0, 1], for example {name}.float() / 255")
    if not values:
        return
    bounds = numbers(*images.detach().aminmax())
    if bounds is None:
        return
    low, high = bounds
    if not (low >= -0.01 and high <= 1.01):  # written so that nan is refused too
        raise ValueError(f"{name} ranges over {low:.3g}..{high:.3g}; pass floats in [0, 1], such as {name}.clamp(0, 1)")


def numbers(*values: Tensor) -> list[float] | None:
    """Read tensors of one element, or return None where a tensor has no values: compilers, exporters, meta, vmap."""
    if torch.compiler.is_compiling():
        return None
    try:
        return [float(value) for value in values]
    except RuntimeError:
        return None


def to_tensor(image: Rgb) -> Tensor:
    """Convert an image: (H, W, 3) uint8 -> (1, 3, H, W) float in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float().div_(255)


def to_image(tensor: Tensor) -> Rgb:
    """Convert a tensor back to an image: (3, H, W) float in [0, 1] -> (H, W, 3) uint8."""
    return (tensor.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def to_tensors(crops: Crops) -> Tensor:
    """Convert images of one size: (N, H, W, 3) uint8 -> (N, 3, H, W) float in [0, 1]."""
    return torch.cat([to_tensor(crop) for crop in crops])
