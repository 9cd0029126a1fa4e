"""Pairs whose LR a degrader makes during training, and a pool of those that it made while it learned."""

from collections.abc import Mapping

import torch
from torch import Tensor

from degrade.mix import DegradationMix


def make_online(batch: Mapping[str, Tensor], mix: DegradationMix | None) -> dict[str, Tensor]:
    """Let the degrader make the LR images that a batch still lacks, as `degrade synth` would with the same seeds.

    Args:
        batch: of `PairData`.
        mix: with the degrader; None when no sample is ``online``.

    Returns:
        hr and lr, complete.
    """
    hr, lr, rows = batch["hr"], batch["lr"], batch["online"].nonzero()[:, 0]
    if len(rows) and mix is not None:
        with torch.no_grad():
            made = mix.degrade(hr[rows], mix.draw(batch["seed"][rows].tolist()))
        lr = lr.index_copy(0, rows, made)
    return {"hr": hr, "lr": lr}


class PairPool:
    """Pairs that the degrader made while it learned: a batch drawn from it mixes many of its states.

    As ResShift's pool of training pairs, but for versions of the degrader; every draw here has its own look anyway.

    Args:
        capacity: pairs that are kept, about.
        tensors: where they are kept, ``pool_hr`` and ``pool_lr``, so that a run can save them.
    """

    def __init__(self, capacity: int, tensors: dict[str, Tensor]) -> None:
        self.capacity, self.tensors = capacity, tensors

    def swap(self, hr: Tensor, lr: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Put pairs in; take as many out, at random once the pool is full, the same ones before.

        Args:
            hr: (B, 3, H, W) in [0, 1], multiples of 1/255: kept in 8 bits.
            lr: (B, 3, h, w), likewise.
            generator: of the choice.
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
