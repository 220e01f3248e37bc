"""Earlier: a job that is done, as those read it who compare something with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from scrapekit.frontier import pages
from scrapekit.frontier.damage import sound
from scrapekit.frontier.folder import DATABASE
from scrapekit.frontier.pages import PAGE, Page
from scrapekit.frontier.records import signed
from scrapekit.frontier.sqlite import JOB
from scrapekit.frontier.store import broken
from scrapekit.items import decode_json
from scrapekit.jobs.changes import MARK, Item, unmarked


class Earlier:
    """The database of the job in the folder `path`, to be read once it is open.

    One thread may open it and another one ask. Every call blocks, those for one page for a row.
    Raises JobError if it can't be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database: sqlite3.Connection | None = None

    def __repr__(self) -> str:
        return f"<Earlier {self.path}>"

    def open(self) -> None:
        """Open it; that there is one was seen before."""
        try:
            file = self.path / DATABASE
            self._database = sqlite3.connect(file, timeout=10, check_same_thread=False)
            self._database.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            raise broken(self.path / DATABASE, error) from error

    def close(self) -> None:
        """Let go of the files. Idempotent."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def note(self, kind: str, name: str) -> str | None:
        """A note of the job."""
        found = self._ask("SELECT value FROM notes WHERE kind = ? AND name = ?", kind, name)
        return None if found is None else str(found)

    def notes(self, kind: str) -> Iterator[tuple[str, str]]:
        """All notes of a kind, by name."""
        return self._rows("SELECT name, value FROM notes WHERE kind = ?", kind)

    @property
    def code(self) -> str:
        """What made all of its pages; "" if that was not the same all the time."""
        return self.note(JOB, "code") or ""

    def page(self, identity: str) -> Page | None:
        """What is known of a page, by what was asked for."""
        note = self.note(PAGE, identity)
        with sound(self.path, "what it knows of a page"):
            return pages.decode(note) if note else None

    def has_seen(self, fingerprint: int) -> bool:
        """Whether a request was ever filed."""
        sql = "SELECT 1 FROM seen WHERE fingerprint = ?"
        return self._ask(sql, signed(fingerprint)) is not None

    def items(self, number: int) -> list[Item]:
        """The items of a page, by its number."""
        lines = self._ask("SELECT lines FROM items WHERE page = ?", number) if number else None
        with sound(self.path, "an item"):
            return decoded(lines) if lines else []

    def all_items(self) -> Iterator[tuple[int, list[Item]]]:
        """The number and the items of each page, in the order of their commits."""
        for number, lines in self._rows("SELECT page, lines FROM items ORDER BY page"):
            with sound(self.path, "an item"):
                items = decoded(lines)
            yield number, items

    def urls(self, numbers: Collection[int]) -> dict[int, str]:
        """Where pages are, by their numbers. Reads what is known of all pages."""
        return {number: url for _, number, url in self.page_numbers() if number in numbers}

    def page_numbers(self) -> Iterator[tuple[str, int, str]]:
        """The identity, the number and the URL of each page that gave items."""
        sql = "SELECT name, value->>'p', value->>'u' FROM notes WHERE kind = ? AND value->>'p' > 0"
        return self._rows(sql, PAGE)

    def recognised(self) -> list[int]:
        """The items of the job before, by their numbers, that were met again in this one."""
        sql = "SELECT e.value FROM notes, json_each(notes.value, '$.t') e WHERE kind = ?"
        return [number for (number,) in self._rows(sql, PAGE)]

    def failures(self) -> Iterator[tuple[str, str]]:
        """Why each request was given up, and its record."""
        return self._rows("SELECT reason, request FROM failures")

    def _ask(self, sql: str, *values: object) -> Any:
        row = next(iter(self._rows(sql, *values)), None)
        return row[0] if row else None

    def _rows(self, sql: str, *values: object) -> Iterator[Any]:
        assert self._database is not None, "the earlier job is not open"
        try:
            with closing(self._database.execute(sql, values)) as rows:
                yield from rows
        except sqlite3.Error as error:
            raise broken(self.path / DATABASE, error) from error


def decoded(lines: str) -> list[Item]:
    """The items in the lines of a page, without marks; not those that were gone then."""
    # No other line break than this one ends a line of JSON.
    values = [decode_json(line) for line in lines.split("\n") if line]
    items = [value if isinstance(value, dict) else {"value": value} for value in values]
    return [unmarked(item) for item in items if item.get(MARK) != "gone"]
