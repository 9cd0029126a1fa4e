"""Arms: the kinds of pairs that are compared, and the shards that hold them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from comparison.worlds import SCALE, World
from degrade.adjustment import Adjustment
from degrade.recipes.recipe import Recipe
from degrade.synth.job import resolve_job
from degrade.synth.manifest import read_manifest
from degrade.synth.run import SynthRun
from degrade.synth.settings import SynthSettings
from upsample.training.data import PairConfig

Kind = Literal["recipe", "learned", "colearned", "both", "others", "truth"]

HR_CROP = 128
CROPS_PER_IMAGE = 8


@dataclass(frozen=True)
class Arm:
    """Describe one kind of training pairs.

    Attributes:
        title: for tables.
        kind: made by a recipe, by the degrader as it is, by one that learns beside the student, half and half, true
            pairs of other makes, true pairs of the world.
        recipe: of "recipe" and "both".
        looks: the codes are those of the world's LR photographs; else of the degrader's own bank.
        strength: range of the learned degradation's strength, drawn for each pair.
    """

    title: str
    kind: Kind
    recipe: str = ""
    looks: bool = False
    strength: tuple[float, float] = (1.0, 1.0)


ARMS = {
    "bicubic": Arm("bicubic", "recipe", "bicubic"),
    "real-esrgan": Arm("Real-ESRGAN", "recipe", "real-esrgan"),
    "real-esrgan-light": Arm("Real-ESRGAN, light", "recipe", "real-esrgan-light"),
    "bsrgan": Arm("BSRGAN", "recipe", "bsrgan"),
    "ours": Arm("ours, stored, its own looks", "learned"),
    "ours-looks": Arm("ours, stored, looks of the photographs", "learned", looks=True),
    "ours-range": Arm("ours, looks of the photographs, strength 0..1", "learned", looks=True, strength=(0.0, 1.0)),
    "colearned": Arm("ours, co-learned", "colearned"),
    "half": Arm("half ours, half Real-ESRGAN", "both", "real-esrgan"),
    "others": Arm("true pairs of the other makes", "others"),
    "oracle": Arm("true pairs (oracle)", "truth"),
}
RECIPES = tuple(name for name, arm in ARMS.items() if arm.kind == "recipe")


def depends_on_make(name: str, degrader: str) -> bool:
    """Say whether the pairs of an arm differ from make to make although the HR is the same."""
    arm = ARMS[name]
    own_degrader = "{make}" in degrader and arm.kind in ("learned", "both")
    return own_degrader or arm.looks or arm.kind in ("colearned", "others", "truth")


def obstacle(name: str, scale: int) -> str:
    """Say why the pairs of an arm cannot be made at a scale; "" where they can."""
    arm = ARMS[name]
    if arm.kind == "colearned" and scale != SCALE:
        return f"the student that its degrader learns beside has scale {SCALE}"
    if arm.recipe:
        try:
            Recipe.load(arm.recipe).draw(0, scale)
        except ValueError as err:
            return str(err)
    return ""


def make_pairs(world: World, name: str, shards: Path, degrader: str) -> None:
    """Make the stored pairs of an arm, as `degrade synth` writes them; what is finished already is kept.

    Not for two processes at once: both would write into one folder.

    Args:
        world: whose HR.
        name: of `ARMS`.
        shards: the folder under which shards lie, one folder an arm.
        degrader: shipped name or folder of the one that makes "ours"; of the arm "colearned", one that has learned
            beside a student.
    """
    arm = ARMS[name]
    if arm.kind == "both":
        for half in ("ours", arm.recipe):
            make_pairs(world, half, shards, degrader)
        return
    if _true_pairs(world, arm):
        return
    learned = arm.kind in ("learned", "colearned")
    recipe = Recipe.load(arm.recipe) if arm.recipe else world.truth_recipe
    settings = SynthSettings(
        scale=world.scale,
        recipe=None if learned or recipe is None else recipe.to_dict(),
        crop_size=HR_CROP,
        crops_per_image=CROPS_PER_IMAGE,
        variants=world.variants,
        adjustment=Adjustment(strength=arm.strength),
    )
    looks = world.looks_dir if arm.looks else None
    job = resolve_job(settings, degrader=degrader if learned else "none", reference_dir=looks)
    with SynthRun.open(world.hr_dir, shards / name, job) as run:
        run.run(workers=2)


def pairs_of(world: World, name: str, shards: Path) -> PairConfig:
    """Return the training pairs of an arm, where `make_pairs` put them; both halves are drawn from alike.

    Raises:
        ValueError: the world has no such pairs.
    """
    arm = ARMS[name]
    if pairs := _true_pairs(world, arm):
        return PairConfig(pairs=tuple((str(hr), str(lr)) for hr, lr in pairs))
    names = ("ours", arm.recipe) if arm.kind == "both" else (name,)
    return PairConfig(shards=tuple(str(shards / each) for each in names))


def _true_pairs(world: World, arm: Arm) -> tuple[tuple[Path, Path], ...]:
    """Folders (hr, lr) of an arm that learns from true pairs; () for one whose pairs are made."""
    if arm.kind == "others" and not world.other_pairs:
        raise ValueError(f"the world {world.name} has no true pairs of other makes; leave out the arm others")
    if arm.kind == "others":
        return world.other_pairs
    return (world.truth_pairs,) if arm.kind == "truth" and world.truth_pairs else ()


def identity(pairs: PairConfig) -> list[str]:
    """Return the hashes of the settings that made the pairs, which name them whatever their folders are called."""
    manifests = (read_manifest(Path(folder)) for folder in pairs.shards)
    return [manifest["settings_hash"] for manifest in manifests if manifest is not None]
