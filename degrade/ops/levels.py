"""Reduce the number of levels or colours of images: banding, and dithering that hides it."""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from degrade.ops.straight_through import straight_through, through_pixels


def band(images: Tensor, levels: Sequence[int]) -> Tensor:
    """Round each channel to a few levels, which turns smooth gradients into bands.

    Args:
        images: (B, C, H, W); values outside [0, 1] are clipped.
        levels: number of levels of each sample, B integers from 2 up; 2^n for n bits.

    Returns:
        (B, C, H, W), multiples of 1 / (levels - 1); the gradient passes straight through.
    """
    steps = _steps(images, levels)
    return straight_through(images, (images.detach().clamp(0, 1) * steps).round() / steps)


def dither_ordered(images: Tensor, levels: Sequence[int], matrix_px: int = 4) -> Tensor:
    """Round each channel to a few levels with Bayer's matrix of thresholds, which leaves its cross-hatch pattern.

    Args:
        images: (B, C, H, W); values outside [0, 1] are clipped.
        levels: number of levels of each sample, B integers from 2 up.
        matrix_px: side of the matrix: 2, 4 or 8.

    Returns:
        (B, C, H, W), multiples of 1 / (levels - 1); the gradient passes straight through.
    """
    height, width = images.shape[-2:]
    tiles = (-(-height // matrix_px), -(-width // matrix_px))
    thresholds = _bayer(matrix_px).repeat(*tiles)[:height, :width].to(images)
    steps = _steps(images, levels)
    return straight_through(images, (images.detach().clamp(0, 1) * steps + 1 - thresholds).floor() / steps)


def dither_diffused(images: Tensor, levels: Sequence[int]) -> Tensor:
    """Round each channel to a few levels and pass the error on to the next pixels (Floyd and Steinberg, 1976).

    Args:
        images: (B, C, H, W); values outside [0, 1] are clipped.
        levels: number of levels of each sample, B integers from 2 up.

    Returns:
        (B, C, H, W), multiples of 1 / (levels - 1); the gradient passes straight through.
    """
    values = images.detach().clamp(0, 1).double().permute(0, 2, 3, 1).cpu().numpy()
    made = np.stack([_floyd_steinberg(each, count - 1) for each, count in zip(values, levels, strict=True)])
    return straight_through(images, torch.from_numpy(made).permute(0, 3, 1, 2).to(images))


def dither_palette(images: Tensor, colours: Sequence[int]) -> Tensor:
    """Reduce each sample to a palette of its own by median cut, with diffused errors, as a GIF file has it.

    Args:
        images: RGB, (B, 3, H, W); values outside [0, 1] are clipped.
        colours: number of colours of each sample, B integers in 2..256.

    Returns:
        (B, 3, H, W), multiples of 1/255; the gradient passes straight through.
    """
    return through_pixels(images, [functools.partial(_with_palette, colours=count) for count in colours])


def _steps(images: Tensor, levels: Sequence[int]) -> Tensor:
    return torch.tensor([count - 1 for count in levels], device="cpu").to(images)[:, None, None, None]


def _bayer(side: int) -> Tensor:
    """Build the matrix of thresholds in (0, 1) that Bayer gave in 1973: each next one refines the one before."""
    matrix = torch.zeros(1, 1, device="cpu")
    while len(matrix) < side:
        matrix = torch.cat([torch.cat([4 * matrix, 4 * matrix + 2], 1), torch.cat([4 * matrix + 3, 4 * matrix + 1], 1)])
    return (matrix + 0.5) / side**2


def _floyd_steinberg(values: np.ndarray, steps: int) -> np.ndarray:
    """Diffuse errors over (H, W, C), all pixels with the same x + 2 y at once: none of them needs another."""
    height, width, channels = values.shape
    errors = np.zeros((height + 1, width + 2, channels))  # with a row above and a column on each side
    rounded = np.empty_like(values)
    for line in range(width + 2 * (height - 1)):
        y = np.arange(max(0, (line - width + 2) // 2), min(height - 1, line // 2) + 1)
        x = line - 2 * y
        received = 7 * errors[y + 1, x] + errors[y, x] + 5 * errors[y, x + 1] + 3 * errors[y, x + 2]
        wanted = values[y, x] + received / 16
        rounded[y, x] = np.floor(wanted.clip(0, 1) * steps + 0.5) / steps
        errors[y + 1, x + 1] = wanted - rounded[y, x]
    return rounded


def _with_palette(rgb: np.ndarray, colours: int) -> np.ndarray:
    image = Image.fromarray(rgb)
    palette = image.quantize(colours, method=Image.Quantize.MEDIANCUT)
    dithered = image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    return np.asarray(dithered.convert("RGB"))
