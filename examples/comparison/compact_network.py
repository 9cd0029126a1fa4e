"""The fixed SR network of the comparisons: Real-ESRGAN's compact network, plain L1, and nothing of ours."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from spandrel.architectures.Compact import Compact
from torch import Tensor

# Features and convolutions: 0.04 M parameters, and the 0.6 M of the size that is published.
SIZES = {"small": (24, 6), "compact": (64, 16)}
LEARNING_RATE, WARMUP_STEPS = 1e-3, 50


def compact_network(seed: int, size: str = "small", scale: int = 4) -> Compact:
    """Build a new one, initialised from ``seed`` without touching the global generator; it adds to LR, repeated."""
    features, convolutions = SIZES[size]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Compact(num_feat=features, num_conv=convolutions, upscale=scale, act_type="prelu")


def load_compact_network(file: Path, size: str = "small", scale: int = 4) -> Compact:
    """Load a trained one."""
    network = compact_network(0, size, scale)
    network.load_state_dict(load_file(file))
    return network.eval()


def train_compact_network(
    batch_of: Callable[[int], dict[str, Tensor]],
    file: Path,
    *,
    steps: int,
    seed: int,
    mixed_precision: str,
    size: str = "small",
    scale: int = 4,
    calls: Mapping[int, Callable[[Compact], None]] | None = None,
) -> None:
    """Train from nothing and write the weights.

    Args:
        batch_of: step -> hr (B, 3, scale h, scale w) and lr (B, 3, h, w) in [0, 1].
        file: of the weights.
        steps: updates.
        seed: of the initial weights.
        mixed_precision: "no" or "bf16".
        size: of `SIZES`.
        scale: HR side / LR side.
        calls: functions by step, each called with the network once so many steps are done.
    """
    network = compact_network(seed, size, scale)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / WARMUP_STEPS) * (0.525 + 0.475 * math.cos(math.pi * min(1.0, step / steps))),
    )
    for step in range(steps):
        batch = batch_of(step)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed_precision == "bf16"):
            sr = network(batch["lr"])
        optimizer.zero_grad()
        F.l1_loss(sr.float(), batch["hr"]).backward()
        optimizer.step()
        rate.step()
        if calls and step + 1 in calls:
            calls[step + 1](network)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), file)
