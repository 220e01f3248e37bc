"""Projections: files that follow the items of a job, and can be made from them at any time.

A projection is told pages, in the order of their commits, and knows its place: up to which page
the file goes, and where that page ends. The place is kept with the job's next transaction; what was
written after it is compared and cut back when the job is resumed. So each page is in the file once,
whenever the process died. Every call may block, and one thread at a time may make one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Protocol

import msgspec
import xxhash

from scrapekit.errors import ItemError, OutputError
from scrapekit.exports.files import check
from scrapekit.items import decode_json

TAIL_BYTES: Final = 4_096
"""Bytes before a place that are recognised when the job is resumed."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """How far a file follows a job."""

    format: str
    page: int = 0
    """The number of the last page that is in it."""
    count: int = 0
    """The items written."""
    position: int = 0
    """Where the next item starts, in bytes; of a database, the rows that were there before."""
    tail: str = ""
    """A hash of the bytes before."""
    base: int = 0
    """Where the job's items begin: after what was there before, with --append."""
    safe: bool = False
    """Whether it is written for spreadsheets."""
    discard: bool = False
    """What else is in the file may be thrown away."""
    stale: bool = False
    """The job has taken back some of these items: the file is to be made anew, if it is as it was
    left."""


class Items(NamedTuple):
    """The items of a page: its number, how many, and JSON Lines."""

    number: int
    amount: int
    lines: str

    def each(self) -> Iterator[Any]:
        """The items, one by one."""
        # No other line break than this one ends a line of JSON.
        for line in self.lines.split("\n"):
            if line:
                yield decode_json(line)


Read = Callable[[int], Iterator[Sequence[Items]]]
"""The pages after a number, some at a time."""


class Projection(Protocol):
    """A file that follows a job."""

    path: str
    place: Place
    durable: bool
    """Whether it has to be on the disk before its place is kept; to be set before it is opened."""
    hurried: bool
    """Whether nobody wants to wait for `finish` any more; for any thread to set."""
    problems: list[ItemError]
    """What couldn't be written of some items; to be emptied by whoever tells."""

    def check(self, place: Place | None) -> None:
        """Raise OutputError if the file can't follow from `place` on, or, without one, if it is
        not the job's. Touches nothing.
        """

    def claim(self, place: Place | None) -> Place:
        """What is to be kept as the place before the file is touched at all."""

    def open(self, read: Read, *, rebuild: bool) -> None:
        """Bring the file to what the job has. `rebuild`: make it anew if it isn't as it was left,
        because the machine went down. Has nothing open if it raises.
        """

    def follow(self, pages: Sequence[Items]) -> None:
        """Write the items of pages."""

    def finish(self, read: Read) -> None:
        """Complete the file. What has a place can still be continued later.

        Raises FileNotFoundError or OutputError if it isn't what was written any more.
        """

    def close(self) -> None:
        """Let go of the file. Idempotent."""


def check_folder(path: str) -> None:
    """Whether the file of a job can be written, be it there or not."""
    check(path, "overwrite", appendable=True)


def size_of(path: str) -> int:
    """The size of a file in bytes; 0 if there is none."""
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return 0


def before(file: BinaryIO, position: int) -> bytes:
    """Some bytes before a position, by which it is recognised."""
    start = max(0, position - TAIL_BYTES)
    file.seek(start)
    return file.read(position - start)


def hash_of(data: bytes) -> str:
    """What stands for such bytes."""
    return xxhash.xxh3_64_hexdigest(data) if data else ""


def spoilt(path: str) -> OutputError:
    """The error for a file that somebody else changed while it was written."""
    return OutputError(
        f"{path} was changed by somebody else while it was written. Move it away, and it is made "
        "anew from the job, which has all items",
        path=path,
    )


def edited(path: str, what: str) -> OutputError:
    """The error for a file that isn't as the job left it."""
    return OutputError(
        f"can't continue {path}: {what}. Move it away, and it is made anew from the job, which has "
        "all items",
        path=path,
    )
