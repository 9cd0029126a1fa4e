"""Runs: a network that learns from the pairs of an arm, and its scores in the worlds where the arm has these pairs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from comparison.arms import HR_CROP, depends_on_make, identity, make_pairs, pairs_of
from comparison.compact_network import load_compact_network, train_compact_network
from comparison.makes import MAKES
from comparison.scores import TestImages, keep_scores, kept_scores
from comparison.student import arm_config, base_student, colearned_config, curve_of, train_run
from comparison.worlds import SCALE, World, the_world
from upsample.model import ResidualShiftUpsampler
from upsample.training.data import PairConfig, PairData

POINTS = 4  # of a learning curve: one after each quarter of the steps


class Steps(NamedTuple):
    """Hold the number of updates of each network."""

    small: int = 1_000
    compact: int = 2_000
    student: int = 400


@dataclass(frozen=True)
class Setup:
    """Hold what all runs of a table share.

    Attributes:
        data: folder with hr, real_pairs, real_lr and iqa.
        out: folder of the table.
        degrader: shipped name or folder of the one that makes "ours"; {make} stands for the make.
        mixed_precision: "no" or "bf16".
        steps: updates.
        scale: HR side / LR side.
    """

    data: Path
    out: Path
    degrader: str
    mixed_precision: str
    steps: Steps = Steps()
    scale: int = SCALE

    def home(self, world: str) -> Path:
        """Return the folder of one world; a make has its own, beside what all makes share."""
        return self.out / world if world in MAKES else self.out

    def world(self, name: str) -> World:
        """Return the world with a name."""
        return the_world(name, self.data, self.out, self.scale)

    def tests(self, world: str) -> TestImages:
        """Read the images that a world is tested on."""
        return TestImages(self.world(world), self.data / "iqa" / "niqe_modelparameters.mat")


@dataclass(frozen=True)
class Run:
    """Name one training: a network, an arm and a seed.

    Attributes:
        setup: of the table.
        worlds: names of those that it is scored in: one, or all makes where the pairs are the same for each.
        network: of `Steps`.
        arm: of `ARMS`.
        seed: of the training.
    """

    setup: Setup
    worlds: tuple[str, ...]
    network: str
    arm: str
    seed: int

    @property
    def world(self) -> World:
        """Return the world that it is trained in."""
        return self.setup.world(self.worlds[0])

    @property
    def degrader(self) -> str:
        """Return the name or folder of the degrader that makes "ours"."""
        return self.setup.degrader.replace("{make}", self.worlds[0])

    @property
    def place(self) -> Path:
        """Return where it is kept, below the folder of its world or of the table."""
        return Path(self.network) / self.arm / f"seed-{self.seed}"

    @property
    def folder(self) -> Path:
        """Return the folder of its network."""
        return self._home(self.arm) / self.place

    @property
    def stored_arm(self) -> str:
        """Return the arm whose stored pairs it trains on; co-learning starts from those of "ours"."""
        return "ours" if self.arm == "colearned" else self.arm

    @property
    def shards(self) -> Path:
        """Return the folder of these pairs."""
        return self._home(self.stored_arm) / "shards"

    @property
    def stored(self) -> PairConfig:
        """Return the stored pairs that it trains on."""
        return pairs_of(self.world, self.stored_arm, self.shards)

    @property
    def steps(self) -> int:
        """Return the number of updates."""
        return int(getattr(self.setup.steps, self.network))

    def _home(self, arm: str) -> Path:
        return self.setup.home(self.worlds[0]) if depends_on_make(arm, self.setup.degrader) else self.setup.out

    @property
    def beside(self) -> "Run":
        """Return the run of the student with the same arm and seed."""
        return replace(self, network="student")

    def make_pairs(self) -> None:
        """Make its stored pairs; what is finished already is kept."""
        make_pairs(self.world, self.stored_arm, self.shards, self.degrader)

    def make_learned_pairs(self) -> None:
        """Make the pairs of the degrader that has learned in `beside`, for the networks that no degrader learns beside.

        Not for two processes at once.
        """
        make_pairs(self.world, self.arm, self.beside.folder, str(self.beside.folder / "degrader"))

    def trained(self) -> nn.Module:
        """Load the trained network."""
        if self.network == "student":
            return ResidualShiftUpsampler.from_pretrained(self.folder / "student").eval()
        return load_compact_network(self.folder / f"{self.network}.safetensors", self.network, self.world.scale)

    def settings(self, world: str) -> dict[str, object]:
        """Return what decides its scores, to be kept beside them."""
        return {
            "world": world,
            "network": self.network,
            "arm": self.arm,
            "seed": self.seed,
            "steps": self.steps,
            "mixed_precision": self.setup.mixed_precision,
            "pairs": identity(self.stored),
            # Runs that do not state it are older, and of this scale.
            **({} if self.world.scale == SCALE else {"scale": self.world.scale}),
        }

    def scores_file(self, world: str) -> Path:
        """Return the file of its scores in a world."""
        return self.setup.home(world) / self.place / "scores.json"

    def kept(self, world: str) -> dict[str, Any] | None:
        """Read its scores in a world; None when it is not finished, or belongs to other worlds."""
        return kept_scores(self.scores_file(world), self.settings(world)) if world in self.worlds else None


class LearningCurve:
    """Score a network while it learns, and measure how long the scoring takes.

    Args:
        tests: by the name of the world.
    """

    def __init__(self, tests: dict[str, TestImages]) -> None:
        self.tests, self.seconds = tests, 0.0
        self.found: dict[int, dict[str, float]] = {}

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Compute PSNR-Y in dB, the mean over the tested images, by world."""
        began = time.monotonic()
        found = {world: images.psnr(network) for world, images in self.tests.items()}
        self.seconds += time.monotonic() - began
        return found

    def add(self, step: int, network: nn.Module) -> None:
        """Keep the score after ``step`` steps."""
        self.found[step] = self(network)


