"""Measure one LR image without a reference: its noise, blur, sharpening, JPEG blocks and spectrum.

These statistics are deliberately independent of those that training optimises (degrade/networks/texture.py). Only
``jpeg_loss`` measures a property that training also teaches, with a different estimator.
"""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from degrade.images.geometry import Crops, Rgb
from degrade.networks.block_quantiser import LUMA_STEPS, coarseness_of_quality, cosine_basis
from degrade.ops.compress import CB_SCALE, CR_SCALE, JPEG_BLOCK, LUMA_WEIGHTS
from degrade.realism.distances import Array

LAGS = {"x": (0, 1), "y": (1, 0), "down": (1, 1), "up": (1, -1)}  # shift in rows and columns
QUANTISATION = 1 / 12**0.5  # standard deviation of rounding to grey levels
MAD_TO_SIGMA = 1 / 0.6745  # standard deviation of a normal distribution over its median absolute deviation
EDGE_SHARE = 0.02  # share of steps, the strongest ones, that count as edges
FLAT_SHARE = 0.25  # share of patches, the smoothest ones, that count as flat
REACH = 5  # pixels on each side of an edge that its profile contains
SPECTRUM_BINS = 20  # rings of frequency
QUALITIES = range(10, 97)  # JPEG qualities that `jpeg_quality` tries
COMB = 0.35  # fit from which `jpeg_quality` accepts a quality; 1 is a perfect comb, 0 is none

STATISTICS = (
    "noise_sigma",
    "noise_correlation_x",
    "noise_correlation_y",
    "noise_correlation_down",
    "noise_correlation_up",
    "chroma_noise_ratio",
    "edge_width_px",
    "log_sharpness",
    "blockiness",
    "jpeg_loss",
    "ringing",
    "clipped_share",
)


def lr_statistics(image: Rgb) -> dict[str, float]:
    """Measure one image.

    Args:
        image: RGB, (h, w, 3) uint8, sides of at least 16; its corner must be the corner of a JPEG block.

    Returns:
        One number for each of `STATISTICS`:

        - ``noise_sigma``: noise of luma in grey levels, see `haar_noise_sigma`.
        - ``noise_correlation_*``: correlation of noise with its neighbours, 0 for white noise, see `noise_correlation`.
        - ``chroma_noise_ratio``: noise of Cb and Cr (root mean square) over noise of luma, rounding noise included.
        - ``edge_width_px``: width of edges, see `edge_profile`.
        - ``log_sharpness``: natural log of one plus the mean absolute Laplacian of luma.
        - ``blockiness``: strength of JPEG blocks, see `blockiness`.
        - ``jpeg_loss``: 100 minus the JPEG quality that `jpeg_quality` estimates; 0 for an image that was no JPEG.
        - ``ringing``: overshoot beside edges, see `edge_profile`.
        - ``clipped_share``: share of pixels with a channel at 0 or 255.
    """
    luma, cb, cr = luma_chroma(image)
    sigma = haar_noise_sigma(luma)
    chroma = np.hypot(haar_noise_sigma(cb), haar_noise_sigma(cr)) / np.sqrt(2)
    width, ringing = edge_profile(luma)
    correlation = noise_correlation(luma)
    return {
        "noise_sigma": sigma,
        **{f"noise_correlation_{name}": value for name, value in correlation.items()},
        "chroma_noise_ratio": float(np.hypot(chroma, QUANTISATION) / np.hypot(sigma, QUANTISATION)),
        "edge_width_px": width,
        "log_sharpness": float(np.log(np.abs(cv2.Laplacian(luma, cv2.CV_64F)).mean() + 1)),
        "blockiness": blockiness(luma),
        "jpeg_loss": 100.0 - jpeg_quality(luma),
        "ringing": ringing,
        "clipped_share": float(((image == 0) | (image == 255)).any(axis=2).mean()),
    }


def table_of(images: Crops) -> dict[str, Array]:
    """Compute `lr_statistics` of many images: (N, h, w, 3) -> (N,) for each statistic."""
    rows = [lr_statistics(image) for image in images]
    return {name: np.array([row[name] for row in rows]) for name in STATISTICS}


def luma_chroma(image: Rgb) -> tuple[Array, Array, Array]:
    """Convert RGB to JPEG's Y, Cb and Cr in grey levels, with chroma around zero: (h, w, 3) uint8 -> three (h, w)."""
    red, green, blue = np.moveaxis(image.astype(np.float64), 2, 0)
    red_weight, green_weight, blue_weight = LUMA_WEIGHTS
    luma = red_weight * red + green_weight * green + blue_weight * blue
    return luma, (blue - luma) * CB_SCALE, (red - luma) * CR_SCALE


