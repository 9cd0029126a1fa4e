"""Distances between sets of samples, and scores of random samples against a truth: numpy, no torch, no downloads."""

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
    """Earth mover's distance of two samples of numbers: the area between their distribution functions.

    In the unit of the numbers; shifting all of one set by s gives |s|.
    """
    a, b = np.sort(np.asarray(a, np.float64)), np.sort(np.asarray(b, np.float64))
    both = np.sort(np.concatenate([a, b]))
    share_a = np.searchsorted(a, both[:-1], side="right") / len(a)
    share_b = np.searchsorted(b, both[:-1], side="right") / len(b)
    return float((np.abs(share_a - share_b) * np.diff(both)).sum())


def kid(a: Array, b: Array) -> float:
    """Kernel distance with the cubic kernel (x.y / d + 1)^3, unbiased (Binkowski et al., ICLR 2018).

    Two sets from the same distribution give 0 on average, so single values may be negative.

    Args:
        a: (n, d) features, n > 1.
        b: (m, d) features, m > 1.
    """

    def kernel(x: Array, y: Array) -> Array:
        return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)

    within_a, within_b, across = kernel(a, a), kernel(b, b), kernel(a, b)
    n, m = len(a), len(b)
    same_a = (within_a.sum() - np.trace(within_a)) / (n * (n - 1))
    same_b = (within_b.sum() - np.trace(within_b)) / (m * (m - 1))
    return float(same_a + same_b - 2 * across.mean())


def frechet(a: Array, b: Array) -> float:
    """Frechet distance of the normal distributions fitted to two sets of features (Dowson and Landau, 1982).

    Biased upwards for few samples: compare it only between sets of equal size.
    """
    mean = a.mean(0) - b.mean(0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    # the trace of (A B)^1/2 is that of (A^1/2 B A^1/2)^1/2, which is symmetric
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    return float(mean @ mean + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def precision_recall(real: Array, made: Array) -> dict[str, float]:
    """Share of made samples that lie among the real ones, and of real ones that lie among the made.

    "Among" means not farther from some sample than its own neighbour number `PRECISION_K` is (Kynkaanniemi et al.,
    NeurIPS 2019).
    """
    across = _distances(real, made)
    return {
        "precision": float((across <= _radii(real, PRECISION_K)[:, None]).any(0).mean()),
        "recall": float((across <= _radii(made, PRECISION_K)[None]).any(1).mean()),
    }


def density_coverage(real: Array, made: Array) -> dict[str, float]:
    """Density and coverage (Naeem et al., ICML 2020), less moved by outliers than precision and recall.

    Density: in how many real neighbourhoods a made sample lies, over k; about 1 for equal sets, may exceed it.
    Coverage: share of real neighbourhoods with a made sample in them.
    """
    inside = _distances(real, made) <= _radii(real, COVERAGE_K)[:, None]
    return {"density": float(inside.sum() / (COVERAGE_K * len(made))), "coverage": float(inside.any(1).mean())}


def energy_score(samples: Array, truth: Array) -> float:
    """How well random samples fit one truth, spread included; lower is better (Gneiting and Raftery, 2007).

    mean |sample - truth| - 1/2 mean |sample - other sample|, |.| the root mean square over a patch, averaged over
    patches. A single sample (a fixed answer) is scored by its distance alone.

    Args:
        samples: (K, h, w, 3), sides multiples of `PATCH`.
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
    """Continuous ranked probability score of every number of ``truth`` under K samples, averaged; in its unit.

    The fair form, whose expectation does not depend on K; for one sample the mean absolute error.

    Args:
        samples: (K, ...).
        truth: (...).
    """
    count = len(samples)
    miss = np.abs(samples - truth).mean()
    if count == 1:
        return float(miss)
    ordered = np.sort(samples, axis=0)
    weight = 2 * np.arange(1, count + 1) - count - 1  # sum over pairs of |difference| from the sorted samples
    pairs = np.tensordot(weight, ordered, axes=1).mean() / (count * (count - 1) / 2)
    return float(miss - 0.5 * pairs)


def rank_histogram(samples: Array, truth: Array, rng: np.random.Generator) -> Array:
    """Where the truth stands among K samples: shares of the K + 1 ranks, all alike when the spread is right.

    A U shape says that the samples vary too little, a hill that they vary too much. Ties are broken at random.

    Args:
        samples: (K, ...).
        truth: (...).
        rng: breaks ties.
    """
    below, equal = (samples < truth).sum(0), (samples == truth).sum(0)
    rank = below + rng.integers(0, equal + 1)
    return np.bincount(rank.ravel(), minlength=len(samples) + 1) / rank.size


def akld(sample: Array, truth: Array) -> float:
    """Divergence of the local strength of noise, after DANet's average KL divergence (Yue et al., ECCV 2020).

    Both images' residuals are taken for zero-mean normal noise whose variance is the local mean of their squares (a
    Gaussian window); the mean over pixels of KL(truth || sample), 0 when the noise is as strong in the same places.

    Args:
        sample: (h, w, 3) residual of a made LR image against its clean downsampling, grey levels.
        truth: that of the real LR image.
    """
    rounding = 1 / 12  # no noise is less than the rounding's
    made, real = (cv2.GaussianBlur(np.square(each), (0, 0), AKLD_SIGMA_PX) + rounding for each in (sample, truth))
    ratio = real / made
    return float((0.5 * (ratio - 1 - np.log(ratio))).mean())


def psnr(a: ArrayLike, b: ArrayLike) -> float:
    """Peak signal-to-noise ratio of images in grey levels, dB; 100 for equal ones."""
    error = float(((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2).mean())
    return 100.0 if error < 1e-5 else float(10 * np.log10(255**2 / error))


def ssim(a: Rgb, b: Rgb) -> float:
    """`ssim_of_planes` of the full-range luma of two images, (h, w, 3) uint8."""
    x, y = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64) for image in (a, b))
    return ssim_of_planes(x, y)


def ssim_of_planes(x: Array, y: Array) -> float:
    """Structural similarity (Wang et al., 2004) of two planes in grey levels, (h, w), sides of 11 or more.

    An 11 x 11 Gaussian window of sigma 1.5, inside the image only.
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
    """Pearson correlation; 0 when one side does not vary."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _distances(a: Array, b: Array) -> Array:
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(squared, 0))


def _radii(points: Array, k: int) -> Array:
    """Distance of each point to its k-th neighbour, itself not counted."""
    if len(points) <= k:
        raise ValueError(f"{len(points)} samples have no {k}-th neighbours; use more than {k} crops")
    return np.asarray(np.sort(_distances(points, points), axis=1)[:, k])
