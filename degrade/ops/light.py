"""Convert between display values (sRGB) and linear light."""

import torch
from torch import Tensor


def srgb_to_linear(images: Tensor) -> Tensor:
    """Undo the sRGB curve (IEC 61966-2-1): display values in [0, 1] to light in [0, 1], any shape."""
    images = images.clamp(0, 1)
    return torch.where(images <= 0.04045, images / 12.92, _power((images.clamp(min=0.04045) + 0.055) / 1.055, 2.4))


def linear_to_srgb(light: Tensor) -> Tensor:
    """Apply the sRGB curve (IEC 61966-2-1): light in [0, 1] to display values in [0, 1], any shape."""
    light = light.clamp(0, 1)
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * _power(light.clamp(min=0.0031308), 1 / 2.4) - 0.055)


def _power(values: Tensor, exponent: float) -> Tensor:
    """Compute ``values ** exponent`` in pieces that are too small for torch to split among threads.

    torch's vector and scalar powers differ in the last bit, and the places where it splits the work decide which
    pixels get which.
    """
    return torch.cat([piece**exponent for piece in values.flatten().split(16384)]).reshape(values.shape)
