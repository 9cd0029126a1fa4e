"""Subsample the colour of images, as JPEG, television and video files do, without the blocks of a codec."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.ops.compress import RGB_TO_YCBCR, ChromaFormat

ChromaMatrix = Literal["bt601", "bt709", "bt2020"]
ChromaSiting = Literal["centre", "left"]
ChromaKernel = Literal["bilinear", "box"]

_STEP: dict[str, tuple[int, int]] = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2), "4:1:1": (1, 4)}
_LUMA_OF: dict[str, tuple[float, float, float]] = {  # ITU-R BT.709 and BT.2020 (non-constant luminance)
    "bt709": (0.2126, 0.7152, 0.0722),
    "bt2020": (0.2627, 0.6780, 0.0593),
}


def subsample_chroma(
    images: Tensor,
    chroma: ChromaFormat = "4:2:0",
    *,
    matrix: ChromaMatrix = "bt601",
    siting: ChromaSiting = "centre",
    enlarge: ChromaKernel = "bilinear",
) -> Tensor:
    """Average Cb and Cr over blocks and enlarge them again, as JPEG and video codecs do; differentiable.

    Args:
        images: RGB, (B, 3, H, W).
        chroma: size of the blocks, as rows x columns: 1x1 for 4:4:4, 1x2 for 4:2:2, 2x2 for 4:2:0, 1x4 for 4:1:1.
        matrix: what luma and chroma are: ITU-R BT.601 (JPEG, DVD), BT.709 (HD) or BT.2020 (UHD).
        siting: place of a chroma sample in its row of pixels: in the "centre" of its block (JPEG, MPEG-1) or on its
            "left" pixel (MPEG-2, H.264, HEVC). In the column it is the centre of the block for both.
        enlarge: "bilinear" interpolation, or "box", which repeats the samples as simple decoders do.

    Returns:
        RGB, (B, 3, H, W), with the luma of the input; saturated colours may leave [0, 1] slightly.
    """
    step_y, step_x = _STEP[chroma]
    height, width = images.shape[-2:]
    rows = RGB_TO_YCBCR if matrix == "bt601" else _ycbcr_matrix(*_LUMA_OF[matrix])
    to_ycbcr = torch.tensor(rows, dtype=torch.float64, device="cpu")
    ycbcr = F.conv2d(images, to_ycbcr.to(images)[:, :, None, None])
    padded = F.pad(ycbcr[:, 1:], (0, -width % step_x, 0, -height % step_y), mode="replicate")
    if siting == "left":
        small = _sample_left(F.avg_pool2d(padded, (step_y, 1)), step_x)
    else:
        small = F.avg_pool2d(padded, (step_y, step_x))
    if enlarge == "box":
        large = small.repeat_interleave(step_y, -2).repeat_interleave(step_x, -1)
    elif siting == "left":
        large = F.interpolate(_enlarge_left(small, step_x), size=padded.shape[-2:], mode="bilinear")
    else:
        large = F.interpolate(small, size=padded.shape[-2:], mode="bilinear")
    to_rgb = torch.linalg.inv(to_ycbcr).to(images)
    return F.conv2d(torch.cat([ycbcr[:, :1], large[..., :height, :width]], 1), to_rgb[:, :, None, None])


def _ycbcr_matrix(red: float, green: float, blue: float) -> list[list[float]]:
    """Build the matrix from RGB to Y, Cb and Cr from the weights of luma: Cb = (B - Y) / (2 - 2 blue), Cr alike."""
    luma = (red, green, blue)
    cb = [(float(channel == 2) - weight) / (2 - 2 * blue) for channel, weight in enumerate(luma)]
    cr = [(float(channel == 0) - weight) / (2 - 2 * red) for channel, weight in enumerate(luma)]
    return [list(luma), cb, cr]


def _sample_left(rows: Tensor, step: int) -> Tensor:
    """Average around every ``step``-th column with a triangle, [1 2 1] / 4 for two."""
    weights = step - torch.arange(1 - step, step, dtype=torch.float64, device="cpu").abs()
    kernel = (weights / weights.sum()).to(rows).expand(rows.shape[1], 1, 1, -1)
    padded = F.pad(rows, (step - 1, step - 1, 0, 0), mode="replicate")
    return F.conv2d(padded, kernel, stride=(1, step), groups=rows.shape[1])


def _enlarge_left(small: Tensor, step: int) -> Tensor:
    """Interpolate linearly between samples that lie on every ``step``-th column; the last one is repeated."""
    following = torch.cat([small[..., 1:], small[..., -1:]], -1)
    parts = [torch.lerp(small, following, part / step) for part in range(step)]
    return torch.stack(parts, -1).flatten(-2)
