"""Politeness: which origin may be fetched when.

Sans-IO. Origins that wait for a date are in one heap, origins that may be fetched now in another,
so a step costs O(log n) however many origins there are, and nobody scans. A heap entry is never
removed from the middle: each origin knows the number of its valid entry, and others are skipped.
An origin is looked at once more when it is picked, because its limit may have been lowered since,
or another crawl may have come before.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from scrapekit.adaptive import Adaptive, Asked
from scrapekit.errors import OriginDown
from scrapekit.limits import Limits, Rate
from scrapekit.report import OriginLimit
from scrapekit.standing import NEVER, OriginState, SharedLimits, Standing, limit_of

_NOW: Final = NEVER
"""The date of what may go. Earlier than any other, so that of two such entries the priority
decides, not which was booked first."""


@dataclass(slots=True)
class _Booking:
    """An origin's place in the heaps of one crawl."""

    limits: Limits
    entry: int = -1
    """The number of the valid heap entry; -1 for none."""
    under_way: int = 0
    """Requests of this crawl."""
    rank: tuple[float, int] = (_NOW, 0)
    """(date, -priority) of that entry. The date is not before the origin is free."""


class Politeness:
    """Dates and limits per origin. All times are seconds of the crawl's clock.

    `limits` tells what the settings allow for an origin, asked once each. `shared` has the
    origins, if other crawls know them too. `dice` gives floats in [0, 1).
    """

    def __init__(
        self,
        limits: Callable[[str], Limits],
        *,
        shared: SharedLimits | None = None,
        freed: Callable[[str], None] = lambda _: None,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._limits = limits
        self._origins = SharedLimits() if shared is None else shared
        self._is_shared = shared is not None
        self.freed = freed
        """Called with an origin in which another crawl may have made room."""
        self._dice = dice
        self._bookings: dict[str, _Booking] = {}
        self._calendar: list[tuple[float, int, int, str]] = []
        self._ready: list[tuple[int, int, str]] = []
        self._numbers = itertools.count()

    def __repr__(self) -> str:
        return (
            f"<Politeness origins={len(self._bookings)} ready={len(self._ready)} "
            f"dated={len(self._calendar)}>"
        )

    def book(self, name: str, priority: int, due: float, now: float) -> bool:
        """An origin has a request of that priority which may go at `due`.

        True if the origin can be picked now. An origin that is at its limit is booked again by
        whoever reports the end of one of its requests.
        """
        booking, standing = self._booking(name), self._origins.meet(name)
        if self._is_shared:
            standing.share(self, booking.limits)
        if standing.in_flight >= standing.limit(booking.limits):
            self._wait_for_others(name, standing)
            return False
        date = max(due, standing.free_at(booking.limits))
        if date <= now:
            date = _NOW
        if booking.entry >= 0 and booking.rank <= (date, -priority):
            return False
        self._enter(name, booking, date, priority)
        if date != _NOW:
            self._wait_for_others(name, standing)
        return date == _NOW

    def pick(self, now: float) -> str | None:
        """Take the origin whose turn it is: highest priority first, then whoever waits longest."""
        self.due(now)
        while self._ready:
            negative, entry, name = heapq.heappop(self._ready)
            booking = self._valid(name, entry)
            if booking is None:
                continue
            booking.entry = -1
            standing = self._origins.meet(name)
            if standing.in_flight >= standing.limit(booking.limits):
                self._wait_for_others(name, standing)
            elif (date := standing.free_at(booking.limits)) > now:
                self._enter(name, booking, date, -negative)
            else:
                return name
        return None

    def due(self, now: float) -> int:
        """Let those go whose date has come; how many origins can be picked now, at most."""
        while self._calendar and self._calendar[0][0] <= now:
            _, entry, priority, name = heapq.heappop(self._calendar)
            booking = self._valid(name, entry)
            if booking is not None:
                booking.rank = (_NOW, -priority)
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
        booking, standing = self._booking(name), self._origins.meet(name)
        if booking.limits.adaptive and standing.law is None:
            standing.law = Adaptive.under(booking.limits.concurrency)
        booking.under_way += 1
        standing.start(booking.limits, now, self._dice() if booking.limits.delay_jitter else 0.0)
        self._move(name, standing)

    def unsent(self, name: str, started_at: float) -> None:
        """What was to start then, and isn't finished yet, wasn't sent: it costs no delay."""
        self._origins.meet(name).take_back(started_at)

    def finished(self, name: str, now: float) -> None:
        """A request to the origin has ended. Forgets the origin if nothing is left to know."""
        standing = self._origins.meet(name)
        standing.in_flight -= 1
        booking = self._bookings[name]
        booking.under_way -= 1
        idle = booking.entry < 0 and not booking.under_way
        if self._is_shared:
            if idle:
                standing.leave(self)
            standing.blocked.pop(self, None)
            standing.tell_others()
        if idle and self._origins.forget(name, now):
            del self._bookings[name]

    def leave(self) -> None:
        """The crawl is over: what it asked of origins holds for no other crawl any more."""
        if self._is_shared:
            for name in self._bookings:
                if (standing := self._origins.get(name)) is not None:
                    standing.leave(self)
                    standing.ignore(self)
                    standing.tell_others()

    def latest(self, name: str) -> Asked:
        """The latest request to the origin."""
        standing = self._origins.meet(name)
        return Asked(standing.turns, standing.in_flight)

    def answered(self, name: str, asked: Asked, elapsed_s: float | None) -> None:
        """The origin answered a request, which isn't finished yet, after `elapsed_s`; None if
        something else than the origin may have taken the time.
        """
        limits, standing = self._booking(name).limits, self._origins.meet(name)
        standing.note_answer(asked.number)
        if standing.law is not None and limits.adaptive:
            busy = standing.in_flight >= standing.limit(limits)
            standing.law.answered(
                asked, elapsed_s, standing.turns, ceiling=limits.concurrency, busy=busy
            )

    def overloaded(
        self, name: str, asked: Asked, now: float, what: str, *, spoke: bool, rests: bool = False
    ) -> None:
        """The origin refused a request, or didn't answer it; see `Adaptive.overloaded`."""
        limits, standing = self._booking(name).limits, self._origins.meet(name)
        if standing.law is None or not limits.adaptive:
            return
        if standing.outage is not None and standing.outage.is_on:
            # Of a site that is down nobody learns how much it bears when it is up.
            return
        standing.law.overloaded(asked, standing.turns, what, spoke=spoke, rests=rests)
        standing.note_overload(now)
        self._move(name, standing)

    def failed(self, name: str, asked: Asked, now: float, what: str, *, weight: int) -> None:
        """A request failed as it does if the whole origin is down; see `Outage.failed`."""
        limits, standing = self._booking(name).limits, self._origins.meet(name)
        standing.note_failure(asked.number, now, what, weight, limits.max_outage_s)
        self._move(name, standing)

    def waits_until(self, name: str, now: float) -> float | None:
        """When a page may be tried again that failed because its origin is down: later than another
        one. None if the origin isn't down, or is given up.
        """
        standing = self._origins.get(name)
        if standing is None or standing.outage is None or not standing.outage.is_on:
            return None
        if standing.down_until > now:
            return None
        return max(now, standing.outage.until) + standing.outage.pause_s

    def check(self, name: str, url: str, now: float) -> None:
        """Raises OriginDown if the origin failed so often that it is left alone for now."""
        standing = self._origins.get(name)
        if standing is not None and standing.down_until > now and standing.outage is not None:
            failures, why = standing.outage.failures, standing.outage.wording
            message = f"{name} failed {failures} times in a row, by {why}: it is left alone"
            raise OriginDown(message, url=url, failures=failures)

    def free_at(self, name: str) -> float:
        """When the next request may go to the origin, as far as its dates are concerned."""
        return self._origins.meet(name).free_at(self._booking(name).limits)

    def hold(self, name: str, until: float) -> None:
        """Nothing more to this origin before `until` (its Retry-After, say)."""
        standing = self._origins.meet(name)
        standing.held_until = max(standing.held_until, until)
        self._move(name, standing)

    def slow_down(self, name: str, delay_s: float, rate: Rate | None = None) -> None:
        """What the origin's robots.txt asks for now: at least `delay_s` seconds between two
        requests, that for the file itself being the first; and from then on no more than `rate`.
        """
        standing = self._origins.meet(name)
        standing.heed(self, delay_s, rate, self._booking(name).limits)
        self._move(name, standing)

    def report(self, most: int) -> list[OriginLimit]:
        """How the limits of the origins ended up, those asked most often first."""
        known = (
            limit_of(name, booking.limits, standing)
            for name, booking in self._bookings.items()
            if (standing := self._origins.get(name)) is not None and standing.requests
        )
        return heapq.nsmallest(most, known, key=lambda limit: -limit.requests)

    def states(self, now: float) -> Iterator[OriginState]:
        """What there is to remember of each origin, as plain values."""
        for name, standing in self._origins.items():
            if not standing.is_plain(now):
                yield _state(name, standing, self._booking(name).limits)

    def restore(self, state: OriginState) -> None:
        """Take back what `states()` gave, maybe in another process."""
        limits, standing = self._booking(state.origin).limits, self._origins.meet(state.origin)
        if state.delay_s or state.rate is not None:
            standing.heed(self, state.delay_s, Rate(*state.rate) if state.rate else None, limits)
        _restore(standing, state)

    def _booking(self, name: str) -> _Booking:
        booking = self._bookings.get(name)
        if booking is None:
            booking = self._bookings[name] = _Booking(self._limits(name))
        return booking

    def _wait_for_others(self, name: str, standing: Standing) -> None:
        if self._is_shared:
            standing.blocked[self] = partial(self.freed, name)

    def _move(self, name: str, standing: Standing) -> None:
        """Put off an origin that is booked for an earlier date than it is free."""
        booking = self._booking(name)
        booked_for, negative = booking.rank
        date = standing.free_at(booking.limits)
        if booking.entry >= 0 and booked_for < date:
            self._enter(name, booking, date, -negative)

    def _enter(self, name: str, booking: _Booking, date: float, priority: int) -> None:
        entry = booking.entry = next(self._numbers)
        booking.rank = (date, -priority)
        if date == _NOW:
            heapq.heappush(self._ready, (-priority, entry, name))
        else:
            heapq.heappush(self._calendar, (date, entry, priority, name))

    def _valid(self, name: str, entry: int) -> _Booking | None:
        """The origin's booking, if that is still its entry."""
        booking = self._bookings.get(name)
        return booking if booking is not None and booking.entry == entry else None


def _state(name: str, standing: Standing, limits: Limits) -> OriginState:
    law, window = standing.law, standing.site_window
    return OriginState(
        origin=name,
        held_until=max(0.0, standing.free_at(limits)),
        delay_s=standing.site_delay_s,
        rate=(window.rate.requests, window.rate.per_s) if window else None,
        limit=law.value if law else None,
        why=law.why if law else "",
        base_s=law.base_s if law else 0.0,
        knee=law.knee if law and law.knee < float("inf") else None,
    )


def _restore(standing: Standing, state: OriginState) -> None:
    standing.held_until = max(standing.held_until, state.held_until)
    if state.limit is not None:
        knee = float("inf") if state.knee is None else state.knee
        standing.law = Adaptive(value=state.limit, why=state.why, base_s=state.base_s, knee=knee)
