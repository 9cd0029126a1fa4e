"""Ablate the training of the detail branch: what does each part of its recipe give?

    python examples/detail_ablation.py --config runs/detail/train_config.yaml \
      --val real_pairs/val/hr real_pairs/val/lr --niqe niqe_modelparameters.mat --steps 300 --out runs/detail-ablation

Every arm trains a branch with the settings of one run, but for what the arm changes, from the same weights and for the
same steps; then it upscales the validation pairs at the middle and at the end of the dial. Run again, it resumes where
it stopped. It prints a table, and writes it with all figures to ``--out``.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from degrade.files.store import write_atomic
from degrade.training.config_file import with_settings
from degrade.training.loop import RunOptions
from upsample.evaluate import evaluate_folders
from upsample.training.config import UpsampleTrainConfig, config_from_options
from upsample.training.run import train
from upsample.upscaling.plan import plan_upscaling
from upsample.upscaling.upscale import UpscaleSettings, load_upsampler, upscale_files

ARMS: dict[str, dict[str, Any]] = {
    "all": {},
    "no D_H": {"loss.adversarial_hr": 0.0},
    "D_H of pixels": {"projected_critic": False},
    "no feature distance": {"detail.features": 0.0},
    "with the cycle": {"cycle.weight": 0.5},
    "with the cycle and a learning degrader": {
        "cycle.weight": 0.5, "degrader.train": True, "data.recipes": ("real-esrgan-light",),
    },
}  # fmt: skip
DETAILS = (0.5, 1.0)
COLUMNS = ("psnr_y", "ssim_y", "niqe", "feature_distance", "spectrum_distance", "comb", "classifier_accuracy", "kid")


def arm_config(file: Path, steps: int, changes: dict[str, Any]) -> UpsampleTrainConfig:
    """Return the settings of one arm."""
    config = config_from_options("tiny", file, {})
    schedule = replace(config.schedule, steps=steps, warmup_steps=min(config.schedule.warmup_steps, steps // 9))
    return with_settings(replace(config, schedule=schedule), changes)


def score(
    weights: Path, folder: Path, val: tuple[Path, Path], metrics: Sequence[str], classifier_steps: int
) -> dict[str, dict[str, float]]:
    """Upscale the validation pairs at every detail and score the sets; figures by detail."""
    upsampler = load_upsampler(weights)
    sets = []
    for detail in DETAILS:
        sets.append(folder / f"detail-{detail:g}")
        plan = plan_upscaling(val[1], sets[-1], ext="png", suffix="", keep_alpha=False, overwrite=True)
        failures = upscale_files(plan, upsampler, UpscaleSettings(detail=detail))["failures"]
        if failures:
            raise SystemExit(failures[0])
    report = evaluate_folders(sets, val[0], lr_dir=val[1], metrics=metrics, classifier_steps=classifier_steps)
    return {each.name: report["mean"][each.name] | report["sets"].get(each.name, {}) for each in sets}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="train_config.yaml of a run with --detail-branch")
    parser.add_argument("--val", type=Path, nargs=2, required=True, metavar=("HR_DIR", "LR_DIR"))
    parser.add_argument("--niqe", type=Path, help="file of NIQE's parameters, for pyiqa")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument(
        "--classifier-steps", type=int, default=0, help="of a classifier that tells SR from HR, which takes minutes"
    )
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=tuple(ARMS))
    parser.add_argument("--mixed-precision", choices=["no", "bf16"], default="bf16")
    parser.add_argument("--out", "-o", type=Path, required=True)
    options = parser.parse_args()
    run = RunOptions(
        mixed_precision=options.mixed_precision, resume="latest", checkpoint_every=100, validate_every=10**9
    )
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for name in options.arms:
        folder = options.out / name.replace(" ", "-")
        scores = folder / "scores.json"
        if not scores.exists():
            started = (folder / "checkpoints").is_dir()
            config = arm_config(options.config, options.steps, ARMS[name])
            train(config, folder, run if started else replace(run, resume=""))
            metrics = [f"niqe={options.niqe}"] if options.niqe else []
            figures_of_arm = score(folder / "student", folder, tuple(options.val), metrics, options.classifier_steps)
            write_atomic(scores, json.dumps(figures_of_arm).encode())
        figures[name] = json.loads(scores.read_text())
    shown = [column for column in COLUMNS if column in next(iter(next(iter(figures.values())).values()))]
    lines = ["| arm | detail | " + " | ".join(shown) + " |", "|---" * (len(shown) + 2) + "|"]
    for name, of_arm in figures.items():
        for detail, values in of_arm.items():
            cells = " | ".join(f"{values[column]:.4f}" for column in shown)
            lines.append(f"| {name} | {detail.removeprefix('detail-')} | {cells} |")
    table = "\n".join(lines)
    write_atomic(options.out / "table.md", f"{table}\n".encode())
    print(table)


if __name__ == "__main__":
    main()
