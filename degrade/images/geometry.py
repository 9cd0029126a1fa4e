"""Images as arrays: where to crop, and how to reduce. Free of torch."""

import math
import random

import cv2
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]  # one image, (H, W, 3)
Crops = NDArray[np.uint8]  # images of one size, (N, side, side, 3) RGB


# What a flat crop looks like, in 8-bit levels of luma.
_FLAT_STD = 2.0  # a standard deviation from here on is content
_EDGE_STEP = 8  # a difference between neighbours from here on is an edge
_EDGE_SHARE = 1e-3  # more edge pixels than this share are content even in a nearly flat crop: thin lines on paper


def is_flat(crop: Rgb) -> bool:
    """Tell whether a crop, (H, W, 3) uint8, is nearly one colour, so that it teaches nothing."""
    luma = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.int16)
    if luma.std() >= _FLAT_STD:
        return False
    edges = int((np.abs(np.diff(luma, axis=0)) >= _EDGE_STEP).sum() + (np.abs(np.diff(luma, axis=1)) >= _EDGE_STEP).sum())
    return edges <= _EDGE_SHARE * luma.size


def crop_positions(
    height: int, width: int, size: int, count: int | None = None, seed: int = 0
) -> list[tuple[int, int]]:
    """Choose where to cut square crops; the same arguments always give the same positions.

    Args:
        height: of the image.
        width: of the image.
        size: side of a crop.
        count: None: the smallest even grid that covers the image, overlapping only as much as it must. Else this many
            random positions, spread out (Mitchell's best candidate, SIGGRAPH 1991), no two alike; fewer when the image
            does not have that many.
        seed: of the random positions.

    Returns:
        Top-left corners ``(y, x)``.

    Raises:
        ValueError: the image is smaller than the crop, or the count is not positive.
    """
    if size < 1 or (count is not None and count < 1):
        raise ValueError(f"crop size {size} and count {count} must be positive")
    if min(height, width) < size:
        raise ValueError(
            f"a {width}x{height} image is smaller than a crop of {size}; use a larger image or smaller crops"
        )
    rows, columns = height - size, width - size  # last possible positions
    if count is None:
        return [(y, x) for y in _even_steps(rows, size) for x in _even_steps(columns, size)]
    draw = random.Random(seed).random  # the one stream that Python promises to keep from version to version
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
    """Area-reduce by an integer; rows and columns left over are cut."""
    height, width = (length // factor * factor for length in image.shape[:2])
    size = (width // factor, height // factor)
    return cv2.resize(image[:height, :width], size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def shrunk_size(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """What `shrink_to` makes of an image of these sides."""
    while max_side and max(size) > max_side:
        size = (size[0] // 2, size[1] // 2)
    return size


def shrink_to(image: Rgb, max_side: int) -> Rgb:
    """Area-reduce by 2 until the longer side is at most ``max_side``; 0 = never."""
    while max_side and max(image.shape[:2]) > max_side:
        image = reduce_by(image, 2)
    return image


def corner(rng: random.Random, image: Rgb, side: int, grid: int) -> tuple[int, int]:
    """Where a random crop begins, (top, left), on multiples of ``grid``."""
    top, left = (rng.randrange((length - side) // grid + 1) * grid for length in image.shape[:2])
    return top, left


def crop(image: Rgb, top: int, left: int, side: int) -> Rgb:
    """A square part of an image; a view."""
    return image[top : top + side, left : left + side]


def centre_crop(image: Rgb, side: int) -> Rgb:
    """Cut the central square out of an image, or what a shorter image has of it; a view."""
    top, left = (max(0, (length - side) // 2) for length in image.shape[:2])
    return crop(image, top, left, side)
