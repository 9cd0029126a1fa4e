import math

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from degrade.networks.discriminator import PatchDiscriminator
from degrade.perceptual.pretrained_features import pretrained_features
from degrade.perceptual.projected_critic import ProjectedCritic
from degrade.training.config import PRESETS as DEGRADERS
from degrade.training.config_file import with_settings
from degrade.training.optimizer import Optimizer
from degrade.training.step import Models, Step
from upsample.model import ResidualShiftUpsampler
from upsample.training.colearn import (
    Networks,
    Optimizers,
    adversarial_hr,
    colearn_step,
    detail_loss,
    run_cycle,
    student_loss,
    upscale,
)
from upsample.training.config import UpsampleTrainConfig, preset

CI = with_settings(preset("ci", "colearn"), {"loss.adversarial_hr": 0.1, "schedule.warmup_steps": 0})
SHARP = with_settings(CI, {"detail.branch": True, "projected_critic": True})
LATE = 19  # a step at which every arrow counts
FULL = torch.autocast("cpu", enabled=False)


def networks(config: UpsampleTrainConfig = CI) -> Networks:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student, teacher = (
            ResidualShiftUpsampler(
                widths=(8, 8, 8), blocks=1, embedding_dim=8, num_train_timesteps=4, min_noise_level=0.2
            )
            for _ in range(2)
        )
        for net in (student, teacher):
            nn.init.normal_(net.unet.head.weight, std=0.05)
        hr_critic = PatchDiscriminator(0, 8)
        lower = Models.build(
            start_from="", scale=4, size=DEGRADERS["ci"].size, critic_width=config.degrader.critic.width, seed=0
        )
        nn.init.normal_(lower.degrader.unet.head.weight, std=0.05)
    return Networks(student, teacher.requires_grad_(False), hr_critic, lower)


def optimizers(nets: Networks) -> Optimizers:
    accelerator = Accelerator(cpu=True)
    assert nets.lower is not None and nets.hr_critic is not None
    ours = [*nets.lower.degrader.parameters(), *nets.lower.texture_head.parameters()]
    kinds = {"accelerator": accelerator, "betas": (0.0, 0.99), "clip": 1.0}
    return Optimizers(
        Optimizer(nets.student.parameters(), **kinds),
        Optimizer(nets.hr_critic.parameters(), **kinds),
        Optimizer(ours, **kinds),
        Optimizer(nets.lower.critic.parameters(), **kinds),
    )


