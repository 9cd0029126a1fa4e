"""Score a folder of SR images against their HR images, and bicubic enlargement with them.

SR scores mean nothing without their protocol: the channel, the border, the versions. So the result holds the protocol
and the scores of every image, not only the means.
"""

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from degrade.degrader import RealisticDegrader
from degrade.files.sources import Source, list_pairs
from degrade.files.store import write_atomic
from degrade.images.codec import encode_image, read_image
from degrade.images.contact_sheet import contact_sheet
from degrade.images.geometry import Rgb, centre_crop
from degrade.images.tensors import to_image, to_tensor
from degrade.ops.resize import resize
from degrade.realism.distances import psnr
from degrade.realism.scores import load_scorers
from upsample.metrics import psnr_y, ssim_y

Score = Callable[[Rgb, Rgb], float]  # of (sr, hr)
ScoresOfImage = dict[str, dict[str, float]]  # by upscaler and metric

SHEET_ROWS = 6
SHEET_CROP = 192  # HR pixels


class _Scene(NamedTuple):
    """Hold the files of one scene; ``lr`` is None when no LR folder is given."""

    hr: Source
    sr: Source
    lr: Source | None


def evaluate_folders(
    sr_dir: Path,
    hr_dir: Path,
    *,
    lr_dir: Path | None = None,
    metrics: Sequence[str] = (),
    crop_border: int = 4,
    degrader: str = "",
    picture: Path | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = lambda images: images,
) -> dict[str, Any]:
    """Score every SR image that has an HR partner of the same name.

    Args:
        sr_dir: SR images from any upscaler.
        hr_dir: the HR images.
        lr_dir: the LR images that the SR was made from; adds bicubic enlargement as a second upscaler. HR images
            without a partner here are left out.
        metrics: pyiqa metrics to compute as well, each ``NAME`` or ``NAME=FILE`` with the file of its weights.
        crop_border: pixels that PSNR-Y and SSIM-Y leave out at every border.
        degrader: a learned degrader, which needs ``lr_dir`` and adds `consistency`; "" for none.
        picture: a png to write, with LR, SR, bicubic and HR side by side.
        progress: wraps the list of images, to show a progress bar.

    Returns:
        protocol; mean by upscaler and metric; images by name; left_out, a sentence for each image that is not scored.

    Raises:
        ValueError: no image can be scored, or a metric is not available.
    """
    if degrader and lr_dir is None:
        raise ValueError("the consistency score needs the LR images too; give them, or no degrader")
    scores = _scores(metrics, crop_border)
    model = RealisticDegrader.from_pretrained(degrader).eval() if degrader else None
    scenes, unpaired = _list_scenes(sr_dir, hr_dir, lr_dir)
    images: dict[str, ScoresOfImage] = {}
    failures: list[str] = []
    rows: list[list[Rgb]] = []
    for scene in progress(scenes):
        try:
            hr, made, lr = _read(scene)
            images[scene.hr.name] = _score_image(hr, made, lr, scores, model)
        except (OSError, ValueError) as err:
            failures.append(f"{scene.hr.name}: {err}")
            continue
        if picture is not None and len(rows) < SHEET_ROWS:
            rows.append(sheet_row(lr, list(made.values()), hr))
    if not images:
        raise ValueError(f"no image could be scored; the first reason: {[*failures, *unpaired][0]}")
    if picture is not None:
        titles = ["LR", "SR", "bicubic", "HR"] if lr_dir is not None else ["SR", "HR"]
        write_atomic(picture, encode_image(contact_sheet(rows, column_titles=titles), "png"))
    return {
        "protocol": _protocol(metrics, crop_border, degrader),
        "mean": _means(images.values()),
        "images": images,
        "left_out": [*unpaired, *failures],
    }


