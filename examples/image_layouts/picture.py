"""The picture that every layout stores, in numbers that say exactly how it must look."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 37, 23  # odd, so that rows end within a byte and tiles stick out


@dataclass(frozen=True)
class Layout:
    """Store the picture in one way.

    Attributes:
        container: TIFF, PNG, BMP, WebP or JPEG.
        name: the choices that make this layout, in words.
        content: the file.
        truth: how it looks on white, (H, W, 3) uint8; None if it cannot be known, so that it must be refused.
        stored: the numbers as they are stored, for tifffile; None where it cannot help.
        tolerance: mean difference in levels that counts as right: 0.51 for what is lossless.
    """

    container: str
    name: str
    content: bytes
    truth: NDArray[np.uint8] | None
    stored: NDArray[np.unsignedinteger] | None = None
    tolerance: float = 0.51


def colors() -> NDArray[np.float64]:
    """Draw the picture: (H, W, 3) in [0, 1], with other numbers in each channel, from black to white."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [np.sin(x / 3) * np.cos(y / 5), np.cos(x / 4 + y / 6), np.sin(y / 4 - x / 7)]
    picture = np.stack(waves, axis=-1) / 2 + 0.5
    picture[:4, :5], picture[:4, 5:10], picture[4:8, :5] = 1, 0, (1, 0, 0.2)
    return picture


def opacity() -> NDArray[np.float64]:
    """Draw the opacity: (H, W) in [0, 1], with clear, half clear and opaque parts."""
    alpha = np.tile(np.linspace(-0.2, 1.4, WIDTH).clip(0, 1), (HEIGHT, 1))
    alpha[-6:] = 1
    return alpha


def quantized(values: NDArray[np.float64], bits: int) -> NDArray[np.unsignedinteger]:
    """Round to integers of some bits."""
    dtype = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    return np.round(values * (2**bits - 1)).astype(dtype)


def seen(values: NDArray[np.float64], alpha: NDArray[np.float64] | None = None) -> NDArray[np.uint8]:
    """Lay colours in [0, 1], (H, W) or (H, W, 3), on white, and round them to 8 bits."""
    rgb = values if values.ndim == 3 else np.dstack([values] * 3)
    if alpha is not None:
        rgb = rgb * alpha[..., None] + 1 - alpha[..., None]
    return np.round(rgb * 255).astype(np.uint8)
