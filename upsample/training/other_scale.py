"""Start an upsampler of one scale from the weights of another."""

import torch
from torch import Tensor

from degrade.networks.unet import FilmUNet
from upsample.first_stage import PixelUnshuffle
from upsample.model import ResidualShiftUpsampler


def at_scale(upsampler: ResidualShiftUpsampler, scale: int) -> tuple[ResidualShiftUpsampler, str]:
    """Build an upsampler of another scale that starts with about the same images, reduced or enlarged.

    The U-Net works on the LR grid, so all of it is copied but its first and last convolutions: their channels are the
    ``scale`` x ``scale`` HR pixels under an LR pixel, and their weights are resized by area as small images of these
    pixels. So the new network puts out about the area-reduced image of the old one, which only saw the bicubic
    enlargement and the noise with finer pixels. A detail branch is for one scale, and is left out.

    Args:
        upsampler: computes in pixels, with our own U-Net.
        scale: HR side / LR side of the new one.

    Returns:
        The new upsampler, and a sentence that says what it has from the old one.

    Raises:
        ValueError: the upsampler computes in the latents of an autoencoder, or has a network of diffusers.
    """
    old = int(upsampler.config.scale)
    if not isinstance(upsampler.first_stage, PixelUnshuffle) or not isinstance(upsampler.unet, FilmUNet):
        raise ValueError(
            f"only an upsampler in pixels with our own U-Net can start another scale; train one for scale {scale} anew"
        )
    settings = {name: value for name, value in upsampler.config.items() if not name.startswith("_")}
    with torch.random.fork_rng(devices=[]):
        new = ResidualShiftUpsampler(**{**settings, "scale": scale, "detail": None})
    source, target = upsampler.unet.state_dict(), new.unet.state_dict()
    latents = upsampler.first_stage.channels
    pixels = _resized(source["stem.weight"][:, :latents].transpose(0, 1), old, scale).transpose(0, 1)
    # The inputs of several old pixels are about that of the one new pixel over them, so their weights are summed.
    stem = torch.cat([pixels * (old / scale) ** 2, source["stem.weight"][:, latents:]], dim=1)
    head = {f"head.{name}": _resized(source[f"head.{name}"], old, scale) for name in ("weight", "bias")}
    copied = {name: tensor for name, tensor in source.items() if tensor.shape == target[name].shape}
    new.unet.load_state_dict({**copied, "stem.weight": stem, **head})
    new.time_embedding.load_state_dict(upsampler.time_embedding.state_dict())
    branch = "" if upsampler.detail_branch is None else "; its detail branch is left out"
    return new, (
        f"the start is for scale {old}, not {scale}: its U-Net is copied, its first and last convolutions are resized "
        f"by area from {old}x{old} pixels to {scale}x{scale}, and the fixed noise is new{branch}"
    )


def _resized(weights: Tensor, old: int, new: int) -> Tensor:
    """Resize weights, (3 * old^2, ...), as images of old x old pixels, by the area that pixels share."""
    overlap = _overlap(old, new).to(weights)
    images = weights.reshape(3, old, old, -1)
    return torch.einsum("Ii,Jj,cijn->cIJn", overlap, overlap, images).reshape(3 * new**2, *weights.shape[1:])


def _overlap(old: int, new: int) -> Tensor:
    """Return (new, old): the share of each new pixel, of a row of them, that lies in each old one."""
    at, pixel = torch.arange(old) / old, torch.arange(new)[:, None] / new
    left, right = torch.maximum(at, pixel), torch.minimum(at + 1 / old, pixel + 1 / new)
    return (right - left).clamp(min=0) * new
