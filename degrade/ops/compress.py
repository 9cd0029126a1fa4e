"""Compress images: JPEG, WebP and rounding to 8 bits.

JPEG and WebP are the real codecs (libjpeg-turbo and libwebp, through OpenCV) with a straight-through gradient: the
forward pass decodes what the codec wrote, and the backward pass treats the codec as the identity. For a gradient
through the quantisation table, there is kornia's differentiable JPEG (Reich et al., WACV 2024); it is about 40 times
slower on a CPU and agrees with libjpeg to 38-44 dB.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.images.encoder import encode_pixels
from degrade.ops.straight_through import straight_through, through_pixels

JPEG_BLOCK = 8  # px, side of the blocks that JPEG transforms and quantises (ITU-T T.81)

ChromaFormat = Literal["4:4:4", "4:2:2", "4:2:0", "4:1:1"]

_JPEG_SAMPLING: dict[str, int] = {
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:1:1": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
}
# JFIF, which is full-range ITU-R BT.601. The rows are Y, Cb and Cr; Cb and Cr are without their offset of 1/2.
LUMA_WEIGHTS = (0.299, 0.587, 0.114)
RGB_TO_YCBCR = (LUMA_WEIGHTS, (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
YCBCR_TO_RGB = np.linalg.inv(RGB_TO_YCBCR).tolist()  # numbers, because exporters have no operator for an inverse
# Chroma from luma, to three digits: Cb = 0.564 (B - Y), Cr = 0.713 (R - Y). Networks have been trained with these.
CB_SCALE, CR_SCALE = 0.564, 0.713


def quantise(images: Tensor) -> Tensor:
    """Clip images to [0, 1] and round them to 8 bits; the gradient passes straight through.

    Args:
        images: floats of any shape.

    Returns:
        The same shape, with values k / 255 for integers k in 0..255.
    """
    return straight_through(images, (images.detach().clamp(0, 1) * 255).round() / 255)


def jpeg(images: Tensor, quality: Sequence[int] | Tensor, chroma: ChromaFormat = "4:2:0") -> Tensor:
    """Compress and decode images with libjpeg; the gradient passes straight through.

    Args:
        images: RGB, (B, 3, H, W); values outside [0, 1] are clipped.
        quality: libjpeg quality of each sample, B integers in 1..100.
        chroma: chroma subsampling of the file.

    Returns:
        Decoded images, (B, 3, H, W), multiples of 1/255.

    Raises:
        ValueError: the number of qualities is not the number of samples, or one is outside 1..100.
    """
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, _JPEG_SAMPLING[chroma]]
    return _each(images, quality, "jpg", lambda q: [cv2.IMWRITE_JPEG_QUALITY, q, *sampling], "JPEG")


def webp(images: Tensor, quality: Sequence[int] | Tensor) -> Tensor:
    """Compress and decode images with lossy libwebp; the gradient passes straight through.

    Args:
        images: RGB, (B, 3, H, W); values outside [0, 1] are clipped.
        quality: WebP quality of each sample, B integers in 1..100.

    Returns:
        Decoded images, (B, 3, H, W), multiples of 1/255.

    Raises:
        ValueError: the number of qualities is not the number of samples, or one is outside 1..100.
    """
    return _each(images, quality, "webp", lambda q: [cv2.IMWRITE_WEBP_QUALITY, q], "WebP")


def jpeg_differentiable(images: Tensor, quality: Sequence[float] | Tensor) -> Tensor:
    """Compress and decode images with kornia's JPEG (4:2:0), differentiable in the images and the quality.

    Args:
        images: RGB, (B, 3, H, W) in [0, 1].
        quality: quality of each sample, (B,), range 1..100.

    Returns:
        Decoded images, (B, 3, H, W) in [0, 1].

    Raises:
        ValueError: kornia is not installed.
    """
    try:
        from kornia.enhance import jpeg_codec_differentiable  # slow to import and rarely used
    except ImportError as error:
        raise ValueError(
            "the JPEG codec kornia needs kornia; pip install 'realistic-degrader[kornia]', or use codec libjpeg"
        ) from error

    height, width = images.shape[-2:]
    # kornia would pad to whole 16 x 16 blocks with zeros, which leaves dark borders
    padded = F.pad(images.clamp(0, 1), (0, -width % 16, 0, -height % 16), mode="replicate")
    with images.device:  # kornia leaves the device of its constants to torch's default
        decoded = jpeg_codec_differentiable(padded, torch.as_tensor(quality).to(images))
    return decoded[..., :height, :width].clamp(0, 1)


def _each(
    images: Tensor, quality: Sequence[int] | Tensor, ext: str, options: Callable[[int], list[int]], name: str
) -> Tensor:
    qualities = [int(q) for q in quality]
    if len(qualities) != len(images):
        raise ValueError(f"{len(qualities)} qualities for {len(images)} images; pass one {name} quality per sample")
    for q in qualities:
        if not 1 <= q <= 100:
            raise ValueError(f"{name} quality {q} is outside 1..100; use 30 for a bad and 95 for a good file")
    return through_pixels(images, [functools.partial(_round_trip, ext=ext, options=options(q)) for q in qualities])


def _round_trip(rgb: np.ndarray, ext: str, options: list[int]) -> np.ndarray:
    encoded = encode_pixels(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), ext, options)
    decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None  # the codec has just written these bytes
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
