"""`degrade`: synth · train · preview · eval · verify · replay · presets.

Commands parse, call one library function and print what it returned. Heavy imports stand inside them, so that `--help`
answers at once.
"""

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cli.device import COMPLETED_WITH_FAILURES, chosen_device
from cli.group import HELP, FriendlyGroup, friendly

_PATH = click.Path(path_type=Path)
_EXISTING = click.Path(path_type=Path, exists=True)


@click.group(cls=FriendlyGroup, context_settings=HELP)
@click.version_option(package_name="realistic-degrader")
def main() -> None:
    """Learn how real images get bad, and hand it out as training data."""


def degradation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say what is degraded and how: of `synth` and `preview`."""
    options = [
        click.option("--hr-dir", "-i", "--input", "hr_dir", type=_PATH, required=True, metavar="PATH",
                     help="HR photographs: a folder (searched through), a text list, a meta_info file, or shards."),
        click.option("--scale", type=click.IntRange(2, 4), default=4, show_default=True, help="HR side / LR side."),
        click.option("--degrader", "--model", "degrader", default="tiny-x4", show_default=True, metavar="NAME|DIR|none",
                     help="Learned degrader: a shipped name, a folder, a hub id; 'none' for a recipe alone."),
        click.option("--preset", metavar="NAME", help="Classical recipe by name; see `degrade presets`."),
        click.option("--recipe", type=_EXISTING, metavar="FILE",
                     help="Classical recipe from a YAML or TOML file, also an existing Real-ESRGAN yml."),
        click.option("--mix", type=click.FloatRange(0, 1), default=0.5, show_default=True, metavar="P",
                     help="Share of the recipe when there is a degrader too."),
        click.option("--steps", type=click.IntRange(1), default=1, show_default=True,
                     help="Network calls of the degrader."),
        click.option("--reference-dir", type=_EXISTING, metavar="DIR", help="Degrade like the photos in this folder."),
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


@main.command()
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

    from degrade.ray_engine import RayCluster
    from degrade.synth import SynthRun

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


@main.command()
@degradation_options
@click.option("--out", "-o", "--output", "out", type=_PATH, default=Path("preview.png"), show_default=True,
              metavar="PNG", help="The picture to write.")  # fmt: skip
@click.option("--rows", type=click.IntRange(1, 64), default=8, show_default=True, help="Crops to show.")
@friendly
def preview(out: Path, rows: int, **options: Any) -> None:
    """Draw a contact sheet of the pairs that `synth` makes with the same options, and write nothing else.

    It shows at least three degradations of each crop; `synth` makes the first --variants of them.
    """
    from degrade.preview import job_preview

    options.pop("workers")
    options["variants"] = max(3, options["variants"])
    job_preview(options.pop("hr_dir"), _job(options), out, rows=rows)
    click.echo(str(out))


@main.command()
@click.option("--out", "-o", "--output", "--output-dir", "out", type=_PATH, required=True, metavar="DIR",
              help="Folder of the run.")  # fmt: skip
@click.option("--preset", type=click.Choice(["ci", "tiny", "fit", "paper"]),
              help="Sizes and schedule.  [default: fit with --from and --lr-dir, else tiny]")  # fmt: skip
@click.option("--hr-dir", "-i", "--input", "hr_dir", type=_EXISTING, metavar="PATH",
              help="HR photographs, for recipes and unpaired LR.  [default: those of --lr-dir, reduced]")  # fmt: skip
@click.option(
    "--recipe", "recipes", multiple=True, metavar="NAME|FILE", help="Classical recipe to learn from; repeatable."
)
@click.option(
    "--pairs", nargs=2, type=_EXISTING, multiple=True, metavar="HR_DIR LR_DIR", help="Real pairs; repeatable."
)
@click.option("--lr-dir", "lr_dirs", type=_EXISTING, multiple=True, metavar="DIR",
              help="Real LR images without HR; repeatable.")  # fmt: skip
@click.option("--weights", nargs=3, type=click.FloatRange(0), metavar="R P U",
              help="How often recipes, pairs and unpaired LR are drawn.  [default: the preset's]")  # fmt: skip
@click.option("--max-hr-side", type=click.IntRange(0), default=3000, show_default=True, metavar="PX",
              help="Area-reduce longer HR photographs by 2 until they fit; 0 = never.")  # fmt: skip
@click.option("--from", "start_from", default="", metavar="NAME|DIR", help="Degrader to go on from, such as tiny-x4.")
@click.option("--scale", type=click.IntRange(2, 4), default=4, show_default=True)
@click.option("--hr-crop", "--resolution", "hr_crop", type=click.IntRange(16), metavar="PX",
              help="Side of HR crops, a multiple of 8 x scale.  [default: the preset's, made to fit]")  # fmt: skip
@click.option("--steps", "--max-train-steps", "steps", type=click.IntRange(1), help="Updates.  [default: the preset's]")
@click.option(
    "--train-batch-size", "--batch-size", "batch_size", type=click.IntRange(2), help="Even.  [default: the preset's]"
)
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), help="[default: the preset's]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@click.option("--mixed-precision", type=click.Choice(["no", "bf16"]), default="no", show_default=True,
              help="bf16 is two to three times as fast on CPUs that have it.")  # fmt: skip
@click.option("--dataloader-num-workers", type=click.IntRange(0), default=1, show_default=True)
@click.option("--log-every", type=click.IntRange(1), default=20, show_default=True, metavar="STEPS")
@click.option("--sample-every", type=click.IntRange(1), default=500, show_default=True, metavar="STEPS",
              help="Contact sheets of samples.")  # fmt: skip
@click.option("--save-every", "--checkpointing-steps", "save_every", type=click.IntRange(1), default=500,
              show_default=True, metavar="STEPS")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with the run in --out; the result is that of an unbroken run.")
@click.option("--dry-run", is_flag=True, help="Print the resolved configuration and stop.")
@friendly
def train(
    out: Path, preset: str | None, hr_dir: Path | None, recipes: tuple[str, ...], pairs: tuple[tuple[Path, Path], ...],
    lr_dirs: tuple[Path, ...], weights: tuple[float, float, float] | None, max_hr_side: int, device: str,
    mixed_precision: str, dataloader_num_workers: int, log_every: int, sample_every: int, save_every: int,
    resume: bool, dry_run: bool, **overrides: Any,
) -> None:  # fmt: skip
    """Train a degrader from recipes, from real pairs, from real LR images without partners, or from all of them.

    \b
      degrade train --out runs/a --hr-dir photos --recipe real-esrgan
      degrade train --out runs/b --pairs my_hr my_lr
      degrade train --out runs/c --lr-dir my_camera --from tiny-x4
      degrade synth --hr-dir photos --out shards --degrader runs/c/degrader
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    from dataclasses import asdict, replace

    from degrade.train import PRESETS, train
    from degrade.train_data import DataConfig, fitting_crop

    preset = preset or ("fit" if lr_dirs and overrides["start_from"] else "tiny")
    start = PRESETS[preset]
    if lr_dirs and not (recipes or pairs):
        recipes = PRESETS["fit"].data.recipes
        click.echo(
            f"unpaired LR images cannot say how HR turns into LR; {' and '.join(recipes)} are added to teach it "
            "(--recipe chooses others)",
            err=True,
        )
    if lr_dirs and not hr_dir:
        click.echo("no --hr-dir: the images of --lr-dir, area-reduced by the scale, stand in for HR", err=True)
    data = DataConfig(
        hr_dir=str(hr_dir or ""),
        recipes=recipes,
        pairs=tuple((str(hr), str(lr)) for hr, lr in pairs),
        lr_dirs=tuple(map(str, lr_dirs)),
        weights=weights or start.data.weights,
        max_hr_side=max_hr_side,
    )
    given = {name: value for name, value in overrides.items() if value is not None}
    config = replace(start, data=data, **{"hr_crop": fitting_crop(start.hr_crop, overrides["scale"]), **given})
    if dry_run:
        click.echo(json.dumps(asdict(config), indent=2))
        return
    summary = train(
        config,
        out,
        device=chosen_device(device),
        mixed_precision=mixed_precision,
        resume=resume,
        log_every=log_every,
        sample_every=sample_every,
        save_every=save_every,
        loaders=dataloader_num_workers,
        command=" ".join(["degrade", *sys.argv[1:]]),
        progress=sys.stderr.isatty(),
    )
    for reason in summary["left_out"]:
        click.echo(f"left out: {reason}", err=True)
    click.echo(json.dumps(summary, indent=2))


