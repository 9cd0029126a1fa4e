"""Imitate faults of lenses: an image out of focus, and colours that are magnified differently."""

import math

import torch
from torch import Tensor

from degrade.ops.blur import blur, disk_kernel
from degrade.ops.light import linear_to_srgb, srgb_to_linear


def aperture_kernel(radius_px: Tensor, blades: int, angle_rad: Tensor) -> Tensor:
    """Build the kernels of an aperture with straight blades: regular polygons with a soft edge one pixel wide.

    Args:
        radius_px: distance from the centre to the corners, (B,), >= 0; 0 is the identity.
        blades: number of blades, 3 or more; 0 builds the disk of a round aperture.
        angle_rad: rotation of the polygons, (B,).

    Returns:
        Kernels, (B, k, k), each with sum 1; k fits the largest.
    """
    if blades == 0:
        return disk_kernel(radius_px)
    reach = math.ceil(float(radius_px.max()) + 0.5)
    offset = torch.arange(-reach, reach + 1, dtype=radius_px.dtype, device=radius_px.device)
    turns = torch.arange(blades, dtype=radius_px.dtype, device=radius_px.device) / blades
    normal = 2 * math.pi * turns + angle_rad.to(radius_px)[:, None]
    cos, sin = torch.cos(normal)[..., None, None], torch.sin(normal)[..., None, None]
    beyond = (cos * offset + sin * offset[:, None]).amax(1)  # distance from the centre, across the nearest side
    side = radius_px[:, None, None] * math.cos(math.pi / blades)
    kernels = (side + 0.5 - beyond).clamp(0, 1)
    return kernels / kernels.sum((-2, -1), keepdim=True)


def lens_blur(images: Tensor, radius_px: Tensor, blades: int, angle_rad: Tensor) -> Tensor:
    """Put images out of focus in linear light, so that bright points become bright disks.

    Args:
        images: sRGB, (B, C, H, W) in [0, 1].
        radius_px: radius of the aperture's image, (B,), >= 0.
        blades: see `aperture_kernel`.
        angle_rad: see `aperture_kernel`.

    Returns:
        sRGB, (B, C, H, W) in [0, 1]; differentiable in the images.
    """
    return linear_to_srgb(blur(srgb_to_linear(images), aperture_kernel(radius_px, blades, angle_rad)))


def lateral_aberration(images: Tensor, red_px: Tensor, blue_px: Tensor, axis: Tensor) -> Tensor:
    """Magnify red and blue differently from green, which draws coloured fringes that grow towards the corners.

    Args:
        images: RGB, (B, 3, H, W).
        red_px: displacement of red away from the lens's axis, at the distance of half a diagonal from it, (B,).
        blue_px: the same for blue.
        axis: place of the lens's axis, (B, 2) as y and x in half diagonals from the centre of the image; a crop from
            the corner of a photograph has its axis far away.

    Returns:
        RGB, (B, 3, H, W); differentiable in the images. Borders are repeated.
    """
    half = math.hypot(*images.shape[-2:]) / 2
    moved = []
    for image, *shifts, (axis_y, axis_x) in zip(images, red_px, blue_px, axis, strict=True):
        channels = []
        for channel, shift in zip((0, 2), shifts, strict=True):
            source = 1 / (1 + float(shift) / half)
            rows = _magnified(image[channel], 0, source, float(axis_y) * half)
            channels.append(_magnified(rows, 1, source, float(axis_x) * half))
        moved.append(torch.stack([channels[0], image[1], channels[1]]))
    return torch.stack(moved)


def _magnified(plane: Tensor, dim: int, source: float, axis_px: float) -> Tensor:
    """Sample one axis of (H, W) at ``source`` times the distance from the lens's axis, linearly interpolated."""
    side = plane.shape[dim]
    centre = (side - 1) / 2 + axis_px
    place = (centre + (torch.arange(side, dtype=torch.float64, device="cpu") - centre) * source).clamp(0, side - 1)
    before = place.floor().long()
    part = (place - before).to(plane).reshape((-1, 1) if dim == 0 else (1, -1))
    after = (before + 1).clamp(max=side - 1)
    first, second = (plane.index_select(dim, index.to(plane.device)) for index in (before, after))
    return first * (1 - part) + second * part
