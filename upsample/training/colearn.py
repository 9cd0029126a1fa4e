"""One step of distillation and co-learning: the only place where the weighted sums are written.

The paper (Kim & Kim, arXiv 2410.07663) trains a one-step student, distilled from a teacher, together with a diffusion
downsampler, under an HR and an LR discriminator and a cycle LR -> SR -> LR. Its equations could not be had in detail;
the terms here are SinSR's (arXiv 2311.14760) for the student, those of `degrade.training.step` for the downsampler, and
our own construction between them. With the arrows of the downsampler off it is SinSR's step.

A student may have a detail branch (`upsample.detail_branch`). Then there are two images: ``sr``, the faithful one,
which the student's own terms teach as before, and ``sharp``, the same with all of its detail. D_H judges the sharp one,
and the cycle degrades it. No gradient leads from it to the student: the student's image stays the one with the smallest
error, and the branch learns what that image lacks.

The degrader comes trained, so its pairs count from the first step on and their share is constant; critics and cycle
wait for ``ramp.start`` and then rise.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from degrade.networks.discriminator import PatchDiscriminator
from degrade.ops.compress import quantise
from degrade.perceptual.distance import feature_distance
from degrade.perceptual.pretrained_features import PretrainedFeatures
from degrade.perceptual.projected_critic import ProjectedCritic, draw_corner
from degrade.training import losses as degrade_losses
from degrade.training.optimizer import Optimizer
from degrade.training.step import (
    Judged,
    Models,
    Samples,
    Step,
    critic_loss,
    degrader_loss,
    draw_samples,
    frozen,
    normal_like,
    two_samples,
)
from upsample.model import ResidualShiftUpsampler
from upsample.training import losses
from upsample.training.config import CycleConfig, DetailConfig, UpsampleTrainConfig
from upsample.training.teacher import teacher_answer

MEAN_SIDE = 4  # HR pixels; means of such squares keep the colours that critics do not see
CLEAN_END = 0  # time index of the student's inverse call, as SinSR re-uses it


@dataclass
class Networks:
    """What a step trains, and the teacher it learns from.

    Attributes:
        student: f.
        teacher: frozen; None when no term needs it.
        hr_critic: D_H; None when it is off.
        lower: the degrader G with its helpers and D_L; None when there is no degrader.
        features: the pretrained network of the branch's feature distance; None when it is off.
    """

    student: ResidualShiftUpsampler
    teacher: ResidualShiftUpsampler | None = None
    hr_critic: PatchDiscriminator | ProjectedCritic | None = None
    lower: Models | None = None
    features: PretrainedFeatures | None = None


@dataclass
class Optimizers:
    """The optimizers of `Networks`; each changes its own parameters. None = that network is not trained."""

    student: Optimizer
    hr_critic: Optimizer | None = None
    degrader: Optimizer | None = None
    lr_critic: Optimizer | None = None

    @classmethod
    def build(cls, nets: Networks, config: UpsampleTrainConfig, accelerator: Accelerator) -> "Optimizers":
        """Build one for each network that the settings train; critics have no momentum and no limit of the gradient."""
        generator = {"accelerator": accelerator, "betas": (0.9, 0.99), "clip": config.schedule.grad_clip}
        critic = {"accelerator": accelerator, "betas": (0.0, 0.99), "clip": 0.0}
        built = cls(Optimizer([p for p in nets.student.parameters() if p.requires_grad], **generator))
        if nets.hr_critic is not None:
            built.hr_critic = Optimizer(nets.hr_critic.parameters(), **critic)
        if nets.lower is not None and config.degrader.train:
            ours = [*nets.lower.degrader.parameters(), *nets.lower.texture_head.parameters()]
            built.degrader = Optimizer(ours, **generator)
            if config.degrader.loss.adversarial:
                built.lr_critic = Optimizer(nets.lower.critic.parameters(), **critic)
        return built


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
        sharp: (B, 3, H, W), sr with all of its detail; sr itself when no branch learns.
    """

    hr: Tensor
    lr: Tensor
    generated: Tensor
    z0: Tensor
    anchor: Tensor
    xt: Tensor
    zhat: Tensor
    sr: Tensor
    sharp: Tensor


@dataclass
class Cycled:
    """LR -> SR -> LR: two draws of the degrader from the student's SR, with the code of the LR itself."""

    first: Tensor
    second: Tensor
    code: Tensor


