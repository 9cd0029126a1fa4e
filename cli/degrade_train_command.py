"""`degrade train`: the options of a training run of the degrader."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from cli.common import EXISTING, PATH, chosen_device, friendly


@click.command()
@click.option("--out", "-o", "--output", "--output-dir", "out", type=PATH, required=True, metavar="DIR",
              help="Folder of the run.")  # fmt: skip
@click.option("--preset", type=click.Choice(["ci", "tiny", "fit", "paper"]),
              help="Sizes and schedule.  [default: fit with --from and --lr-dir, else tiny]")  # fmt: skip
@click.option("--hr-dir", "-i", "--input", "hr_dir", type=EXISTING, metavar="PATH",
              help="HR photographs, for recipes and unpaired LR.  [default: those of --lr-dir, reduced]")  # fmt: skip
@click.option(
    "--recipe", "recipes", multiple=True, metavar="NAME|FILE", help="Classical recipe to learn from; repeatable."
)
@click.option("--pairs", nargs=2, type=EXISTING, multiple=True, metavar="HR_DIR LR_DIR", help="Real pairs; repeatable.")
@click.option("--lr-dir", "lr_dirs", type=EXISTING, multiple=True, metavar="DIR",
              help="Real LR images without HR; repeatable.")  # fmt: skip
@click.option("--weights", nargs=3, type=click.FloatRange(0), metavar="R P U",
              help="How often recipes, pairs and unpaired LR are drawn.  [default: the preset's]")  # fmt: skip
@click.option("--max-hr-side", type=click.IntRange(0), default=3000, show_default=True, metavar="PX",
              help="Area-reduce longer HR photographs by 2 until they fit; 0 = never.")  # fmt: skip
@click.option("--from", "start_from", default="", metavar="NAME|DIR", help="Degrader to go on from, such as tiny-x4.")
@click.option("--scale", type=click.IntRange(2, 4), default=4, show_default=True)
@click.option("--hr-crop", "--resolution", "hr_crop", type=click.IntRange(16), metavar="PX",
              help="Side of HR crops, a multiple of 8 x scale.  [default: the preset's, made to fit]")  # fmt: skip
@click.option("--steps", "--max-train-steps", "steps", type=click.IntRange(1), help="Updates.  [default: the preset's]")
@click.option(
    "--train-batch-size", "--batch-size", "batch_size", type=click.IntRange(2), help="Even.  [default: the preset's]"
)
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), help="[default: the preset's]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@click.option("--mixed-precision", type=click.Choice(["no", "bf16"]), default="no", show_default=True,
              help="bf16 is two to three times as fast on CPUs that have it.")  # fmt: skip
@click.option("--dataloader-num-workers", type=click.IntRange(0), default=1, show_default=True)
@click.option("--log-every", type=click.IntRange(1), default=20, show_default=True, metavar="STEPS")
@click.option("--sample-every", type=click.IntRange(1), default=500, show_default=True, metavar="STEPS",
              help="Contact sheets of samples.")  # fmt: skip
@click.option("--save-every", "--checkpointing-steps", "save_every", type=click.IntRange(1), default=500,
              show_default=True, metavar="STEPS")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with the run in --out; the result is that of an unbroken run.")
@click.option("--dry-run", is_flag=True, help="Print the resolved configuration and stop.")
@friendly
def train(
    out: Path, preset: str | None, hr_dir: Path | None, recipes: tuple[str, ...], pairs: tuple[tuple[Path, Path], ...],
    lr_dirs: tuple[Path, ...], weights: tuple[float, float, float] | None, max_hr_side: int, device: str,
    mixed_precision: str, dataloader_num_workers: int, log_every: int, sample_every: int, save_every: int,
    resume: bool, dry_run: bool, **overrides: Any,
) -> None:  # fmt: skip
    """Train a degrader from recipes, from real pairs, from real LR images without partners, or from all of them.

    \b
      degrade train --out runs/a --hr-dir photos --recipe real-esrgan
      degrade train --out runs/b --pairs my_hr my_lr
      degrade train --out runs/c --lr-dir my_camera --from tiny-x4
      degrade synth --hr-dir photos --out shards --degrader runs/c/degrader
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    from dataclasses import asdict, replace

    from degrade.training.config import PRESETS
    from degrade.training.data import DataConfig, fitting_crop
    from degrade.training.loop import train

    preset = preset or ("fit" if lr_dirs and overrides["start_from"] else "tiny")
    start = PRESETS[preset]
    if lr_dirs and not (recipes or pairs):
        recipes = PRESETS["fit"].data.recipes
        click.echo(
            f"unpaired LR images cannot say how HR turns into LR; {' and '.join(recipes)} are added to teach it "
            "(--recipe chooses others)",
            err=True,
        )
    if lr_dirs and not hr_dir:
        click.echo("no --hr-dir: the images of --lr-dir, area-reduced by the scale, stand in for HR", err=True)
    data = DataConfig(
        hr_dir=str(hr_dir or ""),
        recipes=recipes,
        pairs=tuple((str(hr), str(lr)) for hr, lr in pairs),
        lr_dirs=tuple(map(str, lr_dirs)),
        weights=weights or start.data.weights,
        max_hr_side=max_hr_side,
    )
    given = {name: value for name, value in overrides.items() if value is not None}
    config = replace(start, data=data, **{"hr_crop": fitting_crop(start.hr_crop, overrides["scale"]), **given})
    if dry_run:
        click.echo(json.dumps(asdict(config), indent=2))
        return
    summary = train(
        config,
        out,
        device=chosen_device(device),
        mixed_precision=mixed_precision,
        resume=resume,
        log_every=log_every,
        sample_every=sample_every,
        save_every=save_every,
        loaders=dataloader_num_workers,
        command=" ".join(["degrade", *sys.argv[1:]]),
        progress=sys.stderr.isatty(),
    )
    for reason in summary["left_out"]:
        click.echo(f"left out: {reason}", err=True)
    click.echo(json.dumps(summary, indent=2))
