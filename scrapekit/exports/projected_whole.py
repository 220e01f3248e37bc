"""A file that is made of a job as a whole, in a format that can't be added to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from scrapekit.errors import ItemError
from scrapekit.exports.base import Format
from scrapekit.exports.files import Mode, check, sync_folder
from scrapekit.exports.projection import (
    Items,
    Place,
    Read,
    before,
    check_folder,
    edited,
    hash_of,
    size_of,
)


class WholeProjection:
    """A file in a format that can't be added to: written at the end, from the job, in one go."""

    def __init__(self, path: str, make: Callable[[], Format], mode: Mode) -> None:
        self.path = path
        self.place = Place(format=make().name)
        self.problems: list[ItemError] = []
        self.hurried = False
        self.durable = False
        self._make = make
        self._mode = mode

    def check(self, place: Place | None) -> None:
        if place is None:
            check(self.path, self._mode, appendable=False)
        else:
            check_folder(self.path)

    def claim(self, place: Place | None) -> Place:
        fresh = msgspec.structs.replace(self.place, discard=size_of(self.path) > 0)
        self.place = fresh if place is None else place
        return self.place

    def open(self, read: Read, *, rebuild: bool) -> None:
        if not (
            self.place.discard or rebuild or self._is_as_it_was() or self._is_as_it_will_be(read)
        ):
            raise edited(self.path, "it was changed since")

    def follow(self, pages: Sequence[Items]) -> None:
        count = self.place.count + sum(page.amount for page in pages)
        self.place = msgspec.structs.replace(self.place, count=count)

    def finish(self, read: Read) -> None:
        # Where a link leads, so that it stays one.
        target = Path(os.path.realpath(self.path))
        scratch = target.with_name(f".{target.name}.unfinished")
        try:
            with scratch.open("wb") as file:
                count = sum(self._written(read, file.write))
                if self.durable and not self.hurried:
                    file.flush()
                    os.fsync(file.fileno())
            if self.hurried:
                return
            scratch.replace(target)
            if self.durable:
                sync_folder(target)
        finally:
            scratch.unlink(missing_ok=True)
        position = size_of(self.path)
        with target.open("rb") as file:
            tail = hash_of(before(file, position))
        kind = self.place.format
        self.place = Place(format=kind, count=count, position=position, tail=tail)

    def close(self) -> None:
        """Nothing is open."""

    def _written(self, read: Read, write: Callable[[bytes], Any]) -> Iterator[int]:
        """Hand the whole file to `write`; gives how many items some pages had."""
        layout, number = self._make(), 0
        for pages in read(0):
            if self.hurried:
                return
            before = number
            for item in (item for page in pages for item in page.each()):
                number += 1
                write(layout.encode(item, number, lambda _: None))
            yield number - before
        write(layout.tail())

    def _is_as_it_was(self) -> bool:
        size = size_of(self.path)
        if not size or size != self.place.position:
            return not size
        with Path(self.path).open("rb") as file:
            return hash_of(before(file, size)) == self.place.tail

    def _is_as_it_will_be(self, read: Read) -> bool:
        """Whether it was written by a run that died before it could note so."""
        hashes = xxhash.xxh3_64(), xxhash.xxh3_64()
        sum(self._written(read, hashes[0].update))
        with Path(self.path).open("rb") as file:
            while data := file.read(1 << 20):
                hashes[1].update(data)
        return hashes[0].digest() == hashes[1].digest()
