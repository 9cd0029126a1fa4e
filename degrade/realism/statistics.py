"""Blind measurements of one LR image: how noisy, blurred, blocky, sharpened it is, with nothing to compare it to.

They are not the numbers that training optimises (degrade/networks/texture.py): a degrader is judged by other eyes. Only
``jpeg_loss`` reads what training teaches too, by another road.
"""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from degrade.images.geometry import Rgb
from degrade.images.tensors import Crops
from degrade.networks.block_quantiser import LUMA_STEPS, coarseness_of_quality, cosine_basis
from degrade.networks.texture import BLOCK
from degrade.realism.distances import Array

LAGS = {"x": (0, 1), "y": (1, 0), "down": (1, 1), "up": (1, -1)}  # rows, columns
QUANTISATION = 1 / 12**0.5  # standard deviation of rounding to grey levels
MAD_TO_SIGMA = 1 / 0.6745  # of a normal distribution
EDGE_SHARE = 0.02  # strongest steps of an image that count as edges
FLAT_SHARE = 0.25  # smoothest patches of an image that count as flat
REACH = 5  # pixels to either side of an edge that are looked at
SPECTRUM_BINS = 20
QUALITIES = range(10, 97)  # JPEG qualities that `jpeg_quality` tries
COMB = 0.35  # of `jpeg_quality`'s fit, 1 for a perfect comb and 0 for none

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
        image: (h, w, 3) uint8 RGB, sides of at least 16; its corner is the corner of a JPEG block.

    Returns:
        One number for each of `STATISTICS`:

        - ``noise_sigma``: grey levels; see `haar_noise_sigma`, of luma.
        - ``noise_correlation_*``: of neighbours in flat patches, 0 for white noise; see `noise_correlation`.
        - ``chroma_noise_ratio``: noise of Cb and Cr (root mean square) over noise of luma, both plus rounding noise.
        - ``edge_width_px``: see `edge_profile`.
        - ``log_sharpness``: natural log of the mean absolute Laplacian of luma plus one.
        - ``blockiness``: see `blockiness`.
        - ``jpeg_loss``: 100 less the JPEG quality that `jpeg_quality` finds; 0 without.
        - ``ringing``: see `edge_profile`.
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
    """`lr_statistics` of many: (N, h, w, 3) -> an array of N for each statistic."""
    rows = [lr_statistics(image) for image in images]
    return {name: np.array([row[name] for row in rows]) for name in STATISTICS}


