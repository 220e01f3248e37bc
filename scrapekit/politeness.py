"""Politeness: which origin may be fetched when.

Sans-IO. Origins that wait for a date are in one heap, origins that may be fetched now in another,
so a step costs O(log n) however many origins there are, and nobody scans. A heap entry is never
removed from the middle: each origin knows the number of its valid entry, and others are skipped.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from typing import Final

_NOW: Final = float("-inf")
"""The date of what may go. Earlier than any other, so that of two such entries the priority
decides, not which was booked first."""


@dataclass(slots=True)
class _Origin:
    delay_s: float
    in_flight: int = 0
    started_at: float = _NOW
    """When the last request went."""
    paced_until: float = _NOW
    """No request before this date: the delay since the last one."""
    held_until: float = _NOW
    """The same, by the site's own wish."""
    before: tuple[float, float] = (_NOW, _NOW)
    """`started_at` and `paced_until` before the last request."""
    entry: int = -1
    """The number of the valid heap entry; -1 for none."""
    rank: tuple[float, int] = (_NOW, 0)
    """(date, -priority) of that entry. The date is not before `free_at`."""

    @property
    def free_at(self) -> float:
        """No request before this date."""
        return max(self.paced_until, self.held_until)


class Politeness:
    """Dates and limits per origin. All times are seconds of the crawl's clock.

    `shy`: one request at a time to an origin until `meet`, because a robots.txt that asks for a
    delay can't slow down what has gone already.
    """

    def __init__(self, *, concurrency: int, delay_s: float, shy: bool = False) -> None:
        self._concurrency = concurrency
        self._shy = shy
        self._met: set[str] = set()
        self._delay_s = delay_s
        self._origins: dict[str, _Origin] = {}
        self._calendar: list[tuple[float, int, int, str]] = []
        self._ready: list[tuple[int, int, str]] = []
        self._numbers = itertools.count()

    def __repr__(self) -> str:
        return (
            f"<Politeness origins={len(self._origins)} ready={len(self._ready)} "
            f"dated={len(self._calendar)}>"
        )

    def book(self, name: str, priority: int, due: float, now: float) -> bool:
        """An origin has a request of that priority which may go at `due`.

        True if the origin can be picked now. An origin that is at its limit is booked again by
        whoever reports the end of one of its requests.
        """
        origin = self._origins.get(name)
        if origin is None:
            origin = self._origins[name] = _Origin(self._delay_s)
        if origin.in_flight >= self._limit(name):
            return False
        date = max(due, origin.free_at)
        if date <= now:
            date = _NOW
        if origin.entry >= 0 and origin.rank <= (date, -priority):
            return False
        self._enter(name, origin, date, priority)
        return date == _NOW

    def _limit(self, name: str) -> int:
        return 1 if self._shy and name not in self._met else self._concurrency

    def pick(self, now: float) -> str | None:
        """Take the origin whose turn it is: highest priority first, then whoever waits longest."""
        self.due(now)
        while self._ready:
            _, entry, name = heapq.heappop(self._ready)
            origin = self._valid(name, entry)
            if origin is not None:
                origin.entry = -1
                return name
        return None

    def due(self, now: float) -> int:
        """Let those go whose date has come; how many origins can be picked now, at most."""
        while self._calendar and self._calendar[0][0] <= now:
            _, entry, priority, name = heapq.heappop(self._calendar)
            origin = self._valid(name, entry)
            if origin is not None:
                origin.rank = (_NOW, -priority)
                heapq.heappush(self._ready, (-priority, entry, name))
        return len(self._ready)

    def next_date(self) -> float | None:
        """When the next waiting origin may be fetched; None if none waits for a date."""
        while self._calendar:
            date, entry, _, name = self._calendar[0]
            if self._valid(name, entry) is not None:
                return date
            heapq.heappop(self._calendar)
        return None

    def started(self, name: str, now: float) -> None:
        """A request to the origin is on its way."""
        origin = self._origins[name]
        origin.in_flight += 1
        origin.before = origin.started_at, origin.paced_until
        origin.started_at = now
        self._pace(name, origin, now + origin.delay_s)

    def unsent(self, name: str, started_at: float) -> None:
        """What was to start then, and isn't finished yet, wasn't sent: it costs no delay."""
        origin = self._origins[name]
        if origin.started_at == started_at:
            origin.started_at, origin.paced_until = origin.before

    def finished(self, name: str, now: float) -> None:
        """A request to the origin has ended. Forgets the origin if nothing is left to know."""
        origin = self._origins[name]
        origin.in_flight -= 1
        idle = origin.in_flight == 0 and origin.entry < 0
        if idle and origin.free_at <= now and origin.delay_s == self._delay_s:
            del self._origins[name]

    def hold(self, name: str, until: float) -> None:
        """Nothing more to this origin before `until` (its Retry-After, say)."""
        origin = self._origins.setdefault(name, _Origin(self._delay_s))
        origin.held_until = max(origin.held_until, until)
        self._move(name, origin)

    def slow_down(self, name: str, delay_s: float) -> None:
        """At least `delay_s` seconds between two requests (robots.txt's Crawl-delay)."""
        origin = self._origins.setdefault(name, _Origin(self._delay_s))
        origin.delay_s = max(origin.delay_s, delay_s)
        self._pace(name, origin, origin.started_at + origin.delay_s)

    def pace(self, name: str, until: float) -> None:
        """The last request goes later than it started: nothing more before `until`."""
        self._pace(name, self._origins.setdefault(name, _Origin(self._delay_s)), until)

    def meet(self, name: str) -> None:
        """The origin's wishes are known: from now on as many requests as are allowed."""
        if self._shy:
            self._met.add(name)

    def _pace(self, name: str, origin: _Origin, date: float) -> None:
        origin.paced_until = max(origin.paced_until, date)
        self._move(name, origin)

    def _move(self, name: str, origin: _Origin) -> None:
        """Put off an origin that is booked for an earlier date than it is free."""
        booked_for, negative = origin.rank
        date = origin.free_at
        if origin.entry >= 0 and booked_for < date:
            self._enter(name, origin, date, -negative)

    def _enter(self, name: str, origin: _Origin, date: float, priority: int) -> None:
        entry = origin.entry = next(self._numbers)
        origin.rank = (date, -priority)
        if date == _NOW:
            heapq.heappush(self._ready, (-priority, entry, name))
        else:
            heapq.heappush(self._calendar, (date, entry, priority, name))

    def _valid(self, name: str, entry: int) -> _Origin | None:
        """The origin, if that is still its entry."""
        origin = self._origins.get(name)
        return origin if origin is not None and origin.entry == entry else None
