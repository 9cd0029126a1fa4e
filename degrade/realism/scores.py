"""No-reference quality scores of real and of made LR, by pyiqa (extra `metrics`, non-commercial): optional.

LR should look as bad as real LR, not better: what counts is how far the two distributions of a score are apart.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from degrade.images.tensors import Crops, to_tensors
from degrade.realism.columns import Figures
from degrade.realism.distances import Array, wasserstein_1
from degrade.realism.sets import CropSets

Scorer = Any  # pyiqa's InferenceModel: a callable with ``metric_mode``; (1, 3, H, W) in [0, 1] to a number


def load_scorers(names: Sequence[str], only: str = "") -> dict[str, Scorer]:
    """Metrics of pyiqa by name.

    Args:
        names: such as "piqe", or ``NAME=FILE`` with the metric's weights where they cannot be downloaded.
        only: "NR" refuses metrics that need a reference, "FR" those that take none; "" takes both.

    Raises:
        ValueError: pyiqa is not installed, has no such metric, cannot get its weights, or it is of the other kind.
    """
    if not names:
        return {}
    try:
        import pyiqa
    except ImportError as err:
        raise ValueError(
            f"metric {names[0]} needs pyiqa, which is not installed: pip install 'realistic-degrader[metrics]'"
        ) from err
    scorers: dict[str, Scorer] = {}
    for given in names:
        name, _, file = given.partition("=")
        options = {"pretrained_model_path": file} if file else {}
        try:
            scorers[name] = pyiqa.create_metric(name, device="cpu", **options)
        except Exception as err:  # pyiqa raises whatever its downloads and constructors do
            reason = (str(err) or type(err).__name__).splitlines()[0]
            raise ValueError(
                f"metric {name} cannot be used ({reason}); give its weights as {name}=FILE, or another metric"
            ) from err
        if only and scorers[name].metric_mode != only:
            kind = "no reference" if only == "NR" else "a reference"
            raise ValueError(f"metric {name} cannot be used here; name one that takes {kind}")
    return scorers


def score_distances(sets: CropSets, scorers: dict[str, Scorer]) -> Figures:
    """Wasserstein-1 distance between the scores of every set and those of the real crops; and the mean scores.

    Raises:
        ValueError: a metric cannot score crops of this size.
    """
    figures: Figures = {}
    for name, scorer in scorers.items():
        real = _scores(sets.real, name, scorer)
        for kind, crops in sets.made.items():
            scores = _scores(crops, name, scorer)
            figures.setdefault(f"w1_score_{name}", {})[kind] = wasserstein_1(real, scores)
            figures.setdefault(f"mean_score_{name}", {})[kind] = float(scores.mean())
    return figures


def _scores(crops: Crops, name: str, scorer: Scorer) -> Array:
    try:
        scores = np.array([float(scorer(image)) for image in to_tensors(crops).split(1)])
    except Exception as err:  # as above
        raise ValueError(f"metric {name} cannot score crops of {crops.shape[1]} px ({err}); use larger ones") from err
    if not np.isfinite(scores).all():
        raise ValueError(f"metric {name} has no value for some crops of {crops.shape[1]} px; use larger ones")
    return scores
