import pytest
import torch
import torch.nn.functional as F

from degrade.training import losses


def test_energy_score_is_zero_for_two_exact_samples_and_positive_otherwise(normal) -> None:
    truth = normal(0, 2, 3, 16, 16)
    assert losses.energy_score(truth, truth, truth, patch=4).abs().max() < 1e-4  # the root is softened there
    assert (losses.energy_score(truth + 1, truth + 1, truth, patch=4) > 0.9).all()


def test_energy_score_equals_its_formula_on_single_pixels() -> None:
    first, second, truth = (torch.full((1, 1, 4, 4), value) for value in (1.0, 3.0, 0.0))
    expected = 0.5 * (1 + 3) - 0.5 * 2
    assert losses.energy_score(first, second, truth, patch=1).item() == pytest.approx(expected, abs=1e-3)


def test_energy_score_keeps_the_spread_that_a_one_sample_l1_loses() -> None:
    """Targets b + 0.2 n from a generator that can scale its own noise: L1 turns it off, the energy score keeps it."""

    def learned_std(loss_of) -> float:
        generator = torch.Generator().manual_seed(0)
        gain = torch.tensor(0.05, requires_grad=True)
        optimizer = torch.optim.Adam([gain], lr=0.01)
        for _ in range(200):
            target, one, two = (torch.randn(8, 1, 8, 8, generator=generator) for _ in range(3))
            optimizer.zero_grad()
            loss_of(gain * one, gain * two, 0.2 * target).backward()
            optimizer.step()
        return abs(gain.item())

    kept = learned_std(lambda a, b, y: losses.energy_score(a, b, y, patch=4).mean())
    lost = learned_std(lambda a, b, y: F.l1_loss(a, y))
    assert kept == pytest.approx(0.2, abs=0.03) and lost < 0.02


def test_energy_score_sees_correlation_across_every_patch_border(normal) -> None:
    """White noise of the right strength scores better than noise striped with the patch's own period."""
    truth, white = normal(0, 64, 1, 16, 16), [normal(i, 64, 1, 16, 16) for i in (1, 2)]
    striped = [normal(i, 64, 1, 16, 4).repeat(1, 1, 1, 4) for i in (3, 4)]
    assert losses.energy_score(*white, truth, patch=8).mean() < losses.energy_score(*striped, truth, patch=8).mean()


def test_low_frequency_ignores_fine_noise_and_sees_a_colour_cast(normal) -> None:
    clean = torch.zeros(1, 3, 64, 64)
    checkers = (torch.arange(64)[:, None] + torch.arange(64)).remainder(2) * 2.0 - 1
    inside = losses.low_frequency((clean + checkers)[..., 4:-4, 4:-4], clean[..., 4:-4, 4:-4])
    assert inside.item() < 0.02
    assert losses.low_frequency(clean + 0.1, clean).item() == pytest.approx(0.1, abs=1e-6)


def test_kl_is_zero_at_the_prior_and_grows_off_it() -> None:
    zeros = torch.zeros(2, 16)
    assert losses.kl_to_prior(zeros, zeros).abs().max() == 0
    assert losses.kl_to_prior(zeros + 2, zeros).tolist() == pytest.approx([2.0, 2.0])


def test_compression_counts_only_where_the_truth_is_known() -> None:
    nan = float("nan")
    truth = torch.tensor([[0.0, 1.0], [nan, nan]])
    said = torch.tensor([2.0, 100.0]), torch.tensor([0.0, 100.0])
    assert losses.compression(*said, truth).item() == pytest.approx((2**2 + 1) / 2)
    assert losses.compression(*said, truth[1:].expand(2, 2)).item() == 0


def test_hinge_is_satisfied_beyond_the_margin_and_pushes_generators_up() -> None:
    assert losses.critic_hinge(torch.tensor([1.5]), torch.tensor([-2.0])).item() == 0
    assert losses.critic_hinge(torch.tensor([0.0]), torch.tensor([0.0])).item() == 2
    assert losses.generator_hinge(torch.tensor([3.0])).item() == -3


def test_gradient_penalty_of_a_linear_critic_is_its_squared_weight() -> None:
    real = torch.rand(2, 1, 4, 4, requires_grad=True)
    assert losses.gradient_penalty(3 * real, real).item() == pytest.approx(9)
