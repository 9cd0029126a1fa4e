"""Validation during training: PSNR-Y and SSIM-Y on whole images, and a picture of some of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from degrade.images.contact_sheet import contact_sheet, encode_sheet
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
        val_psnr_y and val_ssim_y of the faithful image; the same of bicubic, val_bicubic_*, and with all of the detail,
        val_sharp_*, where there is a branch.
    """
    scores: dict[str, list[float]] = {}
    rows: list[list[Rgb]] = []
    border = upsampler.config.scale
    for hr, lr in pairs:
        with torch.inference_mode():
            tensor = to_tensor(lr).to(upsampler.device)
            made = {"val_bicubic": enlarge(tensor, upsampler.config.scale), "val": upsampler(tensor, detail=0)}
            if upsampler.detail_branch is not None and upsampler.config.steps == 1:
                made["val_sharp"] = upsampler(tensor, detail=1)
        images = {name: to_image(image[0]) for name, image in made.items()}
        for name, image in images.items():
            scores.setdefault(f"{name}_psnr_y", []).append(psnr_y(image, hr, border))
            scores.setdefault(f"{name}_ssim_y", []).append(ssim_y(image, hr, border))
        if len(rows) < SHEET_ROWS:
            rows.append(sheet_row(lr, list(images.values()), hr))
    if picture is not None:
        titles = ["LR", "bicubic", "SR", "sharp SR", "HR"] if len(rows[0]) == 5 else ["LR", "bicubic", "SR", "HR"]
        picture.write_bytes(encode_sheet(contact_sheet(rows, column_titles=titles)))
    return {name: float(np.mean(values)) for name, values in scores.items()}
