"""Imitate analogue video: the two fields of an interlaced picture, and the scan lines of a tube."""

import math

import torch
from torch import Tensor


def interlace(images: Tensor, shift_px: Tensor) -> Tensor:
    """Shift every second row sideways, as the later field of an interlaced camera shows what moved: comb artefacts.

    Args:
        images: (B, C, H, W).
        shift_px: shift of rows 1, 3, 5, ... to the right, (B,); whole pixels keep sharpness, parts are interpolated.

    Returns:
        (B, C, H, W); differentiable in the images. Borders are repeated.
    """
    combed = []
    for image, shift in zip(images, shift_px, strict=True):
        width = image.shape[-1]
        place = (torch.arange(width, dtype=torch.float64, device="cpu") - float(shift)).clamp(0, width - 1)
        before = place.floor().long()
        part = (place - before).to(image)
        field = image[:, 1::2]
        after = (before + 1).clamp(max=width - 1)
        first, second = (field.index_select(-1, index.to(image.device)) for index in (before, after))
        rows = torch.arange(1, image.shape[-2], 2, device=image.device)
        combed.append(image.index_copy(-2, rows, first * (1 - part) + second * part))
    return torch.stack(combed)


def scan_lines(images: Tensor, period_px: Tensor, strength: Tensor) -> Tensor:
    """Darken the gaps between the lines of a tube.

    Args:
        images: (B, C, H, W) in [0, 1].
        period_px: distance between lines, (B,), >= 2; the first line is at the top.
        strength: share of the light that is lost in the middle of a gap, (B,) in [0, 1].

    Returns:
        (B, C, H, W), darker by strength / 2 on average; differentiable in the images.
    """
    rows = torch.arange(images.shape[-2], dtype=torch.float64, device="cpu")
    gap = (1 - torch.cos(2 * math.pi * rows / period_px.double()[:, None])) / 2
    kept = 1 - strength.double()[:, None] * gap
    return images * kept.to(images)[:, None, :, None]
