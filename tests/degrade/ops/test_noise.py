import pytest
import torch

from degrade.ops.light import linear_to_srgb, srgb_to_linear
from degrade.ops.noise import (
    camera_noise,
    film_grain,
    gaussian_noise,
    poisson_noise,
    standard_noise,
)

GREY = torch.full((1, 3, 128, 128), 0.5)


def lag_one(plane):
    plane = plane - plane.mean()
    return float((plane[:, 1:] * plane[:, :-1]).mean() / plane.square().mean())


def test_gaussian_noise_has_the_standard_deviation_of_its_sample():
    images = GREY.repeat(2, 1, 1, 1)
    noise = gaussian_noise(images, torch.tensor([10 / 255, 30 / 255]), [1, 2]) - images
    assert noise.std((1, 2, 3)).mul(255).tolist() == pytest.approx([10, 30], rel=0.02)
    assert noise.mean((1, 2, 3)).abs().max() < 1e-3


def test_same_seed_gives_the_same_noise_in_any_batch_and_dtype():
    alone = standard_noise(GREY, [7])
    in_batch = standard_noise(GREY.repeat(3, 1, 1, 1).double(), [5, 7, 9])
    assert torch.equal(alone[0], in_batch[1].float())
    assert not torch.equal(in_batch[0], in_batch[1])


def test_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    standard_noise(GREY, [7])
    assert torch.equal(before, torch.get_rng_state())


def test_grey_noise_is_equal_in_the_channels_and_rgb_noise_is_not():
    for noise in (
        gaussian_noise(GREY, torch.tensor([0.1]), [1], grey=True),
        poisson_noise(GREY, torch.ones(1), [1], grey=True),
    ):
        assert torch.equal(noise[:, 0], noise[:, 1])
        assert torch.equal(noise[:, 0], noise[:, 2])
    rgb = standard_noise(GREY, [1])[0]
    assert abs(float(torch.corrcoef(rgb.flatten(1))[0, 1])) < 0.03


def test_correlated_noise_is_as_strong_as_white_noise_up_to_the_border():
    noise = standard_noise(GREY, [3], correlation_px=1.0)[0]
    assert lag_one(noise[0]) == pytest.approx(0.78, abs=0.04)  # exp(-1 / (4 sigma^2))
    assert abs(lag_one(standard_noise(GREY, [3])[0, 0])) < 0.03
    assert float(noise.std()) == pytest.approx(1, rel=0.05)
    assert float(noise[:, 0].std()) == pytest.approx(1, rel=0.2)


def test_mixed_channels_have_the_covariance_of_their_matrix():
    mixing = torch.tensor([[0.5, 0.2, 0.0], [0.1, 0.6, 0.3], [0.0, 0.4, 0.2]])
    noise = standard_noise(GREY, [4], mixing=mixing)[0].flatten(1)
    assert torch.allclose(torch.cov(noise), mixing @ mixing.T, atol=0.02)


@pytest.mark.parametrize("level", [0.002, 0.05, 0.3, 0.9])
def test_poisson_noise_has_poisson_mean_and_variance(level):
    images = torch.full((1, 3, 256, 256), level, dtype=torch.float64)
    count = poisson_noise(images, torch.ones(1), [1]) * 256
    assert float(count.mean()) == pytest.approx(level * 256, rel=0.02)
    assert float(count.var()) == pytest.approx(level * 256, rel=0.02)


def test_poisson_noise_has_poisson_skewness_and_scales_with_its_strength():
    images = torch.full((1, 3, 256, 256), 8 / 256, dtype=torch.float64)
    deviation = (poisson_noise(images, torch.ones(1), [1]) - images).flatten()
    skewness = (deviation**3).mean() / deviation.var() ** 1.5
    assert float(skewness) == pytest.approx(8**-0.5, rel=0.1)
    tripled = (poisson_noise(images, torch.tensor([3.0]), [1]) - images).flatten()
    assert torch.allclose(tripled, 3 * deviation)


def camera(images, **changes):
    values = {"shot": torch.tensor([0.01]), "read": torch.tensor([1e-4]), "gains": torch.tensor([[2.0, 1.6]])}
    mosaic = changes.pop("mosaic", True)
    values |= changes
    return camera_noise(images, values["shot"], values["read"], values["gains"], [5], mosaic=mosaic)


