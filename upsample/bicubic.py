"""Bicubic enlargement by an integer, as one small convolution: the anchor of the upsampler's chain."""

import torch
import torch.nn.functional as F
from torch import Tensor


def enlarge(lr: Tensor, scale: int) -> Tensor:
    """Enlarge by Keys' cubic with a = -0.5 (MATLAB's and Pillow's bicubic), borders repeated.

    Every output pixel of one phase has the same weights, so the phases are the channels of a convolution. Written so,
    it costs next to nothing and every runtime has it; torch's own bicubic has a = -0.75 unless it antialiases, which
    ONNX cannot say.

    Args:
        lr: (B, 3, h, w).
        scale: HR side / LR side.

    Returns:
        (B, 3, h * scale, w * scale); may overshoot the range of ``lr`` at edges.
    """
    taps = _phase_weights(scale).to(lr.device, lr.dtype)
    kernels = torch.einsum("iy,jx->ijyx", taps, taps).reshape(scale**2, 1, *[taps.shape[1]] * 2)
    reach = taps.shape[1] // 2
    padded = F.pad(lr, (reach, reach, reach, reach), mode="replicate")
    return F.pixel_shuffle(F.conv2d(padded, kernels.repeat(lr.shape[1], 1, 1, 1), groups=lr.shape[1]), scale)


def _phase_weights(scale: int) -> Tensor:
    """(scale, 5): weights of the LR pixels at -2..2 for each of the ``scale`` pixels that one LR pixel becomes."""
    centre = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
    distance = (centre[:, None] - torch.arange(-2, 3)).abs()
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
