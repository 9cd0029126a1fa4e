"""Measure how much repeated draws of one HR crop differ, and whether the noise or the code (the look) causes it."""

from collections.abc import Sequence

import numpy as np
import torch

from degrade.images.geometry import Crops
from degrade.images.tensors import to_tensors
from degrade.mix import DegradationMix
from degrade.networks.texture import high_pass
from degrade.realism.columns import Column, Figures
from degrade.realism.control import KnownPairs
from degrade.realism.sets import (
    CropSets,
    apply_drawn,
    codes_of,
    degrade_crops,
    draw_seeds,
    make_baseline,
    make_like,
)
from degrade.realism.statistics import table_of
from degrade.recipes.recipe import DrawnRecipe, Recipe

VARIED = ("noise_sigma", "edge_width_px", "log_sharpness", "blockiness")


def diversity(sets: CropSets, mix: DegradationMix, *, crops: int, samples: int, seed: int) -> Figures:
    """Measure the spread of draws of the same HR, in pixels and in image statistics.

    Args:
        sets: HR crops to draw from, and the sets to compare with.
        mix: the degrader under test.
        crops: number of HR crops.
        samples: number of draws of each.
        seed: seed of the draws.

    Returns:
        ``spread_of_*``, the `spread` when both noise and look, only the noise, or only the look change between draws
        (the look of ``real_esrgan`` is its parameters); ``deviation_within_*``, the standard deviation of an image
        statistic over draws of one HR; ``deviation_over_all_*``, its standard deviation over a whole set.
    """
    hr = sets.hr[:: max(1, len(sets.hr) // crops)][:crops]
    ours = _draws_of_ours(hr, mix, samples, seed)
    real_esrgan = _draws_of_recipe(hr, Recipe.preset("real-esrgan"), mix.scale, samples, seed)
    figures: Figures = {}
    for source in ours:
        figures[f"spread_of_{source}"] = {
            Column.OURS: spread(ours[source]),
            Column.REAL_ESRGAN: spread(real_esrgan[source]),
            Column.BICUBIC: 0.0,
        }
    bicubic = [make_baseline(hr, Column.BICUBIC, mix.scale, seed)] * 2
    repeated: dict[str, list[Crops]] = {
        Column.OURS: ours["both"],
        Column.REAL_ESRGAN: real_esrgan["both"],
        Column.BICUBIC: bicubic,
    }
    for name, draws in repeated.items():
        tables = [table_of(draw) for draw in draws]
        for key in VARIED:
            within = np.stack([table[key] for table in tables]).std(0, ddof=1).mean()
            figures.setdefault(f"deviation_within_{key}", {})[name] = float(within)
    for name, made in sets.made.items():
        table = table_of(made)
        for key in VARIED:
            figures.setdefault(f"deviation_over_all_{key}", {})[name] = float(table[key].std())
    return figures


def known_spreads(pairs: KnownPairs, mix: DegradationMix, *, crops: int, samples: int, seed: int) -> Figures:
    """Measure the spread of draws whose true spread is known, because recipes made the references.

    Args:
        pairs: pairs made by recipes.
        mix: the degrader under test.
        crops: number of HR crops.
        samples: number of draws of each.
        seed: seed of the noise.

    Returns:
        For the recipes (``real``) and for the degrader with their LR as references (``ours``):
        ``known_spread_of_noise``, the `spread` when only the noise changes; ``known_spread_of_look_and_noise``, the
        `spread` when the look changes too.
    """
    hr, drawn = pairs.hr[:crops], pairs.drawn[:crops]
    codes = codes_of(pairs.reference, mix)
    noise = {
        Column.REAL: [apply_drawn(hr, [_with_noise(look, k) for look in drawn]) for k in range(samples)],
        Column.OURS: [make_like(hr, mix, codes[:crops], seed * samples + k) for k in range(samples)],
    }
    # Shift the looks by k, so that each HR crop is degraded with as many different looks as there are samples.
    look = {
        Column.REAL: [apply_drawn(hr, _turned(pairs.drawn, k)[:crops]) for k in range(samples)],
        Column.OURS: [make_like(hr, mix, codes.roll(-k, 0)[:crops], seed * samples + k) for k in range(samples)],
    }
    return {
        "known_spread_of_noise": {name: spread(draws) for name, draws in noise.items()},
        "known_spread_of_look_and_noise": {name: spread(draws) for name, draws in look.items()},
    }


def _turned(drawn: Sequence[DrawnRecipe], by: int) -> Sequence[DrawnRecipe]:
    return [*drawn[by:], *drawn[:by]]


def spread(samples: Sequence[Crops]) -> float:
    """Compute the root-mean-square standard deviation over samples of the same crops, of the high-pass band.

    Args:
        samples: K samples of the same crops, (N, side, side, 3) each.

    Returns:
        The deviation in grey levels.
    """
    bands = torch.stack([high_pass(to_tensors(sample)) for sample in samples])
    return float(bands.var(0).mean().sqrt() * 255)


def _draws_of_ours(hr: Crops, mix: DegradationMix, samples: int, seed: int) -> dict[str, list[Crops]]:
    """Draw from the degrader with new noise and looks, with new noise only, and with new looks only."""
    first = mix.draw(draw_seeds("first", seed, len(hr)))
    others = [mix.draw(draw_seeds(f"draw {k}", seed, len(hr))) for k in range(samples)]
    one_look = [
        [look | {"noise_seed": new["noise_seed"]} for look, new in zip(first, other, strict=True)] for other in others
    ]
    one_noise = [
        [new | {"noise_seed": look["noise_seed"]} for look, new in zip(first, other, strict=True)] for other in others
    ]
    records = {"both": others, "noise_alone": one_look, "look_alone": one_noise}
    return {name: [degrade_crops(hr, mix.degrader, draw) for draw in draws] for name, draws in records.items()}


def _draws_of_recipe(hr: Crops, recipe: Recipe, scale: int, samples: int, seed: int) -> dict[str, list[Crops]]:
    """Draw from a recipe in the same three ways; its look is its parameters."""
    looks = [[recipe.draw(each, scale) for each in draw_seeds(f"draw {k}", seed, len(hr))] for k in range(samples)]
    drawn = {
        "both": looks,
        "noise_alone": [[_with_noise(look, k) for look in looks[0]] for k in range(samples)],
        "look_alone": [[_with_noise(look, 0) for look in draw] for draw in looks],
    }
    return {name: [apply_drawn(hr, draw) for draw in draws] for name, draws in drawn.items()}


def _with_noise(drawn: DrawnRecipe, seed: int) -> DrawnRecipe:
    """Return the same degradation with the pixel noise of this seed."""
    steps = [step.with_seed(1000 * seed + number) for number, step in enumerate(drawn.steps)]
    return drawn.model_copy(update={"steps": steps})
