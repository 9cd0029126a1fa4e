"""Copy pair shards, whoever made them, into the formats that other trainers read: folders, LMDBs, Parquet files.

The export grows under a hidden name beside its place, shard by shard, and gets its name when it is whole. A run that
was stopped continues there.
"""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from degrade.errors import is_address, one_sentence, shown
from degrade.files.names import split_member
from degrade.files.platform import sync_folder
from degrade.files.store import DiskStore, check_output_folder
from degrade.files.tars import shard_paths
from degrade.shards.card import write_card
from degrade.shards.folder_writer import PairFolderWriter
from degrade.shards.indexes import write_indexes
from degrade.shards.layout import MANIFEST, STATS, marker_name, part_name, read_marker, shard_is_done
from degrade.shards.lmdb_writer import LmdbWriter, import_lmdb
from degrade.shards.parquet_writer import ParquetWriter, import_pyarrow
from degrade.shards.part_writer import PartWriter
from degrade.shards.tar_pairs import TarPair, find_pairs

ExportFormat = Literal["folders", "lmdb", "parquet"]

_ROOM = 1 << 24  # for the pages of an LMDB that are not images


def export_shards(shards: str | Path, out: Path, kind: ExportFormat, *, progress: bool = False) -> dict[str, Any]:
    """Copy the pairs of shards into another format; the bytes of the images stay as they are.

    Args:
        shards: folder of tars, a tar, or a brace pattern; on a disk, not compressed.
        out: folder to make.
        kind: "folders", "lmdb" or "parquet".
        progress: show a bar.

    Returns:
        The content of stats.json: numbers of pairs, bytes and failures. A failure is a sample that is no whole pair.

    Raises:
        ValueError: there are no shards, or their data set is not finished; two pairs have the same key, ``out`` holds
            something else, or a package is missing.
        ClaimedError: another run writes to ``out``.
        ShardError: a tar cannot be read, or the disk is full or not writable.
    """
    if is_address(shards) or is_address(out):
        raise ValueError("shards are exported from a disk to a disk; copy them to one first")
    if kind == "lmdb":
        import_lmdb()
    elif kind == "parquet":
        import_pyarrow()
    tars, out = shard_paths(shards), out.absolute()
    _refuse_unfinished(tars)
    check_output_folder(out, "--out", Path(shards), "SHARDS")
    source = _identify(tars, kind)
    with DiskStore(out.parent).claim(f"export-{out.name}"):
        if (done := _stats_of(out)).get("source") == source:
            return done
        if out.exists() and any(out.iterdir()):
            raise ValueError(f"{out} holds files, and not a finished export of these shards; give another --out")
        store = DiskStore(out.parent / f".{out.name}.{source[:12]}.export")
        growing = re.compile(rf"\.{re.escape(out.name)}\.[0-9a-f]{{12}}\.export")
        for other in out.parent.iterdir():
            if growing.fullmatch(other.name) and other != store.folder:
                shutil.rmtree(other)  # of other shards, or of these before they changed
        store.remove_stale()
        _copy(tars, store, kind, progress=progress)
        stats = _write_lists(store, kind, source, tars)
        with one_sentence(str(out)):
            os.replace(store.folder, out)
        sync_folder(out.parent)
    return stats


def _refuse_unfinished(tars: list[str]) -> None:
    """Refuse a data set whose first run has not ended, because its missing shards would be missing in the export."""
    for folder in sorted({Path(tar).parent for tar in tars}):
        if (folder / MANIFEST).exists() and not (folder / STATS).exists():
            raise ValueError(f"the data set in {folder} is not finished; run its `degrade synth` to the end first")


def _copy(tars: list[str], store: DiskStore, kind: ExportFormat, *, progress: bool) -> None:
    """Copy every tar that is not copied yet."""
    total = _count_pairs(tars)
    with tqdm(total=total, unit="pair", smoothing=0.1, disable=None if progress else True) as bar:
        for index, tar in enumerate(tars):
            if shard_is_done(store, index):
                marker = read_marker(store, index)
                bar.update(marker.count if marker else 0)
                continue
            pairs, incomplete = find_pairs(tar)
            with _writer(store, index, kind, tar) as writer:
                for sentence in incomplete:
                    writer.fail({"tar": Path(tar).name, "reason": sentence})
                for pair in pairs:
                    _copy_pair(pair, writer)
                    bar.update()


def _copy_pair(pair: TarPair, writer: PartWriter) -> None:
    extensions = (split_member(member.name).extension for member in (pair.hr, pair.lr))
    try:
        hr, lr, record = pair.read()
        writer.write(file_key(pair.key), hr, lr, record, *extensions)
    except ValueError as error:
        writer.fail({"tar": Path(pair.tar).name, "reason": f"{pair}: {error}"})


def _writer(store: DiskStore, index: int, kind: ExportFormat, tar: str) -> PartWriter:
    if kind == "folders":
        return PairFolderWriter(store, index)
    if kind == "parquet":
        return ParquetWriter(store, index)
    # an image takes whole pages of 4096 bytes in an LMDB, and at least 1024 bytes in a tar
    return LmdbWriter(store, index, room=4 * os.path.getsize(tar) + _ROOM)


def file_key(key: str) -> str:
    """Turn the key of a pair into the name of a file without extension: BasicSR splits names at dots and spaces."""
    return re.sub(r"[^\w-]", "_", key)


def _count_pairs(tars: list[str]) -> int:
    """Count the pairs of tars.

    Raises:
        ValueError: there is none, or two would get the same name.
    """
    names: dict[str, str] = {}
    for tar in tars:
        for pair in find_pairs(tar)[0]:
            name = file_key(pair.key)
            if name in names:
                raise ValueError(
                    f"two pairs would be called {shown(name)}, in {shown(names[name])} and {shown(tar)}; "
                    "export them one by one, or give their keys other names"
                )
            names[name] = tar
    if not names:
        raise ValueError(f"{tars[0]} holds no pairs; its members should be called KEY.hr.png and KEY.lr.png")
    return len(names)


def _write_lists(store: DiskStore, kind: ExportFormat, source: str, tars: list[str]) -> dict[str, Any]:
    """Write the lists and the card, and remove the notes of the parts, which only a stopped run needs."""
    stats = write_indexes(store, kind=kind, summary={"source": source})
    if kind != "lmdb":  # Hugging Face `datasets` does not read those
        write_card(store, kind, pairs=stats["pairs"], facts={"copied from": f"{len(tars)} shards"})
    for index in range(len(tars)):
        store.remove(marker_name(index))
        if kind != "parquet":
            store.remove(part_name(index, "jsonl"))
    return stats


def _identify(tars: list[str], kind: ExportFormat) -> str:
    """Return a hash of what is exported: the names, sizes and times of the tars, and the format."""
    files = [(os.path.abspath(tar), os.path.getsize(tar), os.stat(tar).st_mtime_ns) for tar in tars]
    return hashlib.sha256(json.dumps([kind, files]).encode()).hexdigest()


def _stats_of(out: Path) -> dict[str, Any]:
    """Read the stats.json of a finished export; {} if there is none."""
    try:
        stats = json.loads((out / STATS).read_bytes())
    except (OSError, ValueError):
        return {}
    return stats if isinstance(stats, dict) else {}
