"""Read real pairs, taken with two lenses, and keep those that are aligned well enough to learn from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from degrade.files.sources import list_pairs
from degrade.images.alignment import subpixel_shift
from degrade.images.codec import read_image
from degrade.images.geometry import Rgb, crop_to_scale, reduce_by

MAX_SHIFT_LR = 0.5  # LR pixels; a pair with a larger shift would teach the network that shift
MIN_RESPONSE = 0.2  # below this response, the shift that `subpixel_shift` returns means nothing


def aligned_pairs(
    folders: Sequence[tuple[str, str]], *, scale: int, min_side: int
) -> tuple[list[tuple[Rgb, Rgb]], list[str]]:
    """Read the pairs with the right scale and a small shift, and match the brightness of each LR image to its HR.

    Args:
        folders: pairs of folders, (hr, lr).
        scale: HR side / LR side.
        min_side: smallest side of the LR images, in LR pixels.

    Returns:
        The usable pairs (hr, lr), where `crop_to_scale` has cut HR, and one sentence for each pair that is left out.
    """
    usable, left_out = [], []
    for hr_dir, lr_dir in folders:
        matched, unmatched = list_pairs(Path(hr_dir), Path(lr_dir))
        left_out += unmatched
        for hr_source, lr_source in matched:
            try:
                hr, lr = read_image(hr_source.read()), read_image(lr_source.read())
                hr = crop_to_scale(hr, lr, scale)
                _check(hr, lr, scale, min_side)
            except (ValueError, OSError) as err:
                left_out.append(f"{hr_source.name}: {err}")
            else:
                usable.append((hr, match_brightness(lr, reduce_by(hr, scale))))
    return usable, left_out


def _check(hr: Rgb, lr: Rgb, scale: int, min_side: int) -> None:
    dx, dy, response = subpixel_shift(reduce_by(hr, scale), lr)
    if response < MIN_RESPONSE:
        raise ValueError("too flat to tell whether LR and HR are aligned")
    if max(abs(dx), abs(dy)) > MAX_SHIFT_LR:
        raise ValueError(f"LR is shifted by ({dx:+.2f}, {dy:+.2f}) px against its HR")
    if min(lr.shape[:2]) < min_side:
        raise ValueError(f"LR is smaller than the crop, {min_side}")


def match_brightness(lr: Rgb, clean: Rgb) -> Rgb:
    """Undo the difference in exposure of a real pair.

    Gain and offset of each channel are measured on images reduced by 8, where neither noise nor sharpness changes the
    standard deviation.

    Args:
        lr: (h, w, 3) uint8 RGB.
        clean: the reduced HR image, with the shape of ``lr``.

    Returns:
        ``lr`` with the mean and, within limits, the contrast of ``clean``.
    """
    small_lr, small_clean = (reduce_by(image, 8).reshape(-1, 3).astype(np.float64) for image in (lr, clean))
    gain = np.clip((small_clean.std(0) + 1) / (small_lr.std(0) + 1), 0.8, 1.25)
    matched = (lr - small_lr.mean(0)) * gain + small_clean.mean(0)
    return np.clip(matched + 0.5, 0, 255).astype(np.uint8)
