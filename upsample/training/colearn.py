"""One step of distillation and co-learning: the only place where the weighted sums are written.

The paper (Kim & Kim, arXiv 2410.07663) trains a one-step student, distilled from a teacher, together with a diffusion
downsampler, under an HR and an LR discriminator and a cycle LR -> SR -> LR. Its equations could not be had in detail;
the terms here are SinSR's (arXiv 2311.14760) for the student, those of `train_step` for the downsampler, and our own
construction between them. With the arrows of the downsampler off it is SinSR's step.

The degrader comes trained, so that its pairs count from the first step on and their share is constant; critics and
cycle wait for ``critic_start`` and then ramp up.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.networks.discriminator import PatchDiscriminator
from degrade.ops.compress import quantise
from degrade.training import losses as degrade_losses
from degrade.training.step import (
    Drawn,
    Judged,
    Models,
    critic_loss,
    degrader_loss,
    draw_samples,
    frozen,
    learning_rate,
    normal_like,
    two_samples,
)
from upsample.model import ResidualShiftUpsampler
from upsample.training import losses
from upsample.training.config import UpsampleTrainConfig
from upsample.training.descent import Descent
from upsample.training.teacher import teacher_answer

CLEAN_END = 0  # time index of the student's inverse call, as SinSR re-uses it


@dataclass
class Networks:
    """What a step trains, and the teacher it learns from.

    Attributes:
        student: f.
        teacher: frozen; None when no term needs it.
        hr_critic: D_H; None when it is off.
        lower: the degrader G with its helpers and D_L; None when there is no degrader.
    """

    student: ResidualShiftUpsampler
    teacher: ResidualShiftUpsampler | None = None
    hr_critic: PatchDiscriminator | None = None
    lower: Models | None = None


@dataclass
class Descents:
    """The optimisers of `Networks`; each moves its own parameters and nothing else."""

    student: Descent
    hr_critic: Descent | None = None
    degrader: Descent | None = None
    lr_critic: Descent | None = None


@dataclass
class Upscaled:
    """The student's one step on a batch, in [-1, 1] and latents.

    Attributes:
        hr: (B, 3, H, W).
        lr: (B, 3, h, w).
        generated: (B,) bool: whether the degrader made ``lr``. It is data here: no gradient leads back to it.
        z0: (B, C, h, w), the truth.
        anchor: (B, C, h, w).
        xt: (B, C, h, w), where the chain starts.
        zhat: (B, C, h, w), the student's x0.
        sr: (B, 3, H, W), decoded.
    """

    hr: Tensor
    lr: Tensor
    generated: Tensor
    z0: Tensor
    anchor: Tensor
    xt: Tensor
    zhat: Tensor
    sr: Tensor


@dataclass
class Cycled:
    """LR -> SR -> LR: two draws of the degrader from the student's SR, the look told by the LR itself."""

    first: Tensor
    second: Tensor
    code: Tensor


