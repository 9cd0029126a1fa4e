"""Classifiers of sets of crops, and scenes that are matched whatever their degradation."""

import numpy as np
import pytest
import torch

from degrade.images.crops import ImagePool
from degrade.realism.features import LrFeatures
from degrade.realism.nearness import area_under_roc, classify, matched_scenes, tell_apart
from degrade.realism.sets import clean_downsampling, make_baseline


def test_classifier_finds_noise_and_nothing_between_equals() -> None:
    rng = np.random.default_rng(0)
    smooth = [rng.integers(100, 140, (24, 32, 32, 3)).astype(np.uint8) // 4 * 2 for _ in range(6)]
    noisy = [(part + rng.normal(0, 12, part.shape)).clip(0, 255).astype(np.uint8) for part in smooth[:2]]
    assert tell_apart((smooth[2], noisy[0]), (smooth[3], noisy[1]), steps=20, seed=0).accuracy > 0.95
    equal = tell_apart((smooth[2], smooth[4]), (smooth[3], smooth[5]), steps=20, seed=0)
    assert 0.2 < equal.auc < 0.8


def test_a_judge_of_several_sets_calls_each_by_its_own_name() -> None:
    rng = np.random.default_rng(0)
    sets = [
        [(128 + rng.normal(0, sigma, (24, 32, 32, 3))).clip(0, 255).astype(np.uint8) for sigma in (0.5, 6, 30)]
        for _ in range(2)
    ]
    logits = classify(sets[0], sets[1], steps=30, seed=0)
    assert [float((rows.argmax(1) == number).mean()) > 0.8 for number, rows in enumerate(logits)] == [True] * 3


@pytest.mark.parametrize("fast", [True, False])
def test_the_classifier_learns_in_bf16_only_where_that_is_fast(fast, monkeypatch) -> None:
    monkeypatch.setattr("degrade.realism.nearness.has_fast_bf16", lambda device: fast)
    seen, plain = [], LrFeatures.raw_features

    def raw_features(self: LrFeatures, band: torch.Tensor) -> torch.Tensor:
        seen.append(self.convolutions[0](torch.zeros(1, 7, 8, 8)).dtype)
        return plain(self, band)

    monkeypatch.setattr(LrFeatures, "raw_features", raw_features)
    crops = np.zeros((2, 16, 16, 3), np.uint8)
    classify((crops, crops), (crops,), steps=2, seed=0)
    assert seen == [torch.bfloat16 if fast else torch.float32] * 2 + [torch.float32]  # two steps, one set to judge


def test_area_under_roc_counts_pairs() -> None:
    assert area_under_roc(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 1
    assert area_under_roc(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0.5


def test_scenes_are_matched_whatever_the_degradation(pool: ImagePool) -> None:
    hr = pool.crops(9, 128, seed=0)
    order = np.random.default_rng(0).permutation(9)
    rows, partners = matched_scenes(make_baseline(hr, "bicubic", 4, 0), clean_downsampling(hr, 4)[order])
    assert len(rows) == 5
    assert rows == order[partners].tolist()
