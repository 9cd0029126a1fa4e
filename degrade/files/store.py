"""Store: the folder that a data set is written to, on a disk or in an object store (``s3://``, ``gs://``: fsspec).

A file appears under its name whole or not at all: on a disk by a rename, after a sync; in an object store, which has no
rename, by the upload, which shows nothing before its last byte. Either way the marker of a shard is published last.
"""

import contextlib
import errno
import hashlib
import os
import re
import socket
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from degrade.errors import ShardError, is_address, one_sentence
from degrade.files.claims import beat_file, beating, claim_of, lock_file, locked

_GROWING = re.compile(r"\.(\.?[\w-]+\.\w+)\.[0-9a-f]{12}\.tmp")
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "r2")  # no folders: making one might make a bucket


class Store(ABC):
    """A folder whose files appear whole or not at all.

    Attributes:
        address: what the user called it.
    """

    address: str

    def __str__(self) -> str:
        return self.address

    @abstractmethod
    def names(self) -> list[str]:
        """Names of the files in it, sorted; none when there is no such folder."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Content of a file.

        Raises:
            FileNotFoundError: there is none.
        """

    @abstractmethod
    def open(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Open a file for reading and seeking, in a ``with`` block.

        Raises:
            FileNotFoundError: there is none.
        """

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Bytes of a file; None when there is none."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""

    @abstractmethod
    def growing(self, name: str) -> Path:
        """A new name on a disk, under which a file can be written before `publish`."""

    @abstractmethod
    def publish(self, growing: Path, name: str) -> None:
        """Let a finished, synced file appear; it is gone from where it grew.

        Raises:
            ShardError: the disk is full or not writable.
        """

    @abstractmethod
    def remove_stale(self, names: Collection[str] | None = None) -> None:
        """Remove what a killed run left where files grow; nothing else is touched.

        Args:
            names: remove only what was to become one of these files, such as a node's own shards when several nodes
                share a store. None removes all.
        """

    @abstractmethod
    def put_new(self, name: str, data: bytes) -> None:
        """Write a small file unless there is one.

        Raises:
            FileExistsError: there is one.
        """

    @abstractmethod
    def claim(self, name: str, *, wait: bool = False) -> contextlib.AbstractContextManager[None]:
        """Be the only process that does something here, such as writing a data set.

        Args:
            name: of what is claimed.
            wait: for as long as another has it.

        Raises:
            ClaimedError: another has it.
        """

    def claims(self) -> set[str]:
        """Return the names of all claims, also of those whose owners died: `claim` finds out which are free."""
        return {claim for name in self.names() if (claim := claim_of(name)) is not None}

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        """Write a file that appears when the block ends, safe from a power cut; never when it raises.

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
        """`create` a file at once."""
        with self.create(name) as file:
            file.write(data)

    def place(self, name: str) -> str:
        """The full name of a file, for people."""
        return f"{self.address.rstrip('/')}/{name}"


class DiskStore(Store):
    """A folder on a disk or a mounted file system."""

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
        """Beside its final name, hidden, so that a rename is enough."""
        with one_sentence(self.place(name)):
            self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f".{name}.{os.urandom(6).hex()}.tmp"

    def publish(self, growing: Path, name: str) -> None:
        """See `Store`."""
        with one_sentence(self.place(name)):
            os.replace(growing, self.folder / name)
        _sync_folder(self.folder)

    def remove_stale(self, names: Collection[str] | None = None) -> None:
        """See `Store`."""
        for path in self.folder.glob(".*.tmp"):
            ours = _GROWING.fullmatch(path.name)
            if ours and (names is None or ours[1] in names):
                path.unlink(missing_ok=True)

    def put_new(self, name: str, data: bytes) -> None:
        """See `Store`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / name, "xb") as file:
            file.write(data)

    @contextlib.contextmanager
    def claim(self, name: str, *, wait: bool = False) -> Iterator[None]:
        """A lock on a hidden file; where the system has no locks, a file that beats."""
        path = self.folder / lock_file(name)
        new = not self.folder.exists()
        try:
            with contextlib.ExitStack() as held:
                try:
                    held.callback(os.close, locked(path, wait))
                    held.callback(path.unlink, missing_ok=True)  # before the lock is free: `locked` sees that it went
                except (ImportError, OSError) as error:
                    if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                        raise
                    path.unlink(missing_ok=True)
                    held.enter_context(beating(self, beat_file(name), wait))
                yield
        finally:
            if new:
                with contextlib.suppress(OSError):  # a run that came to nothing leaves nothing
                    self.folder.rmdir()


class ObjectStore(Store):
    """A prefix of an object store, or whatever else fsspec opens.

    Raises:
        ShardError: there is no such scheme, or a package for it is missing.
    """

    def __init__(self, address: str) -> None:
        import fsspec

        self.address = address
        try:
            self.files, self.root = fsspec.core.url_to_fs(address, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise ShardError(f"{address} cannot be opened ({error}); `pip install s3fs` is for s3://") from error

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
        """See `Store`; what is read in the block is asked for in the block."""
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
        """In the folder for temporary files (``TMPDIR``), with the process in its name."""
        unique = f"{os.urandom(6).hex()}.{os.getpid()}"
        return Path(tempfile.gettempdir()) / f".{name}.{unique}.degrade-on-{_host_mark()}"

    def remove_stale(self, names: Collection[str] | None = None) -> None:
        """See `Store`; files of processes that live are left alone, whichever store they are for."""
        for path in Path(tempfile.gettempdir()).glob(f".*.degrade-on-{_host_mark()}"):
            process = path.name.split(".")[-2]
            if process.isdecimal() and not _lives(int(process)):
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
        """A file that beats."""
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
    """The store at an address or in a folder; what is one already is returned.

    Args:
        place: a folder, ``file://`` and a folder, or an address that fsspec opens, such as ``s3://bucket/prefix``.

    Raises:
        ShardError: there is no such scheme, or a package for it is missing.
    """
    if isinstance(place, Store):
        return place
    address = str(place)
    if address.startswith("file://"):
        return DiskStore(Path(address.removeprefix("file://")))
    return ObjectStore(address.rstrip("/")) if is_address(address) else DiskStore(Path(place))


def is_object(address: str) -> bool:
    """Whether an address is in an object store."""
    return is_address(address) and address.partition("://")[0] in _OBJECT_STORES


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file on a disk so that it is either wholly there, safe from a power cut, or not at all.

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
    """Turn errors of the client of an object store into a `ShardError`; those of botocore are no `OSError`."""
    try:
        yield
    except (ShardError, FileNotFoundError, FileExistsError):
        raise
    except Exception as error:
        if type(error).__module__ == "builtins" and not isinstance(error, OSError):
            raise  # a bug of ours
        why = " ".join(str(error).split()) or type(error).__name__
        raise ShardError(f"no access to {place} ({why}): repair that and run the same command again") from error


def _host_mark() -> str:
    """Processes of another machine, or container, cannot be asked whether they live."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:12]


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; some network file systems cannot, and say so."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
