"""The hidden-degradation world: a camera outside every recipe, of which only unpaired LR photographs are given.

Photographs are split in three. Of the first part only the LR is given, of the second only the HR; the third has the
true pairs, which nothing is trained on. The shipped degrader is fitted to the LR of the first part, and the report says
how near it comes to the truth, before and after, beside Real-ESRGAN and bicubic. Before and after are both told the
looks by the given LR. No recipe that the shipped degrader has seen shakes, or has noise that neighbours share.

    python examples/hidden_world.py --hr-dir photos --out runs/hidden

Run again, it goes on where it stopped.
"""

import argparse
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from degrade.files.sources import list_sources
from degrade.images.codec import encode_image, read_image
from degrade.images.geometry import shrink_to
from degrade.images.tensors import to_image, to_tensor
from degrade.realism.report import RealismConfig, evaluate
from degrade.recipes.recipe import Recipe
from degrade.training.config import PRESETS
from degrade.training.config_file import with_settings
from degrade.training.data import DataConfig
from degrade.training.loop import RunOptions
from degrade.training.run import train

WORLD = Path(__file__).parent / "hidden_world.yaml"
SCALE = 4  # whose HR pixels its shake is measured in
MAX_SIDE = 1024
SHOWN = ("kid", "frechet", "spectrum_distance", "w1_mean_in_real_sd", "classifier_accuracy", "taken_for_real", "recall")


def camera_recipe(scale: int = SCALE) -> Recipe:
    """Read what the camera does: it shakes by as many LR pixels at every scale, and all else is in LR pixels anyway."""
    recipe = Recipe.from_file(WORLD).to_dict()
    for step in recipe["steps"]:
        if step["op"] == "blur":
            step["length_px"] = [length * scale / SCALE for length in step["length_px"]]
    return Recipe.from_dict(recipe)


def make_world(hr_dir: Path, world: Path, seed: int, scale: int = SCALE) -> None:
    """Write world/given_lr, world/given_hr, and world/truth/{hr,lr}: each photograph to one of the three, by its name.

    Args:
        hr_dir: HR photographs.
        world: folder to write; one with the same settings is kept.
        seed: decides which photograph goes where, and what the camera does to it.
        scale: HR side / LR side, 1..4.

    Raises:
        ValueError: ``world`` was made from other photographs, or with another seed or scale.
    """
    recipe, sources = camera_recipe(scale), list_sources(hr_dir)
    stated: dict[str, object] = {"seed": seed, "photographs": [source.name for source in sources]}
    if scale != SCALE:  # worlds that do not state it are older, and of this scale
        stated["scale"] = scale
    settings = json.dumps(stated)
    if world.exists():
        if (world / "settings.json").read_text() != settings:
            raise ValueError(
                f"{world} was made with other photographs, another seed or another scale than {scale}; "
                "give another --out"
            )
        return
    unfinished = world.with_name(world.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for folder in ("given_lr", "given_hr", "truth/hr", "truth/lr"):
        (unfinished / folder).mkdir(parents=True)
    for number, source in enumerate(sources):
        image = shrink_to(read_image(source.read()), MAX_SIDE)
        height, width = (side // (8 * scale) * 8 * scale for side in image.shape[:2])
        hr = np.ascontiguousarray(image[:height, :width])
        digest = int(hashlib.sha256(f"{seed}/{source.name}".encode()).hexdigest(), 16)
        with torch.inference_mode():
            lr = to_image(Recipe.apply(to_tensor(hr), [recipe.draw(digest % 2**62, scale)])[0])
        part, name = digest % 10, f"{number:05d}.png"
        files = {"given_lr": lr} if part < 4 else {"given_hr": hr} if part < 8 else {"truth/hr": hr, "truth/lr": lr}
        for folder, picture in files.items():
            (unfinished / folder / name).write_bytes(encode_image(picture, "png"))
    (unfinished / "settings.json").write_text(settings)
    unfinished.rename(world)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the world, fit, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hr-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--degrader", default="tiny-x4", help="what to fit")
    parser.add_argument("--steps", type=int, default=PRESETS["fit"].schedule.steps)
    parser.add_argument("--crops", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mixed-precision", choices=["no", "bf16"], default="no")
    given = parser.parse_args(arguments)
    world = given.out / "world"
    make_world(given.hr_dir, world, given.seed)
    start = PRESETS["fit"]
    data = DataConfig(
        hr_dir=str(world / "given_hr"),
        lr_dirs=(str(world / "given_lr"),),
        recipes=start.data.recipes,
        weights=start.data.weights,
    )
    schedule = {"schedule.steps": given.steps, "schedule.seed": given.seed}
    config = with_settings(start, {"data": data, "start_from": given.degrader, **schedule})
    options = RunOptions(device="cpu", resume="latest", mixed_precision=given.mixed_precision)
    summary = train(config, given.out / "fit", options)
    truth = world / "truth"
    report = evaluate(
        RealismConfig(
            real_lr=truth / "lr",
            hr_dir=truth / "hr",
            pairs=(truth / "hr", truth / "lr"),
            degrader=summary["degrader"],
            before=given.degrader,
            reference_dir=str(world / "given_lr"),
            crops=given.crops,
            seeds=given.seeds,
        ),
        given.out / "report",
        progress=print,
    )
    columns = ("real", "ours", "before", "real_esrgan", "real_esrgan_light", "bicubic")
    print(f"{'':24}" + "".join(f"{name:>18}" for name in columns))
    for metric in SHOWN:
        values = (report["realism"][metric][name]["mean"] for name in columns)
        print(f"{metric:24}" + "".join(f"{value:18.3f}" for value in values))
    print(json.dumps({"fit_seconds": summary["seconds"], "report": str(given.out / "report" / "report.html")}))


if __name__ == "__main__":
    main()
