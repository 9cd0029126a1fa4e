"""Write pairs as images in two folders, ``hr`` and ``lr``, with equal names.

    hr/KEY.png, lr/KEY.png   the images
    meta_info.txt            ``KEY.png (height,width,3)`` for every HR image, as BasicSR reads it
    metadata.jsonl           names and record of every pair, as Hugging Face `datasets` reads it
    pairs-000000.jsonl       the pairs of one part, from which both lists are made

The images of a part are moved into the folders together, whole and synced, when all are there.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from degrade.files.platform import sync_folder
from degrade.files.store import DiskStore, Store
from degrade.images.codec import probe_image
from degrade.shards.layout import META_INFO, METADATA, finished_shards, json_line, part_name
from degrade.shards.part_writer import PartWriter
from degrade.shards.record import read_record

SIDES = ("hr", "lr")
MAX_NAME_BYTES = 255  # of a file

_IMAGE = re.compile(r"\d{9}\.(png|webp|jpg)")  # as `degrade synth` names them


class PairFolderWriter(PartWriter):
    """Write one part of a data set of two folders; see `PartWriter`.

    Raises:
        ValueError: the store is not a folder on a disk; or, from `write`, an image or a record cannot be read.
        ShardError: the disk is full or not writable.
    """

    extension = "jsonl"

    def __init__(self, out: Path | str | Store, index: int) -> None:
        super().__init__(out, index)
        self._folder = disk_folder(self.store)

    def start(self) -> None:
        """Make a hidden folder for the images."""
        self._images = self.store.growing(part_name(self.index, "images"))
        for side in SIDES:
            (self._images / side).mkdir(parents=True)

    def add(self, key: str, hr: bytes, lr: bytes, record: bytes, hr_ext: str, lr_ext: str) -> None:
        """Write both images, and a line about them."""
        line = pair_line(key, hr, lr, record, hr_ext, lr_ext)
        if max(len(f"{key}.{ext}".encode()) for ext in (hr_ext, lr_ext)) > MAX_NAME_BYTES:
            raise ValueError("its key is too long for the name of a file")
        (self._images / line["hr_file_name"]).write_bytes(hr)
        (self._images / line["lr_file_name"]).write_bytes(lr)
        self.file.write(json_line(line) + b"\n")
        self.bytes_beside += len(hr) + len(lr)

    def complete(self) -> None:
        """Sync the images."""
        for path in self._images.glob("*/*"):
            with path.open("rb") as file:
                os.fsync(file.fileno())

    def publish(self) -> None:
        """Move the images into their folders, and remove older images of pairs that could not be made this time."""
        for side in SIDES:
            folder = self._folder / side
            folder.mkdir(exist_ok=True)
            for failure in self.failures:
                for old in folder.glob(f"{failure['key']}.*") if "key" in failure else ():
                    old.unlink(missing_ok=True)
            for path in (self._images / side).iterdir():
                os.replace(path, folder / path.name)
            sync_folder(folder)

    def clean_up(self) -> None:
        """Remove the hidden folder."""
        shutil.rmtree(self._images, ignore_errors=True)


def pair_line(key: str, hr: bytes, lr: bytes, record: bytes, hr_ext: str, lr_ext: str) -> dict[str, Any]:
    """Describe a pair of images: their names, their sizes as (height, width), and the record.

    Raises:
        ValueError: an image or the record cannot be read.
    """
    sizes = [(info.height, info.width) for info in map(probe_image, (hr, lr))]
    names = {"hr_file_name": f"hr/{key}.{hr_ext}", "lr_file_name": f"lr/{key}.{lr_ext}"}
    return {**names, "hr_size": sizes[0], "lr_size": sizes[1], "record": read_record(record)}


def pair_lines(store: Store) -> Iterator[dict[str, Any]]:
    """Yield the lines about the pairs of all finished parts, in order."""
    for _, marker in finished_shards(store):
        if marker.count:
            with store.open(marker.file) as file:
                yield from map(json.loads, file)


def write_folder_lists(store: Store) -> None:
    """Write `META_INFO` and `METADATA` from the lists of the finished parts.

    Raises:
        ShardError: the disk is full or not writable.
    """
    with store.create(META_INFO) as meta_info, store.create(METADATA) as metadata:
        for line in pair_lines(store):
            meta_info.write(meta_info_line(line, "hr"))
            names = {name: line[name] for name in ("hr_file_name", "lr_file_name")}
            metadata.write(json_line({**line["record"], **names}) + b"\n")


def meta_info_line(line: dict[str, Any], side: str) -> bytes:
    """Describe one image as BasicSR does: ``KEY.png (height,width,3)``."""
    height, width = line[f"{side}_size"]
    name = line[f"{side}_file_name"].partition("/")[2]
    return f"{name} ({height},{width},3)\n".encode()


def holds_images(store: Store) -> bool:
    """Tell whether one of the two folders exists and is not empty."""
    folder = disk_folder(store)
    return any((folder / side).is_dir() and any((folder / side).iterdir()) for side in SIDES)


def remove_images(store: Store) -> None:
    """Remove the images that `degrade synth` wrote to the two folders, and nothing else."""
    for side in SIDES:
        folder = disk_folder(store) / side
        for path in folder.glob("*"):
            if _IMAGE.fullmatch(path.name):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other files are in it, or it does not exist
            folder.rmdir()


def disk_folder(store: Store) -> Path:
    """Return the folder of a store.

    Raises:
        ValueError: the store is not a folder on a disk.
    """
    if not isinstance(store, DiskStore):
        raise ValueError(f"{store} is not a folder on a disk, which two folders of images need; write shards there")
    return store.folder
