"""Crop and reduce images that are arrays. Nothing here imports torch."""

import math
import random

import cv2
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]  # one image, (H, W, 3)
Crops = NDArray[np.uint8]  # images of one size, (N, side, side, 3) RGB


# Luma is measured in 8-bit levels.
_FLAT_STD = 2.0  # a crop with this standard deviation or more has content
_EDGE_STEP = 8  # neighbours that differ by this much or more form an edge
_EDGE_SHARE = 1e-3  # a crop with a larger share of edges has content even if it is nearly flat: thin lines on paper


def is_flat(crop: Rgb) -> bool:
    """Tell whether a crop, (H, W, 3) uint8, is nearly one colour, so that a network learns nothing from it."""
    luma = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.int16)
    if luma.std() >= _FLAT_STD:
        return False
    edges = sum(int((np.abs(np.diff(luma, axis=axis)) >= _EDGE_STEP).sum()) for axis in (0, 1))
    return edges <= _EDGE_SHARE * luma.size


def crop_positions(
    height: int, width: int, size: int, count: int | None = None, seed: int = 0
) -> list[tuple[int, int]]:
    """Choose where to cut square crops; the same arguments always give the same positions.

    Args:
        height: height of the image, in pixels.
        width: width of the image, in pixels.
        size: side of a crop, in pixels.
        count: number of random positions. They are spread out (Mitchell's best candidate, SIGGRAPH 1991) and all
            different; there are fewer if the image does not have that many. None gives the smallest even grid that
            covers the image, with no more overlap than necessary.
        seed: seed of the random positions; a grid ignores it.

    Returns:
        Top-left corners ``(y, x)``, in pixels.

    Raises:
        ValueError: the image is smaller than the crop, or the count is not positive.
    """
    if size < 1 or (count is not None and count < 1):
        raise ValueError(f"crop size {size} and count {count} must be positive")
    if min(height, width) < size:
        raise ValueError(
            f"a {width}x{height} image is smaller than a crop of {size}; use a larger image or smaller crops"
        )
    rows, columns = height - size, width - size  # the last possible positions
    if count is None:
        return [(y, x) for y in _even_steps(rows, size) for x in _even_steps(columns, size)]
    draw = random.Random(seed).random  # the only sequence that Python promises to keep in later versions
    chosen: list[tuple[int, int]] = []
    while len(chosen) < min(count, (rows + 1) * (columns + 1)):
        candidates = [(int(draw() * (rows + 1)), int(draw() * (columns + 1))) for _ in range(10)]
        best = max(candidates, key=lambda at: _nearest(at, chosen))
        if best not in chosen:
            chosen.append(best)
    return chosen


def _even_steps(last: int, size: int) -> list[int]:
    steps = math.ceil(last / size)
    return [round(i * last / steps) for i in range(steps + 1)] if steps else [0]


def _nearest(at: tuple[int, int], chosen: list[tuple[int, int]]) -> int:
    return min(((at[0] - y) ** 2 + (at[1] - x) ** 2 for y, x in chosen), default=0)


def reduce_by(image: Rgb, factor: int) -> Rgb:
    """Reduce an image by an integer factor, averaging areas; rows and columns that do not fill an area are cut."""
    height, width = (length // factor * factor for length in image.shape[:2])
    size = (width // factor, height // factor)
    return cv2.resize(image[:height, :width], size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def shrunk_size(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """Compute the sides that `shrink_to` gives to an image with these sides, in pixels."""
    while max_side and max(size) > max_side:
        size = (size[0] // 2, size[1] // 2)
    return size


def shrink_to(image: Rgb, max_side: int) -> Rgb:
    """Reduce an image by 2, averaging areas, until its longer side is at most ``max_side`` pixels; 0 = never."""
    while max_side and max(image.shape[:2]) > max_side:
        image = reduce_by(image, 2)
    return image


def corner(rng: random.Random, image: Rgb, side: int, grid: int) -> tuple[int, int]:
    """Draw the top-left corner (top, left) of a crop with side ``side``, at multiples of ``grid`` pixels."""
    top, left = (rng.randrange((length - side) // grid + 1) * grid for length in image.shape[:2])
    return top, left


def crop(image: Rgb, top: int, left: int, side: int) -> Rgb:
    """Cut a square out of an image; the result is a view."""
    return image[top : top + side, left : left + side]


def crop_to_scale(hr: Rgb, lr: Rgb, scale: int) -> Rgb:
    """Cut HR to ``scale`` times the size of LR, at the bottom and on the right; the result is a view.

    Where the scale does not divide a side, LR was made from the part that it divides: LR is floor(HR / scale). SR
    papers cut HR in the same way, and call it modcrop.

    Args:
        hr: (H, W, 3) uint8.
        lr: (H // scale, W // scale, 3) uint8.
        scale: HR side / LR side.

    Raises:
        ValueError: LR has another size.
    """
    expected = (hr.shape[0] // scale, hr.shape[1] // scale)
    if lr.shape[:2] != expected:
        raise ValueError(
            f"HR {hr.shape[1]}x{hr.shape[0]} is not {scale} x LR {lr.shape[1]}x{lr.shape[0]}; LR should be "
            f"{expected[1]}x{expected[0]}: give its own HR, or resize one of them"
        )
    return hr[: lr.shape[0] * scale, : lr.shape[1] * scale]


def centre_crop(image: Rgb, side: int) -> Rgb:
    """Cut the central square out of an image, clipped where a side is shorter; the result is a view."""
    top, left = (max(0, (length - side) // 2) for length in image.shape[:2])
    return crop(image, top, left, side)
