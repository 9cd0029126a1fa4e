"""Measure `upsample fit` on real pairs: looks of one half of the photographs, scores on the other half.

Both directions of the split, beside the upsampler as it is, and beside training on the true pairs of the first half for
as many steps. Every fit is scored, kept or not, so that the check, which sees no truth, can be compared with the truth.
``--wrong-looks`` also fits to photographs of something else, and lets the check judge with the looks of the camera.

    python examples/measure_fit.py --pairs data/real_pairs/val/hr data/real_pairs/val/lr --hr-dir data/hr/cameras \
      --out runs/measure-fit

Scores are PSNR-Y and SSIM-Y on the pairs that are aligned, with the LR's brightness brought to the HR's. Run again, it
goes on where it stopped.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from degrade.files.sources import list_pairs
from degrade.files.store import write_atomic
from degrade.images.real_pairs import aligned_pairs
from degrade.images.tensors import to_image, to_tensor
from degrade.training.loop import RunOptions
from upsample.metrics import psnr_y, ssim_y
from upsample.model import ResidualShiftUpsampler
from upsample.training.data import PairConfig
from upsample.training.fit import STRENGTH, fit, fit_config, part_of_the_way
from upsample.training.fit_check import gain_on_made_pairs
from upsample.training.run import train

HALVES = ("first", "second")


def split(hr_dir: Path, lr_dir: Path, out: Path, belongs: str) -> None:
    """Link every second pair into first/{hr,lr}, and the others into second/{hr,lr}."""
    pairs = [pair for pair in list_pairs(hr_dir, lr_dir).pairs if pair[0].name.startswith(belongs)]
    for number, pair in enumerate(pairs):
        for kind, source in zip(("hr", "lr"), pair, strict=True):
            link = out / HALVES[number % 2] / kind / f"{number:03d}{Path(source.path).suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                os.symlink(Path(source.path).resolve(), link)


def scores(upsampler: ResidualShiftUpsampler, half: Path) -> list[float]:
    """Return the mean PSNR-Y in dB and SSIM-Y on the aligned pairs of a half."""
    scale, each = upsampler.config.scale, []
    for hr, lr in aligned_pairs([(str(half / "hr"), str(half / "lr"))], scale=scale, min_side=16)[0]:
        with torch.inference_mode():
            sr = to_image(upsampler(to_tensor(lr), detail=0.0)[0])
        each.append((psnr_y(sr, hr, scale), ssim_y(sr, hr, scale)))
    return np.mean(each, axis=0).tolist()


def measure(known: Path, other: Path, out: Path, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Fit to the LR of one half, and score on the other; by what the upsampler learnt from."""
    run = RunOptions(device="cpu", mixed_precision="bf16", loaders=0, checkpoint_every=100)
    schedule = {"steps": options.steps, "learning_rate": options.learning_rate, "seed": 0}
    start = ResidualShiftUpsampler.from_pretrained(options.start_from).eval()
    before = scores(start, other)
    rows: dict[str, dict[str, Any]] = {"as it is": {"psnr_y": round(before[0], 2), "ssim_y": round(before[1], 4)}}

    def add(name: str, upsampler: ResidualShiftUpsampler, **figures: Any) -> None:
        psnr, ssim = scores(upsampler, other)
        gained = {"truth_db": round(psnr - before[0], 3), "truth_ssim": round(ssim - before[1], 4)}
        rows[name] = {"psnr_y": round(psnr, 2), "ssim_y": round(ssim, 4), **gained, **figures}

    looks = [("fit", known / "lr", options.hr_dir)]
    looks += [("fit, without HR photographs", known / "lr", "")] if options.without_hr else []
    looks += [(f"wrong looks: {folder.name}", folder, options.hr_dir) for folder in options.wrong_looks]
    for number, (name, photographs, hr_dir) in enumerate(looks):
        folder = out / f"fit-{number}"
        told = fit(photographs, folder, hr_dir=hr_dir, start_from=options.start_from, options=run, **schedule)
        learnt = ResidualShiftUpsampler.from_pretrained(folder / "training" / "student").eval()
        for strength in options.strengths:
            fitted = part_of_the_way(start, learnt, strength)
            gain = gain_on_made_pairs(
                start,
                fitted,
                degrader="tiny-x4",
                hr_dir=hr_dir or str(folder / "held_back"),
                looks=out / "fit-0" / "held_back",  # of the camera, also where the fit saw other photographs
                seed=0,
            )
            check = {"check_db": round(gain.mean, 3), "error": round(gain.error, 3), "kept": gain.counts}
            add(f"{name}, strength {strength}", fitted, **check, seconds=told["seconds"])
    if options.true_pairs:
        data = PairConfig(pairs=((str(known / "hr"), str(known / "lr")),))
        config = fit_config(data, options.start_from, scale=start.config.scale, **schedule)
        folder = out / "pairs"
        if not (folder / "student" / "config.json").exists():
            train(config, folder, run)
        learnt = ResidualShiftUpsampler.from_pretrained(folder / "student").eval()
        for strength in options.strengths:
            add(f"true pairs, strength {strength}", part_of_the_way(start, learnt, strength))
    return rows


def main() -> None:
    """Measure both directions, print them, and write fit.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs=2, type=Path, required=True, metavar=("HR_DIR", "LR_DIR"))
    parser.add_argument("--belongs", default="", help="Start of the HR files' names: one camera of several.")
    parser.add_argument("--hr-dir", required=True)
    parser.add_argument("--wrong-looks", nargs="*", type=Path, default=[])
    parser.add_argument("--start-from", default="tiny-x4")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--strengths", nargs="*", type=float, default=[STRENGTH, 0.5, 1.0])
    parser.add_argument("--without-hr", action="store_true", help="Also learn from the photographs themselves.")
    parser.add_argument("--true-pairs", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--directions", type=int, choices=(1, 2), default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    split(*options.pairs, options.out, options.belongs)
    report = {}
    for known, other in (HALVES, HALVES[::-1])[: options.directions]:
        report[other] = measure(options.out / known, options.out / other, options.out / f"from-{known}", options)
        print(f"scores on the {other} half")
        for name, row in report[other].items():
            print(f"  {name:40}" + "  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    write_atomic(options.out / "fit.json", json.dumps(report, indent=2).encode())


if __name__ == "__main__":
    main()
