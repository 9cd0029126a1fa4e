"""The errors that files cause, and the sentences about them: one line, whatever a name or a value holds."""

import contextlib
import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path

_END = 120  # characters kept of the beginning and of the end


def shown(value: object) -> str:
    """A name or value for a sentence: what would break the line or the terminal is escaped, a long one shortened."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return f"a {type(value).__name__} of thousands of digits"
    if len(text) > 2 * _END:
        text = f"{text[:_END]}...{text[-_END:]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class ShardError(OSError):
    """A shard could not be written or read; what was finished before stays good."""


class ClaimedError(ShardError):
    """Another process has the claim; the message says which."""


def is_address(place: "str | Path") -> bool:
    """Whether a place is an address with a scheme, in no folder of this machine."""
    return "://" in str(place)


@contextlib.contextmanager
def one_sentence(place: str) -> Iterator[None]:
    """Turn a system error about a place that is written to into a `ShardError` that says what to do."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ShardError):
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full and is_address(place):
            place = f"{tempfile.gettempdir()} (TMPDIR), where {place} grows"
        trouble = f"disk full at {place}" if full else f"cannot write {place} ({error.strerror or error})"
        remedy = "free space" if full else "repair that"
        raise ShardError(f"{trouble}: {remedy} and run the same command again") from error


class ImageError(ValueError):
    """One file cannot be used as an image; the message is one sentence, fit for a failure list."""


def failure_reason(error: Exception) -> str:
    """One sentence without the path: what is recorded must not depend on where the source lies."""
    return f"cannot be read ({error.strerror})" if isinstance(error, OSError) and error.strerror else str(error)
