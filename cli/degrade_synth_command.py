"""`degrade synth` and `degrade preview`, which share the options that decide what is degraded and how."""

import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.common import COMPLETED_WITH_FAILURES, EXISTING, PATH, chosen_device, friendly

if TYPE_CHECKING:
    from degrade.synth.job import Job
    from degrade.synth.plan import Share
    from degrade.synth.ray_cluster import RayCluster
    from degrade.synth.settings import Alpha, ImageFormat


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """Hold the values of `pair_options`, a field for each option."""

    hr_dir: Path
    scale: int
    degrader: str
    preset: str | None
    recipe: Path | None
    mix: float
    steps: int
    reference_dir: Path | None
    variants: int
    crop_size: int | None
    crops_per_image: int
    hr_ext: "ImageFormat"
    lr_ext: "ImageFormat"
    jpg_quality: int
    min_side: int
    max_pixels: int
    max_hr_side: int
    alpha: "Alpha"
    keep_flat: bool
    seed: int
    device: str
    batch_size: int


_IMAGE_FORMAT = click.Choice(["png", "webp", "jpg"])
_OPTIONS = [
    click.option("--hr-dir", "-i", "--input", "hr_dir", type=PATH, required=True, metavar="PATH",
                 help="HR photographs: a folder with its subfolders, a text list, a meta_info file, or shards."),
    click.option("--scale", type=click.IntRange(2, 4), default=4, show_default=True, help="HR side / LR side."),
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
    click.option("--variants", type=click.IntRange(1), default=1, show_default=True, metavar="N",
                 help="Degradations of each crop."),
    click.option("--crop-size", type=click.IntRange(0), default=None, metavar="PX",
                 help="Side of the HR crops; 0 = whole images.  [default: 256, or 255 at scale 3]"),
    click.option("--crops-per-image", type=click.IntRange(0), default=0, show_default=True, metavar="N",
                 help="Random crops of each image; 0 = a grid that covers it."),
    click.option("--hr-ext", type=_IMAGE_FORMAT, default="png", show_default=True,
                 help="Format of the HR images (webp is lossless)."),
    click.option("--lr-ext", type=_IMAGE_FORMAT, default="png", show_default=True, help="Format of the LR images."),
    click.option("--jpg-quality", type=click.IntRange(1, 100), default=95, show_default=True,
                 help="Quality of images that are stored as jpg."),
    click.option("--min-side", type=click.IntRange(1), default=64, show_default=True, metavar="PX",
                 help="Leave out images with a shorter side than this."),
    click.option("--max-pixels", type=click.IntRange(1), default=100_000_000, show_default=True, metavar="N",
                 help="Leave out images with more pixels than this (protects against decompression bombs)."),
    click.option("--max-hr-side", type=click.IntRange(0), default=0, show_default=True, metavar="PX",
                 help="Area-reduce longer images by 2 until they fit, because very large images are soft; 0 = never."),
    click.option("--alpha", type=click.Choice(["composite", "refuse"]), default="composite", show_default=True,
                 help="Composite transparent images on white, or leave them out."),
    click.option("--keep-flat", is_flag=True, help="Keep nearly flat crops, which teach nothing."),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of every random draw."),
    click.option("--device", default="auto", show_default=True, help="Device of the degrader: cpu, cuda, or auto."),
    click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True, metavar="N",
                 help="Images in one network call on a GPU; a CPU takes one at a time."),
]  # fmt: skip


