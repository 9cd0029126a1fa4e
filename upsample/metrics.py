"""Compute PSNR-Y and SSIM-Y as SR papers report them. All other metrics come from pyiqa (see `upsample.evaluate`)."""

import numpy as np
from numpy.typing import NDArray

from degrade.images.geometry import Rgb
from degrade.realism.distances import psnr, ssim_of_planes

Plane = NDArray[np.float64]  # (H, W)

_TO_Y = np.array([65.481, 128.553, 24.966]) / 255  # ITU-R BT.601 with headroom and footroom, like MATLAB's rgb2ycbcr


def luma_y(image: Rgb) -> Plane:
    """Compute Y of ITU-R BT.601, 16..235, not rounded: (H, W, 3) uint8 -> (H, W).

    SR papers report their scores on this channel (``test_y_channel`` in BasicSR and pyiqa). Full-range luma would give
    a PSNR that is about 1.3 dB lower.
    """
    return image.astype(np.float64) @ _TO_Y + 16


def psnr_y(sr: Rgb, hr: Rgb, crop_border: int = 4) -> float:
    """Compute the peak signal-to-noise ratio of Y, in dB, for a peak of 255; 100 for equal images.

    Args:
        sr: (H, W, 3) uint8.
        hr: (H, W, 3) uint8, the same size.
        crop_border: pixels left out at every border; usually the scale.

    Raises:
        ValueError: the sizes differ, or the border leaves nothing of the image.
    """
    return psnr(*_inside(sr, hr, crop_border, min_side=1))


def ssim_y(sr: Rgb, hr: Rgb, crop_border: int = 4) -> float:
    """Compute the structural similarity of Y, see `degrade.realism.distances.ssim_of_planes`.

    Args:
        sr: (H, W, 3) uint8.
        hr: (H, W, 3) uint8, the same size.
        crop_border: pixels left out at every border; usually the scale.

    Raises:
        ValueError: the sizes differ, or the border leaves less than one window of 11 x 11 pixels.
    """
    return ssim_of_planes(*_inside(sr, hr, crop_border, min_side=11))


def _inside(sr: Rgb, hr: Rgb, crop_border: int, *, min_side: int) -> tuple[Plane, Plane]:
    """Compute Y of both images without the border."""
    if sr.shape != hr.shape:
        raise ValueError(f"SR is {sr.shape[1]}x{sr.shape[0]}, HR is {hr.shape[1]}x{hr.shape[0]}; they must be equal")
    height, width = (side - 2 * crop_border for side in sr.shape[:2])
    if min(height, width) < min_side:
        raise ValueError(
            f"an image of {sr.shape[1]}x{sr.shape[0]} is too small without a border of {crop_border} px; at least "
            f"{min_side}x{min_side} px must be left"
        )
    rows, columns = slice(crop_border, crop_border + height), slice(crop_border, crop_border + width)
    return luma_y(sr)[rows, columns], luma_y(hr)[rows, columns]
