"""Define FilmUNet, the small U-Net on the LR grid inside the degrader and the upsampler, and run it in tiles.

It has no normalisation over the image and no attention, so an output pixel depends only on the inputs within `RADIUS`
LR pixels. So tiles that overlap by `RADIUS` give exactly the same image as one large call, and the degradation does not
change with the size of the image.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from degrade.ops.compress import JPEG_BLOCK

UNET_STRIDE = 4  # LR pixels per pixel of the bottom level; the sides of the input must be multiples of it
TILE_GRID = math.lcm(UNET_STRIDE, JPEG_BLOCK)  # LR pixels; tiles that start on this grid stride as the whole image does
RADIUS = 48  # LR pixels from the centre to the edge of the receptive field, rounded up to TILE_GRID; a test measures it


class FilmBlock(nn.Module):
    """Apply a residual block whose hidden features are scaled and shifted by an embedding (FiLM, arXiv 1709.07871).

    Args:
        channels: channels of the input and the output.
        embedding_dim: channels of the embedding.
    """

    def __init__(self, channels: int, embedding_dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Conv2d(embedding_dim, 2 * channels, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            self.film.weight.mul_(0.3)  # not zero, because the effect of the code is slow to learn anyway
            self.conv2.weight.mul_(0.1)  # near the identity at the start, because there is no normalisation

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply the block: (B, C, H, W), (B, E, 1, 1) -> (B, C, H, W)."""
        scale, shift = self.film(embedding).chunk(2, dim=1)
        # In place where nothing needs the value before: large results are slow to allocate on a CPU.
        h = (self.conv1(F.silu(x)) * (1 + scale)).add_(shift)
        return self.conv2(F.silu(h, inplace=True)).add_(x)


class FilmUNet(nn.Module):
    """Map planes on the LR grid to planes on the LR grid, with a U-Net that an embedding conditions.

    It has three levels, at strides 1, 2 and 4; skip connections are added. The last convolution starts at zero.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        widths: channels at the three levels.
        blocks: residual blocks per level on the way down; the way up has one per level.
        embedding_dim: channels of the embedding.
    """

    def __init__(
        self, in_channels: int, out_channels: int, widths: tuple[int, int, int], blocks: int, embedding_dim: int
    ) -> None:
        super().__init__()
        top, middle, bottom = widths
        self.stem = nn.Conv2d(in_channels, top, 3, padding=1)
        self.top = nn.ModuleList(FilmBlock(top, embedding_dim) for _ in range(blocks))
        self.to_middle = nn.Conv2d(top, middle, 3, stride=2, padding=1)
        self.middle = nn.ModuleList(FilmBlock(middle, embedding_dim) for _ in range(blocks))
        self.to_bottom = nn.Conv2d(middle, bottom, 3, stride=2, padding=1)
        self.bottom = nn.ModuleList(FilmBlock(bottom, embedding_dim) for _ in range(blocks))
        self.from_bottom = nn.Conv2d(bottom, middle, 1)
        self.middle_up = FilmBlock(middle, embedding_dim)
        self.from_middle = nn.Conv2d(middle, top, 1)
        self.top_up = FilmBlock(top, embedding_dim)
        self.head = nn.Conv2d(top, out_channels, 3, padding=1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply the network: (B, in_channels, h, w), (B, E, 1, 1) -> (B, out_channels, h, w).

        The sides h and w must be multiples of `UNET_STRIDE`.
        """
        return self.with_features(x, embedding)[0]

    def with_features(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `forward` returns, and what the last convolution sees, before its activation.

        Returns:
            (B, out_channels, h, w), and (B, widths[0], h, w).
        """
        x = self.stem(channels_last(x))
        for block in self.top:
            x = block(x, embedding)
        skip_top = x
        x = self.to_middle(F.silu(x))
        for block in self.middle:
            x = block(x, embedding)
        skip_middle = x
        x = self.to_bottom(F.silu(x))
        for block in self.bottom:
            x = block(x, embedding)
        x = F.interpolate(self.from_bottom(F.silu(x)), scale_factor=2.0, mode="nearest").add_(skip_middle)
        x = self.middle_up(x, embedding)
        x = F.interpolate(self.from_middle(F.silu(x)), scale_factor=2.0, mode="nearest").add_(skip_top)
        features = self.top_up(x, embedding)
        return self.head(F.silu(features)), features


def channels_last(x: Tensor) -> Tensor:
    """Lay out a batch with its channels innermost, in which convolutions on a CPU are up to twice as fast."""
    try:
        return x.contiguous(memory_format=torch.channels_last)
    except RuntimeError:  # inside torch.func.vmap, which has no memory formats
        return x


def run_in_tiles(network: Callable[[slice, slice], Tensor], height: int, width: int, *, tile: int) -> Tensor:
    """Call a network on overlapping tiles, and join the parts that no pixel outside a tile can influence.

    Tiles overlap by the receptive field, so the result is exact and needs no blending.

    Args:
        network: takes slices of rows and columns, and returns (B, C, rows, columns).
        height: rows of the whole image, in LR pixels.
        width: columns of the whole image, in LR pixels.
        tile: side of the part that is kept of each tile, in LR pixels.

    Returns:
        (B, C, height, width).
    """
    if height <= tile + 2 * RADIUS and width <= tile + 2 * RADIUS:
        return network(slice(0, height), slice(0, width))
    step = max(TILE_GRID, tile // TILE_GRID * TILE_GRID)
    rows = []
    for top in range(0, height, step):
        above, below = max(0, top - RADIUS), min(height, top + step + RADIUS)
        row = []
        for left in range(0, width, step):
            before, behind = max(0, left - RADIUS), min(width, left + step + RADIUS)
            part = network(slice(above, below), slice(before, behind))
            row.append(part[..., top - above : top - above + step, left - before : left - before + step])
        rows.append(torch.cat(row, dim=-1))
    return torch.cat(rows, dim=-2)
