"""Measure distances between sets of LR crops of unrelated scenes, and whether a small network can tell them apart.

The classifier is a two-sample test as in Lopez-Paz and Oquab (ICLR 2017).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from degrade.images.geometry import Crops, Rgb, reduce_by
from degrade.images.tensors import to_tensors
from degrade.networks.precision import has_fast_bf16
from degrade.networks.texture import high_pass
from degrade.realism.columns import Column, Figures
from degrade.realism.distances import Array, density_coverage, frechet, kid, precision_recall, wasserstein_1
from degrade.realism.features import FEATURES, LrFeatures
from degrade.realism.sets import BATCH, CropSets, clean_downsampling
from degrade.realism.statistics import STATISTICS, luma_chroma, mean_spectrum, spectrum_slope, table_of

THUMBNAIL = 8  # px, side of the images that scenes are matched by
CLASS_BATCH = 16  # crops of each class in a training batch
LEARNING_RATE = 1e-3


def compare_sets(sets: CropSets, *, scale: int, classifier_steps: int, seed: int) -> Figures:
    """Compute every distance of every set to the reference half of the real crops.

    Args:
        sets: real and generated crops.
        scale: HR side / LR side.
        classifier_steps: training steps of each classifier.
        seed: seed of the classifiers.

    Returns:
        For each metric the value of every column; ``real`` is the other half of the real crops, the noise floor.
    """
    features = LrFeatures.shipped()
    real_features = features.of_crops(sets.real)
    real_table = table_of(sets.real)
    other_table = table_of(sets.made[Column.REAL])
    real_sd = _spreads(real_table, other_table)
    real_spectrum = mean_spectrum(sets.real)
    clean = clean_downsampling(sets.hr, scale)
    figures: Figures = {}
    for name, crops in sets.made.items():
        made_features = features.of_crops(crops)
        scene = crops if name == Column.REAL else clean
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
        table = other_table if name == Column.REAL else table_of(crops)
        distance = {key: wasserstein_1(real_table[key], table[key]) for key in STATISTICS}
        values |= {f"w1_{key}": value for key, value in distance.items()}
        values["w1_mean_in_real_sd"] = _mean_in_sd(distance, real_sd)
        values["classifier_accuracy"], values["classifier_auc"] = _verdict(sets, name, classifier_steps, seed)
        for metric, value in values.items():
            figures.setdefault(metric, {})[name] = value
    taken_for_real = _taken_for_real(sets, Column.OURS, classifier_steps, seed)
    if Column.BEFORE in sets.made:  # a classifier of its own, because a fourth class would change the other shares
        taken_for_real[Column.BEFORE] = _taken_for_real(sets, Column.BEFORE, classifier_steps, seed)[Column.BEFORE]
    figures["taken_for_real"] = taken_for_real
    return figures


def set_distances(real: Crops, other_real: Crops, made: Crops) -> dict[str, float]:
    """Compute the distances that need no training, from real to made crops; each is positive, and smaller is nearer.

    Args:
        real: (N, side, side, 3) uint8.
        other_real: further real crops, for the spread of the statistics.
        made: (N, side, side, 3) uint8.

    Returns:
        frechet, spectrum_distance, and w1_mean_in_real_sd, as `compare_sets` computes them.
    """
    features = LrFeatures.shipped()
    real_table, table = table_of(real), table_of(made)
    distance = {key: wasserstein_1(real_table[key], table[key]) for key in STATISTICS}
    return {
        "frechet": frechet(features.of_crops(real), features.of_crops(made)),
        "spectrum_distance": float(np.abs(mean_spectrum(made) - mean_spectrum(real)).mean()),
        "w1_mean_in_real_sd": _mean_in_sd(distance, _spreads(real_table, table_of(other_real))),
    }


def _spreads(one: dict[str, Array], other: dict[str, Array]) -> dict[str, float]:
    """Compute the standard deviation of every statistic over two tables together."""
    return {key: float(np.concatenate([one[key], other[key]]).std()) for key in STATISTICS}


def _mean_in_sd(distance: dict[str, float], sd: dict[str, float]) -> float:
    """Average distances in standard deviations, without the statistics that are the same for all real crops."""
    return float(np.mean([distance[key] / sd[key] for key in STATISTICS if sd[key] > 1e-6]))


def matched_scenes(real: Crops, scenes: Crops) -> tuple[list[int], list[int]]:
    """Pair up crops of similar scenes, so that the distance between them depends less on what they show.

    Scenes are compared by thumbnails of 8 x 8 pixels (luma without its mean), in which no degradation remains. The most
    similar pairs are taken first, each crop at most once, until half of the real crops have a partner.

    Args:
        real: real LR crops, (N, side, side, 3).
        scenes: crops of other scenes, degraded or not, (M, side, side, 3).

    Returns:
        Indices into ``real``, and the index into ``scenes`` of each partner.
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


