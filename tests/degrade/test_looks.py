"""Looks at other scales and strengths, and moved in directions that have names."""

import pytest
import torch
import torch.nn.functional as F

from degrade import RealisticDegrader
from degrade.adjustment import Adjustment
from degrade.mix import DegradationMix
from degrade.networks.texture import high_pass
from degrade.training.directions import find_directions

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)


@pytest.fixture(scope="module")
def degrader():
    return RealisticDegrader.from_pretrained("tiny-x4").eval().requires_grad_(False)


@pytest.fixture(scope="module")
def looks(degrader):
    """Every hundredth look of the bank."""
    return degrader.bank[::100]


@pytest.fixture(scope="module")
def hr(photographs):
    crops = [image[:192, :192] for image in photographs.values() if min(image.shape[:2]) >= 192][:2]
    return torch.stack([torch.tensor(crop).permute(2, 0, 1).float() / 255 for crop in crops])


def two_draws(degrader, hr, code, seed=0, **options):
    """Two LR images of the same look that differ in their noise alone."""
    draw = torch.Generator().manual_seed(seed)
    sides = [side // options.get("scale", 4) for side in hr.shape[-2:]]
    return [degrader(hr, code[None], noise=torch.randn(len(hr), 3, *sides, generator=draw), **options) for _ in "12"]


def noise_of(first, second):
    return float((first - second).std() / 2**0.5)


def softness(degraded, clean):
    """1 - the gain of fine detail: 0 is as sharp as the clean image, 1 has no detail."""
    fine, reference = high_pass(degraded), high_pass(clean)
    return 1 - float((fine * reference).mean() / (reference**2).mean())


def test_at_strength_0_every_look_is_exactly_the_clean_downsampling(degrader, hr, looks):
    for scale in (1, 2, 3, 4):
        clean = F.avg_pool2d(hr * 2 - 1, scale)
        for code in looks[:: 1 if scale == 4 else 3]:
            assert torch.equal(degrader(hr, code[None], scale=scale, strength=0), (clean + 1) / 2)


def test_strength_1_is_the_look(degrader, hr, looks):
    noise = torch.randn(len(hr), 3, 48, 48)
    assert torch.equal(degrader(hr, looks[:1], noise=noise, strength=1, grain=1), degrader(hr, looks[:1], noise=noise))


def test_noise_and_the_distance_to_clean_rise_with_strength_for_every_look(degrader, hr, looks):
    clean = F.avg_pool2d(hr, 4)
    for code in looks:
        draws = [two_draws(degrader, hr, code, strength=strength) for strength in STRENGTHS]
        noise = [noise_of(*pair) for pair in draws]
        distance = [float((first - clean).square().mean()) for first, _ in draws]
        assert noise == sorted(noise) and distance == sorted(distance)


def test_a_look_that_blurs_blurs_more_with_strength_and_never_turns_the_sign_of_detail(degrader, hr, looks):
    clean, blurring = F.avg_pool2d(hr, 4), 0
    for code in looks:
        draws = [sum(two_draws(degrader, hr, code, strength=strength)) / 2 for strength in STRENGTHS]
        soft = [softness(mean, clean) for mean in draws]
        if soft[4] > 0.2:
            blurring += 1
            assert soft == sorted(soft) and soft[-1] < 1.15
    assert blurring >= 3


def test_grain_changes_the_noise_alone(degrader, hr, looks):
    without, half, whole = (two_draws(degrader, hr, looks[0], grain=grain) for grain in (0, 0.5, 1))
    assert noise_of(*without) < 0.2 * noise_of(*whole) and noise_of(*half) < 0.7 * noise_of(*whole)
    assert abs(softness(sum(without) / 2, F.avg_pool2d(hr, 4)) - softness(sum(whole) / 2, F.avg_pool2d(hr, 4))) < 0.05


def test_every_sample_has_its_own_strength_with_a_gradient(degrader, hr, looks):
    strength = torch.tensor([0.5, 1.5], requires_grad=True)
    noise = torch.randn(2, 3, 48, 48)
    both = degrader(hr, looks[:1], noise=noise, strength=strength)
    for row in range(2):
        alone = degrader(hr[row, None], looks[:1], noise=noise[row, None], strength=strength[row].item())
        assert (both[row] - alone[0]).abs().max() < 1 / 255
    both.sum().backward()
    assert (strength.grad != 0).all()


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_smaller_scale_gives_its_size_and_tiles_do_not_show(degrader, scale):
    hr = torch.rand(1, 3, 170 * scale, 72 * scale, generator=torch.Generator().manual_seed(0))
    hr = F.avg_pool2d(F.pad(hr, (2, 2, 2, 2), mode="reflect"), 5, stride=1)
    code, noise = degrader.bank[300:301], torch.randn(1, 3, 170, 72)
    whole = degrader(hr, code, scale=scale, noise=noise, tile=1000)
    tiled = degrader(hr, code, scale=scale, noise=noise, tile=64)
    assert whole.shape == (1, 3, 170, 72)
    assert (whole - tiled).abs().max() < 1e-5


@pytest.mark.parametrize(("scale", "least"), [(1, 0.4), (2, 0.6), (3, 0.8)])
def test_the_noise_of_a_look_is_about_that_of_scale_4(degrader, hr, looks, scale, least):
    for code in looks:
        at_4 = noise_of(*two_draws(degrader, hr, code))
        assert least * at_4 < noise_of(*two_draws(degrader, hr, code, scale=scale)) < 1.5 * at_4


def test_looks_move_in_the_directions_that_are_named(degrader, hr, looks):
    clean = F.avg_pool2d(hr, 4)
    for code in looks:
        low, high = (two_draws(degrader, hr, degrader.move(code[None], noise=by)[0]) for by in (-1, 1))
        assert noise_of(*high) > noise_of(*low)
        low, high = (two_draws(degrader, hr, degrader.move(code[None], blur=by)[0]) for by in (-1, 1))
        assert softness(sum(high) / 2, clean) > softness(sum(low) / 2, clean)
        low, high = (degrader.quantiser.strength(degrader.move(code[None], jpeg=by))[0] for by in (-2, 2))
        assert high > low


def test_directions_are_found_again_with_other_images(degrader, hr):
    found = find_directions(degrader, hr, samples=200, seed=7)
    for mine, stored in zip(found, torch.tensor(degrader.config.directions), strict=True):
        assert F.cosine_similarity(mine, stored, dim=0) > 0.7


def test_wrong_strengths_and_scales_are_one_sentence(degrader, hr):
    for options, words in (
        ({"strength": 2.5}, r"strength 2.5 is outside 0\.\.2"),
        ({"grain": float("nan")}, r"grain nan is outside 0\.\.2"),
        ({"grain": 0.5, "steps": 2}, "grain needs steps=1, not 2"),
        ({"strength": torch.ones(3)}, r"strength has shape \(3,\); pass one number, or one for each of 2"),
        ({"scale": 5}, r"scale 5 does not fit weights for scale 4; use a whole number 1\.\.4"),
        ({"scale": 1.5}, "scale 1.5 does not fit"),
    ):
        with pytest.raises(ValueError, match=words):
            degrader(hr, **options)
    with pytest.raises(ValueError, match="upside down"):
        Adjustment(strength=(1.5, 0.5))


def test_a_pair_has_the_same_look_at_every_strength_and_scale_of_a_mix(degrader):
    records = [
        DegradationMix(degrader, None, scale=scale, adjustment=Adjustment(strength=strength, grain=0.5)).draw([5])[0]
        for scale, strength in ((4, (1.0, 1.0)), (4, (0.5, 1.5)), (2, (0.3, 0.3)))
    ]
    assert len({(tuple(record["code"]), record["noise_seed"]) for record in records}) == 1
    assert [record["scale"] for record in records] == [4, 4, 2] and 0.5 <= records[1]["strength"] <= 1.5
