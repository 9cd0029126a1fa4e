import pytest
import torch
import torch.nn.functional as F

from degrade.networks.texture import LAGS, TEXTURE_DIM, high_pass, low_pass, luma_chroma, texture_statistics
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


def test_numbers_are_differentiable() -> None:
    image = torch.rand(1, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(texture_statistics, (image,), atol=1e-4)


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
