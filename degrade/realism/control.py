"""Compare LR with what is known about it: does it follow the reference, match the true LR and keep the HR's colours?

Control and match are measured on pairs whose true LR is known: real pairs, and pairs that recipes make.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from degrade.images.alignment import subpixel_shift
from degrade.images.crops import ImagePool
from degrade.images.geometry import Crops, Rgb
from degrade.images.real_pairs import aligned_pairs
from degrade.images.tensors import to_tensors
from degrade.mix import DegradationMix
from degrade.networks.texture import high_pass
from degrade.realism.columns import Column, Figures
from degrade.realism.distances import Array, akld, correlation, crps, energy_score, psnr, rank_histogram, ssim
from degrade.realism.sets import (
    apply_drawn,
    baselines,
    clean_downsampling,
    codes_of,
    draw_seeds,
    make,
    make_baseline,
    make_like,
)
from degrade.realism.statistics import mean_spectrum, spectrum_frequencies, table_of
from degrade.recipes.recipe import DrawnRecipe, Recipe

CONTROL_RECIPES = ("real-esrgan", "real-esrgan-light", "bsrgan", "redux", "bicubic")
CHANGES = ("log_noise", "log_sharpness", "blockiness")

KNOWN_SHIFT = 0.5  # response of `subpixel_shift` from which a shift counts
REDUCTION = 8  # factor by which images are reduced to compare their low frequencies


@dataclass(frozen=True)
class KnownPairs:
    """Hold HR crops, their true LR, and for each a reference: an LR crop of another scene, degraded in the same way.

    Attributes:
        hr: HR crops, (N, side * scale, side * scale, 3) uint8.
        lr: true LR crops, (N, side, side, 3) uint8.
        reference: reference crops, (N, side, side, 3) uint8.
        images: number of the photograph that each crop was cut from.
        drawn: parameters of each pair that a recipe made; empty for real pairs.
    """

    hr: Crops
    lr: Crops
    reference: Crops
    images: Sequence[int]
    drawn: Sequence[DrawnRecipe] = ()


def crop_real_pairs(hr_dir: Path, lr_dir: Path, *, scale: int, side: int) -> tuple[KnownPairs, list[str]]:
    """Cut real pairs into adjacent crops; the reference is another crop of the same LR image.

    As in training, differences in exposure are removed and misaligned pairs are left out.

    Args:
        hr_dir: folder of HR images.
        lr_dir: folder of LR images with the same names.
        scale: HR side / LR side.
        side: side of an LR crop, px.

    Returns:
        The pairs, and one sentence for each image that is not used.

    Raises:
        ValueError: no pair can be used, or none is large enough for two crops.
    """
    pairs, left_out = aligned_pairs([(str(hr_dir), str(lr_dir))], scale=scale, min_side=side)
    if not pairs:
        raise ValueError(f"no pair can be used; the first reason: {(left_out or ['the folders are empty'])[0]}")
    hr_crops, lr_crops, references, images = [], [], [], []
    for number, (hr, lr) in enumerate(pairs):
        corners = [
            (y, x) for y in range(0, lr.shape[0] - side + 1, side) for x in range(0, lr.shape[1] - side + 1, side)
        ]
        if len(corners) < 2:
            continue
        parts = [lr[y : y + side, x : x + side] for y, x in corners]
        lr_crops += parts
        images += [number] * len(parts)
        references += [parts[(i + len(parts) // 2) % len(parts)] for i in range(len(parts))]
        hr_crops += [hr[y * scale : (y + side) * scale, x * scale : (x + side) * scale] for y, x in corners]
    if not lr_crops:
        raise ValueError(f"no image in {lr_dir} is large enough for two crops of {side} px; use a smaller --crop-size")
    return KnownPairs(np.stack(hr_crops), np.stack(lr_crops), np.stack(references), images), left_out


def make_recipe_pairs(pool: ImagePool, count: int, *, scale: int, side: int, seed: int) -> KnownPairs:
    """Make pairs by classical recipes in turn, each with its own draw; the reference has the same draw, another scene.

    Args:
        pool: HR images.
        count: number of pairs.
        scale: HR side / LR side.
        side: side of an LR crop, px.
        seed: seed of the crops and the draws.
    """
    recipes = [Recipe.preset(name) for name in CONTROL_RECIPES]
    seeds = draw_seeds("truth", seed, count)
    drawn = [recipes[i % len(recipes)].draw(each, scale) for i, each in enumerate(seeds)]
    hr = pool.crops(count, side * scale, seed + 101)
    other = pool.crops(count, side * scale, seed + 202)[::-1]
    return KnownPairs(hr, apply_drawn(hr, drawn), apply_drawn(other, drawn), range(count), drawn)


def control(pairs: KnownPairs, mix: DegradationMix, *, seed: int) -> Figures:
    """Measure whether the output of the degrader follows its reference, on pairs whose true LR is known.

    The figures compare *changes* against the clean downsampling of the same HR, because the scene alone makes plain
    values correlate. ``ours_wrong`` gets the reference of another pair: the correlation that remains is due to the
    scene.

    Args:
        pairs: HR, true LR and references.
        mix: the degrader under test.
        seed: seed of the noise, of the wrong references and of the baselines.

    Returns:
        For ``ours_like``, ``ours_wrong`` and the baselines: the correlation of each change with that of the true LR,
        and the ratios of the energies of the high-pass bands and of the top quarter of the spectra (geometric means
        over the crops).
    """
    codes = codes_of(pairs.reference, mix)
    made = {
        Column.OURS_LIKE: make_like(pairs.hr, mix, codes, seed),
        Column.OURS_WRONG: make_like(pairs.hr, mix, codes[wrong_partners(pairs.images, seed)], seed),
        **baselines(pairs.hr, mix.scale, seed),
    }
    clean = table_of(clean_downsampling(pairs.hr, mix.scale))
    truth = _changes(pairs.lr, clean)
    energy, top = _high_energy(pairs.lr), _top_quarter(pairs.lr)
    figures: Figures = {}
    for name, lr in made.items():
        changes = _changes(lr, clean)
        for key in CHANGES:
            figures.setdefault(f"correlation_{key}", {})[name] = correlation(truth[key], changes[key])
        figures.setdefault("high_band_energy_ratio", {})[name] = _high_energy(lr) / energy
        figures.setdefault("top_quarter_energy_ratio", {})[name] = float(np.exp(_top_quarter(lr) - top))
    return figures


def make_of_pairs(pairs: KnownPairs, mix: DegradationMix, *, seed: int) -> dict[str, Crops]:
    """Make LR of the HR of real pairs, by the degrader with the references and by the baselines.

    Args:
        pairs: HR, true LR and references.
        mix: the degrader under test.
        seed: seed of the noise and of the baselines.

    Returns:
        Crops of each column, (N, side, side, 3); ``real`` is the true LR.
    """
    ours = make_like(pairs.hr, mix, codes_of(pairs.reference, mix), seed)
    return {Column.REAL: pairs.lr, Column.OURS_LIKE: ours, **baselines(pairs.hr, mix.scale, seed)}


def score_pairs(pairs: KnownPairs, mix: DegradationMix, *, crops: int, samples: int, seed: int) -> Figures:
    """Score random samples against the true LR of real pairs, including their spread.

    Args:
        pairs: HR, true LR and references.
        mix: the degrader under test.
        crops: number of pairs to score, spread evenly over all.
        samples: number of samples of each HR crop, K.
        seed: seed of the samples.

    Returns:
        For ``ours_like`` (the reference is another crop of the same photograph), ``ours`` and ``real_esrgan`` (both
        without a reference) and ``bicubic`` (a single sample, because it is deterministic): PSNR, SSIM and the distance
        of the high-pass bands for single samples, for the best one and for the mean of all; AKLD of what the
        degradation adds to the high-pass band; energy score; CRPS; and the total variation distance of the ranks of the
        truth to equal shares.
    """
    some = np.linspace(0, len(pairs.lr) - 1, min(crops, len(pairs.lr))).round().astype(int)
    pairs = KnownPairs(pairs.hr[some], pairs.lr[some], pairs.reference[some], [pairs.images[i] for i in some])
    codes = codes_of(pairs.reference, mix)
    draws: dict[str, Callable[[int], Crops]] = {
        Column.OURS_LIKE: lambda k: make_like(pairs.hr, mix, codes, seed * samples + k),
        Column.OURS: lambda k: make(pairs.hr, mix, seed * samples + k),
        Column.REAL_ESRGAN: lambda k: make_baseline(pairs.hr, Column.REAL_ESRGAN, mix.scale, seed * samples + k),
        Column.BICUBIC: lambda k: make_baseline(pairs.hr, Column.BICUBIC, mix.scale, seed * samples + k),
    }
    clean = clean_downsampling(pairs.hr, mix.scale)
    figures: Figures = {}
    for name, draw in draws.items():
        made = np.stack([draw(k) for k in range(1 if name == Column.BICUBIC else samples)], axis=1)
        scores = [_scores(*each) for each in zip(made, pairs.lr, clean, strict=True)]
        for metric in scores[0]:
            figures.setdefault(metric, {})[name] = float(np.mean([score[metric] for score in scores]))
        if name != Column.BICUBIC:
            rng = np.random.default_rng(seed)
            each = [rank_histogram(_band(own), _band(lr[None])[0], rng) for own, lr in zip(made, pairs.lr, strict=True)]
            ranks = np.mean(each, axis=0)
            figures.setdefault("rank_unevenness", {})[name] = float(np.abs(ranks - 1 / len(ranks)).sum() / 2)
    return figures


def wrong_partners(images: Sequence[int], seed: int) -> list[int]:
    """Choose for each crop a random crop of another photograph; if there is only one photograph, any crop.

    The choice is random because recipes come in turn: a fixed step through the crops might always meet the same one.

    Args:
        images: number of the photograph of each crop.
        seed: seed of the choice.

    Returns:
        The index of a crop for each crop.
    """
    rng = np.random.default_rng(seed)
    numbers = np.asarray(images)
    if len(set(images)) == 1:
        return [int(i) for i in rng.integers(len(numbers), size=len(numbers))]
    return [int(rng.choice(np.flatnonzero(numbers != own))) for own in numbers]


def _changes(lr: Crops, clean: dict[str, Array]) -> dict[str, Array]:
    """Measure how statistics of LR crops differ from those of their clean downsampling: (N,) for each of `CHANGES`."""
    table = table_of(lr)
    return {
        "log_noise": np.log(table["noise_sigma"] + 0.5) - np.log(clean["noise_sigma"] + 0.5),
        "log_sharpness": table["log_sharpness"] - clean["log_sharpness"],
        "blockiness": table["blockiness"] - clean["blockiness"],
    }


def _high_energy(crops: Crops) -> float:
    return float(high_pass(to_tensors(crops)).square().mean())


def _top_quarter(crops: Crops) -> float:
    """Average the log power above three quarters of Nyquist over the crops."""
    return float(mean_spectrum(crops)[spectrum_frequencies() > 3 / 8].mean())


def _scores(samples: Crops, truth: Rgb, clean: Rgb) -> dict[str, float]:
    """Score the samples of one HR crop, (K, side, side, 3), against its true LR."""
    values = samples.astype(np.float64)
    band, true_band, clean_band = (_band(x) for x in (samples, truth[None], clean[None]))
    single = [psnr(sample, truth) for sample in values]
    band_errors = np.abs(band - true_band).mean((1, 2, 3))
    similarity = [ssim(sample, truth) for sample in samples]
    return {
        "psnr_single": float(np.mean(single)),
        "psnr_best": max(single),
        "psnr_of_mean": psnr(values.mean(0), truth),
        "ssim_single": float(np.mean(similarity)),
        "ssim_best": max(similarity),
        "high_band_l1_single": float(band_errors.mean()),
        "high_band_l1_best": float(band_errors.min()),
        "high_band_l1_of_mean": float(np.abs(band.mean(0) - true_band[0]).mean()),
        "akld": float(np.mean([akld(own - clean_band[0], true_band[0] - clean_band[0]) for own in band])),
        "energy_score": energy_score(values, truth.astype(np.float64)),
        "crps": crps(values, truth.astype(np.float64)),
    }


def _band(crops: Crops) -> Array:
    """Compute the high-pass band in grey levels: (N, h, w, 3) uint8 -> (N, h, w, 3)."""
    return np.asarray(high_pass(to_tensors(crops)).permute(0, 2, 3, 1).double().numpy() * 255)


def fidelity(hr: Crops, made: dict[str, Crops], scale: int) -> Figures:
    """Measure what must not change: colour, low frequencies and position, against the clean downsampling of the HR.

    Args:
        hr: HR crops, (N, side * scale, side * scale, 3).
        made: LR of these HR crops by column, (N, side, side, 3).
        scale: HR side / LR side.

    Returns:
        ``colour_shift_delta_e``, the mean CIE76 difference of images reduced by `REDUCTION`; ``low_frequency_error``,
        their mean absolute difference in grey levels; ``shift_px``, the median length of the sub-pixel shift in LR
        pixels, over the crops where it can be estimated.
    """
    clean = clean_downsampling(hr, scale)
    figures: Figures = {}
    for name, crops in made.items():
        colour, low, shifts = [], [], []
        for lr, reference in zip(crops, clean, strict=True):
            small, small_reference = (_reduced(image) for image in (lr, reference))
            low.append(np.abs(small - small_reference).mean())
            lab, lab_reference = (cv2.cvtColor(image / 255, cv2.COLOR_RGB2LAB) for image in (small, small_reference))
            colour.append(np.linalg.norm(lab - lab_reference, axis=2).mean())
            dx, dy, response = subpixel_shift(reference, lr)
            if response > KNOWN_SHIFT:
                shifts.append(np.hypot(dx, dy))
        values = {"colour_shift_delta_e": np.mean(colour), "low_frequency_error": np.mean(low)}
        if shifts:
            values["shift_px"] = np.median(shifts)
        for metric, value in values.items():
            figures.setdefault(metric, {})[name] = float(value)
    return figures


def _reduced(image: Rgb) -> Array:
    return np.asarray(
        cv2.resize(image.astype(np.float32), None, fx=1 / REDUCTION, fy=1 / REDUCTION, interpolation=cv2.INTER_AREA)
    )
