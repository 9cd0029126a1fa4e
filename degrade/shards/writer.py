"""Write the pairs of one shard, so that the shard appears whole or not at all."""

import contextlib
import hashlib
import io
import os
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from degrade.errors import one_sentence
from degrade.files.store import Store, open_store
from degrade.shards.layout import ShardMarker, marker_name, tar_name, write_marker
from degrade.shards.record import SampleMeta


class PairShardWriter:
    """Write one shard; nothing that looks complete appears before everything in it is on disk.

    ::

        with PairShardWriter("out", index=0) as writer:
            writer.write(sample_key(slot), hr_bytes, lr_bytes, meta)
            writer.fail({"key": sample_key(slot), "source": "cat.jpg", "reason": "truncated"})

    The tar is written to a hidden file with a unique name, so a second writer of the same shard (a task that was
    started again while the first is not quite dead) does no harm: both write the same bytes. If the block raises, the
    hidden file is removed.

    Args:
        out: a folder, an address that fsspec opens, or a store.
        index: number of the shard.

    Raises:
        ShardError: the disk is full or not writable.
        ValueError: a key is not nine digits, or not greater than the key before.
    """

    def __init__(self, out: Path | str | Store, index: int) -> None:
        self.store, self.index = open_store(out), index
        self._growing = Path()
        self._file: _HashingFile
        self._tar: tarfile.TarFile
        self._count = 0
        self._last_key = ""
        self._failures: list[dict[str, object]] = []

    def __enter__(self) -> "PairShardWriter":
        with self._one_sentence():
            self._growing = self.store.growing(tar_name(self.index))
            self._file = _HashingFile(open(self._growing, "wb"))  # noqa: SIM115  # closed in __exit__
            self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)
        return self

    def write(self, key: str, hr: bytes, lr: bytes, meta: SampleMeta, hr_ext: str = "png", lr_ext: str = "png") -> None:
        """Add one pair.

        Args:
            key: nine digits, greater than the key before: members are sorted, so that equal plans give equal bytes.
            hr: encoded HR image.
            lr: encoded LR image.
            meta: record of the pair.
            hr_ext: extension of the HR image, without dot.
            lr_ext: extension of the LR image, without dot.
        """
        if not re.fullmatch(r"\d{9}", key) or key <= self._last_key:
            raise ValueError(f"key {key!r} after {self._last_key!r}: pass sample_key(slot) with growing slots")
        self._last_key = key
        with self._one_sentence():
            self._add(f"{key}.hr.{hr_ext}", hr)
            self._add(f"{key}.json", meta.to_json())
            self._add(f"{key}.lr.{lr_ext}", lr)
        self._count += 1

    def fail(self, failure: Mapping[str, object]) -> None:
        """Record a planned pair that could not be made; it needs a ``"reason"``, all other keys are free."""
        if "reason" not in failure:
            raise ValueError(f"failure {dict(failure)} gives no reason; add one sentence under 'reason'")
        self._failures.append(dict(failure))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                with self._one_sentence():
                    self._finish()
        finally:
            with contextlib.suppress(OSError):  # a full disk fails again on close; the first error is the one to show
                self._file.close()
            self._growing.unlink(missing_ok=True)

    def _finish(self) -> None:
        self._tar.close()
        self._file.sync()
        self._file.close()
        self.store.remove(marker_name(self.index))  # an older marker must not stand beside a new tar
        if self._count:
            self.store.publish(self._growing, tar_name(self.index))
            marker = ShardMarker(self._count, self._file.size, self._file.sha256.hexdigest(), self._failures)
        else:
            self.store.remove(tar_name(self.index))
            marker = ShardMarker(0, 0, "", self._failures)
        write_marker(self.store, self.index, marker)

    def _add(self, name: str, data: bytes) -> None:
        header = tarfile.TarInfo(name)  # its defaults are fixed: mtime 0, user and group 0, mode 644
        header.size = len(data)
        self._tar.addfile(header, io.BytesIO(data))

    def _one_sentence(self) -> contextlib.AbstractContextManager[None]:
        return one_sentence(self.store.place(tar_name(self.index)))


class _HashingFile(io.RawIOBase):
    """Pass bytes on to a file, and keep their number and their hash."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.size, self.sha256 = file, 0, hashlib.sha256()

    def write(self, data: Any) -> int:
        self._file.write(data)
        self.sha256.update(data)
        self.size += len(data)
        return len(data)

    def tell(self) -> int:
        return self.size

    def sync(self) -> None:
        """Make the file safe from a power cut."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
        super().close()
