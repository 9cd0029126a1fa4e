"""Arms: the kinds of pairs that are compared, and the shards that hold them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from comparison.worlds import World
from degrade.job import resolve_job
from degrade.plan import SynthSettings
from degrade.recipe import Recipe
from degrade.synth import SynthRun
from upsample.pairs import PairConfig

Kind = Literal["recipe", "learned", "colearned", "both", "truth"]

HR_CROP = 128
CROPS_PER_IMAGE, VARIANTS = 8, 8


@dataclass(frozen=True)
class Arm:
    """One kind of training pairs.

    Attributes:
        title: for tables.
        kind: made by a recipe, by the degrader as it is, by one that learns beside the student, half and half, true.
        recipe: of "recipe" and "both".
        looks: the codes are those of the world's LR photographs; else of the degrader's own bank.
    """

    title: str
    kind: Kind
    recipe: str = ""
    looks: bool = False


ARMS = {
    "bicubic": Arm("bicubic", "recipe", "bicubic"),
    "real-esrgan": Arm("Real-ESRGAN", "recipe", "real-esrgan"),
    "real-esrgan-light": Arm("Real-ESRGAN, light", "recipe", "real-esrgan-light"),
    "bsrgan": Arm("BSRGAN", "recipe", "bsrgan"),
    "ours": Arm("ours, stored, its own looks", "learned"),
    "ours-looks": Arm("ours, stored, looks of the photographs", "learned", looks=True),
    "colearned": Arm("ours, co-learned", "colearned"),
    "half": Arm("half ours, half Real-ESRGAN", "both", "real-esrgan"),
    "oracle": Arm("true pairs (oracle)", "truth"),
}


def make_shards(
    world: World, out: Path, *, degrader: str = "none", recipe: str = "", looks: Path | None = None, variants: int = 0
) -> str:
    """Pairs of every HR photograph, as `degrade synth` writes them; what is finished already is kept.

    Args:
        world: whose HR.
        out: folder of the shards.
        degrader: shipped name or folder; "none" for the recipe.
        recipe: name or file; "" for the degrader.
        looks: LR photographs whose codes the degrader takes; None for its own bank.
        variants: of every crop; 0 for the comparison's number.

    Returns:
        ``out`` as text, as `PairConfig` takes it.
    """
    settings = SynthSettings(
        recipe=Recipe.load(recipe).to_dict() if recipe else None,
        crop_size=HR_CROP,
        crops_per_image=CROPS_PER_IMAGE,
        variants=variants or VARIANTS,
    )
    job = resolve_job(settings, degrader=degrader, reference_dir=looks)
    SynthRun.open(world.hr_dir, out, job).run(workers=2)
    return str(out)


def stored_pairs(world: World, name: str, shards: Path, degrader: str) -> PairConfig:
    """The training pairs of an arm, made when they are not there yet.

    Args:
        world: whose HR.
        name: of `ARMS`.
        shards: the folder under which shards lie, one folder an arm.
        degrader: the one that made "ours"; of the arm "colearned", one that has learned beside a student.
    """
    arm = ARMS[name]
    if arm.kind == "truth" and world.truth_pairs:
        hr, lr = world.truth_pairs
        return PairConfig(pairs=((str(hr), str(lr)),))
    if arm.kind == "both":
        halves = (stored_pairs(world, half, shards, degrader) for half in ("ours", arm.recipe))
        return PairConfig(shards=tuple(folder for half in halves for folder in half.shards))
    if arm.kind in ("recipe", "truth"):
        return PairConfig(shards=(make_shards(world, shards / name, recipe=arm.recipe or world.truth_recipe),))
    looks = world.looks_dir if arm.looks else None
    return PairConfig(shards=(make_shards(world, shards / name, degrader=degrader, looks=looks),))
