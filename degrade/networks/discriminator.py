"""Define PatchDiscriminator, the critic of texture: D_L for LR images here, and D_H for SR images in `upsample`."""

from torch import Tensor, nn

from degrade.networks.texture import TEXTURE_PLANES, texture_planes


class PatchDiscriminator(nn.Module):
    """Judge for every patch of 13 x 13 pixels whether it looks real, given the code that the image should have.

    The input is `texture_planes`: the image, its high-pass band (as in DSGAN, to judge the degradation rather than the
    scene) and the phase in JPEG's blocks. The receptive field is small for the same reason.

    Args:
        code_dim: length of the code that conditions the verdict (by projection, arXiv 1802.05637); 0 disables it.
        width: channels of the first layer.
    """

    def __init__(self, code_dim: int = 0, width: int = 48) -> None:
        super().__init__()
        wide = 2 * width
        self.features = nn.Sequential(
            nn.Conv2d(TEXTURE_PLANES, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, wide, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(wide, wide, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(wide, wide, 3, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.verdict = nn.Conv2d(wide, 1, 1)
        self.projection = nn.Linear(code_dim, wide) if code_dim else None

    def forward(self, image: Tensor, code: Tensor | None = None) -> Tensor:
        """Judge images: (B, 3, h, w) in [-1, 1], (B, code_dim) -> logits (B, 1, h/2, w/2), where above 0 means real."""
        features = self.features(texture_planes(image))
        logits = self.verdict(features)
        if self.projection is None or code is None:
            return logits
        return logits + (features * self.projection(code)[:, :, None, None]).mean(1, keepdim=True)
