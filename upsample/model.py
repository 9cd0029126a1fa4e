"""ResidualShiftUpsampler: LR photograph in, HR photograph out; the teacher in T steps, the student in one."""

from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from degrade.images.tensors import check_batch
from degrade.networks.pretrained import Pretrained
from degrade.networks.unet import FilmUNet
from degrade.schedule import Generators, ResidualShiftScheduler, Sampling
from upsample.bicubic import enlarge
from upsample.first_stage import build_first_stage

WEIGHTS_DIR = Path(__file__).parent / "weights"
NOISE_PERIOD = 64  # LR pixels after which the fixed noise repeats


# ModelMixin by name: a pipeline loads a component only when the component's module has one of diffusers' bases in it.
class ResidualShiftUpsampler(Pretrained, ModelMixin, ConfigMixin):
    """ResShift's chain (arXiv 2307.12348) from bicubic enlargement to the HR image, on latents of the LR grid.

    ``x0 = zy + f(x_t / c_t, y; t)`` with zy = Enc(bicubic(y)), the anchor of the chain. The network's last convolution
    is zero before training, so an untrained upsampler is exactly bicubic. Teacher and one-step student (SinSR, arXiv
    2311.14760) are the same class; ``steps`` of the configuration tells how many network calls they are meant for.

    The noise that the chain starts from is fixed: the same LR gives the same SR, and ``student(lr)`` is one call of a
    plain function. Pass ``noise`` or ``generator`` to draw another.

    Args:
        scale: HR side / LR side: 2, 3 or 4.
        steps: network calls of `forward` when it is not told: T for a teacher, 1 for a student.
        widths: channels of the three levels of `FilmUNet`.
        blocks: residual blocks per level.
        embedding_dim: width of the time embedding.
        num_train_timesteps: T.
        kappa: noise strength of the chain: 1 for pixels, 2 for unit-variance latents.
        min_noise_level: noise level of its first step: 0.04 for T = 15, 0.2 for T = 4.
        autoencoder: configuration of a diffusers autoencoder whose latents lie on the LR grid (see
            `upsample.first_stage`); None for pixel-unshuffle.
        unet2d: arguments of diffusers' ``UNet2DModel`` (channels and sizes are filled in) in place of `FilmUNet`, for
            networks with attention; ``widths``, ``blocks`` and ``embedding_dim`` then have no effect.

    Example:
        >>> upsampler = ResidualShiftUpsampler()
        >>> upsampler(torch.rand(2, 3, 16, 16)).shape
        torch.Size([2, 3, 64, 64])
    """

    weights_dir = WEIGHTS_DIR
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
    ) -> None:
        super().__init__()
        if scale not in (2, 3, 4):
            raise ValueError(f"scale {scale!r} is not supported; use 2, 3 or 4")
        self.scheduler = ResidualShiftScheduler(
            num_train_timesteps=num_train_timesteps,
            kappa=kappa,
            min_noise_level=min_noise_level,
            latent=autoencoder is not None,
            clip_sample=autoencoder is None,
            sampling="deterministic",
        )
        self.scheduler.set_timesteps(steps)  # refuses what the chain does not have
        self.first_stage = build_first_stage(autoencoder, scale)
        channels = self.first_stage.channels
        if unet2d is None:
            self.time_embedding = nn.Embedding(num_train_timesteps, embedding_dim)
            self.unet: nn.Module = FilmUNet(channels + 3, channels, widths, blocks, embedding_dim)
            self.stride = 4
        else:
            network = UNet2DModel(in_channels=channels + 3, out_channels=channels, **unet2d)
            for parameter in network.conv_out.parameters():
                nn.init.zeros_(parameter)
            self.unet, self.stride = network, 2 ** (len(network.config.block_out_channels) - 1)
        seeded = torch.Generator().manual_seed(0)
        self.noise = nn.Buffer(torch.randn(channels, NOISE_PERIOD, NOISE_PERIOD, generator=seeded, device="cpu"))
        # What no weight tells, so that a state dict alone says what it is of: the foreign loaders have nothing else.
        self.chain = nn.Buffer(torch.tensor([scale, steps, kappa, min_noise_level], dtype=torch.float32))

    def forward(
        self,
        lr: Tensor,
        *,
        steps: int | None = None,
        noise: Tensor | None = None,
        generator: Generators = None,
        sampling: Sampling = "deterministic",
    ) -> Tensor:
        """Upscale.

        Args:
            lr: (B, 3, h, w), range [0, 1], any sides.
            steps: network calls, 1..T; None for the number that the model was trained for.
            noise: (B, C, h, w) standard normal on the latent grid, the start of the chain; the fixed one when None.
            generator: draws the start instead (and the steps' noise), one or a list of one per sample.
            sampling: "deterministic" keeps the noise of the start (SinSR); "posterior" draws some at every step.

        Returns:
            sr: (B, 3, h * scale, w * scale), range [0, 1].

        Raises:
            ValueError: shape, range or steps do not fit.
        """
        self._check(lr)
        lr = lr * 2 - 1
        anchor = self.anchor(lr)
        if noise is None:
            noise = (
                self.fixed_noise(*lr.shape[-2:]).expand(len(lr), -1, -1, -1)
                if generator is None
                else randn_tensor(anchor.shape, generator=generator, device=lr.device, dtype=lr.dtype)
            )
        xt = self.scheduler.prior_sample(anchor, noise)
        x0 = self.walk(xt, lr, anchor, steps=steps, sampling=sampling, generator=generator)
        return ((self.first_stage.decode(x0) + 1) / 2).clamp(0, 1)

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
        """The reverse chain, from x_T to x0.

        Args:
            xt: (B, C, h, w), of `ResidualShiftScheduler.prior_sample`.
            lr: (B, 3, h, w) in [-1, 1].
            anchor: (B, C, h, w), of `anchor`.
            steps: see `forward`.
            sampling: see `forward`.
            generator: of the noise of "posterior".
        """
        scheduler = copy(self.scheduler)  # the choice of steps belongs to this call, not to the model
        scheduler.register_to_config(sampling=sampling)
        scheduler.set_timesteps(self.config.steps if steps is None else steps)
        for t in scheduler.timesteps.tolist():
            x0 = self.predict_x0(xt, t, lr, anchor)
            xt = scheduler.step(x0, t, xt, anchor, generator=generator).prev_sample
        return xt

    def predict_x0(self, xt: Tensor, t: Tensor | int, lr: Tensor, anchor: Tensor) -> Tensor:
        """One network call.

        Args:
            xt: (B, C, h, w).
            t: step, 0..T-1, one for all or (B,).
            lr: (B, 3, h, w) in [-1, 1].
            anchor: (B, C, h, w), of `anchor`.

        Returns:
            x0, (B, C, h, w).
        """
        t = torch.as_tensor(t, device=xt.device).expand(xt.shape[0])
        grid = torch.cat([self.scheduler.scale_model_input(xt, t), lr], dim=1)
        height, width = grid.shape[-2:]
        grid = F.pad(grid, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        if isinstance(self.unet, UNet2DModel):
            residual = self.unet(grid, t).sample
        else:
            residual = self.unet(grid, F.silu(self.time_embedding(t)[:, :, None, None]))
        return anchor + residual[..., :height, :width]

    def anchor(self, lr: Tensor) -> Tensor:
        """zy, latents of the bicubic enlargement: (B, 3, h, w) in [-1, 1] -> (B, C, h, w)."""
        return self.first_stage.encode(enlarge(lr, self.config.scale))

    def fixed_noise(self, height: int, width: int, top: int = 0, left: int = 0) -> Tensor:
        """The part of the endless fixed noise that begins at a place: (1, C, height, width).

        A tile that passes the noise of its own place starts where the whole image would.
        """
        rows = (torch.arange(height, device=self.noise.device) + top) % NOISE_PERIOD
        columns = (torch.arange(width, device=self.noise.device) + left) % NOISE_PERIOD
        return self.noise[None, :, rows][..., columns]

    def set_steps(self, steps: int) -> None:
        """Say for how many network calls this model is meant; saved with the weights."""
        self.scheduler.set_timesteps(steps)
        self.register_to_config(steps=steps)
        self.chain[1] = steps

    def _check(self, lr: Tensor) -> None:
        check_batch(lr, "lr", size="h, w")
