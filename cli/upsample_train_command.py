"""`upsample train`: the options of a training run, in the spelling of diffusers and accelerate where they have one."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from cli.common import EXISTING, chosen_device, friendly

_WEIGHT = click.FloatRange(0)


@click.command()
@click.option("--out", "-o", "--output", "--output-dir", "out", type=click.Path(path_type=Path), required=True,
              metavar="DIR", help="Folder of the run.")  # fmt: skip
@click.option("--stage", type=click.Choice(["teacher", "student", "colearn"]), required=True,
              help="T-step teacher; student distilled to one step; student and degrader together.")  # fmt: skip
@click.option("--preset", type=click.Choice(["ci", "tiny", "paper"]), default="tiny", show_default=True,
              help="Sizes and schedule.")  # fmt: skip
@click.option("--shards", multiple=True, metavar="DIR|TARS", help="Pair shards, ours or anyone's; repeatable.")
@click.option("--pairs", nargs=2, type=EXISTING, multiple=True, metavar="HR_DIR LR_DIR",
              help="Paired folders; repeatable.")  # fmt: skip
@click.option("--recipe", "recipes", multiple=True, metavar="NAME|FILE", help="Classical recipe; repeatable.")
@click.option("--online-degrader", default="", metavar="NAME|DIR|HUB",
              help="Degrader that makes LR during training; in colearn it learns too.")  # fmt: skip
@click.option("--hr-dir", "-i", "--input", "hr_dir", type=EXISTING, metavar="PATH",
              help="HR photographs, for recipes and the online degrader.")  # fmt: skip
@click.option("--reference-dir", "reference_dirs", type=EXISTING, multiple=True, metavar="DIR",
              help="LR photographs whose looks the online degrader gives; repeatable.  [default: its own]")  # fmt: skip
@click.option("--weights", nargs=4, type=_WEIGHT, metavar="S P R O",
              help="How often shards, pairs, recipes, online are drawn.  [default: evenly]")  # fmt: skip
@click.option("--real-lr", multiple=True, type=EXISTING, metavar="DIR",
              help="Real LR without HR, for D_L; colearn; repeatable.")  # fmt: skip
@click.option("--val-pairs", nargs=2, type=EXISTING, metavar="HR_DIR LR_DIR",
              help="Score and show these during training.")  # fmt: skip
@click.option("--max-hr-side", type=click.IntRange(0), default=3000, show_default=True, metavar="PX",
              help="Area-reduce longer HR photographs by 2 until they fit; 0 = never.")  # fmt: skip
@click.option("--tones", type=click.FloatRange(0, 1),
              help="Share of samples with shuffled channels and less contrast.  [default: 0.5]")  # fmt: skip
@click.option("--teacher", default="", metavar="DIR|HUB", help="For student and colearn.")
@click.option("--from", "start_from", default="", metavar="NAME|DIR|HUB",
              help="Upsampler to go on from.  [default: a copy of the teacher]")  # fmt: skip
@click.option("--first-stage", default="", metavar="DIR|HUB",
              help="Trained diffusers autoencoder.  [default: pixel-unshuffle]")  # fmt: skip
@click.option("--scale", type=click.IntRange(2, 4), default=4, show_default=True)
@click.option("--hr-crop", "--resolution", "hr_crop", type=click.IntRange(8), metavar="PX",
              help="Side of HR crops.  [default: the preset's, made to fit the scale]")  # fmt: skip
@click.option("--steps", "--max-train-steps", "steps", type=click.IntRange(1), help="Updates.")
@click.option("--train-batch-size", "--batch-size", "batch_size", type=click.IntRange(1), help="Of each process.")
@click.option("--gradient-accumulation-steps", type=click.IntRange(1))
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True))
@click.option("--ema-decay", type=click.FloatRange(0, 1), help="0 = no averaging.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--num-train-timesteps", type=click.IntRange(1), help="T of a new teacher.")
@click.option("--kappa", type=click.FloatRange(min=0, min_open=True),
              help="Noise of a new teacher's chain: 1 for pixels, 2 for latents.")  # fmt: skip
@click.option("--min-noise-level", type=click.FloatRange(min=0, min_open=True),
              help="Of its first step: 0.04 for T = 15, 0.2 for T = 4.")  # fmt: skip
@click.option("--teacher-steps", type=click.IntRange(1), help="Network calls behind a teacher's target.")
@click.option("--stored-targets", type=click.IntRange(0), metavar="PAIRS",
              help="Student: make the teacher's targets of so many pairs once; 0 = at every step.")  # fmt: skip
@click.option("--distill", type=_WEIGHT, help="Weight; 0 switches it off, as with all below.")
@click.option("--inverse", type=_WEIGHT)
@click.option("--gt", type=_WEIGHT)
@click.option("--perceptual", type=_WEIGHT)
@click.option("--adversarial-hr", type=_WEIGHT, help="D_H.")
@click.option("--adversarial-lr", type=_WEIGHT, help="D_L.")
@click.option("--pair", type=_WEIGHT, help="The student on the degrader's pairs.")
@click.option("--cycle", type=_WEIGHT, help="LR -> SR -> LR.")
@click.option("--cycle-score", type=click.Choice(["energy", "l1"]))
@click.option("--cycle-gradient", type=_WEIGHT, help="Of the cycle, that reaches the student.")
@click.option("--guard-noise", type=_WEIGHT, help="On the SR before it is degraded.")
@click.option("--train-degrader/--freeze-degrader", default=None)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@click.option("--mixed-precision", type=click.Choice(["no", "bf16"]), default="no", show_default=True,
              help="bf16 is two to three times as fast on CPUs that have it.")  # fmt: skip
@click.option("--dataloader-num-workers", type=click.IntRange(0), default=1, show_default=True)
@click.option("--log-every", "--logging-steps", "log_every", type=click.IntRange(1), default=20, show_default=True,
              metavar="STEPS")  # fmt: skip
@click.option("--validation-steps", "validate_every", type=click.IntRange(1), default=500, show_default=True,
              metavar="STEPS", help="Scores, pictures, and the degrader's stop signal.")  # fmt: skip
@click.option("--checkpointing-steps", "checkpoint_every", type=click.IntRange(1), default=500, show_default=True,
              metavar="STEPS")  # fmt: skip
@click.option("--checkpoints-total-limit", type=click.IntRange(1), default=2, show_default=True)
@click.option("--resume", "--resume-from-checkpoint", "resume", default="", metavar="latest|FILE",
              help="Go on with the run in --out; the result is that of an unbroken run.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the resolved configuration and stop.")
@friendly
def train(
    out: Path, stage: Any, preset: str, shards: tuple[str, ...], pairs: tuple[tuple[Path, Path], ...],
    recipes: tuple[str, ...], online_degrader: str, hr_dir: Path | None,
    weights: tuple[float, float, float, float] | None, real_lr: tuple[Path, ...], val_pairs: tuple[Path, Path] | None,
    max_hr_side: int, reference_dirs: tuple[Path, ...], tones: float | None, adversarial_lr: float | None,
    device: str, mixed_precision: str, dataloader_num_workers: int,
    log_every: int, validate_every: int, checkpoint_every: int, checkpoints_total_limit: int, resume: str,
    dry_run: bool, **overrides: Any,
) -> None:  # fmt: skip
    """Train an upsampler: a teacher, then a one-step student, then student and degrader together.

    \b
      upsample train --stage teacher --out runs/teacher --pairs my_hr my_lr --hr-dir photos --online-degrader tiny-x4
      upsample train --stage student --out runs/student --teacher runs/teacher/teacher --shards shards
      upsample train --stage colearn --out runs/both --teacher runs/teacher/teacher --from runs/student/student \\
        --online-degrader tiny-x4 --hr-dir photos --recipe real-esrgan --real-lr my_camera

    torchrun --nproc-per-node 2 --no-python upsample train ... trains in two processes.
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    from dataclasses import asdict, replace

    from degrade.training.data import fitting_crop
    from upsample.training.config import preset as settings_of
    from upsample.training.data import PairConfig

    start = settings_of(preset, stage)
    data = PairConfig(
        shards=shards,
        pairs=tuple((str(hr), str(lr)) for hr, lr in pairs),
        recipes=recipes,
        online_degrader=online_degrader,
        hr_dir=str(hr_dir or ""),
        reference_dirs=tuple(map(str, reference_dirs)),
        weights=weights or start.data.weights,
        tones=start.data.tones if tones is None else tones,
        max_hr_side=max_hr_side,
    )
    given = {name: value for name, value in overrides.items() if value is not None}
    degrader = start.degrader if adversarial_lr is None else replace(start.degrader, adversarial=adversarial_lr)
    given.setdefault("hr_crop", fitting_crop(start.hr_crop, given["scale"]))
    config = replace(start, data=data, real_lr=tuple(map(str, real_lr)), degrader=degrader, **given)
    if dry_run:
        click.echo(json.dumps(asdict(config), indent=2))
        return
    from upsample.training.loop import train as run
    from upsample.training.run import RunOptions

    summary = run(
        config,
        out,
        RunOptions(
            device=chosen_device(device),
            mixed_precision=mixed_precision,
            resume=resume,
            log_every=log_every,
            validate_every=validate_every,
            checkpoint_every=checkpoint_every,
            checkpoints_total_limit=checkpoints_total_limit,
            loaders=dataloader_num_workers,
            val_pairs=(str(val_pairs[0]), str(val_pairs[1])) if val_pairs else (),
            command=" ".join(["upsample", *sys.argv[1:]]),
            progress=sys.stderr.isatty(),
        ),
    )
    if summary.pop("process"):
        return
    for reason in summary["left_out"]:
        click.echo(f"left out: {reason}", err=True)
    click.echo(json.dumps(summary, indent=2))
