"""`degrade apply`: whole images in, the same names out, with a log from which they can be made again."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.common import COMPLETED_WITH_FAILURES, EXISTING, PATH, friendly
from cli.degrade_synth_command import LookOptions, look_options, look_settings, resolved

if TYPE_CHECKING:
    from degrade.synth.settings import ImageFormat


@click.command()
@click.option("--input", "-i", "source", type=PATH, required=True, metavar="PATH",
              help="HR photographs: an image, a folder with its subfolders, a text list, or tars.")  # fmt: skip
@click.option("--out", "-o", "--output", "out", type=PATH, required=True, metavar="PATH",
              help="Output folder; for a single image, also an image file.")  # fmt: skip
@click.option("--ext", type=click.Choice(["png", "jpg", "webp"]), default=None,
              help="Format of the pictures (webp is lossless).  [default: png, or as --out says]")  # fmt: skip
@look_options
@click.option("--replay", "log", type=EXISTING, metavar="LOG",
              help="Make the pictures of this log again, byte for byte, from the images in --input; of the other "
                   "options only --degrader and --workers count.")  # fmt: skip
@click.option("--workers", type=click.IntRange(0), default=None, metavar="N",
              help="Worker processes; 0 works in this process.  [default: the number of cores, at most 8]",
              )  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Make pictures again that exist; without it they are skipped.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@friendly
def apply(
    source: Path, out: Path, ext: "ImageFormat | None", look: LookOptions, log: Path | None, workers: int | None,
    overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Degrade whole images and keep their names and subfolders.

    For every picture, log.jsonl in the output folder gets a line with what was drawn; --replay makes the same pictures
    from it. Sides that the scale does not divide lose their last rows and columns. Run the same command again to
    resume: pictures that exist are skipped. Images that cannot be used are listed with the reason; the exit status is
    then 3 instead of 0.

    \b
      degrade apply -i photos -o degraded
      degrade apply -i photo.jpg -o half.png --scale 2 --strength 0.7
      degrade apply -i photos -o noisy --scale 1 --reference-dir my_camera --variants 3
      degrade apply -i photos -o again --replay degraded/log.jsonl
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    from tqdm import tqdm

    from degrade.files.outputs import OUTPUT_SUFFIXES
    from degrade.files.platform import sigterm_as_ctrl_c
    from degrade.synth.apply import apply_job, plan_pictures, replay_log

    workers = min(8, os.cpu_count() or 1) if workers is None else workers
    context = click.get_current_context()
    with sigterm_as_ctrl_c(), tqdm(unit="image", disable=not sys.stderr.isatty()) as bar:

        def on_progress(done: int) -> None:
            bar.update(done - bar.n)

        if log is not None:
            typed = click.core.ParameterSource.COMMANDLINE
            allowed = ("source", "out", "log", "degrader", "workers", "as_json")
            ignored = [name for name in context.params if context.get_parameter_source(name) is typed]
            if ignored := [name for name in ignored if name not in allowed]:
                options = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(ignored))
                raise click.UsageError(f"--replay makes what the log says; leave out {options}")
            given = look.degrader if context.get_parameter_source("degrader") is typed else None
            stats = replay_log(log, source, out, degrader=given, workers=workers, on_progress=on_progress)
        else:
            settings = replace(look_settings(look), lr_ext=ext or OUTPUT_SUFFIXES.get(out.suffix.lower(), "png"))
            job = resolved(settings, look)
            plan = plan_pictures(source, out, job.settings, overwrite=overwrite)
            for note in plan.notes:
                click.echo(note, err=True)
            bar.total = len(plan.tasks)
            # a single image, such as one of 100 megapixels, needs no process of its own
            workers = workers if len(plan.tasks) > 1 else 0
            stats = apply_job(plan, job, workers=workers, on_progress=on_progress)
    _print_summary(stats, as_json)
    if stats["failures"]:
        sys.exit(COMPLETED_WITH_FAILURES)


def _print_summary(stats: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(stats, indent=2, sort_keys=True))
        return
    skipped = f" ({stats['skipped']} exist already)" if stats["skipped"] else ""
    click.echo(
        f"{stats['pictures']} pictures{skipped} in {stats['seconds']:.1f} s, "
        f"{stats['hr_megapixels_per_second']:.2f} HR megapixels/s; {stats['log']} says what was drawn"
    )
    for failure in stats["failures"]:
        click.echo(failure, err=True)
