"""Define RealisticDegrader, which turns HR images into realistic LR images, a different one for each noise and code."""

from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from degrade.adjustment import MOST
from degrade.diffusers_bases import ConfigMixin, ModelMixin, randn_tensor, register_to_config
from degrade.images.tensors import check_batch, numbers
from degrade.networks.backend import Backend, check_backend
from degrade.networks.block_quantiser import BlockQuantiser
from degrade.networks.degradation_encoder import DegradationEncoder
from degrade.networks.precision import network_precision
from degrade.networks.pretrained import Pretrained
from degrade.networks.texture import phase_planes
from degrade.networks.unet import UNET_STRIDE, FilmUNet, run_in_tiles
from degrade.ops.border import repeat_border
from degrade.ops.out_of_range import OutOfRange, bounded
from degrade.schedule import Generators, ResidualShiftScheduler

WEIGHTS_DIR = Path(__file__).parent / "weights"
BANK_JITTER = 0.15  # of the bank's own spread: makes new codes that stay close to known ones
DIRECTIONS = ("blur", "noise", "jpeg")
ONCE_MORE = 0.5  # of the changed image is mixed into HR at strength 2; more would turn the finest detail of soft looks
MIN_REFERENCE_SIDE = 16  # px; smaller images are too small to read a code from


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

    A look is blur, grain and blocks that are measured in LR pixels, so one set of weights serves every scale up to its
    own: `forward` takes a smaller ``scale``, and enlarges HR for the network to the size that it was trained with.

    Args:
        scale: HR side / LR side that the network is trained for, 1..4; it is also the largest scale of `forward`.
        code_dim: length of a code.
        widths: channels at the three levels of the U-Net.
        blocks: residual blocks per level of the U-Net.
        embedding_dim: width of the embedding of time and code.
        encoder_widths: channels at the three levels of the encoder.
        num_train_timesteps: T, the length of the chain, which is also the largest ``steps``.
        kappa: noise strength of the chain.
        min_noise_level: noise level of the chain's first step.
        bank_size: number of codes in the bank; `set_bank` sets it.
        directions: how codes change along each of `DIRECTIONS`, 3 x code_dim numbers; `set_directions` sets it.

    Raises:
        ValueError: ``scale`` is not 1, 2, 3 or 4.

    Example:
        >>> degrader = RealisticDegrader()
        >>> degrader(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 3, 16, 16])
    """

    weights_dir = str(WEIGHTS_DIR)
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
        directions: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        if scale not in (1, 2, 3, 4):
            raise ValueError(f"scale {scale!r} is not supported; use 1, 2, 3 or 4")
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
        self._backend: Backend = "torch"
        self._bf16 = False

    def forward(
        self,
        hr: Tensor,
        code: Tensor | None = None,
        *,
        reference: Tensor | None = None,
        scale: int | None = None,
        strength: Tensor | float = 1.0,
        grain: Tensor | float = 1.0,
        steps: int = 1,
        noise: Tensor | None = None,
        generator: Generators = None,
        pad: bool = False,
        tile: int = 256,
        out_of_range: OutOfRange = "refuse",
    ) -> Tensor:
        """Degrade and downsample a batch of HR images.

        Args:
            hr: (B, 3, H, W), range [0, 1]; H and W are multiples of ``scale``.
            code: how to degrade, (B, code_dim) or (1, code_dim); None draws codes with `sample_codes`.
            reference: LR photographs whose codes to use instead of ``code``, (B or 1, 3, h, w), range [0, 1].
            scale: HR side / LR side, 1..the scale of the weights; None means the scale of the weights. At 1, the result
                has the size of ``hr``.
            strength: how far to go from the clean downsampling to the look, a number or (B,), 0..2: 0 is exactly the
                clean downsampling, 1 is the look, and above 1 noise and coarseness grow on, and the look is applied to
                an image that it has already softened, which takes two network calls more.
            grain: factor on the noise alone, a number or (B,), 0..2; other values than 1 take one network call more.
            steps: network calls, 1..T.
            noise: standard normal noise where the chain starts, (B, 3, H/scale, W/scale); None draws it.
            generator: one generator for the batch, or a list with one for each sample, so that a sample does not depend
                on its batch. None draws from fresh entropy and never touches the global generator;
                ``torch.default_generator`` is the global one, and follows ``torch.manual_seed``.
            pad: repeat the last row and column until ``scale`` divides the sides, instead of raising an error.
            tile: side in LR pixels above which the network runs in tiles, to limit memory. The result is the same up to
                1e-7, which sometimes changes how a JPEG coefficient is rounded.
            out_of_range: what to do with values of ``hr`` outside [0, 1], as another network or a solver makes them:
                "refuse" raises an error, "clamp" moves them to 0 or 1 and lets their gradient pass straight through,
                and "pass" degrades them as they are. With the last two, a GPU need not wait for a check.

        Returns:
            lr: (B, 3, H/scale, W/scale), range [0, 1], not rounded to 8 bits; differentiable in ``hr``, ``code``,
            ``strength`` and ``grain``.

        Raises:
            ValueError: an argument has a wrong shape, type or range, or ``code`` and ``reference`` are both given.
        """
        scale = self._checked_scale(scale)
        hr = self._checked(hr, scale, pad, out_of_range)
        if generator is None and (noise is None or steps > 1 or (code is None and reference is None)):
            generator = fresh_generator()
        chosen = self._choose_code(code, reference, len(hr), generator)
        chosen = chosen.to(hr.device, hr.dtype).expand(len(hr), -1)
        strength, grain = _amount(strength, "strength", hr), _amount(grain, "grain", hr)
        hr = (hr * 2).sub_(1)  # in place: a whole photograph may take a gigabyte
        anchor = F.avg_pool2d(hr, scale)
        if noise is None:
            noise = randn_tensor(anchor.shape, generator=generator, device=hr.device, dtype=hr.dtype)
        if (most := numbers(strength.detach().amax())) and most[0] > 1:
            hr, anchor = self._softened(hr, anchor, chosen, noise, strength - 1, tile)
        xt = self.scheduler.prior_sample(anchor, noise)
        chain = self.scheduler.chain(steps)
        if numbers(*grain.detach().aminmax()) not in (None, [1.0, 1.0]):
            if steps > 1:
                raise ValueError(f"grain needs steps=1, not {steps}, because later steps mix noise and image")
            mean, grains = self._mean_and_noise(xt, hr, anchor, chosen, tile=tile)
            x0 = self.quantiser(anchor + strength * (mean + grain * grains), chosen, strength=strength)
            return self._touch_idle(((x0 + 1) / 2).clamp(0, 1), encoder_used=reference is not None)
        for t, next_t in zip_longest(chain, chain[1:]):
            free = torch.zeros_like(xt)
            if t < self.config.num_train_timesteps - 1:
                free = randn_tensor(xt.shape, generator=generator, device=xt.device, dtype=xt.dtype)
            # Only the last step leaves the trained strength, because the network knows no other chain.
            amount = strength if next_t is None else 1.0
            x0 = self.predict_x0(xt, t, hr, anchor, chosen, free, strength=amount, tile=tile)
            xt = self.scheduler.reverse(
                x0, xt, anchor, t, next_t, sampling=self.scheduler.config.sampling, generator=generator
            )
        return self._touch_idle(((xt + 1) / 2).clamp(0, 1), encoder_used=reference is not None)

    def _softened(
        self, hr: Tensor, anchor: Tensor, code: Tensor, noise: Tensor, amount: Tensor, tile: int
    ) -> tuple[Tensor, Tensor]:
        """Mix into HR what the look makes of it apart from noise and blocks; return it and its clean downsampling.

        So a strength above 1 blurs an image that is blurred already. To extrapolate the change would turn the sign of
        fine detail instead, as soon as a look removes more than half of it. ``amount``, (B, 1, 1, 1), is the strength
        above 1; below 0 it changes nothing.
        """
        xt = self.scheduler.prior_sample(anchor, noise)
        change, _ = self._mean_and_noise(xt, hr, anchor, code, tile=tile)
        changed = F.interpolate(anchor + change, size=hr.shape[-2:], mode="bicubic")
        hr = (hr + ONCE_MORE * amount.clamp(min=0) * (changed - hr)).clamp(-1, 1)
        return hr, F.avg_pool2d(hr, hr.shape[-1] // anchor.shape[-1])

    def predict_x0(
        self,
        xt: Tensor,
        t: Tensor | int,
        hr: Tensor,
        anchor: Tensor,
        code: Tensor,
        free_noise: Tensor,
        *,
        strength: Tensor | float = 1.0,
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
            strength: factor on everything that the network changes, and on the coarseness of JPEG's tables; a number
                or (B, 1, 1, 1).
            tile: see `forward`.

        Returns:
            x0, (B, 3, h, w), around [-1, 1].
        """
        change = self._change(xt, t, hr, anchor, code, free_noise, tile=tile)
        return self.quantiser(anchor + strength * change, code, strength=strength)

    def _mean_and_noise(
        self, xt: Tensor, hr: Tensor, anchor: Tensor, code: Tensor, *, tile: int
    ) -> tuple[Tensor, Tensor]:
        """Split the change of the first step into what noise of either sign gives, and the noise; (B, 3, h, w) each.

        The gate alone does not tell them apart, because the residual depends on the noise too.
        """
        last, free = self.config.num_train_timesteps - 1, torch.zeros_like(xt)
        plus = self._change(xt, last, hr, anchor, code, free, tile=tile)
        minus = self._change(2 * anchor - xt, last, hr, anchor, code, free, tile=tile)
        return (plus + minus) / 2, (plus - minus) / 2

    def _change(
        self, xt: Tensor, t: Tensor | int, hr: Tensor, anchor: Tensor, code: Tensor, free_noise: Tensor, *, tile: int
    ) -> Tensor:
        """Compute what the network adds to the anchor before blocks are quantised, (B, 3, h, w)."""
        t = torch.as_tensor(t, device=xt.device).expand(xt.shape[0])  # len() would fix the batch of an export
        embedding = self.time_embedding(t)[:, :, None, None] + self.code_embedding(
            code[:, :, None, None]
        )  # (B, E, 1, 1)
        scaled = self.scheduler.scale_model_input(xt, t)  # (B, 3, h, w)
        own = self.config.scale

        def network(rows: slice, columns: slice) -> Tensor:
            grid = torch.cat([
                scaled[..., rows, columns],         # (B, 3, h, w)
                free_noise[..., rows, columns],     # (B, 3, h, w)
                F.pixel_unshuffle(_window(hr, anchor, rows, columns, own), own),  # (B, 3 scale^2, h, w)
                anchor[..., rows, columns],         # (B, 3, h, w)
            ], dim=1)  # fmt: skip
            height, width = grid.shape[-2:]
            grid = repeat_border(grid, 0, -width % UNET_STRIDE, 0, -height % UNET_STRIDE)
            phase = phase_planes(*grid.shape[-2:], device=grid.device, dtype=grid.dtype)  # (1, 4, h, w)
            grid = torch.cat([grid, phase.expand(grid.shape[0], -1, -1, -1)], dim=1)
            with network_precision(grid, bf16=self._bf16 and self._backend == "torch"):
                return self.unet(grid, F.silu(embedding))[..., :height, :width]  # (B, 6, h, w)

        residual, gate = run_in_tiles(network, *xt.shape[-2:], tile=tile).chunk(2, dim=1)  # (B, 3, h, w) each
        return residual + gate * (xt - anchor)

    def use_backend(
        self, backend: Backend, *, bf16: bool = False, on_note: Callable[[str], object] = lambda sentence: None
    ) -> None:
        """Choose the software and the precision that compute the U-Net from now on; the choice is not saved.

        Noise, the anchor, JPEG's quantisation and the sums around the network stay torch's, in their own precision. The
        network is traced as an ONNX model once, which takes up to a minute, and kept in
        `degrade.networks.onnx_trace.cache_folder`. onnxruntime and OpenVINO compute no gradients, with as many threads
        as torch has now.

        Args:
            backend: "torch", or on the CPU and in float32 "onnxruntime" or "openvino".
            bf16: compute the network in bfloat16, with torch or OpenVINO.
            on_note: called with a sentence before the network is traced.

        Raises:
            ValueError: a package is missing, the backend cannot run here, or it gives other images than torch.
        """
        check_backend(backend, bf16=bf16, device=self.bank.device.type)  # diffusers' device loads a compiler
        vars(self.unet).pop("forward", None)
        self._backend, self._bf16 = "torch", bf16
        if backend == "torch":
            return
        from degrade.networks.runtimes import check_difference, start_unet

        self._bf16 = False
        exact = self._example_change()
        run = start_unet(self.unet, backend, bf16=bf16, on_note=on_note)
        self.requires_grad_(False)
        # Set on the object, as accelerate does, so that whoever calls the network need not know of backends.
        cast(Any, self.unet).forward = lambda x, embedding: run(x=x, embedding=embedding)[0]
        self._backend, self._bf16 = backend, bf16
        check_difference(backend, self._example_change(), exact, bf16=bf16)

    @property
    def computed_by(self) -> tuple[Backend, bool]:
        """The software that computes the U-Net, and whether in bfloat16; see `use_backend`."""
        return self._backend, self._bf16

    def _example_change(self) -> Tensor:
        """Compute what the network adds to a small anchor; its sides are no multiples of the network's stride."""
        generator = torch.Generator().manual_seed(0)
        hr = torch.rand(1, 3, 21 * self.config.scale, 34 * self.config.scale, generator=generator, device="cpu") * 2 - 1
        anchor = F.avg_pool2d(hr, self.config.scale)
        xt = self.scheduler.prior_sample(anchor, torch.randn(anchor.shape, generator=generator, device="cpu"))
        code, last = torch.zeros(1, self.config.code_dim, device="cpu"), self.config.num_train_timesteps - 1
        with torch.inference_mode():
            return self._change(xt, last, hr, anchor, code, torch.zeros_like(xt), tile=256)

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

    def set_directions(self, directions: Tensor) -> None:
        """Set the directions of `move`, which are saved with the weights.

        Args:
            directions: (3, code_dim), from `degrade.training.directions.find_directions`.

        Raises:
            ValueError: ``directions`` has another shape.
        """
        wanted = (len(DIRECTIONS), self.config.code_dim)
        if tuple(directions.shape) != wanted:
            raise ValueError(f"directions {tuple(directions.shape)} do not fit; pass {wanted}")
        self.register_to_config(directions=[[round(value, 4) for value in row] for row in directions.tolist()])

    def move(self, code: Tensor, *, blur: float = 0.0, noise: float = 0.0, jpeg: float = 0.0) -> Tensor:
        """Make looks softer, noisier or more compressed, or less so with negative numbers.

        Args:
            code: (B, code_dim).
            blur: how far to move, in standard deviations of the bank's codes along this direction.
            noise: likewise.
            jpeg: likewise; looks without JPEG need about 2 before any shows.

        Returns:
            (B, code_dim).

        Raises:
            ValueError: the weights have no directions.
        """
        amounts = (blur, noise, jpeg)
        if not any(amounts):
            return code
        if self.config.directions is None:
            raise ValueError("these weights have no directions; train them again, or use strength and grain")
        directions = torch.tensor(self.config.directions, device=code.device, dtype=code.dtype)
        return code + torch.tensor(amounts, device=code.device, dtype=code.dtype) @ directions

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
        if numbers(code.detach().isfinite().all()) == [0.0]:
            raise ValueError("code holds nan or infinity; pass finite numbers, such as those of `encode`")
        return code

    def _checked_scale(self, scale: int | None) -> int:
        own = self.config.scale
        if scale is None:
            return own
        if isinstance(scale, bool) or scale not in range(1, own + 1):
            raise ValueError(f"scale {scale!r} does not fit weights for scale {own}; use a whole number 1..{own}")
        return int(scale)

    def _checked(self, hr: Tensor, scale: int, pad: bool, out_of_range: OutOfRange) -> Tensor:
        hr = bounded(hr, "hr", out_of_range)
        height, width = hr.shape[-2:]
        if pad:
            return repeat_border(hr, 0, -width % scale, 0, -height % scale)
        for side, length in (("height", height), ("width", width)):
            if length % scale:
                fitting = length - length % scale
                raise ValueError(
                    f"hr {side} {length} is not a multiple of scale {scale}; crop to {fitting} or pad=True"
                )
        return hr

    def _touch_idle(self, lr: Tensor, *, encoder_used: bool) -> Tensor:
        """Give a zero gradient to parameters that took no part in ``lr``; DistributedDataParallel refuses None."""
        if not (torch.is_grad_enabled() and dist.is_available() and dist.is_initialized()):
            return lr
        idle = [*self.quantiser.parameters(), *(() if encoder_used else self.encoder.parameters())]
        return lr + 0 * sum(parameter.sum() for parameter in idle if parameter.requires_grad)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take the bank with the weights: its length is a setting, so a fresh degrader has another one."""
        bank = state_dict.get(f"{prefix}bank")
        if isinstance(bank, Tensor) and bank.ndim == 2 and bank.shape[1] == self.config.code_dim:
            self.register_to_config(bank_size=len(bank))
            self.bank = nn.Buffer(self.bank.new_zeros(bank.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _amount(value: Tensor | float, name: str, images: Tensor) -> Tensor:
    """Check a strength or a factor, a number or (B,), and return it as (1 or B, 1, 1, 1)."""
    amount = torch.as_tensor(value, dtype=images.dtype, device=images.device)
    if amount.ndim > 1 or (amount.ndim == 1 and len(amount) != len(images)):
        raise ValueError(f"{name} has shape {tuple(amount.shape)}; pass one number, or one for each of {len(images)}")
    bounds = numbers(*amount.detach().aminmax())
    if bounds and not (bounds[0] >= 0 and bounds[1] <= MOST):  # written so that nan is refused too
        shown = value if isinstance(value, int | float) else f"{bounds[0]:.3g}..{bounds[1]:.3g}"
        raise ValueError(f"{name} {shown} is outside 0..{MOST:g}")
    return amount.view(-1, 1, 1, 1)


def _window(hr: Tensor, anchor: Tensor, rows: slice, columns: slice, own: int) -> Tensor:
    """Cut the part of HR that belongs to a part of the LR grid, with ``own`` pixels per LR pixel.

    HR of a smaller scale is enlarged (bicubic), part by part to limit memory, with a margin so that the joints of the
    parts do not show.
    """
    scale = hr.shape[-1] // anchor.shape[-1]
    if scale == own:
        return hr[..., rows.start * own : rows.stop * own, columns.start * own : columns.stop * own]
    margin = 2  # LR pixels, at least the reach of the cubic
    height, width = anchor.shape[-2:]
    top, left = max(0, rows.start - margin), max(0, columns.start - margin)
    bottom, right = min(height, rows.stop + margin), min(width, columns.stop + margin)
    part = hr[..., top * scale : bottom * scale, left * scale : right * scale]
    part = F.interpolate(part, size=((bottom - top) * own, (right - left) * own), mode="bicubic")
    above, before = (rows.start - top) * own, (columns.start - left) * own
    return part[
        ...,
        above : above + (rows.stop - rows.start) * own,
        before : before + (columns.stop - columns.start) * own,
    ]


def fresh_generator() -> torch.Generator:
    """Make a CPU generator seeded by the operating system, so that no draw reads or changes global state."""
    generator = torch.Generator()
    generator.seed()
    return generator
