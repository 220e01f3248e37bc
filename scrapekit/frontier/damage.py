"""Damage: what is read from a job's folder and isn't what was written there, told in one line."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from scrapekit.errors import JobError, UsageError

_UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    msgspec.MsgspecError,
    zlib.error,
    UsageError,
)


@contextmanager
def sound(folder: Path | str, what: str) -> Iterator[None]:
    """Around the reading of records and notes: raise JobError for those that can't be read.

    They are left as they are: whoever knows what was there may mend them.
    """
    try:
        yield
    except JobError:
        raise
    except _UNREADABLE as error:
        raise damaged(folder, what, error) from error


def damaged(folder: Path | str, what: str, error: Exception) -> JobError:
    """The error for something in a job that can't be read."""
    told = " ".join(str(error).split())[:100] or type(error).__name__
    printable = "".join(char if char.isprintable() else "\ufffd" for char in told)
    return JobError(
        f"can't use the job {folder}: {what} is damaged ({printable}); `scrapekit export {folder}` "
        "saves its items, --fresh starts it anew; nothing was changed",
        path=str(folder),
    )
