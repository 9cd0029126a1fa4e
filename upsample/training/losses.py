"""The terms that train the upsampler: pure functions, one term each; `upsample.training.colearn` writes their sum."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.training import losses as degrade_losses

PYRAMID = 3  # octaves of `perceptual`
CYCLE_PATCHES = (4, 8)  # sides in LR pixels


def perceptual(sr: Tensor, hr: Tensor) -> Tensor:
    """Return L1 of the image and of its gradients at three octaves; it takes the place of LPIPS, without weights.

    Args:
        sr: (B, 3, H, W).
        hr: the same shape and range.

    Returns:
        (B,).
    """
    error, total = sr - hr, sr.new_zeros(len(sr))
    for _ in range(PYRAMID):
        steps = (error.diff(dim=2), error.diff(dim=3))
        total = total + error.abs().mean((1, 2, 3)) + sum(step.abs().mean((1, 2, 3)) for step in steps)
        if min(error.shape[2:]) < 4:
            break
        error = F.avg_pool2d(error, 2)
    return total / PYRAMID


def cycle(first: Tensor, second: Tensor, lr: Tensor) -> Tensor:
    """Compare two samples that the degrader draws from the student's SR with the LR that the SR came from.

    |LP(first - lr)|_1 + 1/2 energy score. A one-sample distance would make the degrader a conditional median and erase
    its noise; the energy score keeps the spread of the samples.

    Args:
        first: (B, 3, h, w).
        second: another draw, the same shape.
        lr: the truth.

    Returns:
        (B,).
    """
    scores = [degrade_losses.energy_score(first, second, lr, patch) for patch in CYCLE_PATCHES]
    return degrade_losses.low_frequency(first, lr) + 0.5 * torch.stack(scores).mean(0)


def cycle_l1(first: Tensor, lr: Tensor) -> Tensor:
    """Return |first - lr|_1, kept for the ablation: it takes the noise out of the degrader; (B,)."""
    return (first - lr).abs().mean((1, 2, 3))


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """Return ``x``; its gradient is multiplied by ``factor`` on the way back."""
    return _ScaledGradient.apply(x, factor)


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None
