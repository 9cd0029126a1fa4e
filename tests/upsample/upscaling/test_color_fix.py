"""Colour fixes: what each takes from the LR and what it leaves to the SR."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from upsample.upscaling.color_fix import color_fix, low_band


@pytest.fixture
def enlarged(normal: Callable[..., Tensor]) -> Tensor:
    """Something smooth, as enlarged LR is, far from the ends of the range."""
    return 0.5 + 0.5 * low_band(normal(0, 2, 3, 96, 120))


@pytest.fixture
def detail(normal: Callable[..., Tensor]) -> Tensor:
    return 0.02 * normal(1, 2, 3, 96, 120)


@pytest.mark.parametrize("method", ["none", "wavelet", "adain"])
def test_sr_with_the_colours_of_its_lr_stays(enlarged, method) -> None:
    assert torch.allclose(color_fix(enlarged, enlarged, method), enlarged, atol=1e-5)


def test_wavelet_takes_the_low_band_of_the_lr_and_keeps_the_detail(enlarged, detail) -> None:
    cast = torch.tensor([0.1, -0.05, 0.0]).view(3, 1, 1) + torch.linspace(0, 0.1, 120)  # varies over the image
    fixed = color_fix(enlarged + cast + detail, enlarged, "wavelet")
    inside = (..., slice(32, -32), slice(62, -32))
    assert (low_band(fixed) - low_band(enlarged))[inside].abs().max() < 2e-3
    high = detail - low_band(detail)
    assert (fixed - enlarged - high)[inside].abs().max() < 2e-3
    assert (fixed - enlarged - high).abs().max() < 0.05 < cast.abs().max()


def test_adain_takes_mean_and_spread_of_every_channel_and_image(enlarged, detail) -> None:
    fixed = color_fix(0.3 + 0.5 * enlarged + detail, enlarged, "adain")
    assert torch.allclose(fixed.mean((-2, -1)), enlarged.mean((-2, -1)), atol=1e-5)
    assert torch.allclose(fixed.std((-2, -1)), enlarged.std((-2, -1)), atol=1e-5)


@pytest.mark.parametrize("method", ["wavelet", "adain"])
def test_fixed_colours_stay_in_range_and_finite(normal, method) -> None:
    noise = (0.5 + normal(3, 1, 3, 40, 40)).clamp(0, 1)
    fixed = color_fix(noise, 1 - noise**4, method)
    assert fixed.min() >= 0 and fixed.max() <= 1
    for flat in (torch.zeros(1, 3, 1, 1), torch.full((1, 3, 7, 5), 0.5)):
        assert torch.allclose(color_fix(flat, flat + 0.25, method), flat + 0.25, atol=1e-5)


def test_the_low_band_is_that_of_stable_sr(normal) -> None:
    image = normal(4, 1, 3, 50, 60)
    expected = image
    for level in range(5):  # its kernel, dilated
        kernel = torch.tensor([[1.0, 2.0, 1.0]]).T @ torch.tensor([[1.0, 2.0, 1.0]]) / 16
        padded = torch.nn.functional.pad(expected, [2**level] * 4, mode="replicate")
        weight = kernel.expand(3, 1, 3, 3)
        expected = torch.nn.functional.conv2d(padded, weight, groups=3, dilation=2**level)
    assert torch.allclose(low_band(image), expected, atol=1e-6)


def test_mistakes_are_told_in_a_sentence(enlarged) -> None:
    with pytest.raises(ValueError, match="'hsv' is unknown; use none, wavelet, adain"):
        color_fix(enlarged, enlarged, "hsv")
    with pytest.raises(ValueError, match="differ in shape; enlarge the LR"):
        color_fix(enlarged, enlarged[..., 1:], "adain")