def luma_chroma(image: Rgb) -> tuple[Array, Array, Array]:
    """JPEG's Y, Cb, Cr in grey levels, chroma around zero."""
    red, green, blue = np.moveaxis(image.astype(np.float64), 2, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return luma, (blue - luma) * 0.564, (red - luma) * 0.713


def haar_noise_sigma(plane: Array) -> float:
    """Noise by the median of the finest diagonal Haar band, |HH| / 0.6745 (Donoho and Johnstone, 1994).

    All four phases of the transform are taken, not one, so a shift by a pixel does not change the answer.
    """
    diagonal = (plane[:-1, :-1] - plane[:-1, 1:] - plane[1:, :-1] + plane[1:, 1:]) / 2
    return float(np.median(np.abs(diagonal)) * MAD_TO_SIGMA)


def noise_correlation(luma: Array) -> dict[str, float]:
    """Correlation of the noise with its neighbours, in the flattest quarter of the image.

    The noise is what a 5 x 5 Gaussian takes away. That filter alone makes white noise look negatively correlated; its
    known share is taken off, so white noise gives 0, smeared noise more, and checkered noise less.
    """
    residual = luma - cv2.GaussianBlur(luma, (5, 5), 0)
    patches = [
        residual[top : top + BLOCK, left : left + BLOCK]
        for top in range(0, luma.shape[0] - BLOCK + 1, BLOCK)
        for left in range(0, luma.shape[1] - BLOCK + 1, BLOCK)
    ]
    smooth = cv2.GaussianBlur(luma, (0, 0), 2)
    slope = np.hypot(cv2.Sobel(smooth, cv2.CV_64F, 1, 0), cv2.Sobel(smooth, cv2.CV_64F, 0, 1))
    rows, columns = luma.shape[0] // BLOCK, luma.shape[1] // BLOCK
    steepness = slope[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK).mean((1, 3)).ravel()
    flattest = np.argsort(steepness, kind="stable")[: max(1, round(FLAT_SHARE * len(steepness)))]
    flat = np.stack([patches[i] for i in flattest])
    power = (flat**2).mean() + QUANTISATION**2
    white = _white_correlation()
    return {name: float(_lagged(flat, *lag).mean() / power) - white[name] for name, lag in LAGS.items()}


def blockiness(luma: Array) -> float:
    """Log ratio of the mean step across borders of 8 x 8 blocks to the mean step elsewhere; 0 without blocks."""
    ratios = []
    for plane in (luma, luma.T):
        step = np.abs(np.diff(plane, axis=1)).mean(0) + QUANTISATION
        border = np.arange(len(step)) % BLOCK == BLOCK - 1
        ratios.append(np.log(step[border].mean() / step[~border].mean()))
    return float(np.mean(ratios))


def jpeg_quality(luma: Array) -> float:
    """Quality of the JPEG that an image was last decoded from, by the comb of its block transform; 100 without one.

    A decoder's coefficients stand at multiples of the steps of its table, give or take the rounding of the pixels. For
    every quality the mean of cos(2 pi coefficient / step), over coefficients that are not zero, says how well they
    do; steps as fine as the rounding cannot be told. The coarsest quality whose comb fits nearly as well as the best
    one is taken, since a comb fits every finer one that divides it.
    """
    cosines, tables = _cosines(), _luma_tables()
    rows, columns = (length // BLOCK for length in luma.shape)
    blocks = luma[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK).transpose(0, 2, 1, 3) - 128
    coefficients = (cosines @ blocks @ cosines.T).reshape(-1, BLOCK * BLOCK).astype(np.float32)
    fits = np.zeros(len(QUALITIES))
    for number, steps in enumerate(tables):
        telling = (np.abs(coefficients) > steps / 2) & (steps >= 4)  # the DC step too: its multiples are as sharp
        if telling.sum() >= 16:
            turns = coefficients[telling] / np.broadcast_to(steps, coefficients.shape)[telling]
            fits[number] = np.cos(2 * np.pi * turns).mean()
    if fits.max() < COMB:
        return 100.0
    return float(QUALITIES[np.argmax(fits >= max(COMB, 0.9 * fits.max()))])


def edge_profile(luma: Array) -> tuple[float, float]:
    """Width and overshoot of the strongest edges.

    At every strong step between two neighbours, along rows and along columns: width is the height of the whole edge
    over its steepest step, / sqrt(2 pi), which for a step blurred by a Gaussian is the sigma of that Gaussian (0.4 px
    for an unblurred step). Ringing is how far the profile next to the edge swings beyond its own ends, on both sides,
    over the height of the edge; 0 for a monotone edge.

    Returns:
        Median width in pixels, and mean ringing; 0 and 0 for an image without edges.
    """
    profiles = np.concatenate([_profiles(luma), _profiles(luma.T)])  # (n, 2 * REACH), dark to bright
    steps = np.diff(profiles, axis=1)[:, REACH - 1]
    strong = steps >= max(np.quantile(steps, 1 - EDGE_SHARE), 4.0)
    # the steepest of their neighbourhood only: the flanks of a wide edge are no edges
    strong &= steps >= np.abs(np.diff(profiles, axis=1)).max(1)
    if not strong.any():
        return 0.0, 0.0
    profiles, steps = profiles[strong], steps[strong]
    dark, bright = profiles[:, 0], profiles[:, -1]
    height = profiles.max(1) - profiles.min(1)
    over = np.maximum(0, profiles[:, REACH:].max(1) - bright) + np.maximum(0, dark - profiles[:, :REACH].min(1))
    return float(np.median(height / steps) / np.sqrt(2 * np.pi)), float((over / height).mean())


def radial_spectrum(image: Rgb) -> Array:
    """Natural log of the power spectral density of luma (grey levels squared), averaged over rings of frequency.

    A Hann window, whose loss of power is made up for: white noise of standard deviation s gives log(s^2) everywhere.

    Args:
        image: (h, w, 3) uint8 RGB.

    Returns:
        (SPECTRUM_BINS,) rings between 0 and 0.5 cycles per pixel (Nyquist); `spectrum_frequencies` has their middles.
    """
    luma = luma_chroma(image)[0]
    window = np.outer(np.hanning(luma.shape[0] + 2)[1:-1], np.hanning(luma.shape[1] + 2)[1:-1])
    power = np.abs(np.fft.fft2((luma - luma.mean()) * window)) ** 2 / (window**2).sum()
    frequency = np.hypot(np.fft.fftfreq(luma.shape[0])[:, None], np.fft.fftfreq(luma.shape[1])[None])
    outside = SPECTRUM_BINS  # the ring of the mean and of the corners beyond Nyquist, which is dropped
    ring = np.minimum((frequency * 2 * SPECTRUM_BINS).astype(int), outside)
    ring[0, 0] = outside
    total = np.bincount(ring.ravel(), power.ravel(), outside + 1)[:outside]
    count = np.bincount(ring.ravel(), minlength=outside + 1)[:outside]
    return np.log(total / np.maximum(1, count) + QUANTISATION**2)


def spectrum_frequencies() -> Array:
    """Middle of each ring of `radial_spectrum`, in cycles per pixel."""
    return (np.arange(SPECTRUM_BINS) + 0.5) / (2 * SPECTRUM_BINS)


def spectrum_slope(log_power: Array) -> float:
    """Slope of log power over log frequency above half of Nyquist: 0 for white noise, -2 for 1/f^2, lower for blur."""
    frequency = spectrum_frequencies()
    upper = frequency > 0.25
    return float(np.polyfit(np.log(frequency[upper]), log_power[upper], 1)[0])


def _profiles(luma: Array) -> Array:
    """Every horizontal run of 2 * REACH pixels, turned so that its middle step rises: (n, 2 * REACH)."""
    runs = np.lib.stride_tricks.sliding_window_view(luma, 2 * REACH, axis=1).reshape(-1, 2 * REACH)
    falling = runs[:, REACH] < runs[:, REACH - 1]
    return np.where(falling[:, None], runs[:, ::-1], runs)


def _lagged(patches: Array, rows: int, columns: int) -> Array:
    height, width = patches.shape[-2:]
    first = patches[..., : height - rows, max(0, -columns) : width - max(0, columns)]
    return first * patches[..., rows:, max(0, columns) : width + min(0, columns)]


@cache
def _white_correlation() -> dict[str, float]:
    """What the filter of `noise_correlation` alone does to white noise: the autocorrelation of its kernel."""
    kernel = np.zeros((15, 15))
    kernel[7, 7] = 1
    kernel -= cv2.GaussianBlur(kernel, (5, 5), 0)
    return {name: float(_lagged(kernel, *lag).sum() / (kernel**2).sum()) for name, lag in LAGS.items()}


@cache
def _cosines() -> NDArray[np.float32]:
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
