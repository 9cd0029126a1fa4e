"""`upsample fit`, and the words in which `upsample run --fit` tells of a fit."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from cli.common import DEVICE_HELP, EXISTING, PATH, chosen_device, chosen_precision, friendly
from cli.training_options import COUNT, POSITIVE


@click.command()
@click.argument("photographs", type=EXISTING, metavar="PHOTOS")
@click.option("--out", "-o", "--output", "out", type=PATH, required=True, metavar="DIR",
              help="The folder of the fit; its student/ is for --model of the other commands.")  # fmt: skip
@click.option("--hr-dir", type=EXISTING, metavar="PATH",
              help="HR photographs to learn from: a folder, a list or shards.  [default: PHOTOS]")  # fmt: skip
@click.option("--from", "start_from", default="tiny-x4", show_default=True, metavar="NAME|DIR|HUB",
              help="Upsampler to fit, of one step.")  # fmt: skip
@click.option("--degrader", default="tiny-x4", show_default=True, metavar="NAME|DIR|HUB",
              help="Degrader that makes the pairs.")  # fmt: skip
@click.option("--steps", type=COUNT, default=200, show_default=True, help="Optimizer steps.")
@click.option("--learning-rate", type=POSITIVE, default=1e-4, show_default=True, help="Its peak.")
@click.option("--strength", type=click.FloatRange(0, 1, min_open=True), default=0.25, show_default=True, metavar="S",
              help="How far the weights go to the fitted ones: 1 gains three times as much where the degrader "
                   "imitates the camera well, and does harm where it does not.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of every draw.")
@click.option("--device", default="auto", show_default=True, help=DEVICE_HELP)
@click.option("--mixed-precision", type=click.Choice(["auto", "no", "bf16"]), default="auto", show_default=True,
              help="bf16 is two to three times as fast on CPUs that have it; auto takes it there.")  # fmt: skip
@friendly
def fit(
    photographs: Path, out: Path, hr_dir: Path | None, start_from: str, degrader: str, steps: int,
    learning_rate: float, strength: float, seed: int, device: str, mixed_precision: str,
) -> None:  # fmt: skip
    """Fit the upsampler to LR photographs of one camera, without HR partners.

    The degrader takes its looks from PHOTOS, and the upsampler learns from pairs that it makes. The result is kept only
    if it restores other such pairs, with looks of photographs that were held back, better; else student/ holds
    the weights as they were. The same command again goes on where it was stopped.

    \b
      upsample fit my_camera -o runs/mine
      upsample run -i my_camera -o larger --model runs/mine/student
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    device = chosen_device(device)
    summary = fit_and_tell(
        photographs, out, hr_dir, device=device, mixed_precision=mixed_precision,
        start_from=start_from, degrader=degrader, steps=steps, learning_rate=learning_rate, strength=strength,
        seed=seed,
    )  # fmt: skip
    click.echo(json.dumps(summary, indent=2))


def fit_and_tell(
    photographs: Path, out: Path, hr_dir: Path | None, *, device: str, mixed_precision: str = "auto", **settings: Any
) -> dict[str, Any]:
    """Call `upsample.training.fit.fit`, and say on stderr what was left out and what was kept."""
    from degrade.training.loop import RunOptions
    from upsample.training.fit import fit as fit_upsampler

    progress = sys.stderr.isatty()
    precision = chosen_precision(mixed_precision, device)
    options = RunOptions(device=device, mixed_precision=precision, progress=progress, checkpoint_every=100)
    summary = fit_upsampler(photographs, out, hr_dir=str(hr_dir or ""), options=options, **settings)
    for reason in summary["left_out"]:
        click.echo(f"left out: {reason}", err=True)
    gained = (
        f"{summary['gain']:+.2f} dB ({summary['gain_error']:.2f} standard error) on pairs made with held-back looks"
    )
    if summary["kept"] == "fitted":
        click.echo(f"the fit is kept: {gained}", err=True)
    else:
        click.echo(f"the weights are kept as they were, because the fit is not clearly better: {gained}", err=True)
    return summary
