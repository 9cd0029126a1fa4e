"""The check of a fit that needs no truth: pairs that the degrader makes with the looks of photographs held back."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from degrade.degrader import RealisticDegrader
from degrade.files.sources import list_sources
from degrade.images.crops import ImagePool
from degrade.images.tensors import to_image, to_tensors
from degrade.mix import DegradationMix, reference_codes
from upsample.metrics import psnr_y
from upsample.model import ResidualShiftUpsampler
from upsample.training.data import PairConfig

PAIRS, HR_SIDE = 48, 128  # of the check; the side in HR pixels
SURE = 2.0  # standard errors by which a gain has to lie above 0


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What one student gains over another on the same pairs, in dB of PSNR-Y.

    Attributes:
        mean: over the pairs.
        error: standard error of the mean.
    """

    mean: float
    error: float

    @property
    def counts(self) -> bool:
        """Tell whether it is a gain, and not luck."""
        return self.mean > SURE * self.error


def gain_on_made_pairs(
    before: ResidualShiftUpsampler,
    after: ResidualShiftUpsampler,
    *,
    degrader: str,
    hr_dir: str,
    looks: Path,
    seed: int,
) -> Gain:
    """Compare two upsamplers, without their detail, on pairs made from HR crops with the looks of photographs.

    Args:
        before: the upsampler to compare with.
        after: the fitted one, of the same scale.
        degrader: shipped name, folder or hub id of the degrader that makes the LR.
        hr_dir: HR photographs, with sides of at least `HR_SIDE`.
        looks: a folder of LR photographs.
        seed: chooses crops, looks and noise.

    Raises:
        ValueError: no photograph is usable.
    """
    model = RealisticDegrader.from_pretrained(degrader).eval()
    codes = torch.tensor(reference_codes(model, looks))
    mix = DegradationMix(model, None, scale=before.config.scale, codes=codes)
    max_side = PairConfig.max_hr_side  # what training reduces to
    pool = ImagePool.open(list_sources(hr_dir), min_side=HR_SIDE, max_side=max_side)
    crops = pool.crops(PAIRS, HR_SIDE, seed)
    lr = mix.degrade_exactly(to_tensors(crops), mix.draw(range(seed, seed + PAIRS)))
    gains = []
    with torch.inference_mode():
        for one, hr in zip(lr.split(1), crops, strict=True):
            old, new = (psnr_y(to_image(each(one, detail=0.0)[0]), hr) for each in (before, after))
            gains.append(new - old)
    return Gain(mean=float(np.mean(gains)), error=float(np.std(gains, ddof=1) / len(gains) ** 0.5))
