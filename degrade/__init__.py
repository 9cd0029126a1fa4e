"""Learn how real images are degraded, and make training data with it.

The public names are loaded on first use, so that `import degrade` does not import torch or diffusers. So processes that
only decode and encode images, and every `--help`, start in a fraction of a second.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from degrade.degrader import RealisticDegrader
    from degrade.mix import DegradationMix
    from degrade.networks.degradation_encoder import DegradationEncoder
    from degrade.online import online_pairs
    from degrade.recipes.recipe import ClassicalDegrader, Recipe
    from degrade.schedule import ResidualShiftScheduler
    from degrade.shards.pair_sets import PairFolder, PairShards
    from degrade.shards.reader import read_pairs

_HOME = {
    "RealisticDegrader": "degrade.degrader",
    "DegradationEncoder": "degrade.networks.degradation_encoder",
    "DegradationMix": "degrade.mix",
    "ClassicalDegrader": "degrade.recipes.recipe",
    "Recipe": "degrade.recipes.recipe",
    "ResidualShiftScheduler": "degrade.schedule",
    "PairFolder": "degrade.shards.pair_sets",
    "PairShards": "degrade.shards.pair_sets",
    "online_pairs": "degrade.online",
    "read_pairs": "degrade.shards.reader",
}

__all__ = [
    "ClassicalDegrader",
    "DegradationEncoder",
    "DegradationMix",
    "PairFolder",
    "PairShards",
    "RealisticDegrader",
    "Recipe",
    "ResidualShiftScheduler",
    "online_pairs",
    "read_pairs",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'degrade' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