def colearn_step(
    nets: Networks,
    optimizers: Optimizers,
    batch: dict[str, Tensor],
    lower_batch: dict[str, Tensor] | None,
    config: UpsampleTrainConfig,
    step: Step,
) -> dict[str, float]:
    """Take a step of the critics on what the generators made, then a joint step of student and degrader.

    Args:
        nets: trained in place.
        optimizers: the optimizers of ``nets``.
        batch: hr and lr in [0, 1], generated; optionally noise (B, C, h, w) and answer, a stored teacher's.
        lower_batch: from `degrade.training.data.TrainingData`, for the degrader; None when it is not trained.
        config: weights.
        step: see `Step`. (Generators of earlier micro-batches are judged by the critics of the step before.)

    Returns:
        Every term, unweighted, and psnr, of the faithful image on this batch in dB.
    """
    schedule, lower, weights = config.schedule, nets.lower, config.degrader.loss
    ramp, share = config.ramp.at(step.number, schedule.steps), 1 / schedule.gradient_accumulation_steps

    # Forward, one graph: y -> zhat -> SR -> yhat, and HR -> yg.
    up = upscale(nets.student, batch, config, step)
    cycled = run_cycle(nets, up, config, step) if lower is not None and config.cycle.weight and ramp else None
    drawn = None
    if lower is not None and lower_batch is not None:
        drawn = draw_samples(lower.degrader, lower_batch, weights.prior_share, step)

    # 1. The critics, on detached images.
    terms = step_critics(nets, optimizers, up, cycled, drawn, config, step) if ramp else {}

    # 2. Student, branch and degrader, the critics frozen.
    loss = up.hr.new_zeros(())
    if config.student_learns:
        loss, student_terms = student_loss(nets, up, batch, config, step)
        terms |= student_terms
    if config.detail.branch:
        detail_sum, detail_terms = detail_loss(nets, up, config.detail, step)
        terms |= detail_terms
        loss = loss + detail_sum
    if nets.hr_critic is not None and ramp:
        terms["adversarial_hr"] = adversarial_hr(nets.hr_critic, up, step)
        loss = loss + ramp * config.loss.adversarial_hr * terms["adversarial_hr"]
    if cycled is not None:
        terms["cycle"] = cycle_loss(cycled, up, config.cycle)
        loss = loss + ramp * config.cycle.weight * terms["cycle"]
    if lower is not None and drawn is not None and lower_batch is not None:
        degrader_sum, degrader_terms = degrader_loss(lower, drawn, lower_batch["compression"], weights, ramp, step)
        terms |= {f"degrader_{name}": term for name, term in degrader_terms.items()}
        loss = loss + degrader_sum
        if cycled is not None and weights.adversarial:
            with step.autocast, frozen(lower.critic):
                verdict = lower.critic(as_file(cycled.first), cycled.code).float()
            terms["adversarial_cycle"] = _part(-verdict[~up.generated], len(verdict))
            loss = loss + ramp * weights.adversarial * terms["adversarial_cycle"]
    (share * loss).backward()
    if step.update:
        factor = schedule.rate_factor(step.number)
        optimizers.student.step(schedule.learning_rate * factor)
        if optimizers.degrader is not None:
            optimizers.degrader.step(config.degrader.learning_rate * factor)
    terms["loss"] = loss
    terms["psnr"] = -10 * torch.log10(((up.sr.clamp(-1, 1) - up.hr) / 2).square().mean())
    return {name: float(term.detach()) for name, term in terms.items()}


def step_critics(
    nets: Networks,
    optimizers: Optimizers,
    up: Upscaled,
    cycled: Cycled | None,
    drawn: Samples | None,
    config: UpsampleTrainConfig,
    step: Step,
) -> dict[str, Tensor]:
    """Take a step of D_H and of D_L, those that are on; return their hinges."""
    share = 1 / config.schedule.gradient_accumulation_steps
    terms: dict[str, Tensor] = {}
    if nets.hr_critic is not None and optimizers.hr_critic is not None:
        terms["critic_hr"], loss = hr_critic_loss(nets.hr_critic, up, config.critic.penalty_at(step.number), step)
        (share * loss).backward()
        if step.update:
            optimizers.hr_critic.step(config.critic.learning_rate)
    if nets.lower is not None and optimizers.lr_critic is not None and drawn is not None:
        own = config.degrader.critic
        real, fake = judged_by_lr_critic(drawn, up, cycled)
        terms["critic_lr"], loss = critic_loss(nets.lower.critic, real, fake, own.penalty_at(step.number), step)
        (share * loss).backward()
        if step.update:
            optimizers.lr_critic.step(own.learning_rate)
    return terms


