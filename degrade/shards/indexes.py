"""The index files beside the shards, which other readers and people look for."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from degrade.files.store import Store, open_store
from degrade.shards.layout import finished_shards, json_line, json_page, shard_name


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
            file.write(json_line(failure) + b"\n")

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
    store.write("_info.json", json_page({"splits": {"train": split}}))
    store.write("shardindex.json", json_page(wids))
    store.write("stats.json", json_page(stats))
    return stats
