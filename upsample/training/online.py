"""Pairs that a degrader makes during training, and the replay buffer that keeps some of them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from degrade.mix import DegradationMix


class OnlinePairs:
    """Let a degrader make the LR images that a batch of `PairData` still lacks.

    Args:
        mix: has the degrader, and the looks to draw from.
        colearn: whether the degrader judges the student too. Its LR images then get noise of up to one grey level
            before they are rounded, so that nothing hidden in the last bit survives, and they count as ``generated``.
        buffer: mixes in pairs of earlier versions of the degrader; None = none.
    """

    def __init__(self, mix: DegradationMix, *, colearn: bool = False, buffer: "ReplayBuffer | None" = None) -> None:
        self.mix, self.colearn, self.buffer = mix, colearn, buffer

    def complete(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return hr and lr, complete, and generated (B,) bool."""
        online = batch["online"]
        hr, lr = make_online(batch, self.mix)
        rows = online.nonzero()[:, 0]
        if self.colearn and len(rows):
            new_hr, new_lr = hr[rows], lr[rows]
            dither = torch.rand(new_lr.shape, generator=generator).to(lr) * 2 - 1
            new_lr = ((new_lr * 255 + dither).round() / 255).clamp(0, 1)
            if self.buffer is not None:
                new_hr, new_lr = self.buffer.swap(new_hr, new_lr, generator)
            hr, lr = hr.index_copy(0, rows, new_hr), lr.index_copy(0, rows, new_lr)
        return {"hr": hr, "lr": lr, "generated": online if self.colearn else torch.zeros_like(online)}


def make_online(batch: Mapping[str, Tensor], mix: DegradationMix) -> tuple[Tensor, Tensor]:
    """Make the LR images that a batch still lacks, as `degrade synth` makes them with the same seeds.

    Args:
        batch: from `PairData`.
        mix: has the degrader.

    Returns:
        hr and lr, complete.
    """
    hr, lr, rows = batch["hr"], batch["lr"], batch["online"].nonzero()[:, 0]
    if len(rows):
        with torch.no_grad():
            made = mix.degrade(hr[rows], mix.draw(batch["seed"][rows].tolist()))
        lr = lr.index_copy(0, rows, made)
    return hr, lr


class ReplayBuffer:
    """Keep generated pairs, so that a batch mixes pairs of many past versions of the degrader.

    As ResShift's pool of training pairs, but for versions of the degrader; every draw here has its own look anyway.

    Args:
        capacity: pairs that are kept, about.
        tensors: where they are kept, under ``pool_hr`` and ``pool_lr``, so that checkpoints have them.
    """

    def __init__(self, capacity: int, tensors: dict[str, Tensor]) -> None:
        self.capacity, self.tensors = capacity, tensors

    def swap(self, hr: Tensor, lr: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Put pairs in and take as many out: at random once the buffer is full, the same ones before.

        Args:
            hr: (B, 3, H, W) in [0, 1], multiples of 1/255, because they are kept in 8 bits.
            lr: (B, 3, h, w), likewise.
            generator: draws the places.
        """
        new = {"pool_hr": (hr * 255).round().byte().cpu(), "pool_lr": (lr * 255).round().byte().cpu()}
        held = len(self.tensors.get("pool_hr", ()))
        if held + len(hr) <= self.capacity or held < len(hr):
            for name, images in new.items():
                self.tensors[name] = torch.cat([self.tensors[name], images]) if held else images
            return hr, lr
        places = torch.randperm(held, generator=generator)[: len(hr)]
        out = {name: self.tensors[name][places].clone() for name in new}
        for name, images in new.items():
            self.tensors[name][places] = images[: len(places)]
        return out["pool_hr"].to(hr) / 255, out["pool_lr"].to(lr) / 255
