"""Repeat the border of images, in operations that every runtime, compiler and derivative supports."""

import torch
from torch import Tensor


def repeat_border(images: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """Enlarge images by repeating their outermost rows and columns.

    The result is that of ``F.pad(..., mode="replicate")``, whose backward pass fails in compiled graphs on a CPU
    (torch 2.14), and which ncnn and some exporters cannot read.

    Args:
        images: (..., H, W), with no empty side.
        left: columns to add on the left, 0 or more.
        right: columns to add on the right.
        top: rows to add at the top.
        bottom: rows to add at the bottom.

    Returns:
        (..., top + H + bottom, left + W + right).
    """
    if not _nothing(left, right):
        before, after = images[..., :1], images[..., -1:]
        lead = images.shape[:-1]
        images = torch.cat([before.expand(*lead, left), images, after.expand(*lead, right)], dim=-1)
    if not _nothing(top, bottom):
        before, after = images[..., :1, :], images[..., -1:, :]
        lead, width = images.shape[:-2], images.shape[-1]
        images = torch.cat([before.expand(*lead, top, width), images, after.expand(*lead, bottom, width)], dim=-2)
    return images


def _nothing(*sides: int) -> bool:
    """Tell whether all sides are the number 0; a side that exporters keep as a symbol (no int) may be 0 or not."""
    return all(isinstance(side, int) and side == 0 for side in sides)
