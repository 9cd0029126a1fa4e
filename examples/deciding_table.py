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
from collections.abc import Sequence
from pathlib import Path

import torch

from comparison.arms import ARMS, HR_CROP, stored_pairs
from comparison.pictures import show_arms
from comparison.processes import run_all
from comparison.scores import SCALE, TestImages, bicubic, keep_scores, kept_scores
from comparison.small_network import load_small_network, train_small_network
from comparison.student import arm_config, base_student, colearned_config, run
from comparison.table import Row, table_of_arms
from comparison.worlds import World, camera_world, hidden_world
from degrade.shards import write_atomic
from upsample.model import ResidualShiftUpsampler
from upsample.pairs import PairData

NETWORKS = ("small", "student")
STEPS = {"small": 1_000, "student": 400}
TITLES = {"small": "Fixed small network", "student": "Our student"}
REFERENCE, ORACLE = "real-esrgan", "oracle"
SHOWN = ("bicubic", "real-esrgan", "ours", "colearned", "oracle")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, score it, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with hr, real_pairs, real_lr and iqa")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--world", choices=["camera", "hidden"], default="camera")
    parser.add_argument("--degrader", default="tiny-x4", help="that makes the pairs called ours")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=tuple(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2, help="trainings at once, one thread each")
    parser.add_argument("--mixed-precision", choices=["no", "bf16"], default="no")
    given = parser.parse_args(arguments)
    out: Path = given.out
    world = the_world(given.world, given.data, out)
    shared = (given.world, given.data, out, given.degrader, given.mixed_precision)
    for name in given.arms:
        if name != "colearned":
            stored_pairs(world, name, out / "shards", given.degrader)
    runs = [(network, name, seed) for seed in given.seeds for network in given.networks for name in given.arms]
    # The small network learns from the degraders that the students' runs leave.
    late = [run for run in runs if run[:2] == ("small", "colearned")]
    early = dict.fromkeys(("student", "colearned", seed) for _, _, seed in late)
    early |= dict.fromkeys(run for run in runs if run not in late)
    if any(network == "student" for network, _, _ in early):
        base_student(world, out, given.mixed_precision)
    run_all(train_and_score, [(*shared, *run) for run in early], workers=given.workers, title="arms")
    run_all(
        train_and_score, [(*shared, *run) for run in late], workers=given.workers, title="co-learned, small network"
    )
    tests = TestImages(world, niqe_file(given.data))
    print(write_tables(out, tests, given.degrader, given.networks, given.arms, given.seeds))
    write_atomic(out / "pictures.png", show_arms(tests, trained_arms(out, given.arms)))


def the_world(name: str, data: Path, out: Path) -> World:
    return camera_world(data) if name == "camera" else hidden_world(data, out)


def train_and_score(
    world_name: str, data: Path, out: Path, degrader: str, mixed_precision: str, network: str, name: str, seed: int
) -> None:
    """One run: an arm, a network, a seed; nothing when its scores are there."""
    torch.set_num_threads(1)
    folder = run_folder(out, network, name, seed)
    settings = run_settings(degrader, network, name, seed)
    if kept_scores(folder / "scores.json", settings) is not None:
        return
    world, began = the_world(world_name, data, out), time.monotonic()
    if network == "small":
        shards, source = out / "shards", degrader
        if name == "colearned":
            beside = run_folder(out, "student", name, seed)
            shards, source = beside, str(beside / "degrader")
        pairs = PairData(
            stored_pairs(world, name, shards, source), scale=SCALE, hr_crop=HR_CROP, batch_size=16, seed=seed
        )
        train_small_network(
            pairs.__getitem__, folder / "small.safetensors", steps=STEPS[network], seed=seed,
            mixed_precision=mixed_precision,
        )  # fmt: skip
    else:
        base, steps = base_student(world, out, mixed_precision), STEPS[network]
        if name == "colearned":
            stored = stored_pairs(world, "ours", out / "shards", degrader)
            config = colearned_config(base, stored, world, degrader, steps=steps, seed=seed)
        else:
            config = arm_config(base, stored_pairs(world, name, out / "shards", degrader), steps=steps, seed=seed)
        run(config, folder, mixed_precision)
    seconds = time.monotonic() - began
    scores = TestImages(world, niqe_file(data)).score(trained(folder, network))
    keep_scores(folder / "scores.json", settings, scores, seconds)


def run_settings(degrader: str, network: str, name: str, seed: int) -> dict[str, object]:
    return {"degrader": degrader, "network": network, "arm": name, "seed": seed, "steps": STEPS[network]}


def run_folder(out: Path, network: str, name: str, seed: int) -> Path:
    return out / network / name / f"seed-{seed}"


def niqe_file(data: Path) -> Path:
    return data / "iqa" / "niqe_modelparameters.mat"


def trained(folder: Path, network: str) -> torch.nn.Module:
    if network == "small":
        return load_small_network(folder / "small.safetensors")
    return ResidualShiftUpsampler.from_pretrained(folder / "student").eval()


def trained_arms(out: Path, names: Sequence[str]) -> dict[str, torch.nn.Module]:
    """The students of the first seed, by title."""
    folders = {ARMS[name].title: run_folder(out, "student", name, 0) for name in SHOWN if name in names}
    return {title: trained(folder, "student") for title, folder in folders.items() if (folder / "student").exists()}


def write_tables(
    out: Path, tests: TestImages, degrader: str, networks: Sequence[str], names: Sequence[str], seeds: Sequence[int]
) -> str:
    """table.md, a table for each network, of the runs that are finished."""
    plain = tests.score(bicubic)
    text = f"NIQE of the HR itself: {tests.niqe_of_hr():.2f}. Left out: {'; '.join(tests.left_out) or 'nothing'}.\n"
    for network in networks:
        rows = {"": Row("bicubic enlargement", [plain["pairs"]], [plain["lr"]] if plain["lr"] else [])}
        for name in names:
            kept = [
                scores
                for seed in seeds
                if (
                    scores := kept_scores(
                        run_folder(out, network, name, seed) / "scores.json",
                        run_settings(degrader, network, name, seed),
                    )
                )
            ]
            if kept:
                lr = [run["lr"] for run in kept if run["lr"]]
                seconds = sum(run["seconds"] for run in kept) / len(kept)
                rows[name] = Row(ARMS[name].title, [run["pairs"] for run in kept], lr, seconds)
        table = table_of_arms(rows, reference=REFERENCE, oracle=ORACLE)
        text += f"\n{TITLES[network]}, {STEPS[network]} steps:\n\n{table}"
    write_atomic(out / "table.md", text.encode())
    return text


if __name__ == "__main__":
    main()
