import pytest
import torch

from degrade.schedule import ResidualShiftScheduler

T15 = {"num_train_timesteps": 15, "kappa": 2.0, "min_noise_level": 0.04}
T4 = {"num_train_timesteps": 4, "kappa": 2.0, "min_noise_level": 0.2}


def test_etas_are_the_published_ones_for_fifteen_steps() -> None:
    scheduler = ResidualShiftScheduler(**T15)
    sqrt_etas = [0.02, 0.11717, 0.1763, 0.23363, 0.29157, 0.35101, 0.41236, 0.47586, 0.54167, 0.60991, 0.68066, 0.75399,
                 0.82995, 0.90861, 0.99]  # fmt: skip
    assert scheduler.etas.sqrt().tolist() == pytest.approx(sqrt_etas, abs=6e-6)  # the table has five digits


def test_etas_follow_their_formula_to_1e_6() -> None:
    for settings in (T15, T4):
        scheduler = ResidualShiftScheduler(**settings)
        steps, kappa, least = settings["num_train_timesteps"], settings["kappa"], settings["min_noise_level"]
        first = min(least / kappa, least, 0.001**0.5)
        ratio = (0.99 / first) ** (1 / (steps - 1))
        by_hand = [(first * ratio ** ((i / (steps - 1)) ** 0.3 * (steps - 1))) ** 2 for i in range(steps)]
        assert scheduler.etas.tolist() == pytest.approx(by_hand, abs=1e-6)


def test_etas_are_the_published_ones_for_four_steps() -> None:
    scheduler = ResidualShiftScheduler(**T4)
    assert scheduler.etas.sqrt().tolist() == pytest.approx([0.03162, 0.37644, 0.66732, 0.99], abs=6e-6)
    spread = (2.0 * scheduler.etas.sqrt()).tolist()
    assert spread == pytest.approx([0.0632, 0.7529, 1.3346, 1.98], abs=6e-5)


def test_posterior_variance_is_the_published_one() -> None:
    scheduler = ResidualShiftScheduler(**T15)
    table = [0, 0.001553, 0.03066, 0.053529, 0.078156, 0.105413, 0.13573, 0.169415, 0.206732, 0.247927, 0.293244,
             0.342927, 0.397223, 0.456386, 0.520675]  # fmt: skip
    assert [float(scheduler.posterior_variance(t)) for t in range(15)] == pytest.approx(table, abs=1e-6)


def deterministic_coefficients(settings: dict, t: int) -> list[float]:
    """Measure k, m and j in SinSR's form of the deterministic step, k x0 + m xt + j anchor."""
    scheduler = ResidualShiftScheduler(**settings, sampling="deterministic")
    units = torch.eye(3, dtype=torch.float64).view(3, 3, 1, 1, 1, 1)
    return [scheduler.step(x0, t, xt, anchor).prev_sample.item() for x0, xt, anchor in units]


def test_the_deterministic_step_has_the_published_coefficients_and_keeps_the_marginals() -> None:
    for settings in (T15, T4):
        etas = [0.0, *ResidualShiftScheduler(**settings).etas.tolist()]
        for t in range(settings["num_train_timesteps"]):
            k, m, j = deterministic_coefficients(settings, t)
            eta, before = etas[t + 1], etas[t]
            assert k + m * (1 - eta) == pytest.approx(1 - before, abs=1e-6)
            assert m * eta + j == pytest.approx(before, abs=1e-6)
            assert m * eta**0.5 == pytest.approx(before**0.5, abs=1e-6)
    k, m, j = zip(*(deterministic_coefficients(T4, t) for t in range(4)), strict=True)
    assert k == pytest.approx([1, 0.9269, 0.5454, 0.54127], abs=6e-5)
    assert m == pytest.approx([0, 0.084, 0.5641, 0.67406], abs=6e-5)
    assert j == pytest.approx([0, -0.0109, -0.1095, -0.21533], abs=6e-5)


def test_input_scaling_gives_latents_unit_spread_and_pixels_a_fixed_range() -> None:
    latent = ResidualShiftScheduler(**T15)
    scale = 1 / latent.scale_model_input(torch.ones(15, 1, 1, 1), torch.arange(15)).flatten()
    assert scale[[0, 7, 14]].tolist() == pytest.approx([1.0008, 1.3805, 2.2182], abs=6e-5)
    pixel = ResidualShiftScheduler(**T15, latent=False)
    scale = 1 / pixel.scale_model_input(torch.ones(1, 1, 1, 1), torch.tensor([14])).flatten()
    assert scale.item() == pytest.approx(3 * 1.98 + 1, abs=1e-5)


