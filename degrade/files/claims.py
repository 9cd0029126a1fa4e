"""Claim a data set, so that no second run writes to it at the same time.

On a disk, a claim is a lock, which the system frees when its process dies. Elsewhere it is a heartbeat file, which its
owner changes every few seconds. A process that finds such a file watches it, and takes the claim over if the file stops
changing. So the clocks of machines are never compared.
"""

import contextlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from degrade.errors import ClaimedError, one_sentence
from degrade.files.platform import lock

if TYPE_CHECKING:
    from degrade.files.store import Store

_CLAIM_FILE = re.compile(r"\.(.+)\.(?:lock|beat)")

BEAT_S = 5.0  # time between two changes of a heartbeat file
PATIENCE_S = 30.0  # time without a change after which the owner of a claim counts as dead
POLL_S = 0.1  # time between two attempts to get a lock


def lock_file(claim: str) -> str:
    """Name the file that is locked for a claim."""
    return f".{claim}.lock"


def beat_file(claim: str) -> str:
    """Name the file that the owner of a claim keeps changing."""
    return f".{claim}.beat"


def claim_of(name: str) -> str | None:
    """Return the claim that a file belongs to; None for other files."""
    found = _CLAIM_FILE.fullmatch(name)
    return found[1] if found else None


def locked(path: Path, wait: bool) -> int:
    """Open and lock a file.

    Args:
        path: the file; made if missing.
        wait: wait as long as another process holds the lock, instead of raising an error.

    Returns:
        The descriptor that holds the lock.

    Raises:
        ClaimedError: another process holds the lock.
        OSError: the file cannot be locked; see `platform.lock`.
    """
    while True:
        with one_sentence(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)  # again: it may be gone after a wait
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            lock(descriptor)
            if _same_file(descriptor, path):
                os.ftruncate(descriptor, 0)
                with contextlib.suppress(OSError):  # on a full disk the owner stays unnamed; later writes report it
                    os.write(descriptor, _owner().encode())
                return descriptor
        except BlockingIOError:
            if not wait:
                owner = os.read(descriptor, 1000).decode(errors="replace")
                os.close(descriptor)
                raise _claimed(path.parent, owner) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(POLL_S)


def _same_file(descriptor: int, path: Path) -> bool:
    """Tell whether a path still leads to an open file: the last owner removes the file before it frees the lock."""
    try:
        ours, there = os.fstat(descriptor), path.stat()
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


@contextlib.contextmanager
def beating(store: "Store", name: str, wait: bool) -> Iterator[None]:
    """Hold a claim by a heartbeat file, which changes every `BEAT_S`.

    Args:
        store: where the file is.
        name: name of the file.
        wait: wait as long as another process has the claim, instead of raising an error.

    Raises:
        ClaimedError: another process has the claim.
    """
    token = os.urandom(8).hex()

    def content(beat: int) -> bytes:
        return json.dumps({"token": token, "beat": beat, "owner": _owner()}).encode()

    while True:
        with one_sentence(store.place(name)), contextlib.suppress(FileExistsError):
            store.put_new(name, content(0))
            break
        _outlast(store, name, wait)
    stopped = threading.Event()

    def beat() -> None:
        number = 0
        while not stopped.wait(BEAT_S):
            number += 1
            with contextlib.suppress(OSError):  # the network may be down for a while: the next beat tries again
                if _said(_read(store, name), "token") != token:
                    return  # taken over while this process was suspended; both write the same bytes
                store.write(name, content(number))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        with contextlib.suppress(OSError):
            if _said(_read(store, name), "token") == token:
                store.remove(name)


def _outlast(store: "Store", name: str, wait: bool) -> None:
    """Wait until a claim disappears, and remove it if its heartbeat stops for `PATIENCE_S`.

    Raises:
        ClaimedError: its owner is alive, and ``wait`` is not set.
    """
    first = _read(store, name)
    began = time.monotonic()
    while first is not None:
        time.sleep(min(BEAT_S / 2, PATIENCE_S / 4))
        now = _read(store, name)
        if now is None:
            return
        if now != first:
            if not wait:
                # The file may be read while it is written, where a store has no whole files.
                raise _claimed(store, _said(now, "owner") or _said(first, "owner"))
            first, began = now, time.monotonic()
        elif time.monotonic() - began > PATIENCE_S:
            store.remove(name)
            return


def _read(store: "Store", name: str) -> bytes | None:
    try:
        return store.read(name)
    except FileNotFoundError:
        return None


def _said(content: bytes | None, what: str) -> str:
    """Read the token or the owner in a heartbeat file; "" if it is gone, or cut off by a kill or a full disk."""
    try:
        return str(json.loads(content or b"{}").get(what, ""))
    except (ValueError, AttributeError):
        return ""


def _owner() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _claimed(place: object, owner: str) -> ClaimedError:
    who = f" ({owner})" if owner else ""
    return ClaimedError(f"another run{who} is writing to {place}; wait for it, stop it, or give another --out")