def colearn_step(
    nets: Networks,
    descents: Descents,
    batch: dict[str, Tensor],
    lower_batch: dict[str, Tensor] | None,
    config: UpsampleTrainConfig,
    step: int,
    generator: torch.Generator,
    autocast: torch.autocast,
    *,
    update: bool = True,
) -> dict[str, float]:
    """Critics first, on what the generators made; then one joint backward of student and degrader.

    Args:
        nets: trained in place.
        descents: of ``nets``.
        batch: hr and lr in [0, 1], generated; optionally noise (B, C, h, w) and answer, a stored teacher's.
        lower_batch: of `degrade.training.data.TrainingData`, for the degrader; None when it is not trained.
        config: weights.
        step: decides learning rates and ramps.
        generator: all randomness of the step.
        autocast: mixed precision of the network calls.
        update: False for all micro-batches but the last: gradients are collected, nothing moves. (So the generators of
            the earlier ones are judged by the critics of the step before.)

    Returns:
        Every term, unweighted, and psnr, of the student on this batch in dB.
    """
    ramp, share = config.ramp(step), 1 / config.gradient_accumulation_steps
    terms: dict[str, Tensor] = {}

    # Forward, one graph: y -> zhat -> SR -> yhat, and HR -> yg.
    up = upscale(nets.student, batch, generator, autocast)
    cycled, drawn = None, None
    if nets.lower is not None and config.cycle and ramp:
        cycled = run_cycle(nets, up, config, generator, autocast)
    if nets.lower is not None and lower_batch is not None:
        drawn = draw_samples(nets.lower.degrader, lower_batch, config.degrader, generator, autocast)

    # 1. The critics, on detached images.
    due = step % config.penalty_every == 0
    if nets.hr_critic is not None and descents.hr_critic is not None and ramp:
        penalty = config.penalty * config.penalty_every * due
        real, fake = Judged(up.hr, None), Judged(as_file(up.sr), None)
        terms["critic_hr"], loss = critic_loss(nets.hr_critic, real, fake, penalty, autocast)
        (share * loss).backward()
        if update:
            descents.hr_critic.step(config.critic_learning_rate)
    if nets.lower is not None and descents.lr_critic is not None and drawn is not None and ramp:
        penalty = config.degrader.penalty * config.degrader.penalty_every * due
        terms["critic_lr"], loss = critic_loss(
            nets.lower.critic, *judged_by_lr_critic(drawn, up, cycled), penalty, autocast
        )
        (share * loss).backward()
        if update:
            descents.lr_critic.step(config.degrader.critic_learning_rate)

    # 2. Student and degrader, the critics frozen.
    loss, student_terms = student_loss(nets, up, batch, config, step, generator, autocast)
    terms |= student_terms
    if cycled is not None:
        terms["cycle"] = cycle_loss(cycled, up, config)
        loss = loss + ramp * config.cycle * terms["cycle"]
    if nets.lower is not None and drawn is not None and lower_batch is not None:
        degrader_sum, degrader_terms = degrader_loss(
            nets.lower, drawn, lower_batch["compression"], config.degrader, ramp, autocast
        )
        terms |= {f"degrader_{name}": term for name, term in degrader_terms.items()}
        loss = loss + degrader_sum
        if cycled is not None and config.degrader.adversarial and ramp:
            with autocast, frozen(nets.lower.critic):
                verdict = nets.lower.critic(as_file(cycled.first), cycled.code).float()
            terms["adversarial_cycle"] = _part(-verdict[~up.generated], len(verdict))
            loss = loss + ramp * config.degrader.adversarial * terms["adversarial_cycle"]
    (share * loss).backward()
    if update:
        rate = {"warmup_steps": config.warmup_steps, "steps": config.steps}
        descents.student.step(learning_rate(config.learning_rate, step, **rate))
        if descents.degrader is not None:
            descents.degrader.step(learning_rate(config.degrader.learning_rate, step, **rate))
    terms["loss"] = loss
    terms["psnr"] = -10 * torch.log10(((up.sr.clamp(-1, 1) - up.hr) / 2).square().mean())
    return {name: float(term.detach()) for name, term in terms.items()}


def upscale(
    student: ResidualShiftUpsampler, batch: dict[str, Tensor], generator: torch.Generator, autocast: torch.autocast
) -> Upscaled:
    """The student's one step from a fresh x_T; the LR enters as data."""
    hr, lr = batch["hr"] * 2 - 1, batch["lr"].detach() * 2 - 1
    with torch.no_grad():
        z0, anchor = student.first_stage.encode(hr), student.anchor(lr)
    noise = batch["noise"] if "noise" in batch else normal_like(z0, generator)
    xt = student.scheduler.prior_sample(anchor, noise)
    with autocast:
        zhat = student.predict_x0(xt, _last(student), lr, anchor).float()
    return Upscaled(hr, lr, batch["generated"], z0, anchor, xt, zhat, student.first_stage.decode(zhat))


