"""How near sets of LR crops come to real ones, scene by scene unrelated, and whether a small network can tell them.

The classifier is that of Lopez-Paz and Oquab (ICLR 2017).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from degrade.images.geometry import Rgb, reduce_by
from degrade.images.tensors import Crops, to_tensors
from degrade.networks.texture import high_pass
from degrade.realism.columns import Column, Figures
from degrade.realism.distances import Array, density_coverage, frechet, kid, precision_recall, wasserstein_1
from degrade.realism.features import FEATURES, LrFeatures
from degrade.realism.sets import BATCH, CropSets, clean_downsampling
from degrade.realism.statistics import STATISTICS, luma_chroma, radial_spectrum, spectrum_slope, table_of

THUMBNAIL = 8

CLASS_BATCH = 16
LEARNING_RATE = 1e-3


def compare_sets(sets: CropSets, *, scale: int, classifier_steps: int, seed: int) -> Figures:
    """Every distance of every made set to the held-out half of the real crops.

    Returns:
        For each metric the value of every made set; ``real`` is the other half of the real crops: the floor.
    """
    features = LrFeatures.shipped()
    real_features = features.of_crops(sets.real)
    real_table = table_of(sets.real)
    other_table = table_of(sets.made[Column.REAL])
    real_sd = {key: np.concatenate([real_table[key], other_table[key]]).std() + 1e-9 for key in STATISTICS}
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
        values["w1_mean_in_real_sd"] = float(np.mean([distance[key] / real_sd[key] for key in STATISTICS]))
        values["classifier_accuracy"], values["classifier_auc"] = _verdict(sets, name, classifier_steps, seed)
        for metric, value in values.items():
            figures.setdefault(metric, {})[name] = value
    taken_for_real = _taken_for_real(sets, Column.OURS, classifier_steps, seed)
    if Column.BEFORE in sets.made:  # a judge of its own: one more competitor would change what the others are called
        taken_for_real[Column.BEFORE] = _taken_for_real(sets, Column.BEFORE, classifier_steps, seed)[Column.BEFORE]
    figures["taken_for_real"] = taken_for_real
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


def _verdict(sets: CropSets, name: str, steps: int, seed: int) -> tuple[float, float]:
    """Train on one half of the images, test on the other, and the other way round; mean of both."""
    half = len(sets.real) // 2
    made = sets.made[name]
    if name == Column.REAL:  # both are real: there are half as many crops of each, and there should be nothing to find
        folds = [(sets.real[:half], made[:half]), (sets.real[half:], made[half:])]
    else:
        folds = [(sets.made[Column.REAL], made[:half]), (sets.real, made[half:])]
    verdicts = [tell_apart(train, test, steps=steps, seed=seed) for train, test in (folds, folds[::-1])]
    return float(np.mean([verdict.accuracy for verdict in verdicts])), float(np.mean([v.auc for v in verdicts]))


def _taken_for_real(sets: CropSets, learned: str, steps: int, seed: int) -> dict[str, float]:
    """How often a classifier of these sets and of real crops calls each real: of real ones of both halves too."""
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
    """How well the two sets were told apart on crops of images that the classifier had not seen.

    Attributes:
        accuracy: balanced between the sets; 0.5 is guessing.
        auc: area under the ROC curve; 0.5 is guessing.
    """

    accuracy: float
    auc: float


def tell_apart(train: tuple[Crops, Crops], test: tuple[Crops, Crops], *, steps: int, seed: int) -> Verdict:
    """Train a classifier of two sets on one half of each and try it on the other.

    Args:
        train: crops of the one and the other set, (N, side, side, 3) uint8.
        test: the same, of other images.
        steps: training steps.
        seed: of the batches and the last layer.
    """
    first, second = (logits[:, 1] - logits[:, 0] for logits in classify(train, test, steps=steps, seed=seed))
    return Verdict(float(((first < 0).mean() + (second > 0).mean()) / 2), area_under_roc(first, second))


def classify(train: Sequence[Crops], test: Sequence[Crops], *, steps: int, seed: int) -> list[NDArray[np.float32]]:
    """Train a classifier of sets, and ask it about other crops.

    It starts from `LrFeatures`, so that it needs seconds and a hundred crops, and all of it is trained further. Like
    that net it sees the high-pass band only: telling scenes apart is not the question.

    Args:
        train: one set of crops a class, (N, side, side, 3) uint8.
        test: sets to judge.
        steps: training steps.
        seed: of the batches and the last layer.

    Returns:
        For each set of ``test`` its logits, (N, classes).
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
        with torch.autocast("cpu", torch.bfloat16):  # two to three times as fast
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
    """Probability that a random score of ``high`` is above a random one of ``low``; ties count half."""
    return float((np.sign(high[None] - low[:, None]).mean() + 1) / 2)


def _turned(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror or transpose the batch at random; block borders stay where they are, since sides are multiples of 8."""
    flip_x, flip_y, swap = (torch.rand(3, generator=generator) < 0.5).tolist()
    batch = batch.flip(3) if flip_x else batch
    batch = batch.flip(2) if flip_y else batch
    return batch.transpose(2, 3) if swap else batch
