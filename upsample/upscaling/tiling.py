"""Upscaling in tiles: what the network holds in memory is bounded by the tile, not by the image.

Tiles begin on the network's own grid and with the noise of their place, so that each is a window of what one large call
would make. Only its rim, which lacks the surroundings, differs, and there the ramps of the blending weigh it least.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from upsample.model import ResidualShiftUpsampler

TILE = 256
OVERLAP = 32
MIN_TILE = 32

_CPU_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "DefaultCPUAllocator")


class _Span(NamedTuple):
    """Rows or columns of a tile, in LR pixels, and over how many of them it fades in and out."""

    start: int
    length: int
    ramp: int


class _Window(NamedTuple):
    """The place of a tile, and its share of the whole work."""

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
    on_tile: Callable[[float], object] = lambda done: None,
    on_halved: Callable[[int], object] = lambda tile: None,
) -> Tensor:
    """Upscale, tile by tile.

    When a tile does not fit in memory, it and those that follow are halved; what is done stays.

    Args:
        upsampler: on any device.
        lr: (B, 3, h, w), range [0, 1], on any device.
        tile: longest side of a tile in LR pixels, at least 32; 0 for the whole image at once.
        overlap: LR pixels that neighbours share and are blended over.
        steps: network calls; None for the number that the model was trained for.
        on_tile: told, after every tile, how much of the work is done, up to 1.
        on_halved: told the new size when memory was short.

    Returns:
        sr: (B, 3, h * scale, w * scale), range [0, 1], float32 on the CPU.

    Raises:
        ValueError: tile or overlap is out of range, or not even the smallest tile fits in memory.
    """
    if tile != 0 and tile < MIN_TILE:
        raise ValueError(f"tile {tile} is too small; use {MIN_TILE} or more, or 0 for the whole image at once")
    if overlap < 0:
        raise ValueError(f"overlap {overlap} is negative; use 0 or more")
    scale, stride = upsampler.config.scale, upsampler.stride
    height, width = lr.shape[-2:]
    canvas = torch.zeros(len(lr), 3, height * scale, width * scale)
    weights = torch.zeros(height * scale, width * scale)
    limit = tile or max(height, width)
    done = 0.0
    pending = deque([_Window(_Span(0, height, 0), _Span(0, width, 0), 1.0)])
    while pending:
        window = pending.popleft()
        longest = max(window.rows.length, window.columns.length)
        if longest > limit:
            pending.extendleft(reversed(_split(window, limit, overlap, stride)))
            continue
        sr = _upscale(upsampler, lr, window, steps)
        if sr is None:
            if longest <= MIN_TILE:
                raise ValueError(f"not even a tile of {longest} px fits in memory; free some or use another device")
            limit = max(MIN_TILE, longest // 2)
            on_halved(limit)
            pending.appendleft(window)
            continue
        rows, columns = (slice(span.start * scale, (span.start + span.length) * scale) for span in window[:2])
        weight = torch.outer(_weights(window.rows, height, scale), _weights(window.columns, width, scale))
        canvas[:, :, rows, columns] += sr * weight
        weights[rows, columns] += weight
        done += window.share
        on_tile(done)
    return canvas.div_(weights).clamp_(0, 1)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether torch ran out of memory: a GPU has an exception of its own for it, a CPU only words."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _CPU_OUT_OF_MEMORY)


def _upscale(upsampler: ResidualShiftUpsampler, lr: Tensor, window: _Window, steps: int | None) -> Tensor | None:
    """SR of one tile, on the CPU; None when memory was short."""
    (top, height, _), (left, width, _) = window.rows, window.columns
    part = lr[:, :, top : top + height, left : left + width].to(upsampler.device)
    try:
        return upsampler(part, steps=steps, noise=upsampler.fixed_noise(height, width, top, left)).float().cpu()
    except RuntimeError as err:
        if not is_out_of_memory(err):
            raise
    if part.is_cuda:
        torch.cuda.empty_cache()  # not before the exception, which holds the tensors of the failed call, is gone
    return None


def _split(window: _Window, limit: int, overlap: int, stride: int) -> list[_Window]:
    rows, columns = (_spans(span, limit, overlap, stride) for span in window[:2])
    share = window.share / (len(rows) * len(columns))
    return [_Window(row, column, share) for row in rows for column in columns]


def _spans(whole: _Span, limit: int, overlap: int, stride: int) -> list[_Span]:
    """Cover a span by shorter ones that begin on the network's grid; the last may be shorter still."""
    if whole.length <= limit:
        return [whole]
    side = max(stride, limit // stride * stride)
    step = max(stride, (side - min(overlap, side // 2)) // stride * stride)
    starts = [i * step for i in range(math.ceil((whole.length - side) / step) + 1)]
    return [_Span(whole.start + start, min(side, whole.length - start), side - step) for start in starts]


def _weights(span: _Span, image_length: int, scale: int) -> Tensor:
    """Weights of the SR pixels along one axis: ramps towards neighbours, none towards the border of the image."""
    position = torch.arange(span.length * scale) + 0.5
    ramp = span.ramp * scale
    weights = torch.ones(span.length * scale)
    if span.start > 0 and ramp:
        weights *= (position / ramp).clamp(max=1)
    if span.start + span.length < image_length and ramp:
        weights *= (position.flip(0) / ramp).clamp(max=1)
    return weights
