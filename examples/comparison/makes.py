"""The makes of cameras in DRealSR, and their pairs, kept apart by folders of links."""

from collections.abc import Sequence
from pathlib import Path

from degrade.degrader import RealisticDegrader
from degrade.files.sources import list_pairs
from degrade.mix import fingerprint

# How the files of DRealSR begin, by make.
MAKES = {
    "Canon": ("Canon", "IMG"), "Nikon": ("DSC",), "Olympus": ("P1",), "Panasonic": ("panasonic",), "Sony": ("sony",),
}  # fmt: skip
SHIPPED, UNSEEN_BY_SHIPPED = "tiny-x4", ("Sony",)

Pair = tuple[Path, Path]  # files or folders: hr, lr


def split_makes(pairs: Sequence[Pair], out: Path) -> dict[str, Pair]:
    """Link the pairs of each make into ``out``/MAKE/{hr,lr}, and return these folders by make.

    Args:
        pairs: folders (hr, lr).
        out: where the links go; those of the same pairs may be there already.

    Raises:
        ValueError: a pair belongs to no make, a make has no pair, or ``out`` holds links of other pairs.
    """
    files: dict[str, list[Pair]] = {make: [] for make in MAKES}
    for hr, lr in (files for hr_dir, lr_dir in pairs for files in _files(hr_dir, lr_dir)):
        make = next((make for make, starts in MAKES.items() if hr.name.startswith(starts)), None)
        if make is None:
            raise ValueError(f"{hr} is of no make that is known here; add its make to MAKES")
        files[make].append((hr, lr))
    if empty := [make for make, found in files.items() if not found]:
        raise ValueError(f"no pair of {', '.join(empty)}; give the folders of its pairs too")
    return {make: link_pairs(found, out / make) for make, found in files.items()}


def halves(hr_dir: Path, lr_dir: Path) -> tuple[list[Pair], list[Pair]]:
    """List the files of every second pair of two folders in the order of their names, and those of the rest."""
    files = _files(hr_dir, lr_dir)
    return files[0::2], files[1::2]


def link_pairs(pairs: Sequence[Pair], out: Path) -> Pair:
    """Link the files of pairs into ``out``/hr and ``out``/lr, and return these folders; see `link`."""
    hr, lr = (link([pair[side] for pair in pairs], out / name) for side, name in enumerate(("hr", "lr")))
    return hr, lr


def link(files: Sequence[Path], folder: Path) -> Path:
    """Link files into a folder, and return it; links that are there already are kept.

    Raises:
        ValueError: two files have the same name, or the folder holds something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {file.name: file.resolve() for file in files}
    if len(wanted) < len(files):
        names = [file.name for file in files]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two images of {folder.name} are called {twice}; rename one")
    for path in folder.iterdir():
        if wanted.get(path.name) != path.resolve():
            raise ValueError(f"{path} is of other pairs than are given now; give another --out")
    for name, file in wanted.items():
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(file)
    return folder


def check_unseen(degrader: str, makes: Sequence[str]) -> None:
    """Refuse the shipped degrader, under whatever name, for makes whose pairs it has learned from.

    Args:
        degrader: shipped name, folder or hub id; {make} in it is replaced by each make.
        makes: that it is judged on.

    Raises:
        ValueError: it has seen a make.
    """
    shipped = fingerprint(RealisticDegrader.from_pretrained(SHIPPED))
    for make in makes:
        name = degrader.replace("{make}", make)
        if make not in UNSEEN_BY_SHIPPED and fingerprint(RealisticDegrader.from_pretrained(name)) == shipped:
            raise ValueError(
                f"{name} is {SHIPPED}, which has learned from pairs of {make} and is fair for "
                f"{', '.join(UNSEEN_BY_SHIPPED)} only; give --makes {' '.join(UNSEEN_BY_SHIPPED)}, or a --degrader "
                "that has not, such as runs/makes/{make}/training/degrader of five_makes.py"
            )


def _files(hr_dir: Path, lr_dir: Path) -> list[Pair]:
    return [(Path(hr.path), Path(lr.path)) for hr, lr in list_pairs(hr_dir, lr_dir).pairs]
