import math

import pytest
import torch

from degrade.ops.blur import blur, disk_kernel, gaussian_kernel, motion_kernel, reflect_pad, sinc_kernel


def moments(kernel):
    """Measure the variance along x and y, and the covariance, in px^2."""
    axis = torch.arange(kernel.shape[-1], dtype=kernel.dtype) - kernel.shape[-1] // 2
    x, y = axis[None, :], axis[:, None]
    return (kernel * x * x).sum(), (kernel * y * y).sum(), (kernel * x * y).sum()


def one(value):
    return torch.tensor([value], dtype=torch.float64)


ALL_KERNELS = [
    gaussian_kernel(21, one(2.0)),
    gaussian_kernel(21, one([2.0, 0.7]), one(0.4), shape="generalized", beta=one(0.6)),
    gaussian_kernel(21, one([2.0, 0.7]), one(0.4), shape="plateau", beta=one(1.5)),
    sinc_kernel(21, one(math.pi / 3)),
    disk_kernel(one(3.3)),
    motion_kernel(one(7.0), one(0.5)),
]


@pytest.mark.parametrize("kernels", ALL_KERNELS)
def test_every_kernel_sums_to_one_and_is_point_symmetric(kernels):
    assert kernels.sum((-2, -1)) == pytest.approx(1, abs=1e-12)
    assert torch.allclose(kernels, kernels.flip(-2, -1))


def test_second_moment_of_a_gaussian_is_its_variance():
    x, y, xy = moments(gaussian_kernel(31, one(2.0))[0])
    assert (x, y, xy) == pytest.approx((4, 4, 0), abs=1e-3)


def test_principal_axis_of_a_turned_gaussian_is_its_angle():
    x, y, xy = moments(gaussian_kernel(41, one([3.0, 1.0]), one(0.5))[0])
    assert float(torch.atan2(2 * xy, x - y) / 2) == pytest.approx(0.5, abs=1e-3)
    assert float(x + y) == pytest.approx(9 + 1, abs=1e-2)


def test_generalized_gaussian_with_beta_one_is_the_gaussian_and_plateau_is_flatter():
    gaussian = gaussian_kernel(21, one(2.0))
    assert torch.allclose(gaussian_kernel(21, one(2.0), shape="generalized", beta=one(1.0)), gaussian)
    plateau = gaussian_kernel(21, one(2.0), shape="plateau", beta=one(2.0))[0]
    assert plateau[10, 11] / plateau[10, 10] > gaussian[0, 10, 11] / gaussian[0, 10, 10]


def test_sigma_zero_is_the_identity():
    expected = torch.zeros(7, 7, dtype=torch.float64)
    expected[3, 3] = 1
    assert torch.allclose(gaussian_kernel(7, one(0.0))[0], expected)


def test_sinc_kernel_passes_low_and_stops_high_frequencies():
    response = torch.fft.fft2(sinc_kernel(51, one(math.pi / 2))[0]).abs()[0]
    frequency_rad = 2 * math.pi * torch.fft.fftfreq(51, dtype=torch.float64).abs()
    assert response[frequency_rad < 0.35 * math.pi].min() > 0.85
    assert response[frequency_rad > 0.65 * math.pi].max() < 0.15


def test_sinc_kernel_rings_below_zero():
    assert sinc_kernel(21, one(math.pi / 3)).min() < -1e-3


def test_disk_is_flat_within_its_radius_and_empty_beyond():
    kernel = disk_kernel(one(3.0))[0]
    assert kernel.shape == (9, 9)
    assert kernel[4, 4] == kernel[4, 6] > 0
    assert kernel[0].sum() == 0
    assert float(1 / kernel[4, 4]) == pytest.approx(math.pi * 9, rel=0.03)


def test_motion_lies_along_its_angle():
    kernel = motion_kernel(one(7.0), one(0.0))[0]
    assert float(kernel[kernel.shape[0] // 2].sum()) == pytest.approx(1)
    x, y, _ = moments(motion_kernel(one(9.0), one(math.pi / 2))[0])
    assert y > 10 * x
    assert float(y) == pytest.approx(9**2 / 12, rel=0.15)


def test_every_sample_is_convolved_with_its_own_kernel():
    images = torch.rand(2, 3, 12, 14, generator=torch.Generator().manual_seed(0))
    identity = gaussian_kernel(5, torch.tensor([0.0]))[0]
    wide = gaussian_kernel(13, torch.tensor([2.0]))[0]
    out = blur(images, [identity, wide])
    assert torch.equal(out[:1], images[:1])
    assert torch.equal(out[1:], blur(images[1:], [wide]))
    assert out[1].std() < 0.5 * images[1].std()


def test_separable_path_agrees_with_plain_convolution():
    images = torch.rand(1, 3, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kernel = gaussian_kernel(21, one(2.5))
    padded = reflect_pad(images, 10)
    plain = torch.nn.functional.conv2d(padded, kernel.expand(3, 1, 21, 21), groups=3)
    assert torch.allclose(blur(images, kernel), plain, atol=1e-6)


@pytest.mark.parametrize("kernels", ALL_KERNELS)
def test_a_constant_image_stays_constant(kernels):
    images = torch.full((1, 3, 9, 9), 0.3, dtype=torch.float64)
    assert torch.allclose(blur(images, kernels), images, atol=2e-6)


def test_mirrored_borders_work_on_images_smaller_than_the_kernel():
    image = torch.tensor([[0.0, 1.0, 2.0]])[None, None]
    assert reflect_pad(image, 4)[0, 0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]
    assert blur(torch.ones(1, 3, 1, 2), gaussian_kernel(21, torch.tensor([3.0]))).shape == (1, 3, 1, 2)


def test_gradients_in_image_and_sigma_are_right():
    images = torch.rand(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    sigma_px = one(1.3).requires_grad_()
    beta = one(0.7).requires_grad_()
    assert torch.autograd.gradcheck(lambda i, s: blur(i, gaussian_kernel(5, s)), (images, sigma_px))
    assert torch.autograd.gradcheck(lambda s, b: gaussian_kernel(5, s, shape="generalized", beta=b), (sigma_px, beta))


def test_errors_say_the_way_out():
    with pytest.raises(ValueError, match="kernel size 20 is even, so it has no centre; use 21"):
        gaussian_kernel(20, torch.ones(1))
    with pytest.raises(ValueError, match="a plateau kernel needs beta"):
        gaussian_kernel(21, torch.ones(1), shape="plateau")
    with pytest.raises(ValueError, match="1 kernels for 2 images"):
        blur(torch.rand(2, 3, 8, 8), torch.ones(1, 3, 3))
