"""Group: changes that are kept together, in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import msgspec

_PART: Final = 10_000
"""Rows that go to the database in one statement: a page with a million links is cut up."""

_encode = msgspec.json.Encoder().encode


class Group:
    """What is kept with the next transaction. `number` counts the groups of a process.

    Filled by the event loop's thread; from then on it belongs to the thread that writes.
    """

    __slots__ = (
        "added",
        "done",
        "failed",
        "items",
        "notes",
        "number",
        "released",
        "seen",
        "waiters",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.seen: list[int] = []
        self.added: list[tuple[Any, ...]] = []
        self.released: list[int] = []
        self.done: list[int] = []
        self.items: list[tuple[int, int, str]] = []
        self.failed: list[tuple[Any, ...]] = []
        self.notes: dict[tuple[str, str], str | None] = {}
        self.waiters: list[asyncio.Future[None]] = []

    def __repr__(self) -> str:
        return f"<Group {self.number} size={self.size} waiters={len(self.waiters)}>"

    def __bool__(self) -> bool:
        return bool(self.size or self.released or self.notes or self.waiters)

    @property
    def size(self) -> int:
        """Rows, roughly."""
        return len(self.seen) + len(self.added) + len(self.done) + len(self.items)

    def parts(self) -> Iterator[tuple[str | None, ...]]:
        """The columns of the statements that keep it, at least one: JSON arrays, or None."""
        notes = [(kind, name, value) for (kind, name), value in self.notes.items()]
        rest = (self.released, self.done, self.items, self.failed, notes)
        for start in range(0, max(len(self.seen), len(self.added)) or 1, _PART):
            seen, added = self.seen[start : start + _PART], self.added[start : start + _PART]
            last = start + _PART >= max(len(self.seen), len(self.added))
            yield tuple(map(_column, (seen, added, *(rest if last else ([],) * len(rest)))))


def _column(rows: list[Any]) -> str | None:
    return _encode(rows).decode() if rows else None
