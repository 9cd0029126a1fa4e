"""Define BlockQuantiser, a layer that quantises blocks as JPEG does, with a strength that a code decides.

A convolution is slow to learn block edges, and never learns that a block loses all its fine detail at once. What JPEG
does is known (ITU-T T.81): it takes the cosine transform of every 8 x 8 block, divides it by a table, and rounds. So
this layer does the same, and only what differs between images is learned: how coarse the table is, and whether the
resolution of colour is halved first.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from degrade.networks.texture import ENERGY_FLOOR
from degrade.ops.border import repeat_border
from degrade.ops.compress import JPEG_BLOCK, RGB_TO_YCBCR, YCBCR_TO_RGB

BLOCK_DIM = 2 * (2 * JPEG_BLOCK - 1)
UNCOMPRESSED = 0.01  # the coarseness that means no compression; libjpeg's quality 99 has 0.02
HIDDEN = 64  # width of the layer that reads a code
# T.81, tables K.1 and K.2
LUMA_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA_STEPS = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * JPEG_BLOCK,) * 4,
)


class BlockQuantiser(nn.Module):
    """Quantise LR images as JPEG would, with a coarseness and a chroma resolution read from their codes.

    Args:
        code_dim: length of a code.
    """

    def __init__(self, code_dim: int) -> None:
        super().__init__()
        # 1x1 convolutions instead of Linear, because they give the same bits for one sample and for a batch.
        self.read = nn.Sequential(nn.Conv2d(code_dim, HIDDEN, 1), nn.SiLU(), nn.Conv2d(HIDDEN, 2, 1))
        last = self.read[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([math.log(UNCOMPRESSED), 0.0]))  # so an untrained layer changes nothing

    def strength(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Read the strength of the compression from a code.

        Args:
            code: (B, code_dim).

        Returns:
            The log of the coarseness (see `quantise_blocks`), (B,), where the log of `UNCOMPRESSED` or less means no
            compression; and the share of halved chroma, (B,), not yet clipped to 0..1.
        """
        log_coarseness, halved = self.read(code[:, :, None, None])[:, :, 0, 0].unbind(1)
        return log_coarseness, halved

    def forward(self, lr: Tensor, code: Tensor, *, strength: Tensor | float = 1.0) -> Tensor:
        """Quantise images with the strength that their codes ask for.

        The gradient passes straight through to ``lr``. None reaches ``code``: the gradient of a step size is mostly
        noise, and `degrade.training.losses.compression` teaches `strength` the true values that recipes know.

        Args:
            lr: (B, 3, h, w), range [-1, 1]; its corner is the corner of a block.
            code: (B, code_dim).
            strength: factor on the coarseness, a number or (B, 1, 1, 1).

        Returns:
            (B, 3, h, w), around [-1, 1].
        """
        log_coarseness, halved = (number.detach() for number in self.strength(code))
        coarseness = log_coarseness.exp() * torch.as_tensor(strength, device=code.device).detach().flatten()
        quantised = quantise_blocks(lr, coarseness.clamp(min=UNCOMPRESSED), halved.clamp(0, 1))
        return torch.where((coarseness > 1.1 * UNCOMPRESSED).view(-1, 1, 1, 1), quantised, lr)


def quantise_blocks(lr: Tensor, coarseness: Tensor, halved: Tensor) -> Tensor:
    """Quantise the block cosine transform of each image, as JPEG does.

    Args:
        lr: (B, 3, h, w), range [-1, 1].
        coarseness: factor on T.81's tables, (B,): 1 is libjpeg's quality 50, 2 is 25, 0.2 is 90.
        halved: share of the chroma that passes through half resolution, (B,), 0..1.

    Returns:
        (B, 3, h, w), around [-1, 1]; the gradient passes straight through.
    """
    height, width = lr.shape[-2:]
    with _no_autocast(lr):  # rounding to multiples needs more precision than bfloat16 has
        exact = lr if lr.dtype == torch.float64 else lr.float()
        padded = repeat_border(exact, 0, -width % (2 * JPEG_BLOCK), 0, -height % (2 * JPEG_BLOCK))
        ycbcr = _mix_channels(padded, RGB_TO_YCBCR)
        luma, chroma = ycbcr[:, :1], ycbcr[:, 1:]
        half_level = 1 / 255  # JPEG subtracts 128 from luma, but 0 in [-1, 1] is 127.5
        luma = _quantised(luma - half_level, LUMA_STEPS, coarseness) + half_level
        half = _quantised(F.avg_pool2d(chroma, 2), CHROMA_STEPS, coarseness)
        half = F.interpolate(half, scale_factor=2.0, mode="bilinear")
        whole = _quantised(chroma, CHROMA_STEPS, coarseness)
        share = halved.view(-1, 1, 1, 1)
        ycbcr = torch.cat([luma, whole + share * (half - whole)], dim=1)
        return _mix_channels(ycbcr, YCBCR_TO_RGB)[..., :height, :width].to(lr.dtype)


