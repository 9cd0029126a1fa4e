"""How much repeated draws of one HR crop differ, and from which of the two sources: the noise or the look."""

import copy
from collections.abc import Sequence

import numpy as np
import torch

from degrade.images.tensors import Crops, to_tensors
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
from degrade.recipes.recipe import Recipe
from degrade.recipes.steps import Drawn

VARIED = ("noise_sigma", "edge_width_px", "log_sharpness", "blockiness")


def diversity(sets: CropSets, mix: DegradationMix, *, crops: int, samples: int, seed: int) -> Figures:
    """Spread of draws of the same HR, in pixels and in what is measured of an image.

    Returns:
        ``spread_of_*``: root-mean-square standard deviation of the high band over draws, grey levels, where noise and
        look, the noise alone, or the look alone are drawn anew (for ``real_esrgan`` the look is its parameters).
        ``deviation_within_*`` of a blind measurement over draws of one HR, ``deviation_over_all_*`` over a whole set.
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
    """Spread of draws whose truth is known: the recipe's (``real``), and ``ours`` told the same looks by references.

    Returns:
        Root-mean-square standard deviation of the high band in grey levels: ``known_spread_of_noise`` over draws of
        the noise of one look, ``known_spread_of_look_and_noise`` over different looks of one HR, each with new noise.
    """
    hr, drawn = pairs.hr[:crops], pairs.drawn[:crops]
    codes = codes_of(pairs.reference, mix)
    noise = {
        Column.REAL: [apply_drawn(hr, [_with_noise(look, k) for look in drawn]) for k in range(samples)],
        Column.OURS: [make_like(hr, mix, codes[:crops], seed * samples + k) for k in range(samples)],
    }
    # the looks of the next pair, of the one after it, ...: each HR crop meets samples of them
    look = {
        Column.REAL: [apply_drawn(hr, _turned(pairs.drawn, k)[:crops]) for k in range(samples)],
        Column.OURS: [make_like(hr, mix, codes.roll(-k, 0)[:crops], seed * samples + k) for k in range(samples)],
    }
    return {
        "known_spread_of_noise": {name: spread(draws) for name, draws in noise.items()},
        "known_spread_of_look_and_noise": {name: spread(draws) for name, draws in look.items()},
    }


def _turned(drawn: Sequence[Drawn], by: int) -> Sequence[Drawn]:
    return [*drawn[by:], *drawn[:by]]


def spread(samples: Sequence[Crops]) -> float:
    """Root-mean-square standard deviation over samples of the same crops, high band, grey levels."""
    bands = torch.stack([high_pass(to_tensors(sample)) for sample in samples])
    return float(bands.var(0).mean().sqrt() * 255)


def _draws_of_ours(hr: Crops, mix: DegradationMix, samples: int, seed: int) -> dict[str, list[Crops]]:
    first = mix.draw(draw_seeds("first", seed, len(hr)))
    others = [mix.draw(draw_seeds(f"draw {k}", seed, len(hr))) for k in range(samples)]
    one_look = [
        [look | {"noise_seed": new["noise_seed"]} for look, new in zip(first, other, strict=True)] for other in others
    ]
    one_noise = [
        [new | {"noise_seed": look["noise_seed"]} for look, new in zip(first, other, strict=True)] for other in others
    ]
    records = {"both": others, "noise_alone": one_look, "look_alone": one_noise}
    return {name: [degrade_crops(hr, mix, draw) for draw in draws] for name, draws in records.items()}


def _draws_of_recipe(hr: Crops, recipe: Recipe, scale: int, samples: int, seed: int) -> dict[str, list[Crops]]:
    looks = [[recipe.draw(each, scale) for each in draw_seeds(f"draw {k}", seed, len(hr))] for k in range(samples)]
    drawn = {
        "both": looks,
        "noise_alone": [[_with_noise(look, k) for look in looks[0]] for k in range(samples)],
        "look_alone": [[_with_noise(look, 0) for look in draw] for draw in looks],
    }
    return {name: [apply_drawn(hr, draw) for draw in draws] for name, draws in drawn.items()}


def _with_noise(drawn: Drawn, seed: int) -> Drawn:
    """The same degradation with the noise of this seed."""
    drawn = copy.deepcopy(drawn)
    for number, step in enumerate(drawn["steps"]):
        if "seed" in step:
            step["seed"] = 1000 * seed + number
    return drawn
