"""`upsample train`."""

import json
from pathlib import Path
from typing import Any

import click

from cli.common import EXISTING, friendly
from cli.training_options import COUNT, POSITIVE, WEIGHT, how_to_run, run_folder, run_options, split, what_to_train


@click.command()
@what_to_train
@click.option("--stage", type=click.Choice(["teacher", "student", "colearn"]),
              help="T-step teacher; student distilled to one step; student and degrader together.  "
                   "[default: colearn, from the shipped networks]")  # fmt: skip
@click.option("--preset", type=click.Choice(["ci", "tiny", "paper"]), default="tiny", show_default=True,
              help="Sizes and schedule.")  # fmt: skip
@click.option("--shards", "data__shards", multiple=True, metavar="DIR|TARS",
              help="Pair shards, ours or anyone's; repeatable.")  # fmt: skip
@click.option("--online-degrader", "data__online_degrader", is_flag=False, flag_value="tiny-x4", default=None,
              metavar="[NAME|DIR|HUB]",
              help="Degrader that makes LR during training, the shipped one if no name follows; in colearn it learns "
                   "too.")  # fmt: skip
@click.option("--reference-dir", "data__reference_dirs", type=EXISTING, multiple=True, metavar="DIR",
              help="LR photographs whose looks the online degrader gives; repeatable.  [default: its own]")  # fmt: skip
@click.option("--weights", "data__weights", nargs=4, type=WEIGHT, metavar="S P R O",
              help="How often shards, pairs, recipes and online pairs are drawn.  [default: evenly]")  # fmt: skip
@click.option("--tones", "data__tones", type=click.FloatRange(0, 1),
              help="Share of samples with shuffled channels and less contrast.  [default: 0.5]")  # fmt: skip
@click.option("--real-lr", multiple=True, type=EXISTING, metavar="DIR",
              help="Real LR without HR, for D_L; colearn; repeatable.")  # fmt: skip
@click.option("--val-pairs", nargs=2, type=EXISTING, metavar="HR_DIR LR_DIR",
              help="Score and show these during training.")  # fmt: skip
@click.option("--teacher", metavar="NAME|DIR|HUB", help="The teacher of student and colearn.")
@click.option("--from", "start_from", metavar="NAME|DIR|HUB",
              help="Upsampler to start from.  [default: teacher: a new one; student: a copy of the teacher; colearn: "
                   "tiny-x4, or a copy of the teacher that is given]")  # fmt: skip
@click.option("--first-stage", metavar="DIR|HUB",
              help="Trained diffusers autoencoder.  [default: pixel-unshuffle]")  # fmt: skip
@click.option("--num-train-timesteps", "size__num_train_timesteps", type=COUNT, help="T of a new teacher.")
@click.option("--kappa", "size__kappa", type=POSITIVE,
              help="Noise of a new teacher's chain: 1 for pixels, 2 for latents.")  # fmt: skip
@click.option("--min-noise-level", "size__min_noise_level", type=POSITIVE,
              help="Noise of its first step: 0.04 for T = 15, 0.2 for T = 4.")  # fmt: skip
@click.option("--teacher-steps", type=COUNT, help="Network calls behind a teacher's answer.")
@click.option("--stored-answers", type=click.IntRange(0), metavar="PAIRS",
              help="Student: make the teacher's answers for so many pairs once; 0 = at every step.")  # fmt: skip
@click.option("--distill", "loss__distill", type=WEIGHT,
              help="Weight of the teacher's answer. 0 switches it off, as with all weights below.")  # fmt: skip
@click.option("--inverse", "loss__inverse", type=WEIGHT, help="Weight of the inverse, SinSR's second term.")
@click.option("--gt", "loss__gt", type=WEIGHT, help="Weight of the truth on given pairs.")
@click.option("--perceptual", "loss__perceptual", type=WEIGHT, help="Weight of the multi-scale gradient loss.")
@click.option("--adversarial-hr", "loss__adversarial_hr", type=WEIGHT, help="Weight of D_H.")
@click.option("--projected-critic/--patch-critic", "projected_critic", default=None,
              help="Whether D_H sees through pretrained features (extra perceptual).  [default: patch]")  # fmt: skip
@click.option("--detail-branch", "detail__branch", is_flag=True, default=None,
              help="Train a detail branch beside the student, for upsample run --detail; colearn.")  # fmt: skip
@click.option("--detail-features", "detail__features", type=WEIGHT,
              help="Weight of its distance of pretrained features (extra perceptual).")  # fmt: skip
@click.option("--train-student/--freeze-student", "student_learns", default=None,
              help="Whether the student learns in colearn, or its branch alone.  [default: it does]")  # fmt: skip
@click.option("--adversarial-lr", "degrader__loss__adversarial", type=WEIGHT, help="Weight of D_L.")
@click.option("--pair", "loss__pair", type=WEIGHT, help="Weight of the truth on pairs that the degrader makes.")
@click.option("--cycle", "cycle__weight", type=WEIGHT, help="Weight of the cycle LR -> SR -> LR.")
@click.option("--cycle-score", "cycle__score", type=click.Choice(["energy", "l1"]), help="How the cycle compares LR.")
@click.option("--cycle-gradient", "cycle__gradient", type=WEIGHT,
              help="Factor on the cycle's gradient that reaches the student.")  # fmt: skip
@click.option("--guard-noise", "cycle__guard_noise", type=WEIGHT,
              help="Noise on the SR before it is degraded, in [-1, 1].")  # fmt: skip
@click.option("--train-degrader/--freeze-degrader", "degrader__train", default=None,
              help="Whether the degrader learns in colearn.  [default: it does]")  # fmt: skip
@how_to_run
@friendly
def train(
    out: Path | None,
    config_file: Path | None,
    preset: str,
    val_pairs: tuple[Path, Path] | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Train an upsampler: a teacher, then a one-step student, then student and degrader together.

    \b
      upsample train --online-degrader --hr-dir photos
      upsample train --stage teacher --out runs/teacher --pairs my_hr my_lr --hr-dir photos --online-degrader tiny-x4
      upsample train --stage student --out runs/student --teacher runs/teacher/teacher --shards shards
      upsample train --stage colearn --out runs/both --teacher runs/teacher/teacher --from runs/student/student \\
        --online-degrader tiny-x4 --hr-dir photos --recipe real-esrgan --real-lr my_camera

    torchrun --nproc-per-node 2 --no-python upsample train ... trains in two processes.
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    from degrade.training.config_file import config_text
    from upsample.training.config import config_from_options

    given, run = split(options)
    config = config_from_options(preset, config_file, given)
    out = run_folder(out, config.stage)
    if dry_run:
        click.echo(config_text(config), nl=False)
        return
    from upsample.training.run import train as run_training

    if config.start_from and not given.get("start_from"):
        click.echo(f"starts from {config.start_from}; --from names another upsampler", err=True)
    pairs = (str(val_pairs[0]), str(val_pairs[1])) if val_pairs else None
    summary = run_training(config, out, run_options(run), val_pairs=pairs)
    if summary.pop("process"):
        return
    for reason in summary["left_out"]:
        click.echo(f"left out: {reason}", err=True)
    click.echo(json.dumps(summary, indent=2))
