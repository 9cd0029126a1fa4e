"""PSNR-Y and SSIM-Y, as the field's tables have them. Every other metric comes from pyiqa (see `upsample.evaluate`)."""

import numpy as np
from numpy.typing import NDArray

from degrade.images.geometry import Rgb
from degrade.realism.distances import ssim_of_planes

Array = NDArray[np.float64]

_TO_Y = np.array([65.481, 128.553, 24.966]) / 255  # ITU-R BT.601 with head- and footroom, as MATLAB's rgb2ycbcr


def luma_y(image: Rgb) -> Array:
    """Y of ITU-R BT.601, 16..235, not rounded: (H, W, 3) uint8 -> (H, W).

    SR tables are computed on it (``test_y_channel`` of BasicSR and pyiqa); full-range luma gives lower PSNR, by about
    1.3 dB.
    """
    return image.astype(np.float64) @ _TO_Y + 16


def psnr_y(sr: Rgb, hr: Rgb, crop_border: int = 4) -> float:
    """Peak signal-to-noise ratio of Y against a peak of 255, in dB; 100 for equal images.

    Args:
        sr: (H, W, 3) uint8.
        hr: the same size.
        crop_border: pixels left out at every border; by custom the scale.

    Raises:
        ValueError: sizes differ, or nothing is left inside the border.
    """
    a, b = _inside(sr, hr, crop_border, min_side=1)
    error = float(((a - b) ** 2).mean())
    return 100.0 if error < 1e-10 else float(10 * np.log10(255**2 / error))


def ssim_y(sr: Rgb, hr: Rgb, crop_border: int = 4) -> float:
    """Structural similarity of Y inside a border, see `degrade.realism.distances.ssim_of_planes`.

    Args:
        sr: (H, W, 3) uint8.
        hr: the same size.
        crop_border: pixels left out at every border; by custom the scale.

    Raises:
        ValueError: sizes differ, or less than a window is left inside the border.
    """
    return ssim_of_planes(*_inside(sr, hr, crop_border, min_side=11))


def _inside(sr: Rgb, hr: Rgb, crop_border: int, *, min_side: int) -> tuple[Array, Array]:
    if sr.shape != hr.shape:
        raise ValueError(f"SR is {sr.shape[1]}x{sr.shape[0]}, HR is {hr.shape[1]}x{hr.shape[0]}; they must be equal")
    height, width = (side - 2 * crop_border for side in sr.shape[:2])
    if min(height, width) < min_side:
        raise ValueError(f"an image of {sr.shape[1]}x{sr.shape[0]} has no inside beyond a border of {crop_border} px")
    rows, columns = slice(crop_border, crop_border + height), slice(crop_border, crop_border + width)
    return luma_y(sr)[rows, columns], luma_y(hr)[rows, columns]
