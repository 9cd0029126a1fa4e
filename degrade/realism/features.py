"""LrFeatures: a small network whose features describe how an LR image is degraded. KID and others compare them.

Inception features describe objects, need a download, and contain little about grain and block edges. This network was
trained to recognise classical recipes, and to regress how the texture statistics of an LR crop differ from those of
its clean downsampling. It sees only the high-pass band, which hides most of the scene. It was trained on neither real
LR images nor learned degraders, so it favours neither. ``examples/train_lr_features.py`` trains it.
"""

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from degrade.degrader import WEIGHTS_DIR
from degrade.images.geometry import Crops
from degrade.images.tensors import to_tensors
from degrade.networks.texture import TEXTURE_DIM, high_pass, phase_planes
from degrade.realism.distances import Array
from degrade.realism.sets import BATCH

WEIGHTS = WEIGHTS_DIR / "lr-features" / "lr_features.safetensors"
WIDTHS = (24, 32, 48)
FEATURES = 48
# The recipes that it was trained to recognise. The shipped weights have one output for each: do not add new presets.
FAMILIES = ("bicubic", "real-esrgan", "real-esrgan-light", "bsrgan", "neosr", "redux")


class LrFeatures(nn.Module):
    """Compute features from the high-pass band and the 8x8 phase: convolutions, pooled mean and spread, one layer."""

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
        """Load the weights that come with the package, frozen."""
        net = cls()
        net.load_state_dict(load_file(WEIGHTS))
        return net.eval().requires_grad_(False)

    def raw_features(self, band: Tensor) -> Tensor:
        """Compute features that are not yet standardised; see `forward` for the shapes."""
        phase = phase_planes(*band.shape[-2:], device=band.device, dtype=band.dtype).expand(len(band), -1, -1, -1)
        planes = torch.cat([16 * band, phase], dim=1).contiguous(memory_format=torch.channels_last)
        maps = self.convolutions(planes).float()  # bfloat16 under autocast
        pooled = torch.cat([maps.mean((2, 3)), (maps.var((2, 3)) + 1e-6).sqrt()], dim=1)
        return torch.tanh(self.hidden(pooled).float())

    def forward(self, band: Tensor) -> Tensor:
        """Compute features that have mean 0 and standard deviation 1 over the training crops.

        Args:
            band: `high_pass` of LR images in [0, 1], (B, 3, h, w).

        Returns:
            (B, FEATURES).
        """
        return (self.raw_features(band) - self.mean) / self.spread

    def of_crops(self, crops: Crops) -> Array:
        """Compute the features of 8-bit crops, (N, side, side, 3) -> (N, FEATURES)."""
        parts = [self(high_pass(to_tensors(crops[start : start + BATCH]))) for start in range(0, len(crops), BATCH)]
        return torch.cat(parts).double().numpy()
