"""LrFeatures: a small network whose features say how an LR image is degraded; the space in which distances are taken.

Inception knows objects, needs a download, and sees little of grain and block edges. This net was trained to tell
classical recipes apart and to read how far an LR crop has moved from the clean downsampling of its scene. It sees the
high-pass band only, so the scene itself is mostly hidden from it. It has never seen a real LR image nor a sample of a
learned degrader, so it favours neither.

Train it again with::

    python -m degrade.lr_features HR_DIR OUT_DIR
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from degrade.bands import high_pass
from degrade.degrader import WEIGHTS_DIR
from degrade.mix import DegradationMix
from degrade.realism_sets import BATCH, Crops, ImagePool, clean_downsampling, make, to_tensors
from degrade.recipe import Recipe
from degrade.sources import list_sources
from degrade.texture import TEXTURE_DIM, texture_statistics
from degrade.unet import phase_planes

WEIGHTS = WEIGHTS_DIR / "lr-features" / "lr_features.safetensors"
FEATURES = 48
SIDE = 64  # of the crops it was trained on
# The recipes it was trained to tell apart. The shipped weights have one output for each, so a new preset does not join.
FAMILIES = ("bicubic", "real-esrgan", "real-esrgan-light", "bsrgan", "neosr", "redux")
HELD_OUT = 8  # every eighth photograph is for measuring


class LrFeatures(nn.Module):
    """Convolutions on the high-pass band and the 8x8 phase, pooled mean and spread, one hidden layer: the features."""

    def __init__(self, widths: tuple[int, int, int] = (24, 32, 48)) -> None:
        super().__init__()
        first, second, third = widths
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

    def of_crops(self, crops: Crops) -> NDArray[np.float64]:
        """Features of 8-bit crops, (N, side, side, 3) -> (N, FEATURES)."""
        parts = [self(high_pass(to_tensors(crops[start : start + BATCH]))) for start in range(0, len(crops), BATCH)]
        return torch.cat(parts).double().numpy()


def train_features(hr_dir: Path, out: Path, *, crops: int, steps: int, seed: int, scale: int = 4) -> dict[str, float]:
    """Train on recipes applied to crops of the photographs in ``hr_dir``.

    Returns:
        On photographs held out: ``change_r2``, the explained share of the change of texture against clean
        downsampling, and ``family_accuracy``, how often the recipe was named rightly.
    """
    pool = ImagePool.open(list_sources(hr_dir), min_side=SIDE * scale, max_side=3000)
    hr = pool.crops(crops, SIDE * scale, seed)
    family = torch.arange(crops) % len(FAMILIES)
    lr = np.empty((crops, SIDE, SIDE, 3), np.uint8)
    for number, name in enumerate(FAMILIES):
        own = (family == number).numpy()
        lr[own] = make(hr[own], DegradationMix(None, Recipe.preset(name), scale=scale), seed + number)
    images = to_tensors(lr)
    change = texture_statistics(images) - texture_statistics(to_tensors(clean_downsampling(hr, scale)))
    change = (change - change.mean(0)) / change.std(0)
    bands = high_pass(images)
    held_out = torch.arange(crops) * len(pool.sources) // crops % HELD_OUT == 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = LrFeatures()
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    trainable = torch.nonzero(~held_out)[:, 0]
    for _ in range(steps):
        rows = trainable[torch.randint(len(trainable), (32,), generator=generator)]
        batch = bands[rows]
        if torch.rand((), generator=generator) < 0.5:
            batch = batch.flip(3)  # block borders stay where they are: the side is a multiple of 8
        with torch.autocast("cpu", torch.bfloat16):  # twice as fast
            features = net.raw_features(batch)
        loss = F.mse_loss(net.change(features), change[rows]) + 0.3 * F.cross_entropy(
            net.family(features), family[rows]
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    net.eval().requires_grad_(False)
    features = torch.cat([net.raw_features(part) for part in bands.split(BATCH)])
    net.mean.copy_(features[~held_out].mean(0))
    net.spread.copy_(features[~held_out].std(0) + 1e-3)
    out.mkdir(parents=True, exist_ok=True)
    save_file(net.state_dict(), out / WEIGHTS.name)
    seen = features[held_out]
    unexplained = ((net.change(seen) - change[held_out]) ** 2).mean() / change[held_out].var(0).mean()
    accuracy = (net.family(seen).argmax(1) == family[held_out]).float().mean()
    return {"change_r2": 1 - float(unexplained), "family_accuracy": float(accuracy), "crops": crops, "steps": steps}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the feature network of `degrade eval`.")
    parser.add_argument("hr_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--crops", type=int, default=4200)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(train_features(given.hr_dir, given.out_dir, crops=given.crops, steps=given.steps, seed=given.seed))
