"""ProjectedCritic: a discriminator that sees images through frozen pretrained features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from degrade.perceptual.pretrained_features import CHANNELS, STRIDES, PretrainedFeatures

_WIDTH = 64  # channels of the heads on features
_PIXEL_WIDTH = 32  # of the head on pixels, which has by far the most positions
_FINE_GAIN = 8.0  # brings the finest band of a photograph, some hundredths, to the range of the image


class ProjectedCritic(nn.Module):
    """Judge images by heads on pretrained features, and by one head on the pixels (Projected GANs, arXiv 2111.01007).

    A critic that learns to see from a few hundred photographs costs more fidelity than it gives; one whose eyes come
    trained finds blur and false texture at once. The features begin at stride 2 and do not see single pixels, and a
    generator would leave a chequer there; so one head looks at the pixels themselves, and `forward` takes the corner at
    which the image is cut, because the features' grid would otherwise always fall on the same pixels.

    Args:
        features: the frozen network; it is not part of this module's weights.
    """

    def __init__(self, features: PretrainedFeatures) -> None:
        super().__init__()
        self._features = (features,)  # in a tuple, so that neither checkpoints nor optimizers hold its weights
        self.heads = nn.ModuleList(_head(channels, _WIDTH) for channels in CHANNELS)
        self.pixel_head = _head(6, _PIXEL_WIDTH)

    def forward(self, image: Tensor, corner: tuple[int, int] = (0, 0)) -> list[Tensor]:
        """Judge images in [-1, 1]: (B, 3, H, W) -> logits (B, 1, h, w) of each head, where above 0 means real.

        Args:
            image: the images; both sides at least 32.
            corner: rows and columns, 0..15, to leave out at the top and at the left.
        """
        top, left = corner
        image = image[..., top:, left:]
        logits = [head(plane) for head, plane in zip(self.heads, self._features[0](image), strict=True)]
        fine = image - F.avg_pool2d(image, 3, stride=1, padding=1, count_include_pad=False)
        return [*logits, self.pixel_head(torch.cat([image, _FINE_GAIN * fine], dim=1))]


def draw_corner(generator: torch.Generator) -> tuple[int, int]:
    """Draw where critics cut the images of a batch, 0..15 rows and columns."""
    top, left = torch.randint(STRIDES[-1], (2,), generator=generator).tolist()
    return top, left


def _head(channels: int, width: int) -> nn.Sequential:
    """Build three convolutions; the spectral norm keeps the critic from winning by steepness alone."""
    return nn.Sequential(
        spectral_norm(nn.Conv2d(channels, width, 3, padding=1)),
        nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
        nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(width, 1, 3, padding=1)),
    )
