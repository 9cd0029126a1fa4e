"""Does it pay to choose training pairs by how severe their degradation is?

Every pair of a shard says how far its LR is from the clean downsampling of its HR (``psnr_to_clean``). The same small
network is trained on the same shards of the learned degrader, the pairs drawn in four ways: as they come, the same
number of each severity, from mild to severe as training goes on, and the milder half alone.

    python examples/severity.py --data data --out runs/results/severity --shards runs/results/camera/shards/ours

Needs what deciding_table.py needs. Run again, it goes on where it stopped. It prints table.md, which it writes.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import webdataset as wds
from torch import Tensor

from comparison.arms import identity
from comparison.compact_network import load_compact_network, train_compact_network
from comparison.processes import run_all
from comparison.scores import TestImages, keep_scores, kept_scores
from comparison.table import row_of, table_of_arms
from comparison.worlds import camera_world
from degrade import read_pairs
from degrade.files.store import write_atomic
from upsample.training.data import PairConfig

ORDERS = {
    "uniform": "as they come",
    "balanced": "as many of each severity",
    "curriculum": "from mild to severe",
    "mild": "the milder half alone",
}
STEPS, BATCH = 1_000, 16
BUFFER = (
    4_000  # pairs in the shuffle buffer, as files: most of the set, for shards go through their photographs in turn
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, score it, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with real_pairs, real_lr and iqa")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shards", type=Path, required=True, help="of deciding_table.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2, help="trainings at once, one thread each")
    parser.add_argument("--mixed-precision", choices=["no", "bf16"], default="no")
    given = parser.parse_args(arguments)
    shared = (given.data, given.out, given.shards, given.mixed_precision)
    calls = [(*shared, order, seed) for seed in given.seeds for order in ORDERS]
    run_all(train_and_score, calls, workers=given.workers, title="severity")
    print(write_table(given.out, given.shards, given.mixed_precision, given.seeds))


def train_and_score(data: Path, out: Path, shards: Path, mixed_precision: str, order: str, seed: int) -> None:
    """One run; nothing when its scores are there."""
    torch.set_num_threads(1)
    folder = out / order / f"seed-{seed}"
    settings = run_settings(shards, mixed_precision, order, seed)
    if kept_scores(folder / "scores.json", settings) is not None:
        return
    began = time.monotonic()
    batches = batches_of(order, shards, seed)
    file = folder / "small.safetensors"
    train_compact_network(lambda _: next(batches), file, steps=STEPS, seed=seed, mixed_precision=mixed_precision)
    seconds = time.monotonic() - began
    tests = TestImages(camera_world(data), data / "iqa" / "niqe_modelparameters.mat")
    keep_scores(folder / "scores.json", settings, tests.score(load_compact_network(file)), seconds)


def run_settings(shards: Path, mixed_precision: str, order: str, seed: int) -> dict[str, object]:
    """What decides the scores of a run, to be kept beside them."""
    pairs = identity(PairConfig(shards=(str(shards),)))
    return {"order": order, "seed": seed, "steps": STEPS, "mixed_precision": mixed_precision, "pairs": pairs}


def severities(shards: Path) -> list[float]:
    """psnr_to_clean of every pair in dB, sorted: the most severe first."""
    found: list[float] = []

    def note(meta: dict[str, float]) -> bool:
        found.append(meta["psnr_to_clean"])
        return False  # the record is enough, no image is decoded

    for _ in read_pairs(shards, where=note):
        pass
    return sorted(found)


def batches_of(order: str, shards: Path, seed: int) -> Iterator[dict[str, Tensor]]:
    """Endless batches of hr and lr, drawn in one of the four ways."""
    third, half, two_thirds = np.quantile(severities(shards), [1 / 3, 1 / 2, 2 / 3])
    if order == "uniform":
        yield from _batches(_pairs(shards, seed))
    elif order == "mild":
        yield from _batches(_pairs(shards, seed, lambda meta: meta["psnr_to_clean"] >= half))
    elif order == "balanced":
        # Bins of equal width in dB, not of equal number: those would be uniform again.
        found = np.array(severities(shards))
        edges = [-np.inf, *np.linspace(*np.quantile(found, [0.02, 0.98]), 5)[1:-1], np.inf]
        bins = [(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True) if ((found >= a) & (found < b)).any()]
        streams = [_pairs(shards, seed, lambda meta, a=a, b=b: a <= meta["psnr_to_clean"] < b) for a, b in bins]
        yield from _batches(_in_turn(streams))
    else:
        for number, mildest in enumerate((two_thirds, third)):
            pairs = _pairs(shards, seed + 1000 * number, lambda meta, low=mildest: meta["psnr_to_clean"] >= low)
            batches = _batches(pairs)
            for _ in range(STEPS // 3):
                yield next(batches)
        yield from _batches(_pairs(shards, seed + 2000))


def _pairs(shards: Path, seed: int, where: Callable[[dict[str, float]], bool] | None = None) -> wds.DataPipeline:
    return read_pairs(shards, shuffle=BUFFER, seed=seed, resampled=True, where=where)


def _in_turn(streams: Sequence[Iterable[dict[str, Tensor]]]) -> Iterator[dict[str, Tensor]]:
    iterators = [iter(stream) for stream in streams]
    while True:
        yield from (next(iterator) for iterator in iterators)


def _batches(pairs: Iterable[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    batch: list[dict[str, Tensor]] = []
    for pair in pairs:
        batch.append(pair)
        if len(batch) == BATCH:
            yield {name: torch.stack([one[name] for one in batch]) for name in ("hr", "lr")}
            batch = []


def write_table(out: Path, shards: Path, mixed_precision: str, seeds: Sequence[int]) -> str:
    """table.md, of the runs that are finished."""
    rows = {}
    for order, title in ORDERS.items():
        runs = {out / order / f"seed-{seed}": run_settings(shards, mixed_precision, order, seed) for seed in seeds}
        kept = [scores for run, of in runs.items() if (scores := kept_scores(run / "scores.json", of)) is not None]
        if kept:
            rows[order] = row_of(title, kept)
    found = severities(shards)
    quarters = ", ".join(f"{value:.1f}" for value in np.quantile(found, [0.02, 0.25, 0.5, 0.75, 0.98]))
    text = (
        f"{len(found)} pairs; psnr_to_clean at 2, 25, 50, 75 and 98 %: {quarters} dB. {STEPS} steps.\n\n"
        + table_of_arms(rows, reference="uniform", oracle="")
    )
    write_atomic(out / "table.md", text.encode())
    return text


if __name__ == "__main__":
    try:
        main()
    except ValueError as err:
        raise SystemExit(f"error: {err}") from None
