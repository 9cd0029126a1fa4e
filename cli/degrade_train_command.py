"""`degrade train`."""

import json
from pathlib import Path
from typing import Any

import click

from cli.common import EXISTING, friendly
from cli.training_options import WEIGHT, how_to_run, run_folder, run_options, split, what_to_train


@click.command()
@what_to_train
@click.option("--preset", type=click.Choice(["ci", "tiny", "fit", "paper"]),
              help="Sizes and schedule.  [default: fit with --from and --lr-dir, else tiny]")  # fmt: skip
@click.option("--from", "start_from", metavar="NAME|DIR|HUB", help="Degrader to start from, such as tiny-x4.")
@click.option("--lr-dir", "data__lr_dirs", type=EXISTING, multiple=True, metavar="DIR",
              help="Real LR images without HR; repeatable. Without --hr-dir they stand in for HR, area-reduced.",
              )  # fmt: skip
@click.option("--weights", "data__weights", nargs=3, type=WEIGHT, metavar="R P U",
              help="How often recipes, pairs and unpaired LR are drawn.  [default: the preset's]")  # fmt: skip
@how_to_run
@friendly
def train(out: Path | None, config_file: Path | None, preset: str | None, dry_run: bool, **options: Any) -> None:
    """Train a degrader from recipes, from real pairs, from real LR images without partners, or from all of them.

    \b
      degrade train --out runs/a --hr-dir photos --recipe real-esrgan
      degrade train --out runs/b --pairs my_hr my_lr
      degrade train --out runs/c --lr-dir my_camera --from tiny-x4
      degrade synth --hr-dir photos --out shards --degrader runs/c/degrader

    torchrun --nproc-per-node 2 --no-python degrade train ... trains in two processes.
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    from degrade.training.config import config_from_options
    from degrade.training.config_file import config_text

    given, run = split(options)
    config, notes = config_from_options(preset, config_file, given)
    for note in notes:
        click.echo(note, err=True)
    out = run_folder(out, "degrade")
    if dry_run:
        click.echo(config_text(config), nl=False)
        return
    from degrade.training.run import train as run_training

    summary = run_training(config, out, run_options(run))
    if summary.pop("process"):
        return
    for reason in summary["left_out"]:
        click.echo(f"left out: {reason}", err=True)
    click.echo(json.dumps(summary, indent=2))
