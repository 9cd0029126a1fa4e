"""RealisticDegrader: HR photograph in, believable LR photograph out, another one for every draw of noise and code."""

from copy import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from degrade.diffusers_bases import ConfigMixin, ModelMixin, randn_tensor, register_to_config
from degrade.images.tensors import check_batch
from degrade.networks.block_quantiser import BLOCK_DIM, BlockQuantiser, block_statistics
from degrade.networks.pretrained import Pretrained
from degrade.networks.texture import TEXTURE_DIM, high_pass, luma_chroma, texture_statistics
from degrade.networks.unet import FilmUNet, phase_planes, run_in_tiles
from degrade.schedule import Generators, ResidualShiftScheduler

WEIGHTS_DIR = Path(__file__).parent / "weights"
BANK_JITTER = 0.15  # of the bank's own spread: new looks between the known ones, none far from all of them
MIN_REFERENCE_SIDE = 16  # of a photograph that tells a code


class DegradationEncoder(nn.Module):
    """Reads how an LR image was degraded, and little of what it shows: a pooled code of a few numbers.

    Args:
        code_dim: numbers in a code.
        widths: channels of the three convolution levels.
    """

    def __init__(self, code_dim: int = 16, widths: tuple[int, int, int] = (32, 64, 96)) -> None:
        super().__init__()
        first, second, third = widths
        self.features = nn.Sequential(
            nn.Conv2d(10, first, 3, padding=1),
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
        """Mean and log-variance of the code of each image.

        Args:
            lr: (B, 3, h, w), range [-1, 1]; the high-pass band and the 8x8 phase are added here.

        Returns:
            mean and logvar, (B, code_dim) each.
        """
        phase = phase_planes(*lr.shape[-2:], device=lr.device, dtype=lr.dtype).expand(len(lr), -1, -1, -1)
        features = self.features(torch.cat([lr, 8 * high_pass(lr), phase], dim=1))
        # The spread over the image is what noise changes; the mean alone would mostly tell the scene. Measured texture
        # and blocks are handed over as they are: logarithms of energies are what a small network is slowest to learn.
        spread = (features.var((2, 3)) + 1e-6).sqrt()
        public = (lr.float() + 1) / 2
        texture = texture_statistics(public) / 4 + 1.5
        blocks = block_statistics(luma_chroma(public)[:, :1]) / 4
        measured = torch.cat([texture, blocks], dim=1).to(features.dtype)
        mean, logvar = self.head(torch.cat([features.mean((2, 3)), spread, measured], dim=1)).chunk(2, dim=1)
        return mean, logvar.clamp(-8, 4)


class RealisticDegrader(Pretrained, ModelMixin, ConfigMixin):
    """A residual-shifting diffusion model from clean downsampling to the degraded LR image.

    ``x0 = Q(b + g + s * (x_t - b))``: b is the clean (box) downsampling, the anchor of the chain; the network makes the
    residual g and the gate s of every pixel from (x_t / c_t, free noise, HR, b, 8x8 phase; t, code). Its last
    convolution is zero before training, so an untrained degrader is exactly the clean downsampler. The gate hands
    white noise of any local strength straight to the output; without it the first grain that is learned is striped.
    Q is JPEG's block quantisation, as coarse as the code says (`BlockQuantiser`).

    The chain is ResShift's (arXiv 2307.12348) with its ends swapped, in LR pixels; the idea of a diffusion downsampler
    that learns beside an upsampler is Kim & Kim's (arXiv 2410.07663), its inside here is our own.

    Every draw differs by two things: ``noise`` (pixels) and ``code`` (how blurred, noisy, compressed the image is).

    Args:
        scale: HR side / LR side: 2, 3 or 4.
        code_dim: numbers in a code.
        widths: channels of the U-Net's three levels.
        blocks: residual blocks per level.
        embedding_dim: width of the time-and-code embedding.
        encoder_widths: channels of the encoder's three levels.
        num_train_timesteps: T, and with it the largest ``steps``.
        kappa: noise strength of the chain.
        min_noise_level: noise level of its first step.
        bank_size: rows of the bank of codes (set by `set_bank`).

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
        # 1x1 convolutions rather than Linear: bit for bit the same for one sample and for a batch.
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
        """Degrade and downsample.

        Args:
            hr: (B, 3, H, W), range [0, 1]; H and W multiples of ``scale``.
            code: (B, code_dim) or (1, code_dim): the look; drawn by `sample_codes` when None.
            reference: (B or 1, 3, h, w) in [0, 1]: degrade like these LR photographs, in place of ``code``.
            steps: network calls, 1..T.
            noise: (B, 3, H/scale, W/scale) standard normal, the start of the chain; drawn when None.
            generator: one, or a list of one per sample (then a sample's draw does not depend on its batch). None
                draws fresh entropy; the global generator is never touched.
            pad: repeat the last row and column until ``scale`` divides the sides, instead of refusing.
            tile: side in LR pixels above which the network runs in tiles: the same result in bounded memory (to some
                1e-7, which now and then turns the rounding of one JPEG coefficient).

        Returns:
            lr: (B, 3, H/scale, W/scale), range [0, 1], not rounded to 8 bits; differentiable in ``hr`` and ``code``.

        Raises:
            ValueError: shape, range or steps do not fit.
        """
        hr = self._checked(hr, pad)
        if code is not None and reference is not None:
            raise ValueError("code and reference were both given; pass one of them")
        if generator is None:
            generator = fresh_generator()
        if reference is not None:
            code = self.encode(reference)
        if code is None:
            code = self.sample_codes(len(hr), generator=generator)
        if code.ndim != 2 or code.shape[1] != self.config.code_dim or len(code) not in (1, len(hr)):
            raise ValueError(f"code {tuple(code.shape)} does not fit; pass ({len(hr)}, {self.config.code_dim})")
        if not code.isfinite().all():
            raise ValueError("code holds nan or infinity; pass finite numbers, such as those of `encode`")
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
        """One network call: a *sample* of the LR image given x_t, not its mean.

        Args:
            xt: (B, 3, h, w).
            t: step, 0..T-1, one for all or (B,).
            hr: (B, 3, H, W) in [-1, 1].
            anchor: (B, 3, h, w), box downsampling of ``hr``.
            code: (B, code_dim).
            free_noise: (B, 3, h, w) standard normal. Below T, x_t already tells much of the answer and a network
                without this noise could only answer with a mean, which has no grain; at T, x_t is noise enough: zeros.
            tile: see `forward`.

        Returns:
            x0, (B, 3, h, w), around [-1, 1].
        """
        t = torch.as_tensor(t, device=xt.device).expand(len(xt))
        embedding = self.time_embedding(t)[:, :, None, None] + self.code_embedding(code[:, :, None, None])
        scaled = self.scheduler.scale_model_input(xt, t)

        def network(rows: slice, columns: slice) -> Tensor:
            scale = self.config.scale
            hr_part = hr[..., rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale]
            grid = torch.cat(
                [scaled[..., rows, columns], free_noise[..., rows, columns], F.pixel_unshuffle(hr_part, scale),
                 anchor[..., rows, columns]], dim=1
            )  # fmt: skip
            height, width = grid.shape[-2:]
            grid = F.pad(grid, (0, -width % 4, 0, -height % 4), mode="replicate")
            phase = phase_planes(*grid.shape[-2:], device=grid.device, dtype=grid.dtype)
            grid = torch.cat([grid, phase.expand(len(grid), -1, -1, -1)], dim=1)
            return self.unet(grid, F.silu(embedding))[..., :height, :width]

        residual, gate = run_in_tiles(network, *xt.shape[-2:], tile=tile).chunk(2, dim=1)
        return self.quantiser(anchor + residual + gate * (xt - anchor), code)

    def encode(self, lr: Tensor) -> Tensor:
        """The code of each LR image: (B, 3, h, w) in [0, 1] -> (B, code_dim).

        Raises:
            ValueError: another shape, type or range, or smaller than 16 px.
        """
        check_batch(lr, "reference", size="h, w")
        if min(lr.shape[2:]) < MIN_REFERENCE_SIDE:
            raise ValueError(
                f"reference of {lr.shape[3]}x{lr.shape[2]} px is too small to tell its degradation; "
                f"use {MIN_REFERENCE_SIDE} or more"
            )
        return self.encoder(lr.to(self.dtype) * 2 - 1)[0]

    def sample_codes(self, n: int, *, source: str = "bank", generator: Generators = None) -> Tensor:
        """Draw codes.

        Args:
            n: how many.
            source: "bank" draws from the codes of the training photographs, jittered (the prior while there is no
                bank); "prior" draws standard normal ones.
            generator: one, or a list of ``n``; None draws fresh entropy.

        Returns:
            (n, code_dim).

        Raises:
            ValueError: unknown ``source``.
        """
        if source not in ("bank", "prior"):
            raise ValueError(f"source {source!r} is unknown; use 'bank' or 'prior'")
        generator = fresh_generator() if generator is None else generator
        drawn = randn_tensor((n, self.config.code_dim), generator=generator, device=self.bank.device, dtype=self.dtype)
        if source == "prior" or not len(self.bank):
            return drawn
        each = generator if isinstance(generator, list) else [generator] * n
        rows = [int(torch.randint(len(self.bank), (), generator=g, device=g.device)) for g in each]
        return self.bank[rows] + BANK_JITTER * self.bank.std(0, correction=0) * drawn

    def set_bank(self, codes: Tensor) -> None:
        """Keep ``codes``, (N, code_dim), as the bank that `sample_codes` draws from; saved with the weights."""
        if codes.ndim != 2 or codes.shape[1] != self.config.code_dim or not len(codes):
            raise ValueError(f"codes {tuple(codes.shape)} are no bank; pass (N, {self.config.code_dim}) with N > 0")
        self.register_to_config(bank_size=len(codes))
        self.bank = nn.Buffer(codes.detach().to(self.bank).clone())

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
    """A CPU generator seeded by the operating system, so that drawing never reads or moves global state."""
    generator = torch.Generator()
    generator.seed()
    return generator
