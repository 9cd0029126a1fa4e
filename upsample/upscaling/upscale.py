"""Upscale image files: decode each, run the network in tiles, keep colours and transparency, and encode the result."""

import errno
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from degrade.errors import ImageError, ShardError, one_sentence
from degrade.files.store import write_atomic
from degrade.images.codec import MAX_PIXELS
from degrade.images.encoder import check_side
from upsample.bicubic import enlarge
from upsample.model import ResidualShiftUpsampler
from upsample.upscaling.backends import Backend, use_backend
from upsample.upscaling.color_fix import ColorFix, color_fix
from upsample.upscaling.metadata import read_metadata, with_metadata
from upsample.upscaling.pictures import (
    Picture,
    encode_layers,
    fill_hidden,
    keep_flat,
    on_white,
    read_picture,
    to_pixels,
)
from upsample.upscaling.plan import UpscalePlan, UpscaleTask
from upsample.upscaling.reduce import AreaReducer
from upsample.upscaling.tiling import OVERLAP, TILE, is_out_of_memory, upscale_in_bands

Alpha = Literal["network", "bicubic", "drop"]

_ALPHA_REACH = 2  # LR rows on each side that an enlarged row of opacity depends on
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class UpscaleSettings:
    """Choose how images are upscaled.

    Attributes:
        outscale: output side / input side, from 1 to the model's scale, also a fraction; sides are rounded to whole
            pixels. Below the model's scale, the SR is area-reduced. None uses the model's scale.
        tile: longest side of a tile in LR pixels; 0 upscales whole images. With tiles, and without a colour fix, memory
            holds a band of the SR at a time, and of the result the pixels that are written.
        overlap: LR pixels that neighbouring tiles share.
        color_fix: how the SR takes its colours from the LR: "none", "wavelet" or "adain".
        alpha: how transparency is upscaled: by the "network", as a grey image; "bicubic"; or "drop", which lays the
            image on white.
        steps: network calls; None uses the number that the weights were trained for.
        detail: from 0 (faithful) to 1 (sharp); None uses the default of the weights. Transparency, which has no
            texture, is always upscaled without detail.
        keep_metadata: whether EXIF and XMP data and the resolution are written to the output.
        max_pixels: larger inputs are left out.
    """

    outscale: float | None = None
    tile: int = TILE
    overlap: int = OVERLAP
    color_fix: ColorFix = "none"
    alpha: Alpha = "network"
    steps: int | None = None
    detail: float | None = None
    keep_metadata: bool = True
    max_pixels: int = MAX_PIXELS


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


def shipped_for(outscale: float | None, detail: float | None = None) -> str:
    """Name the shipped upsampler for an output side / input side and a detail; None is for the defaults.

    Up to 2 it is the one that learned this scale, because the area-reduced SR of x4 is softer; between 2 and 4 there is
    none of its own. Only that of x4 has a detail branch.
    """
    return "tiny-x2" if outscale is not None and outscale <= 2 and not detail else "tiny-x4"


