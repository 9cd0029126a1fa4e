"""Turn HR images into latents on the LR grid and back, exactly (pixel-unshuffle) or by an autoencoder."""

from collections.abc import Mapping
from typing import Any

import diffusers
import torch.nn.functional as F
from torch import Tensor, nn

AUTOENCODERS = ("VQModel", "AutoencoderKL", "AutoencoderTiny")


class PixelUnshuffle(nn.Module):
    """Turn every block of ``scale`` x ``scale`` pixels into the channels of one pixel, exactly and without weights.

    Args:
        scale: HR side / LR side.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.channels = 3 * scale**2

    def encode(self, hr: Tensor) -> Tensor:
        """Rearrange pixels into channels: (B, 3, H, W) -> (B, 3 * scale^2, H / scale, W / scale)."""
        return F.pixel_unshuffle(hr, self.scale)

    def decode(self, latents: Tensor) -> Tensor:
        """Rearrange channels into pixels, the inverse of `encode`."""
        return F.pixel_shuffle(latents, self.scale)


class Autoencoder(nn.Module):
    """Wrap a frozen diffusers autoencoder whose latents lie on the LR grid, such as ResShift's VQ-f4.

    Args:
        config: ``_class_name`` (one of `AUTOENCODERS`) and the arguments of that class.
        scale: HR side / LR side; the autoencoder must reduce by this factor.

    Raises:
        ValueError: the class is unknown, or the autoencoder reduces by another factor.
    """

    def __init__(self, config: Mapping[str, Any], scale: int) -> None:
        super().__init__()
        name = config.get("_class_name")
        if name not in AUTOENCODERS:
            raise ValueError(f"autoencoder _class_name {name!r} is unknown; use one of {', '.join(AUTOENCODERS)}")
        self.model = getattr(diffusers, name).from_config(dict(config)).eval().requires_grad_(False)
        widths = self.model.config.get("block_out_channels") or self.model.config["encoder_block_out_channels"]
        if 2 ** (len(widths) - 1) != scale:
            raise ValueError(f"{name} with {len(widths)} blocks reduces by {2 ** (len(widths) - 1)}, not by {scale}")
        self.channels = int(self.model.config["latent_channels"])
        self.shift = float(self.model.config.get("shift_factor") or 0.0)
        self.factor = float(self.model.config.get("scaling_factor") or 1.0) if name == "AutoencoderKL" else 1.0

    def train(self, mode: bool = True) -> "Autoencoder":
        """Stay in evaluation mode, because the first stage is never trained here."""
        return super().train(False)

    def encode(self, hr: Tensor) -> Tensor:
        """Encode (B, 3, H, W) in [-1, 1] -> latents (B, channels, H / scale, W / scale), not yet quantised."""
        encoded = self.model.encode(hr)
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        return (latents - self.shift) * self.factor

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents -> (B, 3, H, W), about [-1, 1]; a VQModel quantises here, with straight-through gradients."""
        return self.model.decode(latents / self.factor + self.shift).sample


def build_first_stage(config: Mapping[str, Any] | None, scale: int) -> PixelUnshuffle | Autoencoder:
    """Build the first stage that a model's configuration describes; None means pixel-unshuffle."""
    return PixelUnshuffle(scale) if config is None else Autoencoder(config, scale)
