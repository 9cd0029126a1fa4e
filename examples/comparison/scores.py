"""Scores of an SR network on pairs and on LR without HR, image by image, so that arms can be compared in pairs."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from comparison.worlds import World
from degrade.files.sources import list_sources
from degrade.files.store import write_atomic
from degrade.images.codec import read_image
from degrade.images.geometry import Rgb
from degrade.images.real_pairs import aligned_pairs
from degrade.images.tensors import to_image, to_tensor
from degrade.perceptual.distance import feature_distance
from degrade.perceptual.pretrained_features import pretrained_features
from degrade.realism.scores import load_scorers
from upsample.bicubic import enlarge
from upsample.evaluation.comb import comb, log_spectra
from upsample.evaluation.sets import SIDE, cut_crops
from upsample.metrics import psnr_y, ssim_y

TEST_LR_SIDE = 128  # the middle of LR images without HR

Upscale = Callable[[Tensor], Tensor]
Scores = dict[str, dict[str, float]]  # by image, by metric


class TestImages:
    """Hold the images of a world that nothing is trained on, and the metrics.

    Pairs that lie more than half an LR pixel apart, or are too flat to tell, are left out, and the LR's brightness is
    brought to the HR's (`degrade.images.real_pairs`), so that the scores tell detail and not exposure.

    Args:
        world: whose images.
        niqe: file of NIQE's parameters, for pyiqa.
    """

    def __init__(self, world: World, niqe: Path) -> None:
        self.scale = world.scale
        hr, lr = world.test_pairs
        pairs, self.left_out = aligned_pairs([(str(hr), str(lr))], scale=self.scale, min_side=16)
        if not pairs:
            raise ValueError(f"no pair of {hr} and {lr} can be tested on; the first reason: {self.left_out[0]}")
        self.pairs = [_middles(hr, lr, world.test_side, self.scale) for hr, lr in pairs]
        images = [] if world.test_lr is None else [read_image(source.read()) for source in list_sources(world.test_lr)]
        self.lr = [image[_middle_of(image, TEST_LR_SIDE)] for image in images]
        self.metrics = load_scorers([f"niqe={niqe}", "gmsd"])
        try:
            self.features = pretrained_features()
        except ValueError:  # the weights are an extra; without them the score is left out
            self.features = None

    def score(self, upscale: Upscale) -> dict[str, Any]:
        """Score an upscaler on every pair, on all pairs as a set (comb), and on every LR image without HR (NIQE).

        Args:
            upscale: (1, 3, h, w) in [0, 1] -> (1, 3, scale h, scale w).

        Returns:
            ``pairs`` and ``lr``, by the number of the image and by metric, without feature_distance where its weights
            are not installed; ``set``: comb and comb_peak of all pairs as one set, {} where all are too small, and at
            scale 1.
        """
        made = [_run(upscale, lr) for _, lr in self.pairs]
        pairs = {str(n): self._score_pair(sr, hr) for n, (sr, (hr, _)) in enumerate(zip(made, self.pairs, strict=True))}
        without_hr = {str(n): {"niqe": self.niqe(_run(upscale, lr))} for n, lr in enumerate(self.lr)}
        return {"pairs": pairs, "lr": without_hr, "set": self._comb(made)}

    def _score_pair(self, sr: Rgb, hr: Rgb) -> dict[str, float]:
        scores = {
            "psnr_y": psnr_y(sr, hr, self.scale),
            "ssim_y": ssim_y(sr, hr, self.scale),
            "niqe": self.niqe(sr),
            "gmsd": float(self.metrics["gmsd"](to_tensor(sr), to_tensor(hr))),
        }
        if self.features is not None:
            with torch.inference_mode():
                both = [self.features(to_tensor(image) * 2 - 1) for image in (sr, hr)]
                scores["feature_distance"] = float(feature_distance(*both))
        return scores

    def _comb(self, made: list[Rgb]) -> dict[str, float]:
        """Measure what repeats with the period of the scale in all SR images, less that of HR: mean and largest."""
        if self.scale == 1:  # nothing is enlarged, so nothing repeats with a period of 1 px
            return {}
        whole = [(sr, hr) for sr, (hr, _) in zip(made, self.pairs, strict=True) if min(hr.shape[:2]) >= SIDE]
        if not whole:
            return {}
        cut = [cut_crops({"sr": sr, "hr": hr}, scenes=len(whole), seed=n) for n, (sr, hr) in enumerate(whole)]
        sr, hr = (log_spectra(np.concatenate([crops[name] for crops in cut])).mean(0) for name in ("sr", "hr"))
        teeth = comb(sr, hr, self.scale)
        return {"comb": float(teeth.mean()), "comb_peak": float(teeth.max())}

    def bicubic(self, lr: Tensor) -> Tensor:
        """Enlarge LR by bicubic interpolation, the first row of every table; at scale 1 it is LR as it is."""
        return enlarge(lr, self.scale).clamp(0, 1)

    def psnr(self, upscale: Upscale) -> float:
        """Compute the mean PSNR-Y over the pairs, in dB."""
        return sum(psnr_y(_run(upscale, lr), hr, self.scale) for hr, lr in self.pairs) / len(self.pairs)

    def psnr_at_half_strength(self, upscale: Upscale) -> float:
        """Compute PSNR-Y in dB with half of what a network adds: higher than the whole where it adds too much."""

        def half(lr: Tensor) -> Tensor:
            return (upscale(lr) + self.bicubic(lr)) / 2

        return self.psnr(half)

    def niqe_of_hr(self) -> float:
        """Compute the mean NIQE of the HR images, which a perfect SR would have."""
        return sum(self.niqe(hr) for hr, _ in self.pairs) / len(self.pairs)

    def niqe(self, image: Rgb) -> float:
        """Naturalness without a reference; smaller is better."""
        with torch.inference_mode():
            return float(self.metrics["niqe"](to_tensor(image)))


def keep_scores(file: Path, settings: dict[str, object], scores: Mapping[str, Any], seconds: float) -> None:
    """Write the scores of one run, with what they are of and how long its training took."""
    write_atomic(file, json.dumps({"settings": settings, "seconds": round(seconds), **scores}, indent=1).encode())


def kept_scores(file: Path, settings: dict[str, object]) -> dict[str, Any] | None:
    """Read the scores of a finished run, and its seconds; None when it is not finished.

    Raises:
        ValueError: the folder holds a run with other settings.
    """
    if not file.exists():
        return None
    kept = json.loads(file.read_text())
    if kept["settings"] != json.loads(json.dumps(settings)):
        raise ValueError(f"{file} is of a run with other settings, {kept['settings']}; give another --out")
    return dict(kept)


def _run(upscale: Upscale, lr: Rgb) -> Rgb:
    with torch.inference_mode():
        return to_image(upscale(to_tensor(lr)).clamp(0, 1)[0])


def _middles(hr: Rgb, lr: Rgb, hr_side: int, scale: int) -> tuple[Rgb, Rgb]:
    """Cut the same middle out of both images of a pair; 0 keeps the whole."""
    if not hr_side:
        return hr, lr
    rows, columns = _middle_of(lr, hr_side // scale)
    return (
        hr[rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale],
        lr[rows, columns],
    )


def _middle_of(image: Rgb, side: int) -> tuple[slice, slice]:
    """Rows and columns of a middle square, as far as the image reaches."""
    spans = []
    for length in image.shape[:2]:
        first = max(0, (length - side) // 2)
        spans.append(slice(first, min(length, first + side)))
    return spans[0], spans[1]
