"""The terms that train the degrader: pure functions, one term each. `degrade.training.step` writes their sum."""

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.networks.texture import low_pass


def energy_score(first: Tensor, second: Tensor, target: Tensor, patch: int) -> Tensor:
    """Return the energy score of two samples: lowest when samples and truth share a distribution.

    1/2 (|first - target| + |second - target|) - 1/2 |first - second|, each |.| a mean of patch norms (Gneiting &
    Raftery 2007). It stands where a diffusion model has its mean-squared x0 loss: see `train_step`.

    The mean distance to the target alone would be lowest at the conditional median, which has no noise; the distance
    between the samples pays for their spread. Patches overlap at every offset: on a fixed grid no patch would ever see
    across its borders, and the noise would take on the grid's texture.

    Args:
        first: one sample, (B, C, h, w).
        second: an independent one.
        target: the truth.
        patch: side of the patches whose L2 norms are averaged.

    Returns:
        (B,).
    """

    def distance(a: Tensor, b: Tensor) -> Tensor:
        squared = F.avg_pool2d(((a - b) ** 2).sum(1, keepdim=True), patch, stride=1)
        return (squared + 1e-8).sqrt().mean((1, 2, 3))

    return 0.5 * (distance(first, target) + distance(second, target)) - 0.5 * distance(first, second)


def low_frequency(sample: Tensor, target: Tensor) -> Tensor:
    """Return |LP(sample - target)|_1, which keeps colour and structure (DSGAN); (B, C, h, w) -> (B,)."""
    return low_pass(sample - target).abs().mean((1, 2, 3))


def compression(log_coarseness: Tensor, halved: Tensor, truth: Tensor) -> Tensor:
    """Return the squared error of what a code says about JPEG, over the truths that are known; a scalar, 0 for none.

    Args:
        log_coarseness: (B,), from `BlockQuantiser.strength`.
        halved: (B,), from the same.
        truth: (B, 2), both numbers; nan where unknown.
    """
    said = torch.stack([log_coarseness, halved], dim=1)
    known = ~truth.isnan()
    return (said - truth.nan_to_num()).square().mul(known).sum() / known.sum().clamp(min=1)


def kl_to_prior(mean: Tensor, logvar: Tensor) -> Tensor:
    """Return KL(N(mean, exp(logvar)) || N(0, I)) in nats, averaged over the numbers of a code; (B, D) -> (B,)."""
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean(1)


def critic_hinge(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the hinge loss of a critic, which pushes real above +1 and fake below -1; a scalar."""
    return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()


def generator_hinge(fake_logits: Tensor) -> Tensor:
    """Return the generator's side of the hinge loss; a scalar."""
    return -fake_logits.mean()


def gradient_penalty(real_logits: Tensor, real: Tensor) -> Tensor:
    """Return R1: the squared gradient of the critic at real images (arXiv 1801.04406), per patch verdict; a scalar.

    Args:
        real_logits: the critic's output for ``real``, (B, 1, h', w').
        real: (B, C, h, w), with requires_grad.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
    return (gradient**2).sum() / real_logits.numel()
