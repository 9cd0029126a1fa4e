"""Find the directions "blur", "noise" and "jpeg" of a degrader, and save them with its weights.

    python examples/find_directions.py --degrader tiny-x4 --hr-dir photos --out degrade/weights/tiny-x4

`degrade train` does this for the weights that it writes; this is for weights that lack them.
"""

import argparse
from pathlib import Path

from degrade import RealisticDegrader
from degrade.files.sources import list_sources
from degrade.images.crops import ImagePool
from degrade.images.tensors import to_tensors
from degrade.training.directions import find_directions


def main() -> None:
    """Find the directions, and print how long they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--degrader", default="tiny-x4")
    parser.add_argument("--hr-dir", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--crops", type=int, default=120)
    parser.add_argument("--samples", type=int, default=900)
    options = parser.parse_args()
    degrader = RealisticDegrader.from_pretrained(options.degrader).eval()
    side = 96 * degrader.config.scale
    pool = ImagePool.open(list_sources(options.hr_dir), min_side=side, max_side=3000)
    directions = find_directions(degrader, to_tensors(pool.crops(options.crops, side, seed=0)), samples=options.samples)
    degrader.set_directions(directions)
    degrader.save_pretrained(options.out)
    for name, direction in zip(("blur", "noise", "jpeg"), directions, strict=True):
        print(f"{name}: length {direction.norm():.2f}, bank {degrader.bank.std(0).norm():.2f}")


if __name__ == "__main__":
    main()