def student_loss(
    nets: Networks,
    up: Upscaled,
    batch: dict[str, Tensor],
    config: UpsampleTrainConfig,
    step: int,
    generator: torch.Generator,
    autocast: torch.autocast,
) -> tuple[Tensor, dict[str, Tensor]]:
    """What the student descends: SinSR's three terms, the truth, D_H, and the degrader's pairs."""
    student, batch_size = nets.student, len(up.hr)
    inverse = config.inverse if step < config.inverse_until * config.steps else 0.0
    terms: dict[str, Tensor] = {}
    loss = up.zhat.new_zeros(())
    if config.distill or inverse:
        # Where the degrader made the LR the teacher may be wrong, but the truth is known: `pair`, below.
        rows = (~up.generated).nonzero()[:, 0]
        lr, anchor, xt = up.lr[rows], up.anchor[rows], up.xt[rows]
        if "answer" in batch:
            answer = batch["answer"][rows]
        else:
            assert nets.teacher is not None
            answer = teacher_answer(nets.teacher, lr, anchor, xt, steps=config.teacher_steps, autocast=autocast)
        terms["distill"] = _part((up.zhat[rows] - answer).square(), batch_size)
        loss = loss + config.distill * terms["distill"]
        if inverse:
            with autocast:
                start = student.predict_x0(answer, CLEAN_END, lr, anchor).float()
            terms["inverse"] = _part((start - xt).square(), batch_size)
            loss = loss + inverse * terms["inverse"]
    if config.gt and not inverse:
        # Without its inverse the student's way back to x_T is the identity and would hand it the truth to copy.
        terms["gt"] = _part((up.zhat - up.z0)[~up.generated].square(), batch_size)
        loss = loss + config.gt * terms["gt"]
    elif config.gt:
        with torch.no_grad(), autocast:  # apart from the next: autocast may keep what it cast without gradients
            start = student.predict_x0(up.z0, CLEAN_END, up.lr, up.anchor).float()
        with autocast:
            again = student.predict_x0(start, _last(student), up.lr, up.anchor).float()
        terms["gt"] = F.mse_loss(again, up.z0)
        loss = loss + config.gt * terms["gt"]
    if config.pair and nets.lower is not None:
        terms["pair"] = _part((up.zhat - up.z0)[up.generated].square(), batch_size)
        loss = loss + config.pair * terms["pair"]
    if config.perceptual:
        terms["perceptual"] = losses.perceptual(up.sr, up.hr).mean()
        loss = loss + config.perceptual * terms["perceptual"]
    ramp = config.ramp(step)
    if nets.hr_critic is not None and ramp:
        with autocast, frozen(nets.hr_critic):
            terms["adversarial_hr"] = degrade_losses.generator_hinge(nets.hr_critic(as_file(up.sr)).float())
        loss = loss + ramp * config.adversarial_hr * terms["adversarial_hr"]
    return loss, terms


def run_cycle(
    nets: Networks,
    up: Upscaled,
    config: UpsampleTrainConfig,
    generator: torch.Generator,
    autocast: torch.autocast,
) -> Cycled:
    """Degrade the student's SR twice, with the code of the LR it came from.

    Two guards against LR that hides in the SR: noise on the SR, and a gradient to the student that is scaled down.
    """
    assert nets.lower is not None
    degrader = nets.lower.degrader
    sr = as_file(losses.scale_gradient(up.sr, config.cycle_gradient))  # nor in what no file holds
    sr = sr + config.guard_noise * normal_like(sr, generator)
    nowhere = torch.zeros_like(up.generated)
    with torch.no_grad(), autocast:  # the code learns what it means from pairs, not from how to win here
        code = degrader.encoder(up.lr)[0].float()
    with autocast, nullcontext() if config.train_degrader else frozen(degrader):
        clean = F.avg_pool2d(sr, config.scale)
        first, second, _ = two_samples(degrader, sr, clean, up.lr, nowhere, code, 1.0, generator)
    return Cycled(first, second, code)


def cycle_loss(cycled: Cycled, up: Upscaled, config: UpsampleTrainConfig) -> Tensor:
    """The cycle's distance to the LR, over the samples whose LR the degrader did not make itself."""
    each = (
        losses.cycle_l1(cycled.first, up.lr)
        if config.cycle_score == "l1"
        else losses.cycle(cycled.first, cycled.second, up.lr)
    )
    return _part(each[~up.generated], len(each))


def judged_by_lr_critic(drawn: Drawn, up: Upscaled, cycled: Cycled | None) -> tuple[Judged, Judged]:
    """What D_L compares: real and recipe LR, and the LR of this batch, against both kinds of generated LR."""
    real, fake, code = [drawn.lr], [drawn.file], [drawn.code]
    if cycled is not None:
        rows = (~up.generated).nonzero()[:, 0]
        real.append(up.lr[rows])
        fake.append(as_file(cycled.first[rows]))
        code.append(cycled.code[rows])
    codes = torch.cat(code)
    return Judged(torch.cat(real), codes), Judged(torch.cat(fake), codes)


def as_file(image: Tensor) -> Tensor:
    """What a file would hold of an image in [-1, 1]: clipped, in 8 bits; the gradient passes straight through.

    Critics see nothing else, for floats against integers would give the game away.
    """
    return quantise((image + 1) / 2) * 2 - 1


def _part(some: Tensor, batch_size: int) -> Tensor:
    """What some samples of a batch contribute to its mean; 0 when there are none."""
    return some.flatten(1).mean(1).sum() / batch_size if some.ndim > 1 else some.sum() / batch_size


def _last(student: ResidualShiftUpsampler) -> int:
    return int(student.scheduler.config.num_train_timesteps) - 1
