"""Blur and sharpen images: one kernel per sample, and the convolution that applies it.

Gaussian, generalised Gaussian, plateau and sinc kernels follow Real-ESRGAN (arXiv 2107.10833, sections 3.1 and 3.3).
Disk and motion are the kernels that the deblurring literature uses for defocus and camera shake. Every kernel sums to
1, so a constant image stays constant.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.ops.compress import LUMA_WEIGHTS

KernelShape = Literal["gaussian", "generalized", "plateau"]

_MIN_SIGMA_PX = 0.05  # a narrower Gaussian is the identity on the pixel grid
_NEGLIGIBLE_MASS = 1e-6  # the border that is cut from a kernel weighs less than this, 1/4000 of an 8-bit level
_SEPARABLE_FROM_PX = 11  # measured: for smaller kernels, one 2-D pass is faster than two 1-D passes


def gaussian_kernel(
    size_px: int,
    sigma_px: Tensor,
    angle_rad: Tensor | None = None,
    *,
    shape: KernelShape = "gaussian",
    beta: Tensor | None = None,
) -> Tensor:
    """Build Gaussian, generalised Gaussian or plateau kernels, isotropic or rotated, differentiable in all parameters.

    With q = x^T S^-1 x, where S is the covariance, "gaussian" is exp(-q/2), "generalized" is exp(-q^beta/2) and
    "plateau" is 1/(1 + q^beta).

    Args:
        size_px: side of the kernels, odd.
        sigma_px: standard deviation, (B,) isotropic or (B, 2) along the rotated x and y axes; 0 is the identity.
        angle_rad: rotation of the axes, (B,); None means 0.
        shape: profile of the kernels.
        beta: exponent of the profile, (B,); required unless ``shape`` is "gaussian".

    Returns:
        Kernels, (B, size_px, size_px), each with sum 1.

    Raises:
        ValueError: ``size_px`` is even, or ``beta`` is missing.
    """
    x, y = _grid(size_px, sigma_px)
    sigma_x, sigma_y = sigma_px.clamp(min=_MIN_SIGMA_PX).reshape(len(sigma_px), -1)[:, [0, -1]].T[..., None, None]
    angle = torch.zeros_like(sigma_x) if angle_rad is None else angle_rad[:, None, None].to(sigma_px)
    along = torch.cos(angle) * x + torch.sin(angle) * y
    across = torch.cos(angle) * y - torch.sin(angle) * x
    q = (along / sigma_x) ** 2 + (across / sigma_y) ** 2
    if shape != "gaussian":
        if beta is None:
            raise ValueError(f"a {shape} kernel needs beta, got None; pass one exponent per sample")
        q = q.clamp(min=1e-12) ** beta[:, None, None].to(sigma_px)  # the clamp keeps the gradient at the centre finite
    return _normalised(1 / (1 + q) if shape == "plateau" else torch.exp(-q / 2))


def sinc_kernel(size_px: int, cutoff_rad: Tensor) -> Tensor:
    """Build circular ideal low-pass filters, which cause ringing and overshoot: w J1(w r) / (2 pi r).

    Args:
        size_px: side of the kernels, odd.
        cutoff_rad: cut-off frequency w in radians per pixel, (B,); pi is the Nyquist frequency.

    Returns:
        Kernels, (B, size_px, size_px), each with sum 1; not differentiable in the cut-off.

    Raises:
        ValueError: ``size_px`` is even.
    """
    x, y = _grid(size_px, cutoff_rad)
    w = cutoff_rad.detach()[:, None, None]
    radius = torch.hypot(x, y)
    centre = w**2 / (4 * math.pi)  # the limit of the formula at r = 0
    safe_radius = radius.clamp(min=0.5)
    ring = w * torch.special.bessel_j1(w * safe_radius) / (2 * math.pi * safe_radius)
    return _normalised(torch.where(radius == 0, centre, ring))


def disk_kernel(radius_px: Tensor) -> Tensor:
    """Build defocus kernels: disks with a soft edge one pixel wide.

    Args:
        radius_px: radius, (B,), >= 0; 0 is the identity.

    Returns:
        Kernels, (B, k, k), each with sum 1; k fits the largest disk.
    """
    x, y = _grid(2 * math.ceil(float(radius_px.max()) + 0.5) + 1, radius_px)
    return _normalised((radius_px[:, None, None] + 0.5 - torch.hypot(x, y)).clamp(0, 1))


def motion_kernel(length_px: Tensor, angle_rad: Tensor) -> Tensor:
    """Build linear motion kernels: segments one pixel wide with soft edges.

    Args:
        length_px: length of the segment, (B,), >= 1; 1 is the identity.
        angle_rad: angle from the x axis, (B,); positive angles turn towards +y, which is down.

    Returns:
        Kernels, (B, k, k), each with sum 1; k fits the longest segment.
    """
    x, y = _grid(2 * math.ceil(float(length_px.max()) / 2 + 0.5) + 1, length_px)
    angle = angle_rad[:, None, None].to(length_px)
    along = torch.cos(angle) * x + torch.sin(angle) * y
    across = torch.cos(angle) * y - torch.sin(angle) * x
    ends = (length_px[:, None, None] / 2 + 0.5 - along.abs()).clamp(0, 1)
    return _normalised(ends * (1 - across.abs()).clamp(min=0))


def blur(images: Tensor, kernels: Tensor | Sequence[Tensor]) -> Tensor:
    """Convolve each sample with its own kernel; borders are mirrored.

    Args:
        images: (B, C, H, W).
        kernels: (B, k, k), or B tensors with shapes (k_i, k_i); all sides are odd.

    Returns:
        Blurred images, (B, C, H, W); differentiable in both arguments.

    Raises:
        ValueError: the number of kernels is not the number of samples.
    """
    if len(kernels) != len(images):
        raise ValueError(f"{len(kernels)} kernels for {len(images)} images; pass one kernel per sample")
    blurred = [_convolve(image[None], kernel.to(image)) for image, kernel in zip(images, kernels, strict=True)]
    return torch.cat(blurred)


def _convolve(image: Tensor, kernel: Tensor) -> Tensor:
    kernel = _trimmed(kernel)
    channels, size = image.shape[1], kernel.shape[-1]
    if size == 1:
        return image * kernel
    padded = reflect_pad(image, size // 2)
    column, row = kernel.sum(1), kernel.sum(0)
    if size >= _SEPARABLE_FROM_PX and (torch.outer(column, row) - kernel).abs().max() < 1e-7:
        half = F.conv2d(padded, row.expand(channels, 1, 1, size), groups=channels)
        return F.conv2d(half, column[:, None].expand(channels, 1, size, 1), groups=channels)
    return F.conv2d(padded, kernel.expand(channels, 1, size, size), groups=channels)


def reflect_pad(image: Tensor, pad_px: int) -> Tensor:
    """Pad images by mirroring their borders, without repeating the edge pixel; the padding may exceed the image.

    Args:
        image: (B, C, H, W).
        pad_px: pixels added to each of the four sides.

    Returns:
        (B, C, H + 2 pad_px, W + 2 pad_px).
    """
    height, width = image.shape[-2:]
    if pad_px < min(height, width):
        return F.pad(image, (pad_px,) * 4, mode="reflect")
    rows, columns = (_mirrored_indices(side, pad_px).to(image.device) for side in (height, width))
    return image.index_select(-2, rows).index_select(-1, columns)


def _mirrored_indices(side: int, pad_px: int) -> Tensor:
    period = max(2 * (side - 1), 1)
    position = torch.arange(-pad_px, side + pad_px, device="cpu") % period
    return torch.minimum(position, (period - position) % period) if side > 1 else torch.zeros_like(position)


def _trimmed(kernel: Tensor) -> Tensor:
    """Cut the outer rings with negligible total weight: a sigma of 1 px does not need 21 x 21 taps."""
    radius = kernel.shape[-1] // 2
    offset = (torch.arange(-radius, radius + 1, device=kernel.device)).abs()
    ring = torch.maximum(offset[:, None], offset).flatten()
    mass = torch.zeros(radius + 1, device=kernel.device, dtype=kernel.dtype)
    mass = mass.index_add(0, ring, kernel.detach().abs().flatten())
    outside = mass.flip(0).cumsum(0)  # outside[i] is the weight of the i + 1 outermost rings
    cut = int((outside[:-1] < _NEGLIGIBLE_MASS).sum())
    return kernel[cut : kernel.shape[0] - cut, cut : kernel.shape[1] - cut]


def _grid(size_px: int, like: Tensor) -> tuple[Tensor, Tensor]:
    if size_px % 2 == 0:
        raise ValueError(f"kernel size {size_px} is even, so it has no centre; use {size_px + 1}")
    axis = torch.arange(size_px, dtype=like.dtype, device=like.device) - size_px // 2
    return axis[None, None, :], axis[None, :, None]


def _normalised(kernel: Tensor) -> Tensor:
    return kernel / kernel.sum((-2, -1), keepdim=True)


def unsharp_mask(images: Tensor, amount: Tensor, sigma_px: Tensor, threshold: Tensor | None = None) -> Tensor:
    """Add ``amount`` times the detail that a Gaussian blur removes, where that detail is strong.

    This is the USM of Real-ESRGAN (arXiv 2107.10833, section 4.1). The mask of strong detail is blurred too, so that
    sharpened and unchanged regions blend. Real-ESRGAN uses amount 0.5, sigma 8 px and threshold 10/255.

    Args:
        images: (B, C, H, W) in [0, 1].
        amount: strength, (B,); 0 is the identity.
        sigma_px: standard deviation of the blur, (B,).
        threshold: weaker detail, in [0, 1] units, is not sharpened, (B,); None sharpens everything.

    Returns:
        Sharpened images, (B, C, H, W) in [0, 1]; differentiable in the images, with the mask as a constant.
    """
    size_px = 2 * math.ceil(3 * float(sigma_px.max())) + 1
    kernels = gaussian_kernel(size_px, sigma_px)
    detail = images - blur(images, kernels)
    sharp = (images + amount.to(images)[:, None, None, None] * detail).clamp(0, 1)
    if threshold is None:
        return sharp
    strong = detail.detach().abs() > threshold.to(images)[:, None, None, None]
    return torch.lerp(images, sharp, blur(strong.to(images), kernels))


def halo(images: Tensor, amount: Tensor, sigma_px: Tensor, limit: Tensor) -> Tensor:
    """Draw bright and dark lines along edges, as the edge enhancement of scanners, players and DVDs does.

    The detail of the luma that a Gaussian blur removes is multiplied, limited, and added to all three channels; the
    limit makes wide flat lines of what would be thin peaks.

    Args:
        images: RGB, (B, 3, H, W) in [0, 1].
        amount: factor on the detail, (B,); 0 is the identity.
        sigma_px: standard deviation of the blur, (B,); the lines are about as wide.
        limit: largest change of a pixel in [0, 1] units, (B,).

    Returns:
        Images with halos, (B, 3, H, W) in [0, 1]; differentiable in the images.
    """
    luma = (images * torch.tensor(LUMA_WEIGHTS, device="cpu").to(images)[:, None, None]).sum(1, keepdim=True)
    detail = luma - blur(luma, gaussian_kernel(2 * math.ceil(3 * float(sigma_px.max())) + 1, sigma_px))
    bound = limit.to(images)[:, None, None, None]
    overshoot = torch.minimum(torch.maximum(amount.to(images)[:, None, None, None] * detail, -bound), bound)
    return (images + overshoot).clamp(0, 1)
