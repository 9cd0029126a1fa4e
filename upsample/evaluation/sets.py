"""Compare sets of SR images with the set of their HR: spectra, comb, a two-sample classifier, KID.

A score of one image against its HR rewards the mean of all likely images, and a score without a reference rewards
whatever its authors' data had. These measures ask instead whether the SR images, taken together, look like photographs.
The HR row is their scale: one half of the HR images measured against the other half.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from degrade.images.geometry import Crops, Rgb, crop_positions
from degrade.images.tensors import to_tensors
from degrade.ops.compress import JPEG_BLOCK
from degrade.perceptual.pretrained_features import PretrainedFeatures
from degrade.realism.distances import Array, kid
from degrade.realism.nearness import tell_apart
from degrade.realism.statistics import radial_spectrum
from upsample.evaluation.comb import comb, log_spectra
from upsample.evaluation.scenes import HR

SIDE = 120  # px of a crop: periods of 2, 3 and 4 px and the blocks of JPEG divide it
CROPS = 240  # of each set, at most, if there are not more images than that
CROPS_OF_IMAGE = 16  # at most
MIN_IMAGES = 4  # so that the halves of a half are one image each
SPLITS = 8  # ways to cut the images into halves, over which the measures are averaged
CLASSIFIER_SIDE = 64  # px, as in the realism report of LR
CLASSIFIER_STEPS = 60  # more of them tell any upscaler from HR without a miss, and then tell nothing
BATCH = 16

Rows = NDArray[np.intp]
SetFigures = dict[str, dict[str, float]]  # by set and measure


@dataclass(frozen=True)
class SrSets:
    """Hold crops of the same places of HR and of every set.

    Attributes:
        crops: (N, SIDE, SIDE, 3) uint8 by set, ``hr`` among them.
        image: number of the image that each crop shows, (N,).
    """

    crops: dict[str, Crops]
    image: NDArray[np.int64]

    @classmethod
    def join(cls, scenes: Sequence[Mapping[str, Crops]]) -> "SrSets":
        """Join what `cut_crops` gave for each scene."""
        crops = {name: np.concatenate([scene[name] for scene in scenes]) for name in scenes[0]}
        return cls(crops, np.repeat(np.arange(len(scenes)), [len(scene[HR]) for scene in scenes]))

    @property
    def images(self) -> int:
        """Return how many images there are."""
        return len(np.unique(self.image))

    @cached_property
    def ring_spectra(self) -> dict[str, Array]:
        """Return `radial_spectrum` of all crops: (N, bins) by set."""
        return {name: np.stack([radial_spectrum(crop) for crop in crops]) for name, crops in self.crops.items()}

    def halves(self, seed: int) -> tuple[Rows, Rows]:
        """Split the images at random, and return the crops of each half; with an odd number, one is left out."""
        images = np.unique(self.image).tolist()
        random.Random(f"{seed}/halves").shuffle(images)
        half = len(images) // 2
        first, second = (np.isin(self.image, part) for part in (images[:half], images[half : 2 * half]))
        return np.flatnonzero(first), np.flatnonzero(second)


def cut_crops(images: Mapping[str, Rgb], *, scenes: int, seed: int) -> dict[str, Crops]:
    """Cut crops at the same random places of all images of a scene.

    Args:
        images: images of one size by set, both sides at least `SIDE`.
        scenes: how many scenes there are; the more, the fewer crops of each.
        seed: decides the places.

    Returns:
        (n, SIDE, SIDE, 3) by set.
    """
    height, width = next(iter(images.values())).shape[:2]
    count = min(CROPS_OF_IMAGE, max(1, CROPS // scenes))
    # At multiples of 8, so that the blocks of a JPEG, and patterns of 2 and 4 px, begin where a crop does.
    blocks = crop_positions(height // JPEG_BLOCK, width // JPEG_BLOCK, SIDE // JPEG_BLOCK, count, seed)
    corners = [(row * JPEG_BLOCK, column * JPEG_BLOCK) for row, column in blocks]
    return {
        name: np.stack([image[top : top + SIDE, left : left + SIDE] for top, left in corners])
        for name, image in images.items()
    }


def compare_sets(
    sets: SrSets,
    *,
    period: int | None,
    features: PretrainedFeatures | None,
    classifier_steps: int = CLASSIFIER_STEPS,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = lambda names: names,
) -> SetFigures:
    """Compute every measure of every set.

    Args:
        sets: crops of at least `MIN_IMAGES` images.
        period: the scale of the upscalers, whose period a comb has; None leaves the comb out.
        features: the network of KID; None leaves it out.
        classifier_steps: training steps of each classifier; 0 leaves it out.
        progress: wraps the names of the sets, to show a progress bar.

    Returns:
        For each set, and as ``hr`` for one half of HR against the other half:

        - ``spectrum_distance``: mean absolute natural log ratio of the mean power spectra. Set and HR show the same
          scenes, so this can be below that of two halves of HR.
        - ``comb``, ``comb_peak``: mean and largest value of `upsample.evaluation.comb.comb`.
        - ``classifier_accuracy``, ``classifier_auc``: of a classifier that was trained on other scenes; both sets show
          the same ones, so that it learns nothing from what they show.
        - ``kid``: of half of the set against the other half of HR, so that no two crops show the same scene.
    """
    splits = [sets.halves(seed) for seed in range(SPLITS)]
    figures: SetFigures = {name: {} for name in sets.crops}
    _add(figures, _spectrum_distances(sets, splits))
    if period is not None:
        _add(figures, _combs(sets, splits, period))
    if classifier_steps:
        for name in progress(list(sets.crops)):
            _add(figures, {name: _classifier(sets, splits[0], name, classifier_steps)})
    if features is not None:
        _add(figures, _kids(sets, splits, features))
    return figures


def _add(figures: SetFigures, more: SetFigures) -> None:
    for name, values in more.items():
        figures[name].update(values)


def _spectrum_distances(sets: SrSets, splits: list[tuple[Rows, Rows]]) -> SetFigures:
    hr = sets.ring_spectra[HR]
    distances = {name: _apart(spectra.mean(0), hr.mean(0)) for name, spectra in sets.ring_spectra.items()}
    distances[HR] = float(np.mean([_apart(hr[first].mean(0), hr[second].mean(0)) for first, second in splits]))
    return {name: {"spectrum_distance": distance} for name, distance in distances.items()}


def _apart(a: Array, b: Array) -> float:
    return float(np.abs(a - b).mean())


def _combs(sets: SrSets, splits: list[tuple[Rows, Rows]], period: int) -> SetFigures:
    hr = log_spectra(sets.crops[HR])
    combs = {
        name: comb(log_spectra(crops).mean(0), hr.mean(0), period) for name, crops in sets.crops.items() if name != HR
    }
    figures = {name: {"comb": float(teeth.mean()), "comb_peak": float(teeth.max())} for name, teeth in combs.items()}
    of_halves = [comb(hr[first].mean(0), hr[second].mean(0), period) for first, second in splits]
    figures[HR] = {
        "comb": float(np.mean([abs(teeth.mean()) for teeth in of_halves])),  # either half may be the one with more
        "comb_peak": float(np.mean([np.abs(teeth).max() for teeth in of_halves])),
    }
    return figures


def _classifier(sets: SrSets, split: tuple[Rows, Rows], name: str, steps: int) -> dict[str, float]:
    """Train on one half of the scenes, test on the other, and the other way round."""
    # From the corner, whose place among the blocks of JPEG is known.
    hr, made = (sets.crops[each][:, :CLASSIFIER_SIDE, :CLASSIFIER_SIDE] for each in (HR, name))
    if name == HR:  # half against half, with half as many crops: the classifier should find no difference
        quarters = [half[np.isin(sets.image[half], part)] for half in split for part in _halves_of(sets.image[half])]
        folds = [(hr[quarters[0]], hr[quarters[1]]), (hr[quarters[2]], hr[quarters[3]])]
    else:
        folds = [(hr[half], made[half]) for half in split]
    verdicts = [tell_apart(train, test, steps=steps, seed=0) for train, test in (folds, folds[::-1])]
    return {
        "classifier_accuracy": float(np.mean([verdict.accuracy for verdict in verdicts])),
        "classifier_auc": float(np.mean([verdict.auc for verdict in verdicts])),
    }


def _halves_of(image: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    images = np.unique(image)
    return images[: len(images) // 2], images[len(images) // 2 :]


def _kids(sets: SrSets, splits: list[tuple[Rows, Rows]], network: PretrainedFeatures) -> SetFigures:
    features = {name: mean_features(crops, network) for name, crops in sets.crops.items()}
    mean, spread = features[HR].mean(0), features[HR].std(0) + 1e-6
    standard = {name: (values - mean) / spread for name, values in features.items()}
    hr = standard[HR]
    return {
        name: {
            "kid": float(
                np.mean([kid(hr[half], made[other]) for split in splits for half, other in (split, split[::-1])])
            )
        }
        for name, made in standard.items()
    }


def mean_features(crops: Crops, network: PretrainedFeatures) -> Array:
    """Compute the mean of every channel of the pretrained maps: (N, side, side, 3) -> (N, channels of all maps).

    Means alone tell sets apart with fewer crops than means with spreads do.
    """
    parts: list[Array] = []
    for start in range(0, len(crops), BATCH):
        with torch.inference_mode():
            maps = network(to_tensors(crops[start : start + BATCH]) * 2 - 1)
        parts.append(torch.cat([each.mean((2, 3)) for each in maps], dim=1).double().numpy())
    return np.concatenate(parts)
