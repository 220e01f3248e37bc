"""A file that follows a job in a format that can be added to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from scrapekit.errors import ItemError
from scrapekit.exports.base import Format, take_up
from scrapekit.exports.files import Mode, OutputFile, check, sync_folder
from scrapekit.exports.jsonl import JsonLines
from scrapekit.exports.projection import (
    TAIL_BYTES,
    Items,
    Place,
    Read,
    before,
    check_folder,
    edited,
    hash_of,
    size_of,
    spoilt,
)


class LinesProjection:
    """A file in a format that can be added to. `make(safe)` makes the format; `safe` is whether
    it is to be written for spreadsheets.
    """

    def __init__(
        self, path: str, make: Callable[[bool], Format], mode: Mode, *, safe: bool = False
    ) -> None:
        self.path = path
        self.place = Place(format=make(safe).name, safe=safe)
        self.problems: list[ItemError] = []
        self.hurried = False
        self.durable = False
        self._make = make
        self._safe = safe
        self._format = make(safe)
        self._mode = mode
        self._file: OutputFile | None = None
        self._last = b""

    def check(self, place: Place | None) -> None:
        if place is None:
            check(self.path, self._mode, appendable=self._format.appendable)
            if self._mode == "append":
                take_up(self.path, self._make(self._safe))
            return
        check_folder(self.path)
        if not Path(self.path).exists() and place.base:
            raise edited(self.path, "it is gone, with what it held before the job")

    def claim(self, place: Place | None) -> Place:
        if place is not None:
            self.place = place
            if place.stale and size_of(self.path) == place.position and self._is_as_it_was():
                self.place = msgspec.structs.replace(place, stale=False, discard=True)
            return self.place
        size = size_of(self.path)
        base = size if self._mode == "append" else 0
        if base:
            with Path(self.path).open("rb") as file:
                tail = hash_of(before(file, base))
            self.place = msgspec.structs.replace(self.place, base=base, position=base, tail=tail)
        else:
            self.place = msgspec.structs.replace(self.place, discard=size > 0)
        return self.place

    def open(self, read: Read, *, rebuild: bool) -> None:
        try:
            self._open(read, rebuild=rebuild)
        except BaseException:
            self.close()
            raise

    def _open(self, read: Read, *, rebuild: bool) -> None:
        base = self.place.base
        fresh = not base and (self.place.discard or not Path(self.path).exists())
        # To be added to in any case: what is cut off by others meanwhile leaves no hole then.
        self._file = OutputFile(self.path, "append")
        if fresh:
            self._file.cut(0)
            self._start_over()
        elif base and self.place.discard and size_of(self.path) >= base:
            self._file.cut(base)
            self._start_over(base)
        elif self._is_as_it_was():
            self._format = self._make(self.place.safe)
        elif not rebuild or self.place.base:
            raise edited(self.path, "it was changed since")
        else:
            self._file.cut(0)
            self._start_over()
        self._catch_up(read, rebuild=rebuild)
        if self.place.safe != self._safe:
            # Its rows so far say it in the other way, and the job has them all.
            self._file.cut(base)
            self._start_over(base)
            self._catch_up(read, rebuild=rebuild)
        if self.durable:
            self._file.sync()
            sync_folder(self.path)

    def follow(self, pages: Sequence[Items]) -> None:
        assert self._file is not None
        data = self._encode(pages)
        self._file.write(data)
        if self.durable:
            self._file.sync()
        self._file.look_for(self.path)
        self._move(pages, data)

    def finish(self, read: Read) -> None:
        assert self._file is not None
        self._file.look_for(self.path)
        if size_of(self.path) != self.place.position or not self._is_as_it_was():
            raise spoilt(self.path)

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with file:
                pass
            file.release()

    def _start_over(self, base: int = 0) -> None:
        self._format = self._make(self._safe)
        self._last = b""
        if base:
            with Path(self.path).open("rb") as file:
                self._last = before(file, base)
        kind, tail = self.place.format, hash_of(self._last)
        self.place = Place(format=kind, base=base, position=base, tail=tail, safe=self._safe)

    def _is_as_it_was(self) -> bool:
        place = self.place
        if size_of(self.path) < place.position:
            return False
        with Path(self.path).open("rb") as file:
            self._last = before(file, place.position)
        return hash_of(self._last) == place.tail

    def _resume_format(self) -> None:
        with Path(self.path).open("rb") as file:
            try:
                self._format.resume(file)
            except ValueError as error:
                raise edited(self.path, str(error)) from error

    def _catch_up(self, read: Read, *, rebuild: bool) -> None:
        """Compare what was written after the place, and write what is missing."""
        assert self._file is not None
        if self.place.position:
            self._resume_format()
        with Path(self.path).open("rb") as file:
            file.seek(self.place.position)
            for pages in read(self.place.page):
                data = self._encode(pages)
                there = file.read(len(data))
                if not data.startswith(there) and not rebuild:
                    raise edited(self.path, "its end was changed since")
                if there != data:
                    self._file.cut(self.place.position)
                    self._file.write(data)
                self._move(pages, data)
                file.seek(self.place.position)
            if file.read(1):
                if not rebuild:
                    raise edited(self.path, "something was added to it since")
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
        self._last = (self._last + data)[-TAIL_BYTES:]
        return hash_of(self._last)
