"""Make every table and picture of RESULTS.md and RESULTS_TABLES.md again, in one command that resumes where it stopped.

    python examples/results.py --data data --out runs/results --mixed-precision bf16

Two degraders are trained first: one on recipes alone, which has seen no real LR, for the ablation; and that one
further, on real pairs and most of the real LR photographs, for everything else. For the table of five makes, five more
are trained, each on the pairs of four makes. Nothing here has seen the images it is tested on. The parts between marks
in both pages are then replaced by the tables of this run, and their pictures too.
"""

import argparse
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ablation
import deciding_table
import five_makes
import severity
from comparison.makes import MAKES, split_makes
from degrade.files.store import write_atomic
from degrade.images.codec import encode_image, read_image
from degrade.training.config import PRESETS, config_from_options
from degrade.training.config_file import with_settings
from degrade.training.data import DataConfig
from degrade.training.loop import RunOptions
from degrade.training.run import train

FOLDER = Path(__file__).parent  # of the pages
PAGES = {
    "RESULTS.md": ("makes",),
    "RESULTS_TABLES.md": ("camera", "hidden", "hidden-x2", "hidden-x1", "severity", "ablation"),
}
MAKES_RECIPE = FOLDER / "five_makes.yaml"
AFTER_RESIZE = "examples/recipes/after-resize.yaml"  # so run this where README lies
RECIPES = ("real-esrgan", "real-esrgan-light", "bsrgan", "redux", "bicubic", AFTER_RESIZE, AFTER_RESIZE)
HIDDEN = {"hidden": 4, "hidden-x2": 2, "hidden-x1": 1}  # scale of the hidden world, by folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, score, and write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with hr, real_pairs, real_lr and iqa")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", default="2", help="trainings at once, one thread each")
    parser.add_argument("--mixed-precision", choices=["no", "bf16"], default="no")
    given = parser.parse_args(arguments)
    out: Path = given.out
    synthetic, real = train_degraders(given.data, out, given.mixed_precision)
    how = ["--data", str(given.data), "--workers", given.workers, "--mixed-precision", given.mixed_precision]
    deciding_table.main([*how, "--out", str(out / "camera"), "--degrader", real])
    severity.main([*how, "--out", str(out / "severity"), "--shards", str(out / "camera" / "shards" / "ours")])
    for name, scale in HIDDEN.items():
        hidden = ["--degrader", real, "--world", "hidden", "--scale", str(scale), "--networks", "small"]
        deciding_table.main([*how, "--out", str(out / name), *hidden])
    unseen = train_without_makes(given.data, out / "degraders-of-makes", given.mixed_precision)
    deciding_table.main([*how, "--out", str(out / "makes"), "--world", "makes", "--degrader", unseen])
    base = str(out / "camera")
    ablation.main([*how, "--out", str(out / "ablation"), "--base", base, "--degrader", synthetic])
    write_pages(out)


def train_degraders(data: Path, out: Path, mixed_precision: str) -> tuple[str, str]:
    """The folders of the degrader that has seen recipes alone, and of the one that goes on from it with real LR."""
    tiny, web = PRESETS["tiny"], data / "real_lr"
    recipes = DataConfig(hr_dir=str(data / "hr"), recipes=RECIPES)
    pairs = (str(data / "real_pairs" / "train" / "hr"), str(data / "real_pairs" / "train" / "lr"))
    real = replace(recipes, pairs=(pairs,), lr_dirs=(str(web / "realset80"), str(web / "rni15")))
    first, second = out / "degrader-synthetic", out / "degrader-real"
    legs = {
        first: with_settings(tiny, {"data": recipes, "schedule.steps": 2_000}),
        second: with_settings(
            tiny,
            {
                "data": real,
                "schedule.steps": 2_500,
                "schedule.learning_rate": 4e-4,
                "start_from": str(first / "degrader"),
            },
        ),
    }
    for folder, config in legs.items():
        train(config, folder, RunOptions(device="cpu", resume="latest", mixed_precision=mixed_precision))
    return str(first / "degrader"), str(second / "degrader")


def train_without_makes(data: Path, out: Path, mixed_precision: str) -> str:
    """The folder of the degrader that has not seen a make, with {make} for the make, by the recipe of five_makes.py."""
    recipe, _ = config_from_options("tiny", MAKES_RECIPE, {})
    config = with_settings(recipe, {"data.hr_dir": str(data / "hr"), "data.lr_dirs": (str(data / "real_lr"),)})
    pairs = data / "real_pairs"
    folders = split_makes([(pairs / part / "hr", pairs / part / "lr") for part in ("train", "val")], out / "pairs")
    for make in MAKES:
        degrader = Path(five_makes.train_without(config, make, folders, out, mixed_precision))
    return str(out / "{make}" / degrader.relative_to(out / make))


def write_pages(out: Path) -> None:
    """Put the tables and pictures of a run into the pages; nothing is written when a page lacks a place for one.

    Raises:
        ValueError: a page does not have one place for each of its tables.
    """
    texts = {FOLDER / name: with_tables(FOLDER / name, out, tables) for name, tables in PAGES.items()}
    pictures = read_image((out / "camera" / "pictures.png").read_bytes())
    write_atomic(FOLDER / "results.jpg", encode_image(pictures, "jpg", 88))
    curves = out / "camera" / "student" / "colearned" / "seed-0" / "curves.png"
    shutil.copyfile(curves, FOLDER / "results_curves.png")
    for page, text in texts.items():
        write_atomic(page, text.encode())


def with_tables(page: Path, out: Path, tables: Sequence[str]) -> str:
    """Return the text of a page with the tables of a run between their marks."""
    text = page.read_text()
    for name in tables:
        mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        table = (out / name / "table.md").read_text()
        text, count = mark.subn(lambda found, table=table: f"{found[1]}\n{table}\n{found[2]}", text)
        if count != 1:
            raise ValueError(f"{page} has {count} places marked {name}; it needs one")
    return text


if __name__ == "__main__":
    try:
        main()
    except ValueError as err:
        raise SystemExit(f"error: {err}") from None
