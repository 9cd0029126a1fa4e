import pytest
import torch
import torch.nn.functional as F

from degrade import ClassicalDegrader, DegradationMix, RealisticDegrader, Recipe, online_pairs


@pytest.fixture
def hr(photographs):
    crops = [photographs["coffee"][y : y + 96, 100:228] for y in (0, 80, 160, 240)]
    return torch.stack([torch.from_numpy(crop).permute(2, 0, 1) for crop in crops]).float() / 255


@pytest.mark.parametrize("scale", [2, 4])
def test_both_images_of_a_pair_show_the_same_patch(hr, scale):
    clean = ClassicalDegrader("bicubic", scale=scale)
    patch, lr = online_pairs(hr, clean, crop=48, generator=torch.Generator().manual_seed(0))
    assert patch.shape == (4, 3, 48, 48) and lr.shape == (4, 3, 48 // scale, 48 // scale)
    assert patch.is_contiguous() and lr.is_contiguous()
    distance = (F.avg_pool2d(patch, scale) - lr).abs().mean()
    assert distance < 0.02
    assert all((F.avg_pool2d(patch, scale).roll(1, side) - lr).abs().mean() > 1.5 * distance for side in (2, 3))


def test_every_place_of_a_patch_is_drawn_for_each_image_alone():
    row = torch.arange(24.0)[:, None].expand(24, 24) / 255
    hr = torch.stack([row, row.T, torch.zeros(24, 24)])[None].expand(600, -1, -1, -1)

    def whole(images, generator):
        return F.avg_pool2d(images, 2)

    patch, _ = online_pairs(hr, whole, crop=16, generator=torch.Generator().manual_seed(0))
    places = {tuple((corner * 255).round().int().tolist()) for corner in patch[:, :2, 0, 0]}
    assert places == {(top, left) for top in (0, 2, 4, 6, 8) for left in (0, 2, 4, 6, 8)}


def test_lr_has_8_bits_and_passes_the_gradient(hr, tiny_degrader):
    hr.requires_grad_()
    whole, lr = online_pairs(hr, tiny_degrader)
    assert whole is hr and lr.shape == (4, 3, 24, 32)
    assert torch.equal((lr * 255).round() / 255, lr)
    lr.sum().backward()
    assert hr.grad.abs().sum() > 0


def test_options_reach_the_degrader_and_one_generator_draws_everything(hr, tiny_degrader):
    def pairs(seed):
        options = {"scale": 2, "out_of_range": "clamp", "generator": torch.Generator().manual_seed(seed)}
        return online_pairs(1.1 * hr, tiny_degrader, crop=32, **options)

    first, again, other = pairs(0), pairs(0), pairs(1)
    assert first[1].shape == (4, 3, 16, 16)
    assert all(map(torch.equal, first, again)) and not torch.equal(first[0], other[0])


def test_every_degrader_of_the_package_fits_and_the_global_generator_stays(hr, tiny_degrader):
    before = torch.get_rng_state()
    for layer in (tiny_degrader, DegradationMix(tiny_degrader, Recipe.preset("bsrgan")), ClassicalDegrader("bsrgan")):
        _, lr = online_pairs(hr, layer, crop=64)
        assert lr.shape == (4, 3, 16, 16)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("crop", [0, -4, 30, 100])
def test_a_crop_that_does_not_fit_is_refused(hr, crop):
    with pytest.raises(ValueError, match=rf"crop {crop} does not fit hr \(96, 128\); pass a multiple of 4 up to 96"):
        online_pairs(hr, ClassicalDegrader("bicubic"), crop=crop)


def test_padded_hr_is_refused_because_its_lr_shows_more(hr):
    degrader = RealisticDegrader(widths=(8, 8, 8), blocks=1)
    with pytest.raises(ValueError, match=r"hr \(94, 128\) is no whole multiple of lr \(24, 32\); crop hr"):
        online_pairs(hr[:, :, :94], degrader, pad=True)
