"""One training step of the degrader: the samples, the critic, and the weighted sum of the losses.

The paper (Kim & Kim, arXiv 2410.07663) trains its downsampler beside a student under an LR discriminator and a cyclic
distillation. `train_step` is the downsampler's half: pairs, unpaired real LR, D_L, and the degradation code.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from degrade.degrader import RealisticDegrader
from degrade.networks.discriminator import PatchDiscriminator
from degrade.networks.texture import TEXTURE_DIM, high_pass, texture_statistics
from degrade.ops.compress import quantise
from degrade.training import losses
from degrade.training.config import DegraderTrainConfig


@dataclass
class Models:
    """What is trained. ``texture_head`` foretells from a code how the texture of a scene changes; it is not kept."""

    degrader: RealisticDegrader
    texture_head: nn.Module
    critic: PatchDiscriminator

    @classmethod
    def build(cls, config: DegraderTrainConfig) -> "Models":
        """New networks, initialised from ``config.seed`` without touching the global generator.

        Raises:
            ValueError: ``config.start_from`` is no degrader, or one for another scale.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            if config.start_from:
                degrader = RealisticDegrader.from_pretrained(config.start_from).train()
            else:
                degrader = RealisticDegrader(
                    scale=config.scale,
                    code_dim=config.code_dim,
                    widths=config.widths,
                    blocks=config.blocks,
                    embedding_dim=config.embedding_dim,
                    encoder_widths=config.encoder_widths,
                    num_train_timesteps=config.num_train_timesteps,
                    kappa=config.kappa,
                )
            code_dim, scale = degrader.config.code_dim, degrader.config.scale
            if scale != config.scale:
                raise ValueError(f"{config.start_from} is a degrader for scale {scale}, not {config.scale}")
            head = nn.Sequential(
                nn.Linear(code_dim + TEXTURE_DIM, 2 * TEXTURE_DIM),
                nn.SiLU(),
                nn.Linear(2 * TEXTURE_DIM, TEXTURE_DIM),
            )
            return cls(degrader, head, PatchDiscriminator(code_dim, config.critic_width))

    def parts(self) -> dict[str, nn.Module]:
        """The modules by name, for checkpoints."""
        return {"degrader": self.degrader, "texture_head": self.texture_head, "critic": self.critic}


@dataclass
class Optimizers:
    """One optimiser a side: ``generator`` has the degrader, its encoder and the texture head; ``critic`` has D_L."""

    generator: torch.optim.Optimizer
    critic: torch.optim.Optimizer

    @classmethod
    def build(cls, models: Models, config: DegraderTrainConfig) -> "Optimizers":
        """AdamW for both; the critic without momentum."""
        ours = [*models.degrader.parameters(), *models.texture_head.parameters()]
        return cls(
            torch.optim.AdamW(ours, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0),
            torch.optim.AdamW(
                models.critic.parameters(), lr=config.critic_learning_rate, betas=(0.0, 0.99), weight_decay=0.0
            ),
        )


def train_step(
    models: Models,
    optimizers: Optimizers,
    batch: dict[str, Tensor],
    config: DegraderTrainConfig,
    step: int,
    generator: torch.Generator,
    autocast: torch.autocast | None = None,
) -> dict[str, float]:
    """One update of the critic and one of the degrader.

    Where a diffusion model has a mean-squared loss on x0, this has an energy score at every step of the chain: the
    network answers with a sample of x0 given x_t. A mean would erase the very grain that it should paint, in one step
    and in several.

    Args:
        models: trained in place.
        optimizers: of ``models``.
        batch: hr and lr in [0, 1], paired, compression, as `TrainingData` makes them.
        config: weights of the terms.
        step: decides the learning rate and the critic's ramp.
        generator: all randomness of the step.
        autocast: mixed precision for the network calls; None = full.

    Returns:
        Every term, unweighted, and two signs of health: spread (of two samples in the high band) and their energy there
        relative to the truth.
    """
    autocast = autocast or torch.autocast(models.degrader.device.type, enabled=False)
    drawn = draw_samples(models.degrader, batch, config, generator, autocast)

    # 1. The critic, on detached samples.
    ramp = min(1.0, max(0.0, (step / config.steps - config.critic_start) / config.critic_ramp))
    terms: dict[str, Tensor] = {}
    if config.adversarial and step >= config.critic_start * config.steps:
        penalty = config.penalty * config.penalty_every if step % config.penalty_every == 0 else 0.0
        real, fake = Judged(drawn.lr, drawn.code), Judged(drawn.file, drawn.code)
        terms["critic"], loss = critic_loss(models.critic, real, fake, penalty, autocast)
        optimizers.critic.zero_grad(set_to_none=True)
        loss.backward()
        optimizers.critic.step()
        optimizers.critic.zero_grad(set_to_none=True)

    # 2. The degrader.
    loss, terms_of_degrader = degrader_loss(models, drawn, batch["compression"], config, ramp, autocast)
    for group in optimizers.generator.param_groups:
        group["lr"] = learning_rate(config.learning_rate, step, warmup_steps=config.warmup_steps, steps=config.steps)
    optimizers.generator.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([*models.degrader.parameters(), *models.texture_head.parameters()], config.grad_clip)
    optimizers.generator.step()
    return {name: float(term.detach()) for name, term in {**terms, **terms_of_degrader, "loss": loss}.items()}


