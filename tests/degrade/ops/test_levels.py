import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from degrade.ops.levels import band, dither_diffused, dither_ordered, dither_palette

# with the largest error of a tone, in steps between two levels: 2 x 2 pixels have five tones
DITHERS = {
    "2x2": (lambda x, n: dither_ordered(x, [n], 2), 0.13),
    "8x8": (lambda x, n: dither_ordered(x, [n], 8), 0.03),
    "diffused": (lambda x, n: dither_diffused(x, [n]), 0.03),
}


@pytest.fixture(scope="module")
def photo():
    return torch.from_numpy(data.astronaut()[100:164, 180:250].copy()).permute(2, 0, 1)[None].float() / 255


def test_bands_are_the_nearest_levels(photo):
    banded = band(photo, [5])
    assert torch.equal(banded.unique() * 4, torch.arange(5.0))
    assert (banded - photo).abs().max() <= 1 / 8 + 1e-6
    ramp = torch.linspace(0, 1, 256)[None, None, None]
    assert band(ramp, [8]).unique_consecutive().numel() == 8


def test_256_levels_change_no_8_bit_image(photo):
    assert torch.allclose(band(photo, [256]), photo)


@pytest.mark.parametrize("name", DITHERS)
@pytest.mark.parametrize("levels", [2, 3, 6])
def test_dithering_has_few_levels_and_keeps_the_tone(name, levels):
    dither, tolerance = DITHERS[name]
    ramp = torch.linspace(0, 1, 128).expand(1, 3, 96, 128)
    dithered = dither(ramp, levels)
    assert torch.equal((dithered * (levels - 1)).round(), dithered * (levels - 1))
    assert dithered.unique().numel() == levels
    tones = dithered[..., 16:-16, :].unflatten(-1, (8, 16)).mean((1, 2, 4))
    wanted = ramp[..., 16:-16, :].unflatten(-1, (8, 16)).mean((1, 2, 4))
    assert (tones - wanted).abs().max() < tolerance / (levels - 1)
    assert (band(ramp, [levels]) - ramp).square().mean() < (dithered - ramp).square().mean()  # a pattern, not bands


def test_levels_themselves_are_kept_without_a_pattern():
    flat = torch.full((1, 1, 16, 16), 1 / 3)
    for dither, _ in DITHERS.values():
        assert torch.allclose(dither(flat, 4), flat)


def test_the_ordered_pattern_is_bayers_matrix():
    thresholds = torch.zeros(4, 4)
    for step in range(16):  # how many of the levels put ink on each place
        thresholds += dither_ordered(torch.full((1, 1, 4, 4), (step + 0.5) / 16), [2], 4)[0, 0]
    order = (16 - thresholds).int()
    expected = [[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]
    assert order.tolist() == expected


def test_diffusion_is_that_of_floyd_and_steinberg(photo):
    small = photo[..., 20:31, 5:20].double()
    values = small[0].permute(1, 2, 0).numpy().copy()
    height, width = values.shape[:2]
    for y in range(height):
        for x in range(width):
            old = values[y, x].copy()
            values[y, x] = np.floor(old.clip(0, 1) * 3 + 0.5) / 3
            for dy, dx, share in ((0, 1, 7), (1, -1, 3), (1, 0, 5), (1, 1, 1)):
                if y + dy < height and 0 <= x + dx < width:
                    values[y + dy, x + dx] += (old - values[y, x]) * share / 16
    assert np.allclose(dither_diffused(small, [4])[0].permute(1, 2, 0).numpy(), values)


def test_diffusion_into_two_levels_has_the_tones_of_pillows():
    grey = data.camera()[100:228, 100:260]
    pillow = np.asarray(Image.fromarray(grey).convert("1")).astype(float)
    ours = dither_diffused(torch.from_numpy(grey / 255)[None, None], [2])[0, 0].numpy()
    blocks = [each.reshape(16, 8, 20, 8).mean((1, 3)) for each in (pillow, ours)]
    assert np.abs(blocks[0] - blocks[1]).mean() < 0.02


def test_a_palette_has_its_number_of_colours_and_more_are_nearer(photo):
    few, many = (dither_palette(photo, [count]) for count in (8, 128))
    assert few[0].flatten(1).unique(dim=1).shape[1] <= 8 < many[0].flatten(1).unique(dim=1).shape[1] <= 128
    assert (many - photo).square().mean() < (few - photo).square().mean()


def test_every_sample_has_its_own_number(photo):
    for function in (band, dither_diffused, dither_palette, dither_ordered):
        batch = function(photo.repeat(2, 1, 1, 1), [4, 16])
        assert torch.equal(batch[1:], function(photo, [16]))
        assert not torch.equal(batch[0], batch[1])


@pytest.mark.parametrize("function", [band, dither_ordered, dither_diffused, dither_palette])
def test_the_gradient_passes_straight_through(photo, function):
    images = photo.clone().requires_grad_()
    weight = torch.rand_like(images)
    (function(images, [4]) * weight).sum().backward()
    assert torch.equal(images.grad, weight)
