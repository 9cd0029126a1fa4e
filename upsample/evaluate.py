"""Score a folder of SR images against their HR, beside bicubic enlargement, with the protocol written down.

A table of SR scores means nothing without its protocol: which channel, which border, which versions. So the result
holds them, and the score of every image, not only the means.
"""

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from degrade.degrader import RealisticDegrader
from degrade.files.sources import Source, list_pairs
from degrade.files.store import write_atomic
from degrade.images.codec import encode_image, read_image
from degrade.images.contact_sheet import contact_sheet
from degrade.images.geometry import Rgb
from degrade.images.tensors import to_image, to_tensor
from degrade.ops.resize import resize
from degrade.realism.distances import psnr
from degrade.realism.scores import load_scorers
from upsample.metrics import psnr_y, ssim_y

Score = Callable[[Rgb, Rgb], float]

SHEET_ROWS = 6
SHEET_CROP = 192


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
        sr_dir: images of any upscaler.
        hr_dir: the truth.
        lr_dir: what the SR images were made from; adds bicubic enlargement as a second upscaler. HR images without a
            partner here are left out.
        metrics: names of pyiqa's metrics beside PSNR-Y and SSIM-Y, ``NAME`` or ``NAME=FILE`` with its weights.
        crop_border: pixels left out at every border by PSNR-Y and SSIM-Y.
        degrader: with ``lr_dir``, the learned degrader that makes LR of the SR again (see `consistency`); "" for none.
        picture: a png to write: LR, bicubic, SR and HR side by side.
        progress: wraps the images, for a bar.

    Returns:
        protocol; mean by upscaler and metric; images by name; left_out, a sentence for each image that is not scored.

    Raises:
        ValueError: nothing can be scored, or a metric cannot be had.
    """
    if degrader and lr_dir is None:
        raise ValueError("the consistency needs the LR images too; give them, or no degrader")
    scores = _scores(metrics, crop_border)
    model = RealisticDegrader.from_pretrained(degrader).eval() if degrader else None
    listing = list_pairs(hr_dir, sr_dir)
    left_out = list(listing.unpaired)
    lr_of = {} if lr_dir is None else {hr.name: lr for hr, lr in list_pairs(hr_dir, lr_dir).pairs}
    images: dict[str, dict[str, dict[str, float]]] = {}
    rows: list[list[Rgb]] = []
    for hr_source, sr_source in progress(listing.pairs):
        if lr_dir is not None and hr_source.name not in lr_of:
            left_out.append(f"{hr_source.name} has no partner in {lr_dir}")
            continue
        try:
            hr, made, lr = _read(hr_source, sr_source, lr_of.get(hr_source.name))
            images[hr_source.name] = {
                name: {metric: score(sr, hr) for metric, score in scores.items()} for name, sr in made.items()
            }
            if model is not None and lr is not None:
                for name, sr in {**made, "hr": hr}.items():
                    images[hr_source.name].setdefault(name, {})["consistency"] = consistency(model, sr, lr)
        except (OSError, ValueError) as err:
            images.pop(hr_source.name, None)
            left_out.append(f"{hr_source.name}: {err}")
            continue
        if picture is not None and len(rows) < SHEET_ROWS:
            low = [] if lr is None else [_centre(lr, SHEET_CROP * lr.shape[0] // hr.shape[0])]
            rows.append([*low, *(_centre(image, SHEET_CROP) for image in (*made.values(), hr))])
    if not images:
        reasons = left_out[len(listing.unpaired) :] or left_out
        raise ValueError(f"no image could be scored; the first reason: {reasons[0]}")
    if picture is not None:
        titles = ["LR", "SR", "bicubic", "HR"] if lr_dir is not None else ["SR", "HR"]
        write_atomic(picture, encode_image(contact_sheet(rows, column_titles=titles), "png"))
    return {
        "protocol": _protocol(metrics, crop_border, degrader),
        "mean": _means(images.values()),
        "images": images,
        "left_out": left_out,
    }


def consistency(degrader: RealisticDegrader, sr: Rgb, lr: Rgb) -> float:
    """PSNR in dB between an LR image and the SR degraded like it, both reduced by 4: is the SR a picture of that LR?

    The degrader is told the look by the LR itself. What it draws at random averages out in the reduction but for a
    quarter of its strength, so noisy LR scores lower. Compare with the score of the HR, which a perfect SR would have;
    a mere enlargement of the LR, such as bicubic, has more.

    Raises:
        ValueError: SR and LR do not differ by the degrader's scale.
    """
    scale = degrader.config.scale
    if sr.shape[:2] != (lr.shape[0] * scale, lr.shape[1] * scale):
        raise ValueError(
            f"SR {sr.shape[1]}x{sr.shape[0]} is not {scale} times LR {lr.shape[1]}x{lr.shape[0]}, the degrader's scale"
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
    for name, metric in load_scorers(metrics).items():

        def score(sr: Rgb, hr: Rgb, name: str = name, metric: Any = metric) -> float:
            inputs = (sr, hr) if metric.metric_mode == "FR" else (sr,)
            try:
                with torch.inference_mode():
                    value = float(metric(*(to_tensor(image) for image in inputs)))
            except Exception as err:  # pyiqa raises whatever its networks do
                raise ValueError(f"{name} cannot score it ({err})") from err
            if not np.isfinite(value):
                raise ValueError(f"{name} has no value for it")
            return value

        scores[name] = score
    return scores


def _read(hr: Source, sr: Source, lr: Source | None) -> tuple[Rgb, dict[str, Rgb], Rgb | None]:
    """HR; SR of each upscaler; LR."""
    truth, made = read_image(hr.read()), {"sr": read_image(sr.read())}
    if lr is None:
        return truth, made, None
    low = read_image(lr.read())
    height, width = truth.shape[:2]
    large = resize(to_tensor(low), (height, width), "bicubic", antialias=True)  # Keys' a = -0.5, as MATLAB
    return truth, made | {"bicubic": to_image(large[0])}, low


def _centre(image: Rgb, side: int) -> Rgb:
    top, left = (max(0, (length - side) // 2) for length in image.shape[:2])
    return image[top : top + side, left : left + side]


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


def _means(images: Iterable[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    values: dict[str, dict[str, list[float]]] = {}
    for image in images:
        for name, scores in image.items():
            for metric, score in scores.items():
                values.setdefault(name, {}).setdefault(metric, []).append(score)
    return {
        name: {metric: float(np.mean(each)) for metric, each in by_metric.items()} for name, by_metric in values.items()
    }
