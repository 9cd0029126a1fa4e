"""`degrade synth` and `degrade preview`, which share the options that say what is degraded and how."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cli.common import COMPLETED_WITH_FAILURES, EXISTING, PATH, chosen_device, friendly


def degradation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say what is degraded and how: of `synth` and `preview`."""
    options = [
        click.option("--hr-dir", "-i", "--input", "hr_dir", type=PATH, required=True, metavar="PATH",
                     help="HR photographs: a folder (searched through), a text list, a meta_info file, or shards."),
        click.option("--scale", type=click.IntRange(2, 4), default=4, show_default=True, help="HR side / LR side."),
        click.option("--degrader", "--model", "degrader", default="tiny-x4", show_default=True, metavar="NAME|DIR|none",
                     help="Learned degrader: a shipped name, a folder, a hub id; 'none' for a recipe alone."),
        click.option("--preset", metavar="NAME", help="Classical recipe by name; see `degrade presets`."),
        click.option("--recipe", type=EXISTING, metavar="FILE",
                     help="Classical recipe from a YAML or TOML file, also an existing Real-ESRGAN yml."),
        click.option("--mix", type=click.FloatRange(0, 1), default=0.5, show_default=True, metavar="P",
                     help="Share of the recipe when there is a degrader too."),
        click.option("--steps", type=click.IntRange(1), default=1, show_default=True,
                     help="Network calls of the degrader."),
        click.option("--reference-dir", type=EXISTING, metavar="DIR", help="Degrade like the photos in this folder."),
        click.option("--variants", type=click.IntRange(1), default=1, show_default=True,
                     help="Degradations of each crop."),
        click.option("--crop-size", type=click.IntRange(0), default=None, metavar="PX",
                     help="Side of the HR crops; 0 = whole images.  [default: 256, or 255 at scale 3]"),
        click.option("--crops-per-image", type=click.IntRange(0), default=0, show_default=True, metavar="N",
                     help="Random crops of each image; 0 = a grid that covers it."),
        click.option("--hr-ext", type=click.Choice(["png", "webp", "jpg"]), default="png", show_default=True,
                     help="Format of the HR images (webp is lossless)."),
        click.option("--lr-ext", type=click.Choice(["png", "webp", "jpg"]), default="png", show_default=True,
                     help="Format of the LR images."),
        click.option("--jpg-quality", type=click.IntRange(1, 100), default=95, show_default=True, help="Of jpg files."),
        click.option("--min-side", type=click.IntRange(1), default=64, show_default=True, metavar="PX",
                     help="Leave smaller images out."),
        click.option("--max-pixels", type=click.IntRange(1), default=100_000_000, show_default=True, metavar="N",
                     help="Leave larger images out (a guard against decompression bombs)."),
        click.option("--max-hr-side", type=click.IntRange(0), default=0, show_default=True, metavar="PX",
                     help="Area-reduce longer images by 2 until they fit, since very large ones are soft; 0 = never."),
        click.option("--alpha", type=click.Choice(["composite", "refuse"]), default="composite", show_default=True,
                     help="Lay transparent images on white, or leave them out."),
        click.option("--keep-flat", is_flag=True, help="Keep nearly flat crops, which teach nothing."),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of every draw."),
        click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto."),
        click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True,
                     help="Images in one network call on a GPU; a CPU takes one at a time in each worker."),
        click.option("--workers", type=click.IntRange(0), default=None, metavar="N",
                     help="Processes; 0 = work in this one.  [default: the number of cores, at most 8]"),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@degradation_options
@click.option("--out", "-o", "--output", "out", required=True, metavar="DIR|URL",
              help="Where the shards go: a folder, or an address for fsspec, such as s3://bucket/prefix.")  # fmt: skip
@click.option("--shard-size", "--number-sample-per-shard", "shard_size", type=click.IntRange(1), default=1000,
              show_default=True, metavar="N", help="Pairs planned in a shard.")  # fmt: skip
@click.option("--max-shard-mb", type=click.FloatRange(min=0, min_open=True), metavar="MB",
              help="Plan fewer pairs so that no shard exceeds this, counting every pair as uncompressed.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the resolved settings and the plan, and stop.")
@click.option("--overwrite", is_flag=True, help="Remove the data set that --out holds, then start.")
@click.option("--extend", is_flag=True, help="Add images that are new since the data set was begun, as further shards.")
@click.option("--retry-failed", is_flag=True, help="Make the shards again in which a pair could not be made.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True,
              help="Processes of this machine, or a Ray cluster (extra 'ray'); the bytes are the same.")  # fmt: skip
@click.option("--address", metavar="HOST:PORT", help="Of the Ray cluster; 'auto' for the one that runs here.  "
              "[default: RAY_ADDRESS, else one of this machine alone]")  # fmt: skip
@click.option("--node-rank", type=click.IntRange(0), metavar="R",
              help="Without a cluster manager: make every N-th shard, from R on.  [default: as srun or torchrun says]",
              )  # fmt: skip
