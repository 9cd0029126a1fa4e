"""Gather the crops that the realism report compares: real LR, and LR that degraders and baselines make from one HR.

The real images are split into two halves that share no image. Every set is measured against one half. The other half
appears in the report like a generator: its distance is the noise floor, the smallest distance that can be expected.
All sets have the same number of crops, so their distances, including the floor, can be compared.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from degrade.degrader import RealisticDegrader
from degrade.images.crops import ImagePool
from degrade.images.geometry import Crops, reduce_by
from degrade.images.tensors import to_image, to_tensors
from degrade.mix import DegradationMix, Record, apply_records
from degrade.ops.compress import JPEG_BLOCK
from degrade.realism.columns import Column
from degrade.recipes.recipe import DrawnRecipe, Recipe

BATCH = 8  # crops that a network takes at once
RECIPES: dict[str, str] = {
    Column.REAL_ESRGAN: "real-esrgan",
    Column.LIGHT: "real-esrgan-light",
    Column.BICUBIC: "bicubic",
}  # preset of each baseline's column


@dataclass(frozen=True)
class CropSets:
    """Hold the crops of one seed, uint8; all but ``hr`` are (N, side, side, 3).

    Attributes:
        real: crops from the half of the real images that every set is measured against.
        hr: HR crops that the generated sets were made from, (N, side * scale, side * scale, 3).
        made: crops of each column: ``real`` is the other half of the real images, then ``ours``, ``before`` if it was
            given, and those of `RECIPES`.
    """

    real: Crops
    hr: Crops
    made: dict[str, Crops]

    def shown(self) -> dict[str, Crops]:
        """Return the crops to show: as ``real`` the half that sets are measured against, then the generated sets."""
        return {Column.REAL: self.real} | {name: crops for name, crops in self.made.items() if name != Column.REAL}


def gather(
    real: ImagePool, hr: ImagePool, learned: dict[str, DegradationMix], *, count: int, side: int, seed: int,
    codes_from_real: bool,
) -> CropSets:  # fmt: skip
    """Cut the real and HR crops of one seed, and make the generated sets.

    Args:
        real: real LR images.
        hr: HR images.
        learned: the degraders under test by column: ``ours``, and ``before`` if it was given.
        count: number of crops in each set; an odd number is rounded down.
        side: side of an LR crop, px.
        seed: seed of the halves, the crops and the degradations.
        codes_from_real: encode the codes from the half of the real images that nothing is measured against, instead
            of drawing them from the degrader's bank.
    """
    scale = learned[Column.OURS].scale
    count -= count % 2
    reference, held_out = real.halves(seed)
    # Both pools are shuffled alike. If the HR images are the partners of the real ones, their halves match.
    hr_crops = hr.crops(count, side * scale, seed, among=[source for half in hr.halves(seed) for source in half])
    other = real.crops(count, side, seed + 1, among=reference, grid=JPEG_BLOCK)
    if codes_from_real:
        learned = {name: _with_codes_of(other, mix) for name, mix in learned.items()}
    return CropSets(
        real=real.crops(count, side, seed, among=held_out, grid=JPEG_BLOCK),
        hr=hr_crops,
        made={
            Column.REAL: other,
            **{name: make(hr_crops, mix, seed) for name, mix in learned.items()},
            **baselines(hr_crops, scale, seed),
        },
    )


def _with_codes_of(crops: Crops, mix: DegradationMix) -> DegradationMix:
    """Let the degrader draw from the codes of these LR crops instead of its bank."""
    codes = codes_of(crops, mix)
    return DegradationMix(mix.degrader, None, scale=mix.scale, steps=mix.steps, codes=codes)


def baselines(hr: Crops, scale: int, seed: int) -> dict[str, Crops]:
    """Make LR of the HR crops by each baseline, by column."""
    return {name: make_baseline(hr, name, scale, seed) for name in RECIPES}


def make_baseline(hr: Crops, name: str, scale: int, seed: int) -> Crops:
    """Make LR of the HR crops by the baseline of the column ``name``."""
    return make(hr, DegradationMix(None, Recipe.preset(RECIPES[name]), scale=scale), seed)


def make(hr: Crops, mix: DegradationMix, seed: int) -> Crops:
    """Degrade each crop with its own random draw, as `synth` does: (N, H, W, 3) -> (N, H/scale, W/scale, 3)."""
    return degrade_crops(hr, mix.degrader, mix.draw(draw_seeds("make", seed, len(hr))))


def make_like(hr: Crops, mix: DegradationMix, codes: torch.Tensor, seed: int) -> Crops:
    """Degrade each crop by the learned degrader with the code given for it, (N, code_dim); ``seed`` draws the noise."""
    looks = zip(codes.tolist(), draw_seeds("noise", seed, len(hr)), strict=True)
    records = [mix.learned_record(code, noise) for code, noise in looks]
    return degrade_crops(hr, mix.degrader, records)


def draw_seeds(purpose: str, seed: int, count: int) -> list[int]:
    """Draw ``count`` seeds. Each purpose has its own, so that a baseline never repeats the draw of the truth."""
    rng = random.Random(f"{purpose}/{seed}")
    return [rng.getrandbits(53) for _ in range(count)]


def apply_drawn(hr: Crops, drawn: Sequence[DrawnRecipe]) -> Crops:
    """Degrade each crop with parameters that a recipe has drawn."""
    return degrade_crops(hr, None, [{"kind": "recipe", "params": params.to_dict()} for params in drawn])


def degrade_crops(hr: Crops, degrader: RealisticDegrader | None, records: Sequence[Record]) -> Crops:
    """Call `apply_records` for 8-bit crops, in batches."""
    made = []
    device = degrader.device if degrader is not None else torch.device("cpu")
    for start in range(0, len(hr), BATCH):
        with torch.inference_mode():
            images = to_tensors(hr[start : start + BATCH]).to(device)
            lr = apply_records(images, records[start : start + BATCH], degrader)
        made += [to_image(image) for image in lr]
    return np.stack(made)


def codes_of(crops: Crops, mix: DegradationMix) -> torch.Tensor:
    """Encode LR crops with the learned degrader of ``mix``: (N, side, side, 3) -> (N, code_dim)."""
    assert mix.degrader is not None
    with torch.inference_mode():
        device = mix.degrader.device
        return torch.cat([mix.degrader.encode(part.to(device)) for part in to_tensors(crops).split(BATCH)])


def clean_downsampling(hr: Crops, scale: int) -> Crops:
    """Downsample HR crops by area averaging, rounded to 8 bits. The learned degrader starts from the same image."""
    return np.stack([reduce_by(image, scale) for image in hr])
