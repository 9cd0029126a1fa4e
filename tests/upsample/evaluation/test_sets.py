"""Measures of sets: what is like HR scores like HR, and what is not is found."""

import cv2
import numpy as np
import pytest

from degrade.perceptual.pretrained_features import pretrained_features
from upsample.evaluation.sets import SIDE, SrSets, compare_sets, cut_crops


@pytest.fixture(scope="module")
def sets(scenes, weave) -> SrSets:
    return SrSets.join(
        [
            cut_crops(
                {"same": hr, "soft": cv2.GaussianBlur(hr, (0, 0), 2), "woven": weave(hr), "hr": hr},
                scenes=48,  # so that each gives five crops
                seed=number,
            )
            for number, hr in enumerate(scenes)
        ]
    )


@pytest.fixture(scope="module")
def figures(sets):
    return compare_sets(sets, period=4, features=pretrained_features(), classifier_steps=0)


def test_crops_show_the_same_places_of_every_set(sets) -> None:
    assert sets.images == 6 and sets.crops["hr"].shape == (len(sets.image), SIDE, SIDE, 3)
    assert np.array_equal(sets.crops["same"], sets.crops["hr"])
    assert np.abs(sets.crops["woven"].astype(int) - sets.crops["hr"]).max() <= 2


def test_halves_share_no_image_and_differ_between_seeds(sets) -> None:
    halves = [sets.halves(seed) for seed in range(4)]
    for first, second in halves:
        assert not set(sets.image[first]) & set(sets.image[second])
        assert len(set(sets.image[first])) == len(set(sets.image[second])) == 3
    assert len({tuple(first) for first, _ in halves}) > 1


def test_a_set_that_is_its_hr_scores_as_hr(figures) -> None:
    assert figures["same"]["spectrum_distance"] == figures["same"]["comb"] == 0
    assert figures["same"]["kid"] == pytest.approx(figures["hr"]["kid"])
    assert figures["hr"]["spectrum_distance"] > 0 and figures["hr"]["comb"] > 0


def test_blur_is_far_in_spectrum_and_features_and_a_weave_in_the_comb(figures) -> None:
    assert figures["soft"]["spectrum_distance"] > 1 > figures["hr"]["spectrum_distance"]
    assert figures["soft"]["kid"] > figures["hr"]["kid"] + 0.5
    assert figures["woven"]["comb"] > 0.5 > figures["soft"]["comb"] and figures["woven"]["comb_peak"] > 3


def test_a_classifier_tells_blur_from_hr_but_not_hr_from_itself(sets) -> None:
    few = np.arange(0, len(sets.image), 2)
    sets = SrSets({name: sets.crops[name][few] for name in ("soft", "hr")}, sets.image[few])
    found = compare_sets(sets, period=None, features=None, classifier_steps=8)
    assert set(found["soft"]) == {"spectrum_distance", "classifier_accuracy", "classifier_auc"}
    assert found["soft"]["classifier_auc"] > 0.9 > found["hr"]["classifier_auc"]
