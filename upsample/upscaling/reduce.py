"""Reduce images to any smaller size by exact area averages, band by band, so that no image need be there as a whole."""

import torch
from torch import Tensor


class AreaReducer:
    """Average over areas: each output pixel is the mean of the input under it, with parts of pixels at its rim.

    The mean of the image stays, edges do not overshoot, and nothing shifts: output pixel i covers the input from
    ``i * step`` to ``(i + 1) * step``. Bands of rows give the same bits as the whole image.

    Args:
        source: (height, width) of the input.
        target: (height, width) of the output, each from 1 to that of the input.

    Example:
        >>> AreaReducer((8, 8), (6, 4)).add(torch.rand(1, 3, 8, 8)).shape
        torch.Size([1, 3, 6, 4])
    """

    def __init__(self, source: tuple[int, int], target: tuple[int, int]) -> None:
        if not all(1 <= small <= large for small, large in zip(target, source, strict=True)):
            raise ValueError(f"{source[0]}x{source[1]} cannot be reduced to {target[0]}x{target[1]}")
        self._source, self._target = source, target
        self._rows, self._columns = (_taps(*lengths) for lengths in zip(source, target, strict=True))
        self._waiting: Tensor | None = None  # rows of the input, already narrow, that a later output row needs
        self._top, self._made = 0, 0  # the first waiting row, and the number of finished output rows

    def add(self, band: Tensor) -> Tensor:
        """Add the next rows of the input, (B, C, n, W), and return the output rows that are complete, (B, C, m, w)."""
        narrow = _averaged(band, -1, *self._columns)
        rows = narrow if self._waiting is None else torch.cat([self._waiting, narrow], dim=-2)
        complete = (self._top + rows.shape[-2]) * self._target[0] // self._source[0]
        indices, weights = (table[self._made : complete] for table in self._rows)
        result = _averaged(rows, -2, indices - self._top, weights)
        self._made = complete
        first = complete * self._source[0] // self._target[0]
        self._waiting, self._top = rows[..., first - self._top :, :].clone(), first
        return result


def _taps(source: int, target: int) -> tuple[Tensor, Tensor]:
    """List the pixels under each output pixel of one axis, and their shares in it: two (target, taps)."""
    first = torch.arange(target) * source // target
    indices = first[:, None] + torch.arange((source - 1) // target + 2)
    begin = torch.arange(target)[:, None] * source  # in units of 1 / target of an input pixel, so that all are integers
    overlap = torch.minimum((indices + 1) * target, begin + source) - torch.maximum(indices * target, begin)
    return indices.clamp(max=source - 1), overlap.clamp(min=0).double() / source


def _averaged(images: Tensor, dim: int, indices: Tensor, weights: Tensor) -> Tensor:
    """Sum pixels by their shares along one axis, tap by tap."""
    if images.shape[dim] == len(indices) and indices.shape[1] == 2 and bool((weights[:, 0] == 1).all()):
        return images  # the axis keeps its length
    shape = [1] * images.dim()
    shape[dim] = len(indices)
    limit = images.shape[dim] - 1  # a tap without weight may lie beyond the rows that are there
    result = torch.zeros_like(images.narrow(dim, 0, 1)).repeat_interleave(len(indices), dim)
    for index, weight in zip(indices.T, weights.T, strict=True):
        result += images.index_select(dim, index.clamp(max=limit)) * weight.to(images).reshape(shape)
    return result
