"""StopSignal: how far a degrader is from real LR while it trains, on fixed crops: when is it good enough to stop?

Losses do not tell: an adversarial one moves with its critic. This is the core of the realism report, small enough to
be taken every few hundred steps.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from degrade.degrader import RealisticDegrader
from degrade.files.sources import list_sources
from degrade.images.crops import ImagePool, list_lr
from degrade.mix import DegradationMix
from degrade.realism.distances import kid, wasserstein_1
from degrade.realism.features import LrFeatures
from degrade.realism.sets import make
from degrade.realism.statistics import STATISTICS, table_of

CROPS = 48
LR_SIDE = 64


class StopSignal:
    """Distances of a degrader's images to real ones; smaller is nearer.

    Args:
        hr_dir: photographs to degrade.
        lr_dirs: real LR photographs.
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
        crops = real.crops(CROPS, LR_SIDE, seed=0, grid=8)
        self.features = LrFeatures.shipped()
        self.real_features, self.real_table = self.features.of_crops(crops), table_of(crops)

    def measure(self, degrader: RealisticDegrader) -> dict[str, float]:
        """Kernel distance of degradation features, and the mean Wasserstein distance of blind measurements.

        The second is in standard deviations of the real images.
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