class Judged(NamedTuple):
    """What a critic judges: LR images in [-1, 1], and the codes they should look like."""

    lr: Tensor
    code: Tensor | None


@dataclass
class Drawn:
    """Two samples of x0 for every image of a batch, and what they were drawn from; images in [-1, 1].

    Attributes:
        lr: (B, 3, h, w), the real LR of the batch.
        clean: (B, 3, h, w), the anchor.
        paired: (B,) bool: whether ``lr`` is of the same scene.
        mean: (B, code_dim), of the code of each ``lr``.
        logvar: (B, code_dim).
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


def draw_samples(
    degrader: RealisticDegrader,
    batch: dict[str, Tensor],
    config: DegraderTrainConfig,
    generator: torch.Generator,
    autocast: torch.autocast,
) -> Drawn:
    """The forward half of a step: codes from partners, then two samples of x0."""
    hr, lr, paired = batch["hr"] * 2 - 1, batch["lr"] * 2 - 1, batch["paired"]
    clean = F.avg_pool2d(hr, degrader.config.scale)
    with autocast:
        mean, logvar = (out.float() for out in degrader.encoder(lr))
    code = mean + (0.5 * logvar).exp() * normal_like(mean, generator)
    code = code.view(-1, 2, code.shape[1]).flip(1).flatten(0, 1)
    with autocast:
        first, second, at_prior = two_samples(degrader, hr, clean, lr, paired, code, config.prior_share, generator)
    file = quantise((first + 1) / 2) * 2 - 1
    return Drawn(lr, clean, paired, mean, logvar, code, first, second, at_prior, file)


def degrader_loss(
    models: Models,
    drawn: Drawn,
    compression: Tensor,
    config: DegraderTrainConfig,
    ramp: float,
    autocast: torch.autocast,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum that the degrader descends; the critic's parameters get no gradient from it.

    Args:
        models: what is trained.
        drawn: of `draw_samples`.
        compression: (B, 2), of the batch.
        config: weights.
        ramp: 0..1, how much the critic counts.
        autocast: mixed precision.

    Returns:
        The sum, and its terms, unweighted, with two signs of health.
    """
    degrader = models.degrader
    lr, clean, paired, code = drawn.lr, drawn.clean, drawn.paired, drawn.code
    first, second = drawn.first, drawn.second
    terms: dict[str, Tensor] = {}
    # Where HR and LR are a pair the truth is known; elsewhere the texture head foretells it.
    of_clean = texture_statistics((clean + 1) / 2)
    truth = texture_statistics((lr + 1) / 2) - of_clean
    foretold = models.texture_head(torch.cat([code, of_clean / 4 + 1.5], dim=1))
    wanted = torch.where(paired[:, None], truth, foretold.detach())
    painted = [texture_statistics((sample + 1) / 2) - of_clean for sample in (first, second)]
    scores = [losses.energy_score(first, second, lr, patch) for patch in config.energy_patches]
    terms["energy"] = mean_where(paired, torch.stack(scores).mean(0))
    # What is foretold counts once the critic does: a texture head that is new says nothing yet.
    share = torch.where(paired, 1.0, ramp)
    terms["texture"] = ((torch.stack(painted) - wanted).abs().mean(2) * share).mean()
    terms["low"] = losses.low_frequency(first, torch.where(paired.view(-1, 1, 1, 1), lr, clean)).mean()
    terms["encoder"] = mean_where(paired, (foretold - truth).abs().mean(1))
    terms["compression"] = losses.compression(*degrader.quantiser.strength(code), compression)
    terms["kl"] = losses.kl_to_prior(drawn.mean, drawn.logvar).mean()
    with autocast, frozen(degrader.encoder):
        terms["code"] = (degrader.encoder(drawn.file)[0].float() - code.detach()).abs().mean()
    loss = (
        config.energy * terms["energy"]
        + config.texture * terms["texture"]
        + config.low * terms["low"]
        + config.encoder * terms["encoder"]
        + config.compression * terms["compression"]
        + config.kl * terms["kl"]
        + config.code * terms["code"]
    )
    if ramp and config.adversarial:
        with autocast, frozen(models.critic):
            terms["adversarial"] = losses.generator_hinge(models.critic(drawn.file, code.detach()).float())
        loss = loss + ramp * config.adversarial * terms["adversarial"]
    with torch.no_grad():
        apart = (high_pass(first) - high_pass(second)).abs().mean((1, 2, 3))
        terms["spread"] = mean_where(drawn.at_prior, apart)
        energy, true_energy = (mean_where(paired, high_pass(x).square().mean((1, 2, 3))) for x in (first, lr))
        terms["energy_ratio"] = energy / true_energy.clamp(min=1e-12)
    return loss, terms


