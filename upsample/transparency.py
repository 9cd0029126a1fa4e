"""Transparency of images that are upscaled: colours for what nobody sees, and opacity that stays where it was."""

import torch
import torch.nn.functional as F
from torch import Tensor


def fill_hidden(color: Tensor, alpha: Tensor) -> Tensor:
    """Spread the visible colours below the fully transparent pixels.

    Editors leave anything there, black as a rule, which the network would draw as an edge into what is visible.

    Args:
        color: (1, 3, h, w).
        alpha: (1, 1, h, w).

    Returns:
        (1, 3, h, w), untouched where alpha is above 0.
    """
    return _fill(color, (alpha > 0).to(color))


def keep_flat(alpha: Tensor, lr_alpha: Tensor) -> Tensor:
    """Clamp enlarged opacity to the range of the LR around it, so that opaque stays opaque and clear stays clear.

    Args:
        alpha: (1, 1, h * scale, w * scale).
        lr_alpha: (1, 1, h, w).
    """
    low, high = -F.max_pool2d(-lr_alpha, 3, 1, 1), F.max_pool2d(lr_alpha, 3, 1, 1)
    size = alpha.shape[-2:]
    return torch.clamp(alpha, F.interpolate(low, size, mode="nearest"), F.interpolate(high, size, mode="nearest"))


def on_white(color: Tensor, alpha: Tensor) -> Tensor:
    """(1, 3, h, w) and its opacity (1, 1, h, w), laid on white."""
    return color * alpha + (1 - alpha)


def _fill(color: Tensor, known: Tensor) -> Tensor:
    """Fill what is not known by the same image at half the size, where more is known, and so on (pull-push)."""
    height, width = color.shape[-2:]
    if bool(known.all()) or height == width == 1:
        return color
    weight = F.avg_pool2d(known, 2, ceil_mode=True)
    half = F.avg_pool2d(color * known, 2, ceil_mode=True) / weight.clamp(min=0.25)
    half = _fill(half, (weight > 0).to(color))
    return torch.where(known > 0, color, F.interpolate(half, scale_factor=2.0, mode="bilinear")[..., :height, :width])
