"""StopSignal: measure during training how far a degrader is from real LR, to decide when to stop.

Losses cannot show this, because an adversarial loss also depends on the critic. The signal is a short version of the
realism report on fixed crops, fast enough to compute every few hundred steps.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from degrade.degrader import RealisticDegrader
from degrade.files.sources import list_sources
from degrade.images.crops import ImagePool, list_lr
from degrade.mix import DegradationMix
from degrade.ops.compress import JPEG_BLOCK
from degrade.realism.distances import kid, wasserstein_1
from degrade.realism.features import LrFeatures
from degrade.realism.sets import make
from degrade.realism.statistics import STATISTICS, table_of

CROPS = 48
LR_SIDE = 64  # px


class StopSignal:
    """Measure distances of a degrader's images to real ones; smaller is better.

    Args:
        hr_dir: HR images to degrade: a folder, a text list or shards.
        lr_dirs: real LR images: folders, text lists or shards.
        scale: HR side / LR side.
        max_hr_side: see `degrade.images.crops.ImagePool`.

    Raises:
        ValueError: no image is large enough.
    """

    def __init__(self, hr_dir: str, lr_dirs: Sequence[str], *, scale: int, max_hr_side: int = 0) -> None:
        self.scale = scale
        photographs = ImagePool.open(list_sources(hr_dir), min_side=LR_SIDE * scale, max_side=max_hr_side)
        self.hr = photographs.crops(CROPS, LR_SIDE * scale, seed=0)
        real = ImagePool.open([source for folder in lr_dirs for source in list_lr(Path(folder))], min_side=LR_SIDE)
        crops = real.crops(CROPS, LR_SIDE, seed=0, grid=JPEG_BLOCK)
        self.features = LrFeatures.shipped()
        self.real_features, self.real_table = self.features.of_crops(crops), table_of(crops)

    def measure(self, degrader: RealisticDegrader) -> dict[str, float]:
        """Compute the distances of the degrader's images to the real ones.

        Returns:
            ``realism_kid``, the kernel distance of degradation features; ``realism_w1``, the mean Wasserstein-1
            distance of image statistics, in standard deviations of the real images.
        """
        made = make(self.hr, DegradationMix(degrader, None, scale=self.scale), seed=0)
        table = table_of(made)
        apart = [
            wasserstein_1(self.real_table[key], table[key]) / (self.real_table[key].std() + 1e-9) for key in STATISTICS
        ]
        return {
            "realism_kid": kid(self.real_features, self.features.of_crops(made)),
            "realism_w1": float(np.mean(apart)),
        }
