"""What an export is, and the one behind all formats that are lines or rows of text.

`Export` is what the crawl sees. `FileExport` writes a file by way of a `Format`, which is plain
code: an item in, bytes out. A new format of that kind is a new `Format`; one that needs its file
to itself (Parquet) is a new `Export`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, ClassVar, Protocol, Self

from scrapekit.errors import ItemError, OutputError
from scrapekit.exports.files import STDOUT, Mode, OutputFile, check
from scrapekit.exports.sink import Sink, Target
from scrapekit.items import type_name

Warn = Callable[[str], None]


class Export(Protocol):
    """Writes committed items to one file."""

    path: str
    """Where to, as messages call it."""

    @property
    def count(self) -> int:
        """The items accepted so far; they are in the file when `aclose` has returned normally."""

    async def check(self) -> None:
        """Raise OutputError if `open` is bound to; touches nothing.

        Check all exports before the first is opened: opening cuts off what it overwrites.
        """

    async def open(self) -> None:
        """Check again, create or cut off the file, and be ready. Raises OutputError."""

    def write_nowait(self, items: Sequence[object]) -> list[ItemError]:
        """Accept `items`; returns what went wrong. Doesn't wait: if it is `full`, call `room`.

        An item that can't be written costs itself alone. Writes keep the order of the calls.
        Raises OutputError if the file could not be written since the last call.
        """

    @property
    def full(self) -> bool:
        """Whether so much is unwritten that `room` would wait."""

    async def room(self) -> None:
        """Wait while too much is unwritten. Raises OutputError if it can't be written."""

    async def aclose(self) -> list[ItemError]:
        """Complete the file and hand it to the operating system. Idempotent.

        Returns what went wrong with items and no `write` has said.
        Raises OutputError if something could not be written and no `write` has said so.
        """


class Format(Protocol):
    """Turns the items of one file into bytes. Keeps what it must know of the rows before."""

    name: ClassVar[str]
    appendable: ClassVar[bool]

    def resume(self, file: BinaryIO, /) -> None:
        """Take up a file of this format that ends in a complete line. May block.

        Raises ValueError saying why it can't be continued.
        """

    def encode(self, item: object, number: int, warn: Warn, /) -> bytes:
        """The bytes of `item`, the `number`-th (from 1) that is written here, and of what has to
        come before the first one.

        `warn` is told what was left out of an item that is written all the same. Raises
        TypeError saying why the item can't be written.
        """

    def tail(self) -> bytes:
        """What a complete file ends with, also one without items."""


class FileExport:
    """An `Export` to the file `path`, or to standard output for "-".

    mode: "new" refuses a file that holds data, "overwrite" cuts it off when opened, "append"
    continues it. Standard output is written as it is in every mode.
    """

    def __init__(self, path: str, layout: Format, *, mode: Mode = "new") -> None:
        self.path = path
        self.count = 0
        self._name = "standard output" if path == STDOUT else path
        self._format = layout
        self._mode = mode
        self._sink: Sink | None = None
        self._closed = False
        self._told = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._sink else "not opened"
        return f"<{self._format.name} export to {self.path}, {state}, {self.count} items>"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    @property
    def layout(self) -> Format:
        """The format, which may still be adjusted before the first item is written."""
        return self._format

    @property
    def position(self) -> int:
        """The byte at which the next item will start; 0-based, within the file if it has a size."""
        return self._sink.position if self._sink else 0

    async def check(self) -> None:
        with ThreadPoolExecutor(1, "scrapekit export") as thread:
            await asyncio.get_running_loop().run_in_executor(thread, self._check)

    async def open(self) -> None:
        if self._sink or self._closed:
            raise OutputError(f"can't open {self._name}: it was opened before", path=self.path)
        sink = Sink(self._open)
        try:
            await sink.start()
        except OSError as error:
            raise self._failed(error) from error
        self._sink = sink

    async def write(self, items: Sequence[object]) -> list[ItemError]:
        """Accept `items` and wait for room: `write_nowait` and `room` in one."""
        errors = self.write_nowait(items)
        await self.room()
        return errors

    def write_nowait(self, items: Sequence[object]) -> list[ItemError]:
        sink = self._ready()
        errors: list[ItemError] = []
        sink.push(b"".join([self._encode(item, errors) for item in items]))
        return errors

    @property
    def full(self) -> bool:
        return self._sink is not None and self._sink.full

    async def room(self) -> None:
        sink = self._ready()
        await sink.room()
        self._raise_failure(sink)

    async def aclose(self) -> list[ItemError]:
        closed, self._closed = self._closed, True
        if self._sink is None:
            return []
        if not closed:
            self._sink.push(self._format.tail())
        await self._sink.aclose()
        if not self._told:
            self._raise_failure(self._sink)
        return []

    def __del__(self) -> None:
        if self._sink and not self._closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self._sink.push(self._format.tail())
            self._sink.finish()

    def _check(self) -> None:
        check(self.path, self._mode, appendable=self._format.appendable)

    def _open(self) -> Target:
        self._check()
        if self._mode == "append" and self.path != STDOUT:
            take_up(self.path, self._format)
        return OutputFile(self.path, self._mode)

    def _encode(self, item: object, errors: list[ItemError]) -> bytes:
        def warn(why: str) -> None:
            message = f"{self._name}: {why}"
            errors.append(ItemError(message, output=self.path, item_type=type_name(item)))

        try:
            data = self._format.encode(item, self.count + 1, warn)
        except TypeError as error:
            warn(f"an item of type {type_name(item)} can't be written: {error}")
            return b""
        self.count += 1
        return data

    def _ready(self) -> Sink:
        if self._sink is None or self._closed:
            state = "closed" if self._closed else "not opened yet"
            raise OutputError(f"can't write {self._name}: it is {state}", path=self.path)
        self._raise_failure(self._sink)
        return self._sink

    def _raise_failure(self, sink: Sink) -> None:
        if sink.failure:
            self._told = True
            raise self._failed(sink.failure) from sink.failure

    def _failed(self, error: Exception) -> OutputError:
        number = error.errno if isinstance(error, OSError) else None
        why = error.strerror if isinstance(error, OSError) else None
        what = _ADVICE.get(number, why or str(error))
        message = f"can't write {self._name}: {what}"
        return OutputError(message, path=self.path, broken_pipe=number == errno.EPIPE)


_ADVICE: dict[int | None, str] = {
    errno.EPIPE: "its reader has gone",
    errno.ENXIO: "it is a pipe that nobody reads; start its reader first",
    errno.ENOSPC: "the disk is full; make room and crawl again",
}


def take_up(path: str, layout: Format) -> None:
    """Have a format take up the file that it is to be added to, if it holds anything. Blocks.

    Raises OutputError saying why nothing can be added to it.
    """
    there = Path(path)
    if not there.is_file() or there.stat().st_size == 0:
        return
    with there.open("rb") as file:
        try:
            _check_last_line(file)
            file.seek(0)
            layout.resume(file)
        except ValueError as error:
            raise OutputError(f"can't append to {path}: {error}", path=path) from error


def _check_last_line(file: BinaryIO) -> None:
    file.seek(-1, os.SEEK_END)
    if file.read(1) != b"\n":
        raise ValueError("its last line is not finished; complete or delete that line first")
