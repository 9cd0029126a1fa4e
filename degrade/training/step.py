"""The training step of a degrader, to be read beside the paper.

The paper (Kim & Kim, arXiv 2410.07663) trains its downsampler beside a student under an LR discriminator and a cyclic
distillation. `train_step` is the downsampler's half: pairs, unpaired real LR, D_L, and the degradation code.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from degrade.degrader import RealisticDegrader
from degrade.networks.discriminator import PatchDiscriminator
from degrade.networks.texture import (
    FINE_DIM,
    TEXTURE_DIM,
    fine_statistics,
    high_pass,
    scaled_texture,
    texture_statistics,
)
from degrade.ops.compress import quantise
from degrade.seeds import torch_seed
from degrade.training import losses
from degrade.training.config import DegraderLoss, DegraderSize, DegraderTrainConfig
from degrade.training.optimizer import Optimizer

PAINTED_DIM = TEXTURE_DIM + FINE_DIM


@dataclass(frozen=True)
class Step:
    """What a training step is told beside its batch.

    Attributes:
        number: which step of the run, from 0; it decides learning rates and ramps.
        generator: all randomness of the step; it lives on the CPU.
        autocast: mixed precision of the network calls.
        update: False for all micro-batches of a step but the last: gradients are collected, no weight changes.
    """

    number: int
    generator: torch.Generator
    autocast: torch.autocast
    update: bool = True


@dataclass
class Models:
    """The networks being trained.

    Attributes:
        degrader: G.
        texture_head: predicts, from a code, how a scene's texture changes; it is not saved with the degrader.
        critic: D_L.
    """

    degrader: RealisticDegrader
    texture_head: nn.Module
    critic: PatchDiscriminator

    @classmethod
    def build(cls, *, start_from: str, scale: int, size: DegraderSize, critic_width: int, seed: int) -> "Models":
        """Build the networks, initialised from a seed without touching the global generator.

        Args:
            start_from: shipped name, folder or hub id of the degrader; "" for a new one.
            scale: HR side / LR side.
            size: the sizes of a new degrader.
            critic_width: channels of D_L's first layer.
            seed: decides the initial weights.

        Raises:
            ValueError: ``start_from`` is no degrader, or one for another scale.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(seed))
            if start_from:
                degrader = RealisticDegrader.from_pretrained(start_from).train()
            else:
                degrader = RealisticDegrader(
                    scale=scale,
                    code_dim=size.code_dim,
                    widths=size.widths,
                    blocks=size.blocks,
                    embedding_dim=size.embedding_dim,
                    encoder_widths=size.encoder_widths,
                    num_train_timesteps=size.num_train_timesteps,
                    kappa=size.kappa,
                )
            code_dim, own_scale = degrader.config.code_dim, degrader.config.scale
            if own_scale != scale:
                raise ValueError(
                    f"{start_from} is a degrader for scale {own_scale}, not {scale}; use --scale {own_scale}"
                )
            head = nn.Sequential(
                nn.Linear(code_dim + PAINTED_DIM, 2 * PAINTED_DIM),
                nn.SiLU(),
                nn.Linear(2 * PAINTED_DIM, PAINTED_DIM),
            )
            return cls(degrader, head, PatchDiscriminator(code_dim, critic_width))

    def parts(self) -> dict[str, nn.Module]:
        """Return the networks by name, for checkpoints."""
        return {"degrader": self.degrader, "texture_head": self.texture_head, "critic": self.critic}


@dataclass
class Optimizers:
    """The optimizers of `Models`: ``generator`` has the degrader, its encoder and the texture head; ``critic`` D_L."""

    generator: Optimizer
    critic: Optimizer

    @classmethod
    def build(cls, models: Models, accelerator: Accelerator, *, clip: float) -> "Optimizers":
        """Build both; the critic has no momentum and no limit of its gradient."""
        ours = [*models.degrader.parameters(), *models.texture_head.parameters()]
        return cls(
            Optimizer(ours, accelerator, betas=(0.9, 0.99), clip=clip),
            Optimizer(models.critic.parameters(), accelerator, betas=(0.0, 0.99), clip=0.0),
        )


