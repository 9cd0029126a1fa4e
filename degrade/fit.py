"""Fit a degrader to LR photographs of one camera: take over their looks, and check them on photographs held back.

Nothing is trained. The bank of codes, from which a degrader draws its looks, is replaced by the codes of the
photographs. What training beyond that was tried did not come nearer to the camera (docs/your-camera.md).
"""

import json
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from degrade.degrader import MIN_REFERENCE_SIDE, RealisticDegrader
from degrade.files.sources import list_sources
from degrade.files.store import check_output_folder, write_atomic
from degrade.images.crops import BANK_SIDE, ImagePool, bank_crops, list_lr
from degrade.images.geometry import Crops
from degrade.images.tensors import to_tensors
from degrade.mix import DegradationMix, one_thread
from degrade.ops.compress import JPEG_BLOCK
from degrade.realism.nearness import set_distances
from degrade.realism.sets import make

HELD_BACK = 4  # every fourth photograph is, if there are eight or more
CROPS = 96  # of each set that the check compares
MAX_HR_SIDE = 3000  # px; what training reduces to
RESULT = "fit.json"


def fit(photographs: Path, out: Path, *, hr_dir: str = "", degrader: str = "tiny-x4", seed: int = 0) -> dict[str, Any]:
    """Write a degrader whose looks are those of LR photographs into ``out``/degrader.

    The check makes LR of the same HR crops with the looks that the degrader had, and with those of three quarters of
    the photographs, and measures how far each lies from the photographs that were held back. The looks are replaced,
    by those of all photographs, unless they lie further away.

    Args:
        photographs: the LR photographs: a folder, a text list, or shards.
        out: folder of the fit. It gets degrader/ and fit.json; what an earlier fit left there is replaced.
        hr_dir: HR photographs to check with; "" for the LR photographs themselves, area-reduced by the scale.
        degrader: shipped name, folder or hub id of the degrader to fit.
        seed: chooses crops, codes and noise.

    Returns:
        kept ("fitted" or "unchanged"), degrader (its folder), photographs, held_back (0 = there was no check), codes in
        the bank, distances of ``before``, ``fitted`` and ``other_photographs`` (which no fit can be expected to beat),
        ratio (fitted over before, geometric mean of the distances), seconds, and left_out, one sentence for each image
        that is not used.

    Raises:
        ValueError: no photograph is usable, ``out`` holds something else, or something does not fit.
    """
    began = time.monotonic()
    check_output_folder(out, "output", photographs, "the photographs")
    if out.exists() and any(out.iterdir()) and not (out / RESULT).exists():
        raise ValueError(f"{out} holds something else than a fit; give another folder")
    model = RealisticDegrader.from_pretrained(degrader).eval().requires_grad_(False)
    pool = ImagePool(list_lr(photographs), min_side=MIN_REFERENCE_SIDE)
    codes = _codes(model, pool, seed)
    if not codes:
        raise ValueError(f"{photographs} has no photograph to fit to ({_first(pool.left_out)})")
    large = ImagePool([source for source in pool.sources if source in codes], min_side=BANK_SIDE)
    check: dict[str, Any] = {}
    notes: list[str] = []
    if len(large) >= 2 * HELD_BACK:
        check, notes = _check(model, codes, large, hr_dir, seed)
    kept = "unchanged" if check and check["ratio"] > 1 else "fitted"
    if kept == "fitted":
        model.set_bank(torch.cat(list(codes.values())))
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / RESULT, b"{}")  # marks the folder, so that a fit that is stopped now can be run again
    model.save_pretrained(out / "degrader")
    summary = {
        "kept": kept,
        "degrader": str(out / "degrader"),
        "photographs": len(codes),
        "held_back": 0,
        "codes": len(model.bank),
        **check,
        "seconds": round(time.monotonic() - began, 1),
        "left_out": [*pool.left_out, *notes],
    }
    write_atomic(out / RESULT, json.dumps(summary, indent=2).encode())
    return summary


def _codes(model: RealisticDegrader, pool: ImagePool, seed: int) -> dict[Any, Tensor]:
    """Encode crops of every photograph that can be decoded, (crops, code_dim) by source."""
    codes = {}
    for number, source in enumerate(pool.sources):
        try:
            image = pool.image(source)
        except ValueError:  # named by now
            continue
        crops = bank_crops(image, random.Random(f"{seed}/bank/{number}"), grid=JPEG_BLOCK)
        with one_thread():  # so that the codes are the same on every machine
            codes[source] = model.encode(to_tensors(crops))
    return codes


def _check(
    model: RealisticDegrader, codes: dict[Any, Tensor], pool: ImagePool, hr_dir: str, seed: int
) -> tuple[dict[str, Any], list[str]]:
    """Measure how far made LR lies from held-back photographs with the looks of before, and with those of the others.

    Returns:
        Entries of the summary, and a sentence for each HR photograph that is not used.
    """
    scale = model.config.scale
    if hr_dir:
        hr_pool = ImagePool.open(list_sources(hr_dir), min_side=BANK_SIDE * scale, max_side=MAX_HR_SIDE)
    else:
        hr_pool = ImagePool(pool.sources, min_side=BANK_SIDE * scale, reduction=scale)
        if not hr_pool.sources:
            raise ValueError(
                "the photographs are too small to stand in for HR photographs "
                f"({_first(hr_pool.left_out)}); give --hr-dir to check the fit with"
            )
    held_back = pool.sources[::HELD_BACK]
    others = [source for source in pool.sources if source not in set(held_back)]
    real, other = (pool.crops(CROPS, BANK_SIDE, seed, among=some, grid=JPEG_BLOCK) for some in (held_back, others))
    hr = hr_pool.crops(CROPS, BANK_SIDE * scale, seed)

    def made_with(bank: Tensor) -> Crops:
        return make(hr, DegradationMix(model, None, scale=scale, codes=bank), seed)

    looks = torch.cat([codes[source] for source in others])
    sets = {"before": made_with(model.bank), "fitted": made_with(looks), "other_photographs": other}
    distances = {name: set_distances(real, other, crops) for name, crops in sets.items()}
    ratio = _geometric_mean(distances["fitted"][key] / distances["before"][key] for key in distances["before"])
    return {"held_back": len(held_back), "distances": distances, "ratio": round(ratio, 3)}, hr_pool.left_out


def _geometric_mean(ratios: Iterable[float]) -> float:
    return float(np.exp(np.mean(np.log(list(ratios)))))


def _first(left_out: list[str]) -> str:
    return left_out[0] if left_out else "none could be read"
