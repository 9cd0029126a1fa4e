"""Print images with dots: the rotated screens of colour printing, and the screentones of manga.

A screen is a field of thresholds on the page. A place gets ink where the tone is darker than the threshold, so round
dots grow with the ink until they touch and leave round holes. Each pixel is the mean of 3 x 3 such places, as a scan of
the page would give it.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from degrade.ops.compress import LUMA_WEIGHTS
from degrade.ops.straight_through import straight_through

_FINE = 3  # places per pixel and axis
_SCREEN_ANGLES_DEG = (15.0, 75.0, 0.0, 45.0)  # of C, M, Y and K: the usual ones, with which moire is least visible


def halftone(images: Tensor, period_px: Sequence[float], angle_rad: Sequence[float]) -> Tensor:
    """Print images with cyan, magenta, yellow and black dots, whose screens are turned against each other.

    Inks multiply. Black takes a part of what the three others have in common, its square, so that shadows are black
    and skin has no black dots.

    Args:
        images: RGB, (B, 3, H, W); values outside [0, 1] are clipped.
        period_px: distance between dots of each sample in pixels, B numbers above 0.
        angle_rad: rotation of the page for each sample, added to the angles of the four screens.

    Returns:
        RGB, (B, 3, H, W) in [0, 1], with nearly the mean colour of the input; the gradient passes straight through.
    """
    printed = []
    for image, period, angle in zip(images.detach().clamp(0, 1).cpu(), period_px, angle_rad, strict=True):
        rgb = image.double().numpy()
        light = 1 - (1 - rgb.max(0)) ** 2  # what black ink leaves
        paper = [rgb[channel] / np.maximum(light, 1e-6) for channel in range(3)]  # what C, M and Y leave of that
        inks = [
            _print(tone, period, angle + math.radians(degrees))
            for tone, degrees in zip([*paper, light], _SCREEN_ANGLES_DEG, strict=True)
        ]
        printed.append(_pixels(np.stack([inks[channel] & inks[3] for channel in range(3)])))
    return straight_through(images, torch.from_numpy(np.stack(printed)).to(images))


def screentone(
    images: Tensor,
    period_px: Sequence[float],
    angle_rad: Sequence[float],
    black: Sequence[float],
    white: Sequence[float],
) -> Tensor:
    """Print the luma with black dots of one screen, as manga does: solid black, clean paper, and dots between.

    Args:
        images: RGB, (B, 3, H, W); values outside [0, 1] are clipped.
        period_px: distance between dots of each sample in pixels, B numbers above 0.
        angle_rad: angle of the screen of each sample.
        black: luma of each sample up to which the print is solid, in [0, 1).
        white: luma of each sample from which the paper stays clean, above ``black``.

    Returns:
        Grey as RGB, (B, 3, H, W) in [0, 1]; the gradient passes straight through.
    """
    weights = torch.tensor(LUMA_WEIGHTS, dtype=torch.float64, device="cpu")[:, None, None]
    printed = []
    for image, *numbers in zip(images.detach().clamp(0, 1).cpu(), period_px, angle_rad, black, white, strict=True):
        period, angle, low, high = numbers
        luma = (image.double() * weights).sum(0).numpy()
        paper = _print(((luma - low) / (high - low)).clip(0, 1), period, angle)
        printed.append(np.repeat(_pixels(paper)[None], 3, 0))
    return straight_through(images, torch.from_numpy(np.stack(printed)).to(images))


def _print(tone: np.ndarray, period_px: float, angle_rad: float) -> np.ndarray:
    """Return where the paper stays free of ink, (3 H, 3 W), for a tone (H, W) in [0, 1] with 1 for no ink."""
    y, x = ((np.arange(_FINE * side, dtype=np.float32) + 0.5) / _FINE for side in tone.shape)
    along = math.cos(angle_rad) * x[None] + math.sin(angle_rad) * y[:, None]
    across = math.cos(angle_rad) * y[:, None] - math.sin(angle_rad) * x[None]
    turn = 2 * math.pi / period_px
    spot = np.cos(turn * along) + np.cos(turn * across)  # 2 at the centre of a dot
    shares, spots = _shares_of_area()
    return spot < np.interp(tone, shares, spots).astype(np.float32).repeat(_FINE, 0).repeat(_FINE, 1)


@functools.lru_cache(maxsize=1)
def _shares_of_area() -> tuple[np.ndarray, np.ndarray]:
    """Tabulate below which value of the spot function each share of a screen's area lies."""
    phase = (np.arange(1024) + 0.5) * (2 * math.pi / 1024)
    spots = np.sort((np.cos(phase)[:, None] + np.cos(phase)).ravel())[::256]
    return np.linspace(0, 1, len(spots) + 1), np.append(spots, 2.01)  # a share of 1 leaves no place out


def _pixels(places: np.ndarray) -> np.ndarray:
    *rest, height, width = places.shape
    return places.reshape(*rest, height // _FINE, _FINE, width // _FINE, _FINE).mean((-3, -1))
