"""Choose the parts of a photograph that show an upscaler's faults best: the busiest one and the smoothest one."""

from collections.abc import Mapping

import cv2
import numpy as np

from degrade.images.geometry import Rgb

PATCH = 96  # HR pixels
CONTRAST = 4  # of smooth parts, so that faint patterns show
_GRID = 24  # HR pixels; LR pixels begin here at any scale
_DARK, _BRIGHT = 20, 235  # a smooth part that is nearly black or white shows nothing


def busy_and_smooth(hr: Rgb) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Find the top-left corners of the patches with the strongest and with the weakest mean gradient.

    Args:
        hr: (H, W, 3) uint8.

    Returns:
        Both corners (top, left); None if the image is smaller than a patch.
    """
    luma = cv2.cvtColor(hr, cv2.COLOR_RGB2GRAY).astype(np.float64)
    gradient = np.hypot(cv2.Sobel(luma, cv2.CV_64F, 1, 0), cv2.Sobel(luma, cv2.CV_64F, 0, 1))
    strength: dict[tuple[int, int], float] = {}
    visible: dict[tuple[int, int], float] = {}
    for top in range(0, hr.shape[0] - PATCH + 1, _GRID):
        for left in range(0, hr.shape[1] - PATCH + 1, _GRID):
            part = slice(top, top + PATCH), slice(left, left + PATCH)
            strength[top, left] = float(gradient[part].mean())
            if _DARK < luma[part].mean() < _BRIGHT:
                visible[top, left] = strength[top, left]
    if not strength:
        return None
    smooth = visible or strength
    return max(strength, key=strength.__getitem__), min(smooth, key=smooth.__getitem__)


def cut_patches(images: Mapping[str, Rgb], corner: tuple[int, int], size: tuple[int, int]) -> dict[str, Rgb]:
    """Cut the same patch out of all images of a scene.

    Args:
        images: images of any size, (h, w, 3) uint8; LR is smaller than HR.
        corner: top and left of the patch in HR.
        size: height and width of HR.
    """
    patches: dict[str, Rgb] = {}
    for name, image in images.items():
        rows, columns = (
            slice(start * length // whole, -(-(start + PATCH) * length // whole))
            for start, length, whole in zip(corner, image.shape, size, strict=False)
        )
        patches[name] = image[rows, columns].copy()
    return patches


def raise_contrast(patch: Rgb) -> Rgb:
    """Raise the contrast of a patch around its own mean, which becomes grey."""
    return ((patch - patch.mean((0, 1))) * CONTRAST + 128).round().clip(0, 255).astype(np.uint8)
