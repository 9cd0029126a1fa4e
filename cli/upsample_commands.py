"""Define the command `upsample`, which upscales images, and trains, scores and exports upsamplers."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.common import COMPLETED_WITH_FAILURES, CONTEXT, EXISTING, PATH, chosen_device, friendly
from cli.upsample_train_command import train

if TYPE_CHECKING:
    from upsample.upscaling.upscale import Alpha


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="realistic-degrader")
def main() -> None:
    """Upscale real LR images with a one-step diffusion model that learns together with the degrader."""


def _tile(context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    """Parse the tile size; None stands for the library's default, whose import would make --help slow."""
    if value == "auto":
        return None
    if not value.isdigit():
        raise click.BadParameter(f"{value!r} is not a size; give auto, a number of pixels, or 0 for whole images")
    return int(value)


@main.command()
@click.option("--input", "-i", "--in-path", "source", type=PATH, required=True, metavar="PATH",
              help="An image, a folder (subfolders included), a text list, or tars.")  # fmt: skip
@click.option("--output", "-o", "--out", "--out-path", "out", type=PATH, required=True, metavar="PATH",
              help="Output folder; for a single image, also an image file.")  # fmt: skip
@click.option("--model", "-n", "--model-name", "model", default="tiny-x4", show_default=True, metavar="NAME|DIR",
              help="Upsampler: a shipped name, a folder or a hub id.")  # fmt: skip
@click.option("--outscale", "-s", type=click.IntRange(2, 4), metavar="N",
              help="Output side / input side; below the model's scale, the result is area-reduced.  "
                   "[default: the model's scale]")  # fmt: skip
@click.option("--tile", "-t", default="auto", show_default=True, callback=_tile, metavar="auto|PX",
              help="Longest side of a tile in input pixels, halved when memory is short; auto = 256, "
                   "0 = whole images.")  # fmt: skip
@click.option("--tile-overlap", "--tile-pad", "overlap", type=click.IntRange(0), default=32, show_default=True,
              metavar="PX", help="Input pixels that neighbouring tiles share and are blended over.")  # fmt: skip
@click.option("--color-fix", "--align-method", "--colorfix-type", "color_fix",
              type=click.Choice(["none", "nofix", "wavelet", "adain"]), default="none", show_default=True,
              help="Correct colours with the input's low band (wavelet) or its mean and spread (adain).")  # fmt: skip
@click.option("--alpha", type=click.Choice(["network", "bicubic", "drop"]), default="network", show_default=True,
              help="Upscale transparency by the network or bicubic, or lay the image on white.")  # fmt: skip
@click.option("--ext", type=click.Choice(["auto", "png", "jpg", "webp"]), default="auto", show_default=True,
              help="Output format; auto = the input's. An image that it cannot hold (16 bits, or transparency in a "
                   "jpg) becomes png.")  # fmt: skip
@click.option("--suffix", default="", metavar="TEXT", help="Text added to the file names, before the extension.")
@click.option("--steps", type=click.IntRange(1), help="Network calls; a teacher needs several.  [default: the model's]")
@click.option(
    "--seed", type=click.IntRange(0), help="Draw other noise from this seed.  [default: the model's fixed noise]"
)
@click.option("--device", default="auto", show_default=True, help="Device to run on: cpu, cuda, or auto.")
@click.option("--fp32/--bf16", "fp32", default=True, show_default=True,
              help="Precision of the network; bf16 is faster on hardware that supports it.")  # fmt: skip
