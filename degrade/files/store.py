"""Write the files of a data set to a folder, on a disk or in an object store (``s3://``, ``gs://``, through fsspec).

A file appears under its name whole or not at all. On a disk, it is written under another name, synced and renamed. An
object store has no rename, but shows nothing of an upload before its last byte.
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import socket
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from degrade.errors import ShardError, is_address, one_sentence
from degrade.files.claims import beat_file, beating, claim_of, lock_file, locked
from degrade.files.platform import process_lives, sync_folder

_GROWING = re.compile(r"\.(\.?[\w-]+\.\w+)\.[0-9a-f]{12}\.tmp")
_LONG_NAME = 80  # bytes; files of a data set have far shorter names, by which `remove_stale` knows them
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "r2")  # no folders: making one might create a bucket


class Store(ABC):
    """Hold files in a folder where they appear whole or not at all.

    Attributes:
        address: the folder or address as the user gave it.
    """

    address: str

    def __str__(self) -> str:
        return self.address

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of all files, sorted; none if the folder does not exist."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Read a file.

        Raises:
            FileNotFoundError: the file does not exist.
        """

    @abstractmethod
    def open(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Open a file for reading and seeking, in a ``with`` block.

        Raises:
            FileNotFoundError: the file does not exist.
        """

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes; None if it does not exist."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file if it exists."""

    @abstractmethod
    def growing(self, name: str) -> Path:
        """Choose a new path on a disk, where a file, or a folder of files, can be written before it is published."""

    @abstractmethod
    def publish(self, growing: Path, name: str) -> None:
        """Move a finished, synced file to its place in the store.

        Args:
            growing: path from `growing`; nothing is left there.
            name: name in the store.

        Raises:
            ShardError: the disk is full or not writable.
        """

    @abstractmethod
    def remove_stale(self, names: Collection[str] | None = None) -> None:
        """Remove the unfinished files that a killed run left behind; nothing else is touched.

        Args:
            names: remove only files that were to get one of these names, such as the shards of one node if several
                nodes share a store. None removes all.
        """

    @abstractmethod
    def put_new(self, name: str, data: bytes) -> None:
        """Write a small file unless it exists.

        Raises:
            FileExistsError: the file exists.
        """

    @abstractmethod
    def claim(self, name: str, *, wait: bool = False) -> contextlib.AbstractContextManager[None]:
        """Make sure, for the length of a ``with`` block, that no other process does the same thing in this store.

        Args:
            name: name of the claim, such as "plan".
            wait: wait as long as another process has the claim, instead of raising an error.

        Raises:
            ClaimedError: another process has the claim.
        """

    def claims(self) -> list[str]:
        """Return the names of all claims, sorted, including those of dead processes; `claim` finds out who lives."""
        return sorted({claim for name in self.names() if (claim := claim_of(name)) is not None})

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        """Write a file that appears when the ``with`` block ends, safe from a power cut; nothing appears if it raises.

        Raises:
            ShardError: the disk is full or not writable.
        """
        with one_sentence(self.place(name)):
            growing = self.growing(name)
            try:
                with open(growing, "wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                self.publish(growing, name)
            finally:
                growing.unlink(missing_ok=True)

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file as `create` does."""
        with self.create(name) as file:
            file.write(data)

    def place(self, name: str) -> str:
        """Return the full name of a file, for messages."""
        return f"{self.address.rstrip('/')}/{name}"


class DiskStore(Store):
    """Hold files in a folder on a disk or a mounted file system."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.address = folder, str(folder)

    def names(self) -> list[str]:
        """See `Store`."""
        return sorted(os.listdir(self.folder)) if self.folder.is_dir() else []

    def read(self, name: str) -> bytes:
        """See `Store`."""
        return (self.folder / name).read_bytes()

    def open(self, name: str) -> BinaryIO:
        """See `Store`."""
        return (self.folder / name).open("rb")

    def size(self, name: str) -> int | None:
        """See `Store`."""
        path = self.folder / name
        return path.stat().st_size if path.is_file() else None

    def remove(self, name: str) -> None:
        """See `Store`."""
        (self.folder / name).unlink(missing_ok=True)

    def growing(self, name: str) -> Path:
        """Choose a hidden path beside the final one, so that a rename is enough."""
        with one_sentence(self.place(name)):
            self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f".{_short(name)}.{os.urandom(6).hex()}.tmp"

    def publish(self, growing: Path, name: str) -> None:
        """See `Store`."""
        with one_sentence(self.place(name)):
            os.replace(growing, self.folder / name)
        sync_folder(self.folder)

    def remove_stale(self, names: Collection[str] | None = None) -> None:
        """See `Store`."""
        for path in self.folder.glob(".*.tmp"):
            ours = _GROWING.fullmatch(path.name)
            if ours and (names is None or ours[1] in names):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def put_new(self, name: str, data: bytes) -> None:
        """See `Store`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / name, "xb") as file:
            file.write(data)

    @contextlib.contextmanager
    def claim(self, name: str, *, wait: bool = False) -> Iterator[None]:
        """Lock a hidden file; if the system has no locks, keep a heartbeat file."""
        path = self.folder / lock_file(name)
        new = not self.folder.exists()
        try:
            with contextlib.ExitStack() as held:
                try:
                    held.callback(os.close, locked(path, wait))
                    held.callback(path.unlink, missing_ok=True)  # before the lock is free, see `_same_file`
                except OSError as error:
                    if error.errno not in _NO_LOCKS:
                        raise
                    path.unlink(missing_ok=True)
                    held.enter_context(beating(self, beat_file(name), wait))
                yield
        finally:
            if new:
                with contextlib.suppress(OSError):  # remove the folder again if the run has written nothing
                    self.folder.rmdir()


class ObjectStore(Store):
    """Hold files under a prefix of an object store, or in anything else that fsspec opens.

    Args:
        address: scheme and path, such as ``s3://bucket/prefix``.

    Raises:
        ShardError: fsspec does not know the scheme, or the package for it is missing.
    """

    def __init__(self, address: str) -> None:
        import fsspec

        self.address = address
        try:
            self.files, self.root = fsspec.core.url_to_fs(address, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise ShardError(f"{address} cannot be opened ({error}); s3:// needs `pip install s3fs`") from error

    def names(self) -> list[str]:
        """See `Store`."""
        with one_sentence(self.address), _asking(self.address):
            try:
                found = self.files.ls(self.root, detail=False)
            except FileNotFoundError:
                return []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def read(self, name: str) -> bytes:
        """See `Store`."""
        with _asking(self.place(name)):
            return bytes(self.files.cat_file(self._path(name)))

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """See `Store`. Errors of the client inside the block become `ShardError` too."""
        with _asking(self.place(name)), self.files.open(self._path(name), "rb") as file:
            yield file

    def size(self, name: str) -> int | None:
        """See `Store`."""
        with _asking(self.place(name)):
            try:
                return int(self.files.info(self._path(name))["size"])
            except FileNotFoundError:
                return None

    def remove(self, name: str) -> None:
        """See `Store`."""
        with one_sentence(self.place(name)), _asking(self.place(name)), contextlib.suppress(FileNotFoundError):
            self.files.rm_file(self._path(name))

    def growing(self, name: str) -> Path:
        """Choose a path in the folder for temporary files (``TMPDIR``), with the process number in its name."""
        unique = f"{os.urandom(6).hex()}.{os.getpid()}"
        return Path(tempfile.gettempdir()) / f".{_short(name)}.{unique}.degrade-on-{_host_mark()}"

    def remove_stale(self, names: Collection[str] | None = None) -> None:
        """Remove the files of dead processes of this machine, for any store and under any name."""
        for path in Path(tempfile.gettempdir()).glob(f".*.degrade-on-{_host_mark()}"):
            process = path.name.split(".")[-2]
            if process.isdecimal() and not process_lives(int(process)):
                path.unlink(missing_ok=True)

    def publish(self, growing: Path, name: str) -> None:
        """See `Store`."""
        expected = growing.stat().st_size
        with one_sentence(self.place(name)), _asking(self.place(name)):
            self._make_folder()
            self.files.put_file(str(growing), self._path(name))
            arrived = self.size(name)
        if arrived != expected:
            raise ShardError(f"{self.place(name)} has {arrived} bytes after an upload of {expected}; run it again")
        growing.unlink()

    @contextlib.contextmanager
    def claim(self, name: str, *, wait: bool = False) -> Iterator[None]:
        """Keep a heartbeat file."""
        with one_sentence(self.address), _asking(self.address):
            self._make_folder()
        with beating(self, beat_file(name), wait):
            yield

    def put_new(self, name: str, data: bytes) -> None:
        """See `Store`."""
        with _asking(self.place(name)):
            try:
                self.files.pipe_file(self._path(name), data, mode="create")
            except (NotImplementedError, TypeError):  # a store without conditional writes
                if self.size(name) is not None:
                    raise FileExistsError(errno.EEXIST, "exists", self.place(name)) from None
                self.files.pipe_file(self._path(name), data)

    def _make_folder(self) -> None:
        if not is_object(self.address):
            self.files.makedirs(self.root, exist_ok=True)

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"


def open_store(place: "str | Path | Store") -> Store:
    """Open the store at a place; a store is returned as it is.

    Args:
        place: a folder, ``file://`` and a folder, or an address that fsspec opens, such as ``s3://bucket/prefix``.

    Raises:
        ShardError: fsspec does not know the scheme, or the package for it is missing.
    """
    if isinstance(place, Store):
        return place
    address = str(place)
    if address.startswith("file://"):
        return DiskStore(Path(address.removeprefix("file://")))
    return ObjectStore(address.rstrip("/")) if is_address(address) else DiskStore(Path(place))


def is_object(address: str) -> bool:
    """Tell whether an address is in an object store."""
    return is_address(address) and address.partition("://")[0] in _OBJECT_STORES


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file on a disk so that it appears whole, safe from a power cut, or not at all.

    Raises:
        ShardError: the disk is full or not writable.
    """
    DiskStore(path.parent).write(path.name, data)


def check_output_folder(folder: Path, name: str, source: Path, source_name: str) -> None:
    """Refuse an output folder that cannot be one, or whose files a later run would take for input.

    Args:
        folder: the output folder, which need not exist.
        name: what the user calls it, such as "--out".
        source: where the input images are.
        source_name: what the user calls that.

    Raises:
        ValueError: a file is in the way, or the folder lies inside ``source``.
    """
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"{name} {folder} cannot be a folder because {place} is a file; give another")
    if source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
        raise ValueError(
            f"{name} {folder} lies inside {source_name} {source}, so the next run would take its files for input; "
            "give a folder outside it"
        )


@contextlib.contextmanager
def _asking(place: str) -> Iterator[None]:
    """Turn any error of an object store's client into a `ShardError`; botocore's errors are not `OSError`s."""
    try:
        yield
    except (ShardError, FileNotFoundError, FileExistsError):
        raise
    except Exception as error:
        if type(error).__module__ == "builtins" and not isinstance(error, OSError):
            raise  # a bug of ours
        why = " ".join(str(error).split()) or type(error).__name__
        raise ShardError(f"no access to {place} ({why}): fix this and run the same command again") from error


def _short(name: str) -> str:
    """Return a name that leaves room for what is added to it: disks allow 255 bytes, and some 143."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= _LONG_NAME else hashlib.sha256(encoded).hexdigest()[:16]


def _host_mark() -> str:
    """Return a mark of this machine or container, because only its own processes can be asked whether they live."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:12]
