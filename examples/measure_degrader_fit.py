"""Measure what `degrade fit` gains: fit to the LR of one half of a make's photographs, and judge on the other half.

    python examples/measure_degrader_fit.py --out runs/measure-degrader-fit --hidden-hr photos \
      --pairs data/real_pairs/train/hr data/real_pairs/train/lr --pairs data/real_pairs/val/hr data/real_pairs/val/lr

Made LR shows the scenes of the real LR that it is compared with, because it is made of their HR partners. The columns
are the looks that the degrader had, those of the fit, those of the very photographs that are judged by (which no fit
can know), and the real LR of the first half. ``--hidden-hr`` adds the world of hidden_world.py, made of these
photographs. Each make is measured both ways round, and the figures are averaged.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from comparison.makes import halves, link, link_pairs, split_makes
from degrade import RealisticDegrader
from degrade.files.sources import list_sources
from degrade.files.store import write_atomic
from degrade.fit import fit
from degrade.images.crops import BANK_SIDE, ImagePool
from degrade.mix import DegradationMix
from degrade.ops.compress import JPEG_BLOCK
from degrade.realism.nearness import set_distances
from degrade.realism.sets import codes_of, make
from hidden_world import make_world

COLUMNS = ("before", "fitted", "own looks", "other photographs")


def measure(hr_dir: Path, lr_dir: Path, own_lr: Path, out: Path, degrader: str, crops: int) -> dict[str, dict]:
    """Fit to ``own_lr``, and return the distances of each column from the real LR of the pairs."""
    fitted = fit(own_lr, out / "fit", hr_dir=str(hr_dir), degrader=degrader)
    pools = [ImagePool.open(list_sources(folder), min_side=side)
             for folder, side in ((hr_dir, 4 * BANK_SIDE), (lr_dir, BANK_SIDE), (own_lr, BANK_SIDE))]  # fmt: skip
    hr = pools[0].crops(crops, 4 * BANK_SIDE, seed=1)
    real, other = (pool.crops(crops, BANK_SIDE, seed=1, grid=JPEG_BLOCK) for pool in pools[1:])
    before, after = (RealisticDegrader.from_pretrained(name).eval() for name in (degrader, fitted["degrader"]))
    own = DegradationMix(before, None, codes=codes_of(real, DegradationMix(before, None)))
    mixes = (DegradationMix(before, None), DegradationMix(after, None), own)
    with torch.inference_mode():
        sets = [*(make(hr, mix, seed=0) for mix in mixes), other]
    figures = {name: set_distances(real, other, made) for name, made in zip(COLUMNS, sets, strict=True)}
    return {**figures, "fit": {"ratio": fitted.get("ratio", float("nan")), "seconds": fitted["seconds"]}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every make, both ways round, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, nargs=2, action="append", required=True, metavar=("HR_DIR", "LR_DIR"))
    parser.add_argument("--hidden-hr", type=Path, help="HR photographs to make the hidden world of")
    parser.add_argument("--degrader", default="tiny-x4")
    parser.add_argument("--crops", type=int, default=96)
    parser.add_argument("--out", "-o", type=Path, required=True)
    given = parser.parse_args(arguments)
    figures: dict[str, list[dict[str, dict]]] = {}
    for name, (hr_dir, lr_dir) in split_makes(given.pairs, given.out / "pairs").items():
        both = halves(hr_dir, lr_dir)
        for number, (seen, judged) in enumerate((both, both[::-1])):
            out = given.out / f"{name}-{number}"
            hr, lr = link_pairs(judged, out)
            own = link([pair[1] for pair in seen], out / "own_lr")
            figures.setdefault(name, []).append(measure(hr, lr, own, out, given.degrader, given.crops))
    if given.hidden_hr:
        world = given.out / "world"
        make_world(given.hidden_hr, world, seed=0)
        truth = world / "truth"
        own = world / "given_lr"
        figures["hidden"] = [
            measure(truth / "hr", truth / "lr", own, given.out / "hidden", given.degrader, given.crops)
        ]
    metrics = list(figures["Sony"][0]["before"])
    lines = ["| make | distance | " + " | ".join(COLUMNS) + " |", "|---" * (2 + len(COLUMNS)) + "|"]
    for name, runs in figures.items():
        for metric in metrics:
            cells = (f"{np.mean([run[column][metric] for run in runs]):.3f}" for column in COLUMNS)
            lines.append(f"| {name} | {metric} | " + " | ".join(cells) + " |")
    seconds = np.mean([run["fit"]["seconds"] for runs in figures.values() for run in runs])
    text = "\n".join(lines)
    write_atomic(given.out / "figures.json", json.dumps(figures, indent=2).encode())
    print(f"{text}\n\na fit takes {seconds:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except ValueError as err:
        raise SystemExit(f"error: {err}") from None