def _verdict(sets: CropSets, name: str, steps: int, seed: int) -> tuple[float, float]:
    """Compute accuracy and AUC of a classifier that is trained on one half of the crops and tested on the other.

    Both are the mean over the two ways to choose the half for training.
    """
    half = len(sets.real) // 2
    made = sets.made[name]
    if name == Column.REAL:  # real against real, with half as many crops: the classifier should find no difference
        folds = [(sets.real[:half], made[:half]), (sets.real[half:], made[half:])]
    else:
        folds = [(sets.made[Column.REAL], made[:half]), (sets.real, made[half:])]
    verdicts = [tell_apart(train, test, steps=steps, seed=seed) for train, test in (folds, folds[::-1])]
    return float(np.mean([verdict.accuracy for verdict in verdicts])), float(np.mean([v.auc for v in verdicts]))


def _taken_for_real(sets: CropSets, learned: str, steps: int, seed: int) -> dict[str, float]:
    """Compute how often one classifier of real crops, ``learned`` and the baselines calls each of them real."""
    half = len(sets.real) // 2
    names = (learned, Column.REAL_ESRGAN, Column.BICUBIC)
    folds = [
        [sets.made[Column.REAL], *(sets.made[name][:half] for name in names)],
        [sets.real, *(sets.made[name][half:] for name in names)],
    ]
    called = [
        [logits.argmax(1) == 0 for logits in classify(*each, steps=steps, seed=seed)] for each in (folds, folds[::-1])
    ]
    return {
        name: float(np.concatenate([fold[i] for fold in called]).mean()) for i, name in enumerate((Column.REAL, *names))
    }


class Verdict(NamedTuple):
    """Hold how well a classifier separates two sets, on crops of images that it was not trained on.

    Attributes:
        accuracy: balanced accuracy; 0.5 is guessing.
        auc: area under the ROC curve; 0.5 is guessing.
    """

    accuracy: float
    auc: float


def tell_apart(train: tuple[Crops, Crops], test: tuple[Crops, Crops], *, steps: int, seed: int) -> Verdict:
    """Train a classifier of two sets on one half of each and test it on the other half.

    Args:
        train: crops of the first and of the second set, (N, side, side, 3) uint8.
        test: crops of the same sets from other images.
        steps: training steps.
        seed: seed of the batches and of the last layer.
    """
    first, second = (logits[:, 1] - logits[:, 0] for logits in classify(train, test, steps=steps, seed=seed))
    return Verdict(float(((first < 0).mean() + (second > 0).mean()) / 2), area_under_roc(first, second))


def classify(train: Sequence[Crops], test: Sequence[Crops], *, steps: int, seed: int) -> list[NDArray[np.float32]]:
    """Train a classifier of sets of crops, and classify other crops with it.

    Training starts from `LrFeatures` and changes all weights, so that seconds and a hundred crops are enough. Like that
    network, the classifier sees only the high-pass band, so that it cannot use differences between the scenes.

    Args:
        train: one set of crops for each class, (N, side, side, 3) uint8.
        test: sets of crops to classify.
        steps: training steps.
        seed: seed of the batches and of the last layer.

    Returns:
        Logits of each set of ``test``, (N, classes).
    """
    generator = torch.Generator().manual_seed(seed)
    net = LrFeatures.shipped().requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Linear(FEATURES, len(train))
    optimiser = torch.optim.AdamW([*net.parameters(), *head.parameters()], LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    bands = [high_pass(to_tensors(crops)) for crops in train]
    truth = torch.arange(len(train)).repeat_interleave(CLASS_BATCH)
    for _ in range(steps):
        rows = [torch.randint(len(band), (CLASS_BATCH,), generator=generator) for band in bands]
        batch = torch.cat([band[row] for band, row in zip(bands, rows, strict=True)])
        with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16("cpu")):  # two to three times as fast there
            features = net(_turned(batch, generator))
        loss = F.cross_entropy(head(features), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.inference_mode():
        return [
            torch.cat([head(net(part)) for part in high_pass(to_tensors(crops)).split(BATCH)]).numpy() for crops in test
        ]


def area_under_roc(low: NDArray[np.floating], high: NDArray[np.floating]) -> float:
    """Compute the probability that a random score of ``high`` exceeds a random score of ``low``; ties count half."""
    return float((np.sign(high[None] - low[:, None]).mean() + 1) / 2)


def _turned(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror or transpose the batch at random. Block borders stay in place, because the sides are multiples of 8."""
    flip_x, flip_y, swap = (torch.rand(3, generator=generator) < 0.5).tolist()
    batch = batch.flip(3) if flip_x else batch
    batch = batch.flip(2) if flip_y else batch
    return batch.transpose(2, 3) if swap else batch
