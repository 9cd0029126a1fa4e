"""Shards of LR-HR pairs on disk: names, the record of a pair, the writer, the index files beside them.

    pairs-000000.tar      KEY.hr.png, KEY.json, KEY.lr.png for every pair, sorted; same plan, same bytes
    pairs-000000.json     done marker, renamed into place last: count, bytes, sha256, failures with reasons

A shard without its marker is not finished. A shard of which every pair failed has a marker and no tar: an empty tar
makes webdataset stop.
"""

import contextlib
import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from degrade.sample_meta import SampleMeta
from degrade.store import Store, one_sentence, open_store
from degrade.tars import ShardError

__all__ = [
    "PairShardWriter",
    "SampleMeta",
    "ShardError",
    "ShardMarker",
    "finished_shards",
    "read_marker",
    "remove_stale",
    "sample_key",
    "shard_is_done",
    "shard_name",
    "write_indexes",
]

MARKER_READERS = 16  # threads: in an object store a small file is mostly waiting

_END_OF_TAR = bytes(1024)


@dataclass(frozen=True)
class ShardMarker:
    """Content of a done marker: pairs, size and hash of the tar, and the planned pairs that could not be made."""

    count: int
    tar_bytes: int
    sha256: str
    failures: list[dict[str, object]]

    @property
    def failed(self) -> bool:
        """Whether a pair could not be made, other than by intention."""
        return any(not failure.get("skipped") for failure in self.failures)


def sample_key(slot: int) -> str:
    """Name of the pair in planned slot ``slot``: nine digits, no dots, which tar readers would split at."""
    return f"{slot:09d}"


def shard_name(index: int) -> str:
    """File name of a shard without its extension."""
    return f"pairs-{index:06d}"


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
        self._tar, self._marker = f"{shard_name(index)}.tar", f"{shard_name(index)}.json"
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
        self.store.remove(self._marker)  # an older marker must not vouch for the new tar
        if self._count:
            self.store.publish(self._growing, self._tar)
        else:
            self.store.remove(self._tar)
        marker = {
            "bytes": self._bytes if self._count else 0,
            "count": self._count,
            "failures": self._failures,
            "sha256": self._sha256.hexdigest() if self._count else "",
            "tar": self._tar if self._count else "",
        }
        self.store.write(self._marker, _json_line(marker))

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


def read_marker(out: Path | str | Store, index: int) -> ShardMarker | None:
    """Read the done marker of a shard; None when there is none, or none that makes sense.

    Raises:
        OSError: it may be there, but cannot be read now: a shard must not seem missing for that.
    """
    try:
        marker = json.loads(open_store(out).read(f"{shard_name(index)}.json"))
        failures = [dict(failure) for failure in marker["failures"]]
        return ShardMarker(int(marker["count"]), int(marker["bytes"]), str(marker["sha256"]), failures)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def shard_is_done(out: Path | str | Store, index: int, *, retry_failed: bool = False) -> bool:
    """Tell whether a shard is finished: its marker is there, and its tar has the size that the marker says.

    Args:
        out: a folder, an address that fsspec opens, or a store.
        index: number of the shard.
        retry_failed: a shard in which a pair could not be made is not finished.
    """
    marker = _finished(open_store(out), index)
    return marker is not None and not (retry_failed and marker.failed)


def _finished(store: Store, index: int) -> ShardMarker | None:
    marker = read_marker(store, index)
    fits = marker and (marker.count == 0 or store.size(f"{shard_name(index)}.tar") == marker.tar_bytes)
    return marker if fits else None


def remove_stale(out: Path | str | Store, indexes: Iterable[int] | None = None) -> list[str]:
    """Remove hidden temporary files that a killed run left behind; nothing else is touched.

    Args:
        out: a folder, an address that fsspec opens, or a store.
        indexes: only those of these shards; pass a node's own when several nodes write to one folder. None: all.

    Returns:
        Names of what was removed.
    """
    return open_store(out).remove_stale(None if indexes is None else {shard_name(index) for index in indexes})


def finished_shards(out: Path | str | Store) -> Iterator[tuple[int, ShardMarker]]:
    """The finished shards of a data set and their markers, in order."""
    store = open_store(out)
    indexes = sorted(int(found[1]) for name in store.names() if (found := re.fullmatch(r"pairs-(\d{6,})\.json", name)))
    with ThreadPoolExecutor(MARKER_READERS) as pool:
        for index, marker in zip(indexes, pool.map(lambda index: _finished(store, index), indexes), strict=True):
            if marker:
                yield index, marker


def write_indexes(
    out: Path | str | Store,
    *,
    summary: Mapping[str, object] | None = None,
    planning_failures: Iterable[Mapping[str, object]] = (),
) -> dict[str, object]:
    """Write, from the done markers, the files that other readers look for.

    ``_info.json`` for timm (split ``train``), ``shardindex.json`` for wids, ``stats.json`` and ``failures.jsonl``.

    Args:
        out: a folder, an address that fsspec opens, or a store.
        summary: numbers of the run to keep in ``stats.json`` beside the counts.
        planning_failures: images that never got into a shard, each with its ``reason``. Failures marked ``skipped`` are
            listed but counted apart: leaving them out was intended.

    Returns:
        The content of ``stats.json``.

    Raises:
        ShardError: the disk is full or not writable.
    """
    store = open_store(out)
    shard_list: list[dict[str, object]] = []
    lengths: list[int] = []
    shards = tar_bytes = failures = skipped = 0
    with store.create("failures.jsonl") as file:  # line by line: of a million images many may fail

        def record(failure: Mapping[str, object]) -> None:
            nonlocal failures, skipped
            skipped += bool(failure.get("skipped"))
            failures += not failure.get("skipped")
            file.write(_json_line(failure) + b"\n")

        for failure in planning_failures:
            record(dict(failure))
        for index, marker in finished_shards(store):
            shards += 1
            tar_bytes += marker.tar_bytes
            if marker.count:
                lengths.append(marker.count)
                name, size = f"{shard_name(index)}.tar", marker.tar_bytes
                shard_list.append({"url": name, "nsamples": marker.count, "filesize": size, "sha256": marker.sha256})
            for failure in marker.failures:
                record(failure)
    split = {
        "name": "train",
        "num_samples": sum(lengths),
        "filenames": [shard["url"] for shard in shard_list],
        "shard_lengths": lengths,
        "alt_label": "scale",  # timm wants an integer label of every sample
    }
    stats: dict[str, object] = {
        **(summary or {}),
        "pairs": sum(lengths),
        "shards": len(lengths),
        "empty_shards": shards - len(lengths),
        "bytes": tar_bytes,
        "failures": failures,
        "skipped": skipped,
    }
    wids = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": shard_list}
    store.write("_info.json", _json_page({"splits": {"train": split}}))
    store.write("shardindex.json", _json_page(wids))
    store.write("stats.json", _json_page(stats))
    return stats


def _json_line(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _json_page(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"
