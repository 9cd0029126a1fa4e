"""Define ResidualShiftScheduler, a diffusion chain that shifts the residual between two images.

One class serves the teacher, the one-step student and the degrader; only the two ends of the chain differ. Numbers in
parentheses are equations of docs/method.md.

    code name      paper (ResShift, arXiv 2307.12348; SinSR, arXiv 2311.14760)
    x0             x_0, where the reverse chain ends: HR latents for the upsampler, the real LR for the degrader
    anchor         y_0, where the reverse chain starts: the LR for the upsampler, clean downsampling for the degrader
    eta[t]         eta_{t+1}; the code counts steps 0..T-1, the paper 1..T
    kappa          kappa, the noise strength
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from degrade.diffusers_bases import BaseOutput, ConfigMixin, SchedulerMixin, randn_tensor, register_to_config

Sampling = Literal["posterior", "deterministic"]
Generators = torch.Generator | list[torch.Generator] | None  # one for the batch, or one for each sample


@dataclass
class ResidualShiftSchedulerOutput(BaseOutput):
    """Hold the result of one reverse step.

    Attributes:
        prev_sample: x_{t-1}, with the shape of the sample.
        pred_original_sample: the x0 that the step used, with the shape of the sample.
    """

    prev_sample: Tensor
    pred_original_sample: Tensor


class ResidualShiftScheduler(SchedulerMixin, ConfigMixin):
    """Compute the forward marginals, reverse steps and input scaling of residual shifting.

    Args:
        num_train_timesteps: T, the length of the chain.
        kappa: noise strength; x_T has standard deviation ``kappa * sqrt_etas_end`` around the anchor.
        min_noise_level: upper limit for the noise level of the first step, ``kappa * sqrt(eta_1)``.
        sqrt_etas_end: the last **square root** of eta; 0.99 gives eta_T = 0.9801.
        power: exponent that bends the geometric spacing; below 1, more steps lie at high noise.
        latent: True scales inputs for latents with unit variance, False for pixels in [-1, 1].
        clip_sample: clamp the predicted x0 to [-1, 1]; only for chains in pixels, never for latents.
        sampling: "posterior" draws noise at every step except the last; "deterministic" keeps the noise in x_T.

    Raises:
        ValueError: an argument is out of its range.
    """

    order = 1

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 15,
        kappa: float = 2.0,
        min_noise_level: float = 0.04,
        sqrt_etas_end: float = 0.99,
        power: float = 0.3,
        latent: bool = True,
        clip_sample: bool = False,
        sampling: Sampling = "posterior",
    ) -> None:
        if num_train_timesteps < 1:
            raise ValueError(f"num_train_timesteps {num_train_timesteps} is too small; use 1 or more")
        if kappa <= 0:
            raise ValueError(f"kappa {kappa} must be positive; 1.0 suits pixels, 2.0 latents")
        if sampling not in ("posterior", "deterministic"):
            raise ValueError(f"sampling {sampling!r} is unknown; use 'posterior' or 'deterministic'")
        self.etas = residual_shift_etas(num_train_timesteps, kappa, min_noise_level, sqrt_etas_end, power)
        self._eta_of: list[float] = self.etas.tolist()  # a number read from a tensor would stop a compiled graph
        self.set_timesteps(num_train_timesteps)

    def set_timesteps(self, num_inference_steps: int) -> None:
        """Choose the steps of the reverse chain, equally spaced and always starting at T.

        Args:
            num_inference_steps: number of network calls, 1..T.

        Raises:
            ValueError: the number is outside 1..T.
        """
        self.timesteps = torch.tensor(self.chain(num_inference_steps), dtype=torch.int64, device="cpu")
        self.num_inference_steps = num_inference_steps

    def chain(self, steps: int) -> list[int]:
        """List the timesteps of a reverse chain with ``steps`` network calls, as `set_timesteps` chooses them.

        Raises:
            ValueError: the number is outside 1..T.
        """
        total = self.config.num_train_timesteps
        if not 1 <= steps <= total:
            raise ValueError(f"steps {steps} is outside 1..{total}, the length of the trained chain")
        # From the top down, so that every choice contains T, the only step whose x_t can be drawn without x0.
        return [total - 1 - int(total / steps * i) for i in range(steps)]

    def add_noise(self, x0: Tensor, anchor: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Compute x_t of the forward chain from noise (1.1).

        Args:
            x0: (B, C, H, W), range [-1, 1] or latents.
            anchor: the start of the reverse chain, with the shape of ``x0``.
            noise: standard normal noise, with the shape of ``x0``.
            t: step of each sample, (B,) int64, 0..T-1.

        Returns:
            x_t, with mean ``x0 + eta (anchor - x0)`` and standard deviation ``kappa sqrt(eta)``.

        Raises:
            ValueError: ``x0`` and ``anchor`` differ in shape.
        """
        if x0.shape != anchor.shape:
            raise ValueError(f"x0 {tuple(x0.shape)} and anchor {tuple(anchor.shape)} differ in shape; resample one")
        eta = self._eta(t, x0)
        return x0 + eta * (anchor - x0) + self.config.kappa * eta.sqrt() * noise

    def prior_sample(self, anchor: Tensor, noise: Tensor) -> Tensor:
        """Compute x_T from noise (1.3): the mean of x_T is the anchor itself, without any x0."""
        return anchor + self.config.kappa * self._eta_of[-1] ** 0.5 * noise

    def scale_model_input(self, xt: Tensor, t: Tensor) -> Tensor:
        """Divide x_t by its spread (1.5): sqrt(kappa^2 eta + 1) for latents, 3 kappa sqrt(eta) + 1 for pixels."""
        spread = self.config.kappa * self._eta(t, xt).sqrt()
        return xt / ((spread**2 + 1).sqrt() if self.config.latent else 3 * spread + 1)

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        anchor: Tensor,
        generator: Generators = None,
    ) -> ResidualShiftSchedulerOutput:
        """Step from x_t to the next of ``timesteps``, by ResShift's posterior (1.4) or deterministically (2.1, SinSR).

        Args:
            model_output: the predicted x0, (B, C, H, W).
            timestep: t, one of ``timesteps``.
            sample: x_t, (B, C, H, W).
            anchor: the mean of x_T, (B, C, H, W).
            generator: source of the noise of "posterior", one for the batch or one for each sample.

        Returns:
            The state at the next step, which is x0 after the last step, and the x0 that was used.
        """
        t = int(timestep)
        x0 = model_output.clamp(-1, 1) if self.config.clip_sample else model_output
        prev = self.reverse(x0, sample, anchor, t, self._next(t), sampling=self.config.sampling, generator=generator)
        return ResidualShiftSchedulerOutput(prev_sample=prev, pred_original_sample=x0)

    def reverse(
        self,
        x0: Tensor,
        xt: Tensor,
        anchor: Tensor,
        t: int,
        next_t: int | None,
        *,
        sampling: Sampling,
        generator: Generators = None,
    ) -> Tensor:
        """Compute the state at ``next_t`` from x_t and the predicted x0, (1.4) or (2.1); None means x0 itself."""
        if self.config.clip_sample:
            x0 = x0.clamp(-1, 1)
        if next_t is None:
            return x0
        eta, eta_next = self._eta_of[t], self._eta_of[next_t]
        if sampling == "deterministic":
            # (2.1): shift the residual, and shrink the noise that x_t already holds.
            noise_part = xt - x0 - eta * (anchor - x0)
            return x0 + eta_next * (anchor - x0) + math.sqrt(eta_next / eta) * noise_part
        noise = randn_tensor(xt.shape, generator=generator, device=xt.device, dtype=xt.dtype)
        keep = eta_next / eta
        return keep * xt + (1 - keep) * x0 + math.sqrt(self._posterior_variance(t, next_t)) * noise

    def posterior_variance(self, t: int) -> float:
        """Compute the variance of q(x_{t-1} | x_t, x0), where t-1 is the next of ``timesteps`` (1.4)."""
        return self._posterior_variance(t, self._next(t))

    def _posterior_variance(self, t: int, next_t: int | None) -> float:
        eta, eta_next = self._eta_of[t], 0.0 if next_t is None else self._eta_of[next_t]
        return self.config.kappa**2 * (eta_next / eta) * (eta - eta_next)

    def _next(self, t: int) -> int | None:
        """Return the step after ``t`` in ``timesteps``; after the last step None, because x0 is reached."""
        return max((step for step in self.timesteps.tolist() if step < t), default=None)

    def _eta(self, t: Tensor, like: Tensor) -> Tensor:
        return self.etas.to(like.device, like.dtype)[t.to(like.device)].view(-1, 1, 1, 1)


def residual_shift_etas(
    num_train_timesteps: int, kappa: float, min_noise_level: float, sqrt_etas_end: float, power: float
) -> Tensor:
    """Compute ResShift's eta_1..eta_T (1.2), (T,) float64: sqrt(eta) grows geometrically, bent by ``power``."""
    if num_train_timesteps == 1:
        return torch.tensor([sqrt_etas_end**2], dtype=torch.float64, device="cpu")
    first = min(min_noise_level / kappa, min_noise_level, 0.001**0.5)
    position = torch.arange(num_train_timesteps, dtype=torch.float64, device="cpu") / (num_train_timesteps - 1)
    return (first * (sqrt_etas_end / first) ** (position**power)) ** 2
