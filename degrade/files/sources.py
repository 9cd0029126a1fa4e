"""List images in folders, text lists and tars, and match real HR-LR pairs in two folders."""

import codecs
import io
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from degrade.errors import ImageError, PassedOverError, ShardError
from degrade.files.names import (
    ANY_IMAGE_SUFFIX,
    CONTACT_SHEET,
    IMAGE_SUFFIXES,
    PREVIEW,
    is_image,
    split_member,
    why_not_read,
    why_passed_over,
)
from degrade.files.tars import TarMember, shard_paths, tar_members

HEAD_BYTES = 32_768  # nearly every header fits, so that one read is enough on a slow disk
_PAIR_MARK = re.compile(r"(?:[_-]?(?:hr|gt|hq|lr|lq)\d*|[_-]?x\d+)+$", re.IGNORECASE)

# "a/b.png", and after it BasicSR's "(480,480,3) 1" or its ", lq.png", or a comment
_LIST_LINE = re.compile(rf"(.+?\.(?:{ANY_IMAGE_SUFFIX}))(?:\s*\(\d.*|\s*,.*|\s+#.*)?", re.IGNORECASE)
_KINDS = {  # of files that are neither regular nor folders: opening a pipe would wait for ever
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


@dataclass(frozen=True)
class Source:
    """Locate one encoded image: a file, or a range of bytes in a tar. It is small, and is sent to workers.

    Files that look like photographs and cannot be used are listed too: to read one raises an error that says why, so
    that every command names them as it names a damaged image.

    Attributes:
        name: POSIX path relative to the root of the sources; in a tar, file name of the tar / name of the member. Seeds
            come from it, so it does not depend on where the root lies.
        bytes_len: size of the encoded image; 0 if a listed file is missing.
        path: file to open.
        offset: first byte of the image in this file.
        flaw: why it cannot be used, as far as its name and kind tell; "" for all others.
        passed_over: whether it is left out on purpose, and so is no failure.
    """

    name: str
    bytes_len: int
    path: str
    offset: int = 0
    flaw: str = ""
    passed_over: bool = False

    def read(self) -> bytes:
        """Return the encoded image.

        Raises:
            ImageError: it has a flaw; `PassedOverError` if it is left out on purpose, as our own contact sheets are.
            OSError: the file is missing or not readable, or its size has changed since it was listed.
        """
        self._refuse_flaw()
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read(self.bytes_len)
            grown = self.offset == 0 and file.read(1)  # in a tar, what follows is another member
        if len(data) != self.bytes_len or grown:
            raise OSError(
                f"{self.name} has become {'longer' if grown else 'shorter'} since it was listed; run the command again"
            )
        _refuse_contact_sheet(data)
        return data

    def head(self) -> BinaryIO:
        """Open the encoded image to read its header; `probe_image` closes the file.

        Raises:
            ImageError: as for `read`.
            OSError: the file is missing or not readable.
        """
        self._refuse_flaw()
        stretch = _Stretch(open(self.path, "rb"), self.offset, self.bytes_len)  # noqa: SIM115
        stream = io.BufferedReader(stretch, HEAD_BYTES)
        try:
            _refuse_contact_sheet(stream.peek(HEAD_BYTES))
        except BaseException:
            stream.close()
            raise
        return stream

    def _refuse_flaw(self) -> None:
        if self.flaw:
            raise PassedOverError(self.flaw) if self.passed_over else ImageError(self.flaw)


class PairListing(NamedTuple):
    """Hold real pairs, and one sentence for each image that is in no pair."""

    pairs: list[tuple[Source, Source]]
    unpaired: list[str]


def list_sources(path: str | Path) -> list[Source]:
    """List HR images, sorted by name.

    Args:
        path: as for `iter_sources`, which can also list more images than fit into memory.

    Raises:
        ValueError: there are no images, or two images have the same name.
    """
    sources = sorted(set(iter_sources(path)), key=lambda source: source.name)
    for one, other in zip(sources, sources[1:], strict=False):
        if one.name == other.name:
            raise two_alike(one.name, one.path, other.path)
    return sources


def iter_sources(path: str | Path) -> Iterator[Source]:
    r"""Yield images one by one, in no particular order.

    What looks like a photograph and cannot be used is yielded with a `Source.flaw`: other formats, pipes, broken links,
    lines of a list that are no path. So is, as passed over, each folder of thumbnails, deleted files and the like that
    a system has made. Hidden files, and files that are no photographs by their suffix, are left out.

    Bytes of a file name that are not UTF-8 become escapes such as ``\xe9`` in `Source.name`. Python represents them as
    lone surrogates, which Arrow, and so Hugging Face ``datasets``, refuses, and which crash OpenCV's text.

    Args:
        path: one of

            - a folder, for all images in it and its subfolders, by extension; or one image;
            - a folder of ``.tar`` files, one tar, or a brace pattern of tars such as ``x-{000000..000003}.tar``, for
              the members called ``hr``, ``gt`` or ``hq``, or, if there are none, for all images not called ``lr`` or
              ``lq``;
            - a text file with one image per line, as an absolute path, or relative to the folder of the file or to the
              folder above (where BasicSR keeps its ``meta_info``). ``#`` starts a comment; ``gt.png, lq.png`` gives the
              first.

    Yields:
        The images. If a list repeats a line, its image comes twice.

    Raises:
        ValueError: there are no images, or, at the end, a folder holds both images and tars.
    """
    path = Path(path)
    if path.is_dir():
        sources = _in_folder(path)
    elif path.suffix.lower() == ".tar":
        sources = _in_tars(shard_paths(path))
    elif is_image(path.suffix.lower()) and path.exists():
        sources = iter([_file(path.name, str(path))])
    elif path.is_file():
        sources = _in_list(path)
    elif path.exists():
        raise ValueError(f"{path} is no regular file; pass a folder of images, a text list, or WebDataset tars")
    else:
        raise ValueError(f"{path} does not exist; pass a folder of images, a text list, or WebDataset tars")
    found = False
    passed_over = ""
    for source in sources:
        found = found or not source.passed_over
        if source.passed_over:
            passed_over = passed_over or f" but {source.name}, {source.flaw}"
        yield source if source.name.isascii() else replace(source, name=_text(source.name))
    if not found:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ValueError(f"{path} holds no images ({suffixes}){passed_over}; pass a folder that does")


def two_alike(name: str, one: str, other: str) -> ValueError:
    """Build the error about two images with the same name."""
    return ValueError(f"two images are called {name}, in {one} and {other}; rename one")


def list_pairs(hr_dir: str | Path, lr_dir: str | Path) -> PairListing:
    """Match real HR and LR images of two folders by their paths.

    Paths match if they are the same without the extension (``0001.png``, ``0001.jpg``). Then, for the rest, upper and
    lower case and the marks that data sets use for the two sides are ignored (``0001x4``; ``Canon_001_HR`` and
    ``Canon_001_LR4``).

    Raises:
        ValueError: a folder has no images, or no two images match.
    """
    listed = list_sources(hr_dir), list_sources(lr_dir)
    lost = [f"{source.path}: {source.flaw}" for side in listed for source in side if source.flaw]
    # Without the flawed ones: a HEIC beside the JPEG of its name would make it unclear which is the partner.
    hr_left, lr_left = ([source for source in side if not source.flaw] for side in listed)
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
    lost += [f"{source.path} has no partner in {lr_dir}" for source in hr_left]
    lost += [f"{source.path} has no partner in {hr_dir}" for source in lr_left]
    return PairListing(sorted(pairs, key=lambda pair: pair[0].name), lost)


def _in_folder(folder: Path) -> Iterator[Source]:
    top = os.path.join(folder, "")
    tars: list[str] = []
    preview = None  # the one that `degrade synth` writes beside its shards
    found = ""
    seen: set[tuple[int, int]] = set()  # a link to a parent folder would list everything again and again
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
                f"folder {error.filename} cannot be listed ({error.strerror}); make it readable or move it away"
            ) from error
        subfolders = []
        with entries:
            for entry in entries:
                suffix = os.path.splitext(entry.name)[1].lower()
                name = entry.path.removeprefix(top).replace(os.sep, "/")
                is_folder = _is_folder(entry)
                if is_folder and (reason := why_passed_over(entry.name)):
                    yield Source(name, 0, entry.path, flaw=reason, passed_over=True)
                elif entry.name.startswith("."):
                    continue
                elif is_folder:
                    subfolders.append(entry.path)
                elif suffix == ".tar":
                    tars.append(entry.path)
                elif is_image(suffix) or entry.is_symlink():
                    source = _file(name, entry)
                    if source.name == PREVIEW:
                        preview = source
                    elif is_image(suffix) or source.flaw:
                        found = found or ("" if source.flaw else source.name)
                        yield source
        # sorted, because the first of two links to one folder decides the names of its images
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
        return False  # a link to itself: treated as a missing image


