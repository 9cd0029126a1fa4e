"""Noise: Gaussian, Poisson, grey, correlated in space or between channels, and a camera's shot and read noise.

Every function is a reparametrisation of standard normal noise that depends on the sample's integer seed only:
differentiable in the image and the strength, the same noise on every device and in every batch.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.ops.blur import gaussian_kernel, reflect_pad
from degrade.ops.compress import LUMA_WEIGHTS

_PHOTONS_AT_WHITE = 256  # Real-ESRGAN counts 2^ceil(log2(distinct levels)): 256 for a photograph


def standard_noise(
    images: Tensor,
    seeds: Sequence[int],
    *,
    correlation_px: float = 0.0,
    mixing: Tensor | None = None,
    grey: bool = False,
) -> Tensor:
    """Normal noise of mean 0 and variance 1 per pixel, one seed per sample.

    Args:
        images: (B, 3, H, W), gives size, type and device.
        seeds: B non-negative integers.
        correlation_px: sigma of the Gaussian that correlates neighbours; 0 is white noise.
        mixing: (3, 3) matrix M that turns independent channels into ones with covariance M M^T; None for independent.
        grey: one plane shared by the three channels.

    Returns:
        (B, 3, H, W), or (B, 1, H, W) when ``grey``; drawn on the CPU in float32 and then moved.

    Raises:
        ValueError: there is not one seed per sample.
    """
    if len(seeds) != len(images):
        raise ValueError(f"{len(seeds)} seeds for {len(images)} images; pass one seed per sample")
    height, width = images.shape[-2:]
    kernel = gaussian_kernel(2 * round(3 * correlation_px) + 1, torch.tensor([correlation_px]))[0]
    margin = kernel.shape[-1] - 1  # drawn beyond the borders, so that they are as noisy as the middle
    shape = (1 if grey else 3, 1, height + margin, width + margin)
    noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    if margin:
        noise = F.conv2d(noise.flatten(0, 1), kernel[None, None]) / kernel.square().sum().sqrt()
    noise = noise.reshape(len(seeds), shape[0], height, width).to(images)
    return noise if mixing is None else F.conv2d(noise, mixing.to(images)[:, :, None, None])


def gaussian_noise(
    images: Tensor,
    sigma: Tensor,
    seeds: Sequence[int],
    *,
    correlation_px: float = 0.0,
    mixing: Tensor | None = None,
    grey: bool = False,
) -> Tensor:
    """Add Gaussian noise of a standard deviation per sample.

    Args:
        images: (B, 3, H, W) in [0, 1].
        sigma: standard deviation in [0, 1] units, (B,).
        seeds: B non-negative integers.
        correlation_px: as in ``standard_noise``.
        mixing: as in ``standard_noise``.
        grey: as in ``standard_noise``.

    Returns:
        Noisy images, (B, 3, H, W), not clipped.
    """
    noise = standard_noise(images, seeds, correlation_px=correlation_px, mixing=mixing, grey=grey)
    return images + sigma.to(images)[:, None, None, None] * noise


def poisson_noise(images: Tensor, strength: Tensor, seeds: Sequence[int], *, grey: bool = False) -> Tensor:
    """Add the deviation of a photon count from its mean, times a strength (Real-ESRGAN's ``poisson_scale_range``).

    The count at white is 256, so the variance is strength^2 * image / 256. The count is not drawn as an integer but as
    the quadratic of a normal (Cornish-Fisher) that has Poisson's mean and variance exactly and its skewness to 1 % from
    two photons on: several times faster than drawing integers, and differentiable.

    Args:
        images: (B, 3, H, W) in [0, 1].
        strength: factor on the deviation, (B,); 1 is a true photon count.
        seeds: B non-negative integers.
        grey: deviation of the luma, the same in the three channels.

    Returns:
        Noisy images, (B, 3, H, W), not clipped.
    """
    mean = images.clamp(0, 1)
    if grey:
        mean = (mean * torch.tensor(LUMA_WEIGHTS).to(images)[:, None, None]).sum(1, keepdim=True)
    photons = (mean * _PHOTONS_AT_WHITE).clamp(min=1e-3)  # keeps the slope of the root finite at black
    noise = standard_noise(images, seeds, grey=grey)
    skew = (photons / 2).sqrt().clamp(max=1 / 6)
    deviation = (photons - 2 * skew.square()).clamp(min=1e-12).sqrt() * noise + skew * (noise.square() - 1)
    return images + strength.to(images)[:, None, None, None] * deviation / _PHOTONS_AT_WHITE


def camera_noise(
    images: Tensor,
    shot: Tensor,
    read: Tensor,
    gains: Tensor,
    seeds: Sequence[int],
    *,
    mosaic: bool = True,
) -> Tensor:
    """Noise as a camera makes it: undo a simple ISP, add shot and read noise on the sensor, develop again.

    sRGB curve and white balance are undone; the raw value x gets variance shot * x + read (Brooks et al., "Unprocessing
    Images for Learned Raw Denoising", CVPR 2019, section 3.1); an RGGB mosaic is sampled and demosaicked bilinearly,
    which leaves the colour-blotched, spatially correlated noise of real photographs.

    Args:
        images: sRGB, (B, 3, H, W) in [0, 1].
        shot: shot noise variance per unit of light, (B,).
        read: read noise variance, (B,).
        gains: white balance gains of red and blue against green, (B, 2), > 0.
        seeds: B non-negative integers.
        mosaic: sample and interpolate a Bayer mosaic; False leaves the noise white.

    Returns:
        sRGB images, (B, 3, H, W), in [0, 1]; highlights clip as on a sensor.
    """
    red, blue = gains.to(images).T
    gain = torch.stack([red, torch.ones_like(red), blue], 1)[:, :, None, None]
    raw = srgb_to_linear(images) / gain
    variance = shot.to(images)[:, None, None, None] * raw + read.to(images)[:, None, None, None]
    raw = raw + variance.clamp(min=1e-12).sqrt() * standard_noise(images, seeds)
    if mosaic:
        raw = _demosaic(raw)
    return linear_to_srgb((raw * gain).clamp(0, 1))


def srgb_to_linear(images: Tensor) -> Tensor:
    """Undo the sRGB curve (IEC 61966-2-1): display values in [0, 1] to light in [0, 1], any shape."""
    images = images.clamp(0, 1)
    return torch.where(images <= 0.04045, images / 12.92, _power((images.clamp(min=0.04045) + 0.055) / 1.055, 2.4))


def linear_to_srgb(light: Tensor) -> Tensor:
    """Apply the sRGB curve (IEC 61966-2-1): light in [0, 1] to display values in [0, 1], any shape."""
    light = light.clamp(0, 1)
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * _power(light.clamp(min=0.0031308), 1 / 2.4) - 0.055)


def _power(values: Tensor, exponent: float) -> Tensor:
    """``values ** exponent`` in pieces too small for torch to share among threads.

    Its vector and scalar powers differ in the last bit, and which pixels fall to which depends on where threads split.
    """
    return torch.cat([piece**exponent for piece in values.flatten().split(16384)]).reshape(values.shape)


def _demosaic(raw: Tensor) -> Tensor:
    """Keep one colour per pixel (RGGB), interpolate the others bilinearly."""
    height, width = raw.shape[-2:]
    row, column = torch.arange(height)[:, None] % 2, torch.arange(width)[None] % 2
    kept = torch.stack([(row == 0) & (column == 0), row != column, (row == 1) & (column == 1)]).to(raw)
    sparse = [[0.25, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 0.25]]
    dense = [[0.0, 0.25, 0.0], [0.25, 1.0, 0.25], [0.0, 0.25, 0.0]]
    kernels = torch.tensor([sparse, dense, sparse]).to(raw)[:, None]
    return F.conv2d(reflect_pad(raw * kept, 1), kernels, groups=3)  # a mirrored border keeps the mosaic's parity
