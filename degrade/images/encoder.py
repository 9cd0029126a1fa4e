"""Call OpenCV's encoders, which report a failure by a flag alone, and know how long a side each format can hold."""

from typing import Any

import cv2
from numpy.typing import NDArray

from degrade.errors import ImageError
from degrade.images.guards import quiet

LONGEST_SIDE = {"png": 1_000_000, "jpg": 65_500, "webp": 16_383}  # px that libpng, libjpeg and libwebp write


def check_side(width: int, height: int, ext: str, way_out: str = "use png, or smaller images") -> None:
    """Refuse an image that is too long for a format.

    Args:
        width: width, px.
        height: height, px.
        ext: the format.
        way_out: what to do about it, for the message.

    Raises:
        ImageError: a side is longer than the format allows.
    """
    longest = LONGEST_SIDE.get(ext)
    if longest is not None and max(width, height) > longest:
        raise ImageError(f"{width}x{height} is longer than the {longest} px of a {ext}; {way_out}")


def encode_pixels(pixels: NDArray[Any], ext: str, options: list[int]) -> bytes:
    """Encode an image as OpenCV holds it.

    Args:
        pixels: (H, W) or (H, W, channels) in the order of OpenCV, uint8 or uint16.
        ext: the format, such as ``"png"``.
        options: of OpenCV's encoder.

    Raises:
        ImageError: the format cannot hold the image.
    """
    check_side(pixels.shape[1], pixels.shape[0], ext)
    try:
        with quiet:
            done, data = cv2.imencode(f".{ext}", pixels, options)
    except cv2.error:  # the image is too large for the encoder
        done = False
    if not done:
        raise ImageError(f"{pixels.shape[1]}x{pixels.shape[0]} cannot be encoded as {ext}; use another format")
    return bytes(data.tobytes())
