"""The teacher's step: ResShift without additions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.training.optimizer import Optimizer
from degrade.training.step import Step, normal_like
from upsample.model import ResidualShiftUpsampler
from upsample.training.config import UpsampleTrainConfig
from upsample.training.losses import perceptual


def teacher_step(
    teacher: ResidualShiftUpsampler,
    optimizer: Optimizer,
    batch: dict[str, Tensor],
    config: UpsampleTrainConfig,
    step: Step,
) -> dict[str, float]:
    """Take one step of the teacher, trained in place.

    Returns:
        Every term, unweighted.
    """
    loss, terms = teacher_loss(teacher, batch, config.loss.perceptual, step)
    (loss / config.schedule.gradient_accumulation_steps).backward()
    if step.update:
        optimizer.step(config.schedule.learning_rate * config.schedule.rate_factor(step.number))
    return {name: float(term.detach()) for name, term in {**terms, "loss": loss}.items()}


def teacher_loss(
    teacher: ResidualShiftUpsampler, batch: dict[str, Tensor], perceptual_weight: float, step: Step
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the squared error of x0 at a random step of the chain (ResShift, arXiv 2307.12348), and a perceptual term.

    The perceptual term, on decoded pixels, is that of ResShift's journal version, which has LPIPS there.

    Args:
        teacher: the network being trained.
        batch: hr and lr in [0, 1].
        perceptual_weight: 0 = off.
        step: its generator draws the steps of the chain and the noise.

    Returns:
        The weighted sum, and its terms.
    """
    hr, lr = batch["hr"] * 2 - 1, batch["lr"] * 2 - 1
    scheduler = teacher.scheduler
    with torch.no_grad():
        x0, anchor = teacher.first_stage.encode(hr), teacher.anchor(lr)
    t = torch.randint(scheduler.config.num_train_timesteps, (len(hr),), generator=step.generator).to(hr.device)
    xt = scheduler.add_noise(x0, anchor, normal_like(x0, step.generator), t)
    with step.autocast:
        predicted = teacher.predict_x0(xt, t, lr, anchor).float()
    terms = {"x0": F.mse_loss(predicted, x0)}
    loss = terms["x0"]
    if perceptual_weight:
        terms["perceptual"] = perceptual(teacher.first_stage.decode(predicted), hr).mean()
        loss = loss + perceptual_weight * terms["perceptual"]
    return loss, terms


@torch.no_grad()
def teacher_answer(
    teacher: ResidualShiftUpsampler, lr: Tensor, anchor: Tensor, xt: Tensor, *, steps: int, autocast: torch.autocast
) -> Tensor:
    """Return F(x_T, y) of SinSR (arXiv 2311.14760): where the teacher's deterministic chain ends, in latents.

    Args:
        teacher: frozen.
        lr: (B, 3, h, w) in [-1, 1].
        anchor: (B, C, h, w), from ``lr``.
        xt: (B, C, h, w), where the chain starts.
        steps: network calls.
        autocast: mixed precision.
    """
    with autocast:
        return teacher.walk(xt, lr, anchor, steps=steps).float()
