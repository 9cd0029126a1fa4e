"""Enlarge images bicubically by an integer, in one small convolution; the anchor of the upsampler's chain."""

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.ops.border import repeat_border


def enlarge(lr: Tensor, scale: int) -> Tensor:
    """Enlarge with Keys' cubic of a = -0.5, the bicubic of MATLAB and Pillow; borders are repeated.

    Output pixels at the same position inside their LR pixel have the same weights, so each of these scale^2 positions
    is a channel of one convolution. That is fast, and every runtime has convolutions. torch's own bicubic uses
    a = -0.75 unless it antialiases, and then it cannot be exported to ONNX.

    Args:
        lr: (B, C, h, w).
        scale: output side / input side, an integer.

    Returns:
        (B, C, h * scale, w * scale); values may overshoot the range of ``lr`` at edges.
    """
    taps = _phase_weights(scale).to(lr.device, lr.dtype)
    kernels = torch.einsum("iy,jx->ijyx", taps, taps).reshape(scale**2, 1, *[taps.shape[1]] * 2)
    reach = taps.shape[1] // 2
    padded = repeat_border(lr, reach, reach, reach, reach)
    return F.pixel_shuffle(F.conv2d(padded, kernels.repeat(lr.shape[1], 1, 1, 1), groups=lr.shape[1]), scale)


def _phase_weights(scale: int) -> Tensor:
    """Compute the weights of the LR pixels at -2..2 for each output pixel inside one LR pixel: (scale, 5)."""
    centre = (torch.arange(scale, dtype=torch.float64, device="cpu") + 0.5) / scale - 0.5
    distance = (centre[:, None] - torch.arange(-2, 3, device="cpu")).abs()
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
