"""Read pairs by their numbers, from shards or from two folders, with any number of workers."""

import json
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from degrade.errors import ImageError, is_address, shown
from degrade.files.names import ROLES
from degrade.files.sources import list_pairs
from degrade.files.tars import TarMember, read_member, shard_paths
from degrade.images.codec import read_image
from degrade.images.tensors import to_tensor
from degrade.shards.layout import METADATA
from degrade.shards.patches import Patches
from degrade.shards.record import read_record
from degrade.shards.tar_pairs import find_pairs


class PairFiles(NamedTuple):
    """Hold the files of one pair.

    Attributes:
        key: key of the pair.
        place: where it is, for messages.
        hr: encoded HR image.
        lr: encoded LR image.
        meta: the record.
    """

    key: str
    place: str
    hr: bytes
    lr: bytes
    meta: dict[str, Any]


class PairSet(Dataset[dict[str, str | Tensor | dict[str, Any]]]):
    """Give the pairs of a data set by their numbers: a map-style dataset for a ``DataLoader``.

    An item is what `read_pairs` yields: ``key``, ``hr`` (3, H, W) and ``lr`` (3, h, w) in [0, 1], and ``meta``.

    With ``crop`` or ``augment``, an item is another one each time that it is read. The first time it is what
    `read_pairs` gives in its first epoch, and so on. How often each was read is counted in memory that the workers of a
    loader share; `set_epoch` sets the count, to resume a training.
    """

    def __init__(self, count: int, patches: Patches) -> None:
        self._count, self._patches = count, patches
        self._turns = torch.zeros(count if patches.is_random else 0, dtype=torch.int32).share_memory_()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> dict[str, str | Tensor | dict[str, Any]]:
        if not -self._count <= number < self._count:
            raise IndexError(f"pair {number} of {self._count}")
        files = self.files(number)
        turn = 0
        if self._patches.is_random:
            turn = int(self._turns[number])
            self._turns[number] += 1
        try:
            hr, lr = (to_tensor(read_image(data))[0] for data in (files.hr, files.lr))
            hr, lr = self._patches.cut(hr, lr, files.key, turn)
        except ValueError as error:
            kind = ImageError if isinstance(error, ImageError) else ValueError
            raise kind(f"{files.place}: {error}") from error
        return {"key": files.key, "hr": hr, "lr": lr, "meta": files.meta}

    def set_epoch(self, epoch: int) -> None:
        """Read on as if every pair had been read this often."""
        self._turns.fill_(epoch)

    @abstractmethod
    def files(self, number: int) -> PairFiles:
        """Read the files of a pair.

        Raises:
            OSError: they cannot be read.
            ValueError: the record is damaged.
        """


class PairShards(PairSet):
    """Give the pairs of shards by their numbers; see `PairSet`.

    Args:
        shards: folder of tars, a tar, a brace pattern, or a list of these; on a disk, not compressed. The headers of
            all tars are read once.
        crop: cut patches with this side, in HR pixels, a multiple of the scale; None for whole images.
        augment: flip and rotate HR and LR alike.
        seed: seed of the patches.

    Raises:
        ValueError: there are no pairs, or a sample has only one of its images. While reading: a pair is damaged, or
            smaller than the crop.
        ShardError: a tar cannot be read.
    """

    def __init__(
        self,
        shards: str | Path | Sequence[str | Path],
        *,
        crop: int | None = None,
        augment: bool = False,
        seed: int = 0,
    ) -> None:
        self._tars = shard_paths(shards)
        keys: list[str] = []
        places: list[tuple[int, ...]] = []
        for tar_number, tar in enumerate(self._tars):
            if is_address(tar):
                raise ValueError(f"{tar} is not on a disk; copy it to one, or use read_pairs, which streams")
            pairs, problems = find_pairs(tar)
            if problems:
                raise ValueError(f"{problems[0]}; see `degrade verify`")
            for pair in pairs:
                keys.append(pair.key)
                record = pair.record or TarMember("", 0, 0)
                places.append((tar_number, *pair.hr[1:], *pair.lr[1:], *record[1:]))
        if not keys:
            raise ValueError(f"{shards} holds no pairs; its members should be called KEY.hr.png and KEY.lr.png")
        # arrays, because workers that look at millions of Python objects copy all of them
        self._keys, self._places = np.array(keys), np.array(places, np.int64)
        super().__init__(len(keys), Patches(crop, augment, seed))

    def files(self, number: int) -> PairFiles:
        """See `PairSet`."""
        tar_number, *places = self._places[number].tolist()
        key, tar = str(self._keys[number]), self._tars[tar_number]
        with open(tar, "rb") as file:  # anew for every pair: workers must not share a position in a file
            hr, lr, record = (read_member(file, TarMember("", *places[at : at + 2])) for at in (0, 2, 4))
        place = f"{shown(key)} in {shown(tar)}"
        try:
            return PairFiles(key, place, hr, lr, read_record(record or b"{}"))
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error


