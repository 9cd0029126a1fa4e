"""`upsample`: score upscalers. Its training, run and export commands land with the student."""

import json
from pathlib import Path
from typing import Any

import click

from cli.group import HELP, FriendlyGroup, friendly

_EXISTING = click.Path(exists=True, path_type=Path)
_PATH = click.Path(path_type=Path)


@click.group(cls=FriendlyGroup, context_settings=HELP)
@click.version_option(package_name="realistic-degrader")
def main() -> None:
    """Super-resolution on real LR.

    Here today: eval, for the images of any upscaler. The one-step student, trained together with the degrader, and
    with it train, run and export, come next; until then any SR network trains on the shards of `degrade synth`.
    """


@main.command("eval")
@click.option("--sr", "sr_dir", type=_EXISTING, required=True, metavar="DIR", help="Images of an upscaler.")
@click.option("--hr", "--hr-dir", "-r", "hr_dir", type=_EXISTING, required=True, metavar="DIR",
              help="The truth, files of the same names.")  # fmt: skip
@click.option("--lr", "--lr-dir", "lr_dir", type=_EXISTING, metavar="DIR",
              help="What the SR was made from: adds a row for bicubic enlargement.")  # fmt: skip
@click.option("--metric", "-m", "metrics", multiple=True, metavar="NAME[=FILE]",
              help="Of pyiqa, beside PSNR-Y and SSIM-Y; FILE has its weights; repeatable.")  # fmt: skip
@click.option("--crop-border", type=click.IntRange(0), default=4, show_default=True, metavar="PX",
              help="Left out at every border; by custom the scale.")  # fmt: skip
@click.option("--degrader", default="", metavar="NAME|DIR",
              help="Also: is the SR a picture of its LR? Degrades it again, compares low bands.")  # fmt: skip
@click.option("--picture", type=_PATH, metavar="PNG", help="LR, SR, bicubic and HR side by side.")
@click.option("--out", "-o", "--output", "out", type=_PATH, metavar="JSON",
              help="Protocol, versions and the scores of every image.")  # fmt: skip
@friendly
def evaluate(out: Path | None, sr_dir: Path, hr_dir: Path, **options: Any) -> None:
    """Score SR images against HR.

    \b
      upsample eval --sr results --hr data/hr --lr data/lr --out scores.json --picture side_by_side.png
      upsample eval --sr results --hr data/hr -m niqe=niqe_modelparameters.mat
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    from tqdm import tqdm

    from upsample.evaluate import evaluate_folders

    report = evaluate_folders(sr_dir, hr_dir, progress=lambda images: tqdm(images, disable=None), **options)
    metrics = list(dict.fromkeys(metric for scores in report["mean"].values() for metric in scores))
    click.echo(f"{'':10}" + "".join(f"{metric:>14}" for metric in metrics))
    for name, scores in report["mean"].items():
        cells = (f"{scores[metric]:14.4f}" if metric in scores else f"{'-':>14}" for metric in metrics)
        click.echo(f"{name:10}" + "".join(cells))
    for line in report["left_out"]:
        click.echo(f"left out: {line}", err=True)
    click.echo(f"{len(report['images'])} images; {report['protocol']['psnr_y, ssim_y']}")
    if out is not None:
        from degrade.shards import write_atomic

        write_atomic(out, json.dumps(report, indent=2).encode())
        click.echo(str(out))
