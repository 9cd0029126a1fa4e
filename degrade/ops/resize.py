"""Resize images: area, bilinear, bicubic, Mitchell, Lanczos, box and nearest, with or without antialiasing.

Pixel centres stay aligned (half-pixel convention) for every factor, so an LR image that is resized several times does
not shift against its HR. All modes are differentiable in the image.
"""

import functools
import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

ResizeMode = Literal["area", "bilinear", "bicubic", "lanczos", "nearest", "mitchell", "box"]

_SUPPORT = {"bilinear": 1.0, "lanczos": 3.0, "mitchell": 2.0, "box": 0.5}  # radius of the kernel in pixels


def resize(images: Tensor, size: tuple[int, int], mode: ResizeMode = "bicubic", *, antialias: bool = False) -> Tensor:
    """Resize a batch to one size.

    Args:
        images: (B, C, H, W).
        size: target (height, width), each >= 1.
        mode: "area" is the block mean, which needs no antialiasing. "bicubic" is Keys' kernel, with a = -0.5 (as
            MATLAB and PIL) if antialiased and a = -0.75 (as OpenCV) if not. "lanczos" has 3 lobes. "nearest" takes the
            pixel under the centre. "mitchell" is the cubic of Mitchell and Netravali with B = C = 1/3, between bicubic
            and a blur. "box" counts the whole pixels under a box, as PIL does; it is "nearest" if not antialiased.
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
        case "box" if not antialias:
            return F.interpolate(images, size, mode="nearest-exact")
        case "bilinear" | "lanczos" | "mitchell" | "box":
            return _resample(_resample(images, -2, size[0], mode, antialias), -1, size[1], mode, antialias)
    raise ValueError(f"unknown resize mode {mode!r}; use {', '.join(get_args(ResizeMode))}")


def _resample(images: Tensor, dim: int, target: int, mode: str, antialias: bool) -> Tensor:
    """Resample one axis, tap by tap.

    torch lacks most of these kernels, and the last bits of its bilinear mode depend on the number of threads.
    """
    source = images.shape[dim]
    step = source / target
    stretch = max(step, 1.0) if antialias else 1.0
    support = _SUPPORT[mode]
    centres = (torch.arange(target, dtype=torch.float64, device="cpu") + 0.5) * step - 0.5
    taps = 2 * math.ceil(support * stretch)
    positions = (torch.floor(centres).long() - taps // 2 + 1)[:, None] + torch.arange(taps, device="cpu")
    distance = (positions - centres[:, None]) / stretch
    inside = (positions >= 0) & (positions < source)  # taps beyond the border are left out, as in PIL
    match mode:
        case "bilinear":
            weights = (1 - distance.abs()).clamp(min=0) * inside
        case "mitchell":
            weights = _mitchell(distance.abs()) * inside
        case "box":
            weights = ((distance > -support) & (distance <= support) & inside).double()
        case _:
            weights = torch.sinc(distance) * torch.sinc(distance / support) * (distance.abs() < support) * inside
    weights = (weights / weights.sum(1, keepdim=True)).to(images)
    indices = positions.clamp(0, source - 1).to(images.device)
    shape = [1] * images.dim()
    shape[dim] = target
    parts = (images.index_select(dim, indices[:, tap]) * weights[:, tap].reshape(shape) for tap in range(taps))
    return functools.reduce(torch.add, parts)


def _mitchell(distance: Tensor) -> Tensor:
    """Return the kernel of Mitchell and Netravali (SIGGRAPH 1988) with B = C = 1/3."""
    near = (7 * distance**3 - 12 * distance**2 + 16 / 3) / 6
    far = (-7 / 3 * distance**3 + 12 * distance**2 - 20 * distance + 32 / 3) / 6
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
