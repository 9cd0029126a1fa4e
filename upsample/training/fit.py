"""Fit an upsampler to the photographs of one camera, without HR partners, and keep the result only if it is better.

The degrader, which does not change, takes its looks from the photographs and makes pairs of HR photographs. The student
learns from these pairs alone, for some hundred steps, and then its weights go a part of the way to what it learnt: that
keeps a third of the gain where the pairs are like the camera's, and most of the harm away where they are not. Some
photographs are held back for the check, `upsample.training.fit_check`.
"""

import json
import shutil
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from degrade.files.sources import Source
from degrade.files.store import check_output_folder, write_atomic
from degrade.images.codec import encode_image
from degrade.images.crops import ImagePool, list_lr
from degrade.images.geometry import Rgb, crop, crop_positions, is_flat
from degrade.ops.compress import JPEG_BLOCK
from degrade.training.config import Schedule
from degrade.training.loop import RunOptions
from upsample.model import ResidualShiftUpsampler
from upsample.training.config import SHIPPED, StudentLoss, UpsampleTrainConfig
from upsample.training.data import PairConfig
from upsample.training.fit_check import HR_SIDE, gain_on_made_pairs
from upsample.training.run import train

STEPS, LEARNING_RATE = 200, 1e-4
STRENGTH = 0.25  # how far the weights go, from those of the start (0) to the fitted ones (1)
MIN_SIDE = 32  # px; a smaller photograph does not tell its look
MOST_PHOTOGRAPHS = 200  # more take time to read and add few looks
CROPS, CROP_SIDE = 96, 384  # cut of the photographs, as evenly as possible; px
HELD_BACK = 4  # every fourth photograph is
RESULT = "fit.json"


def fit(
    photographs: Path,
    out: Path,
    *,
    hr_dir: str = "",
    start_from: str = SHIPPED,
    degrader: str = SHIPPED,
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
    strength: float = STRENGTH,
    seed: int = 0,
    options: RunOptions | None = None,
) -> dict[str, Any]:
    """Fit a one-step upsampler to LR photographs, and leave in ``out``/student what the check finds better.

    The detail branch, if there is one, stays as it is. A fit that was stopped goes on where its last checkpoint is, and
    a finished one is not done again.

    Args:
        photographs: the LR photographs: an image, a folder, a text list, or tars.
        out: folder of the fit. It gets looks/ and held_back/, which are crops of the photographs; training/, with the
            fitted student; student/, what is kept; and fit.json.
        hr_dir: HR photographs to make pairs of; "" for the LR photographs themselves, at their full size.
        start_from: shipped name, folder or hub id of the upsampler to fit.
        degrader: shipped name, folder or hub id of the degrader.
        steps: optimizer steps.
        learning_rate: its peak.
        strength: how far the weights go from those of the start to the fitted ones, above 0 and at most 1.
        seed: the seed of every draw.
        options: how to run the training.

    Returns:
        kept ("fitted" or "unchanged"), weights (their folder), gain and its standard error on the made pairs in dB,
        photographs, held_back (photographs; 0 = other crops of the same ones), steps, seconds of the training, and
        left_out, one sentence for each image that is not used.

    Raises:
        ValueError: no photograph is usable, ``out`` holds another fit, or something does not fit.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength {strength} is outside 0..1; use 0.25, or 1 for all that was learnt")
    check_output_folder(out, "output", photographs, "the photographs")
    sources = list_lr(photographs)
    asked: dict[str, Any] = {
        "hr_dir": hr_dir, "start_from": start_from, "degrader": degrader, "steps": steps,
        "learning_rate": learning_rate, "strength": strength, "seed": seed,
        "photographs": [[source.name, source.bytes_len] for source in sources],
    }  # fmt: skip
    weights = out / "student"
    if (before := _begin(out, asked)) is not None:
        return {**before, "weights": str(weights)}
    start = ResidualShiftUpsampler.from_pretrained(start_from).eval()
    if start.config.steps > 1:
        raise ValueError(
            f"{start_from} takes {start.config.steps} steps; fit an upsampler of one step, such as {SHIPPED}"
        )
    pool = ImagePool(_spread(sources), min_side=MIN_SIDE if hr_dir else HR_SIDE)
    counts = _cut_looks(pool, out, seed, photographs)
    looks = str(out / "looks")
    data = PairConfig(online_degrader=degrader, hr_dir=hr_dir or looks, reference_dirs=(looks,))
    config = fit_config(data, start_from, scale=start.config.scale, steps=steps, learning_rate=learning_rate, seed=seed)
    trained = train(config, out / "training", replace(options or RunOptions(), resume="latest"))
    fitted = part_of_the_way(start, ResidualShiftUpsampler.from_pretrained(trained["weights"]).eval(), strength)
    gain = gain_on_made_pairs(
        start,
        fitted,
        degrader=degrader,
        hr_dir=hr_dir or str(out / "held_back"),
        looks=out / "held_back",
        seed=seed,
    )
    (fitted if gain.counts else start).save_pretrained(weights)
    summary = {
        "kept": "fitted" if gain.counts else "unchanged",
        "gain": round(gain.mean, 3),
        "gain_error": round(gain.error, 3),
        **counts,
        "steps": trained["steps"],
        "seconds": trained["seconds"],
        "left_out": [*pool.left_out, *trained["left_out"]],
    }
    _write(out, {"asked": asked, "summary": summary})
    return {**summary, "weights": str(weights)}


def fit_config(
    data: PairConfig, start_from: str, *, scale: int, steps: int, learning_rate: float, seed: int
) -> UpsampleTrainConfig:
    """Return the settings of the training: squared error and gradients, and neither a teacher nor critics."""
    schedule = Schedule(
        steps=steps, hr_crop=HR_SIDE, learning_rate=learning_rate, warmup_steps=steps // 10, ema_decay=0.98, seed=seed
    )
    loss = StudentLoss(distill=0.0, inverse=0.0, perceptual=0.1)
    return UpsampleTrainConfig(
        stage="student", scale=scale, start_from=start_from, data=data, schedule=schedule, loss=loss
    )


def part_of_the_way(
    start: ResidualShiftUpsampler, fitted: ResidualShiftUpsampler, strength: float
) -> ResidualShiftUpsampler:
    """Return an upsampler whose weights lie between two others', as in WiSE-FT (arXiv 2109.01903); 1 = the fitted."""
    between, goal = deepcopy(start), fitted.state_dict()
    with torch.no_grad():
        for name, weight in between.named_parameters():
            weight.lerp_(goal[name], strength)
    return between


