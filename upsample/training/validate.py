"""Validation during training: PSNR-Y and SSIM-Y on whole images, and a picture of some of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from degrade.images.codec import encode_image
from degrade.images.contact_sheet import contact_sheet
from degrade.images.geometry import Rgb
from degrade.images.tensors import to_image, to_tensor
from upsample.bicubic import enlarge
from upsample.evaluate import SHEET_ROWS, sheet_row
from upsample.metrics import psnr_y, ssim_y
from upsample.model import ResidualShiftUpsampler


def validate(
    upsampler: ResidualShiftUpsampler, pairs: Sequence[tuple[Rgb, Rgb]], picture: Path | None = None
) -> dict[str, float]:
    """Upscale whole LR images and compare with their HR, beside bicubic.

    Args:
        upsampler: called with its own number of steps.
        pairs: (hr, lr) images, as `aligned_pairs` gives them: without the pairs that lie apart, and with the LR's
            brightness brought to the HR's, so that the figures are a little above those of `upsample eval`.
        picture: a png to write: LR, bicubic, SR and HR of some.

    Returns:
        val_psnr_y, val_ssim_y, and the same of bicubic: val_bicubic_psnr_y, val_bicubic_ssim_y.
    """
    scores: list[tuple[float, float, float, float]] = []
    rows: list[list[Rgb]] = []
    border = upsampler.config.scale
    for hr, lr in pairs:
        with torch.inference_mode():
            tensor = to_tensor(lr).to(upsampler.device)
            sr = to_image(upsampler(tensor)[0])
            bicubic = to_image(enlarge(tensor, upsampler.config.scale)[0])
        scores.append(
            (psnr_y(sr, hr, border), ssim_y(sr, hr, border), psnr_y(bicubic, hr, border), ssim_y(bicubic, hr, border))
        )
        if len(rows) < SHEET_ROWS:
            rows.append(sheet_row(lr, [bicubic, sr], hr))
    if picture is not None:
        picture.write_bytes(encode_image(contact_sheet(rows, column_titles=["LR", "bicubic", "SR", "HR"]), "png"))
    names = ("val_psnr_y", "val_ssim_y", "val_bicubic_psnr_y", "val_bicubic_ssim_y")
    return dict(zip(names, np.mean(scores, axis=0).tolist(), strict=True))
