"""Measure distances between sets of samples, and score random samples against the truth. Needs no torch."""

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from degrade.images.geometry import Rgb

Array = NDArray[np.float64]

PRECISION_K = 3  # neighbour that sets the radius of precision and recall, as in their paper
COVERAGE_K = 5  # neighbour that sets the radius of density and coverage, as in their paper
PATCH = 8  # px, side of the patches of the energy score
AKLD_SIGMA_PX = 3.0  # width of the window in which AKLD measures the strength of noise


def wasserstein_1(a: ArrayLike, b: ArrayLike) -> float:
    """Compute the Wasserstein-1 (earth mover's) distance of two sets of numbers, in their unit.

    It is the area between the two distribution functions. Adding s to every number of one set gives |s|.
    """
    a, b = np.sort(np.asarray(a, np.float64)), np.sort(np.asarray(b, np.float64))
    both = np.sort(np.concatenate([a, b]))
    share_a = np.searchsorted(a, both[:-1], side="right") / len(a)
    share_b = np.searchsorted(b, both[:-1], side="right") / len(b)
    return float((np.abs(share_a - share_b) * np.diff(both)).sum())


def kid(a: Array, b: Array) -> float:
    """Compute the unbiased kernel distance with the cubic kernel (x.y / d + 1)^3 (Binkowski et al., ICLR 2018).

    Two sets from the same distribution give 0 on average, so single values may be negative.

    Args:
        a: features, (n, d), n > 1.
        b: features, (m, d), m > 1.
    """

    def kernel(x: Array, y: Array) -> Array:
        return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)

    within_a, within_b, across = kernel(a, a), kernel(b, b), kernel(a, b)
    n, m = len(a), len(b)
    same_a = (within_a.sum() - np.trace(within_a)) / (n * (n - 1))
    same_b = (within_b.sum() - np.trace(within_b)) / (m * (m - 1))
    return float(same_a + same_b - 2 * across.mean())