@click.option(
    "--overwrite", is_flag=True, help="Upscale again the images whose output exists; without it they are skipped."
)
@click.option("--json", "report", type=PATH, metavar="FILE", help="Also write the summary to this file.")
@friendly
def run(
    source: Path, out: Path, model: str, outscale: int | None, tile: int | None, overlap: int, color_fix: Any,
    alpha: "Alpha", ext: str, suffix: str, steps: int | None, seed: int | None, device: str, fp32: bool,
    overwrite: bool, report: Path | None,
) -> None:  # fmt: skip
    """Upscale images and keep their transparency, 16 bits and grey.

    Run the same command again to resume: images whose output exists are skipped. Images that cannot be used are listed
    with the reason; the exit status is then 3 instead of 0.

    \b
      upsample run -i photos -o larger
      upsample run -i photo.jpg -o photo_x2.png -s 2
      upsample run -i scans -o larger --model runs/a/student --color-fix wavelet --suffix _x4
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    from tqdm import tqdm

    from upsample.upscaling.plan import plan_upscaling
    from upsample.upscaling.tiling import TILE
    from upsample.upscaling.upscale import UpscaleSettings, load_upsampler, upscale_files

    if report is not None and not report.parent.is_dir():
        raise click.BadParameter(f"{report.parent} is not a folder; create it first", param_hint="--json")
    settings = UpscaleSettings(
        outscale=outscale,
        tile=TILE if tile is None else tile,
        overlap=overlap,
        color_fix="none" if color_fix == "nofix" else color_fix,
        alpha=alpha,
        steps=steps,
    )
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
    skipped = f", {summary['skipped']} skipped because they exist (see --overwrite)" if summary["skipped"] else ""
    click.echo(
        f"{summary['images']} images in {out}{skipped}\n"
        f"{summary['hr_megapixels']:.2f} HR megapixels in {summary['seconds']:.1f} s, "
        f"{summary['hr_megapixels_per_second']:.2f} HR megapixels/s"
    )
    if report is not None:
        _write_json(report, summary)
    if summary["failures"]:
        sys.exit(COMPLETED_WITH_FAILURES)


main.add_command(train)


@main.command()
@click.option("--onnx", type=PATH, metavar="ONNX",
              help="Write a one-step student for any ONNX runtime: input lr, output sr, of any size.")  # fmt: skip
@click.option("--spandrel", type=PATH, metavar="SAFETENSORS",
              help="Write the weights for spandrel; upsample.spandrel_arch.register() lets it read them.")  # fmt: skip
@click.option("--model", "-n", "--model-name", "model", default="tiny-x4", show_default=True, metavar="NAME|DIR",
              help="Upsampler: a shipped name, a folder or a hub id.")  # fmt: skip
@click.option("--opset", type=click.IntRange(1), default=18, show_default=True, metavar="N",
              help="Version of the ONNX operator set.")  # fmt: skip
@click.option("--tolerance", type=click.FloatRange(0), default=1e-4, show_default=True, metavar="D",
              help="Largest accepted difference between the other software's images and torch's, in 0..1.")  # fmt: skip
@friendly
def export(onnx: Path | None, spandrel: Path | None, model: str, opset: int, tolerance: float) -> None:
    """Write the upsampler as one file for other software.

    The file is written only after that software has given the same images as torch.

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
@click.option(
    "--sr", "sr_dir", type=EXISTING, required=True, metavar="DIR", help="SR images to score, from any upscaler."
)
@click.option("--hr", "--hr-dir", "-r", "hr_dir", type=EXISTING, required=True, metavar="DIR",
              help="HR images with the same file names.")  # fmt: skip
@click.option("--lr", "--lr-dir", "lr_dir", type=EXISTING, metavar="DIR",
              help="LR images that the SR was made from; adds a row for bicubic enlargement.")  # fmt: skip
@click.option("--metric", "-m", "metrics", multiple=True, metavar="NAME[=FILE]",
              help="Also compute this pyiqa metric; FILE holds its weights; repeatable.")  # fmt: skip
@click.option("--crop-border", type=click.IntRange(0), default=4, show_default=True, metavar="PX",
              help="Pixels that PSNR-Y and SSIM-Y leave out at every border; usually the scale.")  # fmt: skip
@click.option("--degrader", default="", metavar="NAME|DIR",
              help="Also score consistency: degrade the SR with this degrader and compare with its LR.")  # fmt: skip
@click.option("--picture", type=PATH, metavar="PNG", help="Write LR, SR, bicubic and HR side by side.")
@click.option("--out", "-o", "--output", "out", type=PATH, metavar="JSON",
              help="Write the protocol, versions and the scores of every image.")  # fmt: skip
@friendly
def evaluate(
    sr_dir: Path, hr_dir: Path, lr_dir: Path | None, metrics: tuple[str, ...], crop_border: int, degrader: str,
    picture: Path | None, out: Path | None,
) -> None:  # fmt: skip
    """Score SR images against HR images.

    \b
      upsample eval --sr results --hr data/hr --lr data/lr --out scores.json --picture side_by_side.png
      upsample eval --sr results --hr data/hr -m niqe=niqe_modelparameters.mat
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    from tqdm import tqdm

    from upsample.evaluate import evaluate_folders

    report = evaluate_folders(
        sr_dir,
        hr_dir,
        lr_dir=lr_dir,
        metrics=metrics,
        crop_border=crop_border,
        degrader=degrader,
        picture=picture,
        progress=lambda images: tqdm(images, disable=None),
    )
    columns = list(dict.fromkeys(metric for scores in report["mean"].values() for metric in scores))
    click.echo(f"{'':10}" + "".join(f"{metric:>14}" for metric in columns))
    for name, scores in report["mean"].items():
        cells = (f"{scores[metric]:14.4f}" if metric in scores else f"{'-':>14}" for metric in columns)
        click.echo(f"{name:10}" + "".join(cells))
    for line in report["left_out"]:
        click.echo(f"left out: {line}", err=True)
    click.echo(f"{len(report['images'])} images; {report['protocol']['psnr_y, ssim_y']}")
    if out is not None:
        _write_json(out, report)
        click.echo(str(out))


def _write_json(path: Path, report: dict[str, Any]) -> None:
    from degrade.files.store import write_atomic

    write_atomic(path, json.dumps(report, indent=2).encode())
