"""Upscale image files: decode each, run the network in tiles, keep colours and transparency, and encode the result."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import torch
from torch import Tensor

from degrade.errors import ImageError
from degrade.files.store import write_atomic
from upsample.bicubic import enlarge
from upsample.model import ResidualShiftUpsampler
from upsample.upscaling.color_fix import ColorFix, color_fix
from upsample.upscaling.pictures import (
    Picture,
    check_side,
    encode_picture,
    fill_hidden,
    keep_flat,
    on_white,
    read_picture,
)
from upsample.upscaling.plan import UpscalePlan, UpscaleTask
from upsample.upscaling.tiling import OVERLAP, TILE, is_out_of_memory, upscale_in_tiles

Alpha = Literal["network", "bicubic", "drop"]


@dataclass(frozen=True)
class UpscaleSettings:
    """Choose how images are upscaled.

    Attributes:
        outscale: output side / input side; None uses the model's scale, and a smaller one area-reduces the SR.
        tile: longest side of a tile in LR pixels; 0 upscales whole images.
        overlap: LR pixels that neighbouring tiles share.
        color_fix: how the SR takes its colours from the LR: "none", "wavelet" or "adain".
        alpha: how transparency is upscaled: by the "network", as a grey image; "bicubic"; or "drop", which lays the
            image on white.
        steps: network calls; None uses the number that the weights were trained for.
    """

    outscale: int | None = None
    tile: int = TILE
    overlap: int = OVERLAP
    color_fix: ColorFix = "none"
    alpha: Alpha = "network"
    steps: int | None = None


@dataclass(frozen=True)
class _Outcome:
    """Report on one task.

    Attributes:
        pixels: SR pixels that were written; 0 after a failure.
        failure: why nothing was written; "" after a success.
        smaller_tiles: the tile sizes tried after memory ran out, in order.
    """

    pixels: int
    failure: str
    smaller_tiles: list[int]


def load_upsampler(
    name: str | Path, *, device: str = "cpu", seed: int | None = None, bf16: bool = False
) -> ResidualShiftUpsampler:
    """Load an upsampler, ready to run.

    Args:
        name: shipped name, folder or hub id.
        device: the device to run on.
        seed: draws other fixed noise; None keeps the model's own.
        bf16: compute the network, but nothing around it, in bfloat16.

    Raises:
        ValueError: no model has this name.
    """
    upsampler = ResidualShiftUpsampler.from_pretrained(name).to(device).eval()
    if seed is not None:
        upsampler.set_noise(seed)
    upsampler.set_bf16(bf16)
    return upsampler


def upscale_files(
    plan: UpscalePlan,
    upsampler: ResidualShiftUpsampler,
    settings: UpscaleSettings,
    *,
    on_progress: Callable[[float], object] = lambda done: None,
    on_note: Callable[[str], object] = lambda sentence: None,
) -> dict[str, Any]:
    """Upscale the images of a plan; an image that fails is reported, and the others are upscaled all the same.

    Args:
        plan: from `plan_upscaling`, with ``keep_alpha`` unless the settings drop transparency.
        upsampler: from `load_upsampler`.
        settings: how the images are upscaled.
        on_progress: called with the number of images done, a fraction for the current one included.
        on_note: called with a sentence when the run changes its tile size.

    Returns:
        images, skipped, seconds, hr_megapixels, hr_megapixels_per_second, tile (the last one), tile_halvings, failures.

    Raises:
        ValueError: the settings do not fit the model, or not even the smallest tile fits in memory.
        ShardError: the disk is full or not writable.
    """
    _outscale(upsampler, settings)  # a mistake in the settings stops the run before the first image
    start = time.perf_counter()
    failures, images, pixels, halvings = list(plan.failures), 0, 0, 0
    for index, task in enumerate(plan.tasks):
        outcome = _upscale_one(index, task, upsampler, settings, on_progress=on_progress, on_note=on_note)
        if outcome.smaller_tiles:  # the same memory would run out again on the images that follow
            settings = replace(settings, tile=outcome.smaller_tiles[-1])
        if outcome.failure:
            failures.append(f"{task.source.name}: {outcome.failure}")
        images += not outcome.failure
        pixels += outcome.pixels
        halvings += len(outcome.smaller_tiles)
    on_progress(len(plan.tasks))
    seconds = time.perf_counter() - start
    return {
        "images": images,
        "skipped": plan.skipped,
        "seconds": seconds,
        "hr_megapixels": pixels / 1e6,
        "hr_megapixels_per_second": pixels / 1e6 / seconds,
        "tile": settings.tile,
        "tile_halvings": halvings,
        "failures": failures,
    }


def upscale_picture(
    upsampler: ResidualShiftUpsampler,
    picture: Picture,
    settings: UpscaleSettings,
    *,
    on_tile: Callable[[float], object] = lambda done: None,
    on_halved: Callable[[int], object] = lambda tile: None,
) -> Picture:
    """Upscale one image and its transparency.

    Args:
        upsampler: the network.
        picture: the LR image.
        settings: how the image is upscaled.
        on_tile: see `upscale_in_tiles`.
        on_halved: see `upscale_in_tiles`.

    Raises:
        ValueError: the settings do not fit the model, or not even the smallest tile fits in memory.
    """
    outscale = _outscale(upsampler, settings)
    lr, lr_alpha = picture.color, picture.alpha
    if lr_alpha is not None and settings.alpha == "drop":
        lr, lr_alpha = on_white(lr, lr_alpha), None
    elif lr_alpha is not None:
        lr = fill_hidden(lr, lr_alpha)
    by_network = lr_alpha is not None and settings.alpha == "network"
    sr = upscale_in_tiles(
        upsampler,
        torch.cat([lr, lr_alpha.expand(-1, 3, -1, -1)]) if lr_alpha is not None and by_network else lr,
        tile=settings.tile,
        overlap=settings.overlap,
        steps=settings.steps,
        on_tile=on_tile,
        on_halved=on_halved,
    )
    color, alpha = sr[:1], None
    if settings.color_fix != "none":
        color = color_fix(color, enlarge(lr, upsampler.config.scale), settings.color_fix)
    if lr_alpha is not None:
        larger = sr[1:].mean(1, keepdim=True) if by_network else enlarge(lr_alpha, upsampler.config.scale)
        alpha = keep_flat(larger, lr_alpha)
    if outscale != upsampler.config.scale:
        height, width = (side * outscale for side in lr.shape[-2:])
        color, alpha = _reduce(color, height, width), None if alpha is None else _reduce(alpha, height, width)
    return replace(picture, color=color, alpha=alpha)


def _upscale_one(
    index: int,
    task: UpscaleTask,
    upsampler: ResidualShiftUpsampler,
    settings: UpscaleSettings,
    *,
    on_progress: Callable[[float], object],
    on_note: Callable[[str], object],
) -> _Outcome:
    """Upscale one file, the ``index``-th; a file that cannot be read, upscaled or encoded becomes a failure."""
    tiles: list[int] = []

    def note_halved(tile: int) -> None:
        tiles.append(tile)
        on_note(f"memory is short: continuing with tiles of {tile} px")

    def advance(share: float) -> None:
        on_progress(index + share)

    advance(0)
    try:
        lr = read_picture(task.source.read())
        height, width = (side * _outscale(upsampler, settings) for side in lr.color.shape[-2:])
        check_side(width, height, task.ext)  # before the network spends time on it
        sr = upscale_picture(upsampler, lr, settings, on_tile=advance, on_halved=note_halved)
        data = encode_picture(sr, task.ext)
    except (OSError, ImageError) as err:
        return _Outcome(0, str(err), tiles)
    except (MemoryError, RuntimeError) as err:
        if isinstance(err, RuntimeError) and not is_out_of_memory(err):
            raise
        return _Outcome(0, "the result does not fit in memory; cut the image into parts", tiles)
    task.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(task.output, data)
    return _Outcome(height * width, "", tiles)


def _outscale(upsampler: ResidualShiftUpsampler, settings: UpscaleSettings) -> int:
    """Resolve the output side / input side, and check it against the model's scale."""
    scale = int(upsampler.config.scale)
    if settings.outscale is not None and not 1 <= settings.outscale <= scale:
        raise ValueError(
            f"outscale {settings.outscale} is outside 1..{scale}, the model's scale; use a model with a larger scale"
        )
    return scale if settings.outscale is None else settings.outscale


def _reduce(images: Tensor, height: int, width: int) -> Tensor:
    """Area-reduce (1, C, H, W), also by fractions; torch's area mode takes whole pixels and shifts the image there."""
    pixels = cv2.resize(images[0].permute(1, 2, 0).numpy(), (width, height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(pixels.reshape(height, width, -1)).permute(2, 0, 1)[None]
