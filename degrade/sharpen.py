"""Sharpening: the unsharp mask that phones, scanners and web sites apply, halos included."""

import math

import torch
from torch import Tensor

from degrade.blur import blur, gaussian_kernel


def unsharp_mask(images: Tensor, amount: Tensor, sigma_px: Tensor, threshold: Tensor | None = None) -> Tensor:
    """Add ``amount`` of the detail that a Gaussian blur removes, only where that detail is strong.

    As Real-ESRGAN's USM (arXiv 2107.10833, section 4.1): the detail's threshold mask is itself blurred, so that
    sharpened and untouched regions blend. Its numbers are amount 0.5, sigma 8 px, threshold 10/255.

    Args:
        images: (B, C, H, W) in [0, 1].
        amount: strength, (B,); 0 is the identity.
        sigma_px: width of the blur, (B,).
        threshold: detail weaker than this, in [0, 1] units, is left alone, (B,); None sharpens everything.

    Returns:
        Sharpened images, (B, C, H, W) in [0, 1]; differentiable in the images (the mask counts as constant).
    """
    size_px = 2 * math.ceil(3 * float(sigma_px.max())) + 1
    kernels = gaussian_kernel(size_px, sigma_px)
    detail = images - blur(images, kernels)
    sharp = (images + amount.to(images)[:, None, None, None] * detail).clamp(0, 1)
    if threshold is None:
        return sharp
    strong = detail.detach().abs() > threshold.to(images)[:, None, None, None]
    return torch.lerp(images, sharp, blur(strong.to(images), kernels))
