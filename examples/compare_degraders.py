"""Compare degraders on real pairs: told the look by another part of the LR photograph, is their LR like the true LR?

    python examples/compare_degraders.py data/real_pairs/val/hr data/real_pairs/val/lr tiny-x4 runs/mine/degrader \
      --picture looks.png

The table has, for each degrader and for recipes, how the change of noise, sharpness and blockiness correlates with that
of the true LR, and the energy of the high-pass band and of the top quarter of the spectrum, made over true (1 is best).
The picture shows a crop of some photographs with most detail at four times its size: true LR, and what each makes of
the HR.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from degrade import RealisticDegrader
from degrade.files.store import write_atomic
from degrade.images.codec import encode_image
from degrade.images.contact_sheet import contact_sheet
from degrade.images.geometry import Rgb
from degrade.images.tensors import to_tensors
from degrade.mix import DegradationMix
from degrade.networks.texture import high_pass
from degrade.realism.columns import Column
from degrade.realism.control import KnownPairs, control, crop_real_pairs, make_of_pairs

SIDE = 64  # of the LR crops
ZOOM = 4


def busiest_of_photographs(pairs: KnownPairs, count: int) -> list[int]:
    """Choose the crop with most detail of photographs that lie evenly in the list; the numbers of the crops."""
    detail = high_pass(to_tensors(pairs.lr)).square().mean((1, 2, 3)).numpy()
    images = np.asarray(pairs.images)
    photographs = np.unique(images)
    some = photographs[np.linspace(0, len(photographs) - 1, min(count, len(photographs))).round().astype(int)]
    return [int(max(np.flatnonzero(images == photograph), key=lambda crop: detail[crop])) for photograph in some]


def show(pairs: KnownPairs, mixes: dict[str, DegradationMix], count: int, seed: int) -> Rgb:
    """Draw the chosen crops: HR, true LR, what each degrader makes when it is told the look, and two recipes."""
    chosen = busiest_of_photographs(pairs, count)
    some = KnownPairs(pairs.hr[chosen], pairs.lr[chosen], pairs.reference[chosen], range(len(chosen)))
    columns = {"true LR": some.lr}
    for name, mix in mixes.items():
        made = make_of_pairs(some, mix, seed=seed)
        columns[name] = made[Column.OURS_LIKE]
    columns |= {"Real-ESRGAN": made[Column.REAL_ESRGAN], "bicubic": made[Column.BICUBIC]}
    rows = [[hr, *crops] for hr, *crops in zip(some.hr, *columns.values(), strict=True)]
    return contact_sheet(rows, column_titles=["HR", *columns], cell_px=ZOOM * SIDE)


def main() -> None:
    """Print the table, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hr_dir", type=Path)
    parser.add_argument("lr_dir", type=Path, help="LR images with the same names")
    parser.add_argument("degraders", nargs="+", metavar="NAME|DIR")
    parser.add_argument("--picture", type=Path, help="write some crops side by side to this png")
    parser.add_argument("--rows", type=int, default=6, help="photographs in the picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    mixes = {}
    for name in options.degraders:
        degrader = RealisticDegrader.from_pretrained(name).eval()
        mixes[name] = DegradationMix(degrader, None, scale=degrader.config.scale)
    scale = next(iter(mixes.values())).scale
    pairs, left_out = crop_real_pairs(options.hr_dir, options.lr_dir, scale=scale, side=SIDE)
    figures = {}
    for name, mix in mixes.items():
        measured = control(pairs, mix, seed=options.seed)
        figures[name] = {metric: of_column[Column.OURS_LIKE] for metric, of_column in measured.items()}
    for column in (Column.REAL_ESRGAN, Column.LIGHT, Column.BICUBIC):
        figures[str(column)] = {metric: of_column[column] for metric, of_column in measured.items()}
    print("| | " + " | ".join(measured) + " |\n" + "|---" * (len(measured) + 1) + "|")
    for name, each in figures.items():
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in each.values()) + " |")
    print(f"{len(pairs.lr)} crops; left out: {'; '.join(left_out) or 'nothing'}")
    if options.picture:
        write_atomic(options.picture, encode_image(show(pairs, mixes, options.rows, options.seed), "png"))
    if options.json:
        write_atomic(options.json, json.dumps(figures, indent=1).encode())


if __name__ == "__main__":
    main()
