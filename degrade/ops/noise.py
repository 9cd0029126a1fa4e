"""Add noise: Gaussian, Poisson, grey, correlated between pixels or channels, film grain, and noise of a camera.

Every function transforms standard normal noise that depends only on the integer seed of its sample. So the result is
differentiable in the image and the strength, and the noise is the same on every device and in every batch.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.ops.blur import gaussian_kernel, reflect_pad
from degrade.ops.compress import LUMA_WEIGHTS
from degrade.ops.light import linear_to_srgb, srgb_to_linear
from degrade.seeds import torch_seed

_PHOTONS_AT_WHITE = 256  # Real-ESRGAN uses 2^ceil(log2(number of distinct levels)), which is 256 for a photograph


def standard_noise(
    images: Tensor,
    seeds: Sequence[int],
    *,
    correlation_px: float = 0.0,
    mixing: Tensor | None = None,
    grey: bool = False,
) -> Tensor:
    """Draw normal noise with mean 0 and variance 1 at each pixel, from one seed per sample.

    Args:
        images: (B, 3, H, W); the noise gets their size, type and device.
        seeds: B non-negative integers.
        correlation_px: sigma of the Gaussian that correlates neighbouring pixels; 0 gives white noise.
        mixing: (3, 3) matrix M that gives the channels the covariance M M^T; None keeps them independent.
        grey: draw one plane for the three channels.

    Returns:
        (B, 3, H, W), or (B, 1, H, W) if ``grey``; drawn on the CPU in float32 and then moved.

    Raises:
        ValueError: the number of seeds is not the number of samples.
    """
    if len(seeds) != len(images):
        raise ValueError(f"{len(seeds)} seeds for {len(images)} images; pass one seed per sample")
    height, width = images.shape[-2:]
    kernel = gaussian_kernel(2 * round(3 * correlation_px) + 1, torch.tensor([correlation_px], device="cpu"))[0]
    margin = kernel.shape[-1] - 1  # noise is drawn beyond the borders, so that they are as noisy as the centre
    shape = (1 if grey else 3, 1, height + margin, width + margin)
    generators = [torch.Generator().manual_seed(torch_seed(seed)) for seed in seeds]
    noise = torch.stack([torch.randn(shape, generator=generator, device="cpu") for generator in generators])
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
    """Add Gaussian noise with one standard deviation per sample.

    Args:
        images: (B, 3, H, W) in [0, 1].
        sigma: standard deviation in [0, 1] units, (B,).
        seeds: B non-negative integers.
        correlation_px: see `standard_noise`.
        mixing: see `standard_noise`.
        grey: see `standard_noise`.

    Returns:
        Noisy images, (B, 3, H, W), not clipped.
    """
    noise = standard_noise(images, seeds, correlation_px=correlation_px, mixing=mixing, grey=grey)
    return images + sigma.to(images)[:, None, None, None] * noise


def poisson_noise(images: Tensor, strength: Tensor, seeds: Sequence[int], *, grey: bool = False) -> Tensor:
    """Add the deviation of a photon count from its mean, times a strength (Real-ESRGAN's ``poisson_scale_range``).

    White is 256 photons, so the variance is strength^2 * image / 256. Instead of integers, this draws a quadratic
    function of normal noise (Cornish-Fisher). It has the mean and variance of the Poisson distribution exactly, and
    its skewness within 1 % from two photons on; it is several times faster than drawing integers, and differentiable.

    Args:
        images: (B, 3, H, W) in [0, 1].
        strength: factor on the deviation, (B,); 1 is a true photon count.
        seeds: B non-negative integers.
        grey: add the deviation of the luma to all three channels.

    Returns:
        Noisy images, (B, 3, H, W), not clipped.
    """
    mean = images.clamp(0, 1)
    if grey:
        mean = (mean * torch.tensor(LUMA_WEIGHTS, device="cpu").to(images)[:, None, None]).sum(1, keepdim=True)
    photons = (mean * _PHOTONS_AT_WHITE).clamp(min=1e-3)  # the clamp keeps the gradient of the root finite at black
    noise = standard_noise(images, seeds, grey=grey)
    skew = (photons / 2).sqrt().clamp(max=1 / 6)
    deviation = (photons - 2 * skew.square()).clamp(min=1e-12).sqrt() * noise + skew * (noise.square() - 1)
    return images + strength.to(images)[:, None, None, None] * deviation / _PHOTONS_AT_WHITE


def film_grain(
    images: Tensor, sigma: Tensor, seeds: Sequence[int], *, size_px: float = 0.8, grey: bool = False
) -> Tensor:
    """Add the grain of photographic film: clumps of a few pixels, strongest in the mid-tones.

    A tone p is a share p of the emulsion that lets light through, so its standard deviation is that of a binomial
    count, sigma * 2 sqrt(p (1 - p)): the full sigma at mid-grey, almost none at black and at white.

    Args:
        images: (B, 3, H, W) in [0, 1].
        sigma: standard deviation at mid-grey in [0, 1] units, (B,).
        seeds: B non-negative integers.
        size_px: sigma of the Gaussian that correlates neighbouring pixels, >= 0; larger is coarser.
        grey: add the same grain, that of the luma, to all three channels, as black-and-white film has it; False gives
            each channel its own, as the dye layers of colour film have it.

    Returns:
        Grainy images, (B, 3, H, W), not clipped.
    """
    tone = images.clamp(0, 1)
    if grey:
        tone = (tone * torch.tensor(LUMA_WEIGHTS, device="cpu").to(images)[:, None, None]).sum(1, keepdim=True)
    spread = 2 * (tone * (1 - tone)).clamp(min=1e-4).sqrt()  # the clamp keeps the gradient of the root finite at black
    noise = standard_noise(images, seeds, correlation_px=size_px, grey=grey)
    return images + sigma.to(images)[:, None, None, None] * spread * noise


def camera_noise(
    images: Tensor,
    shot: Tensor,
    read: Tensor,
    gains: Tensor,
    seeds: Sequence[int],
    *,
    mosaic: bool = True,
) -> Tensor:
    """Add noise as a camera does: undo a simple ISP, add shot and read noise to the raw values, apply the ISP again.

    The ISP is the white balance and the sRGB curve. A raw value x gets noise with variance shot * x + read (Brooks et
    al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019, section 3.1). An RGGB mosaic is then sampled and
    interpolated bilinearly, which gives the spatially correlated colour noise of real photographs.

    Args:
        images: sRGB, (B, 3, H, W) in [0, 1].
        shot: variance of the shot noise per unit of light, (B,).
        read: variance of the read noise, (B,).
        gains: white balance gains of red and blue relative to green, (B, 2), > 0.
        seeds: B non-negative integers.
        mosaic: sample and interpolate a Bayer mosaic; False leaves the noise white.

    Returns:
        sRGB images, (B, 3, H, W), in [0, 1]; highlights are clipped as on a sensor.
    """
    red, blue = gains.to(images).T
    gain = torch.stack([red, torch.ones_like(red), blue], 1)[:, :, None, None]
    raw = srgb_to_linear(images) / gain
    variance = shot.to(images)[:, None, None, None] * raw + read.to(images)[:, None, None, None]
    raw = raw + variance.clamp(min=1e-12).sqrt() * standard_noise(images, seeds)
    if mosaic:
        raw = _demosaic(raw)
    return linear_to_srgb((raw * gain).clamp(0, 1))


def _demosaic(raw: Tensor) -> Tensor:
    """Keep one colour per pixel (RGGB) and interpolate the others bilinearly."""
    height, width = raw.shape[-2:]
    row = torch.arange(height, device=raw.device)[:, None] % 2
    column = torch.arange(width, device=raw.device)[None] % 2
    kept = torch.stack([(row == 0) & (column == 0), row != column, (row == 1) & (column == 1)]).to(raw)
    sparse = [[0.25, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 0.25]]
    dense = [[0.0, 0.25, 0.0], [0.25, 1.0, 0.25], [0.0, 0.25, 0.0]]
    kernels = torch.tensor([sparse, dense, sparse], device="cpu").to(raw)[:, None]
    return F.conv2d(reflect_pad(raw * kept, 1), kernels, groups=3)  # mirrored borders keep the order of the mosaic
