"""`degrade fit`."""

import json
from pathlib import Path
from typing import Any

import click

from cli.common import EXISTING, PATH, friendly


@click.command()
@click.argument("photographs", type=EXISTING, metavar="PHOTOS")
@click.option("--out", "-o", "--output", "out", type=PATH, required=True, metavar="DIR",
              help="The folder of the fit; its degrader/ is for --degrader of the other commands.")  # fmt: skip
@click.option("--hr-dir", type=EXISTING, metavar="PATH",
              help="HR photographs to check with: a folder, a list or shards.  [default: PHOTOS, area-reduced]",
              )  # fmt: skip
@click.option("--degrader", default="tiny-x4", show_default=True, metavar="NAME|DIR|HUB", help="Degrader to fit.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of every draw.")
@friendly
def fit(photographs: Path, out: Path, hr_dir: Path | None, degrader: str, seed: int) -> None:
    """Give the degrader the looks of LR photographs of one camera, without HR partners. It takes seconds.

    Every fourth photograph is held back, and the summary says how far made LR lies from these with the looks that the
    degrader had, and with those of the other photographs. Looks that lie further away are not taken over.

    \b
      degrade fit my_camera -o runs/mine --hr-dir photos
      degrade synth --hr-dir photos --out shards --degrader runs/mine/degrader
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    from degrade.fit import fit as fit_degrader

    summary = fit_degrader(photographs, out, hr_dir=str(hr_dir or ""), degrader=degrader, seed=seed)
    for reason in summary["left_out"]:
        click.echo(f"left out: {reason}", err=True)
    click.echo(_verdict(summary), err=True)
    click.echo(json.dumps(summary, indent=2))


def _verdict(summary: dict[str, Any]) -> str:
    if not summary["held_back"]:
        return (
            f"{summary['codes']} looks are taken over; with eight photographs of 64 px or more, they would be checked"
        )
    change = f"{100 * (1 - summary['ratio']):.0f} % nearer to photographs that were held back"
    if summary["kept"] == "fitted":
        return f"{summary['codes']} looks are taken over: made LR is {change}"
    return (
        f"the degrader keeps its looks, because those of the photographs are no nearer to the ones held back: {change}"
    )
