"""Shards of LR-HR pairs on disk: names, the record of a pair, the writer, the index files beside them.

    pairs-000000.tar      KEY.hr.png, KEY.json, KEY.lr.png for every pair, sorted; same plan, same bytes
    pairs-000000.json     done marker, renamed into place last: count, bytes, sha256, failures with reasons

A shard without its marker is not finished. A shard of which every pair failed has a marker and no tar: an empty tar
makes webdataset stop.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from degrade.sample_meta import SampleMeta
from degrade.tars import ShardError

__all__ = [
    "PairShardWriter",
    "SampleMeta",
    "ShardError",
    "ShardMarker",
    "read_marker",
    "remove_stale",
    "sample_key",
    "shard_is_done",
    "shard_name",
    "write_atomic",
    "write_indexes",
]

_END_OF_TAR = bytes(1024)


@dataclass(frozen=True)
class ShardMarker:
    """Content of a done marker: pairs, size and hash of the tar, and the planned pairs that could not be made."""

    count: int
    tar_bytes: int
    sha256: str
    failures: list[dict[str, object]]


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

    Raises:
        ShardError: the disk is full or not writable.
        ValueError: keys that do not grow, or are not nine digits.
    """

    def __init__(self, out_dir: Path | str, index: int) -> None:
        self.out_dir = Path(out_dir)
        self.index = index
        self._temporary = _temporary_name(self._path(".tar"))
        self._file: BinaryIO | None = None
        self._sha256 = hashlib.sha256()
        self._count = 0
        self._bytes = 0
        self._last_key = ""
        self._failures: list[dict[str, object]] = []

    def __enter__(self) -> "PairShardWriter":
        with _one_sentence(self._path(".tar")):
            self.out_dir.mkdir(parents=True, exist_ok=True)
            self._file = open(self._temporary, "wb")  # noqa: SIM115  # closed in __exit__
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
        with _one_sentence(self._path(".tar")):
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
                with _one_sentence(self._path(".tar")):
                    self._finish(self._file)
        finally:
            with contextlib.suppress(OSError):  # a full disk fails again on close; the first error is the one to show
                self._file.close()
            self._temporary.unlink(missing_ok=True)

    def _finish(self, file: BinaryIO) -> None:
        self._emit(_END_OF_TAR)
        self._emit(bytes(-self._bytes % tarfile.RECORDSIZE))
        file.flush()
        os.fsync(file.fileno())
        file.close()
        self._path(".json").unlink(missing_ok=True)  # an older marker must not vouch for the new tar
        if self._count:
            os.replace(self._temporary, self._path(".tar"))
        else:
            self._path(".tar").unlink(missing_ok=True)
        _sync_folder(self.out_dir)
        marker = {
            "bytes": self._bytes if self._count else 0,
            "count": self._count,
            "failures": self._failures,
            "sha256": self._sha256.hexdigest() if self._count else "",
            "tar": self._path(".tar").name if self._count else "",
        }
        write_atomic(self._path(".json"), _json_line(marker))

    def _append(self, name: str, data: bytes) -> None:
        header = tarfile.TarInfo(name)  # its defaults are fixed: mtime 0, user and group 0, mode 644
        header.size = len(data)
        self._emit(header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE))

    def _emit(self, data: bytes) -> None:
        assert self._file is not None
        self._file.write(data)
        self._sha256.update(data)
        self._bytes += len(data)

    def _path(self, suffix: str) -> Path:
        return self.out_dir / f"{shard_name(self.index)}{suffix}"


