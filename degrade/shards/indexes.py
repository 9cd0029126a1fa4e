"""Write the index files that stand beside the shards for other readers and for people."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from degrade.files.store import Store, open_store
from degrade.shards.layout import (
    FAILURES,
    STATS,
    TIMM_INDEX,
    WIDS_INDEX,
    ShardMarker,
    finished_shards,
    json_line,
    json_page,
    tar_name,
)


def write_indexes(
    out: Path | str | Store,
    *,
    summary: Mapping[str, object] | None = None,
    planning_failures: Iterable[Mapping[str, object]] = (),
) -> dict[str, object]:
    """Write the index files from the done markers.

    ``_info.json`` is for timm (split ``train``), ``shardindex.json`` for wids, ``stats.json`` and ``failures.jsonl``
    are for people.

    Args:
        out: a folder, an address that fsspec opens, or a store.
        summary: numbers of the run to store in ``stats.json`` beside the counts.
        planning_failures: images that never got into a shard, each with its ``reason``. Failures marked ``skipped`` are
            listed but counted apart, because leaving them out was intended.

    Returns:
        The content of ``stats.json``.

    Raises:
        ShardError: the disk is full or not writable.
    """
    store = open_store(out)
    shards: list[tuple[str, ShardMarker]] = []
    with store.create(FAILURES) as file:
        failures = _FailureFile(file)
        failures.add(planning_failures)
        for index, marker in finished_shards(store):
            failures.add(marker.failures)
            shards.append((tar_name(index), replace(marker, failures=[])))  # many images may fail: keep them on disk
    filled = [(name, marker) for name, marker in shards if marker.count]
    stats: dict[str, object] = {
        **(summary or {}),
        "pairs": sum(marker.count for _, marker in filled),
        "shards": len(filled),
        "empty_shards": len(shards) - len(filled),
        "bytes": sum(marker.tar_bytes for _, marker in filled),
        "failures": failures.failed,
        "skipped": failures.skipped,
    }
    store.write(TIMM_INDEX, json_page(_timm_index(filled)))
    store.write(WIDS_INDEX, json_page(_wids_index(filled)))
    store.write(STATS, json_page(stats))
    return stats


class _FailureFile:
    """Write failures line by line, and count them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.failed, self.skipped = file, 0, 0

    def add(self, failures: Iterable[Mapping[str, object]]) -> None:
        for failure in failures:
            skipped = bool(failure.get("skipped"))
            self.skipped += skipped
            self.failed += not skipped
            self._file.write(json_line(dict(failure)) + b"\n")


def _timm_index(shards: list[tuple[str, ShardMarker]]) -> dict[str, object]:
    split = {
        "name": "train",
        "num_samples": sum(marker.count for _, marker in shards),
        "filenames": [name for name, _ in shards],
        "shard_lengths": [marker.count for _, marker in shards],
        "alt_label": "scale",  # timm needs an integer label of every sample
    }
    return {"splits": {"train": split}}


def _wids_index(shards: list[tuple[str, ShardMarker]]) -> dict[str, object]:
    shard_list = [
        {"url": name, "nsamples": marker.count, "filesize": marker.tar_bytes, "sha256": marker.sha256}
        for name, marker in shards
    ]
    return {"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": shard_list}
