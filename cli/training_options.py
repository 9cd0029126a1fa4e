"""The options that `degrade train` and `upsample train` share, in the spelling of diffusers and accelerate.

The name of a parameter says where its value goes: ``schedule__steps`` is ``schedule.steps`` of the settings, and
``run__log_every`` is ``log_every`` of the run's options.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.common import DEVICE_HELP, EXISTING, PATH, chosen_device, chosen_precision

if TYPE_CHECKING:
    from degrade.training.loop import RunOptions

WEIGHT = click.FloatRange(0)
POSITIVE = click.FloatRange(min=0, min_open=True)
COUNT = click.IntRange(1)

_WHAT = [
    click.option("--out", "-o", "--output", "--output-dir", "out", type=PATH, metavar="DIR",
                 help="The folder of the run.  [default: runs/ and what is trained, such as runs/colearn]"),
    click.option("--config", "config_file", type=EXISTING, metavar="FILE",
                 help="Settings from a YAML or TOML file, over those of the preset; options win over both. "
                      "--dry-run prints such a file."),
    click.option("--hr-dir", "-i", "--input", "data__hr_dir", type=EXISTING, metavar="PATH",
                 help="HR photographs: a folder, a list or shards."),
    click.option("--recipe", "data__recipes", multiple=True, metavar="NAME|FILE",
                 help="A classical recipe that makes LR images; repeatable."),
    click.option("--pairs", "data__pairs", nargs=2, type=EXISTING, multiple=True, metavar="HR_DIR LR_DIR",
                 help="Folders of real pairs; repeatable."),
    click.option("--max-hr-side", "data__max_hr_side", type=click.IntRange(0), metavar="PX",
                 help="Area-reduce longer HR photographs by 2 until they fit; 0 = never.  [default: 3000]"),
    click.option("--scale", type=click.IntRange(1, 4), help="HR side / LR side.  [default: 4]"),
    click.option("--hr-crop", "--resolution", "schedule__hr_crop", type=click.IntRange(8), metavar="PX",
                 help="Side of the HR crops, a multiple of 8 x scale.  [default: the preset's, made to fit the scale]"),
    click.option("--steps", "--max-train-steps", "schedule__steps", type=COUNT,
                 help="Optimizer steps.  [default: the preset's]"),
    click.option("--train-batch-size", "--batch-size", "schedule__batch_size", type=COUNT,
                 help="Samples of each process in a micro-batch.  [default: the preset's]"),
    click.option("--gradient-accumulation-steps", "schedule__gradient_accumulation_steps", type=COUNT,
                 help="Micro-batches in a step.  [default: 1]"),
    click.option("--learning-rate", "schedule__learning_rate", type=POSITIVE, help="[default: the preset's]"),
    click.option("--ema-decay", "schedule__ema_decay", type=click.FloatRange(0, 1),
                 help="Moving average of the weights; 0 = none.  [default: the preset's]"),
    click.option("--seed", "schedule__seed", type=click.IntRange(0), help="Seed of every draw.  [default: 0]"),
]  # fmt: skip
_HOW = [
    click.option("--device", "run__device", default="auto", show_default=True, help=DEVICE_HELP),
    click.option("--mixed-precision", "run__mixed_precision", type=click.Choice(["no", "bf16", "auto"]),
                 default="no", show_default=True,
                 help="bf16 is two to three times as fast on CPUs that have it; auto takes it there."),
    click.option("--dataloader-num-workers", "run__loaders", type=click.IntRange(0), default=1, show_default=True,
                 help="Processes that make batches."),
    click.option("--log-every", "--logging-steps", "run__log_every", type=COUNT, default=20, show_default=True,
                 metavar="STEPS", help="Steps between lines of metrics.jsonl."),
    click.option("--validation-steps", "run__validate_every", type=COUNT, default=500, show_default=True,
                 metavar="STEPS", help="Steps between scores and pictures."),
    click.option("--checkpointing-steps", "run__checkpoint_every", type=COUNT, default=500, show_default=True,
                 metavar="STEPS", help="Steps between checkpoints."),
    click.option("--checkpoints-total-limit", "run__checkpoints_total_limit", type=COUNT, default=2, show_default=True,
                 help="Checkpoints that are kept, the newest."),
    click.option("--resume", "--resume-from-checkpoint", "run__resume", default="", metavar="latest|FILE",
                 help="Continue the run in --out, to the result of an unbroken run; with more --steps, a finished one "
                      "too."),
    click.option("--dry-run", is_flag=True, help="Print the resolved settings, which --config reads, and stop."),
]  # fmt: skip


def what_to_train(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the shared options that decide what is trained."""
    return _with(command, _WHAT)


def how_to_run(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that decide how a run is run."""
    return _with(command, _HOW)


def split(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sort what was given on the command line.

    Args:
        options: parameters of a command; None and () mean that an option was not given.

    Returns:
        Settings by dotted name, with paths as text, and the run's options.
    """
    given = {name.replace("__", "."): _plain(value) for name, value in options.items() if value not in (None, ())}
    run = {name.removeprefix("run."): value for name, value in given.items() if name.startswith("run.")}
    return {name: value for name, value in given.items() if not name.startswith("run.")}, run


def run_folder(out: Path | None, what: str) -> Path:
    """Return the folder of a run, and name it if the user did not."""
    if out is None:
        out = Path("runs", what)
        click.echo(f"the run is in {out} (--out changes it)", err=True)
    return out


def run_options(run: Mapping[str, Any]) -> "RunOptions":
    """Build the run's options; the model card names the command that was typed."""
    from degrade.training.loop import RunOptions

    device = chosen_device(run["device"])
    command = " ".join([click.get_current_context().find_root().info_name or "", *sys.argv[1:]])
    precision = chosen_precision(run["mixed_precision"], device)
    return RunOptions(
        **{**run, "device": device, "mixed_precision": precision}, command=command, progress=sys.stderr.isatty()
    )


def _with(command: Callable[..., Any], options: list[Callable[..., Any]]) -> Callable[..., Any]:
    for option in reversed(options):
        command = option(command)
    return command


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_plain(part) for part in value)
    return str(value) if isinstance(value, Path) else value
