"""Read and write image files for upscaling without losing what they hold: 16 bits, grey, transparency, orientation."""

import functools
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch import Tensor

from degrade.errors import ImageError
from degrade.images.codec import (
    MAX_PIXELS,
    ImageInfo,
    StoredImage,
    decode_image,
    encoder_options,
    through_profile,
    to_srgb,
    turn,
)
from degrade.images.encoder import encode_pixels

_EXT_OF_FORMAT = {"JPEG": "jpg", "MPO": "jpg", "WEBP": "webp"}  # all others become png
_ORIENTATION = 0x0112
# levels of each channel at which an 8-bit profile conversion is exact; close in the dark, where linear light bends most
_NODES = np.unique(np.round(255 * np.linspace(0, 1, 60) ** 2)).astype(np.uint8)


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


def read_picture(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode an image file as `read_image` does, but keep its bit depth and its transparency.

    Args:
        data: the bytes of the file.
        max_pixels: larger images are rejected before they are decoded.

    Raises:
        ImageError: the file is empty, truncated, too large, or not an image of a supported format.
    """
    return _picture(decode_image(data, max_pixels=max_pixels))


def opened_picture(image: PillowImage.Image) -> Picture:
    """Take over an image that Pillow has opened or made, by the rules for files: turned upright, sRGB, all its bits.

    Raises:
        ImageError: the image is damaged, or has a mode without a fixed range.
    """
    mode = image.mode
    deep = None
    if mode.startswith("I"):
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise ImageError(f"values of {values.min()}..{values.max()} do not fit in 16 bits; scale them to 0..65535")
        deep = values.astype(np.uint16)
        if isinstance(hidden := image.info.get("transparency"), int):  # the one grey that stands for nothing
            deep = np.dstack([deep, deep, deep, (deep != hidden) * np.uint16(65535)])
    elif mode in ("F", "LAB"):
        raise ImageError(f"images of mode {mode} are not supported; convert it to RGB")
    try:
        image.load()
        orientation = image.getexif().get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise ImageError(f"image is damaged ({error}); fetch it again") from error
    turned = orientation if orientation in range(1, 9) else 1
    return _picture(StoredImage(image, deep, image.info.get("icc_profile"), turned))


def _picture(stored: StoredImage) -> Picture:
    deep, grey = stored.deep, stored.grey
    if deep is None:
        rgb, opacity = to_srgb(stored.image, stored.profile)
        layers, full = rgb if opacity is None else np.dstack([rgb, opacity]), 255.0
    else:
        layers, full = np.dstack([deep] * 3) if deep.ndim == 2 else deep, 65535.0
    tensor = torch.from_numpy(turn(layers, stored.orientation) / np.float32(full)).permute(2, 0, 1)[None]
    color, alpha = tensor[:, :3], tensor[:, 3:]
    if deep is not None and stored.profile:
        color = _deep_through_profile(color, stored.profile, grey)
    return Picture(color, alpha if bool((alpha < 1).any()) else None, grey, 8 if deep is None else 16)


def encode_picture(picture: Picture, ext: str) -> bytes:
    """Encode an image as png, as lossless webp (8 bits only), or as jpg of quality 95 (8 bits, no transparency).

    Raises:
        ValueError: the format cannot hold the bit depth or the transparency.
        ImageError: the image is too long for the format.
    """
    color, alpha = picture.color, picture.alpha
    layers = color if alpha is None else torch.cat([color, alpha], dim=1)
    return encode_layers(to_pixels(layers, grey=picture.grey, bits=picture.bits), ext)


def to_pixels(layers: Tensor, *, grey: bool, bits: int) -> NDArray[Any]:
    """Round colours, and opacity if there is any, to the integers that a file stores.

    Args:
        layers: (1, 3, h, w) RGB or (1, 4, h, w) RGBA, range [0, 1].
        grey: whether the file is grey; with opacity it holds three equal colours.
        bits: bits per channel, 8 or 16.

    Returns:
        (h, w, 1), or in OpenCV's order (h, w, 3) BGR or (h, w, 4) BGRA; uint8 or uint16.
    """
    full, dtype = (65535, np.uint16) if bits == 16 else (255, np.uint8)
    color, alpha = layers[:, :3], layers[:, 3:]
    color = color.mean(1, keepdim=True) if grey else color.flip(1)
    if alpha.shape[1]:
        color = torch.cat([color.expand(-1, 3, -1, -1), alpha], dim=1)
    pixels = (color[0].clamp(0, 1) * full).round().permute(1, 2, 0).cpu().numpy().astype(dtype)
    return np.ascontiguousarray(pixels)


def encode_layers(pixels: NDArray[Any], ext: str) -> bytes:
    """Encode what `to_pixels` returns; see `encode_picture`.

    Raises:
        ValueError: the format cannot hold the bit depth or the transparency.
        ImageError: the image is too long for the format, or too large for the encoder.
    """
    deep, channels = pixels.dtype == np.uint16, pixels.shape[2]
    if ext != "png" and deep or ext == "jpg" and channels == 4:
        raise ValueError(f"{ext} cannot hold {'16 bits' if deep else 'transparency'}; use png")
    return encode_pixels(pixels, ext, encoder_options(ext))


def output_ext(info: ImageInfo, ext: str, *, keep_alpha: bool = True) -> str:
    """Choose the format to write: the wanted one if it can hold the image, else png.

    Args:
        info: what the header of the input says.
        ext: the wanted format: "png", "jpg", "webp", or "auto" for that of the input.
        keep_alpha: whether the output keeps transparency.
    """
    asked = _EXT_OF_FORMAT.get(info.format, "png") if ext == "auto" else ext
    return "png" if info.bits == 16 or (asked == "jpg" and info.alpha and keep_alpha) else asked


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
    count = len(_NODES)
    table = torch.from_numpy(np.asarray(converted).reshape(count, count, count, 3).astype(np.float32) / 255)
    nodes = np.interp(rgb.numpy(), _NODES / 255, np.linspace(-1, 1, count)).astype(np.float32)
    places = torch.from_numpy(nodes).flip(1).permute(0, 2, 3, 1)[:, None]  # the table's last axis, blue, comes first
    return F.grid_sample(table.permute(3, 0, 1, 2)[None], places, align_corners=True)[:, :, 0]


@functools.cache
def _lattice() -> PillowImage.Image:
    """Make an image of all colours with the levels `_NODES` in each channel; red varies slowest."""
    colors = np.stack(np.meshgrid(_NODES, _NODES, _NODES, indexing="ij"), axis=-1)
    return PillowImage.fromarray(colors.reshape(len(_NODES) ** 2, len(_NODES), 3))


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