def train_step(
    models: Models, optimizers: Optimizers, batch: dict[str, Tensor], config: DegraderTrainConfig, step: Step
) -> dict[str, float]:
    """Take one step of the critic and one of the degrader.

    Where a diffusion model has a mean-squared loss on x0, this has an energy score at every step of the chain: the
    network answers with a sample of x0 given x_t. A mean would erase the very grain that it should paint, in one step
    and in several.

    Args:
        models: trained in place.
        optimizers: the optimizers of ``models``.
        batch: hr and lr in [0, 1], paired, compression, as `TrainingData` makes them.
        config: weights of the terms.
        step: see `Step`.

    Returns:
        Every term, unweighted, and two signs of health: spread (of two samples in the high band) and their energy there
        relative to the truth.
    """
    schedule, share = config.schedule, 1 / config.schedule.gradient_accumulation_steps
    ramp = config.ramp.at(step.number, schedule.steps)
    terms: dict[str, Tensor] = {}
    drawn = draw_samples(models.degrader, batch, config.loss.prior_share, step)

    # 1. The critic, on detached samples.
    if config.loss.adversarial and step.number >= config.ramp.start * schedule.steps:
        real, fake = Judged(drawn.lr, drawn.code), Judged(drawn.file, drawn.code)
        terms["critic"], loss = critic_loss(models.critic, real, fake, config.critic.penalty_at(step.number), step)
        (share * loss).backward()
        if step.update:
            optimizers.critic.step(config.critic.learning_rate)

    # 2. The degrader.
    loss, terms_of_degrader = degrader_loss(models, drawn, batch["compression"], config.loss, ramp, step)
    (share * loss).backward()
    if step.update:
        optimizers.generator.step(schedule.learning_rate * schedule.rate_factor(step.number))
    return {name: float(term.detach()) for name, term in {**terms, **terms_of_degrader, "loss": loss}.items()}


class Judged(NamedTuple):
    """What a critic judges: LR images in [-1, 1], and the codes they should look like."""

    lr: Tensor
    code: Tensor | None


@dataclass
class Samples:
    """Two samples of x0 for every image of a batch, and what they were drawn from; images in [-1, 1].

    Attributes:
        lr: (B, 3, h, w), the real LR of the batch.
        clean: (B, 3, h, w), the anchor.
        paired: (B,) bool: whether ``lr`` shows the same scene.
        mean: (B, code_dim), mean of the code of each ``lr``.
        logvar: (B, code_dim), its log variance.
        code: (B, code_dim), what each sample was told: the code of its partner, which was degraded the same way.
        first: (B, 3, h, w).
        second: (B, 3, h, w).
        at_prior: (B,) bool: whether they were drawn at T.
        file: ``first`` as a file would hold it: floats against integers would give the game away.
    """

    lr: Tensor
    clean: Tensor
    paired: Tensor
    mean: Tensor
    logvar: Tensor
    code: Tensor
    first: Tensor
    second: Tensor
    at_prior: Tensor
    file: Tensor


def draw_samples(degrader: RealisticDegrader, batch: dict[str, Tensor], prior_share: float, step: Step) -> Samples:
    """Run the forward half of a step: codes from partners, then two samples of x0."""
    hr, lr, paired = batch["hr"] * 2 - 1, batch["lr"] * 2 - 1, batch["paired"]
    clean = F.avg_pool2d(hr, degrader.config.scale)
    with step.autocast:
        mean, logvar = (out.float() for out in degrader.encoder(lr))
    code = mean + (0.5 * logvar).exp() * normal_like(mean, step.generator)
    code = code.view(-1, 2, code.shape[1]).flip(1).flatten(0, 1)
    first, second, at_prior = two_samples(degrader, hr, clean, lr, paired, code, prior_share, step)
    file = as_file(first)
    return Samples(lr, clean, paired, mean, logvar, code, first, second, at_prior, file)


def degrader_loss(
    models: Models, drawn: Samples, compression: Tensor, weights: DegraderLoss, ramp: float, step: Step
) -> tuple[Tensor, dict[str, Tensor]]:
    """Write the weighted sum that the degrader descends; the critic's parameters get no gradient from it.

    Args:
        models: the networks being trained.
        drawn: from `draw_samples`.
        compression: (B, 2), from the batch.
        weights: the weights of the terms.
        ramp: 0..1, how much the critic counts.
        step: see `Step`.

    Returns:
        The sum, and its terms, unweighted, with two signs of health.
    """
    degrader, paired, code = models.degrader, drawn.paired, drawn.code
    first, second = drawn.first, drawn.second
    terms: dict[str, Tensor] = {}
    # Where HR and LR are a pair the truth is known; elsewhere the texture head predicts it.
    of_clean = painted_statistics(drawn.clean)
    truth = painted_statistics(drawn.lr) - of_clean
    predicted = models.texture_head(torch.cat([code, scaled_texture(of_clean)], dim=1))
    wanted = torch.where(paired[:, None], truth, predicted.detach())
    painted = [painted_statistics(sample) - of_clean for sample in (drawn.file, as_file(second))]
    scores = [losses.energy_score(first, second, drawn.lr, patch) for patch in weights.energy_patches]
    terms["energy"] = mean_where(paired, torch.stack(scores).mean(0))
    # On unpaired samples the predicted target counts by the critic's ramp: an untrained texture head says nothing yet.
    share = torch.where(paired, 1.0, ramp)
    terms["texture"] = ((torch.stack(painted) - wanted).abs().mean(2) * share).mean()
    terms["low"] = losses.low_frequency(first, torch.where(paired.view(-1, 1, 1, 1), drawn.lr, drawn.clean)).mean()
    terms["encoder"] = mean_where(paired, (predicted - truth).abs().mean(1))
    terms["compression"] = losses.compression(*degrader.quantiser.strength(code), compression)
    terms["kl"] = losses.kl_to_prior(drawn.mean, drawn.logvar).mean()
    with step.autocast, frozen(degrader.encoder):
        terms["code"] = (degrader.encoder(drawn.file)[0].float() - code.detach()).abs().mean()
    loss = (
        weights.energy * terms["energy"]
        + weights.texture * terms["texture"]
        + weights.low * terms["low"]
        + weights.encoder * terms["encoder"]
        + weights.compression * terms["compression"]
        + weights.kl * terms["kl"]
        + weights.code * terms["code"]
    )
    if ramp and weights.adversarial:
        with step.autocast, frozen(models.critic):
            terms["adversarial"] = losses.generator_hinge(models.critic(drawn.file, code.detach()).float())
        loss = loss + ramp * weights.adversarial * terms["adversarial"]
    return loss, terms | signs_of_health(drawn)


