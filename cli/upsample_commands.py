"""`upsample`: upscale images, train upscalers beside the degrader, score and export them."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from cli.common import COMPLETED_WITH_FAILURES, EXISTING, HELP, PATH, FriendlyGroup, chosen_device, friendly
from cli.upsample_train_command import train


@click.group(cls=FriendlyGroup, context_settings=HELP)
@click.version_option(package_name="realistic-degrader")
def main() -> None:
    """Super-resolution on real LR, by a diffusion model in one step that learns beside the degrader."""


def _tile(context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    """``auto`` is the library's default, which importing would cost the help its speed."""
    if value == "auto":
        return None
    if not value.isdigit():
        raise click.BadParameter(f"{value!r} is no size; give auto, a number of pixels, or 0 for whole images")
    return int(value)


@main.command()
@click.option("--input", "-i", "--in-path", "source", type=PATH, required=True, metavar="PATH",
              help="An image, a folder (searched through), a text list, or tars.")  # fmt: skip
@click.option("--output", "-o", "--out", "--out-path", "out", type=PATH, required=True, metavar="PATH",
              help="A folder; for one image also an image file.")  # fmt: skip
@click.option("--model", "-n", "--model-name", "model", default="tiny-x4", show_default=True, metavar="NAME|DIR",
              help="Upsampler: a shipped name, a folder, a hub id.")  # fmt: skip
@click.option("--outscale", "-s", type=click.IntRange(2, 4), metavar="N",
              help="Side of the result / side of the input; below the model's scale by area reduction.  "
                   "[default: the model's]")  # fmt: skip
@click.option("--tile", "-t", default="auto", show_default=True, callback=_tile, metavar="auto|PX",
              help="Side of the tiles in input pixels, halved when memory is short; auto = 256, 0 = off.")  # fmt: skip
@click.option("--tile-overlap", "--tile-pad", "overlap", type=click.IntRange(0), default=32, show_default=True,
              metavar="PX", help="Input pixels that neighbouring tiles share and are blended over.")  # fmt: skip
@click.option("--color-fix", "--align-method", "--colorfix-type", "color_fix",
              type=click.Choice(["none", "nofix", "wavelet", "adain"]), default="none", show_default=True,
              help="Colours of the input: its low band, or its mean and spread.")  # fmt: skip
@click.option("--alpha", type=click.Choice(["network", "bicubic", "drop"]), default="network", show_default=True,
              help="Transparency: by the network, bicubic, or laid on white.")  # fmt: skip
@click.option("--ext", type=click.Choice(["auto", "png", "jpg", "webp"]), default="auto", show_default=True,
              help="Format; auto = the input's. Transparency in a jpg, and 16 bits, become png.")  # fmt: skip
@click.option("--suffix", default="", metavar="TEXT", help="Added to the names.")
@click.option("--steps", type=click.IntRange(1), help="Network calls, for a teacher.  [default: the model's]")
@click.option("--seed", type=click.IntRange(0), help="Draw another noise.  [default: the model's fixed one]")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@click.option("--fp32/--bf16", "fp32", default=True, show_default=True,
              help="bf16 is faster where there is hardware for it.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Make images again that exist; without it they are skipped.")
