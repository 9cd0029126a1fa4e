"""Measure whether the output of a degrader is as soft as the look that it is told, from clean looks to very soft ones.

    python examples/measure_softness.py --hr-dir data/hr/cameras --degrader tiny-x4 --out softness.json

The LR is the clean downsampling of HR crops, blurred by a Gaussian and with white noise, so the truth is known. The
degrader makes LR of the same crops, told the look by the LR of another crop. The table compares both: the energy in the
top quarter of the spectrum and in the octave below Nyquist, made over true (1 is best), and the noise.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from degrade import RealisticDegrader
from degrade.files.sources import list_sources
from degrade.files.store import write_atomic
from degrade.images.crops import ImagePool
from degrade.images.geometry import Crops
from degrade.mix import DegradationMix
from degrade.realism.sets import clean_downsampling, codes_of, make_like
from degrade.realism.statistics import mean_spectrum, spectrum_frequencies, table_of

BLURS_PX = (0.0, 0.4, 0.7, 1.0, 1.4)  # standard deviations, LR pixels
NOISES = (0.0, 1.5)  # standard deviations, grey levels
TOP_QUARTER, TOP_OCTAVE = 3 / 8, 1 / 4  # lowest frequencies, cycles per pixel


def soft_lr(clean: Crops, blur_px: float, noise: float, rng: np.random.Generator) -> Crops:
    """Blur clean crops and add white noise, (N, side, side, 3) uint8."""
    lr = clean.astype(np.float32)
    if blur_px:
        lr = np.stack([cv2.GaussianBlur(crop, (0, 0), blur_px) for crop in lr])
    return np.clip(np.rint(lr + noise * rng.standard_normal(lr.shape)), 0, 255).astype(np.uint8)


def compare(hr: Crops, lr: Crops, mix: DegradationMix, seed: int) -> dict[str, float]:
    """Make LR of the crops, told the look by the LR of others, and compare it with the true LR.

    Args:
        hr: HR crops, (N, side * scale, side * scale, 3) uint8.
        lr: their LR, (N, side, side, 3) uint8, degraded alike.
        mix: the degrader.
        seed: seed of the noise.
    """
    made = make_like(hr, mix, codes_of(np.roll(lr, len(lr) // 2, axis=0), mix), seed)
    apart, frequencies = mean_spectrum(made) - mean_spectrum(lr), spectrum_frequencies()
    noise, true_noise = (float(np.median(table_of(crops)["noise_sigma"])) for crops in (made, lr))
    return {
        "top_quarter_energy_ratio": float(np.exp(apart[frequencies > TOP_QUARTER].mean())),
        "top_octave_energy_ratio": float(np.exp(apart[frequencies > TOP_OCTAVE].mean())),
        "noise": noise,
        "true_noise": true_noise,
    }


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hr-dir", type=Path, required=True)
    parser.add_argument("--degrader", default="tiny-x4", metavar="NAME|DIR")
    parser.add_argument("--crops", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", "-o", type=Path, required=True)
    options = parser.parse_args()
    degrader = RealisticDegrader.from_pretrained(options.degrader).eval()
    mix = DegradationMix(degrader, None, scale=degrader.config.scale)
    side = 64 * mix.scale
    hr = ImagePool.open(list_sources(options.hr_dir), min_side=side).crops(options.crops, side, options.seed)
    clean, rng = clean_downsampling(hr, mix.scale), np.random.default_rng(options.seed)
    rows = [
        {"blur_px": blur_px, "noise_added": noise} | compare(hr, soft_lr(clean, blur_px, noise, rng), mix, options.seed)
        for blur_px in BLURS_PX
        for noise in NOISES
    ]
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join(f"{value:.2f}" for value in row.values()) + " |", flush=True)
    write_atomic(options.out, json.dumps({"degrader": options.degrader, "rows": rows}, indent=1).encode())


if __name__ == "__main__":
    main()
