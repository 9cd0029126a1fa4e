"""The ablation: which parts of co-learning earn their place?

Every row is our student, going on from the same bicubic-trained start for the same steps. Half of its pairs are of a
recipe, half of a degrader that has never seen a real LR image, and that learns beside it (or does not). What is
measured: the student on a camera that nothing was trained on, and the degrader against that camera's LR.

    python examples/ablation.py --data data --out runs/results/ablation --base runs/results/camera \
      --degrader runs/results/degrader-synthetic/degrader

``--base`` is the folder of deciding_table.py, for its start and its pairs. Needs what that needs. Run again, it goes on
where it stopped. It prints table.md, which it writes.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from comparison.arms import identity, make_pairs, pairs_of
from comparison.processes import run_all
from comparison.scores import TestImages, keep_scores, kept_scores
from comparison.student import arm_config, base_student, colearned_config, train_run
from comparison.table import DIGITS, TITLES, cell, difference, markdown
from comparison.worlds import World, camera_world
from degrade.degrader import RealisticDegrader
from degrade.files.sources import list_sources
from degrade.files.store import write_atomic
from degrade.images.tensors import to_tensor
from degrade.mix import fingerprint
from degrade.realism.stop_signal import StopSignal
from degrade.training.config_file import with_settings
from upsample.model import ResidualShiftUpsampler
from upsample.training.config import UpsampleTrainConfig

Shared = tuple[Path, Path, Path, str, str]  # data, out, base, degrader, mixed precision

STEPS = 200
RECIPE = "real-esrgan-light"
REFERENCE = "all"


@dataclass(frozen=True)
class Part:
    """One row: what differs from co-learning with everything but D_H.

    Attributes:
        title: for the table.
        degrader: "none", "frozen", or "learns".
        cycle: "energy", "l1", or "" for none.
        real: share of the real LR photographs that D_L sees; 0 = it sees recipes' LR alone.
        hr_critic: D_H.
    """

    title: str
    degrader: str = "learns"
    cycle: str = "energy"
    real: float = 1.0
    hr_critic: bool = False


ROWS = {
    "all": Part("co-learned, energy score, D_L on real LR"),
    "none": Part("no degrader", "none", "", 0),
    "frozen": Part("frozen, energy score", "frozen"),
    "frozen-l1": Part("frozen, L1", "frozen", "l1"),
    "l1": Part("co-learned, L1, D_L on real LR", cycle="l1"),
    "synthetic": Part("co-learned, energy score, D_L on synthetic LR", real=0),
    "synthetic-l1": Part("co-learned, L1, D_L on synthetic LR", cycle="l1", real=0),
    "no-cycle": Part("no cycle", cycle=""),
    "hr-critic": Part("with D_H", hr_critic=True),
    "real-10": Part("10 % of the real LR", real=0.1),
    "real-50": Part("50 % of the real LR", real=0.5),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, score it, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with real_pairs, real_lr and iqa")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--degrader", required=True, help="that has seen no real LR")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=tuple(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--workers", type=int, default=2, help="trainings at once, one thread each")
    parser.add_argument("--mixed-precision", choices=["no", "bf16"], default="no")
    given = parser.parse_args(arguments)
    world = camera_world(given.data)
    base_student(world, given.base, given.mixed_precision)
    make_pairs(world, RECIPE, given.base / "shards", "none")
    TestImages(world, given.data / "iqa" / "niqe_modelparameters.mat")  # says now what is not there
    shared = (given.data, given.out, given.base, given.degrader, given.mixed_precision)
    calls = [(*shared, name, seed) for seed in given.seeds for name in given.rows]
    run_all(train_and_score, calls, workers=given.workers, title="ablation")
    print(write_table(shared, given.rows, given.seeds))


def train_and_score(
    data: Path, out: Path, base: Path, degrader: str, mixed_precision: str, name: str, seed: int
) -> None:
    """One run; nothing when its scores are there."""
    torch.set_num_threads(1)
    folder = out / name / f"seed-{seed}"
    settings = run_settings((data, out, base, degrader, mixed_precision), name, seed)
    if kept_scores(folder / "scores.json", settings) is not None:
        return
    world, began = camera_world(data), time.monotonic()
    start = base_student(world, base, mixed_precision)
    train_run(row_config(ROWS[name], world, base, start, degrader, out, seed), folder, mixed_precision)
    seconds = time.monotonic() - began
    student = ResidualShiftUpsampler.from_pretrained(folder / "student").eval()
    tests = TestImages(world, data / "iqa" / "niqe_modelparameters.mat")
    scores = tests.score(student)
    if ROWS[name].degrader != "none":
        learned = folder / "degrader" if ROWS[name].degrader == "learns" else degrader
        scores["degrader"] = {"0": judge(RealisticDegrader.from_pretrained(learned).eval(), world, tests)}
    keep_scores(folder / "scores.json", settings, scores, seconds)


def run_settings(shared: Shared, name: str, seed: int) -> dict[str, object]:
    """What decides the scores of a run, to be kept beside them."""
    data, _, base, degrader, mixed_precision = shared
    return {
        "degrader": fingerprint(RealisticDegrader.from_pretrained(degrader)),
        "row": name,
        "seed": seed,
        "steps": STEPS,
        "mixed_precision": mixed_precision,
        "pairs": identity(pairs_of(camera_world(data), RECIPE, base / "shards")),
    }


def row_config(
    part: Part, world: World, base: Path, start: str, degrader: str, out: Path, seed: int
) -> UpsampleTrainConfig:
    """The training of a row."""
    recipe_pairs = pairs_of(world, RECIPE, base / "shards")
    if part.degrader == "none":
        return arm_config(start, recipe_pairs, steps=STEPS, seed=seed)
    real = tuple(str(some_of(folder, part.real, out / "lists")) for folder in world.real_lr) if part.real else ()
    learns = part.degrader == "learns"
    config = colearned_config(start, recipe_pairs, world, degrader, steps=STEPS, seed=seed)
    return with_settings(
        config,
        {
            "data.reference_dirs": real,
            "real_lr": real if learns else (),
            "degrader.train": learns,
            "cycle.weight": config.cycle.weight if part.cycle else 0.0,
            "cycle.score": "l1" if part.cycle == "l1" else "energy",
            "loss.adversarial_hr": 0.001 if part.hr_critic else 0.0,
        },
    )


def some_of(folder: Path, share: float, lists: Path) -> Path:
    """A list of every so manieth photograph of a folder, at least one."""
    if share == 1:
        return folder
    sources = list_sources(folder)
    chosen = sources[:: round(1 / share)]
    file = lists / f"{folder.parent.name}-{folder.name}-{round(100 * share)}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, "".join(f"{(folder / source.name).resolve()}\n" for source in chosen).encode())
    return file


def judge(degrader: RealisticDegrader, world: World, tests: TestImages) -> dict[str, float]:
    """How far the degrader is from the LR of a camera that it never saw.

    Returns:
        realism_kid and realism_w1 of `StopSignal`, for looks of the degrader's bank; spread, the standard deviation of
        repeated draws of one look, in grey levels: 0 when its noise has collapsed.
    """
    hr, lr = world.test_pairs
    figures = StopSignal(str(hr), [str(lr)], scale=4).measure(degrader)
    spreads = []
    for seed, (sharp, real) in enumerate(tests.pairs):
        generator = torch.Generator().manual_seed(seed)
        with torch.inference_mode():
            code = degrader.encode(to_tensor(real))
            first, second = (degrader(to_tensor(sharp), code, generator=generator) for _ in range(2))
        spreads.append(float((first - second).std()) / 2**0.5 * 255)
    return {**figures, "spread": sum(spreads) / len(spreads)}


def write_table(shared: Shared, names: Sequence[str], seeds: Sequence[int]) -> str:
    """table.md, of the runs that are finished."""
    out, kept = shared[1], {}
    for name in names:
        files = {seed: out / name / f"seed-{seed}" / "scores.json" for seed in seeds}
        runs = [run for seed, file in files.items() if (run := kept_scores(file, run_settings(shared, name, seed)))]
        if runs:
            kept[name] = runs
    header = ["", *TITLES.values(), "NIQE, no HR", "PSNR-Y over the first row", "SSIM-Y over it", "degrader: KID",
              "w1", "spread", "seeds", "seconds"]  # fmt: skip
    lines = []
    for name, runs in kept.items():
        pairs = [run["pairs"] for run in runs]
        cells = [ROWS[name].title, *(cell(pairs, metric, DIGITS[metric]) for metric in TITLES)]
        cells.append(cell([run["lr"] for run in runs], "niqe", DIGITS["niqe"]))
        alone = name == REFERENCE or REFERENCE not in kept
        for metric in ("psnr_y", "ssim_y"):
            full = [] if alone else [run["pairs"] for run in kept[REFERENCE]]
            cells.append("" if alone else difference(pairs, full, metric, DIGITS[metric]))
        for figure in ("realism_kid", "realism_w1", "spread"):
            judged = [run["degrader"] for run in runs if "degrader" in run]
            cells.append(cell(judged, figure, 2) if judged else "")
        seconds = sum(run["seconds"] for run in runs) / len(runs)
        lines.append([*cells, str(len(runs)), f"{seconds:.0f}"])
    text = f"{STEPS} steps.\n\n" + markdown(header, lines)
    write_atomic(out / "table.md", text.encode())
    return text


if __name__ == "__main__":
    try:
        main()
    except ValueError as err:
        raise SystemExit(f"error: {err}") from None
