"""The crops that the realism report compares: real LR in two halves; ours, bicubic and Real-ESRGAN of the same HR.

The real images are split into two halves, whole images to a side. One half is what everything is measured against; the
other stands in the table as if it were a generator, and its distance is the best that can be hoped for: the noise
floor. So every distance, the floor too, compares equally many crops of different images.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from degrade.images.crops import ImagePool
from degrade.images.geometry import reduce_by
from degrade.images.tensors import Crops, to_image, to_tensors
from degrade.mix import DegradationMix, Record
from degrade.networks.texture import BLOCK
from degrade.realism.columns import Column
from degrade.recipes.recipe import Recipe
from degrade.recipes.steps import Drawn

BATCH = 8
RECIPES: dict[str, str] = {Column.REAL_ESRGAN: "real-esrgan", Column.BICUBIC: "bicubic"}  # column: preset


@dataclass(frozen=True)
class CropSets:
    """One seed's crops, all (N, side, side, 3) uint8 except ``hr``.

    Attributes:
        real: the half of the real images that everything is measured against.
        hr: what the made sets were made from, (N, side * scale, side * scale, 3).
        made: by name: ``real`` is the other half of the real images, then ``ours``, perhaps ``before``,
            ``real_esrgan``, ``bicubic``.
    """

    real: Crops
    hr: Crops
    made: dict[str, Crops]

    def shown(self) -> dict[str, Crops]:
        """What pictures and charts show: as ``real`` the half that is measured against, then what is made."""
        return {Column.REAL: self.real} | {name: crops for name, crops in self.made.items() if name != Column.REAL}


def gather(
    real: ImagePool, hr: ImagePool, learned: dict[str, DegradationMix], *, count: int, side: int, seed: int,
    codes_from_real: bool,
) -> CropSets:  # fmt: skip
    """Cut and make the crops of one seed.

    Args:
        real: real LR images.
        hr: HR images.
        learned: the degraders under test by name: ``ours``, and perhaps ``before``.
        count: crops in each set.
        side: of an LR crop.
        seed: of the halves, the crops and the degradations.
        codes_from_real: take the codes from the half of the real images that is *not* measured against, in place of
            those that the degrader draws from.
    """
    scale = learned[Column.OURS].scale
    count -= count % 2
    reference, held_out = real.halves(seed)
    # The same shuffle: where the HR images are the partners of the real ones, both have the same scenes in each half.
    hr_crops = hr.crops(count, side * scale, seed, among=[source for half in hr.halves(seed) for source in half])
    other = real.crops(count, side, seed + 1, among=reference, grid=BLOCK)
    if codes_from_real:
        learned = {name: _told_the_looks_of(other, mix) for name, mix in learned.items()}
    return CropSets(
        real=real.crops(count, side, seed, among=held_out, grid=BLOCK),
        hr=hr_crops,
        made={
            Column.REAL: other,
            **{name: make(hr_crops, mix, seed) for name, mix in learned.items()},
            **baselines(hr_crops, scale, seed),
        },
    )


def _told_the_looks_of(crops: Crops, mix: DegradationMix) -> DegradationMix:
    codes = codes_of(crops, mix)
    return DegradationMix(mix.degrader, None, scale=mix.scale, steps=mix.steps, codes=codes)


def baselines(hr: Crops, scale: int, seed: int) -> dict[str, Crops]:
    """LR of the HR crops by each baseline."""
    return {name: make_baseline(hr, name, scale, seed) for name in RECIPES}


def make_baseline(hr: Crops, name: str, scale: int, seed: int) -> Crops:
    """LR of the HR crops by the baseline that the report calls ``name``."""
    return make(hr, DegradationMix(None, Recipe.preset(RECIPES[name]), scale=scale), seed)


def make(hr: Crops, mix: DegradationMix, seed: int) -> Crops:
    """Degrade each crop with a draw of its own, as `synth` would: (N, H, W, 3) -> (N, H/scale, W/scale, 3)."""
    return degrade_crops(hr, mix, mix.draw(draw_seeds("make", seed, len(hr))))


def make_like(hr: Crops, mix: DegradationMix, codes: torch.Tensor, seed: int) -> Crops:
    """Degrade each crop by our degrader with the look that its code says, (N, code_dim); the seed is of the noise."""
    looks = zip(codes.tolist(), draw_seeds("noise", seed, len(hr)), strict=True)
    records = [{"kind": "learned", "code": code, "steps": mix.steps, "noise_seed": noise} for code, noise in looks]
    return degrade_crops(hr, mix, records)


def draw_seeds(purpose: str, seed: int, count: int) -> list[int]:
    """Seeds of ``count`` draws; another purpose has others, so that a baseline never repeats the truth's own draw."""
    rng = random.Random(f"{purpose}/{seed}")
    return [rng.getrandbits(53) for _ in range(count)]


def apply_drawn(hr: Crops, drawn: Sequence[Drawn]) -> Crops:
    """Degrade each crop by a recipe's drawn parameters."""
    carrier = DegradationMix(None, Recipe.preset("bicubic"), scale=drawn[0]["scale"])
    return degrade_crops(hr, carrier, [{"kind": "recipe", "params": params} for params in drawn])


def degrade_crops(hr: Crops, mix: DegradationMix, records: Sequence[Record]) -> Crops:
    """`DegradationMix.degrade` in batches, on 8-bit crops."""
    made = []
    device = mix.degrader.device if mix.degrader is not None else torch.device("cpu")
    for start in range(0, len(hr), BATCH):
        with torch.inference_mode():
            lr = mix.degrade(to_tensors(hr[start : start + BATCH]).to(device), records[start : start + BATCH])
        made += [to_image(image) for image in lr]
    return np.stack(made)


def codes_of(crops: Crops, mix: DegradationMix) -> torch.Tensor:
    """The codes of LR crops by the learned degrader of ``mix``, (N, code_dim)."""
    assert mix.degrader is not None
    with torch.inference_mode():
        device = mix.degrader.device
        return torch.cat([mix.degrader.encode(part.to(device)) for part in to_tensors(crops).split(BATCH)])


def clean_downsampling(hr: Crops, scale: int) -> Crops:
    """Area downsampling, the degrader's own anchor, rounded to 8 bits."""
    return np.stack([reduce_by(image, scale) for image in hr])