def runs_of(
    setup: Setup, worlds: Sequence[str], networks: Sequence[str], arms: Sequence[str], seeds: Sequence[int]
) -> list[Run]:
    """List all runs; an arm with the same pairs for every make is trained once for all of them."""
    return [
        Run(setup, own, network, arm, seed)
        for seed in seeds
        for network in networks
        for arm in arms
        for own in ([(world,) for world in worlds] if depends_on_make(arm, setup.degrader) else [tuple(worlds)])
    ]


def train_and_score(run: Run) -> None:
    """Train and score; nothing when all scores are there."""
    torch.set_num_threads(1)
    if all(run.kept(world) is not None for world in run.worlds):
        return
    tests = {world: run.setup.tests(world) for world in run.worlds}
    curve = LearningCurve(tests)
    began = time.monotonic()
    found = train_student(run, curve) if run.network == "student" else train_compact(run, curve)
    seconds = time.monotonic() - began - curve.seconds
    network = run.trained()
    for world, images in tests.items():
        of_world = {str(step): by_world[world] for step, by_world in found.items() if world in by_world}
        scores = {**images.score(network), "curve": of_world}
        keep_scores(run.scores_file(world), run.settings(world), scores, seconds)


def train_compact(run: Run, curve: LearningCurve) -> dict[int, dict[str, float]]:
    """Train a compact network from nothing, and return its learning curve by step and world."""
    stored = pairs_of(run.world, run.arm, run.beside.folder) if run.arm == "colearned" else run.stored
    scale = run.world.scale
    pairs = PairData(stored, scale=scale, hr_crop=HR_CROP, batch_size=16, seed=run.seed)
    quarters = {
        step: partial(curve.add, step) for step in range(run.steps // POINTS, run.steps + 1, run.steps // POINTS)
    }
    train_compact_network(
        pairs.__getitem__, run.folder / f"{run.network}.safetensors", size=run.network, steps=run.steps, seed=run.seed,
        scale=scale, mixed_precision=run.setup.mixed_precision, calls=quarters,
    )  # fmt: skip
    return curve.found


def train_student(run: Run, curve: LearningCurve) -> dict[int, dict[str, float]]:
    """Train our student from the start that all arms share, and return its learning curve by step and world."""
    precision = run.setup.mixed_precision
    base = base_student(run.world, run.setup.out, precision)
    if run.arm == "colearned":
        config = colearned_config(base, run.stored, run.world, run.degrader, steps=run.steps, seed=run.seed)
    else:
        config = arm_config(base, run.stored, steps=run.steps, seed=run.seed)
    train_run(config, run.folder, precision, curve, POINTS)
    return curve_of(run.folder)
