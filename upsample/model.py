"""Define ResidualShiftUpsampler, which turns LR images into SR images: a teacher in T steps, a student in one."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from degrade.diffusers_bases import ConfigMixin, ModelMixin, randn_tensor, register_to_config
from degrade.images.tensors import check_batch
from degrade.networks.precision import network_precision
from degrade.networks.pretrained import Pretrained
from degrade.networks.unet import UNET_STRIDE, FilmUNet
from degrade.ops.border import repeat_border
from degrade.schedule import Generators, ResidualShiftScheduler, Sampling
from degrade.seeds import torch_seed
from upsample.bicubic import enlarge
from upsample.detail_branch import DetailBranch
from upsample.first_stage import build_first_stage

WEIGHTS_DIR = Path(__file__).parent / "weights"
NOISE_PERIOD = 64  # the fixed noise repeats after this many LR pixels


# ModelMixin stands here by name because a diffusers pipeline loads a component only if it finds one of diffusers' base
# classes in the component's module.
class ResidualShiftUpsampler(Pretrained, ModelMixin, ConfigMixin):
    """Upscale by ResShift's chain (arXiv 2307.12348), from the bicubic enlargement to the HR image.

    The chain runs in latents on the LR grid: ``x0 = zy + f(x_t / c_t, y; t)``, with the anchor zy = Enc(bicubic(y)).
    The network's last convolution starts at zero, so an untrained upsampler is exactly bicubic. The teacher and the
    one-step student (SinSR, arXiv 2311.14760) are the same class; ``steps`` in the configuration says how many network
    calls the weights were trained for.

    The noise at the start of the chain is fixed, so the same LR always gives the same SR. Pass ``noise`` or
    ``generator`` to start from other noise.

    Args:
        scale: HR side / LR side: 1, 2, 3 or 4.
        steps: default number of network calls in `forward`: T for a teacher, 1 for a student.
        widths: channels at the three levels of `FilmUNet`.
        blocks: residual blocks per level.
        embedding_dim: width of the time embedding.
        num_train_timesteps: T, the length of the chain.
        kappa: noise strength of the chain: 1 for pixels, 2 for unit-variance latents.
        min_noise_level: noise level of the chain's first step: 0.04 for T = 15, 0.2 for T = 4.
        autoencoder: configuration of a diffusers autoencoder whose latents lie on the LR grid (see
            `upsample.first_stage`); None uses pixel-unshuffle.
        unet2d: arguments for diffusers' ``UNet2DModel``, which then replaces `FilmUNet` (a network with attention, for
            example); channels are filled in, and ``widths``, ``blocks`` and ``embedding_dim`` have no effect.
        detail: adds a `DetailBranch` beside the network, and is the default strength of its detail in `forward`, from
            0 (faithful) to 1 (sharp). None: no branch.

    Example:
        >>> upsampler = ResidualShiftUpsampler()
        >>> upsampler(torch.rand(2, 3, 16, 16)).shape
        torch.Size([2, 3, 64, 64])
    """

    weights_dir = str(WEIGHTS_DIR)
    kind = "upsampler"

    @register_to_config
    def __init__(
        self,
        scale: int = 4,
        steps: int = 1,
        widths: tuple[int, int, int] = (64, 96, 160),
        blocks: int = 2,
        embedding_dim: int = 128,
        num_train_timesteps: int = 15,
        kappa: float = 1.0,
        min_noise_level: float = 0.04,
        autoencoder: Mapping[str, Any] | None = None,
        unet2d: Mapping[str, Any] | None = None,
        detail: float | None = None,
    ) -> None:
        super().__init__()
        if scale not in (1, 2, 3, 4):
            raise ValueError(f"scale {scale!r} is not supported; use 1, 2, 3 or 4")
        self.scheduler = ResidualShiftScheduler(
            num_train_timesteps=num_train_timesteps,
            kappa=kappa,
            min_noise_level=min_noise_level,
            latent=autoencoder is not None,
            clip_sample=autoencoder is None,
            sampling="deterministic",
        )
        self.scheduler.set_timesteps(steps)  # raises if the chain does not have that many
        self.first_stage = build_first_stage(autoencoder, scale)
        channels = self.first_stage.channels
        if unet2d is None:
            self.time_embedding = nn.Embedding(num_train_timesteps, embedding_dim)
            self.unet: nn.Module = FilmUNet(channels + 3, channels, widths, blocks, embedding_dim)
            self.stride = UNET_STRIDE
        else:
            from diffusers import UNet2DModel  # loads all networks of diffusers, and transformers where it is installed

            network = UNet2DModel(in_channels=channels + 3, out_channels=channels, **unet2d)
            for parameter in network.conv_out.parameters():
                nn.init.zeros_(parameter)
            self.unet, self.stride = network, 2 ** (len(network.config.block_out_channels) - 1)
        self.detail_branch: DetailBranch | None = None
        if detail is not None:
            if unet2d is not None:
                raise ValueError("a detail branch needs our own U-Net; leave unet2d or detail out")
            _check_detail(detail)
            self.detail_branch = DetailBranch(scale, widths[0], channels)
            self.detail_default = nn.Buffer(torch.tensor(float(detail)))  # for loaders that see the weights alone
        self._bf16 = False
        self.noise = nn.Buffer(_draw_noise(channels, seed=0))
        # No weight reveals these values, and loaders such as spandrel see nothing but the state dict.
        self.chain = nn.Buffer(torch.tensor([scale, steps, kappa, min_noise_level], dtype=torch.float32))

    def forward(
        self,
        lr: Tensor,
        *,
        detail: float | Tensor | None = None,
        steps: int | None = None,
        noise: Tensor | None = None,
        generator: Generators = None,
        sampling: Sampling = "deterministic",
    ) -> Tensor:
        """Upscale a batch of LR images.

        Args:
            lr: (B, 3, h, w), range [0, 1], any sides.
            detail: how much of the detail branch is added: 0 gives the most faithful image, 1 the sharpest. A tensor
                (B,) holds one for each image. None uses the default that the weights were saved with; weights without
                a branch have 0 only.
            steps: network calls, 1..T; None uses the number that the weights were trained for.
            noise: (B, C, h, w) standard normal noise on the latent grid, where the chain starts; None uses the fixed
                noise.
            generator: draws that noise instead, and the noise of each step if ``sampling`` is "posterior"; one
                generator, or a list with one for each sample.
            sampling: "deterministic" keeps the noise from the start (SinSR); "posterior" draws new noise at every step.

        Returns:
            sr: (B, 3, h * scale, w * scale), range [0, 1].

        Raises:
            ValueError: ``lr`` or ``detail`` has a wrong shape, type or range, ``steps`` is outside 1..T, or ``detail``
                is above 0 without a branch or in more than one step.
        """
        check_batch(lr, "lr", size="h, w")
        strength = self.detail_strength(detail, steps)
        if isinstance(strength, Tensor) and strength.shape != (len(lr),):
            raise ValueError(
                f"detail has shape {tuple(strength.shape)}; pass one number, or one for each of {len(lr)} LR"
            )
        lr = lr * 2 - 1
        anchor = self.anchor(lr)
        if noise is None:
            noise = (
                self.fixed_noise(*lr.shape[-2:]).expand(len(lr), -1, -1, -1)
                if generator is None
                else randn_tensor(anchor.shape, generator=generator, device=lr.device, dtype=lr.dtype)
            )
        xt = self.scheduler.prior_sample(anchor, noise)
        if isinstance(strength, float) and strength == 0:
            sr = self.first_stage.decode(self.walk(xt, lr, anchor, steps=steps, sampling=sampling, generator=generator))
        else:
            x0, features = self.predict_with_features(xt, lr, anchor)
            x0 = x0.clamp(-1, 1)  # as the scheduler does: a branch needs a chain in pixels
            if isinstance(strength, Tensor):
                strength = strength.to(lr)[:, None, None, None]
            sr = self.first_stage.decode(x0) + strength * self.draw_detail(features, lr, noise)
        return ((sr + 1) / 2).clamp(0, 1)

    def walk(
        self,
        xt: Tensor,
        lr: Tensor,
        anchor: Tensor,
        *,
        steps: int | None = None,
        sampling: Sampling = "deterministic",
        generator: Generators = None,
    ) -> Tensor:
        """Run the reverse chain from x_T to x0.

        Args:
            xt: x_T, (B, C, h, w), from `ResidualShiftScheduler.prior_sample`.
            lr: (B, 3, h, w), range [-1, 1].
            anchor: (B, C, h, w), from `anchor`.
            steps: see `forward`.
            sampling: see `forward`.
            generator: draws the noise of "posterior" sampling; see `forward`.

        Returns:
            x0, (B, C, h, w).
        """
        scheduler = self.scheduler
        chain = scheduler.chain(self.config.steps if steps is None else steps)
        for t, next_t in zip_longest(chain, chain[1:]):
            x0 = self.predict_x0(xt, t, lr, anchor)
            xt = scheduler.reverse(x0, xt, anchor, t, next_t, sampling=sampling, generator=generator)
        return xt

    def predict_x0(self, xt: Tensor, t: Tensor | int, lr: Tensor, anchor: Tensor) -> Tensor:
        """Predict x0 with one network call.

        Args:
            xt: (B, C, h, w).
            t: step, 0..T-1: one number for all samples, or (B,).
            lr: (B, 3, h, w), range [-1, 1].
            anchor: (B, C, h, w), from `anchor`.

        Returns:
            x0, (B, C, h, w).
        """
        with self._precision(xt):
            grid, embedding = self._inputs(xt, t, lr)
            residual = self.unet(grid, embedding)
        residual = residual if isinstance(self.unet, FilmUNet) else residual.sample
        return anchor + residual[..., : xt.shape[-2], : xt.shape[-1]]

    def predict_with_features(self, xt: Tensor, lr: Tensor, anchor: Tensor) -> tuple[Tensor, Tensor]:
        """Predict x0 from x_T with one network call, and return the features that `draw_detail` needs.

        Args:
            xt: x_T, (B, C, h, w).
            lr: (B, 3, h, w), range [-1, 1].
            anchor: (B, C, h, w), from `anchor`.

        Returns:
            x0, (B, C, h, w), not yet clipped; and the features, (B, widths[0], h, w).
        """
        assert isinstance(self.unet, FilmUNet)
        height, width = xt.shape[-2:]
        with self._precision(xt):
            residual, features = self.unet.with_features(*self._inputs(xt, self.config.num_train_timesteps - 1, lr))
        return anchor + residual[..., :height, :width], features[..., :height, :width]

    def draw_detail(self, features: Tensor, lr: Tensor, noise: Tensor) -> Tensor:
        """Draw the detail at full strength, (B, 3, h * scale, w * scale); see `DetailBranch.forward`."""
        assert self.detail_branch is not None
        with self._precision(lr):
            return self.detail_branch(features, lr, noise)

    def _precision(self, like: Tensor) -> AbstractContextManager[None]:
        return network_precision(like, bf16=self._bf16)

    def _inputs(self, xt: Tensor, t: Tensor | int, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the network takes: the grid, whose sides are multiples of the stride, and the time."""
        t = torch.as_tensor(t, device=xt.device).expand(xt.shape[0])
        grid = torch.cat([self.scheduler.scale_model_input(xt, t), lr], dim=1)
        height, width = grid.shape[-2:]
        grid = repeat_border(grid, 0, -width % self.stride, 0, -height % self.stride)
        return grid, F.silu(self.time_embedding(t)[:, :, None, None]) if isinstance(self.unet, FilmUNet) else t

    def detail_strength(self, detail: float | Tensor | None = None, steps: int | None = None) -> float | Tensor:
        """Resolve what `forward` takes as ``detail``, and check it.

        Args:
            detail: 0..1, a tensor (B,), or None for the default of the weights, which is 0 in more than one step.
            steps: see `forward`.

        Returns:
            The strength, 0 for no detail; a tensor is returned as it is.

        Raises:
            ValueError: it is out of range, or above 0 without a branch or in more than one step.
        """
        several = (self.config.steps if steps is None else steps) > 1
        if detail is None:  # a default gives way to a number of steps
            detail = 0.0 if several or self.config.detail is None else float(self.config.detail)
        for each in detail.flatten().tolist() if isinstance(detail, Tensor) else [detail]:
            _check_detail(each)
        if not isinstance(detail, Tensor):
            detail = float(detail)
            if detail == 0:
                return detail
        if self.detail_branch is None:
            raise ValueError(
                "these weights have no detail branch; use detail 0, or train one with upsample train --detail-branch"
            )
        if several:
            raise ValueError("detail is for one step, as the branch was trained; use detail 0 with more steps")
        return detail

    def anchor(self, lr: Tensor) -> Tensor:
        """Encode the bicubic enlargement, zy: (B, 3, h, w) in [-1, 1] -> (B, C, h, w)."""
        return self.first_stage.encode(enlarge(lr, self.config.scale))

    def fixed_noise(self, height: int, width: int, top: int = 0, left: int = 0) -> Tensor:
        """Cut a window out of the fixed noise, which repeats without end.

        A tile that passes the window at its own position starts from the same noise as the whole image would.

        Args:
            height: rows of the window, in LR pixels.
            width: columns of the window.
            top: first row of the window.
            left: first column of the window.

        Returns:
            (1, C, height, width).
        """
        rows = (torch.arange(height, device=self.noise.device) + top) % NOISE_PERIOD
        columns = (torch.arange(width, device=self.noise.device) + left) % NOISE_PERIOD
        return self.noise[None, :, rows][..., columns]

    def set_steps(self, steps: int) -> None:
        """Set the default number of network calls, 1..T, which is saved with the weights."""
        self.scheduler.set_timesteps(steps)
        self.register_to_config(steps=steps)
        self.chain[1] = steps

    def set_detail(self, default: float) -> None:
        """Set the default strength of the detail, 0..1, which is saved with the weights.

        Raises:
            ValueError: it is out of range, or above 0 and there is no branch.
        """
        strength = self.detail_strength(default, steps=1)
        if self.detail_branch is not None:
            self.register_to_config(detail=strength)
            self.detail_default.fill_(strength)

    def set_noise(self, seed: int) -> None:
        """Replace the fixed noise with another draw, which is saved with the weights; seeds count modulo 2^64."""
        self.noise.copy_(_draw_noise(len(self.noise), seed=seed))

    def set_bf16(self, enabled: bool) -> None:
        """Choose whether the network computes in bfloat16; the choice is not saved.

        Everything around the network stays in its own precision: bfloat16 has too few bits for an image, but enough for
        the correction that the network adds to it.
        """
        self._bf16 = enabled


def _check_detail(detail: float) -> None:
    if not 0 <= detail <= 1:
        raise ValueError(f"detail {detail!r} is outside 0..1; use 0 for the most faithful image, 1 for the sharpest")


def _draw_noise(channels: int, *, seed: int) -> Tensor:
    """Draw one period of the fixed noise: (C, NOISE_PERIOD, NOISE_PERIOD), on the CPU."""
    generator = torch.Generator().manual_seed(torch_seed(seed))
    return torch.randn(channels, NOISE_PERIOD, NOISE_PERIOD, generator=generator, device="cpu")