def haar_noise_sigma(plane: Array) -> float:
    """Estimate noise by the median of the finest diagonal Haar band, |HH| / 0.6745 (Donoho and Johnstone, 1994).

    The transform is taken at all four phases, so that a shift by one pixel does not change the result.
    """
    diagonal = (plane[:-1, :-1] - plane[:-1, 1:] - plane[1:, :-1] + plane[1:, 1:]) / 2
    return float(np.median(np.abs(diagonal)) * MAD_TO_SIGMA)


def noise_correlation(luma: Array) -> dict[str, float]:
    """Measure the correlation of noise with its neighbours, in the smoothest quarter of the image.

    The noise is the image minus its blur by a 5 x 5 Gaussian. This filter makes even white noise negatively correlated,
    by a known amount, which is subtracted: white noise gives 0, smeared noise more, and checkered noise less.

    Args:
        luma: grey levels, (h, w).

    Returns:
        The correlation for each shift of `LAGS`.
    """
    residual = luma - cv2.GaussianBlur(luma, (5, 5), 0)
    patches = [
        residual[top : top + JPEG_BLOCK, left : left + JPEG_BLOCK]
        for top in range(0, luma.shape[0] - JPEG_BLOCK + 1, JPEG_BLOCK)
        for left in range(0, luma.shape[1] - JPEG_BLOCK + 1, JPEG_BLOCK)
    ]
    smooth = cv2.GaussianBlur(luma, (0, 0), 2)
    slope = np.hypot(cv2.Sobel(smooth, cv2.CV_64F, 1, 0), cv2.Sobel(smooth, cv2.CV_64F, 0, 1))
    steepness = _blocks(slope).mean((1, 3)).ravel()
    flattest = np.argsort(steepness, kind="stable")[: max(1, round(FLAT_SHARE * len(steepness)))]
    flat = np.stack([patches[i] for i in flattest])
    power = (flat**2).mean() + QUANTISATION**2
    white = _white_correlation()
    return {name: float(_lagged(flat, *lag).mean() / power) - white[name] for name, lag in LAGS.items()}


def blockiness(luma: Array) -> float:
    """Measure the log ratio of the mean step across borders of 8 x 8 blocks to that elsewhere; 0 means no blocks."""
    ratios = []
    for plane in (luma, luma.T):
        step = np.abs(np.diff(plane, axis=1)).mean(0) + QUANTISATION
        border = np.arange(len(step)) % JPEG_BLOCK == JPEG_BLOCK - 1
        ratios.append(np.log(step[border].mean() / step[~border].mean()))
    return float(np.mean(ratios))


def jpeg_quality(luma: Array) -> float:
    """Estimate the quality of the JPEG file that an image was decoded from; 100 when it was none.

    The block-transform coefficients of a decoded JPEG are multiples of the steps of its quantisation table, apart from
    the rounding of the pixels: their histogram is a comb. For each quality, the mean of cos(2 pi coefficient / step)
    over nonzero coefficients measures how well its comb fits. Steps as fine as the rounding are ignored. The result is
    the lowest quality that fits nearly as well as the best one, because a coarse comb also fits every finer comb whose
    steps divide its own.
    """
    cosines, tables = _cosines(), _luma_tables()
    blocks = _blocks(luma).transpose(0, 2, 1, 3) - 128
    coefficients = (cosines @ blocks @ cosines.T).reshape(-1, JPEG_BLOCK * JPEG_BLOCK).astype(np.float32)
    fits = np.zeros(len(QUALITIES))
    for number, steps in enumerate(tables):
        used = (np.abs(coefficients) > steps / 2) & (steps >= 4)  # includes DC, whose comb is just as sharp
        if used.sum() >= 16:
            turns = coefficients[used] / np.broadcast_to(steps, coefficients.shape)[used]
            fits[number] = np.cos(2 * np.pi * turns).mean()
    if fits.max() < COMB:
        return 100.0
    return float(QUALITIES[np.argmax(fits >= max(COMB, 0.9 * fits.max()))])


def edge_profile(luma: Array) -> tuple[float, float]:
    """Measure the width and the overshoot of the strongest edges.

    The edges are the strongest steps between neighbours, along rows and columns. Width is the height of the whole edge
    divided by its steepest step and by sqrt(2 pi); for a step that a Gaussian has blurred, this is the sigma of the
    Gaussian (0.4 px for a sharp step). Ringing is how far the profile beside the edge exceeds its own ends, on both
    sides, divided by the height of the edge; it is 0 for a monotone edge.

    Args:
        luma: grey levels, (h, w).

    Returns:
        The median width in pixels and the mean ringing; 0 and 0 for an image without edges.
    """
    profiles = np.concatenate([_profiles(luma), _profiles(luma.T)])  # (n, 2 * REACH), dark to bright
    steps = np.diff(profiles, axis=1)[:, REACH - 1]
    strong = steps >= max(np.quantile(steps, 1 - EDGE_SHARE), 4.0)
    # Keep only the steepest step of each profile: the flanks of a wide edge are not edges.
    strong &= steps >= np.abs(np.diff(profiles, axis=1)).max(1)
    if not strong.any():
        return 0.0, 0.0
    profiles, steps = profiles[strong], steps[strong]
    dark, bright = profiles[:, 0], profiles[:, -1]
    height = profiles.max(1) - profiles.min(1)
    over = np.maximum(0, profiles[:, REACH:].max(1) - bright) + np.maximum(0, dark - profiles[:, :REACH].min(1))
    return float(np.median(height / steps) / np.sqrt(2 * np.pi)), float((over / height).mean())


