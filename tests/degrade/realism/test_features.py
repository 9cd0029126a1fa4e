"""Features of LR crops: they follow the degradation, not the scene."""

import numpy as np

from degrade.degrader import RealisticDegrader
from degrade.images.crops import ImagePool
from degrade.mix import DegradationMix
from degrade.realism.features import FEATURES, LrFeatures
from degrade.realism.sets import make, make_baseline
from degrade.recipes.recipe import Recipe


def test_features_follow_the_degradation_more_than_the_scene(pool: ImagePool) -> None:
    hr = pool.crops(24, 256, seed=0)
    features = LrFeatures.shipped()
    noisy = Recipe.from_dict({"steps": [{"op": "noise", "sigma_255": [18, 20]}, {"op": "resize", "of": "lr"}]})
    clean, other = (
        features.of_crops(make_baseline(hr, "bicubic", 4, 0)),
        features.of_crops(make(hr, DegradationMix(None, noisy), 0)),
    )
    assert clean.shape == (24, FEATURES)
    between = np.linalg.norm(clean.mean(0) - other.mean(0))
    within = np.linalg.norm(clean[:8].mean(0) - clean[16:].mean(0))  # other photographs, same degradation
    assert between > 1.5 * within


def test_shipped_features_are_no_degrader() -> None:
    assert "lr-features" not in RealisticDegrader.shipped_names()