def _in_tars(tars: Iterable[str]) -> Iterator[Source]:
    tars = list(tars)
    marked = any(split_member(member.name).part == "hr" for tar in tars for member in _members(tar))
    for tar in tars:
        for member in _members(tar):
            name = split_member(member.name)
            if name.part == "hr" if marked else name.is_image and name.part != "lr":
                folders = member.name.split("/")[:-1]
                passed_over = next((reason for folder in folders if (reason := why_passed_over(folder))), "")
                yield Source(
                    f"{os.path.basename(tar)}/{member.name}",
                    member.size,
                    tar,
                    member.offset,
                    passed_over or why_not_read(f".{name.extension}"),
                    bool(passed_over),
                )


def _members(tar: str) -> list[TarMember]:
    try:
        return tar_members(tar)
    except ShardError as error:
        raise ValueError(str(error)) from error


class _ListLine(NamedTuple):
    """Hold a line of a text list: its number, its text, and the image path in it, "" if there is none."""

    number: int
    text: str
    image: str


def _in_list(file: Path) -> Iterator[Source]:
    first = next((line.image for line in _lines(file) if line.image), "")
    if not first:
        for line in _lines(file):
            raise ValueError(
                f"line {line.number} of {file}, {line.text[:200]!r}, is not the path of an image; "
                "write one image path per line"
            )
        raise ValueError(f"{file} lists no images; write one image path per line")
    folder = file.absolute().parent
    root = next((root for root in (folder, folder.parent) if os.path.exists(_join(root, first))), folder)
    top = os.path.normpath(root)
    above, there = "", False  # a first pass over all lines, because the names depend on their common folder
    count = 0
    for line in _lines(file):
        if line.image:
            count += 1
            path = _join(root, line.image)
            above = os.path.commonpath([above, os.path.dirname(path)]) if above else os.path.dirname(path)
            there = there or os.path.exists(path)
    if not there:
        raise ValueError(
            f"none of the {count} images of {file} exists, {first} first, in {root} or elsewhere; "
            "put the list beside its images, or write paths of this machine"
        )
    if not (above + os.sep).startswith(top + os.sep):
        top = above
    for line in _lines(file):
        if line.image:
            path = _join(root, line.image)
            yield _file(Path(path).relative_to(top).as_posix(), path)
        else:
            yield Source(f"line {line.number} of {file.name}", 0, str(file), flaw="is not the path of an image")


