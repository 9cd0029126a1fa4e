"""Anyone's tar shards: which tars, which files in them, which of these is HR and which is LR."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from braceexpand import braceexpand

from degrade.sentences import shown

HR_ROLES = frozenset({"hr", "gt", "hq"})
LR_ROLES = frozenset({"lr", "lq"})
MAX_MEMBER_BYTES = 1 << 30  # no image or record is larger; a claim, or a compressed tar, may say it is
MAX_NAME_BYTES = 1 << 20  # of a header that holds a long name

_BLOCK, _STEP = 512, 1 << 20
_FILES, _WITHOUT_CONTENT = (b"0", b"\0", b"7"), (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, fifos


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


class TarStream:
    """A tar that is read from front to back, in a file or in a stream that cannot seek.

    Python's ``tarfile`` takes less care than files of strangers need: until 3.13.6 a negative size makes it go round in
    circles, a sparse file of a terabyte is read as that many zeros, and where a header is damaged it sees the end.

    Args:
        file: where the tar lies; only ``read`` is needed, unless
        seeks: content that is not asked for is not read, and the end is known.
    """

    def __init__(self, file: BinaryIO, *, seeks: bool) -> None:
        self._file, self._at = file, 0
        self._end = file.seek(0, os.SEEK_END) if seeks else None
        if seeks:
            file.seek(0)

    def members(self) -> Iterator[TarMember]:
        """The regular files; `content` reads the one that came last.

        Raises:
            ValueError: the tar is damaged there, in a few words.
        """
        long_name, records = "", dict[str, str]()
        while len(header := self._read(_BLOCK)) == _BLOCK and header.strip(b"\0"):
            kind, size = header[156:157], self._checked_size(header)
            if kind in (b"x", b"X"):
                records = _pax_records(self._extended(size))
            elif kind == b"L":
                long_name = _text(self._extended(size))
            elif kind in (b"K", b"g"):
                self._go_to(self._at + size, "a header")
            else:
                name, size = long_name or records.get("path") or _name(header), int(records.get("size", size))
                if kind == b"S" or any(key.startswith("GNU.sparse") for key in records):
                    raise ValueError(f"{shown(name)} is a sparse file")
                member = TarMember(name, self._at, 0 if kind in _WITHOUT_CONTENT else size)
                if self._end is not None and self._at + member.size > self._end:
                    raise _truncated(name)
                if kind in _FILES and not name.endswith("/"):
                    yield member
                self._go_to(member.offset + member.size, name)
                long_name, records = "", {}
            self._read(-self._at % _BLOCK)
        if 0 < len(header) < _BLOCK:
            raise _truncated(f"the header at byte {self._at - len(header)}")
        if not self._at:
            raise ValueError("it is empty")

    def content(self, member: TarMember) -> bytes:
        """Read a member.

        Raises:
            ValueError: it is truncated, or larger than `MAX_MEMBER_BYTES`.
        """
        _check_size(member)
        return self._read_all(member.size, member.name)

    def _checked_size(self, header: bytes) -> int:
        plain = header[:148] + b" " * 8 + header[156:]
        signed = sum(plain) - 256 * sum(byte > 127 for byte in plain)  # how some old writers add up
        at = self._at - _BLOCK
        if _octal(header[148:156]) not in (sum(plain), signed):
            raise ValueError(f"damaged header at byte {at}" if at else f"it begins with {header[:8]!r}")
        size = int.from_bytes(header[125:136], "big") if header[124] == 0x80 else _octal(header[124:136])
        if size is None:
            raise ValueError(f"impossible size in the header at byte {at}")
        return size

    def _extended(self, size: int) -> bytes:
        if size > MAX_NAME_BYTES:
            raise ValueError(f"a header of {size} bytes")
        return self._read_all(size, "a header")

    def _read(self, size: int) -> bytes:
        pieces = []
        while size and (piece := self._file.read(min(size, _STEP))):  # not all at once: the size is a mere claim
            pieces.append(piece)
            size -= len(piece)
            self._at += len(piece)
        return b"".join(pieces)

    def _read_all(self, size: int, what: str) -> bytes:
        content = self._read(size)
        if len(content) < size:
            raise _truncated(what)
        return content

    def _go_to(self, at: int, what: str) -> None:
        if self._end is not None and at <= self._end:
            self._at = self._file.seek(at)
        while self._at < at:
            self._read_all(min(at - self._at, _STEP), what)


def _truncated(what: str) -> ValueError:
    return ValueError(f"truncated inside {shown(what)}")


def _octal(field: bytes) -> int | None:
    digits = field.strip(b"\0 ")
    return int(digits or b"0", 8) if not digits.strip(b"01234567") else None


def _name(header: bytes) -> str:
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{_text(header[:100])}" if prefix else _text(header[:100])


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="surrogateescape")


def _pax_records(data: bytes) -> dict[str, str]:
    """The extended header of POSIX: ``LENGTH KEY=VALUE`` lines, the length that of the whole line."""
    records, at = {}, 0
    while at < len(data):
        digits = data[at : at + 20].partition(b" ")[0]
        end = at + int(digits) if digits.isdigit() else at
        if not at + len(digits) < end <= len(data):
            raise ValueError("damaged extended header")
        key, _, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        records[key.decode(errors="replace")] = value.decode(errors="surrogateescape")
        at = end
    if not records.get("size", "0").isascii() or not records.get("size", "0").isdigit():
        raise ValueError("impossible size in an extended header")
    return records


def tar_members(path: Path | str, file: BinaryIO | None = None) -> list[TarMember]:
    """List the regular files of an uncompressed tar, without hidden ones and webdataset's ``__meta__`` ones.

    Args:
        path: of the tar.
        file: the tar opened, where it does not lie on a disk; ``path`` is its name for people then.

    Raises:
        ShardError: the file is missing, truncated or not a tar.
    """
    try:
        if file is not None:
            return [member for member in TarStream(file, seeks=True).members() if not is_hidden(member.name)]
        if not os.path.isfile(path) and os.path.exists(path):
            raise ValueError("it is no file")  # a fifo would never open
        with open(path, "rb") as opened:
            return tar_members(path, opened)
    except (OSError, ValueError) as error:
        if isinstance(error, ShardError):
            raise
        raise ShardError(f"{shown(str(path))} is not a readable tar ({error}); make it again or remove it") from error


def read_member(tar: BinaryIO, member: TarMember) -> bytes:
    """Read one of `tar_members`.

    Raises:
        ValueError: it is larger than `MAX_MEMBER_BYTES`.
    """
    _check_size(member)
    tar.seek(member.offset)
    return tar.read(member.size)


def _check_size(member: TarMember) -> None:
    if member.size > MAX_MEMBER_BYTES:
        raise ValueError(f"{shown(member.name)} has {member.size} bytes, more than {MAX_MEMBER_BYTES}")


def is_hidden(name: str) -> bool:
    """Whether a member is none of the data: hidden, or of webdataset's ``__meta__`` ones."""
    return name.rpartition("/")[2].startswith((".", "__"))


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
        tars = sorted(str(path) for path in Path(shards).glob("*.tar") if path.is_file() and path.name[0] != ".")
        if not tars:
            raise ValueError(f"{shards} holds no .tar files; pass the folder that holds the shards")
        return tars
    tars = [str(shards)] if os.path.exists(shards) else list(braceexpand(str(shards)))
    missing = [tar for tar in tars if not os.path.exists(tar)]
    if missing:
        raise ValueError(f"{missing[0]} does not exist; pass a folder of shards, a tar, or a pattern of existing tars")
    return tars
