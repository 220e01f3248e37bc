"""A SQLite database that follows a job."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from scrapekit.errors import ItemError
from scrapekit.exports.files import Mode, check
from scrapekit.exports.projection import Items, Place, Read, check_folder, edited, size_of, spoilt
from scrapekit.exports.sqlite import SqliteFile, remove, whose


class SqliteProjection:
    """A SQLite database. Its place is in itself, in the same transaction as the items."""

    def __init__(self, path: str, mode: Mode, mark: int) -> None:
        self.path = path
        self.place = Place(format="sqlite")
        self.problems: list[ItemError] = []
        self.hurried = False
        self._mode = mode
        self._mark = mark
        self._file: SqliteFile | None = None

    def check(self, place: Place | None) -> None:
        if place is None:
            check(self.path, self._mode, appendable=True)
        else:
            check_folder(self.path)

    def claim(self, place: Place | None) -> Place:
        if place is not None:
            self.place = place
        else:
            append = self._mode == "append" and size_of(self.path) > 0
            discard = not append and size_of(self.path) > 0
            self.place = msgspec.structs.replace(self.place, base=int(append), discard=discard)
        return self.place

    def open(self, read: Read, *, rebuild: bool) -> None:
        try:
            self._open(read, rebuild=rebuild)
        except BaseException:
            self.close()
            raise

    def _open(self, read: Read, *, rebuild: bool) -> None:
        known = whose(self.path) if size_of(self.path) else None
        if self.place.discard and self.place.base:
            raise edited(self.path, "it holds items from before the job")
        if self.place.discard or (rebuild and not self.place.base):
            remove(self.path)
        elif known is not None and known[0] != self._mark and not self._may_mark(known[0]):
            raise edited(self.path, "it is another database")
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
        if (self._file.page, self._file.count) != (self.place.page, self.place.count):
            raise spoilt(self.path)

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _may_mark(self, mark: int) -> bool:
        # One that was claimed, but not marked before the process died.
        return (mark == 0 or self.place.base > 0) and self.place.page == 0
