import math

import pytest
import torch
from skimage import data

from degrade.ops.screens import halftone, screentone


@pytest.fixture(scope="module")
def photo():
    return torch.from_numpy(data.astronaut()[100:196, 180:280].copy()).permute(2, 0, 1)[None].float() / 255


def flat(*colour, side=120):
    return torch.tensor(colour)[None, :, None, None].expand(1, 3, side, side)


@pytest.mark.parametrize("colour", [(0.5, 0.5, 0.5), (0.9, 0.2, 0.1), (0.05, 0.3, 0.7), (0.8, 0.8, 0.2)])
def test_halftone_keeps_the_mean_colour(colour):
    printed = halftone(flat(*colour), [4.3], [0.1])
    assert torch.allclose(printed.mean((2, 3))[0], torch.tensor(colour), atol=0.02)
    assert printed.std() > 0.2


@pytest.mark.parametrize("tone", [0.1, 0.35, 0.5, 0.8])
def test_the_area_of_a_screentones_dots_is_the_tone(tone):
    printed = screentone(flat(tone, tone, tone), [6.0], [math.pi / 4], [0.0], [1.0])
    assert float(printed.mean()) == pytest.approx(tone, abs=0.015)


def test_paper_and_full_ink_have_no_dots():
    for function in (lambda x: halftone(x, [5.0], [0.3]), lambda x: screentone(x, [5.0], [0.3], [0.2], [0.8])):
        for tone in (0.0, 1.0):
            assert torch.equal(function(flat(tone, tone, tone, side=31)), flat(tone, tone, tone, side=31))
    solid, clean = (screentone(flat(t, t, t), [5.0], [0.3], [0.2], [0.8]) for t in (0.19, 0.81))
    assert (solid.unique().tolist(), clean.unique().tolist()) == ([0.0], [1.0])


@pytest.mark.parametrize("angle_deg", [0, 30, 45])
@pytest.mark.parametrize("period_px", [4, 8])
def test_dots_have_their_distance_and_angle(period_px, angle_deg):
    printed = screentone(flat(0.5, 0.5, 0.5, side=240), [period_px], [math.radians(angle_deg)], [0.0], [1.0])[0, 0]
    spectrum = torch.fft.fft2(printed - printed.mean()).abs()[:120, :120]  # frequencies to the right and down
    y, x = divmod(int(spectrum.argmax()), 120)
    assert math.hypot(y, x) / 240 == pytest.approx(1 / period_px, rel=0.03)
    assert math.degrees(math.atan2(y, x)) % 90 == pytest.approx(angle_deg, abs=2)


def test_black_dots_are_round_and_turn_into_white_holes():
    light, dark = (screentone(flat(t, t, t, side=64), [16.0], [0.0], [0.0], [1.0])[0, 0] for t in (0.9, 0.1))
    assert light[0, 0] == light[16, 32] == 0 and light[8, 8] == 1
    assert dark[8, 8] == dark[24, 40] == 1 and dark[0, 0] == 0


def test_black_ink_is_for_shadows():
    skin = halftone(flat(0.9, 0.7, 0.6), [6.0], [0.0])[0]
    shadow = halftone(flat(0.2, 0.15, 0.15), [6.0], [0.0])[0]
    black = [float((each.amax(0) < 0.1).float().mean()) for each in (skin, shadow)]
    assert black[0] < 0.02 and black[1] > 0.5


def test_screentone_is_grey_and_samples_have_their_own_numbers(photo):
    batch = screentone(photo.repeat(2, 1, 1, 1), [4.0, 7.0], [0.5, 0.8], [0.1, 0.2], [0.9, 0.8])
    assert torch.equal(batch[:, 0], batch[:, 2])
    assert torch.equal(batch[1:], screentone(photo, [7.0], [0.8], [0.2], [0.8]))
    both = halftone(photo.repeat(2, 1, 1, 1), [4.0, 7.0], [0.5, 0.8])
    assert torch.equal(both[1:], halftone(photo, [7.0], [0.8]))


def test_the_gradient_passes_straight_through(photo):
    for function in (lambda x: halftone(x, [4.0], [0.0]), lambda x: screentone(x, [4.0], [0.0], [0.1], [0.9])):
        images = photo.clone().requires_grad_()
        weight = torch.rand_like(images)
        (function(images) * weight).sum().backward()
        assert torch.equal(images.grad, weight)
