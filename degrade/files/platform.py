"""Call what not every operating system has, and say what happens where it is missing.

Nothing else in these packages calls the operating system in a way that Windows does not know. There, locks give way to
heartbeat files (see `claims`), a stopped run may print the tracebacks of its workers, and temporary files of processes
that were killed stay until somebody removes them.
"""

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def lock(descriptor: int) -> None:
    """Lock an open file until it is closed or this process ends, whichever way.

    Raises:
        BlockingIOError: another process holds the lock.
        OSError: with ``errno.ENOSYS`` where there are no such locks, as on Windows; with others from the file system.
    """
    try:
        import fcntl
    except ImportError as error:
        raise OSError(errno.ENOSYS, "this system has no file locks") from error
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sync_folder(folder: Path) -> None:
    """Make a rename durable; on Windows and some network file systems, which cannot, a power cut may undo it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def process_lives(process: int) -> bool:
    """Tell whether a process of this machine lives; on Windows, where to ask is to stop it, every process does."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Block SIGINT and SIGTERM in this thread, and in the processes that it starts meanwhile, which inherit the block.

    Windows blocks nothing, so a Ctrl-C also reaches the processes that were started.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def wait_for_sigterm() -> bool:
    """Wait in a process that was started under `stop_signals_blocked`; return True when SIGTERM has come.

    Windows has no such signal, and this returns False at once there.
    """
    if not hasattr(signal, "sigwait"):
        return False
    signal.sigwait({signal.SIGTERM})
    return True


@contextlib.contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM raise `KeyboardInterrupt` in the main thread, so that a batch system stops a run in good order."""
    with sigterm_kept():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        yield


@contextlib.contextmanager
def sigterm_kept() -> Iterator[None]:
    """Restore the handler of SIGTERM at the end, if this is the main thread; others cannot set one."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
