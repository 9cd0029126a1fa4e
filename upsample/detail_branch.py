"""DetailBranch: what a sharp image has and a faithful one lacks, drawn from noise and added at any strength."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from degrade.networks.unet import channels_last

_ENLARGEMENTS = {1: (), 2: (2,), 3: (3,), 4: (2, 2)}  # by scale: the factors of the enlargements, one after the other
_WIDTHS = (64, 32, 24)  # channels on the LR grid, and after each enlargement
_BLOCKS = 4
RADIUS = 16  # LR pixels from the centre to the edge of what the branch sees of its inputs, rounded up


class DetailBranch(nn.Module):
    """Draw detail for an image from the features of the network that made the image, from its LR, and from noise.

    It enlarges bilinearly and convolves at full size, because a pixel shuffle under a critic leaves a chequer with the
    period of the scale. Noise comes in at each size with a strength per channel that is learned, as in StyleGAN
    (arXiv 1812.04948): texture that the LR does not decide has to come from somewhere.

    Args:
        scale: HR side / LR side: 1, 2, 3 or 4.
        features: channels of the features.
        latents: channels of the noise.

    Raises:
        ValueError: the noise has too few channels, as that of an autoencoder's latents.
    """

    def __init__(self, scale: int, features: int, latents: int) -> None:
        super().__init__()
        self.enlargements = _ENLARGEMENTS[scale]
        if latents < sum(factor**2 for factor in self._factors()):
            raise ValueError("a detail branch needs an upsampler on pixels, without an autoencoder")
        width = _WIDTHS[0]
        self.stem = nn.Conv2d(features + 3, width, 3, padding=1)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(_BLOCKS))
        pairs = list(zip(_WIDTHS, _WIDTHS[1:], strict=False))[: len(self.enlargements)]
        self.enlarged = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(b, b, 3, padding=1))
            for a, b in pairs
        )
        widths = [width, *(b for _, b in pairs)]
        self.noise_strengths = nn.ParameterList(torch.zeros(each, 1, 1) for each in widths)
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1)
        nn.init.zeros_(self.to_rgb.weight)  # a new branch changes nothing
        assert self.to_rgb.bias is not None
        nn.init.zeros_(self.to_rgb.bias)

    def forward(self, features: Tensor, lr: Tensor, noise: Tensor) -> Tensor:
        """Draw the detail at full strength.

        Args:
            features: (B, features, h, w).
            lr: (B, 3, h, w), range [-1, 1].
            noise: (B, latents, h, w), standard normal: the noise that the chain starts from. Pixel shuffles of its
                channels are the noise at each size, so tiles that share the noise share the detail.

        Returns:
            (B, 3, h * scale, w * scale), to be added to an image in [-1, 1].
        """
        planes = self._planes(noise)
        x = self.stem(channels_last(torch.cat([features, lr], dim=1)))
        x = x + (self.noise_strengths[0] * planes[0]).to(x.dtype)  # else autocast goes on in float32, which is slower
        for block in self.blocks:
            x = block(x)
        for factor, convolve, strength, plane in zip(
            self.enlargements, self.enlarged, list(self.noise_strengths)[1:], planes[1:], strict=True
        ):
            x = F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
            x = convolve(x)
            x = F.leaky_relu(x + (strength * plane).to(x.dtype), 0.2)
        return self.to_rgb(x)

    def _factors(self) -> list[int]:
        """Return the size of each grid that gets noise, over that of the LR."""
        factors = [1]
        for enlargement in self.enlargements:
            factors.append(factors[-1] * enlargement)
        return factors

    def _planes(self, noise: Tensor) -> list[Tensor]:
        """Shuffle channels of the noise on the LR grid into one plane of noise for each size."""
        planes, first = [], 0
        for factor in self._factors():
            planes.append(F.pixel_shuffle(noise[:, first : first + factor**2], factor))
            first += factor**2
        return planes


class _Block(nn.Module):
    """Apply a residual block, near the identity at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            self.conv2.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))
