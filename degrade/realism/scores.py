"""Compare no-reference quality scores of real and generated LR. Needs pyiqa (extra `metrics`, non-commercial).

Generated LR should look as bad as real LR, not better. What matters is the distance between the distributions of a
score.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from degrade.images.geometry import Crops
from degrade.images.tensors import to_tensors
from degrade.realism.columns import Figures
from degrade.realism.distances import Array, wasserstein_1
from degrade.realism.sets import CropSets

Scorer = Any  # pyiqa's InferenceModel: a callable with ``metric_mode``, from (1, 3, H, W) in [0, 1] to a number


def load_scorers(names: Sequence[str], only: str = "") -> dict[str, Scorer]:
    """Load metrics of pyiqa by name.

    Args:
        names: names such as "piqe", or ``NAME=FILE`` with the weights of a metric that cannot be downloaded.
        only: "NR" allows only metrics without a reference, "FR" only those with one; "" allows both.

    Raises:
        ValueError: pyiqa is not installed, the metric does not exist or cannot be loaded, or its kind is not allowed.
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
                f"metric {name} cannot be loaded ({reason}); pass its weights as {name}=FILE, or choose another metric"
            ) from err
        if only and scorers[name].metric_mode != only:
            kind = "no reference" if only == "NR" else "a reference"
            raise ValueError(f"metric {name} cannot be used here; choose a metric that takes {kind}")
    return scorers


def score_distances(sets: CropSets, scorers: dict[str, Scorer]) -> Figures:
    """Compute the Wasserstein-1 distance of the scores of every set to those of the real crops, and the mean scores.

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
    except Exception as err:  # a metric may raise any exception, too
        raise ValueError(f"metric {name} cannot score crops of {crops.shape[1]} px ({err}); use larger ones") from err
    if not np.isfinite(scores).all():
        raise ValueError(f"metric {name} has no value for some crops of {crops.shape[1]} px; use larger ones")
    return scores
