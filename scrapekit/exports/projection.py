"""Projections: files that follow the items of a job, and can be made from them at any time.

A projection is told pages, in the order of their commits, and knows its place: up to which page
the file goes, and where that page ends. The place is kept with the job's next transaction; what was
written after it is compared and cut back when the job is resumed. So each page is in the file once,
whenever the process died. Every call may block, and one thread at a time may make one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Protocol

import msgspec
import xxhash

from scrapekit.errors import ItemError, OutputError
from scrapekit.exports.base import Format
from scrapekit.exports.files import Mode, OutputFile, check
from scrapekit.exports.jsonl import JsonLines
from scrapekit.exports.sqlite import SqliteFile, remove, whose
from scrapekit.items import decode_json

_TAIL: Final = 4_096
"""Bytes before a place that are recognised when the job is resumed."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """How far a file follows a job."""

    format: str
    page: int = 0
    """The number of the last page that is in it."""
    count: int = 0
    """The items written."""
    position: int = 0
    """Where the next item starts, in bytes."""
    tail: str = ""
    """A hash of the bytes before."""
    base: int = 0
    """Where the job's items begin: after what was there before, with --append."""
    discard: bool = False
    """What else is in the file may be thrown away."""


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
        because the machine went down.
        """

    def follow(self, pages: Sequence[Items]) -> None:
        """Write the items of pages."""

    def finish(self, read: Read) -> None:
        """Complete the file. What has a place can still be continued later."""

    def close(self) -> None:
        """Let go of the file. Idempotent."""


class LinesProjection:
    """A file in a format that can be added to."""

    def __init__(self, path: str, make: Callable[[], Format], mode: Mode) -> None:
        self.path = path
        self.place = Place(format=make().name)
        self.problems: list[ItemError] = []
        self._make = make
        self._format = make()
        self._mode = mode
        self._file: OutputFile | None = None
        self._last = b""

    def check(self, place: Place | None) -> None:
        if place is None:
            check(self.path, self._mode, appendable=self._format.appendable)
            return
        _check_folder(self.path)
        if not Path(self.path).exists() and place.base:
            raise _edited(self.path, "it is gone, with what it held before the job")

    def claim(self, place: Place | None) -> Place:
        if place is not None:
            self.place = place
            return place
        size = _size(self.path)
        base = size if self._mode == "append" else 0
        if base:
            with Path(self.path).open("rb") as file:
                tail = _hash(_before(file, base))
            self.place = msgspec.structs.replace(self.place, base=base, position=base, tail=tail)
        else:
            self.place = msgspec.structs.replace(self.place, discard=size > 0)
        return self.place

    def open(self, read: Read, *, rebuild: bool) -> None:
        base = self.place.base
        fresh = not base and (self.place.discard or not Path(self.path).exists())
        self._file = OutputFile(self.path, "overwrite" if fresh else "append")
        if fresh:
            self._start_over()
        elif base and self.place.discard and _size(self.path) >= base:
            self._file.cut(base)
            self._start_over(base)
        elif not self._is_as_it_was():
            if not rebuild or self.place.base:
                raise _edited(self.path, "it was changed since")
            self._file.cut(0)
            self._start_over()
        if self.place.position:
            self._resume_format()
        self._catch_up(read, rebuild=rebuild)

    def follow(self, pages: Sequence[Items]) -> None:
        assert self._file is not None
        data = self._encode(pages)
        self._file.write(data)
        self._file.look_for(self.path)
        self._move(pages, data)

    def finish(self, read: Read) -> None:
        """It is complete at any time."""

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with file:
                pass
            file.release()

    def _start_over(self, base: int = 0) -> None:
        self._format = self._make()
        self._last = b""
        if base:
            with Path(self.path).open("rb") as file:
                self._last = _before(file, base)
        kind, tail = self.place.format, _hash(self._last)
        self.place = Place(format=kind, base=base, position=base, tail=tail)

    def _is_as_it_was(self) -> bool:
        place = self.place
        if _size(self.path) < place.position:
            return False
        with Path(self.path).open("rb") as file:
            self._last = _before(file, place.position)
        return _hash(self._last) == place.tail

    def _resume_format(self) -> None:
        with Path(self.path).open("rb") as file:
            try:
                self._format.resume(file)
            except ValueError as error:
                raise _edited(self.path, str(error)) from error

    def _catch_up(self, read: Read, *, rebuild: bool) -> None:
        """Compare what was written after the place, and write what is missing."""
        assert self._file is not None
        with Path(self.path).open("rb") as file:
            file.seek(self.place.position)
            for pages in read(self.place.page):
                data = self._encode(pages)
                there = file.read(len(data))
                if not data.startswith(there) and not rebuild:
                    raise _edited(self.path, "its end was changed since")
                if there != data:
                    self._file.cut(self.place.position)
                    self._file.write(data)
                self._move(pages, data)
                file.seek(self.place.position)
            if file.read(1):
                if not rebuild:
                    raise _edited(self.path, "something was added to it since")
                self._file.cut(self.place.position)

    def _encode(self, pages: Sequence[Items]) -> bytes:
        if isinstance(self._format, JsonLines):
            return "".join([page.lines for page in pages]).encode()
        parts = []
        number = self.place.count
        for page in pages:
            for item in page.each():
                number += 1
                parts.append(self._encode_item(item, number))
        return b"".join(parts)

    def _encode_item(self, item: object, number: int) -> bytes:
        def warn(why: str) -> None:
            message = f"{self.path}: {why}"
            self.problems.append(ItemError(message, output=self.path, item_type="dict"))

        try:
            return self._format.encode(item, number, warn)
        except TypeError as error:
            warn(f"item {number} can't be written: {error}")
            return b""

    def _move(self, pages: Sequence[Items], data: bytes) -> None:
        place = self.place
        position = place.position + len(data)
        self.place = msgspec.structs.replace(
            place,
            page=pages[-1].number,
            count=place.count + sum(page.amount for page in pages),
            position=position,
            tail=self._hash_with(data),
            discard=False,
        )

    def _hash_with(self, data: bytes) -> str:
        self._last = (self._last + data)[-_TAIL:]
        return _hash(self._last)


class SqliteProjection:
    """A SQLite database. Its place is in itself, in the same transaction as the items."""

    def __init__(self, path: str, mode: Mode, mark: int) -> None:
        self.path = path
        self.place = Place(format="sqlite")
        self.problems: list[ItemError] = []
        self._mode = mode
        self._mark = mark
        self._file: SqliteFile | None = None

    def check(self, place: Place | None) -> None:
        if place is None:
            check(self.path, self._mode, appendable=True)
        else:
            _check_folder(self.path)

    def claim(self, place: Place | None) -> Place:
        if place is not None:
            self.place = place
        else:
            append = self._mode == "append" and _size(self.path) > 0
            discard = not append and _size(self.path) > 0
            self.place = msgspec.structs.replace(self.place, base=int(append), discard=discard)
        return self.place

    def open(self, read: Read, *, rebuild: bool) -> None:
        known = whose(self.path) if _size(self.path) else None
        if self.place.discard and self.place.base:
            raise _edited(self.path, "it holds items from before the job")
        if self.place.discard or (rebuild and not self.place.base):
            remove(self.path)
        elif known is not None and known[0] != self._mark and not self._may_mark(known[0]):
            raise _edited(self.path, "it is another database")
        self._file = SqliteFile(self.path, "append")
        self._file.adopt(self._mark)
        page = self._file.page
        self.place = msgspec.structs.replace(self.place, page=page, discard=False)
        for pages in read(page):
            self.follow(pages)
        self.place = msgspec.structs.replace(self.place, count=self._file.count)

    def follow(self, pages: Sequence[Items]) -> None:
        assert self._file is not None
        data = "".join([page.lines for page in pages]).encode()
        self._file.write(data, pages[-1].number)
        _look_for(self.path)
        self.place = msgspec.structs.replace(
            self.place,
            page=pages[-1].number,
            count=self.place.count + sum(page.amount for page in pages),
        )

    def finish(self, read: Read) -> None:
        """It is complete at any time."""

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _may_mark(self, mark: int) -> bool:
        # One that was claimed, but not marked before the process died.
        return (mark == 0 or self.place.base > 0) and self.place.page == 0


class WholeProjection:
    """A file in a format that can't be added to: written at the end, from the job, in one go."""

    def __init__(self, path: str, make: Callable[[], Format], mode: Mode) -> None:
        self.path = path
        self.place = Place(format=make().name)
        self.problems: list[ItemError] = []
        self._make = make
        self._mode = mode

    def check(self, place: Place | None) -> None:
        if place is None:
            check(self.path, self._mode, appendable=False)
            return
        _check_folder(self.path)
        if not place.discard and _size(self.path) and not self._is_as_it_was(place):
            raise _edited(self.path, "it was changed since")

    def claim(self, place: Place | None) -> Place:
        # From now on it may be written at any time, without a note being kept right after.
        self.place = msgspec.structs.replace(place or self.place, discard=True)
        return self.place

    def open(self, read: Read, *, rebuild: bool) -> None:
        """It is written at the end."""

    def follow(self, pages: Sequence[Items]) -> None:
        self.place = msgspec.structs.replace(
            self.place, count=self.place.count + sum(page.amount for page in pages)
        )

    def finish(self, read: Read) -> None:
        target = Path(self.path)
        scratch = target.with_name(f".{target.name}.unfinished")
        try:
            with scratch.open("wb") as file:
                number, page = self._write(file, read)
            scratch.replace(target)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
        position = _size(self.path)
        with target.open("rb") as file:
            tail = _hash(_before(file, position))
        self.place = Place(
            format=self.place.format, page=page, count=number, position=position, tail=tail
        )

    def close(self) -> None:
        """Nothing is open."""

    def _write(self, file: BinaryIO, read: Read) -> tuple[int, int]:
        layout, number, page = self._make(), 0, 0
        for pages in read(0):
            for its in pages:
                page = its.number
                for item in its.each():
                    number += 1
                    file.write(layout.encode(item, number, lambda _: None))
        file.write(layout.tail())
        return number, page

    def _is_as_it_was(self, place: Place) -> bool:
        if _size(self.path) != place.position:
            return False
        with Path(self.path).open("rb") as file:
            return _hash(_before(file, place.position)) == place.tail


def _check_folder(path: str) -> None:
    """Whether the file of a job can be written, be it there or not."""
    check(path, "overwrite", appendable=True)


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return 0


def _look_for(path: str) -> None:
    if not Path(path).exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _before(file: BinaryIO, position: int) -> bytes:
    start = max(0, position - _TAIL)
    file.seek(start)
    return file.read(position - start)


def _hash(data: bytes) -> str:
    return xxhash.xxh3_64_hexdigest(data) if data else ""


def _edited(path: str, what: str) -> OutputError:
    return OutputError(
        f"can't continue {path}: {what}. Move it away, and it is made anew from the job, which has "
        "all items",
        path=path,
    )
