"""`degrade export`: pair shards in the formats that other trainers read, and the degrader as an ONNX file."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.common import COMPLETED_WITH_FAILURES, PATH, friendly, push

if TYPE_CHECKING:
    from degrade.shards.export import ExportFormat


@click.command()
@click.argument("shards", type=str, required=False)
@click.option("--to", "kind", type=click.Choice(["folders", "lmdb", "parquet"]),
              help="Two folders of images, two LMDBs (extra 'lmdb'), or Parquet files (extra 'parquet').")  # fmt: skip
@click.option("--out", "-o", "--output", "out", type=PATH, metavar="DIR", help="Folder to make.")
@click.option("--push-to-hub", "hub_name", metavar="NAME",
              help="Then upload it to the Hugging Face Hub; a new data set is private.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--onnx", type=PATH, metavar="FILE",
              help="Write the degrader as an ONNX file instead (extra 'export').")  # fmt: skip
@click.option("--degrader", "--model", "degrader", default="tiny-x4", show_default=True, metavar="NAME|DIR",
              help="The degrader for --onnx: a shipped name, a folder, or a hub id.")  # fmt: skip
@click.option("--opset", type=int, default=18, show_default=True,
              help="Version of the ONNX operator set for --onnx.")  # fmt: skip
@click.option("--tolerance", type=click.FloatRange(0), default=1e-4, show_default=True, metavar="D",
              help="Largest accepted difference between the images of --onnx and torch's, in 0..1.")  # fmt: skip
@friendly
def export(
    shards: str | None, kind: "ExportFormat | None", out: Path | None, hub_name: str | None, as_json: bool,
    onnx: Path | None, degrader: str, opset: int, tolerance: float,
) -> None:  # fmt: skip
    """Copy pair shards, whoever made them, into the format of another trainer, or write the degrader as an ONNX file.

    SHARDS is a folder, a tar, or a brace pattern of tars. No image is encoded again. Run the same command again to
    continue an export that was stopped. Samples that are no whole pair are listed in failures.jsonl; the exit status is
    then 3.

    The ONNX file takes hr, code and noise, and gives lr, for any batch and size. It is written only after onnxruntime
    has given the same images as torch.

    \b
      degrade export shards --to folders --out pairs       # BasicSR, traiNNer-redux, neosr
      degrade export shards --to lmdb --out pairs-lmdb     # the same trainers, in two files
      degrade export shards --to parquet --out pairs-hub   # Hugging Face datasets, and the viewer of its Hub
      degrade export --onnx degrader.onnx --degrader runs/c/degrader
    """  # noqa: D301 - click's mark for a block not to be rewrapped
    _refuse_options_of_the_other("onnx" if onnx is None else "shards")
    if onnx is not None:
        from degrade.degrader import RealisticDegrader
        from degrade.onnx_file import export_onnx

        model = RealisticDegrader.from_pretrained(degrader)
        summary = export_onnx(model, onnx, name=Path(degrader).name, opset=opset, tolerance=tolerance)
        click.echo(json.dumps(summary, indent=2))
        return
    if shards is None or kind is None or out is None:
        raise click.UsageError("nothing to export; give SHARDS with --to and --out, or --onnx FILE")
    from degrade.shards.export import export_shards

    if hub_name and kind == "lmdb":
        raise click.UsageError("the Hub does not read LMDBs; give --to parquet or --to folders")
    began = time.monotonic()
    stats = export_shards(shards, out, kind, progress=sys.stderr.isatty())
    if hub_name:
        push(out, hub_name)
    if as_json:
        click.echo(json.dumps(stats, indent=2, sort_keys=True))
    else:
        click.echo(
            f"{stats['pairs']} pairs as {kind}, {stats['bytes'] / 1e6:.1f} MB, in {out} "
            f"({time.monotonic() - began:.1f} s)"
        )
        if stats["failures"]:
            click.echo(f"{stats['failures']} samples could not be used; {out}/failures.jsonl says why")
    if stats["failures"]:
        sys.exit(COMPLETED_WITH_FAILURES)


def _refuse_options_of_the_other(kind: str) -> None:
    """Refuse options of the export that was not asked for, of shards or of the degrader."""
    context = click.get_current_context()
    names = {
        "shards": {
            "shards": "SHARDS",
            "kind": "--to",
            "out": "--out",
            "hub_name": "--push-to-hub",
            "as_json": "--json",
        },
        "onnx": {"degrader": "--degrader", "opset": "--opset", "tolerance": "--tolerance"},
    }[kind]
    typed = click.core.ParameterSource.COMMANDLINE
    given = [shown for name, shown in names.items() if context.get_parameter_source(name) is typed]
    if given and kind == "shards":
        raise click.UsageError(f"--onnx writes the degrader and no pairs; leave out {', '.join(given)}")
    if given:
        raise click.UsageError(f"{', '.join(given)} can only be given with --onnx FILE")
