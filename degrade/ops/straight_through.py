"""Give operations that have no useful gradient, such as codecs and rounding, the gradient of the identity."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class _StraightThrough(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(image: Tensor, result: Tensor) -> Tensor:
        return result.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # torch.func asks for it
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def straight_through(images: Tensor, result: Tensor) -> Tensor:
    """Return ``result``, and pass its gradient to ``images`` unchanged.

    Args:
        images: floats of any shape.
        result: what was made of them, the same shape, without a gradient of its own.
    """
    return _StraightThrough.apply(images, result)


def through_pixels(images: Tensor, functions: Sequence[Callable[[np.ndarray], np.ndarray]]) -> Tensor:
    """Pass each sample through its own function of 8-bit pixels; the gradient passes straight through.

    Args:
        images: RGB, (B, 3, H, W); values outside [0, 1] are clipped.
        functions: B functions from (H, W, 3) uint8 RGB to the same.

    Returns:
        Images, (B, 3, H, W), multiples of 1/255.
    """
    levels = (images.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    made = np.stack([function(pixels) for function, pixels in zip(functions, levels, strict=True)])
    return straight_through(images, torch.from_numpy(made).permute(0, 3, 1, 2).to(images) / 255)