def upscale(
    student: ResidualShiftUpsampler, batch: dict[str, Tensor], config: UpsampleTrainConfig, step: Step
) -> Upscaled:
    """Run the student's one step from a fresh x_T, and its branch; the LR enters as data."""
    hr, lr = batch["hr"] * 2 - 1, batch["lr"].detach() * 2 - 1
    with torch.no_grad():
        z0, anchor = student.first_stage.encode(hr), student.anchor(lr)
    noise = batch["noise"] if "noise" in batch else normal_like(z0, step.generator)
    xt = student.scheduler.prior_sample(anchor, noise)
    if not config.detail.branch:
        with step.autocast:
            zhat = student.predict_x0(xt, _last(student), lr, anchor).float()
        sr = student.first_stage.decode(zhat)
        return Upscaled(hr, lr, batch["generated"], z0, anchor, xt, zhat, sr, sharp=sr)
    with step.autocast, nullcontext() if config.student_learns else torch.no_grad():
        zhat, features = student.predict_with_features(xt, lr, anchor)
    sr = student.first_stage.decode(zhat.float())
    with step.autocast:
        detail = student.draw_detail(features.detach(), lr, noise)
    sharp = sr.detach().clamp(-1, 1) + detail.float()
    return Upscaled(hr, lr, batch["generated"], z0, anchor, xt, zhat.float(), sr, sharp)


def student_loss(
    nets: Networks, up: Upscaled, batch: dict[str, Tensor], config: UpsampleTrainConfig, step: Step
) -> tuple[Tensor, dict[str, Tensor]]:
    """Write the weighted sum, without D_H, that the student descends: SinSR's three terms, and the degrader's pairs.

    Returns:
        The sum, and its terms, unweighted.
    """
    student, batch_size, weights = nets.student, len(up.hr), config.loss
    inverse = weights.inverse if step.number < weights.inverse_until * config.schedule.steps else 0.0
    terms: dict[str, Tensor] = {}
    loss = up.zhat.new_zeros(())
    if weights.distill or inverse:
        # Where the degrader made the LR the teacher may be wrong, but the truth is known: `pair`, below.
        rows = (~up.generated).nonzero()[:, 0]
        lr, anchor, xt = up.lr[rows], up.anchor[rows], up.xt[rows]
        if "answer" in batch:
            answer = batch["answer"][rows]
        else:
            assert nets.teacher is not None
            answer = teacher_answer(nets.teacher, lr, anchor, xt, steps=config.teacher_steps, autocast=step.autocast)
        terms["distill"] = _part((up.zhat[rows] - answer).square(), batch_size)
        loss = loss + weights.distill * terms["distill"]
        if inverse:
            with step.autocast:
                start = student.predict_x0(answer, CLEAN_END, lr, anchor).float()
            terms["inverse"] = _part((start - xt).square(), batch_size)
            loss = loss + inverse * terms["inverse"]
    if weights.gt:
        terms["gt"] = (
            truth_through_the_inverse(student, up, step)
            if inverse
            else _part((up.zhat - up.z0)[~up.generated].square(), batch_size)
        )
        loss = loss + weights.gt * terms["gt"]
    if weights.pair and nets.lower is not None:
        terms["pair"] = _part((up.zhat - up.z0)[up.generated].square(), batch_size)
        loss = loss + weights.pair * terms["pair"]
    if weights.perceptual:
        terms["perceptual"] = losses.perceptual(up.sr, up.hr).mean()
        loss = loss + weights.perceptual * terms["perceptual"]
    return loss, terms


