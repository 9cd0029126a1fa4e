"""Name the files of a data set of pairs, and read and write the markers of finished shards.

    pairs-000000.tar      KEY.hr.png, KEY.json, KEY.lr.png for every pair, sorted; the same plan gives the same bytes
    pairs-000000.json     done marker, renamed into place last: count, bytes, sha256, failures with reasons

A data set of another format consists of parts too, each with a marker and a file of its own: ``pairs-000000.jsonl``,
which lists the pairs of images in folders, or ``pairs-000000.parquet``. A part without its marker is not finished. A
part whose pairs all failed has a marker and no file, because webdataset stops at an empty tar.
"""

import json
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from degrade.files.names import PREVIEW
from degrade.files.store import Store, open_store
from degrade.shards.card import CARD, is_ours

MANIFEST, PLAN = "manifest.json", "plan.jsonl"
TIMM_INDEX, STATS, FAILURES = "_info.json", "stats.json", "failures.jsonl"
META_INFO, METADATA = "meta_info.txt", "metadata.jsonl"
# written anew from the shards at the end of every run
INDEXES = (TIMM_INDEX, STATS, FAILURES, META_INFO, METADATA, PREVIEW)

MARKER_READERS = 16  # threads: reading a small file of an object store is mostly waiting

_SHARD_FILE = re.compile(r"pairs-(\d{6,})\.(tar|jsonl|parquet|json)")


@dataclass(frozen=True)
class ShardMarker:
    """Hold the content of a done marker.

    Attributes:
        count: number of pairs in the shard.
        bytes: size of everything that the part holds.
        file: name of its file; "" without pairs.
        file_bytes: size of this file; 0 without one.
        sha256: hash of this file; "" without one.
        failures: the planned pairs that could not be made, each with its ``reason``.
    """

    count: int
    bytes: int
    file: str
    file_bytes: int
    sha256: str
    failures: list[dict[str, object]]

    @property
    def failed(self) -> bool:
        """Tell whether a pair could not be made. A pair that was skipped on purpose does not count."""
        return any(not failure.get("skipped") for failure in self.failures)


def sample_key(slot: int) -> str:
    """Name the pair in planned slot ``slot``: nine digits without dots, because tar readers split names at dots."""
    return f"{slot:09d}"


def part_name(shard: int, extension: str) -> str:
    """Name the file with this extension of a shard, or of what takes its place in another format."""
    return f"pairs-{shard:06d}.{extension}"


def tar_name(shard: int) -> str:
    """Name the tar of a shard."""
    return part_name(shard, "tar")


def marker_name(shard: int) -> str:
    """Name the done marker of a shard."""
    return part_name(shard, "json")


def marker_index(name: str) -> int | None:
    """Return the number of the shard whose done marker has this name; None for any other file."""
    found = _SHARD_FILE.fullmatch(name)
    return int(found[1]) if found and found[2] == "json" else None


def write_marker(store: Store, shard: int, marker: ShardMarker) -> None:
    """Write the done marker of a shard.

    Raises:
        ShardError: the disk is full or not writable.
    """
    store.write(marker_name(shard), json_line(vars(marker)))


def read_marker(out: Path | str | Store, shard: int) -> ShardMarker | None:
    """Read the done marker of a shard; None if it is missing or damaged.

    Raises:
        OSError: the marker may exist but cannot be read now. A shard must not count as missing for that reason.
    """
    try:
        marker = json.loads(open_store(out).read(marker_name(shard)))
        failures = [dict(failure) for failure in marker["failures"]]
        sizes = {name: int(marker[name]) for name in ("count", "bytes", "file_bytes")}
        if not (marker["file"] == "" or _SHARD_FILE.fullmatch(marker["file"])):
            return None
        return ShardMarker(**sizes, file=marker["file"], sha256=str(marker["sha256"]), failures=failures)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def shard_is_done(out: Path | str | Store, shard: int, *, retry_failed: bool = False) -> bool:
    """Tell whether a shard is finished: its marker exists, and its file has the size that the marker states.

    Args:
        out: a folder, an address that fsspec opens, or a store.
        shard: number of the shard.
        retry_failed: count a shard with failed pairs as not finished.
    """
    marker = _finished(open_store(out), shard)
    return marker is not None and not (retry_failed and marker.failed)


def _finished(store: Store, shard: int) -> ShardMarker | None:
    marker = read_marker(store, shard)
    fits = marker and (marker.count == 0 or store.size(marker.file) == marker.file_bytes)
    return marker if fits else None


def finished_shards(out: Path | str | Store) -> Iterator[tuple[int, ShardMarker]]:
    """Yield the numbers and markers of the finished shards of a data set, in order."""
    store = open_store(out)
    shards = sorted(shard for name in store.names() if (shard := marker_index(name)) is not None)
    with ThreadPoolExecutor(MARKER_READERS) as pool:
        for shard, marker in zip(shards, pool.map(lambda shard: _finished(store, shard), shards), strict=True):
            if marker:
                yield shard, marker


def missing_shards(store: Store, shards: Iterable[int], *, retry_failed: bool = False) -> set[int]:
    """Return those of the given shards that are not finished.

    Args:
        store: where the data set is.
        shards: numbers of the shards to look at.
        retry_failed: count a shard with failed pairs as not finished.
    """
    shards = list(shards)
    marked = {marker_index(name) for name in store.names()}
    with ThreadPoolExecutor(MARKER_READERS) as pool:
        done = pool.map(
            lambda shard: shard in marked and shard_is_done(store, shard, retry_failed=retry_failed), shards
        )
        return {shard for shard, is_done in zip(shards, done, strict=True) if not is_done}


def remove_stale(store: Store, shards: Iterable[int] | None = None) -> None:
    """Remove the hidden temporary files that a killed run left behind; nothing else is touched.

    Args:
        store: where the data set is.
        shards: remove only the files of these shards, for a node that shares the store with others. None removes all.
    """
    extensions = ("tar", "jsonl", "images", "parquet", "json")
    names = None if shards is None else {part_name(shard, kind) for shard in shards for kind in extensions}
    store.remove_stale(names)


def has_shards(store: Store) -> bool:
    """Tell whether a store holds tars or done markers."""
    return any(map(_SHARD_FILE.fullmatch, store.names()))


def remove_data_set(store: Store) -> None:
    """Remove what `degrade synth` wrote and nothing else. The manifest goes last, so this can be continued as well."""
    shard_files = [name for name in store.names() if _SHARD_FILE.fullmatch(name)]  # markers sort before their tars
    card = [CARD] if is_ours(store) else []
    for name in [*shard_files, *INDEXES, *card, PLAN, MANIFEST]:
        store.remove(name)
    remove_stale(store)


def json_line(content: object) -> bytes:
    """Write a value as one line of JSON, always the same bytes."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def json_page(content: object) -> bytes:
    """Write a value as indented JSON, always the same bytes."""
    return json.dumps(content, sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"
