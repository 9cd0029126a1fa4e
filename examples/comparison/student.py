"""Our student in the comparisons: one bicubic-trained start, from which every arm goes on for the same steps."""

from dataclasses import replace
from pathlib import Path

import torch

from comparison.worlds import World
from degrade.training.config import DegraderTrainConfig
from upsample.model import ResidualShiftUpsampler
from upsample.training.config import UpsampleTrainConfig, preset
from upsample.training.data import PairConfig
from upsample.training.loop import train
from upsample.training.run import RunOptions

BASE_STEPS = 2_400
FINISHED = "finished"  # a file that says that a run is

# What all runs share: the truth, the perceptual term, no teacher and no discriminator of HR, so that arms differ in
# their pairs alone.
PLAIN = replace(preset("tiny", "colearn"), distill=0.0, adversarial_hr=0.0, cycle=0.0)


def base_student(world: World, out: Path, mixed_precision: str) -> str:
    """The folder of a student trained on bicubic pairs, the start of every arm; made when it is not there yet."""
    untrained, base = out / "untrained", out / "base"
    if (base / FINISHED).exists():
        return str(base / "student")
    if not untrained.exists():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            ResidualShiftUpsampler().save_pretrained(untrained)
    config = replace(
        PLAIN,
        data=PairConfig(recipes=("bicubic",), hr_dir=str(world.hr_dir)),
        start_from=str(untrained),
        steps=BASE_STEPS,
        learning_rate=5e-4,
    )
    return train_run(config, base, mixed_precision)


def arm_config(base: str, data: PairConfig, *, steps: int, seed: int) -> UpsampleTrainConfig:
    """A student that goes on from ``base`` with the pairs of an arm."""
    return replace(PLAIN, data=data, start_from=base, steps=steps, seed=seed)


def colearned_config(
    base: str, stored: PairConfig, world: World, degrader: str, *, steps: int, seed: int
) -> UpsampleTrainConfig:
    """A student beside which the degrader learns.

    Half of its pairs are the stored ones of the degrader as it was, whose LR the cycle starts from, and half are made
    by the degrader as it is by then, with looks of the world's LR photographs. Recipe pairs teach the degrader alone.
    """
    data = replace(
        stored, online_degrader=degrader, hr_dir=str(world.hr_dir), recipes=("real-esrgan-light",),
        reference_dirs=tuple(map(str, world.real_lr)), weights=(0.5, 0.0, 0.0, 0.5),
    )  # fmt: skip
    return replace(
        PLAIN, data=data, start_from=base, steps=steps, seed=seed, cycle=0.5, real_lr=tuple(map(str, world.real_lr)),
        degrader=DegraderTrainConfig(batch_size=8, learning_rate=1e-4),
    )  # fmt: skip


def train_run(config: UpsampleTrainConfig, out: Path, mixed_precision: str) -> str:
    """Train, or go on with what was stopped; the folder of the student."""
    options = RunOptions(
        mixed_precision=mixed_precision, resume="latest", validate_every=config.steps, checkpoint_every=200,
        checkpoints_total_limit=1, loaders=0, progress=False,
    )  # fmt: skip
    weights = str(train(config, out, options)["weights"])
    (out / FINISHED).touch()
    return weights
