"""Make training pairs from a batch of HR images, inside a training loop."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from degrade.ops.compress import quantise
from degrade.seeds import draw_seeds


def online_pairs(
    hr: Tensor,
    degrader: Callable[..., Tensor],
    *,
    crop: int | None = None,
    generator: torch.Generator | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Degrade a batch, round the LR to 8 bits as files do, and cut the same patch out of both images of each pair.

    Whole images are degraded and patches cut out of the result, so that blocks of JPEG start anywhere in a patch.

    Args:
        hr: (B, 3, H, W), range [0, 1]; H and W are multiples of the scale.
        degrader: a `RealisticDegrader`, `DegradationMix` or `ClassicalDegrader`.
        crop: side of the HR patches, px, a multiple of the scale; None for whole images.
        generator: draws the degradations and the patches; None draws from fresh entropy.
            ``torch.default_generator`` is the global one, and follows ``torch.manual_seed``.
        **options: passed on to the degrader, such as ``scale``, ``strength`` or ``out_of_range``.

    Returns:
        hr, (B, 3, crop, crop), and lr, (B, 3, crop/scale, crop/scale), multiples of 1/255; both contiguous. The
        rounding passes gradients straight through.

    Raises:
        ValueError: the degrader refuses an argument, or the crop does not fit.

    Example:
        >>> hr, lr = online_pairs(torch.rand(2, 3, 96, 96), degrader, crop=64)
        >>> hr.shape, lr.shape
        (torch.Size([2, 3, 64, 64]), torch.Size([2, 3, 16, 16]))
    """
    lr = quantise(degrader(hr, generator=generator, **options))
    scale = hr.shape[-1] // lr.shape[-1]
    if hr.shape[-2:] != (lr.shape[-2] * scale, lr.shape[-1] * scale):
        raise ValueError(
            f"hr {tuple(hr.shape[-2:])} is no whole multiple of lr {tuple(lr.shape[-2:])}; crop hr instead of pad=True"
        )
    if crop is None:
        return hr, lr
    side, rest = divmod(crop, scale)
    if rest or not 0 < side <= min(lr.shape[-2:]):
        raise ValueError(
            f"crop {crop} does not fit hr {tuple(hr.shape[-2:])}; pass a multiple of {scale} up to {min(hr.shape[-2:])}"
        )
    tops, lefts = ([seed % (length - side + 1) for seed in draw_seeds(len(lr), generator)] for length in lr.shape[-2:])
    return _patches(hr, tops, lefts, side, scale), _patches(lr, tops, lefts, side, 1)


def _patches(images: Tensor, tops: list[int], lefts: list[int], side: int, scale: int) -> Tensor:
    """Cut a square out of each image; places and side are in LR pixels."""
    side *= scale
    corners = zip(images, tops, lefts, strict=True)
    return torch.stack([
        image[:, top * scale : top * scale + side, left * scale : left * scale + side] for image, top, left in corners
    ])  # fmt: skip