def sheet_row(lr: Rgb | None, made: Sequence[Rgb], hr: Rgb) -> list[Rgb]:
    """Cut the centres out of LR, of the enlarged images made from it, and of HR, for one row of a contact sheet.

    Args:
        lr: (h, w, 3) uint8, or None to leave it out.
        made: images of the size of ``hr``.
        hr: (H, W, 3) uint8; where the sides of LR do not divide its own, LR and HR may be half an LR pixel apart.
    """
    if lr is None:
        return [centre_crop(image, SHEET_CROP) for image in (*made, hr)]
    scale = max(1, round(hr.shape[0] / lr.shape[0]))
    lr_side = min(SHEET_CROP // scale, *lr.shape[:2], *(side // scale for side in hr.shape[:2]))
    return [centre_crop(lr, lr_side), *(centre_crop(image, lr_side * scale) for image in (*made, hr))]


def consistency(degrader: RealisticDegrader, sr: Rgb, lr: Rgb) -> float:
    """Measure, as PSNR in dB, whether degrading an SR image gives back the LR image that it was made from.

    The degrader takes the look from the LR image. Both LR images are reduced by 4 before they are compared; a quarter
    of the noise that the degrader draws at random remains, so noisy LR scores lower. Compare the score with that of the
    HR, which a perfect SR would reach; a plain enlargement of the LR, such as bicubic, scores higher still.

    Args:
        degrader: the learned degrader.
        sr: (h * scale, w * scale, 3) uint8.
        lr: (h, w, 3) uint8.

    Raises:
        ValueError: SR and LR do not differ by the degrader's scale.
    """
    scale = degrader.config.scale
    if sr.shape[:2] != (lr.shape[0] * scale, lr.shape[1] * scale):
        raise ValueError(
            f"SR {sr.shape[1]}x{sr.shape[0]} is not {scale} times LR {lr.shape[1]}x{lr.shape[0]}, as the degrader's "
            "scale requires"
        )
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        again = degrader(to_tensor(sr), reference=to_tensor(lr), generator=generator)
        a, b = (F.avg_pool2d(image, 4)[0].double().numpy() * 255 for image in (again, to_tensor(lr)))
    return psnr(a, b)


def _scores(metrics: Sequence[str], crop_border: int) -> dict[str, Score]:
    scores: dict[str, Score] = {
        "psnr_y": lambda sr, hr: psnr_y(sr, hr, crop_border),
        "ssim_y": lambda sr, hr: ssim_y(sr, hr, crop_border),
    }
    return scores | {name: _pyiqa_score(name, metric) for name, metric in load_scorers(metrics).items()}


def _pyiqa_score(name: str, metric: Any) -> Score:
    def score(sr: Rgb, hr: Rgb) -> float:
        inputs = (sr, hr) if metric.metric_mode == "FR" else (sr,)
        try:
            with torch.inference_mode():
                value = float(metric(*(to_tensor(image) for image in inputs)))
        except Exception as err:  # pyiqa raises whatever its networks do
            raise ValueError(f"metric {name} cannot score it ({err})") from err
        if not np.isfinite(value):
            raise ValueError(f"metric {name} gives {value} for it")
        return value

    return score


def _list_scenes(sr_dir: Path, hr_dir: Path, lr_dir: Path | None) -> tuple[list[_Scene], list[str]]:
    """Match the files of each scene; also return a sentence for each image that lacks a partner."""
    listing = list_pairs(hr_dir, sr_dir)
    if lr_dir is None:
        return [_Scene(hr, sr, None) for hr, sr in listing.pairs], listing.unpaired
    lr_of = {hr.name: lr for hr, lr in list_pairs(hr_dir, lr_dir).pairs}
    scenes = [_Scene(hr, sr, lr_of[hr.name]) for hr, sr in listing.pairs if hr.name in lr_of]
    without_lr = [f"{hr.name} has no partner in {lr_dir}" for hr, _ in listing.pairs if hr.name not in lr_of]
    return scenes, [*listing.unpaired, *without_lr]


def _read(scene: _Scene) -> tuple[Rgb, dict[str, Rgb], Rgb | None]:
    """Read HR, the image of each upscaler by name, and LR."""
    hr, made = read_image(scene.hr.read()), {"sr": read_image(scene.sr.read())}
    if scene.lr is None:
        return hr, made, None
    lr = read_image(scene.lr.read())
    height, width = hr.shape[:2]
    enlarged = resize(to_tensor(lr), (height, width), "bicubic", antialias=True)  # Keys' a = -0.5, as in MATLAB
    return hr, made | {"bicubic": to_image(enlarged[0])}, lr


def _score_image(
    hr: Rgb, made: dict[str, Rgb], lr: Rgb | None, scores: dict[str, Score], degrader: RealisticDegrader | None
) -> ScoresOfImage:
    result = {name: {metric: score(sr, hr) for metric, score in scores.items()} for name, sr in made.items()}
    if degrader is not None and lr is not None:
        for name, image in {**made, "hr": hr}.items():
            result.setdefault(name, {})["consistency"] = consistency(degrader, image, lr)
    return result


def _protocol(metrics: Sequence[str], crop_border: int, degrader: str) -> dict[str, Any]:
    versions = {}
    for package in ("realistic-degrader", "torch", "pyiqa"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "psnr_y, ssim_y": f"Y of ITU-R BT.601 (16..235), 8-bit images, {crop_border} px of border left out",
        "others": "pyiqa, RGB, whole images: " + (", ".join(metrics) or "none"),
        "consistency": f"PSNR of {degrader}(SR, reference=LR) against LR, both reduced by 4" if degrader else "none",
        "bicubic": "a = -0.5",
        "versions": versions,
    }


def _means(images: Iterable[ScoresOfImage]) -> ScoresOfImage:
    values: dict[str, dict[str, list[float]]] = {}
    for image in images:
        for name, scores in image.items():
            for metric, score in scores.items():
                values.setdefault(name, {}).setdefault(metric, []).append(score)
    return {
        name: {metric: float(np.mean(each)) for metric, each in by_metric.items()} for name, by_metric in values.items()
    }
