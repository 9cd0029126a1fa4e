"""Where HR images come from: folders, text lists, tars; and real HR-LR pairs in two folders."""

import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from degrade.errors import ShardError
from degrade.files.names import IMAGE_SUFFIXES, PREVIEW, split_member
from degrade.files.tars import TarMember, shard_paths, tar_members

HEAD_BYTES = 32_768  # holds nearly every header: one read, which matters where reads are slow
_PAIR_MARK = re.compile(r"(?:[_-]?(?:hr|gt|hq|lr|lq)\d*|[_-]?x\d+)+$", re.IGNORECASE)

_SUFFIX = "|".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
# "a/b.png", and after it BasicSR's "(480,480,3) 1" or its ", lq.png", or a comment
_LIST_LINE = re.compile(rf"(.+?\.(?:{_SUFFIX}))(?:\s*\(\d.*|\s*,.*|\s+#.*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """One encoded image: a file, or a stretch of a tar. Small and picklable, for sending to workers.

    Attributes:
        name: POSIX path relative to the root of the sources; seeds come from it, so it does not depend on where the
            root lies. In a tar: file name of the tar / name of the member.
        bytes_len: encoded size; 0 when a listed file is missing.
        path: file to open.
        offset: where the image begins in it.
    """

    name: str
    bytes_len: int
    path: str
    offset: int = 0

    def read(self) -> bytes:
        """Return the encoded image.

        Raises:
            OSError: the file is missing, not readable, or has another size than when it was listed.
        """
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read(self.bytes_len)
            grown = self.offset == 0 and file.read(1)  # in a tar, what follows is another member
        if len(data) != self.bytes_len or grown:
            raise OSError(f"{self.name} has become {'longer' if grown else 'shorter'} since it was listed; start again")
        return data

    def head(self) -> BinaryIO:
        """Open the encoded image for reading its header only; `probe_image` takes it, and closes it."""
        stretch = _Stretch(open(self.path, "rb"), self.offset, self.bytes_len)  # noqa: SIM115
        return io.BufferedReader(stretch, HEAD_BYTES)


class PairListing(NamedTuple):
    """Real pairs, and the names that found no partner (each with its folder)."""

    pairs: list[tuple[Source, Source]]
    unpaired: list[str]


def list_sources(path: str | Path) -> list[Source]:
    """List HR images, sorted by name.

    Args:
        path: see `iter_sources`, which goes through more images than fit into memory.

    Raises:
        ValueError: nothing is there, or two images have the same name.
    """
    sources = sorted(set(iter_sources(path)), key=lambda source: source.name)
    for one, other in zip(sources, sources[1:], strict=False):
        if one.name == other.name:
            raise two_alike(one.name, one.path, other.path)
    return sources


def iter_sources(path: str | Path) -> Iterator[Source]:
    r"""Go through HR images, in no order and without holding them; hidden files are left out.

    Bytes of a file name that are no UTF-8 become ``\xe9`` in `Source.name`: Python would carry them as lone surrogates,
    which stop Arrow, and with it Hugging Face ``datasets``, and crash OpenCV's text.

    Args:
        path: one of

            - a folder: all images in it, at any depth, by extension; or one image;
            - a folder of ``.tar`` files, one tar, or a brace pattern of tars, ``x-{000000..000003}.tar``: the members
              with an ``hr``, ``gt`` or ``hq`` key, or, where no tar has such keys, all images that are not ``lr`` or
              ``lq``;
            - a text file with an image per line, relative to its folder (or to the folder above, where BasicSR keeps
              its ``meta_info``), or absolute. ``#`` begins a comment; of ``gt.png, lq.png`` the first is taken.

    Yields:
        The images; a line that a list repeats comes twice.

    Raises:
        ValueError: nothing is there, or, at the end, images and tars were mixed.
    """
    path = Path(path)
    if path.is_dir():
        sources = _in_folder(path)
    elif path.suffix.lower() == ".tar":
        sources = _in_tars(shard_paths(path))
    elif path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        sources = iter([Source(path.name, _size(str(path)), str(path))])
    elif path.is_file():
        sources = _in_list(path)
    else:
        raise ValueError(f"{path} does not exist; pass a folder of images, a text list, or WebDataset tars")
    found = False
    for source in sources:
        found = True
        yield source if source.name.isascii() else replace(source, name=_text(source.name))
    if not found:
        raise ValueError(f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}); pass a folder that does")


def two_alike(name: str, one: str, other: str) -> ValueError:
    """The error about two images of one name."""
    return ValueError(f"two images are called {name}, in {one} and {other}; rename one")


def list_pairs(hr_dir: str | Path, lr_dir: str | Path) -> PairListing:
    """Match real HR and LR images of two folders by their paths.

    First exact stems (``0001.png``, ``0001.jpg``), then, without regard to case, stems without the marks by which
    data sets tell the sides apart (``0001x4``, ``Canon_001_HR`` and ``Canon_001_LR4``).

    Raises:
        ValueError: a folder has no images, or no two of them match.
    """
    hr_left, lr_left = list_sources(hr_dir), list_sources(lr_dir)
    pairs: list[tuple[Source, Source]] = []
    for simplify in (_stem, _unmarked_stem):
        hr_by_name, lr_by_name = _unique(hr_left, simplify), _unique(lr_left, simplify)
        matched = [(hr_by_name[name], lr_by_name[name]) for name in hr_by_name.keys() & lr_by_name.keys()]
        pairs += matched
        taken = {source for pair in matched for source in pair}
        hr_left = [source for source in hr_left if source not in taken]
        lr_left = [source for source in lr_left if source not in taken]
    if not pairs:
        raise ValueError(f"no image of {hr_dir} matches one of {lr_dir}; give partners the same file name")
    lost = [f"{source.path} has no partner in {lr_dir}" for source in hr_left]
    lost += [f"{source.path} has no partner in {hr_dir}" for source in lr_left]
    return PairListing(sorted(pairs, key=lambda pair: pair[0].name), lost)


def _in_folder(folder: Path) -> Iterator[Source]:
    top = os.path.join(folder, "")
    tars: list[str] = []
    preview = None  # `synth` leaves one beside its shards
    found = ""
    seen: set[tuple[int, int]] = set()  # a link to a folder above would list everything again and again
    pending = [str(folder)]
    while pending:
        place = pending.pop()
        try:
            status = os.stat(place)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = os.scandir(place)
        except OSError as error:
            raise ValueError(
                f"folder {error.filename} cannot be listed ({error.strerror}); repair that or move it away"
            ) from error
        subfolders = []
        with entries:
            for entry in entries:
                suffix = os.path.splitext(entry.name)[1].lower()
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    subfolders.append(entry.path)
                elif suffix == ".tar":
                    tars.append(entry.path)
                elif suffix in IMAGE_SUFFIXES:
                    source = Source(entry.path.removeprefix(top).replace(os.sep, "/"), _size(entry), entry.path)
                    if source.name == PREVIEW:
                        preview = source
                        continue
                    found = source.name
                    yield source
        # in the order of their names: which of two links to one folder comes first decides what its images are called
        pending += sorted(subfolders, reverse=True)
        if tars and found:
            names = f"{os.path.basename(tars[0])}, {found}"
            raise ValueError(f"{folder} holds images and tars ({names}); name the tars or move one kind away")
    if tars:
        yield from _in_tars(sorted(tars))
    elif preview:
        yield preview


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself: `_size` takes it for an image that is not there


def _in_tars(tars: Iterable[str]) -> Iterator[Source]:
    tars = list(tars)
    marked = any(split_member(member.name).part == "hr" for tar in tars for member in _members(tar))
    for tar in tars:
        for member in _members(tar):
            name = split_member(member.name)
            if name.part == "hr" if marked else name.is_image and name.part != "lr":
                yield Source(f"{os.path.basename(tar)}/{member.name}", member.size, tar, member.offset)


def _members(tar: str) -> list[TarMember]:
    try:
        return tar_members(tar)
    except ShardError as error:
        raise ValueError(str(error)) from error


def _in_list(file: Path) -> Iterator[Source]:
    first = next(_entries(file), None)
    if first is None:
        raise ValueError(f"{file} lists no images; write one image path per line")
    folder = file.absolute().parent
    root = next((root for root in (folder, folder.parent) if (root / first).exists()), folder)
    top = os.path.normpath(root)
    above, there = "", False  # a first pass: names must not change with the lines that follow
    count = 0
    for entry in _entries(file):
        count += 1
        path = os.path.normpath(root / entry)
        above = os.path.commonpath([above, os.path.dirname(path)]) if above else os.path.dirname(path)
        there = there or os.path.exists(path)
    if not there:
        raise ValueError(f"none of the {count} images of {file} exists below {root}; put the list beside its images")
    if not (above + os.sep).startswith(top + os.sep):
        top = above
    for entry in _entries(file):
        path = os.path.normpath(root / entry)
        yield Source(Path(path).relative_to(top).as_posix(), _size(path), path)


def _entries(file: Path) -> Iterator[str]:
    """The image paths that a list names, line by line."""
    with open(file, encoding="utf-8") as lines:
        try:
            for number, text in enumerate(lines, start=1):
                line = text.strip()
                if line and not line.startswith("#"):
                    match = _LIST_LINE.fullmatch(line)
                    if not match:
                        raise ValueError(
                            f"line {number} of {file}, {line[:200]!r}, names no image; write one image path per line"
                        )
                    yield match[1]
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is no text; pass a folder of images, a text list in UTF-8, or tars") from error


def _text(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _size(file: "str | os.DirEntry[str]") -> int:
    try:
        return os.stat(file).st_size
    except OSError:
        return 0  # a dangling link or a gap in a list: reading it will say so, and the run goes on


def _stem(source: Source) -> str:
    return source.name.rpartition(".")[0]


def _unmarked_stem(source: Source) -> str:
    folder, slash, stem = _stem(source).lower().rpartition("/")
    return folder + slash + (_PAIR_MARK.sub("", stem) or stem)


def _unique(sources: list[Source], simplify: Callable[[Source], str]) -> dict[str, Source]:
    """Index by simplified name; names that several images share find no partner rather than a wrong one."""
    counts = Counter(map(simplify, sources))
    return {simplify(source): source for source in sources if counts[simplify(source)] == 1}


class _Stretch(io.RawIOBase):
    """The part of an open file that holds one image, as a file of its own."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file, self._start, self._length, self._at = file, start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._at)
        data = self._file.read(max(0, min(len(buffer), self._length - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