def detail_loss(nets: Networks, up: Upscaled, weights: DetailConfig, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
    """Write the weighted sum, without D_H and the cycle, that the detail branch descends.

    Returns:
        The sum, and its terms, unweighted.
    """
    error = up.sharp - up.hr
    terms = {"detail_pixels": error.abs().mean(), "detail_means": F.avg_pool2d(error, MEAN_SIDE).abs().mean()}
    loss = weights.pixels * terms["detail_pixels"] + weights.means * terms["detail_means"]
    if nets.features is not None:
        with step.autocast:
            with torch.no_grad():
                truth = nets.features(up.hr)
            maps = nets.features(up.sharp)
        terms["detail_features"] = feature_distance(maps, truth).float().mean()
        loss = loss + weights.features * terms["detail_features"]
    return loss, terms


def adversarial_hr(critic: PatchDiscriminator | ProjectedCritic, up: Upscaled, step: Step) -> Tensor:
    """Return the generator's side of D_H's hinge on the sharp image."""
    with step.autocast, frozen(critic):
        if isinstance(critic, PatchDiscriminator):
            return degrade_losses.generator_hinge(critic(as_file(up.sharp)).float())
        logits = critic(as_file(up.sharp), draw_corner(step.generator))
    return torch.stack([degrade_losses.generator_hinge(each.float()) for each in logits]).mean()


def hr_critic_loss(
    critic: PatchDiscriminator | ProjectedCritic, up: Upscaled, penalty: float, step: Step
) -> tuple[Tensor, Tensor]:
    """Return D_H's hinge, and what it descends; a projected critic has its spectral norm in the place of a penalty."""
    if isinstance(critic, PatchDiscriminator):
        return critic_loss(critic, Judged(up.hr, None), Judged(as_file(up.sharp), None), penalty, step)
    corner = draw_corner(step.generator)
    with step.autocast:
        real, fake = critic(up.hr, corner), critic(as_file(up.sharp.detach()), corner)
    pairs = zip(real, fake, strict=True)
    hinge = torch.stack([degrade_losses.critic_hinge(a.float(), b.float()) for a, b in pairs]).mean()
    return hinge, hinge


def truth_through_the_inverse(student: ResidualShiftUpsampler, up: Upscaled, step: Step) -> Tensor:
    """Return SinSR's third term: the squared error of x0 from the x_T that the student's inverse finds for the truth.

    It needs the inverse to be trained: without, the way back to x_T is the identity and hands the truth to copy.
    """
    with torch.no_grad(), step.autocast:  # apart from the next: autocast may keep what it cast without gradients
        start = student.predict_x0(up.z0, CLEAN_END, up.lr, up.anchor).float()
    with step.autocast:
        again = student.predict_x0(start, _last(student), up.lr, up.anchor).float()
    return F.mse_loss(again, up.z0)


def run_cycle(nets: Networks, up: Upscaled, config: UpsampleTrainConfig, step: Step) -> Cycled:
    """Degrade the sharp SR twice, with the code of the LR it came from.

    Two guards against LR that hides in the SR: noise on the SR, and a gradient to the student that is scaled down.
    """
    assert nets.lower is not None
    degrader = nets.lower.degrader
    sr = as_file(losses.scale_gradient(up.sharp, config.cycle.gradient))  # a file holds no hidden fractions either
    sr = sr + config.cycle.guard_noise * normal_like(sr, step.generator)
    unpaired = torch.zeros_like(up.generated)
    with torch.no_grad(), step.autocast:  # the code learns what it means from pairs, not from how to win here
        code = degrader.encoder(up.lr)[0].float()
    with nullcontext() if config.degrader.train else frozen(degrader):
        clean = F.avg_pool2d(sr, config.scale)
        first, second, _ = two_samples(degrader, sr, clean, up.lr, unpaired, code, 1.0, step)
    return Cycled(first, second, code)


def cycle_loss(cycled: Cycled, up: Upscaled, config: CycleConfig) -> Tensor:
    """Return the cycle's distance to the LR, over the samples whose LR the degrader did not make itself."""
    each = (
        losses.cycle_l1(cycled.first, up.lr)
        if config.score == "l1"
        else losses.cycle(cycled.first, cycled.second, up.lr)
    )
    return _part(each[~up.generated], len(each))


def judged_by_lr_critic(drawn: Samples, up: Upscaled, cycled: Cycled | None) -> tuple[Judged, Judged]:
    """Return what D_L compares: real and recipe LR, and the LR of this batch, against both kinds of generated LR."""
    real, fake, code = [drawn.lr], [drawn.file], [drawn.code]
    if cycled is not None:
        rows = (~up.generated).nonzero()[:, 0]
        real.append(up.lr[rows])
        fake.append(as_file(cycled.first[rows]))
        code.append(cycled.code[rows])
    codes = torch.cat(code)
    return Judged(torch.cat(real), codes), Judged(torch.cat(fake), codes)


def as_file(image: Tensor) -> Tensor:
    """Return what a file would hold of an image in [-1, 1]: clipped, in 8 bits; the gradient passes straight through.

    Critics see nothing else, because floats against integers would give the game away.
    """
    return quantise((image + 1) / 2) * 2 - 1


def _part(some: Tensor, batch_size: int) -> Tensor:
    """Sum the means of some samples of a batch, and divide by the size of the whole batch; 0 for no samples."""
    return some.flatten(1).mean(1).sum() / batch_size if some.ndim > 1 else some.sum() / batch_size


def _last(student: ResidualShiftUpsampler) -> int:
    return int(student.scheduler.config.num_train_timesteps) - 1
