"""Write the index files that stand beside the pairs for other readers and for people."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

from degrade.files.store import Store, open_store
from degrade.shards.folder_writer import write_folder_lists
from degrade.shards.layout import (
    FAILURES,
    STATS,
    TIMM_INDEX,
    ShardMarker,
    finished_shards,
    json_line,
    json_page,
)
from degrade.shards.lmdb_writer import write_lmdb_lists


def write_indexes(
    out: Path | str | Store,
    *,
    kind: Literal["shards", "folders", "lmdb", "parquet"] = "shards",
    summary: Mapping[str, object] | None = None,
    planning_failures: Iterable[Mapping[str, object]] = (),
) -> dict[str, Any]:
    """Write the index files from the done markers.

    ``stats.json`` and ``failures.jsonl`` are for people. Beside shards, ``_info.json`` is for timm (split ``train``);
    beside folders and LMDBs are the lists that BasicSR and Hugging Face `datasets` read.

    Args:
        out: a folder, an address that fsspec opens, or a store.
        kind: format of the data set.
        summary: numbers of the run to store in ``stats.json`` beside the counts.
        planning_failures: images that never got into a shard, each with its ``reason``. Failures marked ``skipped`` are
            listed but counted apart, because leaving them out was intended.

    Returns:
        The content of ``stats.json``.

    Raises:
        ShardError: the disk is full or not writable.
    """
    store = open_store(out)
    shards: list[ShardMarker] = []
    with store.create(FAILURES) as file:
        failures = _FailureFile(file)
        failures.add(planning_failures)
        for _, marker in finished_shards(store):
            failures.add(marker.failures)
            shards.append(replace(marker, failures=[]))  # many images may fail: keep them on disk
    filled = [marker for marker in shards if marker.count]
    stats: dict[str, Any] = {
        **(summary or {}),
        "pairs": sum(marker.count for marker in filled),
        "shards": len(filled),
        "empty_shards": len(shards) - len(filled),
        "bytes": sum(marker.bytes for marker in filled),
        "failures": failures.failed,
        "skipped": failures.skipped,
    }
    if kind == "shards":
        store.write(TIMM_INDEX, json_page(_timm_index(filled)))
    elif kind == "folders":
        write_folder_lists(store)
    elif kind == "lmdb":
        write_lmdb_lists(store)
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


def _timm_index(shards: list[ShardMarker]) -> dict[str, object]:
    split = {
        "name": "train",
        "num_samples": sum(marker.count for marker in shards),
        "filenames": [marker.file for marker in shards],
        "shard_lengths": [marker.count for marker in shards],
        "alt_label": "scale",  # timm needs an integer label of every sample
    }
    return {"splits": {"train": split}}
