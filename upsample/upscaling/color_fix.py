"""Give SR the colours of its LR, by frequency bands or by statistics; pure functions on images in [0, 1]."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

ColorFix = Literal["none", "wavelet", "adain"]

_LEVELS = 5


def color_fix(sr: Tensor, lr_enlarged: Tensor, method: ColorFix) -> Tensor:
    """Correct the colours of SR with the enlarged LR.

    Both methods are those of StableSR (arXiv 2305.07015).

    Args:
        sr: (B, 3, H, W), range [0, 1].
        lr_enlarged: the LR, enlarged to the same size (`upsample.bicubic.enlarge`).
        method: "wavelet" replaces the low band of SR with that of the LR: it removes colour casts that vary over the
            image, but also brings in the LR's colour stains. "adain" gives each channel the LR's mean and standard
            deviation: it removes a cast that is the same everywhere. "none" returns ``sr``.

    Returns:
        (B, 3, H, W), range [0, 1].

    Raises:
        ValueError: the shapes differ, or the method is unknown.
    """
    if sr.shape != lr_enlarged.shape:
        raise ValueError(f"SR {tuple(sr.shape)} and LR {tuple(lr_enlarged.shape)} differ in shape; enlarge the LR")
    match method:
        case "none":
            return sr
        case "wavelet":
            return (sr + low_band(lr_enlarged - sr)).clamp(0, 1)
        case "adain":
            return _with_statistics_of(lr_enlarged, sr).clamp(0, 1)
    raise ValueError(f"color fix {method!r} is unknown; use {', '.join(get_args(ColorFix))}")


def low_band(images: Tensor) -> Tensor:
    """Blur (B, C, H, W) over about 30 pixels, by five levels of the a-trous pyramid; borders are repeated."""
    for level in range(_LEVELS):
        images = _blur(_blur(images, -1, 2**level), -2, 2**level)
    return images


def _blur(images: Tensor, dim: int, gap: int) -> Tensor:
    """Blur along one axis with a binomial 1-2-1 kernel whose taps stand ``gap`` pixels apart."""
    padded = F.pad(images, (gap, gap, 0, 0) if dim == -1 else (0, 0, gap, gap), mode="replicate")
    length = images.shape[dim]
    before, at, after = (padded.narrow(dim, start, length) for start in (0, gap, 2 * gap))
    return (before + 2 * at + after) / 4


def _with_statistics_of(style: Tensor, images: Tensor) -> Tensor:
    mean, style_mean = (x.mean((-2, -1), keepdim=True) for x in (images, style))
    spread, style_spread = (torch.std(x, (-2, -1), correction=0, keepdim=True) for x in (images, style))
    return (images - mean) * (style_spread / spread.clamp(min=1e-5)) + style_mean
