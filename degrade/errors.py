"""Define the errors that files cause, and make names, values and system errors safe to print in one sentence."""

import contextlib
import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path

_END = 120  # characters kept at the beginning and at the end of a long text


def shown(value: object) -> str:
    """Make a name or value safe to print in a message: escape control characters, and shorten long text."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except ValueError:  # Python does not print numbers of more than 4300 digits
        return f"a {type(value).__name__} of thousands of digits"
    if len(text) > 2 * _END:
        text = f"{text[:_END]}...{text[-_END:]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class ShardError(OSError):
    """Report that a file could not be written or read; files that were finished before stay valid."""


class ClaimedError(ShardError):
    """Report that another process has the claim; the message says which one."""


def is_address(place: "str | Path") -> bool:
    """Tell whether a place is an address with a scheme rather than a folder on this machine."""
    return "://" in str(place)


@contextlib.contextmanager
def one_sentence(place: str) -> Iterator[None]:
    """Turn a system error in the ``with`` block into a `ShardError` that names the place and says what to do."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ShardError):
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full and is_address(place):
            place = f"{tempfile.gettempdir()} (TMPDIR), which holds {place} until it is uploaded"
        trouble = f"disk full at {place}" if full else f"cannot write {place} ({error.strerror or error})"
        remedy = "free space" if full else "fix this"
        raise ShardError(f"{trouble}: {remedy} and run the same command again") from error


class ImageError(ValueError):
    """Report that a file cannot be used as an image; the message is one sentence, fit for a list of failures."""


class PassedOverError(ImageError):
    """Report that a file is left out on purpose, such as a thumbnail of the system: it is named, and is no failure."""


def failure_reason(error: Exception) -> str:
    """Describe an error in one sentence without a path, because a record must not depend on where the source lies."""
    return f"cannot be read ({error.strerror})" if isinstance(error, OSError) and error.strerror else str(error)
