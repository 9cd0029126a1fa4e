"""How near sets of LR crops come to real ones, scene by scene unrelated."""

import numpy as np

from degrade.crops import reduce_by
from degrade.distances import density_coverage, frechet, kid, precision_recall, wasserstein_1
from degrade.images import Rgb
from degrade.lr_features import LrFeatures
from degrade.lr_statistics import STATISTICS, Array, luma_chroma, radial_spectrum, spectrum_slope, table_of
from degrade.realism_classifier import classify, tell_apart
from degrade.realism_sets import Crops, CropSets, clean_downsampling

Figures = dict[str, dict[str, float]]  # metric: set: value

THUMBNAIL = 8


def compare_sets(sets: CropSets, features: LrFeatures, *, scale: int, seed: int) -> Figures:
    """Every distance of every made set to the held-out half of the real crops.

    Returns:
        For each metric the value of every made set; ``real`` is the other half of the real crops: the floor.
    """
    real_features = features.of_crops(sets.real)
    real_table = table_of(sets.real)
    other_table = table_of(sets.made["real"])
    real_sd = {key: np.concatenate([real_table[key], other_table[key]]).std() + 1e-9 for key in STATISTICS}
    real_spectrum = mean_spectrum(sets.real)
    clean = clean_downsampling(sets.hr, scale)
    figures: Figures = {}
    for name, crops in sets.made.items():
        made_features = features.of_crops(crops)
        scene = crops if name == "real" else clean
        rows, partners = matched_scenes(sets.real, scene)
        values = {
            "kid": kid(real_features, made_features),
            "frechet": frechet(real_features, made_features),
            "kid_matched_scenes": kid(real_features[rows], made_features[partners]),
            **precision_recall(real_features, made_features),
            **density_coverage(real_features, made_features),
            "spectrum_distance": float(np.abs(mean_spectrum(crops) - real_spectrum).mean()),
            "spectrum_slope": spectrum_slope(mean_spectrum(crops)),
        }
        table = other_table if name == "real" else table_of(crops)
        distance = {key: wasserstein_1(real_table[key], table[key]) for key in STATISTICS}
        values |= {f"w1_{key}": value for key, value in distance.items()}
        values["w1_mean_in_real_sd"] = float(np.mean([distance[key] / real_sd[key] for key in STATISTICS]))
        values["classifier_accuracy"], values["classifier_auc"] = _verdict(sets, name, seed)
        for metric, value in values.items():
            figures.setdefault(metric, {})[name] = value
    figures["taken_for_real"] = _taken_for_real(sets, ("ours", "real_esrgan", "bicubic"), seed)
    if "before" in sets.made:  # a judge of its own: one more competitor would change what the others are called
        figures["taken_for_real"]["before"] = _taken_for_real(sets, ("before", "real_esrgan", "bicubic"), seed)[
            "before"
        ]
    return figures


def mean_spectrum(crops: Crops) -> Array:
    """Mean over the crops of `radial_spectrum`."""
    return np.mean([radial_spectrum(crop) for crop in crops], axis=0)


def matched_scenes(real: Crops, scenes: Crops) -> tuple[list[int], list[int]]:
    """Pair up crops whose scenes look alike, so that a distance between them is less about what they show.

    Nearest pairs of thumbnails (8 x 8, luma, mean taken off; no degradation survives in them) first, each crop once,
    until half of the crops have a partner.

    Args:
        real: (N, side, side, 3).
        scenes: (M, side, side, 3), free of degradation or not.

    Returns:
        Rows of ``real`` and their partners' rows of ``scenes``.
    """
    a, b = (np.stack([_thumbnail(crop) for crop in crops]) for crops in (real, scenes))
    apart = ((a[:, None] - b[None]) ** 2).sum(2)
    rows: list[int] = []
    partners: list[int] = []
    for flat in np.argsort(apart, axis=None, kind="stable"):
        row, partner = divmod(int(flat), len(scenes))
        if row not in rows and partner not in partners:
            rows.append(row)
            partners.append(partner)
            if 2 * len(rows) >= len(real):
                break
    return rows, partners


def _thumbnail(crop: Rgb) -> Array:
    luma = luma_chroma(reduce_by(crop, crop.shape[0] // THUMBNAIL))[0].ravel()
    return luma - luma.mean()


def _verdict(sets: CropSets, name: str, seed: int) -> tuple[float, float]:
    """Train on one half of the images, test on the other, and the other way round; mean of both."""
    half = len(sets.real) // 2
    made = sets.made[name]
    if name == "real":  # both are real: there are half as many crops of each, and there should be nothing to find
        folds = [(sets.real[:half], made[:half]), (sets.real[half:], made[half:])]
    else:
        folds = [(sets.made["real"], made[:half]), (sets.real, made[half:])]
    verdicts = [tell_apart(train, test, seed=seed) for train, test in (folds, folds[::-1])]
    return float(np.mean([verdict.accuracy for verdict in verdicts])), float(np.mean([v.auc for v in verdicts]))


def _taken_for_real(sets: CropSets, names: tuple[str, ...], seed: int) -> dict[str, float]:
    """How often a classifier of these sets and of real crops calls each real: of real ones of both halves too."""
    half = len(sets.real) // 2
    folds = [
        [sets.made["real"], *(sets.made[name][:half] for name in names)],
        [sets.real, *(sets.made[name][half:] for name in names)],
    ]
    called = [[logits.argmax(1) == 0 for logits in classify(*each, seed=seed)] for each in (folds, folds[::-1])]
    return {name: float(np.concatenate([fold[i] for fold in called]).mean()) for i, name in enumerate(("real", *names))}
