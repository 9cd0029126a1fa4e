import pytest
import torch
import torch.nn.functional as F

from degrade.networks.texture import (
    FINE_DIM,
    LAGS,
    TEXTURE_DIM,
    fine_statistics,
    high_pass,
    low_pass,
    luma_chroma,
    texture_statistics,
)
from degrade.ops.compress import jpeg


def photo(photographs) -> torch.Tensor:
    return torch.from_numpy(photographs["chelsea"][:256, :256]).permute(2, 0, 1)[None].float() / 255


def log_mean(statistics: torch.Tensor, lag: tuple[int, int]) -> torch.Tensor:
    return statistics[:, 6 * LAGS.index(lag)]


def test_a_constant_image_has_no_texture() -> None:
    statistics = texture_statistics(torch.full((1, 3, 32, 32), 0.4))
    floor = torch.log(torch.tensor((0.5 / 255) ** 2))
    assert statistics.shape == (1, TEXTURE_DIM)
    assert torch.allclose(statistics[:, :-2], floor.expand(1, TEXTURE_DIM - 2), atol=1e-3)
    assert statistics[:, -2:].abs().max() < 1e-5


def test_white_noise_has_twice_its_variance_at_every_lag(normal) -> None:
    noise = 0.5 + 0.05 * normal(0, 1, 1, 128, 128).expand(-1, 3, -1, -1)
    statistics = texture_statistics(noise)
    for lag in LAGS:
        assert log_mean(statistics, lag).exp().item() == pytest.approx(2 * 0.05**2, rel=0.05)


def test_white_noise_keeps_its_variance_in_the_finest_octave(normal) -> None:
    noise = 0.5 + 0.05 * normal(0, 1, 1, 128, 128).expand(-1, 3, -1, -1)
    columns, rows = fine_statistics(noise).view(2, 6)
    assert fine_statistics(noise).shape == (1, FINE_DIM)
    assert columns[0].exp().item() == pytest.approx(0.05**2, rel=0.05)
    assert rows[0].exp().item() == pytest.approx(0.05**2, rel=0.05)


@pytest.mark.parametrize(("waves_per_px", "gain"), [(1 / 2, 64 / 20), (1 / 4, 8 / 20), (1 / 8, (2 - 2**0.5) ** 3 / 20)])
def test_a_wave_along_columns_shows_with_the_gain_of_a_third_difference_and_not_along_rows(waves_per_px, gain) -> None:
    wave = 0.2 * torch.cos(2 * torch.pi * waves_per_px * torch.arange(67) + 0.7)
    image = (0.5 + wave).expand(1, 3, 67, 67)
    columns, rows = fine_statistics(image).view(2, 6)
    power = wave[:64].square().mean().item()  # of whole periods
    assert columns[0].exp().item() == pytest.approx(gain * power, rel=1e-3)
    assert rows[0].exp().item() == pytest.approx((0.1 / 255) ** 2, rel=1e-3)


def test_a_faint_grain_on_a_soft_image_shows_in_the_finest_octave_alone(photographs, normal) -> None:
    soft = photo(photographs)
    for _ in range(4):
        soft = low_pass(soft)
    grain = soft + 0.3 / 255 * normal(0, *soft.shape)
    rise = fine_statistics(grain) - fine_statistics(soft)
    assert rise.min() > 0.5
    assert (texture_statistics(grain) - texture_statistics(soft)).max() < 0.5 * rise.min()


def test_noise_raises_and_blur_lowers_the_numbers(photographs, normal) -> None:
    clean = photo(photographs)
    base = texture_statistics(clean)
    noisy = texture_statistics((clean + 0.05 * normal(0, *clean.shape)).clamp(0, 1))
    blurred = texture_statistics(low_pass(clean))
    assert (noisy - base)[:, :-2].min() > 0 and (blurred - base)[:, :-2].mean() < -0.3


def test_stripes_show_as_a_difference_between_the_axes(normal) -> None:
    stripes = 0.5 + 0.05 * normal(0, 1, 1, 64, 1).expand(1, 3, 64, 64)
    statistics = texture_statistics(stripes)
    assert log_mean(statistics, (1, 0)) - log_mean(statistics, (0, 1)) > 5


def test_blocking_rises_with_jpeg_and_only_on_its_grid(photographs) -> None:
    clean = photo(photographs)
    harsh = jpeg(clean, [15])
    on_grid = (texture_statistics(harsh) - texture_statistics(clean))[:, -2:]
    shifted = texture_statistics(harsh[..., 3:, 3:])[:, -2:]
    assert (on_grid > 0.3).all() and (shifted < on_grid / 2).all()


@pytest.mark.parametrize("statistics", [texture_statistics, fine_statistics])
def test_numbers_are_differentiable(statistics) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 16, 16, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(statistics, (image,), atol=1e-4)


def test_grey_has_no_chroma() -> None:
    axes = luma_chroma(torch.rand(1, 1, 4, 4).expand(-1, 3, -1, -1))
    assert axes[:, 1:].abs().max() < 1e-6


def test_bands_add_up_and_the_low_one_keeps_constants(normal) -> None:
    image = normal(0, 1, 3, 16, 16)
    assert torch.allclose(low_pass(image) + high_pass(image), image, atol=1e-6)
    assert high_pass(torch.full((1, 3, 8, 8), 0.7)).abs().max() < 1e-6


def test_floor_is_below_half_a_grey_level() -> None:
    step = F.pad(torch.full((1, 3, 32, 16), 1 / 255), (16, 0))
    assert (texture_statistics(step) - texture_statistics(torch.zeros(1, 3, 32, 32)))[:, 0] > 0.05
