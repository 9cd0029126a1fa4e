"""Read and write image files for upscaling without losing what they hold: 16 bits, grey, transparency, orientation."""

import functools
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image as PillowImage
from torch import Tensor

from degrade.errors import ImageError
from degrade.images.codec import ImageInfo, decode_image, encoder_options, through_profile, to_srgb, turn

OUTPUT_SUFFIXES = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp"}

_EXT_OF_FORMAT = {"JPEG": "jpg", "MPO": "jpg", "WEBP": "webp"}  # all others become png
_LONGEST_SIDE = {"jpg": 65535, "webp": 16383}
_NODES = 52  # levels 0, 5, ..., 255 of each channel, where an 8-bit profile conversion is exact


@dataclass(frozen=True)
class Picture:
    """Hold an image, and how its file stored it.

    Attributes:
        color: sRGB, (1, 3, h, w), range [0, 1].
        alpha: opacity, (1, 1, h, w), range [0, 1]; None when every pixel is opaque.
        grey: whether the file holds a grey image.
        bits: bits per channel, 8 or 16.
    """

    color: Tensor
    alpha: Tensor | None = None
    grey: bool = False
    bits: int = 8


def read_picture(data: bytes) -> Picture:
    """Decode an image file as `read_image` does, but keep its bit depth and its transparency.

    Raises:
        ImageError: the file is empty, truncated, too large, or not an image of a supported format.
    """
    stored = decode_image(data)
    deep, mode = stored.deep, stored.image.mode
    if deep is None:
        rgb, opacity = to_srgb(stored.image, stored.profile)
        layers, full = rgb if opacity is None else np.dstack([rgb, opacity]), 255.0
    else:
        layers, full = np.dstack([deep] * 3) if deep.ndim == 2 else deep, 65535.0
    tensor = torch.from_numpy(turn(layers, stored.orientation) / np.float32(full)).permute(2, 0, 1)[None]
    color, alpha = tensor[:, :3], tensor[:, 3:]
    grey = mode in ("1", "L", "LA", "La") or mode.startswith("I")
    if deep is not None and stored.profile:
        color = _deep_through_profile(color, stored.profile, grey)
    return Picture(color, alpha if bool((alpha < 1).any()) else None, grey, 8 if deep is None else 16)


def encode_picture(picture: Picture, ext: str) -> bytes:
    """Encode an image as png, as lossless webp (8 bits only), or as jpg of quality 95 (8 bits, no transparency).

    Raises:
        ValueError: the format cannot hold the bit depth or the transparency.
        ImageError: the image is too long for the format.
    """
    full, dtype = (65535, np.uint16) if picture.bits == 16 else (255, np.uint8)
    if ext != "png" and picture.bits == 16 or ext == "jpg" and picture.alpha is not None:
        raise ValueError(f"{ext} cannot hold {'16 bits' if picture.bits == 16 else 'transparency'}; use png")
    check_side(picture.color.shape[-1], picture.color.shape[-2], ext)
    layers = picture.color.mean(1, keepdim=True) if picture.grey else picture.color.flip(1)  # OpenCV writes BGR
    if picture.alpha is not None:
        layers = torch.cat([layers.expand(-1, 3, -1, -1), picture.alpha], dim=1)
    pixels = (layers[0].clamp(0, 1) * full).round().permute(1, 2, 0).cpu().numpy().astype(dtype)
    return cv2.imencode(f".{ext}", np.ascontiguousarray(pixels), encoder_options(ext))[1].tobytes()


def output_ext(info: ImageInfo, ext: str, *, keep_alpha: bool = True) -> str:
    """Choose the format to write: the wanted one if it can hold the image, else png.

    Args:
        info: what the header of the input says.
        ext: the wanted format: "png", "jpg", "webp", or "auto" for that of the input.
        keep_alpha: whether the output keeps transparency.
    """
    asked = _EXT_OF_FORMAT.get(info.format, "png") if ext == "auto" else ext
    return "png" if info.bits == 16 or (asked == "jpg" and info.alpha and keep_alpha) else asked


