"""Provide HR photographs, and a weave that a network could leave on them."""

import numpy as np
import pytest
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]


@pytest.fixture(scope="session")
def scenes(photographs) -> list[Rgb]:
    """Cut six photographs of 192 px."""
    return [np.ascontiguousarray(photo[60:252, at : at + 192]) for photo in photographs.values() for at in (0, 200)]


@pytest.fixture(scope="session")
def weave():
    """Return a function that lays a weave of ``strength`` grey levels and a period on an image."""

    def lay(image: Rgb, period: int = 4, strength: float = 1.0) -> Rgb:
        rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] * 2 * np.pi / period
        pattern = 2 * strength * np.cos(rows + 0.7) * np.cos(columns + 0.3)
        return (image + pattern[..., None]).round().clip(0, 255).astype(np.uint8)

    return lay