def two_samples(
    degrader: RealisticDegrader,
    hr: Tensor,
    clean: Tensor,
    lr: Tensor,
    paired: Tensor,
    code: Tensor,
    prior_share: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Two samples of x0 for every image: at T from two draws of x_T, below T from one x_t and two draws of free noise.

    Args:
        degrader: the model.
        hr: (B, 3, H, W), range [-1, 1].
        clean: (B, 3, h, w), the anchor.
        lr: (B, 3, h, w), the end of the chain where ``paired``; x_t below T can be drawn only there.
        paired: (B,) bool.
        code: (B, code_dim).
        prior_share: probability of T.
        generator: of steps and noise.

    Returns:
        The two samples and at_prior, (B,) bool: which were made from T.
    """
    scheduler, last = degrader.scheduler, degrader.config.num_train_timesteps - 1
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
    first, second = degrader.predict_x0(torch.cat(xt), t, hr, clean, code, torch.cat(free)).float().chunk(2)
    return first, second, at_prior


def critic_loss(
    critic: PatchDiscriminator, real: Judged, fake: Judged, penalty: float, autocast: torch.autocast
) -> tuple[Tensor, Tensor]:
    """Hinge of the critic, and what it descends: with R1 at weight ``penalty``. Nothing flows into the images."""
    images = real.lr.detach().clone().requires_grad_(penalty > 0)
    codes = [None if judged.code is None else judged.code.detach() for judged in (real, fake)]
    with torch.autocast(autocast.device, enabled=False) if penalty else autocast:
        real_logits = critic(images, codes[0]).float()
        fake_logits = critic(fake.lr.detach(), codes[1]).float()
    hinge = losses.critic_hinge(real_logits, fake_logits)
    return hinge, hinge + penalty * losses.gradient_penalty(real_logits, images) if penalty else hinge


def normal_like(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers in the shape and on the device of ``like``; the generator lives on the CPU."""
    return torch.randn(like.shape, generator=generator).to(like.device)


def mean_where(mask: Tensor, values: Tensor) -> Tensor:
    """Mean of the masked values; 0 when there are none."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


class frozen:  # noqa: N801 - reads as a word: with frozen(critic)
    """Inside, gradients pass through a module without reaching its parameters."""

    def __init__(self, module: nn.Module) -> None:
        self.parameters = list(module.parameters())

    def __enter__(self) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(True)


def learning_rate(peak: float, step: int, *, warmup_steps: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to a tenth; a function of the step alone, so that resuming continues it."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))