def batch(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hr = torch.rand(4, 3, 64, 64, generator=generator)
    lr = (nn.functional.avg_pool2d(hr, 4) + 0.05 * torch.randn(4, 3, 16, 16, generator=generator)).clamp(0, 1)
    return {"hr": hr, "lr": lr, "generated": torch.tensor([False, False, True, True])}


def lower_batch(seed: int = 0) -> dict[str, torch.Tensor]:
    pairs = batch(seed + 100)
    compression = torch.full((4, 2), math.nan)
    return {
        "hr": pairs["hr"], "lr": pairs["lr"], "paired": torch.tensor([True] * 2 + [False] * 2),
        "compression": compression,
    }  # fmt: skip


def at(number: int, *, seed: int | None = None, autocast: torch.autocast = FULL, update: bool = True) -> Step:
    """The step with this number; its generator is seeded by the number, or by ``seed``."""
    return Step(number, torch.Generator().manual_seed(number if seed is None else seed), autocast, update)


def take(nets: Networks, config: UpsampleTrainConfig = CI, step: int = LATE, **kwargs) -> dict[str, float]:
    own = kwargs.pop("optimizers", None) or optimizers(nets)
    return colearn_step(nets, own, batch(step), lower_batch(step), config, at(step, **kwargs))


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def same(before: list[torch.Tensor], module: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def gradients(module: nn.Module) -> list[torch.Tensor | None]:
    return [p.grad for p in module.parameters()]


def test_a_step_moves_student_degrader_and_both_critics_and_not_the_teacher() -> None:
    nets = networks()
    assert nets.lower is not None and nets.hr_critic is not None and nets.teacher is not None
    moved = {
        "student": nets.student, "degrader": nets.lower.degrader, "D_H": nets.hr_critic, "D_L": nets.lower.critic,
    }  # fmt: skip
    before = {name: weights(net) for name, net in moved.items()}
    teacher = weights(nets.teacher)
    terms = take(nets)
    assert {name for name, net in moved.items() if not same(before[name], net)} == set(moved)
    assert same(teacher, nets.teacher)
    assert all(math.isfinite(value) for value in terms.values())
    arrows = ("distill", "gt", "pair", "perceptual", "adversarial_hr", "critic_hr", "critic_lr", "cycle")
    assert set(arrows) | {"adversarial_cycle", "degrader_energy", "degrader_adversarial", "psnr"} <= set(terms)


def test_no_gradient_leads_from_the_student_on_a_generated_lr_back_to_the_degrader() -> None:
    nets = networks()
    assert nets.lower is not None
    data = batch()
    made = nets.lower.degrader(data["hr"], generator=torch.Generator().manual_seed(0))
    assert made.requires_grad  # what is handed over could carry a gradient
    step = at(LATE, seed=0)
    up = upscale(nets.student, {**data, "lr": made, "generated": torch.ones(4, dtype=torch.bool)}, CI, step)
    loss, terms = student_loss(nets, up, data, CI, step)
    assert terms["pair"] > 0
    loss.backward()
    assert all(grad is None for grad in gradients(nets.lower.degrader))
    assert any(grad is not None and grad.abs().max() > 0 for grad in gradients(nets.student))


@pytest.mark.parametrize("factor", [0.2, 0.5, 0.0])
def test_the_cycles_gradient_reaches_the_student_scaled_as_stated(factor: float) -> None:
    def gradient(scale: float) -> torch.Tensor:
        nets = networks()
        step = at(LATE, seed=0)
        up = upscale(nets.student, batch(), CI, step)
        cycled = run_cycle(nets, up, with_settings(CI, {"cycle.gradient": scale}), step)
        cycled.first.square().mean().backward()
        return torch.cat([grad.flatten() for grad in gradients(nets.student) if grad is not None])

    assert gradient(1.0).abs().max() > 0
    torch.testing.assert_close(gradient(factor), factor * gradient(1.0))


def test_the_critics_hold_no_gradient_after_a_step_and_stay_trainable() -> None:
    nets = networks()
    assert nets.lower is not None and nets.hr_critic is not None
    for critic in (nets.hr_critic, nets.lower.critic):
        take(nets)
        assert all(grad is None for grad in gradients(critic))
        assert all(p.requires_grad for p in critic.parameters())


def test_a_degrader_that_is_frozen_stays_and_still_guides_the_student() -> None:
    nets = networks()
    assert nets.lower is not None
    before = weights(nets.lower.degrader)
    frozen = with_settings(CI, {"degrader.train": False})
    terms = colearn_step(nets, Optimizers(optimizers(nets).student), batch(), None, frozen, at(LATE, seed=0))
    assert same(before, nets.lower.degrader) and all(grad is None for grad in gradients(nets.lower.degrader))
    assert terms["cycle"] > 0


@pytest.mark.parametrize(
    ("switch", "gone"),
    [
        ({"cycle.weight": 0.0}, "cycle"), ({"loss.gt": 0.0}, "gt"), ({"loss.pair": 0.0}, "pair"),
        ({"loss.perceptual": 0.0}, "perceptual"), ({"loss.distill": 0.0, "loss.inverse": 0.0}, "distill"),
        ({"loss.inverse_until": 0.5}, "inverse"),
    ],
)  # fmt: skip
def test_every_arrow_can_be_switched_off(switch: dict[str, float], gone: str) -> None:
    on = with_settings(CI, {"loss.inverse_until": 1.0})
    assert gone in take(networks(), on)
    assert gone not in take(networks(), with_settings(on, switch))


def test_without_its_inverse_the_student_learns_the_truth_from_a_drawn_start_which_cannot_tell_it() -> None:
    nets, config, step = networks(), with_settings(CI, {"loss.inverse": 0.0}), at(LATE, seed=0)
    up = upscale(nets.student, batch(), CI, step)
    _, terms = student_loss(nets, up, batch(), config, step)
    given = ~up.generated
    torch.testing.assert_close(terms["gt"], (up.zhat - up.z0)[given].square().mean() * given.float().mean())


def test_critics_and_cycle_wait_for_their_share_of_the_run() -> None:
    nets = networks()
    assert nets.hr_critic is not None
    before = weights(nets.hr_critic)
    terms = take(nets, with_settings(CI, {"ramp.start": 0.5}), step=3)
    assert same(before, nets.hr_critic) and not {"critic_hr", "critic_lr", "cycle", "adversarial_hr"} & set(terms)


def test_two_micro_batches_collect_the_gradient_of_one_batch_of_both(monkeypatch) -> None:
    off = {"loss.adversarial_hr": 0.0, "cycle.weight": 0.0, "loss.inverse": 0.0, "loss.gt": 0.0}
    config = with_settings(CI, off)
    monkeypatch.setattr(Optimizer, "step", lambda *_: None)
    halves = [{**batch(seed), "noise": torch.zeros(4, 48, 16, 16)} for seed in (1, 2)]
    halves[1]["generated"] = torch.tensor([False, True, True, True])  # unequal shares of the two kinds
    both = {name: torch.cat([half[name] for half in halves]) for name in halves[0]}

    def gradient(data: list[dict[str, torch.Tensor]]) -> list[torch.Tensor | None]:
        nets = networks()
        nets.hr_critic = None
        own = Optimizers(Optimizer(nets.student.parameters(), Accelerator(cpu=True), betas=(0.9, 0.99), clip=0.0))
        settings = with_settings(config, {"schedule.gradient_accumulation_steps": len(data)})
        for number, part in enumerate(data):
            last = number == len(data) - 1
            colearn_step(nets, own, part, None, settings, at(LATE, update=last))
        return gradients(nets.student)

    for a, b in zip(gradient(halves), gradient([both]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_weights_wait_for_the_last_micro_batch() -> None:
    nets, config = networks(), with_settings(CI, {"schedule.gradient_accumulation_steps": 2})
    own, before = optimizers(nets), weights(nets.student)
    take(nets, config, optimizers=own, update=False)
    assert same(before, nets.student)
    take(nets, config, optimizers=own, update=True)
    assert not same(before, nets.student)


def test_the_gradient_penalty_of_both_critics_changes_their_step() -> None:
    def critics(weight: float) -> list[torch.Tensor]:
        nets = networks()
        assert nets.lower is not None and nets.hr_critic is not None
        both = {"penalty": weight, "penalty_every": 1}
        kinds = {f"{critic}.{name}": value for critic in ("critic", "degrader.critic") for name, value in both.items()}
        take(nets, with_settings(CI, kinds))
        return weights(nets.hr_critic) + weights(nets.lower.critic)

    assert all(torch.isfinite(w).all() for w in critics(10.0))
    assert any(not torch.equal(a, b) for a, b in zip(critics(10.0), critics(0.0), strict=True))


def test_in_bf16_every_weight_gets_the_gradient_that_it_gets_in_full_precision() -> None:
    def gradient(autocast: torch.autocast) -> torch.Tensor:
        nets = networks()
        step = at(LATE, seed=0, autocast=autocast)
        up = upscale(nets.student, batch(), CI, step)
        student_loss(nets, up, batch(), with_settings(CI, {"loss.inverse_until": 1.0}), step)[0].backward()
        grads = [grad for grad in gradients(nets.student) if grad is not None]
        assert all(grad.abs().max() > 0 for grad in grads)
        return torch.cat([grad.flatten() for grad in grads])

    full, half = gradient(FULL), gradient(torch.autocast("cpu", dtype=torch.bfloat16))
    assert torch.nn.functional.cosine_similarity(full, half, dim=0) > 0.98


def test_the_same_step_twice_gives_the_same_numbers() -> None:
    assert take(networks()) == take(networks())


def sharp_networks() -> Networks:
    """The same networks with a detail branch that draws something, under a projected D_H."""
    nets = networks()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = {name: value for name, value in nets.student.config.items() if not name.startswith("_")}
        student = ResidualShiftUpsampler(**{**config, "detail": 0.5})
        student.load_state_dict(nets.student.state_dict(), strict=False)
        nn.init.normal_(student.detail_branch.to_rgb.weight, std=0.02)
        critic = ProjectedCritic(pretrained_features())
    return Networks(student, nets.teacher, critic, nets.lower, pretrained_features())


def without_branch(nets: Networks) -> list[nn.Parameter]:
    return [p for name, p in nets.student.named_parameters() if not name.startswith("detail_branch")]


def test_a_step_moves_the_branch_too_and_says_every_term_of_it() -> None:
    nets = sharp_networks()
    branch, critic = weights(nets.student.detail_branch), weights(nets.hr_critic)
    terms = take(nets, SHARP)
    assert not same(branch, nets.student.detail_branch) and not same(critic, nets.hr_critic)
    assert {"detail_pixels", "detail_means", "detail_features", "adversarial_hr", "critic_hr"} <= set(terms)
    assert all(math.isfinite(value) for value in terms.values())


def test_what_judges_the_sharp_image_teaches_the_branch_and_not_the_student() -> None:
    nets, step = sharp_networks(), at(LATE, seed=0)
    up = upscale(nets.student, batch(), SHARP, step)
    loss = detail_loss(nets, up, SHARP.detail, step)[0] + adversarial_hr(nets.hr_critic, up, step)
    cycled = run_cycle(nets, up, SHARP, step)
    (loss + cycled.first.square().mean()).backward()
    assert all(p.grad is None for p in without_branch(nets))
    assert all(p.grad is not None for p in nets.student.detail_branch.parameters())


def test_the_student_learns_the_same_with_a_branch_as_without() -> None:
    plain = with_settings(CI, {"loss.adversarial_hr": 0.0, "cycle.weight": 0.0})
    gradient = []
    for nets, config in ((networks(), plain), (sharp_networks(), with_settings(plain, {"detail.branch": True}))):
        step = at(LATE, seed=0)
        up = upscale(nets.student, batch(), config, step)
        student_loss(nets, up, batch(), config, step)[0].backward()
        gradient.append([p.grad for p in without_branch(nets)])
    for ours, theirs in zip(*gradient, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_frozen_student_stays_while_its_branch_learns() -> None:
    nets = sharp_networks()
    for p in without_branch(nets):
        p.requires_grad_(False)
    before, branch = [p.clone() for p in without_branch(nets)], weights(nets.student.detail_branch)
    terms = take(nets, with_settings(SHARP, {"student_learns": False}))
    assert all(torch.equal(a, b) for a, b in zip(before, without_branch(nets), strict=True))
    assert not same(branch, nets.student.detail_branch) and "pair" not in terms and terms["cycle"] > 0
