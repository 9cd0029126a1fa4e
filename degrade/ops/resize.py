"""Resize images: area, bilinear, bicubic, lanczos and nearest, with or without antialiasing.

Pixel centres stay aligned (half-pixel convention) for every factor, so an LR image that is resized several times does
not shift against its HR. All modes are differentiable in the image.
"""

import functools
import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

ResizeMode = Literal["area", "bilinear", "bicubic", "lanczos", "nearest"]

_LANCZOS_LOBES = 3


def resize(images: Tensor, size: tuple[int, int], mode: ResizeMode = "bicubic", *, antialias: bool = False) -> Tensor:
    """Resize a batch to one size.

    Args:
        images: (B, C, H, W).
        size: target (height, width), each >= 1.
        mode: "area" is the block mean, which needs no antialiasing. "bicubic" is Keys' kernel, with a = -0.5 (as
            MATLAB and PIL) if antialiased and a = -0.75 (as OpenCV) if not. "lanczos" has 3 lobes. "nearest" takes the
            pixel under the centre.
        antialias: widen the kernel when the image is reduced, as MATLAB and PIL do; False lets it alias, as
            Real-ESRGAN does.

    Returns:
        (B, C, height, width). Bicubic and lanczos may leave the range of the input.

    Raises:
        ValueError: a target side is below 1, or the mode is unknown.
    """
    if min(size) < 1:
        raise ValueError(f"resize target {size[0]}x{size[1]} is empty; every side must be at least 1")
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    match mode:
        case "area":
            return F.interpolate(images, size, mode="area")
        case "nearest":
            return F.interpolate(images, size, mode="nearest-exact")
        case "bicubic":
            return F.interpolate(images, size, mode="bicubic", antialias=antialias)
        case "bilinear" if antialias:
            return F.interpolate(images, size, mode="bilinear", antialias=True)
        case "bilinear" | "lanczos":
            return _resample(_resample(images, -2, size[0], mode, antialias), -1, size[1], mode, antialias)
    raise ValueError(f"unknown resize mode {mode!r}; use area, bilinear, bicubic, lanczos or nearest")


def _resample(images: Tensor, dim: int, target: int, mode: str, antialias: bool) -> Tensor:
    """Resample one axis, tap by tap.

    torch has no lanczos, and the last bits of its bilinear mode depend on the number of threads.
    """
    source = images.shape[dim]
    step = source / target
    stretch = max(step, 1.0) if antialias else 1.0
    lobes = 1 if mode == "bilinear" else _LANCZOS_LOBES
    centres = (torch.arange(target, dtype=torch.float64) + 0.5) * step - 0.5
    taps = 2 * math.ceil(lobes * stretch)
    positions = (torch.floor(centres).long() - taps // 2 + 1)[:, None] + torch.arange(taps)
    distance = (positions - centres[:, None]) / stretch
    inside = (positions >= 0) & (positions < source)  # taps beyond the border are left out, as in PIL
    if mode == "bilinear":
        weights = (1 - distance.abs()).clamp(min=0) * inside
    else:
        weights = torch.sinc(distance) * torch.sinc(distance / lobes) * (distance.abs() < lobes) * inside
    weights = (weights / weights.sum(1, keepdim=True)).to(images)
    indices = positions.clamp(0, source - 1).to(images.device)
    shape = [1] * images.dim()
    shape[dim] = target
    parts = (images.index_select(dim, indices[:, tap]) * weights[:, tap].reshape(shape) for tap in range(taps))
    return functools.reduce(torch.add, parts)