def pair_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that decide what is degraded and how; the command receives them as ``pairs``, a `PairOptions`."""

    @functools.wraps(command)
    def run(**values: Any) -> None:
        own = {field.name: values.pop(field.name) for field in fields(PairOptions)}
        command(pairs=PairOptions(**own), **values)

    decorated: Callable[..., None] = run
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


@click.command()
@pair_options
@click.option("--out", "-o", "--output", "out", required=True, metavar="DIR|URL",
              help="Where to write the shards: a folder, or an address for fsspec, such as s3://bucket/prefix.",
              )  # fmt: skip
@click.option("--shard-size", "--number-sample-per-shard", "shard_size", type=click.IntRange(1), default=1000,
              show_default=True, metavar="N", help="Pairs planned in a shard.")  # fmt: skip
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
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@friendly
def synth(
    pairs: PairOptions, out: str, shard_size: int, max_shard_mb: float | None, workers: int | None, dry_run: bool,
    overwrite: bool, extend: bool, retry_failed: bool, engine: str, address: str | None, node_rank: int | None,
    num_nodes: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Make LR-HR pairs from HR photographs, in WebDataset shards.

    Run the same command again to continue a data set that was interrupted: finished shards are kept. Images that
    cannot be used are listed in failures.jsonl with the reason. The exit status is then 3; it is 0 if all were used.

    \b
      degrade synth --hr-dir photos --out shards
      degrade synth --hr-dir photos --out shards --variants 2 --preset real-esrgan --mix 0.3
      degrade synth --hr-dir photos --out shards --reference-dir my_camera
      degrade synth --hr-dir /nfs/photos --out s3://bucket/shards --engine ray --address auto
      srun --nodes 8 degrade synth --hr-dir /nfs/photos --out /nfs/shards
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    from degrade.synth.ray_cluster import RayCluster
    from degrade.synth.run import SynthRun

    if overwrite and extend:
        raise click.UsageError("--overwrite and --extend contradict each other; give one of them")
    if address and engine != "ray":
        raise click.UsageError("--address is for a Ray cluster; give --engine ray too")
    share = _share(engine, node_rank, num_nodes)
    if overwrite and share.count > 1:
        raise click.UsageError("--overwrite would remove what other nodes make; give another --out, or use one node")
    progress = sys.stderr.isatty()
    with ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.default_int_handler))
        cluster = stack.enter_context(RayCluster(address)) if engine == "ray" else None
        job = _job(pairs, shard_size=shard_size, max_shard_mb=max_shard_mb, cluster=cluster)
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
        if dry_run:
            click.echo(json.dumps(run.describe(), indent=2))
            return
        if cluster is None and workers is None:
            workers = min(8, os.cpu_count() or 1)
        stats = run.run(workers=workers, cluster=cluster, retry_failed=retry_failed, progress=progress)
    if as_json:
        click.echo(json.dumps(stats, indent=2, sort_keys=True))
    else:
        _print_summary(stats, out)
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
    job_preview(pairs.hr_dir, _job(pairs), out, rows=rows)
    click.echo(str(out))


def _job(
    pairs: PairOptions,
    *,
    shard_size: int | None = None,
    max_shard_mb: float | None = None,
    cluster: "RayCluster | None" = None,
) -> "Job":
    """Resolve the options of a command.

    Args:
        pairs: what is degraded, and how.
        shard_size: pairs planned in a shard; None if no shards are made.
        max_shard_mb: limit on the size of a shard, 10^6 bytes.
        cluster: a Ray cluster, whose GPUs decide the device; this machine may have none.
    """
    from degrade.recipes.recipe import Recipe
    from degrade.synth.job import resolve_job
    from degrade.synth.settings import SynthSettings, shard_size_for

    if pairs.preset and pairs.recipe:
        raise click.UsageError("--preset and --recipe were both given; give one of them")
    recipe = Recipe.preset(pairs.preset) if pairs.preset else Recipe.from_file(pairs.recipe) if pairs.recipe else None
    for note in recipe.notes if recipe else ():
        click.echo(f"recipe: {note}", err=True)
    device = pairs.device
    if cluster is None:
        device = chosen_device(device)
    elif device == "auto":
        device = "cuda" if cluster.available("GPU") else "cpu"
    settings = SynthSettings(
        scale=pairs.scale,
        recipe=recipe.to_dict() if recipe else None,
        mix=pairs.mix,
        steps=pairs.steps,
        seed=pairs.seed,
        variants=pairs.variants,
        crop_size=256 // pairs.scale * pairs.scale if pairs.crop_size is None else pairs.crop_size,
        crops_per_image=pairs.crops_per_image,
        shard_size=shard_size or SynthSettings.shard_size,
        hr_ext=pairs.hr_ext,
        lr_ext=pairs.lr_ext,
        jpg_quality=pairs.jpg_quality,
        min_side=pairs.min_side,
        max_pixels=pairs.max_pixels,
        max_hr_side=pairs.max_hr_side,
        alpha=pairs.alpha,
        keep_flat=pairs.keep_flat,
        device=device,
        batch_size=0 if device == "cpu" else pairs.batch_size,  # 0: one at a time, so that no byte depends on it
    )
    if max_shard_mb:
        settings = replace(settings, shard_size=shard_size_for(max_shard_mb, settings))
    return resolve_job(settings, degrader=pairs.degrader, reference_dir=pairs.reference_dir)


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


def _print_summary(stats: dict[str, Any], out: str) -> None:
    from degrade.shards.layout import FAILURES, PREVIEW

    folder = out.rstrip("/")
    click.echo(
        f"{stats['pairs']} pairs in {stats['shards']} shards, {stats['bytes'] / 1e6:.1f} MB, in {out}\n"
        f"this run: {stats['pairs_made_now']} pairs in {stats['seconds']:.1f} s, "
        f"{stats['hr_megapixels_per_second']:.2f} HR megapixels/s"
    )
    if stats["shards_missing"]:
        click.echo(f"{stats['shards_missing']} shards are still missing: other nodes make them")
    if stats["pairs"]:
        click.echo(f"look at {folder}/{PREVIEW}")
    if stats["skipped"]:
        click.echo(f"{stats['skipped']} nearly flat crops were skipped (--keep-flat keeps them)")
    if stats["failures"]:
        click.echo(f"{stats['failures']} images or crops could not be used; {folder}/{FAILURES} says why")
