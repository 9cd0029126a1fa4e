"""List the tars of a data set and the files in them, also those that others have made."""

import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from braceexpand import braceexpand

from degrade.errors import ShardError, shown
from degrade.files.store import is_object, open_store

MAX_MEMBER_BYTES = 1 << 30  # no image or record is larger, but a header may claim it
MAX_NAME_BYTES = 1 << 20  # longest name in a header of its own

_LONG_NAMES = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
TAR_ERRORS = (OSError, tarfile.TarError, ValueError, OverflowError, IndexError)  # raised by `tarfile` at damage


class TarMember(NamedTuple):
    """Locate one file inside a tar: its name, its first byte, and its size in bytes."""

    name: str
    offset: int
    size: int


class _SaneHeader(tarfile.TarInfo):
    """Parse a header, and refuse impossible sizes.

    Until Python 3.13.6, `tarfile` loops forever at a negative size, and allocates any size that the header of a long
    name claims.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _LONG_NAMES and header.size > MAX_NAME_BYTES):
            raise tarfile.HeaderError(f"impossible size {header.size}")
        return header


def tar_members(path: Path | str, file: BinaryIO | None = None) -> list[TarMember]:
    """List the regular files of an uncompressed tar, without hidden ones and webdataset's ``__meta__`` ones.

    Args:
        path: path of the tar.
        file: the opened tar, if it does not lie on a disk; ``path`` is then only its name in messages.

    Raises:
        ShardError: the file is missing, truncated or not a tar.
    """
    try:
        if file is not None:
            return [member for member in _regular_files(file) if not is_hidden(member.name)]
        if not os.path.isfile(path) and os.path.exists(path):
            raise ValueError("it is not a regular file")  # opening a fifo would hang
        with open(path, "rb") as opened:
            return tar_members(path, opened)
    except TAR_ERRORS as error:
        if isinstance(error, ShardError):
            raise
        raise ShardError(f"{shown(str(path))} is not a readable tar ({error}); make it again or remove it") from error


def _regular_files(file: BinaryIO) -> Iterator[TarMember]:
    """Yield the files that `tarfile` finds, and raise an error where it would take a damaged header for the end."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:", tarinfo=_SaneHeader) as tar:
        for member in tar:
            if member.issparse():
                raise ValueError(f"{shown(member.name)} is a sparse file")
            if member.size < 0 or (member.isreg() and member.offset_data + member.size > size):
                raise ValueError(f"truncated inside {shown(member.name)}")
            if member.isreg():
                yield TarMember(member.name, member.offset_data, member.size)
        end = tar.offset
    file.seek(end)
    block = file.read(tarfile.BLOCKSIZE)
    if block.strip(b"\0") or 0 < len(block) < tarfile.BLOCKSIZE:
        raise ValueError(f"damaged header at byte {end}")


def read_member(tar: BinaryIO, member: TarMember) -> bytes:
    """Read a file that `tar_members` has listed.

    Raises:
        ValueError: the file is larger than `MAX_MEMBER_BYTES`.
    """
    _check_size(member)
    tar.seek(member.offset)
    return tar.read(member.size)


def _check_size(member: TarMember) -> None:
    if member.size > MAX_MEMBER_BYTES:
        raise ValueError(f"{shown(member.name)} has {member.size} bytes, more than {MAX_MEMBER_BYTES}")


def is_hidden(name: str) -> bool:
    """Tell whether a member is not data: hidden, or one of webdataset's ``__meta__`` files."""
    return name.rpartition("/")[2].startswith((".", "__"))


def shard_paths(shards: str | Path | Sequence[str | Path]) -> list[str]:
    """List the tars of a data set.

    Args:
        shards: a folder, a tar, a brace pattern such as ``dir/pairs-{000000..000003}.tar``, or a list of these. In an
            object store (``s3://``), a prefix or tars; other addresses (``https://``, ``pipe:``) pass unchanged.

    Raises:
        ValueError: a tar is missing, or there are none.
    """
    if not isinstance(shards, (str, Path)):
        return [path for entry in shards for path in shard_paths(entry)]
    address = str(shards)
    if "://" in address or address.startswith("pipe:"):
        if is_object(address) and not address.endswith(".tar"):
            store = open_store(address)
            tars = [store.place(name) for name in store.names() if name.endswith(".tar") and name[0] != "."]
            if not tars:
                raise ValueError(f"{address} holds no .tar files; pass the prefix that holds the shards")
            return tars
        return list(braceexpand(address))
    if os.path.isdir(shards):
        tars = sorted(str(path) for path in Path(shards).glob("*.tar") if path.is_file() and path.name[0] != ".")
        if not tars:
            raise ValueError(f"{shards} holds no .tar files; pass the folder that holds the shards")
        return tars
    tars = [str(shards)] if os.path.exists(shards) else list(braceexpand(str(shards)))
    missing = [tar for tar in tars if not os.path.exists(tar)]
    if missing:
        raise ValueError(f"{missing[0]} does not exist; pass a folder of shards, a tar, or a pattern of existing tars")
    return tars
