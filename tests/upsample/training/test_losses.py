import torch
from torch import nn

from degrade.networks.texture import high_pass
from upsample.training.losses import cycle, cycle_l1, perceptual, scale_gradient


def test_perceptual_is_zero_for_equal_images_and_dearer_for_lost_detail_than_for_a_shift_of_tone(normal) -> None:
    hr = normal(0, 2, 3, 32, 32)
    blurred, brighter = nn.functional.avg_pool2d(hr, 3, 1, 1), hr + 0.1
    assert perceptual(hr, hr).abs().max() == 0
    same_size = (blurred - hr).abs().mean() / 0.1
    assert (perceptual(blurred, hr) > 1.5 * same_size * perceptual(brighter, hr)).all()


def test_scaling_a_gradient_leaves_the_value(normal) -> None:
    x = normal(0, 4).requires_grad_()
    y = scale_gradient(x, 0.2)
    assert torch.equal(y, x)
    y.sum().backward()
    assert torch.equal(x.grad, torch.full((4,), 0.2))


def test_the_cycle_keeps_the_spread_of_a_noisy_degrader_and_a_plain_l1_loses_it(normal) -> None:
    """LR is SR + noise of 0.2; a generator with one number, the strength of its noise, learns it from the cycle."""

    def learnt(energy: bool) -> float:
        strength = torch.tensor(0.1, requires_grad=True)
        optimizer = torch.optim.Adam([strength], lr=0.02)
        for step in range(120):
            lr, one, two = (0.2 * normal(step, 4, 3, 16, 16), normal(step + 1000, 4, 3, 16, 16),
                            normal(step + 2000, 4, 3, 16, 16))  # fmt: skip
            loss = cycle(strength * one, strength * two, lr) if energy else cycle_l1(strength * one, lr)
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
        return abs(float(strength.detach()))

    assert 0.12 < learnt(energy=True) < 0.25
    assert learnt(energy=False) < 0.05


def test_the_cycle_sees_colour_in_the_low_band_and_grain_in_the_energy_score(normal) -> None:
    lr = nn.functional.avg_pool2d(normal(0, 1, 3, 36, 36), 5, 1)
    grain = high_pass(normal(1, 1, 3, 32, 32))
    assert cycle(lr, lr, lr).abs().max() < 1e-3
    assert cycle(lr + 0.2, lr + 0.2, lr) > cycle(lr + 0.2 * grain, lr + 0.2 * grain, lr) > 0.02
