"""What a degradation must leave alone: colour, low frequencies and the place of things."""

import cv2
import numpy as np

from degrade.alignment import subpixel_shift
from degrade.lr_statistics import Array
from degrade.mix import DegradationMix
from degrade.realism_pairs import KnownPairs
from degrade.realism_sets import Crops, baselines, clean_downsampling, codes_of, make_like
from degrade.realism_unpaired import Figures

KNOWN_SHIFT = 0.5  # response of `subpixel_shift` above which its answer is believed


def fidelity(hr: Crops, made: dict[str, Crops], scale: int) -> Figures:
    """What must not change: colour, low frequencies, place; each set against the clean downsampling of its HR.

    Returns:
        ``colour_shift_delta_e`` (CIE76, of images reduced by 8), ``low_frequency_error`` (mean absolute difference of
        images reduced by 8, grey levels), ``shift_px`` (median length of the sub-pixel shift where it can be told).
    """
    clean = clean_downsampling(hr, scale)
    figures: Figures = {}
    for name, crops in made.items():
        colour, low, shifts = [], [], []
        for lr, reference in zip(crops, clean, strict=True):
            small, small_reference = (_reduced(image) for image in (lr, reference))
            low.append(np.abs(small - small_reference).mean())
            lab, lab_reference = (cv2.cvtColor(image / 255, cv2.COLOR_RGB2LAB) for image in (small, small_reference))
            colour.append(np.linalg.norm(lab - lab_reference, axis=2).mean())
            dx, dy, response = subpixel_shift(reference, lr)
            if response > KNOWN_SHIFT:
                shifts.append(np.hypot(dx, dy))
        values = {"colour_shift_delta_e": np.mean(colour), "low_frequency_error": np.mean(low)}
        if shifts:
            values["shift_px"] = np.median(shifts)
        for metric, value in values.items():
            figures.setdefault(metric, {})[name] = float(value)
    return figures


def fidelity_of_pairs(pairs: KnownPairs, mix: DegradationMix, *, seed: int) -> Figures:
    """`fidelity` of ours, the baselines, and of the real LR itself, which is not perfect either."""
    ours = make_like(pairs.hr, mix, codes_of(pairs.reference, mix), seed)
    made = {"real": pairs.lr, "ours_like": ours, **baselines(pairs.hr, mix.scale, seed)}
    return fidelity(pairs.hr, made, mix.scale)


def _reduced(image: Crops) -> Array:
    return np.asarray(cv2.resize(image.astype(np.float32), None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA))
