import numpy as np
import pytest

from degrade.images.geometry import Rgb
from upsample.metrics import luma_y, psnr_y, ssim_y


def grey(value: int, side: int = 32) -> Rgb:
    return np.full((side, side, 3), value, np.uint8)


def test_y_runs_from_16_to_235() -> None:
    assert luma_y(grey(0, 1)) == 16 and luma_y(grey(255, 1)) == pytest.approx(235)
    red = np.array([[[255, 0, 0]]], np.uint8)
    assert luma_y(red)[0, 0] == pytest.approx(16 + 65.481)


def test_psnr_of_a_constant_error_is_its_formula() -> None:
    error = 10 * 219 / 255  # ten grey levels, on the scale of Y
    assert psnr_y(grey(100), grey(110)) == pytest.approx(20 * np.log10(255 / error))
    assert psnr_y(grey(100), grey(100)) == 100


def test_what_lies_in_the_border_does_not_count() -> None:
    hr = grey(100)
    sr = hr.copy()
    sr[:4] = sr[-4:] = 0
    sr[:, :4] = sr[:, -4:] = 0
    assert psnr_y(sr, hr) == 100 and ssim_y(sr, hr) == pytest.approx(1)
    assert psnr_y(sr, hr, crop_border=3) < 40


def test_ssim_is_one_for_equal_images_and_falls_with_noise(photographs) -> None:
    hr = np.ascontiguousarray(photographs["chelsea"][:96, :96])
    noisy = (hr + np.random.default_rng(0).normal(0, 20, hr.shape)).clip(0, 255).astype(np.uint8)
    assert ssim_y(hr, hr) == pytest.approx(1)
    assert ssim_y(noisy, hr) < 0.8


def test_sizes_that_do_not_fit_are_told_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="SR is 16x16, HR is 32x32; they must be equal"):
        psnr_y(grey(1, 16), grey(1, 32))
    with pytest.raises(ValueError, match="an image of 8x8 is too small without a border of 4 px"):
        psnr_y(grey(1, 8), grey(1, 8))
