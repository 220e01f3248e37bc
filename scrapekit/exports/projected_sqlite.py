"""A SQLite database that follows a job."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import msgspec

from scrapekit.errors import ItemError
from scrapekit.exports.files import Mode, check
from scrapekit.exports.projection import Items, Place, Read, check_folder, edited, size_of, spoilt
from scrapekit.exports.sqlite import SqliteFile, refuse_foreign, remove, rows_of, whose


class SqliteProjection:
    """A SQLite database. Its place is in itself, in the same transaction as the items."""

    def __init__(self, path: str, mode: Mode, mark: int) -> None:
        self.path = path
        self.place = Place(format="sqlite")
        self.problems: list[ItemError] = []
        self.hurried = False
        self.durable = False
        self._mode = mode
        self._mark = mark
        self._file: SqliteFile | None = None

    def check(self, place: Place | None) -> None:
        if place is None:
            check(self.path, self._mode, appendable=True)
            refuse_foreign(self.path, self._mode)
            return
        check_folder(self.path)

    def claim(self, place: Place | None) -> Place:
        if place is not None:
            self.place = place
            if place.stale and not place.base and self._is_as_it_was():
                self.place = msgspec.structs.replace(place, stale=False, discard=True)
        else:
            append = self._mode == "append" and size_of(self.path) > 0
            discard = not append and size_of(self.path) > 0
            rows = rows_of(self.path) if append else 0
            self.place = msgspec.structs.replace(
                self.place, base=int(append), position=rows, discard=discard
            )
        return self.place

    def _is_as_it_was(self) -> bool:
        there = whose(self.path) if size_of(self.path) else None
        return there == (self._mark, self.place.page) and rows_of(self.path) == self.place.count

    def open(self, read: Read, *, rebuild: bool) -> None:
        try:
            self._open(read, rebuild=rebuild)
        except BaseException:
            self.close()
            raise

    def _open(self, read: Read, *, rebuild: bool) -> None:
        is_there = size_of(self.path) > 0
        known = whose(self.path) if is_there else None
        if not is_there:
            # What it held before the job was moved away with it.
            self.place = msgspec.structs.replace(self.place, base=0, position=0)
        if self.place.discard and self.place.base:
            raise edited(self.path, "it holds items from before the job")
        if self.place.discard or (rebuild and not self.place.base):
            remove(self.path)
        elif known is not None and known[0] != self._mark and not self._may_mark(known[0]):
            raise edited(self.path, "it is another database")
        self._file = SqliteFile(self.path, "append", durable=self.durable)
        self._file.adopt(self._mark)
        page = self._file.page
        count = self._count_to(page, read)
        if self._file.count != self.place.position + count:
            raise edited(self.path, "rows were added or deleted since")
        self.place = msgspec.structs.replace(self.place, page=page, count=count, discard=False)
        for pages in read(page):
            self.follow(pages)

    def follow(self, pages: Sequence[Items]) -> None:
        assert self._file is not None
        data = "".join([page.lines for page in pages]).encode()
        try:
            self._file.write(data, pages[-1].number)
        finally:
            # Of a file that is gone SQLite says that it is read-only, or nothing at all.
            self._file.look_for(self.path)
        self.place = msgspec.structs.replace(
            self.place,
            page=pages[-1].number,
            count=self.place.count + sum(page.amount for page in pages),
        )

    def finish(self, read: Read) -> None:
        assert self._file is not None
        self._file.look_for(self.path)
        place = self.place
        there = self._file.page, self._file.count
        if there != (place.page, place.position + place.count):
            raise spoilt(self.path)

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _count_to(self, page: int, read: Read) -> int:
        """How many items the job has up to a page, which may lie behind the place that was kept."""
        last, count = (self.place.page, self.place.count) if self.place.page <= page else (0, 0)
        if last < page:
            for each in chain.from_iterable(read(last)):
                if each.number > page:
                    break
                last, count = each.number, count + each.amount
        if last < page:
            raise edited(self.path, "it has items of pages that the job doesn't have")
        return count

    def _may_mark(self, mark: int) -> bool:
        # One that was claimed, but not marked before the process died.
        return (mark == 0 or self.place.base > 0) and self.place.page == 0