@click.option("--num-nodes", type=click.IntRange(1), metavar="N", help="Nodes that share the work, one command each.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as json.")
@friendly
def synth(
    out: str, dry_run: bool, overwrite: bool, extend: bool, retry_failed: bool, engine: str, address: str | None,
    node_rank: int | None, num_nodes: int | None, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """HR photographs in, WebDataset shards of LR-HR pairs out.

    Run the same command again to go on with a data set that was interrupted: finished shards are kept. Images that
    cannot be used are listed in failures.jsonl with the reason; the exit status is then 3, and 0 when all were used.

    \b
      degrade synth --hr-dir photos --out shards
      degrade synth --hr-dir photos --out shards --variants 2 --preset real-esrgan --mix 0.3
      degrade synth --hr-dir photos --out shards --reference-dir my_camera
      degrade synth --hr-dir /nfs/photos --out s3://bucket/shards --engine ray --address auto
      srun --nodes 8 degrade synth --hr-dir /nfs/photos --out /nfs/shards
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    from contextlib import ExitStack

    from degrade.synth.ray_cluster import RayCluster
    from degrade.synth.run import SynthRun

    if overwrite and extend:
        raise click.UsageError("--overwrite and --extend contradict each other; give one of them")
    if address and engine != "ray":
        raise click.UsageError("--address is of a Ray cluster; give --engine ray too")
    share = _share(engine, node_rank, num_nodes)
    if overwrite and share.count > 1:
        raise click.UsageError("--overwrite would remove what other nodes make; give another --out, or one node")
    workers, hr_dir = options.pop("workers"), options.pop("hr_dir")
    with ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.default_int_handler))
        cluster = stack.enter_context(RayCluster(address)) if engine == "ray" else None
        job = _job(options, cluster)
        progress = sys.stderr.isatty()
        kinds = {"overwrite": overwrite, "extend": extend, "dry_run": dry_run, "progress": progress}
        run = stack.enter_context(SynthRun.open(hr_dir, out, job, share=share, **kinds))
        if dry_run:
            click.echo(json.dumps(run.describe(), indent=2))
            return
        if cluster is None:
            workers = _worker_count(workers)
        stats = run.run(workers=workers, cluster=cluster, retry_failed=retry_failed, progress=progress)
    place = out.rstrip("/")
    if as_json:
        click.echo(json.dumps(stats, indent=2, sort_keys=True))
    else:
        click.echo(
            f"{stats['pairs']} pairs in {stats['shards']} shards, {stats['bytes'] / 1e6:.1f} MB, in {out}\n"
            f"this run: {stats['pairs_made_now']} pairs in {stats['seconds']:.1f} s, "
            f"{stats['hr_megapixels_per_second']:.2f} HR megapixels/s"
        )
        if stats["shards_missing"]:
            click.echo(f"{stats['shards_missing']} shards are not there yet: those of other nodes")
        if stats["pairs"]:
            click.echo(f"look at {place}/preview.png")
        if stats["skipped"]:
            click.echo(f"{stats['skipped']} nearly flat crops were skipped (--keep-flat keeps them)")
        if stats["failures"]:
            click.echo(f"{stats['failures']} images or crops could not be used; {place}/failures.jsonl says why")
    if stats["failures"]:
        sys.exit(COMPLETED_WITH_FAILURES)


@click.command()
@degradation_options
@click.option("--out", "-o", "--output", "out", type=PATH, default=Path("preview.png"), show_default=True,
              metavar="PNG", help="The picture to write.")  # fmt: skip
@click.option("--rows", type=click.IntRange(1, 64), default=8, show_default=True, help="Crops to show.")
@friendly
def preview(out: Path, rows: int, **options: Any) -> None:
    """Draw a contact sheet of the pairs that `synth` makes with the same options, and write nothing else.

    It shows at least three degradations of each crop; `synth` makes the first --variants of them.
    """
    from degrade.synth.preview import job_preview

    options.pop("workers")
    options["variants"] = max(3, options["variants"])
    job_preview(options.pop("hr_dir"), _job(options), out, rows=rows)
    click.echo(str(out))


def _job(options: dict[str, Any], cluster: Any = None) -> Any:
    """The options of `degradation_options` (and perhaps shard size) as a job for `degrade.synth.run`.

    A job for a Ray cluster takes its GPUs, which need not be here.
    """
    from degrade.recipes.recipe import Recipe
    from degrade.synth.job import resolve_job
    from degrade.synth.settings import SynthSettings, shard_size_for

    preset, file = options.pop("preset"), options.pop("recipe")
    if preset and file:
        raise click.UsageError("--preset and --recipe were both given; give one of them")
    recipe = Recipe.preset(preset) if preset else Recipe.from_file(file) if file else None
    for note in recipe.notes if recipe else ():
        click.echo(f"recipe: {note}", err=True)
    degrader, reference_dir = options.pop("degrader"), options.pop("reference_dir")
    max_shard_mb = options.pop("max_shard_mb", None)
    if options["crop_size"] is None:
        options["crop_size"] = 256 // options["scale"] * options["scale"]
    if cluster is None:
        options["device"] = chosen_device(options["device"])
    elif options["device"] == "auto":
        options["device"] = "cuda" if cluster.available("GPU") else "cpu"
    if options["device"] == "cpu":
        options["batch_size"] = 0  # one at a time, so that the bytes do not depend on it
    settings = SynthSettings(recipe=recipe.to_dict() if recipe else None, **options)
    if max_shard_mb:
        from dataclasses import replace

        settings = replace(settings, shard_size=shard_size_for(max_shard_mb, settings))
    return resolve_job(settings, degrader=degrader, reference_dir=reference_dir)


def _share(engine: str, node_rank: int | None, num_nodes: int | None) -> Any:
    """Which shards are this node's: by options, else by what srun or torchrun said."""
    from degrade.synth.plan import Share

    if (node_rank is None) != (num_nodes is None):
        raise click.UsageError("--node-rank and --num-nodes go together; give both")
    if engine == "ray":
        if num_nodes is not None:
            raise click.UsageError("--engine ray deals out the shards itself; leave out --node-rank and --num-nodes")
        return Share()
    if node_rank is not None and num_nodes is not None:
        return Share(node_rank, num_nodes)
    share = Share.from_environment(os.environ)
    if share.count > 1:
        click.echo(f"node {share.rank} of {share.count} ({share.said_by})", err=True)
    return share


def _worker_count(workers: int | None) -> int:
    return min(8, os.cpu_count() or 1) if workers is None else workers