@click.option("--json", "report", type=PATH, metavar="FILE", help="Also write the summary there.")
@friendly
def run(
    source: Path, out: Path, model: str, tile: int | None, color_fix: Any, alpha: Any, ext: str, suffix: str,
    seed: int | None, device: str, fp32: bool, overwrite: bool, report: Path | None, **options: Any,
) -> None:  # fmt: skip
    """Upscale images, with their transparency, 16 bits and grey kept.

    Run the same command again to go on: images that exist are skipped. Images that cannot be used are named with the
    reason; the exit status is then 3, and 0 when all were used.

    \b
      upsample run -i photos -o larger
      upsample run -i photo.jpg -o photo_x2.png -s 2
      upsample run -i scans -o larger --model runs/a/student --color-fix wavelet --suffix _x4
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    from tqdm import tqdm

    from upsample.upscaling.plan import plan_upscaling
    from upsample.upscaling.upscale import UpscaleSettings, load_upsampler, upscale_files

    if report is not None and not report.parent.is_dir():
        raise click.BadParameter(f"{report.parent} is no folder; make it first", param_hint="--json")
    if tile is not None:
        options["tile"] = tile
    settings = UpscaleSettings(color_fix="none" if color_fix == "nofix" else color_fix, alpha=alpha, **options)
    plan = plan_upscaling(source, out, ext=ext, suffix=suffix, keep_alpha=alpha != "drop", overwrite=overwrite)
    upsampler = load_upsampler(model, device=chosen_device(device), seed=seed, bf16=not fp32)
    for note in plan.notes:
        click.echo(note, err=True)
    bar_format = "{l_bar}{bar}| {n:.1f}/{total} [{elapsed}<{remaining}]"
    with tqdm(total=len(plan.tasks), unit="image", bar_format=bar_format, disable=None) as bar:
        summary = upscale_files(
            plan,
            upsampler,
            settings,
            on_progress=lambda done: bar.update(done - bar.n),
            on_note=lambda sentence: tqdm.write(sentence, file=sys.stderr),
        )
    for failure in summary["failures"]:
        click.echo(f"left out: {failure}", err=True)
    skipped = f", {summary['skipped']} skipped that exist (--overwrite makes them again)" if summary["skipped"] else ""
    click.echo(
        f"{summary['images']} images in {out}{skipped}\n"
        f"{summary['hr_megapixels']:.2f} HR megapixels in {summary['seconds']:.1f} s, "
        f"{summary['hr_megapixels_per_second']:.2f} HR megapixels/s"
    )
    if report is not None:
        from degrade.files.store import write_atomic

        write_atomic(report, json.dumps(summary, indent=2).encode())
    if summary["failures"]:
        sys.exit(COMPLETED_WITH_FAILURES)


main.add_command(train)


@main.command()
@click.option("--onnx", type=PATH, metavar="ONNX",
              help="File for any ONNX runtime: lr in, sr out, any sizes; of one-step students.")  # fmt: skip
@click.option("--spandrel", type=PATH, metavar="SAFETENSORS",
              help="File for spandrel, after upsample.spandrel_arch.register().")  # fmt: skip
@click.option("--model", "-n", "--model-name", "model", default="tiny-x4", show_default=True, metavar="NAME|DIR",
              help="Upsampler: a shipped name, a folder, a hub id.")  # fmt: skip
@click.option("--opset", type=click.IntRange(1), default=18, show_default=True, metavar="N", help="Of the ONNX file.")
@click.option("--tolerance", type=click.FloatRange(0), default=1e-4, show_default=True, metavar="D",
              help="Largest difference of the other software's images, of 0..1, that is accepted.")  # fmt: skip
@friendly
def export(onnx: Path | None, spandrel: Path | None, model: str, opset: int, tolerance: float) -> None:
    """Write the upsampler as one file for other software, once that software has given the same images.

    \b
      upsample export --onnx tiny-x4.onnx
      upsample export --model runs/a/student --onnx student.onnx --spandrel student.safetensors
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    if onnx is None and spandrel is None:
        raise click.UsageError("nothing to write; give --onnx FILE, --spandrel FILE, or both")
    from upsample.export import export_onnx, export_spandrel
    from upsample.model import ResidualShiftUpsampler

    upsampler = ResidualShiftUpsampler.from_pretrained(model)
    name, summary = Path(model).name, {}
    if onnx is not None:
        summary["onnx"] = export_onnx(upsampler, onnx, name=name, opset=opset, tolerance=tolerance)
    if spandrel is not None:
        summary["spandrel"] = export_spandrel(upsampler, spandrel, name=name, tolerance=tolerance)
    click.echo(json.dumps(summary, indent=2))


@main.command("eval")
@click.option("--sr", "sr_dir", type=EXISTING, required=True, metavar="DIR", help="Images of an upscaler.")
@click.option("--hr", "--hr-dir", "-r", "hr_dir", type=EXISTING, required=True, metavar="DIR",
              help="The truth, files of the same names.")  # fmt: skip
@click.option("--lr", "--lr-dir", "lr_dir", type=EXISTING, metavar="DIR",
              help="What the SR was made from: adds a row for bicubic enlargement.")  # fmt: skip
@click.option("--metric", "-m", "metrics", multiple=True, metavar="NAME[=FILE]",
              help="Of pyiqa, beside PSNR-Y and SSIM-Y; FILE has its weights; repeatable.")  # fmt: skip
@click.option("--crop-border", type=click.IntRange(0), default=4, show_default=True, metavar="PX",
              help="Left out at every border; by custom the scale.")  # fmt: skip
@click.option("--degrader", default="", metavar="NAME|DIR",
              help="Also: is the SR a picture of its LR? Degrades it again, compares low bands.")  # fmt: skip
@click.option("--picture", type=PATH, metavar="PNG", help="LR, SR, bicubic and HR side by side.")
@click.option("--out", "-o", "--output", "out", type=PATH, metavar="JSON",
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
        from degrade.files.store import write_atomic

        write_atomic(out, json.dumps(report, indent=2).encode())
        click.echo(str(out))