def _no_autocast(images: Tensor) -> AbstractContextManager[Any]:
    device = images.device.type  # "meta" has no autocast
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def block_statistics(luma: Tensor) -> Tensor:
    """Measure the log energy of the block cosine transform, on JPEG's grid and relative to a grid half a block away.

    Scenes, blur and noise do not depend on where blocks start, so only JPEG makes the two grids differ.

    Args:
        luma: (B, 1, h, w), range [0, 1], sides of at least 16; its corner is the corner of a block.

    Returns:
        (B, BLOCK_DIM): the mean log energy on each diagonal of frequencies, then the difference between the two grids.
    """
    height, width = (length // JPEG_BLOCK * JPEG_BLOCK for length in luma.shape[-2:])
    with _no_autocast(luma):  # the bands that JPEG empties are below bfloat16's precision
        luma = luma.float()
        on = _diagonals(luma[..., :height, :width])
        half = JPEG_BLOCK // 2
        off = _diagonals(luma[..., half : height - half, half : width - half])
        return torch.cat([on, on - off], dim=1)


def coarseness_of_quality(quality: float) -> float:
    """Compute the factor on T.81's tables that libjpeg uses for a quality of 1..100, before it rounds the tables."""
    return 50 / quality if quality < 50 else max(UNCOMPRESSED, 2 - quality / 50)


def _blocks(planes: Tensor) -> Tensor:
    """Split planes into blocks: (B, C, h, w) -> (B, C, h / 8, w / 8, 8, 8)."""
    n, channels, height, width = planes.shape
    rows, columns = height // JPEG_BLOCK, width // JPEG_BLOCK
    return planes.reshape(n, channels, rows, JPEG_BLOCK, columns, JPEG_BLOCK).transpose(3, 4)


def _diagonals(luma: Tensor) -> Tensor:
    """Average the log energy of the block cosine transform on each diagonal: (B, 1, h, w) -> (B, 15)."""
    basis = cosine_basis().to(luma)
    energy = ((basis @ _blocks(luma) @ basis.T) ** 2 + ENERGY_FLOOR).log().mean((1, 2, 3)).flatten(1)
    position = torch.arange(JPEG_BLOCK, device="cpu")
    diagonal = position[:, None] + position
    members = F.one_hot(diagonal.flatten(), 2 * JPEG_BLOCK - 1).to(luma)
    return energy @ (members / members.sum(0))


def _quantised(planes: Tensor, steps: tuple[tuple[int, ...], ...], coarseness: Tensor) -> Tensor:
    """Round the block cosine transform of planes, (B, C, h, w) in [-1, 1], to multiples of ``steps`` x coarseness.

    The steps are in grey levels.
    """
    basis, blocks = cosine_basis().to(planes), _blocks(planes)
    step = torch.tensor(steps, device="cpu").to(planes) * (2 / 255) * coarseness.to(planes).view(-1, 1, 1, 1, 1, 1)
    multiples = (basis @ blocks @ basis.T) / step
    rounded = multiples + (multiples.round() - multiples).detach()  # straight through
    blocks = basis.T @ (rounded * step) @ basis
    return blocks.transpose(3, 4).reshape(planes.shape)


def cosine_basis() -> Tensor:
    """Build the orthonormal DCT-II, (8, 8) float64; each row is a frequency."""
    k = torch.arange(JPEG_BLOCK, dtype=torch.float64, device="cpu")
    basis = (2 / JPEG_BLOCK) ** 0.5 * torch.cos(torch.pi / JPEG_BLOCK * k[:, None] * (k + 0.5))
    basis[0] /= 2**0.5
    return basis


def _mix_channels(images: Tensor, matrix: Sequence[Sequence[float]]) -> Tensor:
    weight = torch.tensor(matrix, dtype=torch.float64, device="cpu").to(images)
    return F.conv2d(images, weight[:, :, None, None])
