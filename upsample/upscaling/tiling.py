"""Upscale in tiles, so that the tile and not the image decides how much memory the network needs.

Each tile starts on the network's own grid and from the fixed noise at its position, so it equals the same window of one
call on the whole image. Only its edges differ, because the network does not see what lies beyond them, and there the
tile has the least weight in the blend.
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
    """Hold the rows or columns of a tile, and the length of the ramps that blend it with neighbours, in LR pixels."""

    start: int
    length: int
    ramp: int


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
    on_tile: Callable[[float], object] = lambda done: None,
    on_halved: Callable[[int], object] = lambda tile: None,
) -> Tensor:
    """Upscale a batch of images, tile by tile.

    When a tile does not fit in memory, that tile and the ones after it are halved; finished tiles are kept.

    Args:
        upsampler: the model, on any device.
        lr: (B, 3, h, w), range [0, 1], on any device.
        tile: longest side of a tile in LR pixels, at least 32; 0 upscales the whole image at once.
        overlap: LR pixels that neighbouring tiles share and are blended over.
        steps: network calls; None uses the number that the weights were trained for.
        on_tile: called after every tile with the finished share of the work, up to 1.
        on_halved: called with the new tile size, in LR pixels, when memory was short.

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
    """Tell whether torch ran out of memory; for a GPU the type of the exception says so, for a CPU only its message."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _CPU_OUT_OF_MEMORY)


def _upscale(upsampler: ResidualShiftUpsampler, lr: Tensor, window: _Window, steps: int | None) -> Tensor | None:
    """Upscale one tile and return it on the CPU; return None when memory was short."""
    (top, height, _), (left, width, _) = window.rows, window.columns
    part = lr[:, :, top : top + height, left : left + width].to(upsampler.device)
    try:
        return upsampler(part, steps=steps, noise=upsampler.fixed_noise(height, width, top, left)).float().cpu()
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
    ramp = span.ramp * scale
    weights = torch.ones(span.length * scale)
    if span.start > 0 and ramp:
        weights *= (position / ramp).clamp(max=1)
    if span.start + span.length < image_length and ramp:
        weights *= (position.flip(0) / ramp).clamp(max=1)
    return weights
