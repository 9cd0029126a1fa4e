"""Define the command `upsample`, which upscales images, and trains, scores and exports upsamplers."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.common import (
    BACKEND_OPTION,
    COMPLETED_WITH_FAILURES,
    CONTEXT,
    DEVICE_HELP,
    EXISTING,
    FP32_OPTION,
    PATH,
    chosen_device,
    chosen_precision,
    friendly,
)
from cli.upsample_fit_command import fit, fit_and_tell
from cli.upsample_train_command import train

if TYPE_CHECKING:
    from degrade.networks.backend import Backend
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
@click.option("--model", "-n", "--model-name", "model", metavar="NAME|DIR",
              help="Upsampler: a shipped name, a folder or a hub id.  [default: tiny-x2 up to --outscale 2 "
                   "without detail, else tiny-x4]")  # fmt: skip
@click.option("--fit", "fit_dir", is_flag=False, flag_value="", metavar="[DIR]",
              help="Fit the model to the input images first, as `upsample fit` does, into this folder.  [default: the "
                   "output's name and -fit]")  # fmt: skip
@click.option("--hr-dir", type=EXISTING, metavar="PATH",
              help="HR photographs that --fit learns from.  [default: the input images]")  # fmt: skip
@click.option("--outscale", "-s", type=click.FloatRange(1, 4), metavar="S",
              help="Output side / input side, such as 2 or 3.5; below the model's scale, the result is area-reduced.  "
                   "[default: the model's scale]")  # fmt: skip
@click.option("--detail", type=click.FloatRange(0, 1), metavar="D",
              help="From 0, the most faithful image, to 1, the sharpest.  [default: the model's]")  # fmt: skip
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
@click.option("--strip", is_flag=True,
              help="Write no metadata; without it, EXIF and XMP data and the resolution (dpi) are kept.")  # fmt: skip
@click.option("--max-pixels", type=click.IntRange(1), default=100_000_000, show_default=True, metavar="N",
              help="Leave out inputs with more pixels than this.")  # fmt: skip
@click.option("--suffix", default="", metavar="TEXT", help="Text added to the file names, before the extension.")
@click.option("--steps", type=click.IntRange(1), help="Network calls; a teacher needs several.  [default: the model's]")
@click.option(
    "--seed", type=click.IntRange(0), help="Draw other noise from this seed.  [default: the model's fixed noise]"
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help=DEVICE_HELP,
)
@FP32_OPTION
@BACKEND_OPTION
@click.option(
    "--overwrite", is_flag=True, help="Upscale again the images whose output exists; without it they are skipped."
)
@click.option("--json", "report", type=PATH, metavar="FILE", help="Also write the summary to this file.")
@friendly
def run(
    source: Path, out: Path, model: str | None, fit_dir: str | None, hr_dir: Path | None, outscale: float | None,
    detail: float | None, tile: int | None, overlap: int, color_fix: Any, alpha: "Alpha", ext: str, strip: bool,
    max_pixels: int, suffix: str, steps: int | None, seed: int | None, device: str, fp32: bool, backend: "Backend",
    overwrite: bool, report: Path | None,
) -> None:  # fmt: skip
    """Upscale images and keep their transparency, 16 bits, grey, and EXIF data.

    Run the same command again to resume: images whose output exists are skipped. Images that cannot be used are listed
    with the reason; the exit status is then 3 instead of 0.

    \b
      upsample run -i photos -o larger
      upsample run -i photo.jpg -o photo_x2.png -s 2
      upsample run -i my_camera -o larger --fit runs/mine
      upsample run -i scans -o larger --model runs/a/student --color-fix wavelet --suffix _x4
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    from tqdm import tqdm

    from upsample.upscaling.plan import plan_upscaling
    from upsample.upscaling.tiling import TILE
    from upsample.upscaling.upscale import UpscaleSettings, load_upsampler, shipped_for, upscale_files

    if report is not None and not report.parent.is_dir():
        raise click.BadParameter(f"{report.parent} is not a folder; create it first", param_hint="--json")
    if hr_dir is not None and fit_dir is None:
        raise click.BadParameter("only --fit learns from HR photographs; add it", param_hint="--hr-dir")
    settings = UpscaleSettings(
        outscale=outscale,
        tile=TILE if tile is None else tile,
        overlap=overlap,
        color_fix="none" if color_fix == "nofix" else color_fix,
        alpha=alpha,
        steps=steps,
        detail=detail,
        keep_metadata=not strip,
        max_pixels=max_pixels,
    )
    plan = plan_upscaling(source, out, ext=ext, suffix=suffix, keep_alpha=alpha != "drop", overwrite=overwrite)
    model = shipped_for(outscale, detail) if model is None else model
    device = chosen_device("cpu" if device == "auto" and backend != "torch" else device)
    if fit_dir is not None and plan.tasks:
        folder = Path(fit_dir) if fit_dir else out.with_name(f"{out.stem}-fit")
        click.echo(f"the fit is in {folder}", err=True)
        model = fit_and_tell(source, folder, hr_dir, device=device, start_from=model)["weights"]
    precision = chosen_precision("no" if fp32 else "bf16", device, way_out="--fp32")
    upsampler = load_upsampler(
        model, device=device, seed=seed, bf16=precision == "bf16", backend=backend,
        on_note=lambda sentence: click.echo(sentence, err=True),
    )  # fmt: skip
    for note in plan.notes:
        click.echo(note, err=True)
    bar_format = "{l_bar}{bar}| {n:.1f}/{total} [{elapsed}<{remaining}]"
    with tqdm(total=len(plan.tasks), unit="image", bar_format=bar_format, disable=None) as bar:
        figures = upscale_files(
            plan,
            upsampler,
            settings,
            on_progress=lambda done: bar.update(done - bar.n),
            on_note=lambda sentence: tqdm.write(sentence, file=sys.stderr),
        )
    summary = {"model": model, **figures}
    for failure in summary["failures"]:
        click.echo(f"left out: {failure}", err=True)
    skipped = f", {summary['skipped']} skipped because they exist (see --overwrite)" if summary["skipped"] else ""
    click.echo(
        f"{summary['images']} images in {out} by {model}{skipped}\n"
        f"{summary['hr_megapixels']:.2f} HR megapixels in {summary['seconds']:.1f} s, "
        f"{summary['hr_megapixels_per_second']:.2f} HR megapixels/s"
    )
    if report is not None:
        _write_json(report, summary)
    if summary["failures"]:
        sys.exit(COMPLETED_WITH_FAILURES)