def load_upsampler(
    name: str | Path,
    *,
    device: str = "cpu",
    seed: int | None = None,
    bf16: bool = False,
    backend: Backend = "torch",
    on_note: Callable[[str], object] = lambda sentence: None,
) -> ResidualShiftUpsampler:
    """Load an upsampler, ready to run.

    Args:
        name: shipped name, folder or hub id.
        device: the device to run on.
        seed: draws other fixed noise; None keeps the model's own.
        bf16: compute the networks, but nothing around them, in bfloat16.
        backend: the software that computes the networks, see `use_backend`.
        on_note: called with a sentence before something that takes long.

    Raises:
        ValueError: no model has this name, or the backend cannot run it.
    """
    upsampler = ResidualShiftUpsampler.from_pretrained(name).to(device).eval()
    if seed is not None:
        upsampler.set_noise(seed)
    use_backend(upsampler, backend, bf16=bf16, on_note=on_note)
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

    Images that are too large, or whose output would be, are refused before the first one is upscaled.

    Args:
        plan: from `plan_upscaling`, with ``keep_alpha`` unless the settings drop transparency.
        upsampler: from `load_upsampler`.
        settings: how the images are upscaled.
        on_progress: called with the number of images done, a fraction for the current one included.
        on_note: called with a sentence when the run changes its tile size or leaves out metadata.

    Returns:
        images, skipped, seconds, hr_megapixels, hr_megapixels_per_second, tile (the last one), tile_halvings, failures.

    Raises:
        ValueError: the settings do not fit the model, or not even the smallest tile fits in memory.
        ShardError: the disk is full or read-only.
    """
    _outscale(upsampler, settings)  # a mistake in the settings stops the run before the first image
    upsampler.detail_strength(settings.detail, settings.steps)
    start = time.perf_counter()
    failures, images, pixels, halvings = list(plan.failures), 0, 0, 0
    tasks: list[UpscaleTask] = []
    for task in plan.tasks:
        try:
            _check_size(task, upsampler, settings)
            tasks.append(task)
        except ImageError as err:
            failures.append(f"{task.source.name}: {err}")
    for index, task in enumerate(tasks, start=len(plan.tasks) - len(tasks)):
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
    bands = list(_upscaled_bands(upsampler, picture, settings, on_tile=on_tile, on_halved=on_halved))
    layers = torch.cat(bands, dim=-2)
    return replace(picture, color=layers[:, :3], alpha=layers[:, 3:] if layers.shape[1] == 4 else None)


@torch.inference_mode()
def _upscaled_bands(
    upsampler: ResidualShiftUpsampler,
    picture: Picture,
    settings: UpscaleSettings,
    *,
    on_tile: Callable[[float], object],
    on_halved: Callable[[int], object],
) -> Iterator[Tensor]:
    """Upscale one image and yield its rows from the top, (1, 3, n, W), or (1, 4, n, W) with transparency."""
    scale = int(upsampler.config.scale)
    lr, lr_alpha = picture.color, picture.alpha
    if lr_alpha is not None and settings.alpha == "drop":
        lr, lr_alpha = on_white(lr, lr_alpha), None
    elif lr_alpha is not None:
        lr = fill_hidden(lr, lr_alpha)
    by_network = lr_alpha is not None and settings.alpha == "network"
    detail = upsampler.detail_strength(settings.detail, settings.steps)
    bands = upscale_in_bands(
        upsampler,
        torch.cat([lr, lr_alpha.expand(-1, 3, -1, -1)]) if lr_alpha is not None and by_network else lr,
        tile=settings.tile,
        overlap=settings.overlap,
        steps=settings.steps,
        detail=torch.tensor([detail, 0.0]) if by_network and detail else detail,
        on_tile=on_tile,
        on_halved=on_halved,
    )
    if settings.color_fix != "none":  # it needs the whole picture
        whole = torch.cat(list(bands), dim=-2)
        whole[:1] = color_fix(whole[:1], enlarge(lr, scale), settings.color_fix)
        bands = iter([whole])
    height, width = lr.shape[-2:]
    reducer = AreaReducer((height * scale, width * scale), _output_size((height, width), upsampler, settings))
    top = 0  # LR row
    for sr in bands:
        rows = slice(top, top + sr.shape[-2] // scale)
        layers, top = sr[:1], rows.stop
        if lr_alpha is not None:
            by_mean = sr[1:].mean(1, keepdim=True) if by_network else None
            layers = torch.cat([layers, _larger_alpha(lr_alpha, rows, scale, by_mean)], dim=1)
        yield reducer.add(layers)


def _larger_alpha(lr_alpha: Tensor, rows: slice, scale: int, by_network: Tensor | None) -> Tensor:
    """Enlarge some rows of opacity, (1, 1, h, w), bicubically or as the network did, and keep flat areas flat.

    Rows around them are enlarged too and then cut off, so that the result is that of the whole image.
    """
    start, stop = max(0, rows.start - _ALPHA_REACH), min(lr_alpha.shape[-2], rows.stop + _ALPHA_REACH)
    part = lr_alpha[:, :, start:stop]
    inner = slice((rows.start - start) * scale, (rows.stop - start) * scale)
    larger = enlarge(part, scale)
    if by_network is not None:
        larger[:, :, inner] = by_network
    return keep_flat(larger, part)[:, :, inner]


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
        encoded = task.source.read()
        lr = read_picture(encoded, max_pixels=settings.max_pixels)
        bands = _upscaled_bands(upsampler, lr, settings, on_tile=advance, on_halved=note_halved)
        pixels = _joined_pixels(bands, _output_size((task.height, task.width), upsampler, settings), lr)
        data = encode_layers(pixels, task.ext)
        height, width, channels = pixels.shape
        if settings.keep_metadata:
            metadata, notes = read_metadata(encoded)
            sizes = ((width, height), (task.width, task.height))
            data, more_notes = with_metadata(data, task.ext, metadata, *sizes, grey=channels == 1)
            for note in notes + more_notes:
                on_note(f"{task.source.name}: {note}")
        with one_sentence(str(task.output)):
            task.output.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(task.output, data)
    except (OSError, ImageError) as err:
        if isinstance(err, ShardError) and getattr(err.__cause__, "errno", None) in _NO_ROOM:
            raise  # no other image could be written either
        return _Outcome(0, str(err), tiles)
    except (MemoryError, RuntimeError) as err:
        if isinstance(err, RuntimeError) and not is_out_of_memory(err):
            raise
        return _Outcome(0, "the result does not fit in memory; use a smaller --outscale or cut the image", tiles)
    return _Outcome(height * width, "", tiles)


def _joined_pixels(bands: Iterator[Tensor], size: tuple[int, int], lr: Picture) -> NDArray[Any]:
    """Round each band to what the file stores as soon as it is there: a quarter of the memory, or half for 16 bits."""
    pixels: NDArray[Any] | None = None
    top = 0
    for band in bands:
        rows = to_pixels(band, grey=lr.grey, bits=lr.bits)
        if pixels is None:
            pixels = np.empty((*size, rows.shape[2]), rows.dtype)
        pixels[top : top + len(rows)] = rows
        top += len(rows)
    assert pixels is not None and top == size[0]
    return pixels


def _check_size(task: UpscaleTask, upsampler: ResidualShiftUpsampler, settings: UpscaleSettings) -> None:
    """Refuse an image by its header.

    Raises:
        ImageError: it is larger than the settings allow, or its output would be longer than its format allows.
    """
    if task.width * task.height > settings.max_pixels:
        raise ImageError(
            f"{task.width}x{task.height} is more than {settings.max_pixels} pixels; raise --max-pixels, or reduce it"
        )
    height, width = _output_size((task.height, task.width), upsampler, settings)
    check_side(width, height, task.ext, "write it as png (--ext png)")


def _output_size(
    size: tuple[int, int], upsampler: ResidualShiftUpsampler, settings: UpscaleSettings
) -> tuple[int, int]:
    """Return height and width of the output for those of the input."""
    outscale = _outscale(upsampler, settings)
    height, width = (max(1, round(side * outscale)) for side in size)
    return height, width


def _outscale(upsampler: ResidualShiftUpsampler, settings: UpscaleSettings) -> float:
    """Resolve the output side / input side, and check it against the model's scale."""
    scale = int(upsampler.config.scale)
    if settings.outscale is not None and not 1 <= settings.outscale <= scale:
        raise ValueError(
            f"outscale {settings.outscale:g} is outside 1..{scale}, the model's scale; use a model with a larger scale"
        )
    return scale if settings.outscale is None else settings.outscale
