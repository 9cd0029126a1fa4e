"""Split an image into its low band, where the scene is, and its high band, where most of the degradation is."""

import torch
import torch.nn.functional as F
from torch import Tensor


def low_pass(image: Tensor) -> Tensor:
    """5x5 binomial (nearly Gaussian, sigma 1 px) low-pass with repeated borders: (B, C, H, W) -> (B, C, H, W)."""
    taps = torch.tensor([1, 4, 6, 4, 1], device=image.device, dtype=image.dtype) / 16
    channels = image.shape[1]
    image = F.pad(image, (2, 2, 2, 2), mode="replicate")
    image = F.conv2d(image, taps.view(1, 1, 1, 5).expand(channels, -1, -1, -1), groups=channels)
    return F.conv2d(image, taps.view(1, 1, 5, 1).expand(channels, -1, -1, -1), groups=channels)


def high_pass(image: Tensor) -> Tensor:
    """What `low_pass` takes away: (B, C, H, W) -> (B, C, H, W)."""
    return image - low_pass(image)
