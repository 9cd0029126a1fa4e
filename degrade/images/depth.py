"""Turn 16-bit values into 8-bit ones, and refuse 16-bit files whose values use fewer bits."""

import numpy as np
from numpy.typing import NDArray

from degrade.errors import ImageError

_DARKEST_USABLE = 4096  # of 65536; a picture below is nearly black, or holds 12-bit values


def to_8_bit(deep: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Round 16-bit values to x / 257."""
    return ((deep.astype(np.uint32) + 128) // 257).astype(np.uint8)


def check_full_range(values: NDArray[np.uint16], significant_bits: int = 16) -> None:
    """Refuse 16-bit values that are those of a sensor of fewer bits, which would give a nearly black picture.

    Values that are multiples of 257 were made from 8 bits, so that a picture of them may be as dark as it likes.

    Args:
        values: the colours as they are stored.
        significant_bits: what the file says about the number of bits that the values use.

    Raises:
        ImageError: no value is above 4095 (12 bits), or above what the file says.
    """
    brightest = int(values.max(initial=0))
    if 0 < brightest < max(_DARKEST_USABLE, 1 << significant_bits if significant_bits < 16 else 0):
        if not (values % 257).any():
            return
        bits = max(brightest.bit_length(), significant_bits if significant_bits < 16 else 0)
        raise ImageError(
            f"its brightest 16-bit value is {brightest} of 65535, as when {bits}-bit values are stored in 16 bits; "
            "scale them to 0..65535, or save the picture with 8 bits"
        )
