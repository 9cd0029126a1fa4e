import math

import pytest
import torch

from degrade.ops.blur import disk_kernel
from degrade.ops.lens import aperture_kernel, lateral_aberration, lens_blur
from degrade.ops.light import srgb_to_linear

ONE = torch.tensor([1.0], dtype=torch.float64)


def area(kernel):
    """Area of a shape with the constant height ``kernel.max()``."""
    return float(kernel.sum() / kernel.max())


@pytest.mark.parametrize("blades", [3, 5, 6, 8])
def test_an_aperture_has_the_area_of_its_polygon_and_sums_to_one(blades):
    kernel = aperture_kernel(20 * ONE, blades, 0.3 * ONE)
    assert float(kernel.sum()) == pytest.approx(1)
    polygon = blades / 2 * 20**2 * math.sin(2 * math.pi / blades)
    assert area(kernel) == pytest.approx(polygon, rel=0.03)


def test_apertures_have_the_symmetry_of_their_blades():
    square = aperture_kernel(9 * ONE, 4, 0.4 * ONE)[0]
    assert torch.allclose(square, torch.rot90(square))
    turned = aperture_kernel(9 * ONE, 6, (0.2 + math.pi / 3) * ONE)
    assert torch.allclose(turned, aperture_kernel(9 * ONE, 6, 0.2 * ONE))
    assert not torch.allclose(aperture_kernel(9 * ONE, 6, 0.7 * ONE), turned)


def test_many_blades_are_round_and_no_blades_are_the_disk():
    assert torch.equal(aperture_kernel(5 * ONE, 0, ONE), disk_kernel(5 * ONE))
    assert (aperture_kernel(5 * ONE, 60, ONE) - disk_kernel(5 * ONE)).abs().max() < 1e-3
    assert torch.allclose(aperture_kernel(0 * ONE, 5, ONE).amax(), ONE)


def test_a_bright_point_becomes_a_disk_that_keeps_its_light():
    night = torch.zeros(1, 3, 41, 41, dtype=torch.float64)
    night[..., 20, 20] = 1
    disk = srgb_to_linear(lens_blur(night, 6 * ONE, 0, ONE))
    assert float(disk.sum()) == pytest.approx(3)
    assert disk[..., 20, 20].allclose(disk[..., 20, 24])
    assert not disk[..., 20, 28].any()
    assert lens_blur(night, 6 * ONE, 0, ONE)[..., 20, 24].min() > 0.08  # 1/110 of the light is a tenth of white


def test_flat_images_stay_flat_and_radius_0_changes_nothing():
    flat = torch.full((1, 3, 24, 30), 0.3, dtype=torch.float64)
    assert torch.allclose(lens_blur(flat, 4 * ONE, 5, ONE), flat)
    image = torch.rand(1, 3, 24, 30, dtype=torch.float64)
    assert torch.allclose(lens_blur(image, 0 * ONE, 6, ONE), image)


def spot(y, x, side=101):
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 8).double().expand(1, 3, side, side)


def place(plane):
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in plane.shape)
    return float((plane.sum(1) * rows).sum() / plane.sum()), float((plane.sum(0) * columns).sum() / plane.sum())


def test_red_and_blue_move_along_the_ray_from_the_axis_and_green_stays():
    half = math.hypot(101, 101) / 2
    moved = lateral_aberration(spot(20, 80), 3 * ONE, -2 * ONE, torch.zeros(1, 2))[0]
    assert torch.equal(moved[1], spot(20, 80)[0, 1])
    for channel, shift in ((0, 3), (2, -2)):
        wanted = [50 + (coordinate - 50) * (1 + shift / half) for coordinate in (20, 80)]
        assert place(moved[channel]) == pytest.approx(wanted, abs=0.05)


def test_what_lies_on_the_axis_stays_in_place():
    axis = torch.tensor([[0.2, -0.4]], dtype=torch.float64)
    y, x = (50 + float(part) * math.hypot(101, 101) / 2 for part in axis[0])
    moved = lateral_aberration(spot(y, x), 4 * ONE, -4 * ONE, axis)[0]
    assert place(moved[0]) == pytest.approx((y, x), abs=0.05)
    away = lateral_aberration(spot(20, 80), 4 * ONE, -4 * ONE, axis)[0]
    assert abs(place(away[0])[1] - 80) > 1


def test_grey_edges_get_coloured_fringes_and_shift_0_changes_nothing():
    edge = (torch.arange(64) > 40).double().expand(1, 3, 64, 64)
    fringed = lateral_aberration(edge, 5 * ONE, -5 * ONE, torch.zeros(1, 2))
    assert (fringed[:, 0] - fringed[:, 2]).abs().max() > 0.5
    assert torch.equal(lateral_aberration(edge, 0 * ONE, 0 * ONE, torch.zeros(1, 2)), edge)


def test_gradients_are_right():
    images = (torch.rand(1, 3, 5, 6, dtype=torch.float64) * 0.6 + 0.2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: lens_blur(x, 1.5 * ONE, 5, ONE), (images,))
    assert torch.autograd.gradcheck(lambda x: lateral_aberration(x, ONE, -ONE, torch.zeros(1, 2)), (images,))
