"""Politeness: which origin may be fetched when.

Sans-IO. Origins that wait for a date are in one heap, origins that may be fetched now in another,
so a step costs O(log n) however many origins there are, and nobody scans. A heap entry is never
removed from the middle: each origin knows the number of its valid entry, and others are skipped.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Origin:
    delay_s: float
    in_flight: int = 0
    free_at: float = 0.0
    """No request before this date: the delay since the last one, or the site's own wish."""
    entry: int = -1
    """The number of the valid heap entry; -1 for none."""
    rank: tuple[float, int] = field(default=(0.0, 0))
    """(date, -priority) of that entry."""


class Politeness:
    """Dates and limits per origin. All times are seconds of the crawl's clock."""

    def __init__(self, *, concurrency: int, delay_s: float) -> None:
        self._concurrency = concurrency
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
        if origin.in_flight >= self._concurrency:
            return False
        date = max(due, origin.free_at)
        rank = (max(date, now), -priority)
        if origin.entry >= 0 and origin.rank <= rank:
            return False
        origin.entry = next(self._numbers)
        origin.rank = rank
        if date > now:
            heapq.heappush(self._calendar, (date, origin.entry, priority, name))
            return False
        heapq.heappush(self._ready, (-priority, origin.entry, name))
        return True

    def pick(self, now: float) -> str | None:
        """Take the origin whose turn it is: highest priority first, then whoever waits longest."""
        self._due(now)
        while self._ready:
            _, entry, name = heapq.heappop(self._ready)
            if self._take(name, entry):
                return name
        return None

    def next_date(self) -> float | None:
        """When the next waiting origin may be fetched; None if none waits for a date."""
        while self._calendar:
            date, entry, _, name = self._calendar[0]
            origin = self._origins.get(name)
            if origin is not None and origin.entry == entry:
                return date
            heapq.heappop(self._calendar)
        return None

    def started(self, name: str, now: float) -> None:
        """A request to the origin is on its way."""
        origin = self._origins[name]
        origin.in_flight += 1
        origin.free_at = max(origin.free_at, now + origin.delay_s)

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
        origin.free_at = max(origin.free_at, until)

    def slow_down(self, name: str, delay_s: float) -> None:
        """At least `delay_s` seconds between two requests (robots.txt's Crawl-delay)."""
        origin = self._origins.setdefault(name, _Origin(self._delay_s))
        origin.delay_s = max(origin.delay_s, delay_s)

    def _due(self, now: float) -> None:
        while self._calendar and self._calendar[0][0] <= now:
            _, entry, priority, name = heapq.heappop(self._calendar)
            origin = self._origins.get(name)
            if origin is None or origin.entry != entry:
                continue
            if origin.free_at > now:
                heapq.heappush(self._calendar, (origin.free_at, entry, priority, name))
            else:
                heapq.heappush(self._ready, (-priority, entry, name))

    def _take(self, name: str, entry: int) -> bool:
        origin = self._origins.get(name)
        if origin is None or origin.entry != entry:
            return False
        origin.entry = -1
        return True
