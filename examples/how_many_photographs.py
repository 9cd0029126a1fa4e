"""Measure how many photographs of one's own camera `degrade fit` needs.

    python examples/how_many_photographs.py --hr-dir data/hr/cid22 --counts 2 5 10 20 49 --out runs/how-many

The camera is that of hidden_world.py. The fit sees so many of its LR photographs, without their HR, drawn for each
repetition anew; LR made of the HR of other photographs is compared with their true LR, as in measure_degrader_fit.py.
The table has the distances over those without a fit, the mean over the repetitions, and the seconds of a fit.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from comparison.makes import link
from comparison.table import markdown
from degrade.files.store import write_atomic
from hidden_world import make_world
from measure_degrader_fit import measure


def main() -> None:
    """Fit to each number of photographs, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hr-dir", type=Path, required=True, help="HR photographs to make the hidden world of")
    parser.add_argument("--counts", type=int, nargs="+", default=[2, 5, 10, 20])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--degrader", default="tiny-x4", metavar="NAME|DIR")
    parser.add_argument("--crops", type=int, default=64)
    parser.add_argument("--out", "-o", type=Path, required=True)
    options = parser.parse_args()
    world = options.out / "world"
    make_world(options.hr_dir, world, seed=0)
    photographs = sorted((world / "given_lr").iterdir())
    if max(options.counts) > len(photographs):
        raise ValueError(
            f"--counts {max(options.counts)} is more than the {len(photographs)} photographs that the fit may see; "
            "give a smaller one or more --hr-dir photographs"
        )
    hr, lr = world / "truth" / "hr", world / "truth" / "lr"
    ratios: dict[int, list[dict[str, float]]] = {}
    for count in options.counts:
        for seed in range(options.repetitions):
            out = options.out / f"{count}-{seed}"
            chosen = np.random.default_rng(seed).permutation(len(photographs))[:count]
            own = link([photographs[number] for number in sorted(chosen)], out / "own_lr")
            figures = measure(hr, lr, own, out, options.degrader, options.crops)
            ratio = {metric: figures["fitted"][metric] / before for metric, before in figures["before"].items()}
            ratios.setdefault(count, []).append(ratio | {"seconds": figures["fit"]["seconds"]})
    names = list(ratios[options.counts[0]][0])
    lines = [
        [str(count), *(f"{np.mean([each[name] for each in runs]):.2f}" for name in names)]
        for count, runs in ratios.items()
    ]
    write_atomic(options.out / "figures.json", json.dumps(ratios, indent=1).encode())
    print(markdown(["photographs", *names], lines), end="")


if __name__ == "__main__":
    try:
        main()
    except ValueError as err:
        raise SystemExit(f"error: {err}") from None