def _join(root: Path, entry: str) -> str:
    """Return the path of a line; one with backslashes, as Windows writes them, also leads to its file elsewhere."""
    path = os.path.normpath(root / entry)
    if "\\" in entry and not os.path.exists(path):
        return os.path.normpath(root / entry.replace("\\", "/"))
    return path


def _lines(file: Path) -> Iterator[_ListLine]:
    """Yield the lines of a text list, without comments and empty ones."""
    try:
        with open(file, encoding=_encoding(file)) as texts:
            for number, text in enumerate(texts, start=1):
                line = text.strip()
                if line and not line.startswith("#"):
                    match = _LIST_LINE.fullmatch(line)
                    yield _ListLine(number, line, match[1] if match else "")
    except UnicodeError as error:
        raise ValueError(
            f"{file} is not a text file; pass a folder of images, a text list in UTF-8 or UTF-16, or tars"
        ) from error


def _encoding(file: Path) -> str:
    """Tell the encoding of a text file by its byte order mark; PowerShell writes UTF-16, Notepad UTF-8 with a mark."""
    with open(file, "rb") as start:
        utf_16 = start.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return "utf-16" if utf_16 else "utf-8-sig"


def _text(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _file(name: str, file: "str | os.DirEntry[str]") -> Source:
    """Locate a file by its name and kind, without opening it."""
    path = os.fspath(file)
    flaw = why_not_read(os.path.splitext(path)[1].lower())
    try:
        status = os.stat(file)
    except OSError:  # a missing file of a list: reading it fails with a reason, and the run continues
        return Source(name, 0, path, flaw="is a broken link" if os.path.islink(path) else flaw)
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    return Source(name, status.st_size, path, flaw=f"is a {kind}, not a file" if kind else flaw)


def _refuse_contact_sheet(data: bytes) -> None:
    if CONTACT_SHEET in data[:128]:
        raise PassedOverError("is a contact sheet made by this program, not a photograph")


def _stem(source: Source) -> str:
    return source.name.rpartition(".")[0]


def _unmarked_stem(source: Source) -> str:
    folder, slash, stem = _stem(source).lower().rpartition("/")
    return folder + slash + (_PAIR_MARK.sub("", stem) or stem)


def _unique(sources: list[Source], simplify: Callable[[Source], str]) -> dict[str, Source]:
    """Index images by simplified name, without names that several images share, so that none gets a wrong partner."""
    counts = Counter(map(simplify, sources))
    return {simplify(source): source for source in sources if counts[simplify(source)] == 1}


class _Stretch(io.RawIOBase):
    """Read a range of bytes of an open file as a file of its own."""

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
