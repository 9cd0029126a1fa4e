import math

import pytest
import torch
from accelerate import Accelerator

from degrade.networks.block_quantiser import UNCOMPRESSED
from degrade.training.config import PRESETS, DegraderTrainConfig
from degrade.training.config_file import with_settings
from degrade.training.step import Models, Optimizers, Step, train_step

CI = PRESETS["ci"]
QUICK = {"schedule.learning_rate": 3e-3, "schedule.warmup_steps": 10, "loss.adversarial": 0.0}


def batch(seed: int = 0, paired: bool = True) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hr = torch.rand(4, 3, 64, 64, generator=generator)
    lr = (torch.nn.functional.avg_pool2d(hr, 4) + 0.1 * torch.randn(4, 3, 16, 16, generator=generator)).clamp(0, 1)
    compression = torch.tensor([[math.log(UNCOMPRESSED), 0.0]] * 2 + [[float("nan")] * 2] * 2)
    return {"hr": hr, "lr": lr, "paired": torch.tensor([True, True, paired, paired]), "compression": compression}


def built(config: DegraderTrainConfig = CI) -> tuple[Models, Optimizers]:
    models = Models.build(
        start_from=config.start_from,
        scale=config.scale,
        size=config.size,
        critic_width=config.critic.width,
        seed=config.schedule.seed,
    )
    return models, Optimizers.build(models, Accelerator(cpu=True), clip=config.schedule.grad_clip)


def at(number: int, *, update: bool = True) -> Step:
    """The step with this number, in full precision; its generator is seeded by its number."""
    full = torch.autocast("cpu", enabled=False)
    return Step(number, torch.Generator().manual_seed(number), full, update)


def step_once(models: Models, optimizers: Optimizers, config: DegraderTrainConfig, number: int) -> dict[str, float]:
    return train_step(models, optimizers, batch(number), config, at(number))


