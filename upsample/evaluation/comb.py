"""Find what repeats every few pixels in enlarged images: chequers and weaves, from pixel shuffles above all.

Networks that enlarge by 4 can leave a faint pattern with a period of 4 px, most visible on smooth parts. PSNR hardly
notices it, and a NIQE that other texture made better does not tell of it. In a spectrum it is a comb: single high
values at multiples of 1/4 of the sampling rate, where photographs have nothing special.
"""

import numpy as np

from degrade.images.geometry import Crops
from degrade.realism.distances import Array
from degrade.realism.statistics import QUANTISATION, luma_chroma

_TOOTH = 1  # bins on each side of a multiple that belong to it: the Hann window spreads a wave over so many
_NEAR, _FAR = 3, 6  # the neighbours of a multiple, in bins on each side


def log_spectra(crops: Crops) -> Array:
    """Compute the natural log of the power spectrum of luma (grey levels squared) of every crop, in a Hann window.

    Args:
        crops: (N, side, side, 3) uint8.

    Returns:
        (N, side, side), with frequency 0 first. Their mean weighs smooth crops as much as busy ones, so that a pattern
        on smooth parts is seen.
    """
    side = crops.shape[1]
    window = np.outer(np.hanning(side + 2)[1:-1], np.hanning(side + 2)[1:-1])
    spectra = np.empty((len(crops), side, side))
    for number, crop in enumerate(crops):
        luma = luma_chroma(crop)[0]
        power = np.abs(np.fft.fft2((luma - luma.mean()) * window)) ** 2 / (window**2).sum()
        spectra[number] = np.log(power + QUANTISATION**2)
    return spectra


def comb(log_spectrum: Array, hr_log_spectrum: Array, period: int) -> Array:
    """Measure how far the multiples of 1 / period stand out of a spectrum, less the same of HR.

    A multiple stands out by the natural log of its energy over that of its neighbours. There is one for each wave of
    that period, (i / period, j / period) of the sampling rates along columns and rows, without (0, 0): 15 for a period
    of 4, which are 9 different ones, since the spectrum of an image is symmetric.

    Args:
        log_spectrum: mean of `log_spectra` of enlarged images, (side, side).
        hr_log_spectrum: the same of their HR.
        period: period of the pattern in pixels, at least 2: the scale of the enlargement. It divides the side.

    Returns:
        (period^2 - 1,); 0 where the images are like HR, below 0 for a notch, such as an interpolation leaves.

    Raises:
        ValueError: the period does not divide the side.
    """
    side = len(log_spectrum)
    if period < 2 or side % period:
        raise ValueError(f"period {period} px does not divide crops of {side} px; use a period of at least 2 that does")
    steps = range(0, side, side // period)
    centres = [(row, column) for row in steps for column in steps][1:]
    return np.array([_stands_out(log_spectrum, *at) - _stands_out(hr_log_spectrum, *at) for at in centres])


def _stands_out(log_spectrum: Array, row: int, column: int) -> float:
    reach = np.arange(-_FAR, _FAR + 1)
    distance = np.maximum(np.abs(reach[:, None]), np.abs(reach[None]))
    part = log_spectrum[np.ix_((row + reach) % len(log_spectrum), (column + reach) % len(log_spectrum))]
    tooth = np.log(np.exp(part[distance <= _TOOTH]).mean())
    return float(tooth - part[distance >= _NEAR].mean())  # the mean of logs, so that a slope beside it cancels out
