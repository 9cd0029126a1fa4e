"""The deciding table: what is a super-resolution network worth that was trained on these pairs?

A fixed small network, and our student, are trained on pairs of the same HR photographs: of recipes, of the learned
degrader, of one that learns beside the student, and on true pairs; equal steps, several seeds. They are tested on
images that nothing was trained on.

    python examples/deciding_table.py --data data --out runs/results/camera                     # another camera
    python examples/deciding_table.py --data data --out runs/results/hidden --world hidden      # the hidden world

Needs the extras ``metrics`` and ``export`` (pyiqa, spandrel) and scikit-image (extra ``examples``, for scipy). Run
again, it goes on where it stopped. It prints table.md, which it writes beside pictures.png.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from comparison.arms import ARMS, HR_CROP, identity, make_pairs, pairs_of
from comparison.pictures import show_arms
from comparison.processes import run_all
from comparison.scores import SCALE, TestImages, bicubic, keep_scores, kept_scores
from comparison.small_network import load_small_network, train_small_network
from comparison.student import arm_config, base_student, colearned_config, train_run
from comparison.table import DIGITS, Row, difference, markdown, row_of, table_of_arms
from comparison.table import TITLES as METRIC_TITLES
from comparison.worlds import World, camera_world, hidden_world
from degrade.files.store import write_atomic
from upsample.model import ResidualShiftUpsampler
from upsample.training.data import PairConfig, PairData

NETWORKS = ("small", "student")
STEPS = {"small": 1_000, "student": 400}
TITLES = {"small": "Fixed small network", "student": "Our student"}
REFERENCE, ORACLE = "real-esrgan", "oracle"
COMPARED = (
    ("colearned", "ours"),
    ("ours", "real-esrgan-light"),
    ("colearned", "real-esrgan-light"),
    ("ours", "bicubic"),
    ("colearned", "bicubic"),
    ("ours-looks", "oracle"),
)
SHOWN = ("bicubic", "real-esrgan", "ours", "colearned", "oracle")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, score it, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with hr, real_pairs, real_lr and iqa")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--world", choices=["camera", "hidden"], default="camera")
    parser.add_argument("--degrader", default="tiny-x4", help="that makes ours (tiny-x4 has seen RealSRSet)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=tuple(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2, help="trainings at once, one thread each")
    parser.add_argument("--mixed-precision", choices=["no", "bf16"], default="no")
    given = parser.parse_args(arguments)
    out: Path = given.out
    world = the_world(given.world, given.data, out)
    tests = TestImages(world, niqe_file(given.data))  # before hours of training: it may not be possible
    for name in dict.fromkeys("ours" if name == "colearned" else name for name in given.arms):
        make_pairs(world, name, out / "shards", given.degrader)
    runs = [
        Run(given.world, given.data, out, given.degrader, given.mixed_precision, network, name, seed)
        for seed in given.seeds
        for network in given.networks
        for name in given.arms
    ]
    # The small network learns from the degraders that the students' runs leave.
    late = [run for run in runs if (run.network, run.arm) == ("small", "colearned")]
    early = dict.fromkeys(
        [*(replace(run, network="student") for run in late), *(run for run in runs if run not in late)]
    )
    if any(run.network == "student" for run in early):
        base_student(world, out, given.mixed_precision)
    for part in (early, late):
        run_all(train_and_score, [(run,) for run in part], workers=given.workers, title="arms")
    print(write_tables(runs, tests))
    first = {run.arm: run for run in runs if run.network == "student" and run.seed == given.seeds[0]}
    sheet = show_arms(tests, {ARMS[name].title: first[name].trained() for name in SHOWN if name in first})
    write_atomic(out / "pictures.png", sheet)


@dataclass(frozen=True)
class Run:
    """An arm, a network, a seed."""

    world_name: str
    data: Path
    out: Path
    degrader: str
    mixed_precision: str
    network: str
    arm: str
    seed: int

    @property
    def world(self) -> World:
        """What it is trained and tested on."""
        return the_world(self.world_name, self.data, self.out)

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return self.out / self.network / self.arm / f"seed-{self.seed}"

    @property
    def stored(self) -> PairConfig:
        """The stored pairs that it trains on; of co-learning, those that it starts from."""
        return pairs_of(self.world, "ours" if self.arm == "colearned" else self.arm, self.out / "shards")

    def trained(self) -> nn.Module:
        """The network that it left."""
        if self.network == "small":
            return load_small_network(self.folder / "small.safetensors")
        return ResidualShiftUpsampler.from_pretrained(self.folder / "student").eval()

    def settings(self) -> dict[str, object]:
        """What decides its scores, to be kept beside them."""
        return {
            "world": self.world_name,
            "network": self.network,
            "arm": self.arm,
            "seed": self.seed,
            "steps": STEPS[self.network],
            "mixed_precision": self.mixed_precision,
            "pairs": identity(self.stored),
        }

    def kept(self) -> dict[str, Any] | None:
        """Its scores; None when it is not finished."""
        return kept_scores(self.folder / "scores.json", self.settings())


def the_world(name: str, data: Path, out: Path) -> World:
    return camera_world(data) if name == "camera" else hidden_world(data, out)


def train_and_score(run: Run) -> None:
    """Train and score; nothing when the scores are there."""
    torch.set_num_threads(1)
    if run.kept() is not None:
        return
    train = train_small if run.network == "small" else train_student
    began = time.monotonic()
    network = train(run)
    seconds = time.monotonic() - began
    scores = TestImages(run.world, niqe_file(run.data)).score(network)
    keep_scores(run.folder / "scores.json", run.settings(), scores, seconds)


def train_small(run: Run) -> nn.Module:
    """The fixed small network, from nothing."""
    stored = run.stored
    if run.arm == "colearned":
        beside = replace(run, network="student").folder
        make_pairs(run.world, run.arm, beside, str(beside / "degrader"))
        stored = pairs_of(run.world, run.arm, beside)
    pairs = PairData(stored, scale=SCALE, hr_crop=HR_CROP, batch_size=16, seed=run.seed)
    file, precision = run.folder / "small.safetensors", run.mixed_precision
    train_small_network(pairs.__getitem__, file, steps=STEPS["small"], seed=run.seed, mixed_precision=precision)
    return run.trained()


def train_student(run: Run) -> nn.Module:
    """Our student, from the start that all arms share."""
    how = {"steps": STEPS["student"], "seed": run.seed}
    base = base_student(run.world, run.out, run.mixed_precision)
    if run.arm == "colearned":
        config = colearned_config(base, run.stored, run.world, run.degrader, **how)
    else:
        config = arm_config(base, run.stored, **how)
    train_run(config, run.folder, run.mixed_precision)
    return run.trained()


def table_of_pairs(rows: Mapping[str, Row]) -> str:
    """What some arms differ in from some others, image by image."""
    lines = [
        [f"{rows[one].title} over {rows[other].title}"]
        + [difference(rows[one].pairs, rows[other].pairs, metric, DIGITS[metric]) for metric in METRIC_TITLES]
        for one, other in COMPARED
        if one in rows and other in rows
    ]
    return markdown(["", *METRIC_TITLES.values()], lines) if lines else ""


def niqe_file(data: Path) -> Path:
    return data / "iqa" / "niqe_modelparameters.mat"


def write_tables(runs: Sequence[Run], tests: TestImages) -> str:
    """table.md, a table for each network, of the runs that are finished."""
    plain = tests.score(bicubic)
    text = f"NIQE of the HR itself: {tests.niqe_of_hr():.2f}. Left out: {'; '.join(tests.left_out) or 'nothing'}.\n"
    for network in dict.fromkeys(run.network for run in runs):
        rows = {"": Row("bicubic enlargement", [plain["pairs"]], [plain["lr"]] if plain["lr"] else [])}
        for name in dict.fromkeys(run.arm for run in runs):
            of_arm = (run.kept() for run in runs if (run.network, run.arm) == (network, name))
            kept = [scores for scores in of_arm if scores is not None]
            if kept:
                rows[name] = row_of(ARMS[name].title, kept)
        if network == "student":
            shipped = tests.score(partial(ResidualShiftUpsampler.from_pretrained("tiny-x4").eval(), detail=0))
            rows["shipped"] = Row("tiny-x4, as shipped", [shipped["pairs"]], [shipped["lr"]] if shipped["lr"] else [])
        text += f"\n{TITLES[network]}, {STEPS[network]} steps:\n\n"
        text += table_of_arms(rows, reference=REFERENCE, oracle=ORACLE) + "\n" + table_of_pairs(rows)
        first = [run for run in runs if (run.network, run.seed) == (network, runs[0].seed) and run.arm in rows]
        halves = (f"{ARMS[run.arm].title}: {tests.psnr_at_half_strength(run.trained()):.2f}" for run in first)
        text += "\nPSNR-Y in dB of the first seed, with half of what the network adds to the enlargement: "
        text += "; ".join(halves) + ".\n"
    write_atomic(runs[0].out / "table.md", text.encode())
    return text


if __name__ == "__main__":
    try:
        main()
    except ValueError as err:
        raise SystemExit(f"error: {err}") from None