def _begin(out: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """Mark the folder as that of this fit; return the summary if it is finished.

    Raises:
        ValueError: it holds something else.
    """
    file = out / RESULT
    if not file.exists():
        if out.exists() and any(out.iterdir()):
            raise ValueError(f"{out} holds something else than a fit; give another folder")
        out.mkdir(parents=True, exist_ok=True)
        _write(out, {"asked": asked})
        return None
    found = json.loads(file.read_text())
    if found["asked"] != asked:
        different = ", ".join(name for name in asked if found["asked"].get(name) != asked[name])
        raise ValueError(f"{out} holds a fit with other settings ({different}); use the old ones, or another folder")
    summary: dict[str, Any] | None = found.get("summary")
    return summary


def _write(out: Path, content: dict[str, Any]) -> None:
    write_atomic(out / RESULT, json.dumps(content, indent=2).encode())


def _spread(sources: Sequence[Source]) -> list[Source]:
    """Take at most `MOST_PHOTOGRAPHS`, evenly spread over all."""
    count = min(len(sources), MOST_PHOTOGRAPHS)
    return [sources[number * len(sources) // count] for number in range(count)]


def _cut_looks(pool: ImagePool, out: Path, seed: int, photographs: Path) -> dict[str, int]:
    """Write crops of the photographs to looks/ and held_back/: of different photographs, if there are four or more.

    Returns:
        photographs and held_back, their numbers.

    Raises:
        ValueError: no photograph is usable.
    """
    looks, held_back = out / "looks", out / "held_back"
    for folder in (looks, held_back):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    apart, used = len(pool) >= HELD_BACK, 0
    for number, image in enumerate(pool.whole_images()):
        used += 1
        crops = _crops(image, -(-CROPS // len(pool)), seed)
        for index, part in enumerate(crops):
            folders = [held_back if (number % HELD_BACK if apart else index) == 0 else looks]
            if len(crops) == 1 and not apart:  # all that there is has to serve as both
                folders = [looks, held_back]
            for folder in folders:
                (folder / f"{number:03d}-{index:02d}.png").write_bytes(encode_image(part, "png"))
    if not any(looks.iterdir()):
        reason = pool.left_out[0] if pool.left_out else "too few could be read"
        raise ValueError(
            f"{photographs} has no photograph to fit to ({reason}); give larger ones, or with --hr-dir HR photographs "
            f"to learn from, when sides of {MIN_SIDE} px are enough"
        )
    return {"photographs": used, "held_back": -(-used // HELD_BACK) if apart else 0}


def _crops(image: Rgb, count: int, seed: int) -> list[Rgb]:
    """Cut different squares that begin where JPEG blocks do; nearly flat ones only where there are no others."""
    height, width = (side // JPEG_BLOCK for side in image.shape[:2])
    side = min(CROP_SIDE // JPEG_BLOCK, height, width)
    places = crop_positions(height, width, side, count, seed)
    crops = [crop(image, top * JPEG_BLOCK, left * JPEG_BLOCK, side * JPEG_BLOCK) for top, left in places]
    return [part for part in crops if not is_flat(part)] or crops
