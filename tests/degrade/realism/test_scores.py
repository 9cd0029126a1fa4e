"""No-reference scores: distances between their distributions, and metrics that cannot be used."""

import sys

import pytest

from degrade.images.crops import ImagePool
from degrade.mix import DegradationMix
from degrade.realism.scores import load_scorers, score_distances
from degrade.realism.sets import gather


def test_a_score_without_pyiqa_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(ValueError, match=r"metric piqe needs pyiqa.*pip install"):
        load_scorers(["piqe"])
    assert load_scorers([]) == {}


def test_distance_of_scores_is_that_of_their_distributions(
    real: ImagePool, pool: ImagePool, mix: DegradationMix
) -> None:
    sets = gather(real, pool, {"ours": mix}, count=4, side=32, seed=0, codes_from_real=False)
    sets.made["ours"] = sets.real
    figures = score_distances(sets, {"brightness": lambda image: image.mean()})
    assert figures["w1_score_brightness"]["ours"] == 0 < figures["w1_score_brightness"]["bicubic"]
    assert figures["mean_score_brightness"]["ours"] == pytest.approx(float(sets.real.mean()) / 255)
    with pytest.raises(ValueError, match="metric nothing has no value for some crops of 32 px"):
        score_distances(sets, {"nothing": lambda image: image.mean() * float("nan")})
