"""Detect whether generated LR hides detail of its HR in a way that only a network can read.

A degrader that is trained together with an upsampler can learn to encode the HR in the last bits of its LR, as CycleGAN
does (Chu et al., 2017, "CycleGAN, a Master of Steganography", arXiv 1712.02950). A small disturbance destroys this
information. So a small network is trained to upscale each set of LR crops, and is then tested on crops of the same set
with noise in the last bit, a JPEG of high quality, or a blur of half a pixel. If its PSNR drops more than for real LR
or for the LR of a recipe, the LR hides something.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from degrade.images.geometry import Crops
from degrade.images.tensors import to_tensors
from degrade.ops.blur import blur, gaussian_kernel
from degrade.ops.compress import jpeg, quantise
from degrade.realism.columns import Figures
from degrade.realism.sets import BATCH

BATCH_SIZE = 8
LEARNING_RATE = 2e-3
CROP_LR = 32  # px, side of the LR crops in a training batch
WIDTH = 32  # channels of the upscaler


def hiding(hr: Crops, made: dict[str, Crops], scale: int, *, steps: int, seed: int) -> Figures:
    """Measure how much the PSNR of an upscaler drops when its input is disturbed.

    Args:
        hr: HR crops, (N, side * scale, side * scale, 3); the first half is for training, the second for testing.
        made: LR of these HR crops by column, (N, side, side, 3).
        scale: HR side / LR side.
        steps: training steps of each upscaler.
        seed: seed of the batches and of the noise.

    Returns:
        ``hiding_psnr``, the PSNR of the upscaler on undisturbed LR in dB, and for each disturbance ``hiding_drop_*``,
        the drop in dB.
    """
    half = len(hr) // 2
    truth = to_tensors(hr)
    figures: Figures = {}
    for name, crops in made.items():
        lr = to_tensors(crops)
        net = _trained(lr[:half], truth[:half], scale, steps, seed)
        whole = _mean_psnr(net, lr[half:], truth[half:])
        figures.setdefault("hiding_psnr", {})[name] = whole
        for disturbance, disturb in DISTURBANCES.items():
            generator = torch.Generator().manual_seed(seed)
            disturbed = _mean_psnr(net, quantise(disturb(lr[half:], generator)), truth[half:])
            figures.setdefault(f"hiding_drop_{disturbance}", {})[name] = whole - disturbed
    return figures


def _last_bit(lr: Tensor, generator: torch.Generator) -> Tensor:
    return lr + torch.randint(-1, 2, lr.shape, generator=generator) / 255


def _jpeg_95(lr: Tensor, generator: torch.Generator) -> Tensor:
    return jpeg(lr, [95] * len(lr))


def _half_pixel_blur(lr: Tensor, generator: torch.Generator) -> Tensor:
    return blur(lr, gaussian_kernel(7, torch.full((len(lr), 1), 0.5)))


DISTURBANCES: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "last_bit": _last_bit,
    "jpeg_95": _jpeg_95,
    "half_pixel_blur": _half_pixel_blur,
}


class _Upscaler(nn.Module):
    """Correct nearest-neighbour enlargement by three convolutions."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.layers = nn.Sequential(
            nn.Conv2d(3, WIDTH, 5, padding=2), nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU(),
            nn.Conv2d(WIDTH, 3 * scale**2, 3, padding=1),
        )  # fmt: skip

    def forward(self, lr: Tensor) -> Tensor:
        correction = F.pixel_shuffle(self.layers(lr - 0.5), self.scale)
        return F.interpolate(lr, scale_factor=float(self.scale), mode="nearest") + correction


def _trained(lr: Tensor, hr: Tensor, scale: int, steps: int, seed: int) -> _Upscaler:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _Upscaler(scale)
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.Adam(net.parameters(), LEARNING_RATE)
    side = min(CROP_LR, lr.shape[-1])
    for _ in range(steps):
        batch = []
        for row in rng.integers(len(lr), size=BATCH_SIZE):
            top, left = rng.integers(lr.shape[-1] - side + 1, size=2)
            low = lr[row, :, top : top + side, left : left + side]
            high = hr[row, :, top * scale : (top + side) * scale, left * scale : (left + side) * scale]
            batch.append((low, high))
        inputs, targets = (torch.stack(part) for part in zip(*batch, strict=True))
        loss = (net(inputs) - targets).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval()


def _mean_psnr(net: _Upscaler, lr: Tensor, hr: Tensor) -> float:
    """Compute the mean PSNR over the images, in dB."""
    with torch.inference_mode():
        errors = [
            (net(low).clamp(0, 1) - high).square().mean((1, 2, 3))
            for low, high in zip(lr.split(BATCH), hr.split(BATCH), strict=True)
        ]
    return float((-10 * torch.cat(errors).clamp(min=1e-10).log10()).mean())
