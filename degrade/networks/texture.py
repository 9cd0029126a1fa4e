"""Measure how an image is degraded: how much it changes over one or two pixels, and across JPEG's block borders.

The mean squared difference at a lag (the variogram) rises with noise and falls with blur. Its ratio between lags
separates white noise from smeared or striped noise. It is measured twice: as the log of the mean, which edges dominate,
and as the mean of local logs, which flat areas dominate. What describes a degradation is the *change* of these numbers
from the clean downsampling of the same scene; the numbers themselves mostly describe the scene.

This module also makes the planes that texture networks read: the high-pass band and the phase in JPEG's blocks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.ops.border import repeat_border
from degrade.ops.compress import CB_SCALE, CR_SCALE, JPEG_BLOCK, LUMA_WEIGHTS

LAGS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))  # rows, columns
TEXTURE_DIM = 3 * 2 * len(LAGS) + 2  # three colour axes x two averages for each lag, and blocking in two directions
ENERGY_FLOOR = (0.5 / 255) ** 2  # squared half grey level, for images in [0, 1]; smaller changes are invisible
FINE_DIM = 3 * 2 * 2  # three colour axes x two averages x two directions
FINE_FLOOR = (0.1 / 255) ** 2  # a third of the noise that rounding to 8 bits adds
WINDOW = 4  # px, side of the areas whose logs are averaged
TEXTURE_PLANES = 3 + 3 + 4  # channels of `texture_planes`


def texture_statistics(image: Tensor) -> Tensor:
    """Measure the fine texture of each image.

    Args:
        image: (B, 3, h, w), range [0, 1], sides of at least 16; its corner is the corner of a JPEG block.

    Returns:
        (B, TEXTURE_DIM) natural logarithms, differentiable: for each lag the log of the mean (Y, Cb, Cr) and the mean
        of the local logs (Y, Cb, Cr) of the squared differences, then blocking along rows and along columns.
    """
    axes = luma_chroma(image)
    numbers = []
    for rows, columns in LAGS:
        squared = _difference(axes, rows, columns) ** 2
        local = F.avg_pool2d(squared, WINDOW)
        numbers += [(squared.mean((2, 3)) + ENERGY_FLOOR).log(), (local + ENERGY_FLOOR).log().mean((2, 3))]
    luma = axes[:, :1]
    return torch.cat([*numbers, _blocking(luma), _blocking(luma.transpose(2, 3))], dim=1)


def fine_statistics(image: Tensor) -> Tensor:
    """Measure the finest octave of each image, which soft images have nearly nothing in.

    In `texture_statistics` the structures of a soft image outweigh its finest octave, and the floor hides the rest of
    it. Of the energy at Nyquist, a third difference has an eighth left at half of Nyquist, and 1/318 at a quarter.

    Args:
        image: (B, 3, h, w), range [0, 1], sides of at least 16.

    Returns:
        (B, FINE_DIM) natural logarithms, differentiable: along columns and along rows, the log of the mean (Y, Cb, Cr)
        and the mean of the local logs (Y, Cb, Cr) of the squared third differences.
    """
    axes = luma_chroma(image)
    numbers = []
    for rows, columns in ((0, 1), (1, 0)):
        third = axes
        for _ in range(3):
            third = _difference(third, rows, columns)
        squared = third**2 / 20  # white noise keeps its variance
        local = F.avg_pool2d(squared, WINDOW)
        numbers += [(squared.mean((2, 3)) + FINE_FLOOR).log(), (local + FINE_FLOOR).log().mean((2, 3))]
    return torch.cat(numbers, dim=1)


def scaled_texture(statistics: Tensor) -> Tensor:
    """Scale `texture_statistics` to about -1.6..1.5, the range in which networks read them; any shape."""
    return statistics / 4 + 1.5


def luma_chroma(image: Tensor) -> Tensor:
    """Convert RGB to JPEG's Y, Cb and Cr, with chroma around zero: (B, 3, h, w) -> (B, 3, h, w)."""
    red, green, blue = image.unbind(1)
    red_weight, green_weight, blue_weight = LUMA_WEIGHTS
    luma = red_weight * red + green_weight * green + blue_weight * blue
    return torch.stack([luma, (blue - luma) * CB_SCALE, (red - luma) * CR_SCALE], dim=1)


def _difference(image: Tensor, rows: int, columns: int) -> Tensor:
    height, width = image.shape[-2:]
    if columns >= 0:
        return image[..., rows:, columns:] - image[..., : height - rows, : width - columns]
    return image[..., rows:, :columns] - image[..., : height - rows, -columns:]


def _blocking(luma: Tensor) -> Tensor:
    """Compare log steps across the vertical borders of blocks with the steps elsewhere: (B, 1, h, w) -> (B, 1).

    The result is 0 where there are no blocks.
    """
    step = (_difference(luma, 0, 1) ** 2 + ENERGY_FLOOR).log()
    border = torch.arange(step.shape[-1], device=step.device) % JPEG_BLOCK == JPEG_BLOCK - 1
    return step[..., border].mean((2, 3)) - step[..., ~border].mean((2, 3))


def low_pass(image: Tensor) -> Tensor:
    """Apply a 5x5 binomial low-pass, nearly a Gaussian with sigma 1 px: (B, C, H, W) -> (B, C, H, W).

    Borders are repeated.
    """
    height, width = image.shape[-2:]
    image = repeat_border(image, 2, 2, 2, 2)
    # Sums of shifted images are several times as fast on a CPU as a depthwise convolution, above all backwards.
    image = _binomial(*(image[..., i : i + width] for i in range(5)))
    return _binomial(*(image[..., i : i + height, :] for i in range(5)))


def high_pass(image: Tensor) -> Tensor:
    """Compute what `low_pass` removes: (B, C, H, W) -> (B, C, H, W)."""
    return image - low_pass(image)


def _binomial(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor) -> Tensor:
    return (a + e) / 16 + (b + d) / 4 + c * (6 / 16)


def texture_planes(image: Tensor) -> Tensor:
    """Stack an image, its amplified high-pass band and the phase in JPEG's blocks, for networks that judge texture.

    Args:
        image: (B, 3, h, w), range [-1, 1]; its corner is the corner of a JPEG block.

    Returns:
        (B, TEXTURE_PLANES, h, w).
    """
    phase = phase_planes(*image.shape[-2:], device=image.device, dtype=image.dtype).expand(len(image), -1, -1, -1)
    return torch.cat([image, 8 * high_pass(image), phase], dim=1)


def phase_planes(height: int, width: int, *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Encode the position of each pixel in its 8x8 block, as cosine and sine of both axes.

    JPEG's blocks start at the corner of the image, and a convolution cannot know where that is.

    Returns:
        (1, 4, height, width), range [-1, 1].
    """

    def waves(length: int) -> Tensor:
        angle = torch.arange(length, device=device, dtype=torch.float32) * (2 * torch.pi / JPEG_BLOCK)
        return torch.stack([angle.cos(), angle.sin()]).to(dtype)

    rows = waves(height)[:, :, None].expand(2, height, width)
    columns = waves(width)[:, None, :].expand(2, height, width)
    return torch.cat([rows, columns])[None]
