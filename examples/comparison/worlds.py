"""World: what all arms of a comparison share, HR photographs to train on and images to be tested on."""

from dataclasses import dataclass
from pathlib import Path

from hidden_world import WORLD, make_world


@dataclass(frozen=True)
class World:
    """Photographs to train on, and what is kept from training.

    Attributes:
        name: "camera" or "hidden".
        hr_dir: HR photographs that every arm trains on.
        looks_dir: LR photographs of the world, without their HR: whose codes an arm may take.
        real_lr: folders of LR photographs for D_L of a degrader that learns; ``looks_dir`` is one of them.
        truth_pairs: folders (hr, lr) of true pairs of ``hr_dir``, for the oracle alone; () for ``truth_recipe``.
        truth_recipe: what the world does to an HR photograph, for the oracle alone; "" when there are true pairs.
        test_pairs: folders (hr, lr) that nothing is trained on.
        test_lr: LR photographs without HR that nothing is trained on; None for none.
        test_side: whole test images, 0, or the middle of so many HR pixels.
    """

    name: str
    hr_dir: Path
    looks_dir: Path
    real_lr: tuple[Path, ...]
    truth_pairs: tuple[Path, Path] | tuple[()]
    truth_recipe: str
    test_pairs: tuple[Path, Path]
    test_lr: Path | None
    test_side: int = 0


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
        truth_recipe="",
        test_pairs=(pairs / "val" / "hr", pairs / "val" / "lr"),
        test_lr=web / "realsrset",
    )


def hidden_world(data: Path, out: Path) -> World:
    """The world of `hidden_world.py`: its LR without HR, HR of other scenes, and true pairs of a third part."""
    world = out / "world"
    make_world(data / "hr", world, seed=0)
    return World(
        name="hidden",
        hr_dir=world / "given_hr",
        looks_dir=world / "given_lr",
        real_lr=(world / "given_lr",),
        truth_pairs=(),
        truth_recipe=str(WORLD),
        test_pairs=(world / "truth" / "hr", world / "truth" / "lr"),
        test_lr=None,
        test_side=512,
    )
