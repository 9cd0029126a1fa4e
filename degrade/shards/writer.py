"""PairShardWriter: write the pairs of one shard, so that it appears whole or not at all."""

import contextlib
import hashlib
import os
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from degrade.errors import one_sentence
from degrade.files.store import Store, open_store
from degrade.shards.layout import ShardMarker, marker_name, tar_name, write_marker
from degrade.shards.record import SampleMeta

_END_OF_TAR = bytes(1024)


class PairShardWriter:
    """Write one shard; nothing that looks complete appears before everything in it is on disk.

    ::

        with PairShardWriter("out", index=0) as writer:
            writer.write(sample_key(slot), hr_bytes, lr_bytes, meta)
            writer.fail({"key": sample_key(slot), "source": "cat.jpg", "reason": "truncated"})

    The tar grows under a hidden name of its own, so a second writer of the same shard (a task retried while the first
    is not quite dead) does no harm: both write the same bytes. When the block raises, the hidden file is removed.

    Args:
        out: a folder, an address that fsspec opens, or a store.
        index: number of the shard.

    Raises:
        ShardError: the disk is full or not writable.
        ValueError: keys that do not grow, or are not nine digits.
    """

    def __init__(self, out: Path | str | Store, index: int) -> None:
        self.store = open_store(out)
        self.index = index
        self._tar = tar_name(index)
        self._growing = Path()
        self._file: BinaryIO | None = None
        self._sha256 = hashlib.sha256()
        self._count = 0
        self._bytes = 0
        self._last_key = ""
        self._failures: list[dict[str, object]] = []

    def __enter__(self) -> "PairShardWriter":
        with self._one_sentence():
            self._growing = self.store.growing(self._tar)
            self._file = open(self._growing, "wb")  # noqa: SIM115  # closed in __exit__
        return self

    def write(self, key: str, hr: bytes, lr: bytes, meta: SampleMeta, hr_ext: str = "png", lr_ext: str = "png") -> None:
        """Add one pair.

        Args:
            key: nine digits, greater than the key before: members are sorted, so that equal plans make equal bytes.
            hr: encoded HR image.
            lr: encoded LR image.
            meta: the record of the pair.
            hr_ext: extension of the HR image, without dot.
            lr_ext: extension of the LR image, without dot.
        """
        if not re.fullmatch(r"\d{9}", key) or key <= self._last_key:
            raise ValueError(f"key {key!r} after {self._last_key!r}: pass sample_key(slot) with growing slots")
        self._last_key = key
        with self._one_sentence():
            self._append(f"{key}.hr.{hr_ext}", hr)
            self._append(f"{key}.json", meta.to_json())
            self._append(f"{key}.lr.{lr_ext}", lr)
        self._count += 1

    def fail(self, failure: Mapping[str, object]) -> None:
        """Record a planned pair that could not be made; it needs a ``"reason"`` and names its slot as it likes."""
        if "reason" not in failure:
            raise ValueError(f"failure {dict(failure)} gives no reason; add one sentence under 'reason'")
        self._failures.append(dict(failure))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        try:
            if kind is None:
                with self._one_sentence():
                    self._finish(self._file)
        finally:
            with contextlib.suppress(OSError):  # a full disk fails again on close; the first error is the one to show
                self._file.close()
            self._growing.unlink(missing_ok=True)

    def _finish(self, file: BinaryIO) -> None:
        self._emit(_END_OF_TAR)
        self._emit(bytes(-self._bytes % tarfile.RECORDSIZE))
        file.flush()
        os.fsync(file.fileno())
        file.close()
        self.store.remove(marker_name(self.index))  # an older marker must not vouch for the new tar
        if self._count:
            self.store.publish(self._growing, self._tar)
        else:
            self.store.remove(self._tar)
        size, sha256 = (self._bytes, self._sha256.hexdigest()) if self._count else (0, "")
        write_marker(self.store, self.index, ShardMarker(self._count, size, sha256, self._failures))

    def _append(self, name: str, data: bytes) -> None:
        header = tarfile.TarInfo(name)  # its defaults are fixed: mtime 0, user and group 0, mode 644
        header.size = len(data)
        self._emit(header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE))

    def _emit(self, data: bytes) -> None:
        assert self._file is not None
        self._file.write(data)
        self._sha256.update(data)
        self._bytes += len(data)

    def _one_sentence(self) -> contextlib.AbstractContextManager[None]:
        return one_sentence(self.store.place(self._tar))
