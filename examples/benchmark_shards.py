"""Making and reading shards: how fast is it, what does Ray cost, and how does a plan grow? On this machine, in one run.

    python examples/benchmark_shards.py                       # all tables (extra ray); 20 minutes on two cores
    python examples/benchmark_shards.py --parts 3 --images 100000 1000000

1. `synth` by one process alone, by one and two worker processes, and by Ray clusters of one machine with two CPUs and
   of two machines (two raylets here) with one each: HR megapixels per second, with and without the start of workers.
   The engines take turns, so that what else the machine does falls on all; every data set must have the same bytes.
2. Pairs per second of a training loader: shards against the same images as files in two folders, from memory and after
   the system has dropped them from its cache.
3. The plan of simulated images, with real headers behind their names: time and peak memory, ten times fewer and all.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from degrade import read_pairs
from degrade.files.sources import Source
from degrade.images.codec import encode_image, read_image
from degrade.shards.verify import verify_shards
from degrade.synth.catalog import Catalog
from degrade.synth.job import Job, resolve_job
from degrade.synth.plan import pairs_of_shards, plan_units
from degrade.synth.ray_cluster import RayCluster
from degrade.synth.run import SynthRun
from degrade.synth.settings import SynthSettings

sys.path.insert(0, str(Path(__file__).parent))
from export_photos import export  # noqa: E402

CROP = 256
SHARD_SIZE = 25


def making(hr_dir: Path, work: Path, pairs: int, rounds: int) -> list[dict[str, Any]]:
    """The same data set by every engine, in turn."""
    job = a_job(pairs // len(list(hr_dir.iterdir())))
    engines: dict[str, Callable[[ExitStack], dict[str, Any]]] = {
        "one process alone": lambda stack: {"workers": 0},
        "1 worker process": lambda stack: {"workers": 1},
        "2 worker processes": lambda stack: {"workers": 2},
        "Ray, one machine, 2 CPUs": lambda stack: {"workers": 2, "cluster": stack.enter_context(cluster_of(2))},
        "Ray, two machines, 1 CPU each": lambda stack: {"workers": 2, "cluster": stack.enter_context(cluster_of(1, 1))},
    }
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    steady: dict[str, list[float]] = {name: [] for name in engines}
    megapixels = 0.0
    digests = set()
    for number in range(rounds):
        for name, how in engines.items():
            out = work / f"{name.replace(' ', '-')}-{number}"
            with ExitStack() as stack:
                options = how(stack)
                run = stack.enter_context(SynthRun.open(hr_dir, out, job))
                began = time.time()
                stats = run.run(progress=False, **options)
            seconds[name].append(stats["seconds"])
            # from the first finished shard to the last: without the start of processes and models
            done = sorted(path.stat().st_mtime for path in out.glob("pairs-*.json"))
            steady[name].append((done[-1] - done[0]) / (len(done) - 1) * len(done))
            megapixels = stats["pairs_made_now"] * CROP**2 / 1e6
            digests.add(digest(out))
            print(f"  {name}: {stats['seconds']} s, first shard after {done[0] - began:.1f} s", file=sys.stderr)
    if len(digests) != 1:
        raise SystemExit("the engines made different bytes")
    rows = [
        {
            "engine": name,
            "seconds": round(statistics.median(seconds[name]), 1),
            "hr_mp_per_s": round(megapixels / statistics.median(seconds[name]), 2),
            "steady_hr_mp_per_s": round(megapixels / statistics.median(steady[name]), 2),
        }
        for name in engines
    ]
    alone, local = rows[0], rows[2]
    for row in rows:
        row["times_one_process"] = round(row["hr_mp_per_s"] / alone["hr_mp_per_s"], 2)
        row["seconds_over_2_workers"] = f"{row['seconds'] / local['seconds'] - 1:+.1%}"
    return rows


def a_job(crops_per_image: int) -> Job:
    settings = SynthSettings(crop_size=CROP, crops_per_image=crops_per_image, shard_size=SHARD_SIZE, keep_flat=True)
    return resolve_job(settings, degrader="tiny-x4", reference_dir=None)


class cluster_of:  # noqa: N801  # reads as a phrase
    """A Ray cluster of raylets with so many CPUs each, on this machine."""

    def __init__(self, *cpus: int) -> None:
        from ray.cluster_utils import Cluster

        head, *others = cpus
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": head, "include_dashboard": False})
        for count in others:
            self.cluster.add_node(num_cpus=count)
        self.cluster.wait_for_nodes()

    def __enter__(self) -> RayCluster:
        self.connection = RayCluster(self.cluster.address)
        return self.connection

    def __exit__(self, *error: object) -> None:
        self.connection.__exit__(None, None, None)
        self.cluster.shutdown()


def digest(out: Path) -> str:
    content = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in sorted(out.glob("pairs-*")))
    return hashlib.sha256(content).hexdigest()


class PairedFolders(Dataset[dict[str, Tensor]]):
    """What people have: the same file name in two folders."""

    def __init__(self, root: Path) -> None:
        self.hr, self.lr = root / "hr", root / "lr"
        self.names = sorted(path.name for path in self.hr.iterdir())

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {role: tensor(folder / self.names[index]) for role, folder in (("hr", self.hr), ("lr", self.lr))}


def tensor(path: Path) -> Tensor:
    return torch.from_numpy(read_image(path)).permute(2, 0, 1).float().div_(255).contiguous()


def reading(shards: Path, work: Path, epochs: int) -> list[dict[str, Any]]:
    """Whole epochs in a random order, batches of 16."""
    folders = work / "folders"
    for role in ("hr", "lr"):
        (folders / role).mkdir(parents=True)
    for pair in read_pairs(shards):
        for role in ("hr", "lr"):
            image = (pair[role] * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
            (folders / role / f"{pair['key']}.png").write_bytes(encode_image(image, "png"))

    def from_shards(workers: int) -> DataLoader[Any]:
        pairs = read_pairs(shards, shuffle=200)
        return DataLoader(pairs, 16, num_workers=workers, multiprocessing_context=context(workers), collate_fn=batch)

    def from_folders(workers: int) -> DataLoader[Any]:
        folder, how = PairedFolders(folders), context(workers)
        return DataLoader(folder, 16, shuffle=True, num_workers=workers, multiprocessing_context=how, collate_fn=batch)

    rows = []
    for workers in (0, 1, 2):
        for cached in (True, False):
            rates: dict[str, list[float]] = {"shards": [], "folders": []}
            for _ in range(epochs):
                for kind, loader in (("shards", from_shards(workers)), ("folders", from_folders(workers))):
                    if not cached:
                        drop_from_cache(work, shards)
                    batches = iter(loader)
                    count, began = len(next(batches)["hr"]), time.perf_counter()  # workers have started
                    read = sum(len(each["hr"]) for each in batches)
                    rates[kind].append(read / (time.perf_counter() - began))
                    assert read + count == len(list((folders / "hr").iterdir())), "an epoch is not whole"
            row = {kind: round(statistics.median(rate)) for kind, rate in rates.items()}
            cache = "in memory" if cached else "dropped from the cache"
            rows.append(
                {"loader_workers": workers, "files": cache, **row, "ratio": round(row["shards"] / row["folders"], 2)}
            )
    return rows


def batch(pairs: list[dict[str, Any]]) -> dict[str, Tensor]:
    return {role: torch.stack([pair[role] for pair in pairs]) for role in ("hr", "lr")}


def context(workers: int) -> str | None:
    return "fork" if workers else None


def drop_from_cache(*folders: Path) -> None:
    os.sync()
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def planning(count: int, headers: list[str]) -> dict[str, Any]:
    """A plan of `count` images, in a process of its own, whose peak memory is told."""
    return multiprocessing.get_context("spawn").Pool(1).apply(plan_alone, (count, headers))


def plan_alone(count: int, headers: list[str]) -> dict[str, Any]:
    def peak_mb() -> float:
        # not ru_maxrss: a process that is started inherits that of the one that starts it
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6

    def simulated() -> Iterator[Source]:
        sizes = [os.path.getsize(path) for path in headers]
        for number in range(count):
            which = number * 7919 % len(headers)
            yield Source(f"{number // 1000:05d}/photo {number:09d}.png", sizes[which], headers[which])

    settings = SynthSettings(crops_per_image=4)
    loaded, began = peak_mb(), time.perf_counter()
    with Catalog(simulated()) as catalog:
        listed = time.perf_counter()
        catalog.plan_new(settings)
        lines = hashlib.sha256()
        plan_bytes = 0
        for line in catalog.plan_lines():
            lines.update(line)
            plan_bytes += len(line)
        planned = time.perf_counter()
        parts = catalog.pairs_of_parts(settings.variants)
        shards = len(pairs_of_shards(parts, settings))
        first = next(plan_units(catalog.images(), parts, settings))
        assert first.shard == 0
        started = time.perf_counter()
        pairs = sum(len(unit.slots) for unit in plan_units(catalog.images(), parts, settings))
        dealt = time.perf_counter()
    return {
        "images": count,
        "pairs": pairs,
        "shards": shards,
        "list_s": round(listed - began, 1),
        "headers_and_plan_s": round(planned - listed, 1),
        "until_first_unit_s": round(started - began, 1),
        "deal_all_s": round(dealt - started, 1),
        "plan_mb": round(plan_bytes / 1e6, 1),
        "peak_mb_over_imports": round(peak_mb() - loaded, 1),
    }


def headers_of_photographs(folder: Path) -> list[str]:
    """Small real PNG files of many sizes, to stand behind simulated names."""
    draw = random.Random(0)
    paths = []
    for number in range(100):
        height, width = draw.randint(512, 640), draw.randint(512, 640)
        path = folder / f"{number}.png"
        path.write_bytes(encode_image(torch.full((height, width, 3), 99, dtype=torch.uint8).numpy(), "png"))
        paths.append(str(path))
    return paths


def show(title: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{title}\n\n| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(str(value) for value in row.values())} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hr-dir", type=Path, help="photographs of 512 px or more  [default: scikit-image's]")
    parser.add_argument("--parts", default="123", help="which of the three parts")
    parser.add_argument("--pairs", type=int, default=1200, help="to make with every engine")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="simulated, to plan"
    )
    parser.add_argument("--json", type=Path, help="also write the tables here")
    arguments = parser.parse_args()
    tables: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        hr_dir = arguments.hr_dir or work / "photos"
        if not arguments.hr_dir:
            export(hr_dir)
        if "1" in arguments.parts:
            tables["making"] = making(hr_dir, work, arguments.pairs, arguments.rounds)
            show(f"Making {arguments.pairs} pairs of {CROP} px, median of {arguments.rounds}", tables["making"])
        if "2" in arguments.parts:
            shards = work / "to-read"
            with SynthRun.open(hr_dir, shards, a_job(arguments.pairs // len(list(hr_dir.iterdir())))) as run:
                run.run(workers=2, progress=False)
            assert verify_shards(shards, sample=20).ok
            tables["reading"] = reading(shards, work, arguments.rounds)
            show("Reading, pairs per second", tables["reading"])
        if "3" in arguments.parts:
            (work / "headers").mkdir()
            headers = headers_of_photographs(work / "headers")
            tables["planning"] = [planning(count, headers) for count in arguments.images]
            show("Planning", tables["planning"])
    if arguments.json:
        arguments.json.write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
