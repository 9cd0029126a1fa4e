"""Compute networks in bfloat16, and tell whether a device does so or only imitates it."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def network_precision(like: Tensor, *, bf16: bool) -> AbstractContextManager[None]:
    """Return a context in which networks compute in bfloat16 on the device of a tensor, or one that changes nothing."""
    return torch.autocast(like.device.type, torch.bfloat16) if bf16 else nullcontext()


def has_fast_bf16(device: str) -> bool:
    """Tell whether bf16 is faster than float32: on CPUs with AVX-512 or better, and on GPUs that have it.

    Elsewhere torch imitates it without the library that makes its convolutions fast, and a network takes ten times as
    long and more.

    Args:
        device: a device of torch, such as "cpu" or "cuda:1".
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return kind == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
