"""Upscale in tiles, so that the tile and not the image decides how much memory the network needs.

Each tile starts on the network's own grid and from the fixed noise at its position, so it equals the same window of one
call on the whole image. Only its edges differ, because the network does not see what lies beyond them. So of what two
tiles share, each has no part in its own outer piece, and they are blended in the middle. An overlap of 32 px lets a few
pixels differ by some grey levels, one of 64 px none by a third of a level, with or without detail.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from upsample.model import ResidualShiftUpsampler

TILE = 256
OVERLAP = 32
MIN_TILE = 32
_OUTER = 3 / 8  # the share of the overlap, at a tile's edge, in which the tile has no weight

_CPU_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "DefaultCPUAllocator")


class _Span(NamedTuple):
    """Hold the rows or columns of a tile, and how many of them it shares with a neighbour, in LR pixels."""

    start: int
    length: int
    shared: int


class _Window(NamedTuple):
    """Hold the position of a tile and its share of the whole work."""

    rows: _Span
    columns: _Span
    share: float


@torch.inference_mode()
def upscale_in_tiles(
    upsampler: ResidualShiftUpsampler,
    lr: Tensor,
    *,
    tile: int = TILE,
    overlap: int = OVERLAP,
    steps: int | None = None,
    detail: float | Tensor | None = None,
    on_tile: Callable[[float], object] = lambda done: None,
    on_halved: Callable[[int], object] = lambda tile: None,
) -> Tensor:
    """Upscale a batch of images, tile by tile, as `upscale_in_bands` does, and return it whole.

    Returns:
        sr: (B, 3, h * scale, w * scale), range [0, 1], float32 on the CPU.

    Raises:
        ValueError: tile, overlap or detail is out of range, or not even the smallest tile fits in memory.
    """
    scale = upsampler.config.scale
    height, width = (side * scale for side in lr.shape[-2:])
    sr = torch.empty(len(lr), 3, height, width)
    top = 0
    for band in upscale_in_bands(
        upsampler, lr, tile=tile, overlap=overlap, steps=steps, detail=detail, on_tile=on_tile, on_halved=on_halved
    ):
        sr[:, :, top : top + band.shape[-2]] = band
        top += band.shape[-2]
    return sr


@torch.inference_mode()
def upscale_in_bands(
    upsampler: ResidualShiftUpsampler,
    lr: Tensor,
    *,
    tile: int = TILE,
    overlap: int = OVERLAP,
    steps: int | None = None,
    detail: float | Tensor | None = None,
    on_tile: Callable[[float], object] = lambda done: None,
    on_halved: Callable[[int], object] = lambda tile: None,
) -> Iterator[Tensor]:
    """Upscale a batch of images, tile by tile, and yield bands of rows as soon as they are finished.

    When a tile does not fit in memory, that tile and the ones after it are halved; finished tiles are kept.

    Args:
        upsampler: the model, on any device.
        lr: (B, 3, h, w), range [0, 1], on any device.
        tile: longest side of a tile in LR pixels, at least 32; 0 upscales the whole image at once.
        overlap: LR pixels that neighbouring tiles share and are blended over.
        steps: network calls; None uses the number that the weights were trained for.
        detail: from 0 (faithful) to 1 (sharp), one number, or (B,) for the images; None uses the default of the
            weights.
        on_tile: called after every tile with the finished share of the work, up to 1.
        on_halved: called with the new tile size, in LR pixels, when memory was short.

    Yields:
        (B, 3, n * scale, w * scale), range [0, 1], float32 on the CPU: the next rows from the top.

    Raises:
        ValueError: tile, overlap or detail is out of range, or not even the smallest tile fits in memory.
    """
    if tile != 0 and tile < MIN_TILE:
        raise ValueError(f"tile {tile} is too small; use {MIN_TILE} or more, or 0 for the whole image at once")
    if overlap < 0:
        raise ValueError(f"overlap {overlap} is negative; use 0 or more")
    scale, stride = upsampler.config.scale, upsampler.stride
    height, width = lr.shape[-2:]
    canvas = torch.zeros(len(lr), 3, 0, width * scale)  # the rows that have begun but are not finished
    weights = torch.zeros(0, width * scale)
    top = 0  # LR row of the first of them
    limit = tile or max(height, width)
    done = 0.0
    pending = deque([_Window(_Span(0, height, 0), _Span(0, width, 0), 1.0)])
    while pending:
        window = pending.popleft()
        longest = max(window.rows.length, window.columns.length)
        if longest > limit:
            pending.extendleft(reversed(_split(window, limit, overlap, stride)))
            continue
        sr = _upscale(upsampler, lr, window, steps, detail)
        if sr is None:
            if longest <= MIN_TILE:
                raise ValueError(f"not even a tile of {longest} px fits in memory; free some or use another device")
            limit = max(MIN_TILE, longest // 2)
            on_halved(limit)
            pending.appendleft(window)
            continue
        missing = (window.rows.start + window.rows.length - top) * scale - len(weights)
        if missing > 0:
            canvas, weights = (F.pad(rows, (0, 0, 0, missing)) for rows in (canvas, weights))
        rows = slice((window.rows.start - top) * scale, (window.rows.start + window.rows.length - top) * scale)
        columns = slice(window.columns.start * scale, (window.columns.start + window.columns.length) * scale)
        weight = torch.outer(_weights(window.rows, height, scale), _weights(window.columns, width, scale))
        canvas[:, :, rows, columns] += sr * weight
        weights[rows, columns] += weight
        done += window.share
        on_tile(done)
        finished = (min((later.rows.start for later in pending), default=height) - top) * scale
        if finished > 0:
            yield (canvas[:, :, :finished] / weights[:finished]).clamp_(0, 1)
            canvas, weights, top = canvas[:, :, finished:].clone(), weights[finished:].clone(), top + finished // scale


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether torch ran out of memory; for a GPU the type of the exception says so, for a CPU only its message."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _CPU_OUT_OF_MEMORY)


def _upscale(
    upsampler: ResidualShiftUpsampler, lr: Tensor, window: _Window, steps: int | None, detail: float | Tensor | None
) -> Tensor | None:
    """Upscale one tile and return it on the CPU; return None when memory was short."""
    (top, height, _), (left, width, _) = window.rows, window.columns
    part = lr[:, :, top : top + height, left : left + width].to(upsampler.device)
    try:
        noise = upsampler.fixed_noise(height, width, top, left)
        return upsampler(part, detail=detail, steps=steps, noise=noise).float().cpu()
    except RuntimeError as err:
        if not is_out_of_memory(err):
            raise
    if part.is_cuda:
        torch.cuda.empty_cache()  # not in the handler above: there the exception still holds the failed call's tensors
    return None


def _split(window: _Window, limit: int, overlap: int, stride: int) -> list[_Window]:
    rows, columns = (_spans(span, limit, overlap, stride) for span in window[:2])
    share = window.share / (len(rows) * len(columns))
    return [_Window(row, column, share) for row in rows for column in columns]


def _spans(whole: _Span, limit: int, overlap: int, stride: int) -> list[_Span]:
    """Cover a span with shorter ones that start on the network's grid; the last one may be shorter than the others."""
    if whole.length <= limit:
        return [whole]
    side = max(stride, limit // stride * stride)
    step = max(stride, (side - min(overlap, side // 2)) // stride * stride)
    starts = [i * step for i in range(math.ceil((whole.length - side) / step) + 1)]
    return [_Span(whole.start + start, min(side, whole.length - start), side - step) for start in starts]


def _weights(span: _Span, image_length: int, scale: int) -> Tensor:
    """Weigh the SR pixels along one axis: with ramps towards neighbours, without towards the border of the image."""
    position = torch.arange(span.length * scale) + 0.5
    outer, ramp = (span.shared * scale * share for share in (_OUTER, 1 - 2 * _OUTER))
    weights = torch.ones(span.length * scale)
    if span.start > 0 and ramp:
        weights *= ((position - outer) / ramp).clamp(0, 1)
    if span.start + span.length < image_length and ramp:
        weights *= ((position.flip(0) - outer) / ramp).clamp(0, 1)
    return weights
