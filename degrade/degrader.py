"""Define RealisticDegrader, which turns HR images into realistic LR images, a different one for each noise and code."""

from copy import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from degrade.diffusers_bases import ConfigMixin, ModelMixin, randn_tensor, register_to_config
from degrade.images.tensors import check_batch
from degrade.networks.block_quantiser import BLOCK_DIM, BlockQuantiser, block_statistics
from degrade.networks.pretrained import Pretrained
from degrade.networks.texture import (
    TEXTURE_DIM,
    TEXTURE_PLANES,
    luma_chroma,
    phase_planes,
    scaled_texture,
    texture_planes,
    texture_statistics,
)
from degrade.networks.unet import UNET_STRIDE, FilmUNet, run_in_tiles
from degrade.schedule import Generators, ResidualShiftScheduler

WEIGHTS_DIR = Path(__file__).parent / "weights"
BANK_JITTER = 0.15  # of the bank's own spread: makes new codes that stay close to known ones
MIN_REFERENCE_SIDE = 16  # px; smaller images are too small to read a code from


class DegradationEncoder(nn.Module):
    """Encode how an LR image was degraded, rather than what it shows, in a code of a few numbers.

    Args:
        code_dim: length of a code.
        widths: channels at the three levels of convolutions.
    """

    def __init__(self, code_dim: int = 16, widths: tuple[int, int, int] = (32, 64, 96)) -> None:
        super().__init__()
        first, second, third = widths
        self.features = nn.Sequential(
            nn.Conv2d(TEXTURE_PLANES, first, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(first, first, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(second, second, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(second, third, 3, stride=2, padding=1),
            nn.SiLU(),
        )
        self.head = nn.Sequential(
            nn.Linear(2 * third + TEXTURE_DIM + BLOCK_DIM, 2 * third), nn.SiLU(), nn.Linear(2 * third, 2 * code_dim)
        )

    def forward(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the distribution of each image's code (3.2).

        Args:
            lr: (B, 3, h, w), range [-1, 1], sides of at least 16; its corner is the corner of a JPEG block.

        Returns:
            The mean and the log-variance, (B, code_dim) each.
        """
        features = self.features(texture_planes(lr))
        # Noise changes the spread over the image; the mean alone would mostly describe the scene. Texture and blocks
        # are measured and passed on directly, because a small network is slow to learn logarithms of energies.
        spread = (features.var((2, 3)) + 1e-6).sqrt()
        public = (lr.float() + 1) / 2
        texture = scaled_texture(texture_statistics(public))
        blocks = block_statistics(luma_chroma(public)[:, :1]) / 4
        measured = torch.cat([texture, blocks], dim=1).to(features.dtype)
        mean, logvar = self.head(torch.cat([features.mean((2, 3)), spread, measured], dim=1)).chunk(2, dim=1)
        return mean, logvar.clamp(-8, 4)


class RealisticDegrader(Pretrained, ModelMixin, ConfigMixin):
    """Degrade HR images by residual-shifting diffusion, from their clean downsampling to realistic LR images.

    ``x0 = Q(b + g + s * (x_t - b))``, which is (3.1) in docs/method.md. b is the clean (box) downsampling, the anchor
    of the chain. For each pixel, the network predicts a residual g and a gate s from (x_t / c_t, free noise, HR, b,
    8x8 phase; t, code). The gate passes white noise of any local strength to the output; without it, the first noise
    that is learned is striped. Q is JPEG's block quantisation, with a strength read from the code (`BlockQuantiser`).
    The last convolution starts at zero, so an untrained degrader is exactly the clean downsampling.

    The chain is ResShift's (arXiv 2307.12348) with its ends swapped, in LR pixels. The idea of a diffusion downsampler
    that learns beside an upsampler is from Kim & Kim (arXiv 2410.07663); this construction is our own.

    Two inputs make each result different: ``noise`` decides the pixels, and ``code`` decides how blurred, noisy and
    compressed the image is.

    Args:
        scale: HR side / LR side: 2, 3 or 4.
        code_dim: length of a code.
        widths: channels at the three levels of the U-Net.
        blocks: residual blocks per level of the U-Net.
        embedding_dim: width of the embedding of time and code.
        encoder_widths: channels at the three levels of the encoder.
        num_train_timesteps: T, the length of the chain, which is also the largest ``steps``.
        kappa: noise strength of the chain.
        min_noise_level: noise level of the chain's first step.
        bank_size: number of codes in the bank; `set_bank` sets it.

    Raises:
        ValueError: ``scale`` is not 2, 3 or 4.

    Example:
        >>> degrader = RealisticDegrader()
        >>> degrader(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 3, 16, 16])
    """

    weights_dir = WEIGHTS_DIR
    kind = "degrader"

    @register_to_config
    def __init__(
        self,
        scale: int = 4,
        code_dim: int = 16,
        widths: tuple[int, int, int] = (48, 64, 96),
        blocks: int = 2,
        embedding_dim: int = 128,
        encoder_widths: tuple[int, int, int] = (32, 64, 96),
        num_train_timesteps: int = 4,
        kappa: float = 1.0,
        min_noise_level: float = 0.2,
        bank_size: int = 0,
    ) -> None:
        super().__init__()
        if scale not in (2, 3, 4):
            raise ValueError(f"scale {scale!r} is not supported; use 2, 3 or 4")
        self.scheduler = ResidualShiftScheduler(
            num_train_timesteps=num_train_timesteps, kappa=kappa, min_noise_level=min_noise_level, latent=False
        )
        self.encoder = DegradationEncoder(code_dim, encoder_widths)
        self.time_embedding = nn.Embedding(num_train_timesteps, embedding_dim)
        # 1x1 convolutions instead of Linear, because they give the same bits for one sample and for a batch.
        self.code_embedding = nn.Sequential(
            nn.Conv2d(code_dim, embedding_dim, 1), nn.SiLU(), nn.Conv2d(embedding_dim, embedding_dim, 1)
        )
        self.unet = FilmUNet(3 + 3 + 3 * scale**2 + 3 + 4, 6, widths, blocks, embedding_dim)
        self.quantiser = BlockQuantiser(code_dim)
        self.bank = nn.Buffer(torch.zeros(bank_size, code_dim))

    def forward(
        self,
        hr: Tensor,
        code: Tensor | None = None,
        *,
        reference: Tensor | None = None,
        steps: int = 1,
        noise: Tensor | None = None,
        generator: Generators = None,
        pad: bool = False,
        tile: int = 256,
    ) -> Tensor:
        """Degrade and downsample a batch of HR images.

        Args:
            hr: (B, 3, H, W), range [0, 1]; H and W are multiples of ``scale``.
            code: how to degrade, (B, code_dim) or (1, code_dim); None draws codes with `sample_codes`.
            reference: LR photographs whose codes to use instead of ``code``, (B or 1, 3, h, w), range [0, 1].
            steps: network calls, 1..T.
            noise: standard normal noise where the chain starts, (B, 3, H/scale, W/scale); None draws it.
            generator: one generator for the batch, or a list with one for each sample, so that a sample does not depend
                on its batch. None draws from fresh entropy; the global generator is never used.
            pad: repeat the last row and column until ``scale`` divides the sides, instead of raising an error.
            tile: side in LR pixels above which the network runs in tiles, to limit memory. The result is the same up to
                1e-7, which sometimes changes how a JPEG coefficient is rounded.

        Returns:
            lr: (B, 3, H/scale, W/scale), range [0, 1], not rounded to 8 bits; differentiable in ``hr`` and ``code``.

        Raises:
            ValueError: an argument has a wrong shape, type or range, or ``code`` and ``reference`` are both given.
        """
        hr = self._checked(hr, pad)
        if generator is None:
            generator = fresh_generator()
        code = self._choose_code(code, reference, len(hr), generator)
        hr = hr * 2 - 1
        anchor = F.avg_pool2d(hr, self.config.scale)
        if noise is None:
            noise = randn_tensor(anchor.shape, generator=generator, device=hr.device, dtype=hr.dtype)
        scheduler = copy(self.scheduler)  # the choice of steps belongs to this call, not to the model
        scheduler.set_timesteps(steps)
        xt = scheduler.prior_sample(anchor, noise)
        code = code.to(hr.device, hr.dtype).expand(len(hr), -1)
        for t in scheduler.timesteps.tolist():
            free = torch.zeros_like(xt)
            if t < self.config.num_train_timesteps - 1:
                free = randn_tensor(xt.shape, generator=generator, device=xt.device, dtype=xt.dtype)
            x0 = self.predict_x0(xt, t, hr, anchor, code, free, tile=tile)
            xt = scheduler.step(x0, t, xt, anchor, generator=generator).prev_sample
        return ((xt + 1) / 2).clamp(0, 1)

    def predict_x0(
        self,
        xt: Tensor,
        t: Tensor | int,
        hr: Tensor,
        anchor: Tensor,
        code: Tensor,
        free_noise: Tensor,
        *,
        tile: int = 256,
    ) -> Tensor:
        """Predict x0 with one network call: a *sample* of the LR image given x_t, not its mean.

        Args:
            xt: (B, 3, h, w).
            t: step, 0..T-1: one number for all samples, or (B,).
            hr: (B, 3, H, W), range [-1, 1].
            anchor: box downsampling of ``hr``, (B, 3, h, w).
            code: (B, code_dim).
            free_noise: standard normal noise, (B, 3, h, w). At the first step of the reverse chain, x_t is noise
                enough, and this is zeros. Later, x_t already shows much of the result, and a network without further
                noise could only predict a mean, which has no grain.
            tile: see `forward`.

        Returns:
            x0, (B, 3, h, w), around [-1, 1].
        """
        t = torch.as_tensor(t, device=xt.device).expand(len(xt))
        embedding = self.time_embedding(t)[:, :, None, None] + self.code_embedding(
            code[:, :, None, None]
        )  # (B, E, 1, 1)
        scaled = self.scheduler.scale_model_input(xt, t)  # (B, 3, h, w)

        def network(rows: slice, columns: slice) -> Tensor:
            scale = self.config.scale
            hr_part = hr[..., rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale]
            grid = torch.cat([
                scaled[..., rows, columns],         # (B, 3, h, w)
                free_noise[..., rows, columns],     # (B, 3, h, w)
                F.pixel_unshuffle(hr_part, scale),  # (B, 3 scale^2, h, w)
                anchor[..., rows, columns],         # (B, 3, h, w)
            ], dim=1)  # fmt: skip
            height, width = grid.shape[-2:]
            grid = F.pad(grid, (0, -width % UNET_STRIDE, 0, -height % UNET_STRIDE), mode="replicate")
            phase = phase_planes(*grid.shape[-2:], device=grid.device, dtype=grid.dtype)  # (1, 4, h, w)
            grid = torch.cat([grid, phase.expand(len(grid), -1, -1, -1)], dim=1)
            return self.unet(grid, F.silu(embedding))[..., :height, :width]  # (B, 6, h, w)

        residual, gate = run_in_tiles(network, *xt.shape[-2:], tile=tile).chunk(2, dim=1)  # (B, 3, h, w) each
        return self.quantiser(anchor + residual + gate * (xt - anchor), code)

    def encode(self, lr: Tensor) -> Tensor:
        """Read the code of each LR image: (B, 3, h, w) in [0, 1] -> (B, code_dim).

        Raises:
            ValueError: the images have a wrong shape, type or range, or are smaller than 16 px.
        """
        check_batch(lr, "reference", size="h, w")
        if min(lr.shape[2:]) < MIN_REFERENCE_SIDE:
            raise ValueError(
                f"reference of {lr.shape[3]}x{lr.shape[2]} px is too small to tell its degradation; "
                f"use {MIN_REFERENCE_SIDE} or more"
            )
        return self.encoder(lr.to(self.dtype) * 2 - 1)[0]

    def sample_codes(self, n: int, *, generator: Generators = None) -> Tensor:
        """Draw codes from the bank, with a jitter, or from the standard normal prior if there is no bank.

        Args:
            n: number of codes.
            generator: one generator, or a list with ``n`` of them; None draws from fresh entropy.

        Returns:
            (n, code_dim).
        """
        generator = fresh_generator() if generator is None else generator
        drawn = randn_tensor((n, self.config.code_dim), generator=generator, device=self.bank.device, dtype=self.dtype)
        if not len(self.bank):
            return drawn
        each = generator if isinstance(generator, list) else [generator] * n
        rows = [int(torch.randint(len(self.bank), (), generator=g, device=g.device)) for g in each]
        return self.bank[rows] + BANK_JITTER * self.bank.std(0, correction=0) * drawn

    def set_bank(self, codes: Tensor) -> None:
        """Set the bank of codes that `sample_codes` draws from, which is saved with the weights.

        Args:
            codes: (N, code_dim), N > 0.

        Raises:
            ValueError: ``codes`` has another shape.
        """
        if codes.ndim != 2 or codes.shape[1] != self.config.code_dim or not len(codes):
            raise ValueError(
                f"codes {tuple(codes.shape)} cannot be a bank; pass (N, {self.config.code_dim}) with N > 0"
            )
        self.register_to_config(bank_size=len(codes))
        self.bank = nn.Buffer(codes.detach().to(self.bank).clone())

    def _choose_code(self, code: Tensor | None, reference: Tensor | None, n: int, generator: Generators) -> Tensor:
        """Return the given code, that of the reference, or drawn codes, (n or 1, code_dim), after checking it."""
        if code is not None and reference is not None:
            raise ValueError("code and reference were both given; pass one of them")
        if reference is not None:
            code = self.encode(reference)
        if code is None:
            code = self.sample_codes(n, generator=generator)
        if code.ndim != 2 or code.shape[1] != self.config.code_dim or len(code) not in (1, n):
            raise ValueError(f"code {tuple(code.shape)} does not fit; pass ({n}, {self.config.code_dim})")
        if not code.isfinite().all():
            raise ValueError("code holds nan or infinity; pass finite numbers, such as those of `encode`")
        return code

    def _checked(self, hr: Tensor, pad: bool) -> Tensor:
        scale = self.config.scale
        check_batch(hr, "hr")
        height, width = hr.shape[-2:]
        if pad:
            return F.pad(hr, (0, -width % scale, 0, -height % scale), mode="replicate")
        for side, length in (("height", height), ("width", width)):
            if length % scale:
                fitting = length - length % scale
                raise ValueError(
                    f"hr {side} {length} is not a multiple of scale {scale}; crop to {fitting} or pad=True"
                )
        return hr


def fresh_generator() -> torch.Generator:
    """Make a CPU generator seeded by the operating system, so that no draw reads or changes global state."""
    generator = torch.Generator()
    generator.seed()
    return generator
