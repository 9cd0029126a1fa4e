"""Write one part of a data set of pairs, so that it appears whole or not at all, whatever the format."""

import contextlib
import hashlib
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from degrade.errors import one_sentence
from degrade.files.store import Store, open_store
from degrade.shards.layout import ShardMarker, marker_name, part_name, write_marker


class PartWriter(ABC):
    """Write the pairs of one part: a shard, or what takes its place in another format.

    ::

        with PairShardWriter("out", index=0) as writer:
            writer.write(sample_key(slot), hr_bytes, lr_bytes, meta.to_json())
            writer.fail({"key": sample_key(slot), "source": "cat.jpg", "reason": "truncated"})

    Every part has one file of its own, ``pairs-000000`` with the extension of the format. It is written under a hidden
    unique name, so a second writer of the same part (a task that was started again while the first is not quite dead)
    does no harm: both write the same bytes. Nothing that looks complete appears before everything is on disk. If the
    block raises, what was written is removed.

    Args:
        out: a folder, an address that fsspec opens, or a store.
        index: number of the part.

    Raises:
        ShardError: the disk is full or not writable.
    """

    extension: str  # of the file of a part
    bytes_beside: int  # size of what the format writes beside this file

    def __init__(self, out: Path | str | Store, index: int) -> None:
        self.store, self.index = open_store(out), index
        self.count = self.bytes_beside = 0
        self.failures: list[dict[str, object]] = []
        self.file: HashingFile
        self._growing = Path()

    def __enter__(self) -> Self:
        with self._one_sentence():
            self._growing = self.store.growing(self.name)
            self.file = HashingFile(open(self._growing, "wb"))  # noqa: SIM115  # closed in __exit__
            self.start()
        return self

    @property
    def name(self) -> str:
        """Name of the file of this part."""
        return part_name(self.index, self.extension)

    def write(self, key: str, hr: bytes, lr: bytes, record: bytes, hr_ext: str = "png", lr_ext: str = "png") -> None:
        """Add one pair.

        Args:
            key: name of the pair.
            hr: encoded HR image.
            lr: encoded LR image.
            record: JSON record of the pair.
            hr_ext: extension of the HR image, without dot.
            lr_ext: extension of the LR image, without dot.

        Raises:
            ValueError: the format cannot hold this pair; nothing of it is written.
            ShardError: the disk is full or not writable.
        """
        with self._one_sentence():
            self.add(key, hr, lr, record, hr_ext, lr_ext)
        self.count += 1

    def fail(self, failure: Mapping[str, object]) -> None:
        """Record a planned pair that could not be made; it needs a ``"reason"``, all other keys are free."""
        if "reason" not in failure:
            raise ValueError(f"failure {dict(failure)} gives no reason; add one sentence under 'reason'")
        self.failures.append(dict(failure))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                with self._one_sentence():
                    self._finish()
        finally:
            with contextlib.suppress(OSError):  # a full disk fails again on close; the first error is the one to show
                self.clean_up()
            with contextlib.suppress(OSError):
                self.file.close()
            self._growing.unlink(missing_ok=True)

    def _finish(self) -> None:
        self.complete()
        self.file.sync()
        self.file.close()
        self.store.remove(marker_name(self.index))  # an older marker must not stand beside new files
        self.publish()
        if self.count:
            self.store.publish(self._growing, self.name)
            total, sha256 = self.file.size + self.bytes_beside, self.file.sha256.hexdigest()
            marker = ShardMarker(self.count, total, self.name, self.file.size, sha256, self.failures)
        else:
            self.store.remove(self.name)
            marker = ShardMarker(0, 0, "", 0, "", self.failures)
        write_marker(self.store, self.index, marker)

    @abstractmethod
    def start(self) -> None:
        """Prepare to add pairs."""

    @abstractmethod
    def add(self, key: str, hr: bytes, lr: bytes, record: bytes, hr_ext: str, lr_ext: str) -> None:
        """Add one pair; see `write`."""

    @abstractmethod
    def complete(self) -> None:
        """Bring everything on disk, so that only its publication is missing."""

    def publish(self) -> None:  # noqa: B027  # most formats have nothing to do here
        """Publish what the format writes beside the file."""

    def clean_up(self) -> None:  # noqa: B027
        """Close and remove what is not published."""

    def _one_sentence(self) -> contextlib.AbstractContextManager[None]:
        return one_sentence(self.store.place(self.name))


class HashingFile(io.RawIOBase):
    """Pass bytes on to a file, and keep their number and their hash."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.size, self.sha256 = file, 0, hashlib.sha256()

    def writable(self) -> bool:
        """Tell libraries that they may write."""
        return True

    def write(self, data: Any) -> int:
        """Write bytes."""
        length = memoryview(data).nbytes
        self._file.write(data)
        self.sha256.update(data)
        self.size += length
        return length

    def tell(self) -> int:
        """Return the number of bytes so far."""
        return self.size

    def sync(self) -> None:
        """Make the file safe from a power cut."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
