"""Define the command `degrade`, with synth, export, train, preview, eval, verify, replay and presets.

Each command reads its options, calls one library function and prints the result. Heavy imports stand inside the
commands, so that `--help` answers at once.
"""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from cli.common import CONTEXT, EXISTING, PATH, friendly
from cli.degrade_apply_command import apply
from cli.degrade_export_command import export
from cli.degrade_fit_command import fit
from cli.degrade_synth_command import preview, synth
from cli.degrade_train_command import train


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="realistic-degrader")
def main() -> None:
    """Learn how real images are degraded, and make training data for super-resolution with it."""


main.add_command(synth)
main.add_command(apply)
main.add_command(preview)
main.add_command(export)
main.add_command(train)
main.add_command(fit)


@main.command()
@click.argument("shards", type=str)
@click.option("--sample", type=click.IntRange(1), metavar="N", help="Decode only about this many pairs, spread evenly.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@friendly
def verify(shards: str, sample: int | None, as_json: bool) -> None:
    """Check pair shards, ours or anyone's: hashes, decoding, sizes, sub-pixel alignment, duplicates.

    SHARDS is a folder, a tar, or a brace pattern of tars. The exit status is 1 if there are problems.
    """
    from degrade.shards.verify import verify_shards

    report = verify_shards(shards, sample=sample)
    click.echo(json.dumps(report.to_dict(), indent=2) if as_json else report.text())
    if report.problems:
        sys.exit(1)


@main.command()
@click.argument("shards", type=EXISTING)
@click.option("--key", required=True, metavar="K", help="Key of the pair, such as 000000042, or 42 for short.")
@click.option("--degrader", metavar="NAME|DIR", help="Degrader that made the pair.  [default: the name in the record]")
@click.option("--out", "-o", type=PATH, metavar="PNG", help="Also write HR, stored LR and replayed LR side by side.")
@friendly
def replay(shards: Path, key: str, degrader: str | None, out: Path | None) -> None:
    """Make the LR image of one pair again from its record, and compare the bytes.

    SHARDS is the folder of the data set, or one of its tars. The exit status is 1 if the bytes differ.
    """
    from degrade.synth.replay import replay_pair

    result = replay_pair(shards, key, degrader=degrader, picture=out)
    click.echo(json.dumps(result.to_dict(), indent=2))
    if not result.identical:
        sys.exit(1)


@main.command()
@click.option("--show", metavar="NAME", help="Print one recipe as YAML, to start a --recipe file of your own.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of recipe files, for editors.")
@friendly
def presets(show: str | None, schema: bool) -> None:
    """List the classical recipes and the learned degraders that are installed."""
    from degrade.recipes.recipe import PRESET_NAMES, Recipe

    if schema:
        click.echo(json.dumps(Recipe.model_json_schema(), indent=2))
    elif show:
        import yaml

        click.echo(yaml.safe_dump(Recipe.preset(show).to_dict(), sort_keys=False, default_flow_style=None, width=120))
    else:
        from degrade.degrader import RealisticDegrader

        click.echo("recipes (--preset NAME)")
        for name in PRESET_NAMES:
            click.echo(f"  {name:<18} {Recipe.preset(name).summary()}")
        click.echo("learned degraders (--degrader NAME)")
        for name in RealisticDegrader.shipped_names():
            click.echo(f"  {name}")


@main.command("eval")
@click.option("--real-lr", type=PATH, required=True, metavar="PATH",
              help="Real LR images: a folder, a text list, or shards (their lr members).")  # fmt: skip
@click.option("--hr-dir", "-i", "--input", "hr_dir", type=PATH, required=True, metavar="PATH",
              help="HR photographs to degrade; the degrader must not have been trained on them.")  # fmt: skip
@click.option("--pairs", nargs=2, type=EXISTING, metavar="HR_DIR LR_DIR",
              help="Folders of real pairs, to compare with the true LR as well.")  # fmt: skip
@click.option("--degrader", "--model", "degrader", default="tiny-x4", show_default=True, metavar="NAME|DIR",
              help="Degrader to test: a shipped name, a folder, or a hub id.")  # fmt: skip
@click.option("--before", default="", metavar="NAME|DIR",
              help="Another degrader to compare with, such as the one that training started from.")  # fmt: skip
@click.option(
    "--reference-dir", type=EXISTING, metavar="DIR", help="Compute the codes from the photographs in this folder."
)
@click.option("--score", "scores", multiple=True, metavar="NAME[=FILE]",
              help="Add a no-reference metric of pyiqa, such as piqe. FILE holds its weights. Repeatable.")  # fmt: skip
@click.option("--codes", type=click.Choice(["bank", "real"]), default="bank", show_default=True,
              help="Draw the codes from the degrader's bank, or compute them from a half of --real-lr "
              "that nothing is compared with.")  # fmt: skip
@click.option("--scale", type=click.IntRange(1, 4), default=4, show_default=True, help="HR side / LR side.")
@click.option("--crops", type=click.IntRange(16), default=200, show_default=True, metavar="N",
              help="Number of crops in every set.")  # fmt: skip
@click.option("--crop-size", type=click.IntRange(32), default=64, show_default=True, metavar="PX",
              help="Side of the LR crops; a multiple of 8.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, metavar="N",
              help="Repeat with other halves, crops and draws, to measure the spread of every figure.")  # fmt: skip
@click.option(
    "--steps", type=click.IntRange(1), default=1, show_default=True, help="Network calls of the degrader for each crop."
)
@click.option("--max-hr-side", type=click.IntRange(0), default=3000, show_default=True, metavar="PX",
              help="Area-reduce HR photographs by 2 until their longer side fits; 0 = never.")  # fmt: skip
@click.option("--out", "-o", "--output", "out", type=PATH, required=True, metavar="DIR",
              help="Folder to write the report to.")  # fmt: skip
@friendly
def evaluate(out: Path, pairs: tuple[Path, Path] | None, reference_dir: Path | None, **options: Any) -> None:
    """Measure how close generated LR is to real LR, and write report.json, report.md and report.html.

    The report shows the same figures for Real-ESRGAN's recipe, for bicubic downsampling, and for real images compared
    with other real images.

    \b
      degrade eval --real-lr my_camera --hr-dir photos --out report
      degrade eval --real-lr val/lr --hr-dir val/hr --pairs val/hr val/lr --out report
      degrade eval --real-lr my_camera --hr-dir photos --degrader runs/c/degrader --before tiny-x4 --out report
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    from degrade.realism.report import RealismConfig
    from degrade.realism.report import evaluate as write_report

    config = RealismConfig(pairs=pairs or None, reference_dir=str(reference_dir or ""), **options)
    command = shlex.join(["degrade", *sys.argv[1:]])
    report = write_report(config, out, command=command, progress=lambda line: click.echo(line, err=True))
    for line in report["left_out"]:
        click.echo(f"left out: {line}", err=True)
    for metric, ratio in report["ours_over_real_esrgan"].items():
        click.echo(f"{metric}: " + ("none" if ratio is None else f"{ratio:.2f} of Real-ESRGAN's distance"))
    click.echo(f"look at {out / 'report.html'}")
