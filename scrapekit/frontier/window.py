"""Window: of an origin's requests the next ones in memory, the others on disk.

Sans-IO: who reads the disk is handed in. An order of requests is cut at a cursor: what comes
before it is in memory, what comes after it on disk, or soon will be.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from scrapekit.messages import Request

Key = tuple[float, int]
"""What requests are ordered by: (rank or date, number)."""


class Waiting(NamedTuple):
    """A request that waits. `rank` is the negative priority; `due` is 0 if it may go at once."""

    rank: int
    number: int
    due: float
    tries: int
    request: Request


Load = Callable[[Key, Iterable[int], int], Sequence[Waiting]]
"""Reads from disk what comes after a key, without certain numbers, and at most so many."""

_FIRST: Key = (float("-inf"), -1)


class Run:
    """Waiting requests in the order of a key.

    `on_disk`: whether there may be some that were put there before. Spilled requests that the disk
    doesn't have yet stay in `_unsaved` until `saved` says that it does.
    """

    __slots__ = ("_cursor", "_key", "_load", "_more", "_unsaved", "entries")

    def __init__(self, load: Load, key: Callable[[Waiting], Key], *, on_disk: bool) -> None:
        self._key = key
        self.entries: list[tuple[Key, Waiting]] = []
        self._load = load
        self._more = on_disk
        self._cursor = _FIRST
        self._unsaved: dict[int, tuple[int, Key, Waiting]] = {}

    def add(self, waiting: Waiting, group: int, limit: int) -> Sequence[Waiting]:
        """File a request that is on disk once `group` is; what went out of memory for it."""
        key = self._key(waiting)
        if self._more and key > self._cursor:
            self._unsaved[waiting.number] = (group, key, waiting)
            return (waiting,)
        insort(self.entries, (key, waiting))
        if len(self.entries) <= limit:
            return ()
        kept = max(1, limit // 2)
        spilled = self.entries[kept:]
        del self.entries[kept:]
        self._cursor, self._more = self.entries[-1][0], True
        for its_key, its in spilled:
            self._unsaved[its.number] = (group, its_key, its)
        return [its for _, its in spilled]

    def first(self, held: Callable[[], set[int]], limit: int) -> tuple[Key, Waiting] | None:
        """What comes first. `held` gives the numbers that must not be read from disk again."""
        while not self.entries:
            if not self._more:
                return None
            self._refill(held(), limit)
        return self.entries[0]

    def pop(self) -> Waiting:
        """Take the first out. There must be one in memory."""
        return self.entries.pop(0)[1]

    def saved(self, group: int) -> None:
        """The disk has what was filed up to that group."""
        if self._unsaved:
            self._unsaved = {n: kept for n, kept in self._unsaved.items() if kept[0] > group}

    @property
    def is_empty(self) -> bool:
        return not (self.entries or self._more)

    @property
    def has_unsaved(self) -> bool:
        """Whether some are out of the order in memory, and not on disk yet."""
        return bool(self._unsaved)

    def numbers(self) -> set[int]:
        """Those in memory."""
        return {waiting.number for _, waiting in self.entries} | self._unsaved.keys()

    def _refill(self, held: set[int], limit: int) -> None:
        rows = self._load(self._cursor, held, limit)
        found = {number: (key, its) for number, (_, key, its) in self._unsaved.items()}
        for waiting in rows:
            found[waiting.number] = self._key(waiting), waiting
        ordered = sorted(found.values())
        self.entries = ordered[:limit]
        for _, waiting in self.entries:
            self._unsaved.pop(waiting.number, None)
        self._more = len(rows) == limit or len(ordered) > limit
        if self.entries:
            self._cursor = self.entries[-1][0]


class Window:
    """One origin's requests: those that may go now, and those that wait for a date.

    `held()` gives the numbers of requests that are handed out, or settled but not saved yet.
    `release(number)` is told of dated ones that leave memory as requests that may go.
    """

    __slots__ = ("_held", "_release", "dated", "ready")

    def __init__(
        self,
        load_ready: Load,
        load_dated: Load,
        *,
        on_disk: bool,
        held: Callable[[], set[int]],
        release: Callable[[int], None],
    ) -> None:
        self.ready = Run(load_ready, _by_rank, on_disk=on_disk)
        self.dated = Run(load_dated, _by_date, on_disk=on_disk)
        self._held = held
        self._release = release

    def add(self, waiting: Waiting, group: int, limit: int) -> None:
        """File a request; at most `limit` of a kind stay in memory."""
        if waiting.due:
            self.dated.add(waiting, group, limit)
        else:
            self._add_ready(waiting, group, limit)

    def head(self, now: float, group: int, limit: int) -> tuple[float, Waiting] | None:
        """The next request and when it may go; 0 for now."""
        while (dated := self.dated.first(self._held_here, limit)) and dated[0][0] <= now:
            self._add_ready(self.dated.pop(), group, limit)
        ready = self.ready.first(self._held, limit)
        if ready is not None:
            return 0.0, ready[1]
        return (dated[0][0], dated[1]) if dated else None

    def saved(self, group: int) -> None:
        """The disk has what was filed up to that group."""
        self.ready.saved(group)
        self.dated.saved(group)

    @property
    def is_empty(self) -> bool:
        return self.ready.is_empty and self.dated.is_empty

    @property
    def has_unsaved(self) -> bool:
        """Whether `saved` has something to do when the next group is kept."""
        return self.ready.has_unsaved or self.dated.has_unsaved

    def _add_ready(self, waiting: Waiting, group: int, limit: int) -> None:
        for its in self.ready.add(waiting, group, limit):
            if its.due:
                # On disk it is a dated one still.
                self._release(its.number)

    def _held_here(self) -> set[int]:
        return self._held() | self.ready.numbers()


def _by_rank(waiting: Waiting) -> Key:
    return waiting.rank, waiting.number


def _by_date(waiting: Waiting) -> Key:
    return waiting.due, waiting.number