def test_camera_noise_grows_with_light_as_shot_and_read_say():
    variances = []
    for light in (0.1, 0.5):
        images = linear_to_srgb(torch.full((1, 3, 128, 128), light, dtype=torch.float64))
        noisy = camera(images, shot=torch.tensor([0.004]), mosaic=False)
        variances.append(float(srgb_to_linear(noisy)[:, 1].var()))  # green has gain 1
        assert variances[-1] == pytest.approx(0.004 * light + 1e-4, rel=0.03)
    assert variances[1] > 3 * variances[0]


def test_camera_has_the_same_bytes_on_one_and_two_threads():
    images = torch.rand(1, 3, 254, 250, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        results.append(camera(images))
    torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_camera_without_noise_is_the_identity_on_flat_colour():
    images = torch.tensor([0.2, 0.5, 0.7], dtype=torch.float64)[None, :, None, None].expand(1, 3, 15, 18)
    silent = camera(images, shot=torch.zeros(1), read=torch.zeros(1))
    assert torch.allclose(silent, images, atol=1e-4)


def test_demosaicking_correlates_neighbours():
    images = GREY.double()
    assert lag_one(camera(images)[0, 0]) > 0.3
    assert abs(lag_one(camera(images, mosaic=False)[0, 0])) < 0.03


def test_gradients_in_image_and_strength_are_right():
    images = (torch.rand(1, 3, 4, 4, dtype=torch.float64) * 0.6 + 0.2).requires_grad_()
    strength = torch.tensor([0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, s: gaussian_noise(x, s, [1]), (images, strength))
    assert torch.autograd.gradcheck(lambda x, s: poisson_noise(x, s, [1], grey=True), (images, strength))
    assert torch.autograd.gradcheck(lambda x: camera(x), (images,))


def test_gradient_at_black_and_white_is_finite():
    images = torch.tensor([0.0, 1.0, 0.5])[None, :, None, None].repeat(1, 1, 8, 8).requires_grad_()
    (poisson_noise(images, torch.ones(1), [1]) + camera(images)).sum().backward()
    assert images.grad.isfinite().all()


def test_a_seed_too_few_is_named():
    with pytest.raises(ValueError, match="1 seeds for 2 images; pass one seed per sample"):
        standard_noise(torch.rand(2, 3, 8, 8), [1])


def test_grain_is_strongest_at_mid_grey_and_follows_the_binomial_law():
    for tone in (0.1, 0.5, 0.8):
        images = torch.full((1, 3, 256, 256), tone)
        grain = film_grain(images, torch.tensor([0.05]), [3], size_px=0.0) - images
        assert float(grain.std()) == pytest.approx(0.05 * 2 * (tone * (1 - tone)) ** 0.5, rel=0.02)
    for tone in (0.0, 1.0):
        images = torch.full((1, 3, 64, 64), tone)
        assert (film_grain(images, torch.tensor([0.05]), [3]) - images).std() < 0.0012


def test_grain_has_its_size_and_one_or_three_planes():
    sizes = []
    for size_px in (0.0, 0.6, 1.2):
        grain = film_grain(GREY, torch.tensor([0.1]), [5], size_px=size_px) - GREY
        assert float(grain.std()) == pytest.approx(0.1, rel=0.06)
        sizes.append(lag_one(grain[0, 0]))
    assert abs(sizes[0]) < 0.03 and 0.3 < sizes[1] < 0.6 < sizes[2]
    own = film_grain(GREY, torch.tensor([0.1]), [5]) - GREY
    shared = film_grain(GREY, torch.tensor([0.1]), [5], grey=True) - GREY
    assert torch.equal(shared[:, 0], shared[:, 2])
    assert abs(float((own[:, 0] * own[:, 2]).mean())) < 0.0005


def test_gradient_of_grain_is_right():
    images = (torch.rand(1, 3, 4, 4, dtype=torch.float64) * 0.6 + 0.2).requires_grad_()
    sigma = torch.tensor([0.1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, s: film_grain(x, s, [1]), (images, sigma))
    assert torch.autograd.gradcheck(lambda x, s: film_grain(x, s, [1], grey=True), (images, sigma))