def parameters(module: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def unchanged(before: list[torch.Tensor], module: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_a_step_changes_degrader_and_encoder_and_reports_finite_terms() -> None:
    models, optimizers = built()
    before = {name: parameters(part) for name, part in models.parts().items()}
    terms = [step_once(models, optimizers, CI, step) for step in range(8, 11)][-1]
    assert all(not unchanged(before[name], part) for name, part in models.parts().items())
    assert all(torch.isfinite(torch.tensor(value)) for value in terms.values())
    assert {"energy", "texture", "low", "encoder", "kl", "code", "critic", "adversarial"} <= set(terms)


def test_the_critic_idles_until_its_share_of_the_run() -> None:
    models, optimizers = built()
    before = parameters(models.critic)
    terms = step_once(models, optimizers, CI, 0)
    assert unchanged(before, models.critic) and "critic" not in terms


def test_no_gradient_leaks_from_the_degraders_step_into_the_critic() -> None:
    models, optimizers = built()
    for step in range(10, 14):
        step_once(models, optimizers, CI, step)
        assert all(p.grad is None for p in models.critic.parameters())
        assert all(p.requires_grad for p in [*models.critic.parameters(), *models.degrader.encoder.parameters()])


def test_the_critics_update_leaves_the_degrader_alone() -> None:
    models, optimizers = built()
    frozen_rate = with_settings(CI, {"schedule.learning_rate": 0.0})
    before = parameters(models.degrader)
    step_once(models, optimizers, frozen_rate, 12)
    assert unchanged(before, models.degrader)
    assert not unchanged(parameters(built()[0].critic), models.critic)


def test_the_two_optimisers_share_no_parameter_and_leave_none_out() -> None:
    models, optimizers = built()
    ours, theirs = ({id(p) for p in side.parameters} for side in (optimizers.generator, optimizers.critic))
    assert ours and theirs and not ours & theirs
    assert ours | theirs == {id(p) for part in models.parts().values() for p in part.parameters()}


def test_a_batch_without_any_pair_trains_too() -> None:
    config = with_settings(CI, {"schedule.seed": 1})
    models, optimizers = built(config)
    data = {**batch(), "paired": torch.zeros(4, dtype=torch.bool)}
    terms = train_step(models, optimizers, data, config, at(15))
    assert terms["energy"] == 0 and all(torch.isfinite(torch.tensor(v)) for v in terms.values())


def test_the_same_step_twice_gives_the_same_numbers() -> None:
    first = step_once(*built(), CI, 12)
    assert first == step_once(*built(), CI, 12)


def test_training_paints_noise_of_the_right_strength_and_keeps_its_spread() -> None:
    """LR = clean + noise of 0.1: after 150 steps two samples differ by that noise, and not by nothing."""
    config = with_settings(CI, {**QUICK, "schedule.steps": 150})
    models, optimizers = built(config)
    for step in range(config.schedule.steps):
        step_once(models, optimizers, config, step)
    hr = batch(999)["hr"]
    with torch.inference_mode():
        one, two = (
            models.degrader(hr, torch.zeros(1, 16), generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)
        )
    assert 0.07 < float((one - two).std()) / 2**0.5 < 0.13


def test_a_reference_gives_its_own_look_and_a_wrong_one_a_wrong_look() -> None:
    """Half of every batch is clean, half has noise of 0.15: after 200 steps the code alone decides which it is."""
    config = with_settings(CI, {**QUICK, "schedule.steps": 200, "schedule.batch_size": 8, "loss.kl": 1e-4})
    models, optimizers = built(config)

    def looks(seed: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        hr = torch.nn.functional.avg_pool2d(torch.rand(8, 3, 128, 128, generator=generator), 2)
        sigma = torch.tensor([0.0, 0.0, 0.15, 0.15] * 2).view(-1, 1, 1, 1)
        clean = torch.nn.functional.avg_pool2d(hr, 4)
        lr = (clean + sigma * torch.randn(clean.shape, generator=generator)).clamp(0, 1)
        none = torch.tensor([[math.log(UNCOMPRESSED), 0.0]] * 8)
        return {"hr": hr, "lr": lr, "paired": torch.ones(8, dtype=torch.bool), "compression": none}

    for step in range(config.schedule.steps):
        train_step(models, optimizers, looks(step), config, at(step))
    hr, lr = (looks(999)[name] for name in ("hr", "lr"))
    with torch.inference_mode():
        clean = torch.nn.functional.avg_pool2d(hr[:1], 4)
        like_clean, like_noisy = (models.degrader(hr[:1], reference=lr[row : row + 1]) - clean for row in (4, 6))
    assert like_clean.std() < 0.05 and 0.09 < like_noisy.std() < 0.2


def test_weights_wait_for_the_last_micro_batch_and_get_the_mean_gradient_of_all() -> None:
    whole = with_settings(CI, {"loss.adversarial": 0.0, "loss.code": 0.0, "loss.prior_share": 1.0})
    halves = with_settings(whole, {"schedule.gradient_accumulation_steps": 2})
    models, optimizers = built(halves)
    before = parameters(models.degrader)
    train_step(models, optimizers, batch(3), halves, at(8, update=False))
    assert unchanged(before, models.degrader)
    collected = [p.grad.clone() for p in models.degrader.parameters() if p.grad is not None]
    train_step(models, optimizers, batch(3), halves, at(8))
    assert not unchanged(before, models.degrader)
    models, optimizers = built(whole)
    train_step(models, optimizers, batch(3), whole, at(8, update=False))
    alone = [p.grad for p in models.degrader.parameters() if p.grad is not None]
    assert collected and all(torch.allclose(2 * a, b, atol=1e-6) for a, b in zip(collected, alone, strict=True))


@pytest.mark.slow
def test_the_paper_preset_builds_and_takes_a_step() -> None:
    config = with_settings(PRESETS["paper"], {"schedule.hr_crop": 64, "schedule.batch_size": 2})
    models, optimizers = built(config)
    size = sum(p.numel() for p in models.degrader.unet.parameters())
    assert size == pytest.approx(42.9e6, rel=0.05)  # the size proposed for a downsampler "similar to the student"
    one = {name: tensor[:2] for name, tensor in batch().items()}
    terms = train_step(models, optimizers, one, config, at(0))
    assert torch.isfinite(torch.tensor(terms["loss"]))
