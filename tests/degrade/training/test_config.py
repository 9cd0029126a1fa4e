import pytest

from degrade.training.config import CriticConfig, Ramp, Schedule, fit_crop


def test_learning_rate_warms_up_and_falls_to_a_tenth() -> None:
    schedule = Schedule(steps=1000, warmup_steps=10)
    assert schedule.rate_factor(0) == pytest.approx(0.1)
    assert schedule.rate_factor(10) == pytest.approx(1.0)
    assert schedule.rate_factor(505) == pytest.approx(0.55)
    assert schedule.rate_factor(1000) == pytest.approx(0.1)
    assert Schedule(steps=10, warmup_steps=0).rate_factor(0) == 1.0


def test_a_ramp_is_0_before_its_start_and_1_after_its_length() -> None:
    ramp = Ramp(start=0.2, length=0.1)
    assert [ramp.at(step, 100) for step in (0, 20, 25, 30, 99)] == pytest.approx([0, 0, 0.5, 1, 1])


def test_penalties_are_rare_and_weigh_as_much_as_if_they_were_not() -> None:
    critic = CriticConfig(penalty=0.01, penalty_every=4)
    weights = [critic.penalty_at(step) for step in range(8)]
    assert weights == [0.04, 0, 0, 0, 0.04, 0, 0, 0] and sum(weights) / 8 == pytest.approx(0.01)


@pytest.mark.parametrize(("scale", "crop"), [(4, 128), (3, 120), (2, 128)])
def test_the_crop_of_a_preset_is_made_to_fit_the_scale(scale: int, crop: int) -> None:
    assert fit_crop(Schedule(), scale).hr_crop == crop
    assert fit_crop(Schedule(hr_crop=8), scale).hr_crop == 16 * scale  # the encoder needs 16 LR pixels