class PairFolder(PairSet):
    """Give the pairs of two folders by their numbers, in the order of their names; see `PairSet`.

    Args:
        folder: folder with the subfolders ``hr`` (or ``gt``, ``hq``) and ``lr`` (or ``lq``), as `degrade synth --format
            folders` and `degrade export` write it; ``metadata.jsonl`` in it holds the records. Or the folder of HR
            images, if ``lr_folder`` is given too.
        lr_folder: folder of LR images, with the same names.
        crop: cut patches with this side, in HR pixels, a multiple of the scale; None for whole images.
        augment: flip and rotate HR and LR alike.
        seed: seed of the patches.

    Raises:
        ValueError: there are no pairs, or an image has no partner. While reading: a pair is damaged, or smaller than
            the crop.
    """

    def __init__(
        self,
        folder: str | Path,
        lr_folder: str | Path | None = None,
        *,
        crop: int | None = None,
        augment: bool = False,
        seed: int = 0,
    ) -> None:
        folder = Path(folder)
        hr_folder = folder
        if lr_folder is None:
            hr_folder, lr_folder = _side(folder, "hr"), _side(folder, "lr")
        pairs, unpaired = list_pairs(hr_folder, lr_folder)
        if unpaired:
            raise ValueError(f"{unpaired[0]} ({len(unpaired)} images have none); remove them, or finish the data set")
        self._keys = np.array([str(Path(hr.name).with_suffix("")) for hr, _ in pairs])
        self._hr, self._lr = (np.array([pair[side].path for pair in pairs]) for side in (0, 1))
        self._metadata = folder / METADATA
        self._lines = _lines_by_key(self._metadata)
        super().__init__(len(pairs), Patches(crop, augment, seed))

    def files(self, number: int) -> PairFiles:
        """See `PairSet`."""
        key, hr, lr = str(self._keys[number]), str(self._hr[number]), str(self._lr[number])
        meta: dict[str, Any] = {}
        if key in self._lines:
            with self._metadata.open("rb") as file:
                file.seek(self._lines[key])
                meta = read_record(file.readline())
            meta = {name: value for name, value in meta.items() if name not in ("hr_file_name", "lr_file_name")}
        return PairFiles(key, shown(hr), Path(hr).read_bytes(), Path(lr).read_bytes(), meta)


def _side(folder: Path, side: str) -> Path:
    """Find the folder of one side.

    Raises:
        ValueError: there is none.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir() and path.name.lower() in ROLES[side]:
            return path
    names = " or ".join(sorted(ROLES[side]))
    raise ValueError(f"{folder} has no folder {names}; pass a folder that has, or the HR and the LR folder")


def _lines_by_key(metadata: Path) -> dict[str, int]:
    """Return where the line of each pair begins; {} without the file.

    Raises:
        ValueError: a line is damaged.
    """
    lines: dict[str, int] = {}
    at = 0
    if metadata.is_file():
        with metadata.open("rb") as file:
            for line in file:
                try:
                    lines[Path(json.loads(line)["hr_file_name"]).stem] = at
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(f"{metadata} is damaged at byte {at}; write it again or remove it") from error
                at += len(line)
    return lines
