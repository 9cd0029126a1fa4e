"""The files of a data set of pairs: their names, the keys of pairs, and the markers of finished shards.

    pairs-000000.tar      KEY.hr.png, KEY.json, KEY.lr.png for every pair, sorted; same plan, same bytes
    pairs-000000.json     done marker, renamed into place last: count, bytes, sha256, failures with reasons

A shard without its marker is not finished. A shard of which every pair failed has a marker and no tar: an empty tar
makes webdataset stop.
"""

import json
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from degrade.files.store import Store, open_store

MARKER_READERS = 16  # threads: in an object store a small file is mostly waiting

MANIFEST, PLAN = "manifest.json", "plan.jsonl"


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


def json_line(content: object) -> bytes:
    """Write a value as one line of JSON, always the same bytes."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def json_page(content: object) -> bytes:
    """Write a value as indented JSON, always the same bytes."""
    return json.dumps(content, sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"


def data_files(store: Store) -> list[str]:
    """Names of shards and done markers, the marker before its tar."""
    return [name for name in store.names() if re.fullmatch(r"pairs-\d{6,}\.(json|tar)", name)]


def remove_data_set(store: Store) -> None:
    """Remove what `synth` wrote and nothing else; the manifest last, so that this can be taken up too."""
    others = ("_info.json", "shardindex.json", "stats.json", "failures.jsonl", "preview.png", PLAN, MANIFEST)
    for name in [*data_files(store), *others]:
        store.remove(name)
    remove_stale(store)
