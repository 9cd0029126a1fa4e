"""World: what all arms of a comparison share, HR photographs to train on and images to be tested on."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from comparison.makes import MAKES, halves, link_pairs, split_makes
from degrade.recipes.recipe import Recipe
from hidden_world import camera_recipe, make_world

SCALE = 4  # of the real pairs, and of our student


@dataclass(frozen=True)
class World:
    """Photographs to train on, and what is kept from training.

    Attributes:
        name: "camera", "hidden", or a make of `MAKES`.
        hr_dir: HR photographs that every arm trains on.
        looks_dir: LR photographs of the world, without their HR: whose codes an arm may take.
        real_lr: folders of LR photographs for D_L of a degrader that learns; ``looks_dir`` is one of them.
        truth_pairs: folders (hr, lr) of true pairs, for the oracle alone; () for ``truth_recipe``.
        truth_recipe: what the world does to an HR photograph, for the oracle alone; None when there are true pairs.
        test_pairs: folders (hr, lr) that nothing is trained on.
        test_lr: LR photographs without HR that nothing is trained on; None for none.
        test_side: whole test images, 0, or the middle of so many HR pixels.
        other_pairs: pairs of folders (hr, lr) of other makes, for the arm "others" alone.
        variants: how often every crop of ``hr_dir`` is degraded for the stored pairs.
        scale: HR side / LR side.
    """

    name: str
    hr_dir: Path
    looks_dir: Path
    real_lr: tuple[Path, ...]
    truth_pairs: tuple[Path, Path] | tuple[()]
    truth_recipe: Recipe | None
    test_pairs: tuple[Path, Path]
    test_lr: Path | None
    test_side: int = 0
    other_pairs: tuple[tuple[Path, Path], ...] = ()
    variants: int = 8
    scale: int = SCALE


@cache
def the_world(name: str, data: Path, out: Path, scale: int = SCALE) -> World:
    """Return the world with a name, made once in a process; its files are made under ``out`` if they are missing.

    Raises:
        ValueError: only the hidden world has other scales than `SCALE`.
    """
    if name != "hidden" and scale != SCALE:
        raise ValueError(f"the pairs of the world {name} have scale {SCALE}, not {scale}; give --world hidden")
    if name in MAKES:
        return world_of_make(name, data, out)
    return camera_world(data) if name == "camera" else hidden_world(data, out, scale)


def camera_world(data: Path) -> World:
    """Real pairs: HR of four makes of cameras to train on, another make to test on; and bad images from the web."""
    pairs, web = data / "real_pairs", data / "real_lr"
    train = (pairs / "train" / "hr", pairs / "train" / "lr")
    return World(
        name="camera",
        hr_dir=train[0],
        looks_dir=train[1],
        real_lr=(train[1], web / "realset80", web / "rni15"),
        truth_pairs=train,
        truth_recipe=None,
        test_pairs=(pairs / "val" / "hr", pairs / "val" / "lr"),
        test_lr=web / "realsrset",
    )


def hidden_world(data: Path, out: Path, scale: int) -> World:
    """Make the world of `hidden_world.py`: its LR without HR, HR of other scenes, and true pairs of a third part.

    At scale 1, where upscaling is denoising, real photographs at high ISO are its LR without HR, if they are there.
    """
    world, noisy = out / "world", data / "real_lr" / "high_iso"
    make_world(data / "hr", world, seed=0, scale=scale)
    return World(
        name="hidden",
        hr_dir=world / "given_hr",
        looks_dir=world / "given_lr",
        real_lr=(world / "given_lr",),
        truth_pairs=(),
        truth_recipe=camera_recipe(scale),
        test_pairs=(world / "truth" / "hr", world / "truth" / "lr"),
        test_lr=noisy if scale == 1 and noisy.is_dir() else None,
        test_side=512,
        scale=scale,
    )


def world_of_make(make: str, data: Path, out: Path) -> World:
    """HR of many other cameras to train on, and the real pairs of one make in two halves, by photograph.

    The first half is given: its LR are the looks that a user of that camera has, and the oracle alone has its HR. The
    second half is tested. So nothing that is tested is trained on, in any arm.
    """
    real = data / "real_pairs"
    folders = split_makes([(real / part / "hr", real / part / "lr") for part in ("train", "val")], out / "pairs")
    first, second = halves(*folders[make])
    given = link_pairs(first, out / "halves" / make / "given")
    return World(
        name=make,
        hr_dir=data / "hr" / "cameras",
        looks_dir=given[1],
        real_lr=(given[1],),
        truth_pairs=given,
        truth_recipe=None,
        test_pairs=link_pairs(second, out / "halves" / make / "tested"),
        test_lr=None,
        other_pairs=tuple(pair for other, pair in folders.items() if other != make),
        variants=2,  # the HR are many
    )