def read_marker(out_dir: Path | str, index: int) -> ShardMarker | None:
    """Read the done marker of a shard; None when there is none, or none that can be read."""
    try:
        marker = json.loads((Path(out_dir) / f"{shard_name(index)}.json").read_bytes())
        return ShardMarker(int(marker["count"]), int(marker["bytes"]), str(marker["sha256"]), list(marker["failures"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def shard_is_done(out_dir: Path | str, index: int) -> bool:
    """Tell whether a shard is finished: its marker is there, and its tar has the size that the marker says."""
    marker = read_marker(out_dir, index)
    return marker is not None and _tar_fits(out_dir, index, marker)


def _tar_fits(out_dir: Path | str, index: int, marker: ShardMarker) -> bool:
    tar = Path(out_dir) / f"{shard_name(index)}.tar"
    return marker.count == 0 or (tar.is_file() and tar.stat().st_size == marker.tar_bytes)


def remove_stale(out_dir: Path | str, indexes: Iterable[int] | None = None) -> list[Path]:
    """Remove hidden temporary files that a killed run left behind; nothing else is touched.

    Args:
        out_dir: folder of the shards.
        indexes: only those of these shards; pass a node's own when several nodes write to one folder. None: all.

    Returns:
        What was removed.
    """
    stems = None if indexes is None else {shard_name(index) for index in indexes}
    removed = []
    for path in sorted(Path(out_dir).glob(".*.tmp")):
        ours = re.fullmatch(r"\.([\w-]+)\.\w+\.[0-9a-f]{12}\.tmp", path.name)
        if ours and (stems is None or ours[1] in stems):
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def write_indexes(
    out_dir: Path | str,
    *,
    summary: Mapping[str, object] | None = None,
    planning_failures: Iterable[Mapping[str, object]] = (),
) -> dict[str, object]:
    """Write, from the done markers, the files that other readers look for.

    ``_info.json`` for timm (split ``train``), ``shardindex.json`` for wids, ``stats.json`` and ``failures.jsonl``.

    Args:
        out_dir: folder of the shards.
        summary: numbers of the run to keep in ``stats.json`` beside the counts.
        planning_failures: images that never got into a shard, each with its ``reason``. Failures marked ``skipped`` are
            listed but counted apart: leaving them out was intended.

    Returns:
        The content of ``stats.json``.

    Raises:
        ShardError: the disk is full or not writable.
    """
    out_dir = Path(out_dir)
    indexes = sorted(int(m[1]) for path in out_dir.iterdir() if (m := re.fullmatch(r"pairs-(\d{6,})\.json", path.name)))
    markers = {i: marker for i in indexes if (marker := read_marker(out_dir, i)) and _tar_fits(out_dir, i, marker)}
    full = {f"{shard_name(index)}.tar": marker for index, marker in markers.items() if marker.count}
    failures = [dict(failure) for failure in planning_failures]
    failures += [failure for marker in markers.values() for failure in marker.failures]
    pairs = sum(marker.count for marker in full.values())
    split = {
        "name": "train",
        "num_samples": pairs,
        "filenames": list(full),
        "shard_lengths": [marker.count for marker in full.values()],
        "alt_label": "scale",  # timm wants an integer label of every sample
    }
    shard_list = [
        {"url": name, "nsamples": marker.count, "filesize": marker.tar_bytes, "sha256": marker.sha256}
        for name, marker in full.items()
    ]
    stats: dict[str, object] = {
        **(summary or {}),
        "pairs": pairs,
        "shards": len(full),
        "empty_shards": len(markers) - len(full),
        "bytes": sum(marker.tar_bytes for marker in full.values()),
        "failures": sum(not failure.get("skipped") for failure in failures),
        "skipped": sum(bool(failure.get("skipped")) for failure in failures),
    }
    for name, content in (
        ("_info.json", _json_page({"splits": {"train": split}})),
        (
            "shardindex.json",
            _json_page({"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": shard_list}),
        ),
        ("stats.json", _json_page(stats)),
        ("failures.jsonl", b"".join(_json_line(failure) + b"\n" for failure in failures)),
    ):
        write_atomic(out_dir / name, content)
    return stats


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that it is either wholly there, safe from a power cut, or not at all.

    Raises:
        ShardError: the disk is full or not writable.
    """
    temporary = _temporary_name(path)
    with _one_sentence(path):
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; some network file systems cannot, and say so."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, ShardError):
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        trouble = f"disk full at {path}" if full else f"cannot write {path} ({error.strerror or error})"
        remedy = "free space" if full else "repair that"
        raise ShardError(f"{trouble}: {remedy} and run the same command again, finished shards are kept") from error


def _json_line(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _json_page(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"