def frechet(a: Array, b: Array) -> float:
    """Compute the Fréchet distance of the normal distributions fitted to two sets of features, (n, d) and (m, d).

    See Dowson and Landau (1982). Few samples bias it upwards, so compare it only between sets of equal size.
    """
    mean = a.mean(0) - b.mean(0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    # The trace of (A B)^1/2 equals that of (A^1/2 B A^1/2)^1/2, which is symmetric.
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    return float(mean @ mean + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def precision_recall(real: Array, made: Array) -> dict[str, float]:
    """Compute the share of generated samples close to a real one (precision), and the reverse (recall).

    A sample is close to another when it lies within the distance from that other sample to its own
    `PRECISION_K`-th neighbour (Kynkäänniemi et al., NeurIPS 2019).

    Args:
        real: features, (n, d).
        made: features of generated samples, (m, d).

    Raises:
        ValueError: a set has too few samples.
    """
    across = _distances(real, made)
    return {
        "precision": float((across <= _radii(real, PRECISION_K)[:, None]).any(0).mean()),
        "recall": float((across <= _radii(made, PRECISION_K)[None]).any(1).mean()),
    }


def density_coverage(real: Array, made: Array) -> dict[str, float]:
    """Compute density and coverage (Naeem et al., ICML 2020), on which outliers have less influence.

    The neighbourhood of a real sample reaches to its `COVERAGE_K`-th neighbour. Density is the number of real
    neighbourhoods that contain a generated sample, divided by `COVERAGE_K`; it is about 1 for equal distributions and
    may exceed 1. Coverage is the share of real neighbourhoods that contain a generated sample.

    Args:
        real: features, (n, d).
        made: features of generated samples, (m, d).

    Raises:
        ValueError: there are too few real samples.
    """
    inside = _distances(real, made) <= _radii(real, COVERAGE_K)[:, None]
    return {"density": float(inside.sum() / (COVERAGE_K * len(made))), "coverage": float(inside.any(1).mean())}


def energy_score(samples: Array, truth: Array) -> float:
    """Compute the energy score of random samples of one truth; lower is better (Gneiting and Raftery, 2007).

    The score is mean |sample - truth| - 1/2 mean |sample - other sample|, where |.| is the root mean square over a
    patch, averaged over patches. It rewards the right spread. A single sample is scored by its distance alone.

    Args:
        samples: (K, h, w, 3); the sides are multiples of `PATCH`.
        truth: (h, w, 3).
    """

    def distance(a: Array, b: Array) -> float:
        height, width = (side // PATCH for side in a.shape[:2])
        squared = ((a - b) ** 2).mean(-1).reshape(height, PATCH, width, PATCH).mean((1, 3))
        return float(np.sqrt(squared).mean())

    count = len(samples)
    miss = np.mean([distance(sample, truth) for sample in samples])
    if count == 1:
        return float(miss)
    spread = [distance(samples[i], samples[j]) for i in range(count) for j in range(i)]
    return float(miss - 0.5 * np.mean(spread))


def crps(samples: Array, truth: Array) -> float:
    """Compute the continuous ranked probability score of K samples, averaged over all values of the truth.

    This is the fair form, whose expectation does not depend on K. For one sample it is the mean absolute error. Its
    unit is that of the truth; lower is better.

    Args:
        samples: (K, ...).
        truth: (...).
    """
    count = len(samples)
    miss = np.abs(samples - truth).mean()
    if count == 1:
        return float(miss)
    ordered = np.sort(samples, axis=0)
    weight = 2 * np.arange(1, count + 1) - count - 1  # weights that sum |difference| over all pairs
    pairs = np.tensordot(weight, ordered, axes=1).mean() / (count * (count - 1) / 2)
    return float(miss - 0.5 * pairs)


def rank_histogram(samples: Array, truth: Array, rng: np.random.Generator) -> Array:
    """Compute how often the truth has each rank among K samples; all shares are equal when the spread is right.

    A U shape shows that the samples vary too little, a hill that they vary too much. Ties are broken at random.

    Args:
        samples: (K, ...).
        truth: (...).
        rng: source of randomness for ties.

    Returns:
        Shares of the ranks, (K + 1,).
    """
    below, equal = (samples < truth).sum(0), (samples == truth).sum(0)
    rank = below + rng.integers(0, equal + 1)
    return np.bincount(rank.ravel(), minlength=len(samples) + 1) / rank.size


def akld(sample: Array, truth: Array) -> float:
    """Compute the divergence of local noise strength, after DANet's average KL divergence (Yue et al., ECCV 2020).

    Each residual is modelled as zero-mean normal noise whose variance is the local mean of its squares in a Gaussian
    window. The result is the mean over pixels of KL(truth || sample); it is 0 when the noise is equally strong in the
    same places.

    Args:
        sample: residual of a generated LR image against its clean downsampling, (h, w, 3), grey levels.
        truth: residual of the real LR image, (h, w, 3), grey levels.
    """
    rounding = 1 / 12  # variance of rounding to grey levels, which every image has
    made, real = (cv2.GaussianBlur(np.square(each), (0, 0), AKLD_SIGMA_PX) + rounding for each in (sample, truth))
    ratio = real / made
    return float((0.5 * (ratio - 1 - np.log(ratio))).mean())


def psnr(a: ArrayLike, b: ArrayLike) -> float:
    """Compute the peak signal-to-noise ratio of two images in grey levels, in dB; 100 for equal images."""
    error = float(((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2).mean())
    return 100.0 if error < 1e-5 else float(10 * np.log10(255**2 / error))


def ssim(a: Rgb, b: Rgb) -> float:
    """Compute `ssim_of_planes` of the full-range luma of two images, (h, w, 3) uint8."""
    x, y = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64) for image in (a, b))
    return ssim_of_planes(x, y)


def ssim_of_planes(x: Array, y: Array) -> float:
    """Compute the structural similarity (Wang et al., 2004) of two planes in grey levels, (h, w).

    The window is an 11 x 11 Gaussian with sigma 1.5 that stays inside the image, so both sides must be 11 or more.
    """

    def local(plane: Array) -> Array:
        return np.asarray(cv2.GaussianBlur(plane, (11, 11), 1.5)[5:-5, 5:-5])

    mean_x, mean_y = local(x), local(y)
    var_x, var_y = local(x * x) - mean_x**2, local(y * y) - mean_y**2
    covariance = local(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((above / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())


def correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Compute the Pearson correlation; 0 when one side does not vary."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _distances(a: Array, b: Array) -> Array:
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(squared, 0))


def _radii(points: Array, k: int) -> Array:
    """Compute the distance of each point to its k-th neighbour; the point itself does not count."""
    if len(points) <= k:
        raise ValueError(f"{len(points)} samples have no {k}-th neighbours; use more than {k} crops")
    return np.asarray(np.sort(_distances(points, points), axis=1)[:, k])