def check_side(width: int, height: int, ext: str) -> None:
    """Refuse an image that is too long for a format.

    Raises:
        ImageError: a side is longer than the format allows.
    """
    longest = _LONGEST_SIDE.get(ext)
    if longest is not None and max(width, height) > longest:
        raise ImageError(f"{width}x{height} is longer than the {longest} px of a {ext}; write it as png (--ext png)")


def _deep_through_profile(rgb: Tensor, profile: bytes, grey: bool) -> Tensor:
    """Convert 16 bits to sRGB, which Pillow cannot: convert a lattice of colours and interpolate between its nodes."""
    if grey:
        shades = np.arange(256, dtype=np.uint8)[None]
        curve = np.asarray(through_profile(PillowImage.fromarray(shades), profile).convert("RGB"))[0] / 255
        channels = [np.interp(rgb[0, 0].numpy(), shades[0] / 255, curve[:, channel]) for channel in range(3)]
        return torch.from_numpy(np.stack(channels).astype(np.float32))[None]
    lattice = _lattice()
    converted = through_profile(lattice, profile)
    if converted is lattice:
        return rgb
    table = torch.from_numpy(np.asarray(converted).reshape(_NODES, _NODES, _NODES, 3).astype(np.float32) / 255)
    places = rgb.flip(1).permute(0, 2, 3, 1)[:, None] * 2 - 1  # grid_sample wants the table's last axis, blue, first
    return F.grid_sample(table.permute(3, 0, 1, 2)[None], places, align_corners=True)[:, :, 0]


@functools.cache
def _lattice() -> PillowImage.Image:
    """Make an image of all colours with `_NODES` levels per channel; red varies slowest."""
    levels = np.linspace(0, 255, _NODES).astype(np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1)
    return PillowImage.fromarray(colors.reshape(_NODES**2, _NODES, 3))


def fill_hidden(color: Tensor, alpha: Tensor) -> Tensor:
    """Spread the visible colours into the fully transparent pixels.

    Editors leave any colour there, mostly black, and the network would draw its edge into the visible part.

    Args:
        color: (1, 3, h, w).
        alpha: (1, 1, h, w).

    Returns:
        (1, 3, h, w), unchanged where alpha is above 0.
    """
    return _fill(color, (alpha > 0).to(color))


def keep_flat(alpha: Tensor, lr_alpha: Tensor) -> Tensor:
    """Clamp enlarged opacity to the range of the nearest LR pixels, so that flat areas stay exactly flat.

    Args:
        alpha: (1, 1, h * scale, w * scale).
        lr_alpha: (1, 1, h, w).
    """
    low, high = -F.max_pool2d(-lr_alpha, 3, 1, 1), F.max_pool2d(lr_alpha, 3, 1, 1)
    size = alpha.shape[-2:]
    return torch.clamp(alpha, F.interpolate(low, size, mode="nearest"), F.interpolate(high, size, mode="nearest"))


def on_white(color: Tensor, alpha: Tensor) -> Tensor:
    """Lay an image (1, 3, h, w) with opacity (1, 1, h, w) on white."""
    return color * alpha + (1 - alpha)


def _fill(color: Tensor, known: Tensor) -> Tensor:
    """Fill unknown pixels from the image at half the size, where fewer are unknown, recursively (pull-push)."""
    height, width = color.shape[-2:]
    if bool(known.all()) or height == width == 1:
        return color
    weight = F.avg_pool2d(known, 2, ceil_mode=True)
    half = F.avg_pool2d(color * known, 2, ceil_mode=True) / weight.clamp(min=0.25)
    half = _fill(half, (weight > 0).to(color))
    return torch.where(known > 0, color, F.interpolate(half, scale_factor=2.0, mode="bilinear")[..., :height, :width])
