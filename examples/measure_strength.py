"""Measure for every look of a degrader how noise, softness and distance to the clean downsampling grow with strength.

    python examples/export_photos.py photos
    python examples/measure_strength.py --hr-dir photos --out strength.json

Prints the median curves, and how many looks break the rule that a larger strength means more.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from degrade import RealisticDegrader
from degrade.files.sources import list_sources
from degrade.images.crops import ImagePool
from degrade.images.tensors import to_tensors
from degrade.networks.texture import high_pass

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
FIGURES = ("noise", "distance", "softness")
SOFT = 0.1  # looks that remove less of the fine detail than this are no blur, and may sharpen


def figures(degrader: RealisticDegrader, hr: Tensor, code: Tensor, strength: float, seed: int) -> list[float]:
    """Measure one look at one strength.

    Returns:
        The standard deviation between draws and the distance to the clean downsampling, in grey levels, and the share
        of fine detail that is lost.
    """
    clean, generator = F.avg_pool2d(hr, degrader.config.scale), torch.Generator().manual_seed(seed)
    noise = torch.randn(2, *clean.shape, generator=generator)
    first, second = (degrader(hr, code[None], strength=strength, noise=each) for each in noise)
    fine = high_pass(clean)
    gain = (high_pass((first + second) / 2) * fine).mean() / (fine**2).mean()
    spread, apart = (first - second).std() / 2**0.5, (first - clean).square().mean().sqrt()
    return [float(spread) * 255, float(apart) * 255, 1 - float(gain)]


def breaks(curves: NDArray[np.float64], tolerance: float) -> int:
    """Count the curves, (looks, strengths), that fall by more than a tolerance somewhere."""
    return int((np.diff(curves, axis=1) < -tolerance).any(1).sum())


def main() -> None:
    """Measure, print, and write the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hr-dir", required=True)
    parser.add_argument("--degrader", default="tiny-x4")
    parser.add_argument("--looks", type=int, default=0, help="Looks of the bank to measure, evenly; 0 = all.")
    parser.add_argument("--crops", type=int, default=4)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    degrader = RealisticDegrader.from_pretrained(options.degrader).eval()
    side = 64 * degrader.config.scale
    hr = to_tensors(ImagePool.open(list_sources(options.hr_dir), min_side=side).crops(options.crops, side, seed=0))
    count = options.looks or len(degrader.bank)
    looks = degrader.bank[torch.linspace(0, len(degrader.bank) - 1, count).round().long()]
    with torch.inference_mode():
        rows = [[figures(degrader, hr, code, by, seed) for by in STRENGTHS] for seed, code in enumerate(looks)]
    table = np.array(rows)  # (looks, strengths, figures)
    for index, name in enumerate(FIGURES):
        print(name, " ".join(f"{value:.3g}" for value in np.median(table[:, :, index], axis=0)))
    blurs = table[:, STRENGTHS.index(1.0), 2] > SOFT
    report = {
        "looks": count,
        "noise falls": breaks(table[:, :, 0], 0.0),
        "distance falls": breaks(table[:, :, 1], 0.0),
        "looks that blur": int(blurs.sum()),
        "softness falls in those": breaks(table[blurs, :, 2], 1e-3),
    }
    print(json.dumps(report))
    curves = {name: table[:, :, index].round(4).tolist() for index, name in enumerate(FIGURES)}
    options.out.write_text(json.dumps({**report, "strengths": STRENGTHS, "curves": curves}))


if __name__ == "__main__":
    main()
