"""Define DegradationEncoder, which reads from an LR image the code that tells how it was degraded."""

import torch
from torch import Tensor, nn

from degrade.networks.block_quantiser import BLOCK_DIM, block_statistics
from degrade.networks.texture import (
    TEXTURE_DIM,
    TEXTURE_PLANES,
    luma_chroma,
    scaled_texture,
    texture_planes,
    texture_statistics,
)


class DegradationEncoder(nn.Module):
    """Encode how an LR image was degraded, rather than what it shows, in a code of a few numbers.

    Args:
        code_dim: length of a code.
        widths: channels at the three levels of convolutions.
    """

    def __init__(self, code_dim: int = 16, widths: tuple[int, int, int] = (32, 64, 96)) -> None:
        super().__init__()
        first, second, third = widths
        self.features = nn.Sequential(
            nn.Conv2d(TEXTURE_PLANES, first, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(first, first, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(second, second, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(second, third, 3, stride=2, padding=1),
            nn.SiLU(),
        )
        self.head = nn.Sequential(
            nn.Linear(2 * third + TEXTURE_DIM + BLOCK_DIM, 2 * third), nn.SiLU(), nn.Linear(2 * third, 2 * code_dim)
        )

    def forward(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the distribution of each image's code (3.2).

        Args:
            lr: (B, 3, h, w), range [-1, 1], sides of at least 16; its corner is the corner of a JPEG block.

        Returns:
            The mean and the log-variance, (B, code_dim) each.
        """
        features = self.features(texture_planes(lr))
        # Noise changes the spread over the image; the mean alone would mostly describe the scene. Texture and blocks
        # are measured and passed on directly, because a small network is slow to learn logarithms of energies.
        spread = (features.var((2, 3)) + 1e-6).sqrt()
        public = (lr.float() + 1) / 2
        texture = scaled_texture(texture_statistics(public))
        blocks = block_statistics(luma_chroma(public)[:, :1]) / 4
        measured = torch.cat([texture, blocks], dim=1).to(features.dtype)
        mean, logvar = self.head(torch.cat([features.mean((2, 3)), spread, measured], dim=1)).chunk(2, dim=1)
        return mean, logvar.clamp(-8, 4)