def radial_spectrum(image: Rgb) -> Array:
    """Compute the natural log of the power spectral density of luma (grey levels squared) in rings of frequency.

    The loss of power by the Hann window is compensated: white noise of standard deviation s gives log(s^2) everywhere.

    Args:
        image: RGB, (h, w, 3) uint8.

    Returns:
        Log power of rings from 0 to 0.5 cycles per pixel (Nyquist), (SPECTRUM_BINS,). `spectrum_frequencies` returns
        their centres.
    """
    luma = luma_chroma(image)[0]
    window = np.outer(np.hanning(luma.shape[0] + 2)[1:-1], np.hanning(luma.shape[1] + 2)[1:-1])
    power = np.abs(np.fft.fft2((luma - luma.mean()) * window)) ** 2 / (window**2).sum()
    frequency = np.hypot(np.fft.fftfreq(luma.shape[0])[:, None], np.fft.fftfreq(luma.shape[1])[None])
    outside = SPECTRUM_BINS  # an extra ring for the mean and for frequencies beyond Nyquist, which is dropped
    ring = np.minimum((frequency * 2 * SPECTRUM_BINS).astype(int), outside)
    ring[0, 0] = outside
    total = np.bincount(ring.ravel(), power.ravel(), outside + 1)[:outside]
    count = np.bincount(ring.ravel(), minlength=outside + 1)[:outside]
    return np.log(total / np.maximum(1, count) + QUANTISATION**2)


def mean_spectrum(crops: Crops) -> Array:
    """Average `radial_spectrum` over the crops."""
    return np.mean([radial_spectrum(crop) for crop in crops], axis=0)


def spectrum_frequencies() -> Array:
    """Return the centre of each ring of `radial_spectrum` in cycles per pixel, (SPECTRUM_BINS,)."""
    return (np.arange(SPECTRUM_BINS) + 0.5) / (2 * SPECTRUM_BINS)


def spectrum_slope(log_power: Array) -> float:
    """Fit the slope of log power over log frequency above half of Nyquist: 0 for white noise, -2 for 1/f^2."""
    frequency = spectrum_frequencies()
    upper = frequency > 0.25
    return float(np.polyfit(np.log(frequency[upper]), log_power[upper], 1)[0])


def _blocks(plane: Array) -> Array:
    """Split a plane into JPEG's blocks: (h, w) -> (h // 8, 8, w // 8, 8)."""
    rows, columns = (length // JPEG_BLOCK for length in plane.shape)
    return plane[: rows * JPEG_BLOCK, : columns * JPEG_BLOCK].reshape(rows, JPEG_BLOCK, columns, JPEG_BLOCK)


def _profiles(luma: Array) -> Array:
    """Cut every horizontal run of 2 * REACH pixels, flipped so that its middle step rises: (n, 2 * REACH)."""
    runs = np.lib.stride_tricks.sliding_window_view(luma, 2 * REACH, axis=1).reshape(-1, 2 * REACH)
    falling = runs[:, REACH] < runs[:, REACH - 1]
    return np.where(falling[:, None], runs[:, ::-1], runs)


def _lagged(patches: Array, rows: int, columns: int) -> Array:
    """Multiply each pixel by its neighbour at this shift."""
    height, width = patches.shape[-2:]
    first = patches[..., : height - rows, max(0, -columns) : width - max(0, columns)]
    return first * patches[..., rows:, max(0, columns) : width + min(0, columns)]


@cache
def _white_correlation() -> dict[str, float]:
    """Compute how the filter of `noise_correlation` correlates white noise: the autocorrelation of its kernel."""
    kernel = np.zeros((15, 15))
    kernel[7, 7] = 1
    kernel -= cv2.GaussianBlur(kernel, (5, 5), 0)
    return {name: float(_lagged(kernel, *lag).sum() / (kernel**2).sum()) for name, lag in LAGS.items()}


@cache
def _cosines() -> NDArray[np.float32]:
    """Return the basis of the 8 x 8 block transform, (8, 8)."""
    return cosine_basis().numpy()


@cache
def _luma_tables() -> list[NDArray[np.float32]]:
    """Compute libjpeg's table of luma steps for each of `QUALITIES`, (64,) each."""
    return [
        np.clip((np.array(LUMA_STEPS) * coarseness_of_quality(float(quality))).round(), 1, 255)
        .ravel()
        .astype(np.float32)
        for quality in QUALITIES
    ]
