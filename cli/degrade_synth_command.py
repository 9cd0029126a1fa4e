"""`degrade synth` and `degrade preview`, which share the options that decide what is degraded and how."""

import functools
import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.common import (
    BACKEND_OPTION,
    COMPLETED_WITH_FAILURES,
    DEVICE_HELP,
    EXISTING,
    FP32_OPTION,
    PATH,
    chosen_device,
    chosen_precision,
    friendly,
    push,
)

if TYPE_CHECKING:
    from degrade.networks.backend import Backend
    from degrade.synth.job import Job
    from degrade.synth.plan import Share
    from degrade.synth.ray_cluster import RayCluster
    from degrade.synth.settings import Alpha, ImageFormat, SynthSettings, WrittenFormat


@dataclass(frozen=True, kw_only=True)
class LookOptions:
    """Hold the values of `look_options`, a field for each option."""

    scale: int
    degrader: str
    preset: str | None
    recipe: Path | None
    mix: float
    steps: int
    reference_dir: Path | None
    strength: tuple[float, float]
    grain: float
    blur: float
    noise: float
    jpeg: float
    variants: int
    jpg_quality: int
    max_pixels: int
    max_hr_side: int
    alpha: "Alpha"
    seed: int
    device: str
    fp32: bool
    backend: "Backend"


@dataclass(frozen=True, kw_only=True)
class PairOptions(LookOptions):
    """Hold the values of `pair_options`, a field for each option."""

    hr_dir: Path
    crop_size: int | None
    crops_per_image: int
    hr_ext: "ImageFormat"
    lr_ext: "ImageFormat"
    min_side: int
    keep_flat: bool
    batch_size: int


