"""LrFeatures: a small network whose features say how an LR image is degraded; the space in which distances are taken.

Inception knows objects, needs a download, and sees little of grain and block edges. This net was trained to tell
classical recipes apart and to read how far an LR crop has moved from the clean downsampling of its scene. It sees the
high-pass band only, so the scene itself is mostly hidden from it. It has never seen a real LR image nor a sample of a
learned degrader, so it favours neither. ``examples/train_lr_features.py`` trains it.
"""

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from degrade.degrader import WEIGHTS_DIR
from degrade.images.tensors import Crops, to_tensors
from degrade.networks.texture import TEXTURE_DIM, high_pass
from degrade.networks.unet import phase_planes
from degrade.realism.distances import Array
from degrade.realism.sets import BATCH

WEIGHTS = WEIGHTS_DIR / "lr-features" / "lr_features.safetensors"
WIDTHS = (24, 32, 48)
FEATURES = 48
# The recipes it was trained to tell apart. The shipped weights have one output for each, so a new preset does not join.
FAMILIES = ("bicubic", "real-esrgan", "real-esrgan-light", "bsrgan", "neosr", "redux")


class LrFeatures(nn.Module):
    """Convolutions on the high-pass band and the 8x8 phase, pooled mean and spread, one hidden layer: the features."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.convolutions = nn.Sequential(
            nn.Conv2d(7, first, 3, padding=1), nn.SiLU(),
            nn.Conv2d(first, first, 3, padding=1), nn.SiLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(second, third, 3, stride=2, padding=1), nn.SiLU(),
        )  # fmt: skip
        self.hidden = nn.Linear(2 * third, FEATURES)
        self.change = nn.Linear(FEATURES, TEXTURE_DIM)
        self.family = nn.Linear(FEATURES, len(FAMILIES))
        self.mean = nn.Buffer(torch.zeros(FEATURES))
        self.spread = nn.Buffer(torch.ones(FEATURES))

    @classmethod
    def shipped(cls) -> "LrFeatures":
        """The weights that come with the package, frozen."""
        net = cls()
        net.load_state_dict(load_file(WEIGHTS))
        return net.eval().requires_grad_(False)

    def raw_features(self, band: Tensor) -> Tensor:
        """High-pass band, (B, 3, h, w) of images in [0, 1] -> (B, FEATURES), not yet standardised."""
        phase = phase_planes(*band.shape[-2:], device=band.device, dtype=band.dtype).expand(len(band), -1, -1, -1)
        planes = torch.cat([16 * band, phase], dim=1).contiguous(memory_format=torch.channels_last)
        maps = self.convolutions(planes).float()  # bfloat16 under autocast
        pooled = torch.cat([maps.mean((2, 3)), (maps.var((2, 3)) + 1e-6).sqrt()], dim=1)
        return torch.tanh(self.hidden(pooled).float())

    def forward(self, band: Tensor) -> Tensor:
        """Features with mean 0 and spread 1 over the training crops.

        Args:
            band: `high_pass` of LR images in [0, 1], (B, 3, h, w).

        Returns:
            (B, FEATURES).
        """
        return (self.raw_features(band) - self.mean) / self.spread

    def of_crops(self, crops: Crops) -> Array:
        """Features of 8-bit crops, (N, side, side, 3) -> (N, FEATURES)."""
        parts = [self(high_pass(to_tensors(crops[start : start + BATCH]))) for start in range(0, len(crops), BATCH)]
        return torch.cat(parts).double().numpy()
