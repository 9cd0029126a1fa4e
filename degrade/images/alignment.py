"""Measure the sub-pixel shift between two images of the same scene, such as an LR image and its reduced HR."""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

_SIGMAS_PX = (2.5, 1.0)  # first coarse, wide enough for shifts of several pixels, then fine
_MAX_STEPS = 20
_FLAT_LUMA = 1 / 255  # with a smaller standard deviation of luma under the window, there is nothing to align
_LOST_PX = 0.2  # an estimate with a larger standard error says nothing about sub-pixel alignment


def subpixel_shift(a: NDArray[Any], b: NDArray[Any]) -> tuple[float, float, float]:
    """Measure how far the content of ``b`` lies from the same content in ``a``.

    This estimates one global translation (Lucas and Kanade, IJCAI 1981) on luma under a Hann window. Gain and offset
    are solved together with the shift, so that differences in brightness do not bias it. Images should be at least
    16 px wide.

    Args:
        a: the reference, (H, W, 3) RGB or (H, W) luma; uint8, or float in [0, 1].
        b: an image with the same height and width.

    Returns:
        ``(dx, dy, response)``. ``b(x + dx, y + dy)`` matches ``a(x, y)``; dx points right and dy points down, both in
        pixels. The response, in [0, 1], is the correlation of the aligned images, times one minus the standard error
        of the shift over 0.2 px. It is 0 if the shift cannot be determined (flat images, a single straight edge, only
        noise). Above 0.5, the shift is known to about 0.1 px or better.

    Raises:
        ValueError: the images differ in size.
    """
    if a.shape[:2] != b.shape[:2]:
        raise ValueError(
            f"images of {a.shape[1]}x{a.shape[0]} and {b.shape[1]}x{b.shape[0]} cannot be aligned; resize one first"
        )
    luma_a, luma_b = _luma(a), _luma(b)
    height, width = luma_a.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]).astype(np.float32)
    window /= window.sum()
    if min(_spread(luma_a, window), _spread(luma_b, window)) < _FLAT_LUMA:
        return 0.0, 0.0, 0.0
    shift = np.zeros(2)
    limit = min(height, width) / 4  # beyond this shift, the two windows share hardly any content
    error_px, correlation = math.inf, 0.0
    for sigma_px in _SIGMAS_PX:
        shift, error_px, correlation = _refine(
            cv2.GaussianBlur(luma_a, (0, 0), sigma_px), cv2.GaussianBlur(luma_b, (0, 0), sigma_px), window, shift, limit
        )
        error_px *= math.sqrt(4 * math.pi) * sigma_px  # after the blur, one pixel in 4 pi sigma^2 is independent
        if np.abs(shift).max() > limit:
            return 0.0, 0.0, 0.0
    return float(shift[0]), float(shift[1]), correlation * max(0.0, 1.0 - error_px / _LOST_PX)


def _refine(
    a: Plane, b: Plane, window: Plane, shift: NDArray[np.float64], limit: float
) -> tuple[NDArray[np.float64], float, float]:
    """Solve ``a = gain * b(x + shift) + offset`` by Gauss-Newton; return shift, its standard error, and correlation."""
    gradient_x = cv2.Sobel(a, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    gradient_y = cv2.Sobel(a, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    weight = window.reshape(-1, 1).astype(np.float64)
    for _ in range(_MAX_STEPS):
        moved = _translate(b, shift)
        columns = np.stack([gradient_x, gradient_y, moved, np.ones_like(a)], axis=-1).reshape(-1, 4).astype(np.float64)
        normal = (columns * weight).T @ columns + 1e-12 * np.eye(4)
        residual = (a - moved).reshape(-1).astype(np.float64)
        solution = np.linalg.solve(normal, (columns * weight).T @ residual)
        shift = shift + solution[:2]
        if np.abs(shift).max() > limit or np.abs(solution[:2]).max() < 1e-4:
            break
    misfit = residual - columns @ solution
    variance = float((weight[:, 0] * misfit**2).sum())
    covariance = (
        np.linalg.inv(normal) * variance * float((weight**2).sum())
    )  # the weights sum to 1, so the sum of their squares acts as 1/n
    signal = float((weight[:, 0] * (a.reshape(-1) - (weight[:, 0] * a.reshape(-1)).sum()) ** 2).sum())
    correlation = math.sqrt(max(0.0, 1.0 - variance / signal)) if signal > 0 else 0.0
    return shift, math.sqrt(max(covariance[0, 0], covariance[1, 1])), correlation


def _translate(image: Plane, shift: NDArray[np.float64]) -> Plane:
    """Compute ``image(x + shift)`` with a Catmull-Rom kernel, because cv2.warpAffine rounds shifts to 1/32 pixel."""
    kernels = []
    for distance in shift:
        radius = math.ceil(abs(distance)) + 2
        at = np.abs(np.arange(-radius, radius + 1) - distance)
        near = 1.5 * at**3 - 2.5 * at**2 + 1
        far = -0.5 * at**3 + 2.5 * at**2 - 4 * at + 2
        kernels.append(np.where(at < 1, near, np.where(at < 2, far, 0.0)))
    moved = cv2.sepFilter2D(image, cv2.CV_32F, kernels[0], kernels[1], borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, np.float32)


def _luma(image: NDArray[Any]) -> Plane:
    plane = np.asarray(image, np.float32) * np.float32(1 / 255 if image.dtype == np.uint8 else 1)
    return plane if plane.ndim == 2 else np.asarray(cv2.cvtColor(plane, cv2.COLOR_RGB2GRAY), np.float32)


def _spread(luma: Plane, window: Plane) -> float:
    mean = float((luma * window).sum())
    return math.sqrt(float(((luma - mean) ** 2 * window).sum()))