class StrengthType(click.ParamType):
    """Read "0.5" or "0.5..1.5" as a range."""

    name = "X|LOW..HIGH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        """Convert the text to (low, high)."""
        if isinstance(value, tuple):
            return value
        low, dots, high = value.partition("..")
        try:
            span = float(low), float(high if dots else low)
        except ValueError:
            self.fail(f"{value!r} is no strength; give a number such as 0.7, or a range such as 0.5..1.5", param, ctx)
        if not 0 <= span[0] <= span[1] <= 2:
            self.fail(f"{value!r} is not a range within 0..2", param, ctx)
        return span


STRENGTH, MOVE = StrengthType(), click.FloatRange(-3, 3)
_IMAGE_FORMAT = click.Choice(["png", "webp", "jpg"])
_LOOK_OPTIONS = [
    click.option("--scale", type=click.IntRange(1, 4), default=4, show_default=True,
                 help="HR side / LR side; 1 makes pairs of equal size, to learn denoising and the like."),
    click.option("--degrader", "--model", "degrader", default="tiny-x4", show_default=True, metavar="NAME|DIR|none",
                 help="Learned degrader: a shipped name, a folder, or a hub id; 'none' to use a recipe alone."),
    click.option("--preset", metavar="NAME", help="Classical recipe by name; `degrade presets` lists them."),
    click.option("--recipe", type=EXISTING, metavar="FILE",
                 help="Classical recipe from a YAML or TOML file, or from an existing Real-ESRGAN yml."),
    click.option("--mix", type=click.FloatRange(0, 1), default=0.5, show_default=True, metavar="P",
                 help="Share of pairs that the recipe degrades if there is a degrader too."),
    click.option("--steps", type=click.IntRange(1), default=1, show_default=True,
                 help="Network calls of the degrader for each pair."),
    click.option("--reference-dir", type=EXISTING, metavar="DIR", help="Degrade like the photographs in this folder."),
    click.option("--strength", type=STRENGTH, default="1", show_default=True,
                 help="How strong the learned looks are, 0 (clean downsampling) to 2; LOW..HIGH draws for each image."),
    click.option("--grain", type=click.FloatRange(0, 2), default=1.0, show_default=True, metavar="X",
                 help="Factor on the noise of the learned looks alone."),
    click.option("--blur", type=MOVE, default=0.0, show_default=True, metavar="X",
                 help="Move the learned looks towards blur, -3 to 3; 1 is the standard deviation among the looks."),
    click.option("--noise", type=MOVE, default=0.0, show_default=True, metavar="X", help="Likewise towards noise."),
    click.option("--jpeg", type=MOVE, default=0.0, show_default=True, metavar="X", help="Likewise towards JPEG."),
    click.option("--variants", type=click.IntRange(1), default=1, show_default=True, metavar="N",
                 help="Degradations of each crop or picture."),
    click.option("--jpg-quality", type=click.IntRange(1, 100), default=95, show_default=True,
                 help="Quality of images that are stored as jpg."),
    click.option("--max-pixels", type=click.IntRange(1), default=100_000_000, show_default=True, metavar="N",
                 help="Leave out images with more pixels than this (protects against decompression bombs)."),
    click.option("--max-hr-side", type=click.IntRange(0), default=0, show_default=True, metavar="PX",
                 help="Area-reduce longer images by 2 until they fit, because very large images are soft; 0 = never."),
    click.option("--alpha", type=click.Choice(["composite", "refuse"]), default="composite", show_default=True,
                 help="Composite transparent images on white, or leave them out."),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of every random draw."),
    click.option("--device", default="auto", show_default=True, help=DEVICE_HELP),
    FP32_OPTION,
    BACKEND_OPTION,
]  # fmt: skip
_PAIR_OPTIONS = [
    click.option("--hr-dir", "-i", "--input", "hr_dir", type=PATH, required=True, metavar="PATH",
                 help="HR photographs: a folder with its subfolders, a text list, a meta_info file, or shards."),
    click.option("--crop-size", type=click.IntRange(0), default=None, metavar="PX",
                 help="Side of the HR crops; 0 = whole images.  [default: 256, or 255 at scale 3]"),
    click.option("--crops-per-image", type=click.IntRange(0), default=0, show_default=True, metavar="N",
                 help="Random crops of each image; 0 = a grid that covers it."),
    click.option("--hr-ext", type=_IMAGE_FORMAT, default="png", show_default=True,
                 help="Format of the HR images (webp is lossless)."),
    click.option("--lr-ext", type=_IMAGE_FORMAT, default="png", show_default=True, help="Format of the LR images."),
    click.option("--min-side", type=click.IntRange(1), default=64, show_default=True, metavar="PX",
                 help="Leave out images with a shorter side than this."),
    click.option("--keep-flat", is_flag=True, help="Keep nearly flat crops, which teach nothing."),
    click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True, metavar="N",
                 help="Images in one network call on a GPU; a CPU takes one at a time."),
]  # fmt: skip


def _adds(
    options: list[Any], kind: type[LookOptions], name: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds options to a command, which receives them as ``name``, an object of ``kind``."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            own = {field.name: values.pop(field.name) for field in fields(kind)}
            command(**{name: kind(**own)}, **values)

        decorated: Callable[..., None] = run
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


look_options = _adds(_LOOK_OPTIONS, LookOptions, "look")
pair_options = _adds([_PAIR_OPTIONS[0], *_LOOK_OPTIONS, *_PAIR_OPTIONS[1:]], PairOptions, "pairs")


@click.command()
@pair_options
@click.option("--out", "-o", "--output", "out", required=True, metavar="DIR|URL",
              help="Where to write the shards: a folder, or an address for fsspec, such as s3://bucket/prefix.",
              )  # fmt: skip
@click.option("--format", "pair_format", type=click.Choice(["shards", "folders"]), default="shards", show_default=True,
              help="WebDataset shards, or two folders of images with equal names, as BasicSR reads them.")  # fmt: skip
@click.option("--shard-size", "--number-sample-per-shard", "shard_size", type=click.IntRange(1), default=None,
              metavar="N", help="Pairs planned in a shard.  [default: 1000, or fewer, so that there are at least 8 "
              "shards for the workers of a loader]")  # fmt: skip
@click.option("--max-shard-mb", type=click.FloatRange(min=0, min_open=True), metavar="MB",
              help="Plan fewer pairs so that no shard exceeds this size; every pair counts as uncompressed.",
              )  # fmt: skip
@click.option("--workers", type=click.IntRange(0), default=None, metavar="N",
              help="Worker processes; 0 works in this process.  [default: the number of cores, at most 8]",
              )  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the resolved settings and the plan, and stop.")
@click.option("--overwrite", is_flag=True, help="Remove the data set in --out, then start.")
@click.option("--extend", is_flag=True, help="Add images that are new since the data set was started, as new shards.")
@click.option("--retry-failed", is_flag=True, help="Make the shards again in which a pair could not be made.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True,
              help="Work on this machine, or on a Ray cluster (extra 'ray'); both write the same bytes.")  # fmt: skip
@click.option("--address", metavar="HOST:PORT", help="Address of the Ray cluster; 'auto' for the cluster that runs on "
              "this machine.  [default: RAY_ADDRESS, or else a new cluster on this machine alone]")  # fmt: skip
@click.option("--node-rank", type=click.IntRange(0), metavar="R", help="Number of this node, from 0. It makes every "
              "N-th shard, starting with shard R.  [default: as set by srun or torchrun]")  # fmt: skip
@click.option("--num-nodes", type=click.IntRange(1), metavar="N",
              help="Number of nodes that share the work, each with a command of its own.")  # fmt: skip
@click.option("--push-to-hub", "hub_name", metavar="NAME",
              help="Then upload the data set to the Hugging Face Hub; a new one is private.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@friendly
def synth(
    pairs: PairOptions, out: str, pair_format: "WrittenFormat", shard_size: int | None, max_shard_mb: float | None,
    workers: int | None, dry_run: bool,
    overwrite: bool, extend: bool, retry_failed: bool, engine: str, address: str | None, node_rank: int | None,
    num_nodes: int | None, hub_name: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Make LR-HR pairs from HR photographs, in WebDataset shards or in two folders.

    Run the same command again to continue a data set that was interrupted: finished shards are kept. Images that
    cannot be used are listed in failures.jsonl with the reason. The exit status is then 3; it is 0 if all were used.

    \b
      degrade synth --hr-dir photos --out shards
      degrade synth --hr-dir photos --out shards --variants 2 --preset real-esrgan --mix 0.3
      degrade synth --hr-dir photos --out shards --reference-dir my_camera
      degrade synth --hr-dir photos --out pairs --format folders
      degrade synth --hr-dir /nfs/photos --out s3://bucket/shards --engine ray --address auto
      srun --nodes 8 degrade synth --hr-dir /nfs/photos --out /nfs/shards
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    from degrade.errors import is_address
    from degrade.files.platform import sigterm_as_ctrl_c
    from degrade.synth.ray_cluster import RayCluster
    from degrade.synth.run import SynthRun
    from degrade.synth.settings import LOADER_WORKERS

    if overwrite and extend:
        raise click.UsageError("--overwrite and --extend contradict each other; give one of them")
    if address and engine != "ray":
        raise click.UsageError("--address is for a Ray cluster; give --engine ray too")
    share = _share(engine, node_rank, num_nodes)
    if overwrite and share.count > 1:
        raise click.UsageError("--overwrite would remove what other nodes make; give another --out, or use one node")
    if hub_name and (share.count > 1 or is_address(out)):
        raise click.UsageError("--push-to-hub uploads a whole data set from a disk; run it on one node, with a folder")
    progress = sys.stderr.isatty()
    with ExitStack() as stack:
        stack.enter_context(sigterm_as_ctrl_c())
        cluster = stack.enter_context(RayCluster(address)) if engine == "ray" else None
        job = _job(
            pairs,
            pair_format=pair_format,
            shard_size=shard_size,
            min_shards=1 if shard_size else LOADER_WORKERS,
            max_shard_mb=max_shard_mb,
            cluster=cluster,
        )
        run = stack.enter_context(
            SynthRun.open(
                pairs.hr_dir,
                out,
                job,
                share=share,
                overwrite=overwrite,
                extend=extend,
                dry_run=dry_run,
                progress=progress,
            )  # fmt: skip
        )
        for note in run.notes():
            click.echo(note, err=True)
        if dry_run:
            click.echo(json.dumps(run.describe(), indent=2))
            return
        if cluster is None and workers is None:
            workers = min(8, os.cpu_count() or 1)
        stats = run.run(workers=workers, cluster=cluster, retry_failed=retry_failed, progress=progress)
    if hub_name:
        push(Path(out), hub_name)
    if as_json:
        click.echo(json.dumps(stats, indent=2, sort_keys=True))
    else:
        _print_summary(stats, out, pair_format)
    if stats["failures"]:
        sys.exit(COMPLETED_WITH_FAILURES)


@click.command()
@pair_options
@click.option("--out", "-o", "--output", "out", type=PATH, default=Path("preview.png"), show_default=True,
              metavar="PNG", help="The picture to write.")  # fmt: skip
@click.option("--rows", type=click.IntRange(1, 64), default=8, show_default=True, metavar="N",
              help="Number of crops to show.")  # fmt: skip
@friendly
def preview(pairs: PairOptions, out: Path, rows: int) -> None:
    """Draw a contact sheet of the pairs that `synth` makes with the same options, and write nothing else.

    The sheet shows at least three degradations of each crop; `synth` makes the first --variants of them.
    """
    from degrade.synth.preview import job_preview

    pairs = replace(pairs, variants=max(3, pairs.variants))
    for line in job_preview(pairs.hr_dir, _job(pairs), out, rows=rows):
        click.echo(f"left out: {line}", err=True)
    click.echo(str(out))


def _job(
    pairs: PairOptions,
    *,
    pair_format: "WrittenFormat" = "shards",
    shard_size: int | None = None,
    min_shards: int = 1,
    max_shard_mb: float | None = None,
    cluster: "RayCluster | None" = None,
) -> "Job":
    """Resolve the options of a command.

    Args:
        pairs: what is degraded, and how.
        pair_format: what is written.
        shard_size: pairs planned in a shard; None for the default, or if no shards are made.
        min_shards: divide a small data set into this many shards.
        max_shard_mb: limit on the size of a shard, 10^6 bytes.
        cluster: a Ray cluster, whose GPUs decide the device; this machine may have none.
    """
    from degrade.synth.settings import shard_size_for

    settings = replace(
        look_settings(pairs, cluster),
        crop_size=256 // pairs.scale * pairs.scale if pairs.crop_size is None else pairs.crop_size,
        crops_per_image=pairs.crops_per_image,
        format=pair_format,
        min_shards=min_shards,
        hr_ext=pairs.hr_ext,
        lr_ext=pairs.lr_ext,
        min_side=pairs.min_side,
        keep_flat=pairs.keep_flat,
    )
    if settings.device != "cpu":
        settings = replace(settings, batch_size=pairs.batch_size)
    if shard_size:
        settings = replace(settings, shard_size=shard_size)
    if max_shard_mb:
        settings = replace(settings, shard_size=shard_size_for(max_shard_mb, settings))
    return resolved(settings, pairs)


def look_settings(look: LookOptions, cluster: "RayCluster | None" = None) -> "SynthSettings":
    """Resolve the options that decide how an image is degraded; the settings are for whole images."""
    from degrade.adjustment import Adjustment
    from degrade.recipes.recipe import Recipe
    from degrade.synth.settings import SynthSettings

    if look.preset and look.recipe:
        raise click.UsageError("--preset and --recipe were both given; give one of them")
    recipe = Recipe.preset(look.preset) if look.preset else Recipe.from_file(look.recipe) if look.recipe else None
    for note in recipe.notes if recipe else ():
        click.echo(f"recipe: {note}", err=True)
    device = chosen_device(
        "cpu" if look.device == "auto" and look.backend != "torch" else look.device,
        cluster_gpus=None if cluster is None else bool(cluster.available("GPU")),
        say=look.degrader != "none",
    )
    if look.backend == "torch" and cluster is None:  # the others refuse what they cannot do
        chosen_precision("no" if look.fp32 else "bf16", device, way_out="--fp32")
    return SynthSettings(
        scale=look.scale,
        recipe=recipe.to_dict() if recipe else None,
        mix=look.mix,
        steps=look.steps,
        adjustment=Adjustment(
            strength=look.strength, grain=look.grain, blur=look.blur, noise=look.noise, jpeg=look.jpeg
        ),
        seed=look.seed,
        variants=look.variants,
        crop_size=0,
        jpg_quality=look.jpg_quality,
        max_pixels=look.max_pixels,
        max_hr_side=look.max_hr_side,
        alpha=look.alpha,
        device=device,
        backend=look.backend,
        bf16=not look.fp32,
    )


def resolved(settings: "SynthSettings", look: LookOptions) -> "Job":
    """Load the degrader that the options name, and complete the settings with it."""
    from degrade.synth.job import resolve_job

    return resolve_job(
        settings,
        degrader=look.degrader,
        reference_dir=look.reference_dir,
        on_note=lambda sentence: click.echo(sentence, err=True),
    )


def _share(engine: str, node_rank: int | None, num_nodes: int | None) -> "Share":
    """Choose the shards of this node: as the options say, or else as srun or torchrun set it."""
    from degrade.synth.plan import Share

    if (node_rank is None) != (num_nodes is None):
        raise click.UsageError("--node-rank and --num-nodes go together; give both")
    if engine == "ray":
        if num_nodes is not None:
            raise click.UsageError("--engine ray divides the shards itself; leave out --node-rank and --num-nodes")
        return Share()
    if node_rank is not None and num_nodes is not None:
        return Share(node_rank, num_nodes)
    share = Share.from_environment(os.environ)
    if share.count > 1:
        click.echo(f"node {share.rank} of {share.count} ({share.origin})", err=True)
    return share


def _others(count: int) -> str:
    return f" (and {count} more)" if count else ""


def _print_summary(stats: dict[str, Any], out: str, pair_format: "WrittenFormat") -> None:
    from degrade.shards.layout import FAILURES, PREVIEW

    folder = out.rstrip("/")
    where = f"{stats['shards']} shards" if pair_format == "shards" else "two folders, hr and lr"
    click.echo(
        f"{stats['pairs']} pairs in {where}, {stats['bytes'] / 1e6:.1f} MB, in {out}\n"
        f"this run: {stats['pairs_made_now']} pairs in {stats['seconds']:.1f} s, "
        f"{stats['hr_megapixels_per_second']:.2f} HR megapixels/s"
    )
    if stats["shards_missing"]:
        click.echo(f"{stats['shards_missing']} shards are still missing: other nodes make them")
    if stats["pairs"]:
        click.echo(f"look at {folder}/{PREVIEW}")
    if flat := stats["skipped"] - stats["passed_over"]:
        click.echo(f"{flat} nearly flat crops were skipped (--keep-flat keeps them)")
    for what, reasons in stats["reasons"].items():
        for each in reasons:
            click.echo(f"{what.replace('_', ' ')}: {each['first']}: {each['reason']}{_others(each['count'] - 1)}")
    if stats["failures"]:
        click.echo(f"{stats['failures']} images or crops could not be used; {folder}/{FAILURES} says why")
