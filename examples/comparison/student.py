"""Our student in the comparisons: one bicubic-trained start, from which every arm goes on for the same steps."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from comparison.worlds import World
from degrade.training.config_file import with_settings
from degrade.training.loop import RunOptions, make_accelerator, run_training
from upsample.model import ResidualShiftUpsampler
from upsample.training.config import UpsampleTrainConfig, preset
from upsample.training.data import PairConfig
from upsample.training.run import UpsamplerTraining

BASE_STEPS = 2_400
FINISHED = "finished"  # a file that says that a run is
TESTED = "tested_psnr_y_"  # before the name of the world, the scores of a learning curve in metrics.jsonl

Score = Callable[[nn.Module], dict[str, float]]  # of a network while it learns, by world

# What all runs share: the truth, the perceptual term, no teacher and no discriminator of HR, so that arms differ in
# their pairs alone.
PLAIN = with_settings(preset("tiny", "colearn"), {"loss.distill": 0.0, "loss.adversarial_hr": 0.0, "cycle.weight": 0.0})


def base_student(world: World, out: Path, mixed_precision: str) -> str:
    """Train a student on bicubic pairs, the start of every arm, unless it is there; return its folder."""
    untrained, base = out / "untrained", out / "base"
    if (base / FINISHED).exists():
        return str(base / "student")
    if not untrained.exists():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            ResidualShiftUpsampler().save_pretrained(untrained)
    data = PairConfig(recipes=("bicubic",), hr_dir=str(world.hr_dir))
    schedule = {"schedule.steps": BASE_STEPS, "schedule.learning_rate": 5e-4}
    config = with_settings(PLAIN, {"data": data, "start_from": str(untrained), **schedule})
    return train_run(config, base, mixed_precision)


def arm_config(base: str, data: PairConfig, *, steps: int, seed: int) -> UpsampleTrainConfig:
    """Configure a student that starts from ``base`` and learns from the pairs of an arm."""
    schedule = {"schedule.steps": steps, "schedule.seed": seed}
    return with_settings(PLAIN, {"data": data, "start_from": base, **schedule})


def colearned_config(
    base: str, stored: PairConfig, world: World, degrader: str, *, steps: int, seed: int
) -> UpsampleTrainConfig:
    """Configure a student beside which the degrader learns.

    Half of its pairs are the stored ones of the degrader as it was, whose LR the cycle starts from, and half are made
    by the degrader as it is by then, with looks of the world's LR photographs. Recipe pairs teach the degrader alone.
    """
    data = replace(
        stored, online_degrader=degrader, hr_dir=str(world.hr_dir), recipes=("real-esrgan-light",),
        reference_dirs=tuple(map(str, world.real_lr)), weights=(0.5, 0.0, 0.0, 0.5),
    )  # fmt: skip
    learning = {"cycle.weight": 0.5, "real_lr": tuple(map(str, world.real_lr))}
    return with_settings(arm_config(base, data, steps=steps, seed=seed), learning)


def train_run(
    config: UpsampleTrainConfig, out: Path, mixed_precision: str, score: Score | None = None, points: int = 1
) -> str:
    """Train, or resume what was stopped, and return the folder of the student.

    Args:
        config: what to train.
        out: folder of the run.
        mixed_precision: "no" or "bf16".
        score: called with the averaged student, on the CPU; `curve_of` returns its results.
        points: how often, at equal distances; the last time is after the last step.
    """
    options = RunOptions(
        mixed_precision=mixed_precision, resume="latest", validate_every=config.schedule.steps // points,
        checkpoint_every=200, checkpoints_total_limit=1, loaders=0, progress=False,
    )  # fmt: skip
    accelerator = make_accelerator(options)
    training = _Scored(config, options, accelerator)
    training.score = score
    run_training(training, config, config.schedule, out, options, accelerator)
    (out / FINISHED).touch()
    return str(out / training.folder)


def curve_of(out: Path) -> dict[int, dict[str, float]]:
    """Read the learning curve of a run, by step and by world."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    found = {
        int(line["step"]): {name.removeprefix(TESTED): line[name] for name in line if name.startswith(TESTED)}
        for line in lines
    }
    return {step: values for step, values in found.items() if values}


class _Scored(UpsamplerTraining):
    """Train a student that is scored whenever it is validated; the log of the run keeps the scores."""

    score: Score | None = None

    def validate(self, picture: Path) -> dict[str, float]:
        news = super().validate(picture)
        if self.score is not None:
            news |= {TESTED + name: value for name, value in self.score(self.averaged().cpu()).items()}
        return news
