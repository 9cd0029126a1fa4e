"""Write pairs as two LMDBs, ``hr.lmdb`` and ``lr.lmdb``, as BasicSR reads them.

    hr.lmdb/data.mdb, lock.mdb   KEY -> encoded image
    hr.lmdb/meta_info.txt        ``KEY.png (height,width,3) 1`` for every image
    records.jsonl                key and record of every pair

The values are the bytes of the image files, so they may be of any format that OpenCV decodes. (1 is the level of PNG
compression with which BasicSR writes its own; nothing reads it.)
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from degrade.errors import ShardError
from degrade.files.store import DiskStore, Store
from degrade.shards.folder_writer import SIDES, disk_folder, meta_info_line, pair_line, pair_lines
from degrade.shards.layout import json_line
from degrade.shards.part_writer import PartWriter

RECORDS = "records.jsonl"
MAX_KEY_BYTES = 511  # of LMDB


class LmdbWriter(PartWriter):
    """Add one part to two LMDBs; see `PartWriter`. Parts of the same LMDBs are written one after the other.

    Args:
        out: the folder that holds the two LMDBs.
        index: number of the part.
        room: bytes by which an LMDB may grow; more than all images of the part need.

    Raises:
        ValueError: the package lmdb is missing, or the store is not a folder; or, from `write`, LMDB cannot hold the
            key, or an image or a record cannot be read.
        ShardError: the disk is full or not writable.
    """

    extension = "jsonl"

    def __init__(self, out: Path | str | Store, index: int, room: int) -> None:
        super().__init__(out, index)
        self._folder, self._room, self._lmdb = disk_folder(self.store), room, import_lmdb()

    def start(self) -> None:
        """Open a transaction in each LMDB."""
        self._open: list[Any] = []
        self._transactions: list[Any] = []
        with self._explained():
            for side in SIDES:
                folder = self._folder / f"{side}.lmdb"
                folder.mkdir(exist_ok=True)
                data = folder / "data.mdb"
                size = (data.stat().st_size if data.exists() else 0) + self._room
                self._open.append(self._lmdb.open(str(folder), map_size=size))
                self._transactions.append(self._open[-1].begin(write=True))

    def add(self, key: str, hr: bytes, lr: bytes, record: bytes, hr_ext: str, lr_ext: str) -> None:
        """Put both images, and write a line about them."""
        if not key.isascii() or len(key) > MAX_KEY_BYTES:
            raise ValueError(f"key {key!r} is not ASCII or too long for an LMDB; export to folders")
        line = pair_line(key, hr, lr, record, hr_ext, lr_ext)
        with self._explained():
            for transaction, image in zip(self._transactions, (hr, lr), strict=True):
                transaction.put(key.encode(), image)
        self.file.write(json_line(line) + b"\n")
        self.bytes_beside += len(hr) + len(lr)

    def complete(self) -> None:
        """Commit, which syncs."""
        with self._explained():
            for transaction in self._transactions:
                transaction.commit()

    def clean_up(self) -> None:
        """Close both LMDBs; what is not committed is dropped."""
        for opened in self._open:
            opened.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn LMDB's errors, which are not `OSError`s, into a `ShardError`."""
        try:
            yield
        except self._lmdb.Error as error:
            problem = f"cannot write {self._folder} ({error})"
            raise ShardError(f"{problem}: fix this and run the same command again") from error


def import_lmdb() -> ModuleType:
    """Import lmdb.

    Raises:
        ValueError: the package is missing.
    """
    try:
        import lmdb
    except ImportError as error:
        raise ValueError("LMDBs need the package lmdb; pip install 'realistic-degrader[lmdb]'") from error
    return lmdb


def write_lmdb_lists(store: Store) -> None:
    """Write the two ``meta_info.txt`` and `RECORDS` from the lists of the finished parts.

    Raises:
        ShardError: the disk is full or not writable.
    """
    for side in SIDES:
        with DiskStore(disk_folder(store) / f"{side}.lmdb").create("meta_info.txt") as file:
            for line in pair_lines(store):
                file.write(meta_info_line(line, side).replace(b"\n", b" 1\n"))
    with store.create(RECORDS) as file:
        for line in pair_lines(store):
            key = Path(line["hr_file_name"]).stem
            file.write(json_line({**line["record"], "key": key}) + b"\n")