@main.command()
@click.argument("shards", type=str)
@click.option("--sample", type=click.IntRange(1), metavar="N", help="Check only this many pairs of each shard.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as json.")
@friendly
def verify(shards: str, sample: int | None, as_json: bool) -> None:
    """Check paired shards, made by anyone: hashes, decoding, sizes, sub-pixel alignment, duplicates.

    SHARDS is a folder, a tar, or a brace pattern of tars. The exit status is 1 when something is wrong.
    """
    from degrade.shard_verify import verify_shards

    report = verify_shards(shards, sample=sample)
    click.echo(json.dumps(report.to_dict(), indent=2) if as_json else report.text())
    if report.problems:
        sys.exit(1)


@main.command()
@click.argument("shards", type=_EXISTING)
@click.option("--key", required=True, metavar="K", help="Key of the pair, such as 000000042 or 42.")
@click.option("--degrader", metavar="NAME|DIR", help="Where the weights are now.  [default: the name in the record]")
@click.option("--out", "-o", type=_PATH, metavar="PNG", help="Also write HR, stored LR and replayed LR side by side.")
@friendly
def replay(shards: Path, key: str, degrader: str | None, out: Path | None) -> None:
    """Make the LR of one pair again from its record and compare bytes."""
    from degrade.replay import replay_pair

    result = replay_pair(shards, key, degrader=degrader, picture=out)
    click.echo(json.dumps(result.to_dict(), indent=2))
    if not result.identical:
        sys.exit(1)


