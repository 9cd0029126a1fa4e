"""Anyone's tar shards: which tars, which files in them, which of these is HR and which is LR."""

import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from braceexpand import braceexpand

HR_ROLES = frozenset({"hr", "gt", "hq"})
LR_ROLES = frozenset({"lr", "lq"})


class ShardError(OSError):
    """A shard could not be written or read; what was finished before stays good."""


class TarMember(NamedTuple):
    """Where one file lies inside a tar."""

    name: str
    offset: int
    size: int


def split_member(name: str) -> tuple[str, str, str]:
    """Split a tar member's name as webdataset does, at the first dot of the file name.

    Returns:
        Key, role and extension, the last two in lower case: ``"a/000.hr.PNG"`` gives ``("a/000", "hr", "png")``;
        the role of ``"a/000.png"`` is "".
    """
    folder, _, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    parts = ["", *suffix.lower().split(".")]
    return f"{folder}/{stem}" if folder else stem, parts[-2], parts[-1]


def tar_members(path: Path | str, file: BinaryIO | None = None) -> list[TarMember]:
    """List the regular files of an uncompressed tar, without hidden ones and webdataset's ``__meta__`` ones.

    Args:
        path: of the tar.
        file: the tar opened, where it does not lie on a disk; ``path`` is its name for people then.

    Raises:
        ShardError: the file is missing, truncated or not a tar.
    """
    try:
        size = file.seek(0, os.SEEK_END) if file else os.path.getsize(path)
        if file:
            file.seek(0)
        with tarfile.open(None if file else path, "r:", fileobj=file) as tar:
            members = [TarMember(m.name, m.offset_data, m.size) for m in tar if m.isreg()]
    except (OSError, tarfile.TarError) as error:
        raise ShardError(f"{path} is not a readable tar ({error}); make it again or remove it") from error
    if members and members[-1].offset + members[-1].size > size:
        raise ShardError(f"{path} is truncated inside {members[-1].name}; make it again or remove it")
    return [m for m in members if not m.name.rpartition("/")[2].startswith((".", "__"))]


def shard_paths(shards: str | Path | Sequence[str | Path]) -> list[str]:
    """Resolve what people call a data set to its tars: a folder, a tar, a brace pattern, or a list of these.

    Args:
        shards: ``dir``, ``dir/pairs-000000.tar``, ``dir/pairs-{000000..000003}.tar``, or several. Addresses with a
            scheme (``https://``, ``pipe:``) pass through untouched.

    Raises:
        ValueError: nothing is there.
    """
    if not isinstance(shards, (str, Path)):
        return [path for entry in shards for path in shard_paths(entry)]
    if "://" in str(shards) or str(shards).startswith("pipe:"):
        return list(braceexpand(str(shards)))
    if os.path.isdir(shards):
        tars = sorted(str(path) for path in Path(shards).glob("*.tar") if not path.name.startswith("."))
        if not tars:
            raise ValueError(f"{shards} holds no .tar files; pass the folder that holds the shards")
        return tars
    tars = [str(shards)] if os.path.exists(shards) else list(braceexpand(str(shards)))
    missing = [tar for tar in tars if not os.path.exists(tar)]
    if missing:
        raise ValueError(f"{missing[0]} does not exist; pass a folder of shards, a tar, or a pattern of existing tars")
    return tars
