"""ResidualShiftScheduler: the chain that walks from a start image to an end image by shifting their residual.

One class serves the teacher, the one-step student and the degrader; only what stands at the two ends differs.

    code name      paper (ResShift, arXiv 2307.12348; SinSR, arXiv 2311.14760)
    x0             x_0, where the reverse chain ends: HR latents for the upsampler, the real LR for the degrader
    anchor         y_0, where the reverse chain starts: the LR for the upsampler, clean downsampling for the degrader
    eta[t]         eta_{t+1}: the code counts steps 0..T-1, the paper 1..T
    kappa          kappa, the noise strength
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from degrade.diffusers_bases import BaseOutput, ConfigMixin, SchedulerMixin, randn_tensor, register_to_config

Sampling = Literal["posterior", "deterministic"]
Generators = torch.Generator | list[torch.Generator] | None  # one for the batch, or one for each sample


@dataclass
class ResidualShiftSchedulerOutput(BaseOutput):
    """What one reverse step returns.

    Attributes:
        prev_sample: x_{t-1}, the shape of the sample.
        pred_original_sample: the x0 that the step used, the shape of the sample.
    """

    prev_sample: Tensor
    pred_original_sample: Tensor


class ResidualShiftScheduler(SchedulerMixin, ConfigMixin):
    """Forward marginals, reverse steps and input scaling of residual shifting.

    Args:
        num_train_timesteps: T, the length of the chain.
        kappa: noise strength; x_T has standard deviation ``kappa * sqrt_etas_end`` around the anchor.
        min_noise_level: noise level ``kappa * sqrt(eta_1)`` that the first step must not exceed.
        sqrt_etas_end: the last **square root** of eta (0.99 makes eta_T = 0.9801).
        power: bends the geometric spacing; below 1 more steps lie at high noise.
        latent: True scales inputs for unit-variance latents, False for pixels in [-1, 1].
        clip_sample: clamp the predicted x0 to [-1, 1]; for pixel chains only, never for latents.
        sampling: "posterior" draws noise at every step but the last, "deterministic" keeps the noise of x_T.
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
            raise ValueError(f"num_train_timesteps {num_train_timesteps} is not a chain; use 1 or more")
        if kappa <= 0:
            raise ValueError(f"kappa {kappa} must be positive; 1.0 suits pixels, 2.0 latents")
        if sampling not in ("posterior", "deterministic"):
            raise ValueError(f"sampling {sampling!r} is unknown; use 'posterior' or 'deterministic'")
        self.etas = residual_shift_etas(num_train_timesteps, kappa, min_noise_level, sqrt_etas_end, power)
        self.set_timesteps(num_train_timesteps)

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        """Choose the steps of the reverse chain, equally spaced and always starting at T.

        Args:
            num_inference_steps: how many network calls, 1..T.
            device: where ``timesteps`` shall lie.

        Raises:
            ValueError: more steps than the chain has, or none.
        """
        total = self.config.num_train_timesteps
        if not 1 <= num_inference_steps <= total:
            raise ValueError(f"steps {num_inference_steps} is outside 1..{total}, the length of the trained chain")
        # From the top down, so that every choice contains T: the only step whose sample needs no x0 to be drawn.
        picked = [total - 1 - int(total / num_inference_steps * i) for i in range(num_inference_steps)]
        self.num_inference_steps = num_inference_steps
        self.timesteps = torch.tensor(picked, dtype=torch.int64, device=device)

    def add_noise(self, x0: Tensor, anchor: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Draw x_t of the forward chain (ResShift): N(x0 + eta (anchor - x0), kappa^2 eta).

        Args:
            x0: (B, C, H, W), range [-1, 1] or latents.
            anchor: end of the chain, the shape of ``x0``.
            noise: standard normal, the shape of ``x0``.
            t: (B,) int64, 0..T-1.

        Returns:
            x_t: mean ``x0 + eta (anchor - x0)``, standard deviation ``kappa sqrt(eta)``.

        Raises:
            ValueError: ``x0`` and ``anchor`` differ in shape.
        """
        if x0.shape != anchor.shape:
            raise ValueError(f"x0 {tuple(x0.shape)} and anchor {tuple(anchor.shape)} differ in shape; resample one")
        eta = self._eta(t, x0)
        return x0 + eta * (anchor - x0) + self.config.kappa * eta.sqrt() * noise

    def prior_sample(self, anchor: Tensor, noise: Tensor) -> Tensor:
        """Draw x_T, where the reverse chain starts: the anchor itself plus noise (its mean is not mixed with x0)."""
        return anchor + self.config.kappa * float(self.etas[-1]) ** 0.5 * noise

    def scale_model_input(self, xt: Tensor, t: Tensor) -> Tensor:
        """Divide x_t by its spread: sqrt(kappa^2 eta + 1) for latents, 3 kappa sqrt(eta) + 1 for pixels."""
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
        """Go from x_t to the next of ``timesteps``: ResShift's posterior with noise, SinSR's step without.

        Args:
            model_output: the predicted x0, (B, C, H, W).
            timestep: t, one of ``timesteps``.
            sample: x_t.
            anchor: the end of the chain that x_T was drawn around.
            generator: source of the posterior noise, one or one per sample; unused when deterministic.

        Returns:
            x of the next step (x0 itself after the last) and the x0 that was used.
        """
        x0 = model_output.clamp(-1, 1) if self.config.clip_sample else model_output
        eta, eta_prev = self.etas[int(timestep)], self._eta_before(int(timestep))
        if eta_prev == 0:
            return ResidualShiftSchedulerOutput(prev_sample=x0, pred_original_sample=x0)
        if self.config.sampling == "deterministic":
            # The noise-carrying form of (2.1): shift the residual, shrink the noise that x_t already holds.
            noise_part = sample - x0 - float(eta) * (anchor - x0)
            prev = x0 + float(eta_prev) * (anchor - x0) + float((eta_prev / eta).sqrt()) * noise_part
        else:
            noise = randn_tensor(sample.shape, generator=generator, device=sample.device, dtype=sample.dtype)
            keep = float(eta_prev / eta)
            prev = keep * sample + (1 - keep) * x0 + float(self.posterior_variance(int(timestep)).sqrt()) * noise
        return ResidualShiftSchedulerOutput(prev_sample=prev, pred_original_sample=x0)

    def posterior_variance(self, t: int) -> Tensor:
        """Variance of q(x_{t-1} | x_t, x0), with t-1 the next of ``timesteps`` after ``t``; a 0-d tensor."""
        eta, eta_prev = self.etas[t], self._eta_before(t)
        return self.config.kappa**2 * (eta_prev / eta) * (eta - eta_prev)

    def deterministic_coefficients(self, t: int) -> tuple[float, float, float]:
        """(k, m, j) of SinSR's closed form of the deterministic step, x_{t-1} = k x0 + m x_t + j anchor."""
        eta, eta_prev = self.etas[t], self._eta_before(t)
        m = (eta_prev / eta).sqrt()
        mixed = (eta_prev * eta).sqrt()
        return float(1 - eta_prev + mixed - m), float(m), float(eta_prev - mixed)

    def _eta(self, t: Tensor, like: Tensor) -> Tensor:
        return self.etas.to(like.device, like.dtype)[t.to(like.device)].view(-1, 1, 1, 1)

    def _eta_before(self, t: int) -> Tensor:
        """Eta of the step that follows ``t`` in ``timesteps``; 0 after the last, where x0 itself is reached."""
        below = self.timesteps[self.timesteps < t]
        return self.etas[int(below.max())] if below.numel() else self.etas.new_zeros(())


def residual_shift_etas(
    num_train_timesteps: int, kappa: float, min_noise_level: float, sqrt_etas_end: float, power: float
) -> Tensor:
    """ResShift's eta_1..eta_T: geometric on sqrt(eta), its exponent bent by ``power``; (T,) float64."""
    if num_train_timesteps == 1:
        return torch.tensor([sqrt_etas_end**2], dtype=torch.float64)
    first = min(min_noise_level / kappa, min_noise_level, 0.001**0.5)
    position = torch.arange(num_train_timesteps, dtype=torch.float64, device="cpu") / (num_train_timesteps - 1)
    return (first * (sqrt_etas_end / first) ** (position**power)) ** 2