@main.command()
@click.option("--show", metavar="NAME", help="Print one as YAML, a start for a --recipe file of your own.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of recipe files, for editors.")
@friendly
def presets(show: str | None, schema: bool) -> None:
    """List the classical recipes and the learned degraders that are here."""
    from degrade.recipe import PRESET_NAMES, Recipe

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
@click.option("--real-lr", type=_PATH, required=True, metavar="PATH",
              help="Real LR images: a folder, a text list, or shards (their lr members).")  # fmt: skip
@click.option("--hr-dir", "-i", "--input", "hr_dir", type=_PATH, required=True, metavar="PATH",
              help="HR photographs to degrade, none of them trained on.")  # fmt: skip
@click.option("--pairs", nargs=2, type=_EXISTING, metavar="HR_DIR LR_DIR",
              help="Real pairs, for what only they tell.")  # fmt: skip
@click.option("--degrader", "--model", "degrader", default="tiny-x4", show_default=True, metavar="NAME|DIR",
              help="Learned degrader: a shipped name, a folder, a hub id.")  # fmt: skip
@click.option("--before", default="", metavar="NAME|DIR",
              help="Another degrader to stand beside, such as the one that this was trained from.")  # fmt: skip
@click.option("--reference-dir", type=_EXISTING, metavar="DIR", help="Take the looks from the photos in this folder.")
@click.option("--score", "scores", multiple=True, metavar="NAME[=FILE]",
              help="No-reference metric of pyiqa to add, such as piqe; FILE has its weights; repeatable.")  # fmt: skip
@click.option("--codes", type=click.Choice(["bank", "real"]), default="bank", show_default=True,
              help="Looks from the degrader's bank, or from a half of --real-lr not compared with.")  # fmt: skip
@click.option("--scale", type=click.IntRange(2, 4), default=4, show_default=True, help="HR side / LR side.")
@click.option("--crops", type=click.IntRange(16), default=200, show_default=True, metavar="N", help="In every set.")
@click.option("--crop-size", type=click.IntRange(32), default=64, show_default=True, metavar="PX",
              help="Side of the LR crops, a multiple of 8.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, metavar="N",
              help="Repetitions with other halves, crops and draws, for the spread of every figure.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1), default=1, show_default=True, help="Network calls of the degrader.")
@click.option("--max-hr-side", type=click.IntRange(0), default=3000, show_default=True, metavar="PX",
              help="Area-reduce longer HR photographs by 2 until they fit; 0 = never.")  # fmt: skip
@click.option("--out", "-o", "--output", "out", type=_PATH, required=True, metavar="DIR", help="Folder of the report.")
@friendly
def evaluate(out: Path, pairs: tuple[Path, Path] | None, reference_dir: Path | None, **options: Any) -> None:
    """Is the LR like real LR? Writes report.json, report.md and report.html.

    Every figure stands beside those of Real-ESRGAN and bicubic, and of real images against other real ones.

    \b
      degrade eval --real-lr my_camera --hr-dir photos --out report
      degrade eval --real-lr val/lr --hr-dir val/hr --pairs val/hr val/lr --out report
      degrade eval --real-lr my_camera --hr-dir photos --degrader runs/c/degrader --before tiny-x4 --out report
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    from degrade.realism import RealismConfig
    from degrade.realism import evaluate as write_report

    config = RealismConfig(pairs=pairs or None, reference_dir=str(reference_dir or ""), **options)
    command = shlex.join(["degrade", *sys.argv[1:]])
    report = write_report(config, out, command=command, progress=lambda line: click.echo(line, err=True))
    for metric, ratio in report["ours_over_real_esrgan"].items():
        click.echo(f"{metric}: " + ("none" if ratio is None else f"{ratio:.2f} of Real-ESRGAN's distance"))
    click.echo(f"look at {out / 'report.html'}")


def _job(options: dict[str, Any], cluster: Any = None) -> Any:
    """The options of `degradation_options` (and perhaps shard size) as a job for `degrade.synth`.

    A job for a Ray cluster takes its GPUs, which need not be here.
    """
    from degrade.job import resolve_job
    from degrade.plan import SynthSettings, shard_size_for
    from degrade.recipe import Recipe

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
    from degrade.share import Share

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