def painted_statistics(images: Tensor) -> Tensor:
    """Measure everything that a sample should share with its true LR: (B, 3, h, w) in [-1, 1] -> (B, PAINTED_DIM)."""
    images = (images + 1) / 2
    return torch.cat([texture_statistics(images), fine_statistics(images)], dim=1)


def as_file(images: Tensor) -> Tensor:
    """Round images to 8 bits, with a straight-through gradient; any shape, range [-1, 1]."""
    return quantise((images + 1) / 2) * 2 - 1


def signs_of_health(drawn: Samples) -> dict[str, Tensor]:
    """Measure the spread of the two samples in the high band, and their energy there relative to the truth."""
    with torch.no_grad():
        apart = (high_pass(drawn.first) - high_pass(drawn.second)).abs().mean((1, 2, 3))
        energy, true_energy = (
            mean_where(drawn.paired, high_pass(x).square().mean((1, 2, 3))) for x in (drawn.first, drawn.lr)
        )
        ratio = energy / true_energy.clamp(min=1e-12)
        return {"spread": mean_where(drawn.at_prior, apart), "energy_ratio": ratio}


def two_samples(
    degrader: RealisticDegrader,
    hr: Tensor,
    clean: Tensor,
    lr: Tensor,
    paired: Tensor,
    code: Tensor,
    prior_share: float,
    step: Step,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw two samples of x0 for every image: at T from two draws of x_T, below T from one x_t and two draws of noise.

    Args:
        degrader: the model.
        hr: (B, 3, H, W), range [-1, 1].
        clean: (B, 3, h, w), the anchor.
        lr: (B, 3, h, w), the end of the chain where ``paired``; x_t below T can be drawn only there.
        paired: (B,) bool.
        code: (B, code_dim).
        prior_share: probability of T.
        step: its generator draws the steps of the chain and the noise.

    Returns:
        The two samples and at_prior, (B,) bool: which were made from T.
    """
    scheduler, last, generator = degrader.scheduler, degrader.config.num_train_timesteps - 1, step.generator
    below = torch.randint(max(1, last), (len(lr),), generator=generator).to(lr.device)
    draw = torch.rand(len(lr), generator=generator).to(lr.device)
    at_prior = (draw < prior_share) | ~paired if last else torch.ones_like(paired)
    t = torch.where(at_prior, last, below)
    mask = at_prior.view(-1, 1, 1, 1)
    noise = [normal_like(lr, generator) for _ in range(2)]
    shared = scheduler.add_noise(lr, clean, noise[0], t)
    xt = [torch.where(mask, scheduler.prior_sample(clean, each), shared) for each in noise]
    free = [torch.where(mask, 0.0, normal_like(lr, generator)) for _ in range(2)]
    t, hr, clean, code = (torch.cat([x, x]) for x in (t, hr, clean, code))
    with step.autocast:
        first, second = degrader.predict_x0(torch.cat(xt), t, hr, clean, code, torch.cat(free)).float().chunk(2)
    return first, second, at_prior


def critic_loss(
    critic: PatchDiscriminator, real: Judged, fake: Judged, penalty: float, step: Step
) -> tuple[Tensor, Tensor]:
    """Return the critic's hinge, and what it descends: the hinge with R1 at weight ``penalty``.

    No gradient reaches the images.
    """
    images = real.lr.detach().clone().requires_grad_(penalty > 0)
    codes = [None if judged.code is None else judged.code.detach() for judged in (real, fake)]
    with torch.autocast(step.autocast.device, enabled=False) if penalty else step.autocast:
        real_logits = critic(images, codes[0]).float()
        fake_logits = critic(fake.lr.detach(), codes[1]).float()
    hinge = losses.critic_hinge(real_logits, fake_logits)
    return hinge, hinge + penalty * losses.gradient_penalty(real_logits, images) if penalty else hinge


def normal_like(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard normal numbers in the shape and on the device of ``like``; the generator lives on the CPU."""
    return torch.randn(like.shape, generator=generator).to(like.device)


def mean_where(mask: Tensor, values: Tensor) -> Tensor:
    """Return the mean of the masked values; 0 when there are none."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients pass through a module without reaching its parameters."""
    parameters = list(module.parameters())
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
