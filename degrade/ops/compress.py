"""Compress images: JPEG, WebP, chroma subsampling and rounding to 8 bits.

JPEG and WebP are the real codecs (libjpeg-turbo and libwebp, through OpenCV) with a straight-through gradient: the
forward pass decodes what the codec wrote, and the backward pass treats the codec as the identity. For a gradient
through the quantisation table, there is kornia's differentiable JPEG (Reich et al., WACV 2024); it is about 40 times
slower on a CPU and agrees with libjpeg to 38-44 dB.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

JPEG_BLOCK = 8  # px, side of the blocks that JPEG transforms and quantises (ITU-T T.81)

ChromaFormat = Literal["4:4:4", "4:2:2", "4:2:0", "4:1:1"]

_JPEG_SAMPLING: dict[str, int] = {
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:1:1": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
}
_CHROMA_STEP: dict[str, tuple[int, int]] = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2), "4:1:1": (1, 4)}
# JFIF, which is full-range ITU-R BT.601. The rows are Y, Cb and Cr; Cb and Cr are without their offset of 1/2.
LUMA_WEIGHTS = (0.299, 0.587, 0.114)
RGB_TO_YCBCR = (LUMA_WEIGHTS, (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
# Chroma from luma, to three digits: Cb = 0.564 (B - Y), Cr = 0.713 (R - Y). Networks have been trained with these.
CB_SCALE, CR_SCALE = 0.564, 0.713


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, result: Tensor) -> Tensor:
        return result.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def quantise(images: Tensor) -> Tensor:
    """Clip images to [0, 1] and round them to 8 bits; the gradient passes straight through.

    Args:
        images: floats of any shape.

    Returns:
        The same shape, with values k / 255 for integers k in 0..255.
    """
    return _StraightThrough.apply(images, (images.detach().clamp(0, 1) * 255).round() / 255)


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
    return _each(
        images, quality, lambda bgr, q: _round_trip(bgr, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, q, *sampling]), "JPEG"
    )


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
    return _each(images, quality, lambda bgr, q: _round_trip(bgr, ".webp", [cv2.IMWRITE_WEBP_QUALITY, q]), "WebP")


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
    decoded = jpeg_codec_differentiable(padded, torch.as_tensor(quality).to(images))
    return decoded[..., :height, :width].clamp(0, 1)


def subsample_chroma(images: Tensor, chroma: ChromaFormat = "4:2:0") -> Tensor:
    """Average Cb and Cr over blocks and enlarge them again, as JPEG and video codecs do; differentiable.

    Args:
        images: RGB, (B, 3, H, W).
        chroma: size of the blocks, as rows x columns: 1x1 for 4:4:4, 1x2 for 4:2:2, 2x2 for 4:2:0, 1x4 for 4:1:1.

    Returns:
        RGB, (B, 3, H, W), with the luma of the input; saturated colours may leave [0, 1] slightly.
    """
    step_y, step_x = _CHROMA_STEP[chroma]
    height, width = images.shape[-2:]
    to_ycbcr = torch.tensor(RGB_TO_YCBCR, dtype=torch.float64)
    ycbcr = F.conv2d(images, to_ycbcr.to(images)[:, :, None, None])
    padded = F.pad(ycbcr[:, 1:], (0, -width % step_x, 0, -height % step_y), mode="replicate")
    small = F.avg_pool2d(padded, (step_y, step_x))
    large = F.interpolate(small, size=padded.shape[-2:], mode="bilinear")[..., :height, :width]
    to_rgb = torch.linalg.inv(to_ycbcr).to(images)
    return F.conv2d(torch.cat([ycbcr[:, :1], large], 1), to_rgb[:, :, None, None])


def _each(
    images: Tensor, quality: Sequence[int] | Tensor, codec: Callable[[np.ndarray, int], np.ndarray], name: str
) -> Tensor:
    qualities = [int(q) for q in quality]
    if len(qualities) != len(images):
        raise ValueError(f"{len(qualities)} qualities for {len(images)} images; pass one {name} quality per sample")
    for q in qualities:
        if not 1 <= q <= 100:
            raise ValueError(f"{name} quality {q} is outside 1..100; use 30 for a bad and 95 for a good file")
    levels = (images.detach().clamp(0, 1) * 255).round().to(torch.uint8).flip(1).permute(0, 2, 3, 1).contiguous()
    decoded = np.stack([codec(bgr, q) for bgr, q in zip(levels.cpu().numpy(), qualities, strict=True)])
    result = torch.from_numpy(decoded).permute(0, 3, 1, 2).flip(1).to(images) / 255
    return _StraightThrough.apply(images, result)


def _round_trip(bgr: np.ndarray, ext: str, options: list[int]) -> np.ndarray:
    _, encoded = cv2.imencode(ext, bgr, options)
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None  # the codec has just written these bytes
    return decoded
