"""Real pairs, taken with two lenses: those that fit well enough to learn from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from degrade.files.sources import list_pairs
from degrade.images.alignment import subpixel_shift
from degrade.images.codec import read_image
from degrade.images.geometry import Rgb, reduce_by

MAX_SHIFT_LR = 0.5  # LR pixels between the two images of a real pair, above which it teaches a shift
MIN_RESPONSE = 0.2  # of `subpixel_shift`, below which its answer means nothing


def aligned_pairs(
    folders: Sequence[tuple[str, str]], *, scale: int, min_side: int
) -> tuple[list[tuple[Rgb, Rgb]], list[str]]:
    """Read the pairs whose size ratio is the scale and whose shift is small; brightness is brought to the HR's.

    Args:
        folders: (hr, lr) each.
        scale: HR side / LR side.
        min_side: of the LR images, in LR pixels.

    Returns:
        (hr, lr) images, and a sentence for each pair that is left out.
    """
    usable, left_out = [], []
    for hr_dir, lr_dir in folders:
        matched, unmatched = list_pairs(Path(hr_dir), Path(lr_dir))
        left_out += unmatched
        for hr_source, lr_source in matched:
            try:
                hr, lr = read_image(hr_source.read()), read_image(lr_source.read())
                _check(hr, lr, scale, min_side)
            except (ValueError, OSError) as err:
                left_out.append(f"{hr_source.name}: {err}")
            else:
                usable.append((hr, match_brightness(lr, reduce_by(hr, scale))))
    return usable, left_out


def _check(hr: Rgb, lr: Rgb, scale: int, min_side: int) -> None:
    if (hr.shape[0], hr.shape[1]) != (lr.shape[0] * scale, lr.shape[1] * scale):
        raise ValueError(f"HR {hr.shape[:2]} is not {scale} x LR {lr.shape[:2]}")
    dx, dy, response = subpixel_shift(reduce_by(hr, scale), lr)
    if response < MIN_RESPONSE:
        raise ValueError("too flat to tell whether LR and HR are aligned")
    if max(abs(dx), abs(dy)) > MAX_SHIFT_LR:
        raise ValueError(f"LR is shifted by ({dx:+.2f}, {dy:+.2f}) px against its HR")
    if min(lr.shape[:2]) < min_side:
        raise ValueError(f"LR is smaller than the crop, {min_side}")


def match_brightness(lr: Rgb, clean: Rgb) -> Rgb:
    """Undo the exposure difference of a real pair: gain and offset per channel that bring lr to ``clean``.

    Measured on images reduced by 8, where neither noise nor sharpness changes the spread.
    """
    small_lr, small_clean = (reduce_by(image, 8).reshape(-1, 3).astype(np.float64) for image in (lr, clean))
    gain = np.clip((small_clean.std(0) + 1) / (small_lr.std(0) + 1), 0.8, 1.25)
    matched = (lr - small_lr.mean(0)) * gain + small_clean.mean(0)
    return np.clip(matched + 0.5, 0, 255).astype(np.uint8)