main.add_command(train)
main.add_command(fit)


@main.command()
@click.option("--onnx", type=PATH, metavar="ONNX",
              help="Write a one-step student for any ONNX runtime: input lr, output sr, of any size.")  # fmt: skip
@click.option("--spandrel", type=PATH, metavar="SAFETENSORS",
              help="Write the weights for spandrel; upsample.spandrel_arch.register() lets it read them.")  # fmt: skip
@click.option("--model", "-n", "--model-name", "model", default="tiny-x4", show_default=True, metavar="NAME|DIR",
              help="Upsampler: a shipped name, a folder or a hub id.")  # fmt: skip
@click.option("--detail", type=click.FloatRange(0, 1), metavar="D",
              help="Default strength of the detail in the files: 0 faithful, 1 sharp.  [default: the model's]"
              )  # fmt: skip
@click.option("--opset", type=click.IntRange(1), default=18, show_default=True, metavar="N",
              help="Version of the ONNX operator set.")  # fmt: skip
@click.option("--tolerance", type=click.FloatRange(0), default=1e-4, show_default=True, metavar="D",
              help="Largest accepted difference between the other software's images and torch's, in 0..1.")  # fmt: skip
@friendly
def export(
    onnx: Path | None, spandrel: Path | None, model: str, detail: float | None, opset: int, tolerance: float
) -> None:
    """Write the upsampler as one file for other software.

    The file is written only after that software has given the same images as torch. With a detail branch, the ONNX file
    has a second input, detail, which may be left out; a file for spandrel has its default only.

    \b
      upsample export --onnx tiny-x4.onnx
      upsample export --spandrel sharper.safetensors --detail 0.8
      upsample export --model runs/a/student --onnx student.onnx --spandrel student.safetensors
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    if onnx is None and spandrel is None:
        raise click.UsageError("nothing to write; give --onnx FILE, --spandrel FILE, or both")
    from upsample.export import export_onnx, export_spandrel
    from upsample.model import ResidualShiftUpsampler

    upsampler = ResidualShiftUpsampler.from_pretrained(model)
    if detail is not None:
        upsampler.set_detail(detail)
    name, summary = Path(model).name, {}
    if onnx is not None:
        summary["onnx"] = export_onnx(upsampler, onnx, name=name, opset=opset, tolerance=tolerance)
    if spandrel is not None:
        summary["spandrel"] = export_spandrel(upsampler, spandrel, name=name, tolerance=tolerance)
    click.echo(json.dumps(summary, indent=2))


@main.command("eval")
@click.option("--sr", "sr_dirs", type=EXISTING, required=True, multiple=True, metavar="DIR",
              help="SR images to score, from any upscaler; repeatable, one folder for each upscaler.")  # fmt: skip
@click.option("--hr", "--hr-dir", "-r", "hr_dir", type=EXISTING, required=True, metavar="DIR",
              help="HR images with the same file names.")  # fmt: skip
@click.option("--lr", "--lr-dir", "lr_dir", type=EXISTING, metavar="DIR",
              help="LR images that the SR was made from; adds bicubic enlargement.")  # fmt: skip
@click.option("--metric", "-m", "metrics", multiple=True, metavar="NAME[=FILE]",
              help="Also compute this pyiqa metric; FILE holds its weights; repeatable.")  # fmt: skip
@click.option("--crop-border", type=click.IntRange(0), default=4, show_default=True, metavar="PX",
              help="Pixels that PSNR-Y and SSIM-Y leave out at every border; usually the scale.")  # fmt: skip
@click.option("--degrader", default="", metavar="NAME|DIR",
              help="Also score consistency: degrade the SR with this degrader and compare with its LR.")  # fmt: skip
@click.option("--classifier-steps", type=click.IntRange(0), metavar="N",
              help="Training steps of each classifier that tells a set from HR, the slowest measure; 0 leaves it "
                   "out.")  # fmt: skip
@click.option("--page", type=PATH, metavar="HTML", help="Write a page with pictures, all figures and spectra.")
@click.option("--picture", type=PATH, metavar="PNG", help="Write LR, bicubic, SR and HR side by side.")
@click.option("--out", "-o", "--output", "out", type=PATH, metavar="JSON",
              help="Write the protocol, versions, all figures and the scores of every image.")  # fmt: skip
@friendly
def evaluate(
    sr_dirs: tuple[Path, ...], hr_dir: Path, lr_dir: Path | None, metrics: tuple[str, ...], crop_border: int,
    degrader: str, classifier_steps: int | None, page: Path | None, picture: Path | None, out: Path | None,
) -> None:  # fmt: skip
    """Score SR images against HR images, one by one and as sets.

    PSNR-Y, SSIM-Y and the distance of pretrained features compare each image with its HR. The distance of spectra,
    comb, a classifier and KID compare the whole set with HR: does it look like photographs? Several sets are scored on
    the same images.

    \b
      upsample eval --sr results --hr data/hr --lr data/lr --out scores.json --page report.html
      upsample eval --sr ours --sr theirs --hr data/hr -m niqe=niqe_modelparameters.mat
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    from tqdm import tqdm

    from upsample.evaluate import evaluate_folders
    from upsample.evaluation.figures import ABOUT_HR, HOW_TO_READ, columns_of, table_text
    from upsample.evaluation.scenes import HR
    from upsample.evaluation.sets import CLASSIFIER_STEPS

    report = evaluate_folders(
        sr_dirs,
        hr_dir,
        lr_dir=lr_dir,
        metrics=metrics,
        crop_border=crop_border,
        degrader=degrader,
        classifier_steps=CLASSIFIER_STEPS if classifier_steps is None else classifier_steps,
        picture=picture,
        page=page,
        progress=lambda items: tqdm(items, disable=None),
    )
    click.echo(table_text(report))
    if HR in columns_of(report):
        click.echo(ABOUT_HR)
    click.echo(HOW_TO_READ)
    for note in report["notes"]:
        click.echo(note, err=True)
    for line in report["left_out"]:
        click.echo(f"left out: {line}", err=True)
    click.echo(f"{len(report['images'])} images; {report['protocol']['psnr_y, ssim_y']}")
    for path in (page, picture):
        if path is not None:
            click.echo(str(path))
    if out is not None:
        _write_json(out, report)
        click.echo(str(out))


def _write_json(path: Path, report: dict[str, Any]) -> None:
    from degrade.files.store import write_atomic

    write_atomic(path, json.dumps(report, indent=2).encode())
