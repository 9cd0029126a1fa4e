"""Compute the networks of an upsampler by other software than torch: onnxruntime or OpenVINO, on a CPU.

Only the networks are replaced. The enlargement, the noise and the sums around them stay torch's, so tiles, seeds, steps
and detail mean the same with every backend.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from degrade.networks.backend import Backend, check_backend
from degrade.networks.onnx_trace import cache_folder, cached_trace
from degrade.networks.runtimes import check_difference, start_runtime, unet_inputs
from degrade.networks.unet import FilmUNet
from upsample.model import ResidualShiftUpsampler

__all__ = ["Backend", "cache_folder", "use_backend"]


def use_backend(
    upsampler: ResidualShiftUpsampler,
    backend: Backend,
    *,
    bf16: bool = False,
    on_note: Callable[[str], object] = lambda sentence: None,
) -> None:
    """Let other software compute the networks of an upsampler from now on; the weights stay those of torch.

    The networks are traced as ONNX models once, which takes up to a minute, and kept in `cache_folder`. The upsampler
    can then upscale, but not be trained.

    Args:
        upsampler: with our own U-Net, on the CPU, in float32.
        backend: the software; "torch" changes nothing.
        bf16: compute the networks, but nothing around them, in bfloat16; for OpenVINO.
        on_note: called with a sentence before the networks are traced.

    Raises:
        ValueError: a package is missing, the backend cannot run this upsampler, or it gives other images than torch.
    """
    if backend == "torch":
        upsampler.set_bf16(bf16)
        return
    check_backend(backend, bf16=bf16, device=str(upsampler.device))
    if not isinstance(upsampler.unet, FilmUNet):
        raise ValueError(f"{backend} runs our own U-Net, and these weights have a unet2d; use --backend torch")
    upsampler.set_bf16(False)
    upsampler.requires_grad_(False)
    exact = _example(upsampler)
    unet, branch = upsampler.unet, upsampler.detail_branch
    run_unet = start_runtime(backend, _unet_onnx(unet, on_note), bf16=bf16)
    # Set on the objects, as accelerate does, so that whoever calls the networks need not know of backends.
    cast(Any, unet).with_features = lambda x, embedding: tuple(run_unet(x=x, embedding=embedding))
    if branch is not None:
        run_branch = start_runtime(backend, _branch_onnx(upsampler, on_note), bf16=bf16)
        cast(Any, branch).forward = lambda features, lr, noise: run_branch(
            features=features, lr=lr, noise=noise.expand(len(lr), -1, -1, -1)
        )[0]
    check_difference(backend, _example(upsampler), exact, bf16=bf16)


def _example(upsampler: ResidualShiftUpsampler) -> Tensor:
    """Upscale a small image in one step, with all of the detail."""
    lr = torch.rand(1, 3, 21, 34, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return upsampler(lr, steps=1, detail=0 if upsampler.detail_branch is None else 1)


class _WithFeatures(nn.Module):
    """Call `FilmUNet.with_features`, since what is traced is a module's forward."""

    def __init__(self, unet: FilmUNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        return self.unet.with_features(x, embedding)


def _unet_onnx(unet: FilmUNet, on_note: Callable[[str], object]) -> bytes:
    outputs = ["residual", "features"]
    return cached_trace(_WithFeatures(unet), unet_inputs(unet), outputs, {"embedding": (0,)}, on_note)


def _branch_onnx(upsampler: ResidualShiftUpsampler, on_note: Callable[[str], object]) -> bytes:
    branch = upsampler.detail_branch
    assert branch is not None
    channels = {"features": branch.stem.in_channels - 3, "lr": 3, "noise": len(upsampler.noise)}
    inputs = {name: torch.zeros(2, n, 12, 20) for name, n in channels.items()}
    return cached_trace(branch, inputs, ["detail"], {}, on_note)