@pytest.mark.parametrize("settings", [T15, T4])
@pytest.mark.parametrize("steps", [1, 3, 4])
@pytest.mark.parametrize("sampling", ["posterior", "deterministic"])
def test_an_oracle_is_returned_exactly(settings, steps, sampling, normal) -> None:
    scheduler = ResidualShiftScheduler(**settings, sampling=sampling)
    scheduler.set_timesteps(steps)
    x0, anchor = normal(0, 2, 3, 8, 8), normal(1, 2, 3, 8, 8)
    xt = scheduler.prior_sample(anchor, normal(2, 2, 3, 8, 8))
    generator = torch.Generator().manual_seed(3)
    assert len(scheduler.timesteps) == steps and int(scheduler.timesteps[0]) == settings["num_train_timesteps"] - 1
    for t in scheduler.timesteps:
        xt = scheduler.step(x0, t, xt, anchor, generator=generator).prev_sample
    assert torch.equal(xt, x0)


@pytest.mark.parametrize("sampling", ["posterior", "deterministic"])
def test_one_reverse_step_keeps_the_forward_marginals(sampling, normal) -> None:
    scheduler = ResidualShiftScheduler(**T4, sampling=sampling)
    x0, anchor = torch.full((1, 1, 400, 400), 0.3), torch.full((1, 1, 400, 400), -0.5)
    xt = scheduler.add_noise(x0, anchor, normal(0, 1, 1, 400, 400), torch.tensor([2]))
    before = scheduler.step(x0, 2, xt, anchor, generator=torch.Generator().manual_seed(1)).prev_sample
    eta = float(scheduler.etas[1])
    assert before.mean().item() == pytest.approx(0.3 + eta * (-0.8), abs=0.01)
    assert before.std().item() == pytest.approx(2.0 * eta**0.5, rel=0.01)


def test_the_deterministic_step_is_linear_in_x0_xt_and_anchor(normal) -> None:
    scheduler = ResidualShiftScheduler(**T15, sampling="deterministic")
    x0, xt, anchor = (normal(i, 1, 3, 4, 4).double() for i in range(3))
    for t in range(15):
        k, m, j = deterministic_coefficients(T15, t)
        step = scheduler.step(x0, t, xt, anchor).prev_sample
        assert torch.allclose(step, k * x0 + m * xt + j * anchor, atol=1e-6)


def test_forward_marginals_of_the_reversed_roles(normal) -> None:
    scheduler = ResidualShiftScheduler(num_train_timesteps=4, kappa=1.0, min_noise_level=0.2, latent=False)
    degraded, clean = torch.full((1, 3, 200, 200), 0.1), torch.full((1, 3, 200, 200), 0.6)
    for t in range(4):
        xt = scheduler.add_noise(degraded, clean, normal(t, 1, 3, 200, 200), torch.tensor([t]))
        eta = float(scheduler.etas[t])
        assert xt.mean().item() == pytest.approx(0.1 + eta * 0.5, abs=0.02)
        assert xt.std().item() == pytest.approx(eta**0.5, rel=0.02)


def test_config_round_trip_keeps_the_schedule(tmp_path) -> None:
    scheduler = ResidualShiftScheduler(num_train_timesteps=6, kappa=1.5, sampling="deterministic")
    scheduler.save_config(tmp_path)
    again = ResidualShiftScheduler.from_config(ResidualShiftScheduler.load_config(tmp_path))
    assert torch.equal(again.etas, scheduler.etas) and again.config.sampling == "deterministic"


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ResidualShiftScheduler(**T4).set_timesteps(5), r"steps 5 is outside 1\.\.4"),
        (lambda: ResidualShiftScheduler(kappa=0), "kappa 0 must be positive"),
        (lambda: ResidualShiftScheduler(sampling="ddim"), "'ddim' is unknown; use 'posterior' or 'deterministic'"),
        (
            lambda: ResidualShiftScheduler(**T4).add_noise(
                torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 4, 4), torch.tensor([0])
            ),
            "differ in shape",
        ),
    ],
)
def test_bad_arguments_raise_one_sentence(call, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()
