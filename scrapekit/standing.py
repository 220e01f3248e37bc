"""Standing: what an origin has had of us lately, and what it wants. Sans-IO.

Kept apart from the calendar of who goes when, because several crawls may share it: then what one
of them asks of an origin counts for all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from scrapekit.adaptive import Adaptive
from scrapekit.errors import UsageError
from scrapekit.limits import Limits, Rate
from scrapekit.outage import LEFT_ALONE_S, Outage
from scrapekit.report import OriginLimit

NEVER: Final = float("-inf")
_KEPT: Final = 200
"""Idle origins that are remembered although there is nothing special about them, for the report.
Beyond, a crawl of many origins keeps those alone of which there is something to remember."""


class OriginState(msgspec.Struct, frozen=True, kw_only=True):
    """What is worth knowing of an origin beyond the life of a process: a plain value, handed out
    by `Politeness.states()` and taken back by `restore()`. Times are seconds since the epoch.
    """

    origin: str
    held_until: float = 0.0
    """Nothing before that: a Retry-After, or the delay since the last request."""
    delay_s: float = 0.0
    """The Crawl-delay of its robots.txt."""
    rate: tuple[int, float] | None = None
    """The Request-rate of its robots.txt: so many requests in so many seconds."""
    limit: float | None = None
    """The adaptive limit; None if it was never lowered nor measured."""
    why: str = ""
    base_s: float = 0.0
    knee: float | None = None
    robots: str | None = None
    """The text of its robots.txt; "" for one that isn't there, None for one that isn't known."""
    robots_at: float = 0.0
    """When that was read."""


@dataclass(slots=True)
class Window:
    """The starts of the last requests, as many as a rate allows."""

    rate: Rate
    starts: deque[float]

    @classmethod
    def of(cls, rate: Rate) -> Window:
        return cls(rate, deque(maxlen=rate.requests))

    def free_at(self) -> float:
        """When the next request may start."""
        full = len(self.starts) == self.rate.requests
        return self.starts[0] + self.rate.per_s if full else NEVER

    def is_empty(self, now: float) -> bool:
        """Whether none of the starts counts any more."""
        return not self.starts or self.starts[-1] + self.rate.per_s <= now


@dataclass(slots=True)
class Standing:
    """One origin. Dates are seconds of the crawl's clock."""

    in_flight: int = 0
    turns: int = 0
    """Begun so far: the number of the latest."""
    requests: int = 0
    """Made so far."""
    started_at: float = NEVER
    """When the last request went."""
    paced_until: float = NEVER
    """No request before that date: the delay since the last one."""
    held_until: float = NEVER
    """The same, by the site's own wish."""
    down_until: float = NEVER
    """Until then, what is for it is given up rather than fetched."""
    site_delay_s: float = 0.0
    site_window: Window | None = None
    wishes: dict[object, tuple[float, Rate | None]] | None = None
    """What its robots.txt asks of each crawl, where it asks for a pause: they may have different
    names."""
    own_windows: dict[Rate, Window] | None = None
    """By what settings allow."""
    law: Adaptive | None = None
    outage: Outage | None = None
    """What has failed since the last answer."""
    before: tuple[float, float] = (NEVER, NEVER)
    """`started_at` and `paced_until` before the last request."""
    drawn: float = 0.0
    """By how much its delay was jittered, from 0 to 1."""
    sharers: dict[object, Limits] | None = None
    """The crawls that have something to do with it, if several may; the strictest of their limits
    hold for all.
    """
    blocked: dict[object, Callable[[], None]] = field(default_factory=dict)
    """Which other crawls wait, and how they are told that something has changed."""

    def free_at(self, limits: Limits) -> float:
        """No request before this date."""
        date = max(self.paced_until, self.held_until)
        if self.outage is not None:
            date = max(date, self.outage.until)
        if self.site_window is not None:
            date = max(date, self.site_window.free_at())
        if self.own_windows:
            rates = {each.rate for each in self._all(limits)}
            windows = (window for rate, window in self.own_windows.items() if rate in rates)
            date = max(date, *(window.free_at() for window in windows), NEVER)
        # What is given up needs no pause.
        if self.sharers and self.started_at >= self.down_until:
            pauses = (each.pause_s(0.0, self.drawn) for each in self.sharers.values())
            date = max(date, self.started_at + max(pauses))
        return date

    def limit(self, limits: Limits) -> int:
        """How many requests at a time. A site that asks for a delay gets one, and so does one that
        is down.
        """
        if self.site_delay_s or (self.outage is not None and self.outage.is_on):
            return 1
        if self.sharers:
            return min(self._limit(each) for each in self._all(limits))
        return self._limit(limits)

    def _limit(self, limits: Limits) -> int:
        if self.law is None or not limits.adaptive:
            return limits.concurrency
        return min(limits.concurrency, self.law.limit)

    def _all(self, limits: Limits) -> tuple[Limits, ...]:
        return (limits, *self.sharers.values()) if self.sharers else (limits,)

    def share(self, crawl: object, limits: Limits) -> None:
        """That crawl has something to do with the origin."""
        if self.sharers is None:
            self.sharers = {}
        self.sharers[crawl] = limits
        if limits.rate is not None:
            self._meet_rate(limits.rate)

    def leave(self, crawl: object) -> None:
        """It has nothing to do with it any more."""
        self.blocked.pop(crawl, None)
        if self.sharers is not None:
            self.sharers.pop(crawl, None)

    def heed(self, crawl: object, delay_s: float, rate: Rate | None, limits: Limits) -> None:
        """Its robots.txt asks that of the crawl, and nothing else any more. The delay counts from
        the latest request on, which was for that file; the rate from the next on.
        """
        wishes = self.wishes or {}
        wishes.pop(crawl, None)
        if delay_s or rate:
            wishes[crawl] = delay_s, rate
        self.wishes = wishes or None
        self.site_delay_s = max((delay_s for delay_s, _ in wishes.values()), default=0.0)
        rates = (rate for _, rate in wishes.values() if rate is not None)
        self._open_window(min(rates, key=lambda rate: rate.requests / rate.per_s, default=None))
        if self.site_delay_s and self.started_at >= self.down_until:
            pause_s = limits.pause_s(self.site_delay_s, self.drawn)
            self.paced_until = max(self.paced_until, self.started_at + pause_s)

    def ignore(self, crawl: object) -> None:
        """That crawl is over: what the robots.txt asks of it holds until another one reads it."""
        if self.wishes is not None:
            self.wishes.pop(crawl, None)

    def _open_window(self, rate: Rate | None) -> None:
        window = self.site_window
        if rate is None:
            self.site_window = None
        elif window is None or window.rate != rate:
            starts = () if window is None else window.starts
            self.site_window = Window(rate, deque(starts, maxlen=rate.requests))

    def tell_others(self) -> None:
        """There may be room, or an earlier date: tell those that wait."""
        blocked, self.blocked = self.blocked, {}
        for tell in blocked.values():
            tell()

    def start(self, limits: Limits, now: float, random: float) -> None:
        """A request goes."""
        self.in_flight += 1
        self.turns += 1
        self.requests += 1
        self.before = self.started_at, self.paced_until
        self.started_at, self.drawn = now, random
        # What is given up needs no pause, but will be taken back.
        pause_s = 0.0 if self.down_until > now else self._pause_s(limits, random)
        self.paced_until = max(self.paced_until, now + pause_s)
        if limits.rate is not None:
            self._meet_rate(limits.rate)
        for window in self._windows():
            window.starts.append(now)

    def _meet_rate(self, rate: Rate) -> None:
        windows = self.own_windows = self.own_windows or {}
        if rate not in windows:
            windows[rate] = Window.of(rate)

    def _windows(self) -> list[Window]:
        windows = list(self.own_windows.values()) if self.own_windows else []
        return windows if self.site_window is None else [*windows, self.site_window]

    def _pause_s(self, limits: Limits, random: float) -> float:
        pause_s = limits.pause_s(self.site_delay_s, random)
        if self.law is None or not limits.adaptive:
            return pause_s
        return max(pause_s, self.law.spacing_s)

    def take_back(self, now: float) -> None:
        """The request that was the last to start wasn't sent after all."""
        self.requests -= 1
        if self.started_at != now:
            return
        self.started_at, self.paced_until = self.before
        for window in self._windows():
            if window.starts:
                window.starts.pop()

    def note_overload(self, now: float) -> None:
        """The law has just lowered the limit: pause."""
        if self.law is not None:
            self.paced_until = max(self.paced_until, now + self.law.spacing_s)

    def note_failure(
        self, number: float, now: float, what: str, weight: int, most_s: float
    ) -> None:
        """A request failed as it does if the site is down: it is waited for, `most_s` at most."""
        if self.outage is None:
            self.outage = Outage()
        self.outage.failed(number, self.turns, now, what, weight=weight)
        if self.outage.is_hopeless(now, most_s):
            self.down_until = max(now + LEFT_ALONE_S, self.held_until)
            self.paced_until = self.held_until = self.outage.until = now

    def note_answer(self, number: float) -> None:
        """The site answered a request."""
        if self.outage is not None and self.outage.ends_with(number):
            self.outage = None

    def is_plain(self, now: float) -> bool:
        """Whether there is nothing to remember of an idle origin."""
        law = self.law
        lowered = law is not None and law.knee < float("inf")
        if lowered or self.site_delay_s or self.site_window or self.down_until > now:
            return False
        if max(self.paced_until, self.held_until) > now:
            return False
        return all(window.is_empty(now) for window in self._windows())


def limit_of(name: str, limits: Limits, standing: Standing) -> OriginLimit:
    """How an origin's limits ended up, for the report."""
    why = standing.law.why if standing.law is not None and limits.adaptive else "adaptive is off"
    if standing.site_delay_s:
        why = "robots.txt asks for a delay"
    return OriginLimit(
        origin=name,
        requests=standing.requests,
        concurrency=standing.limit(limits),
        ceiling=limits.concurrency,
        delay_s=max(limits.delay_s, standing.site_delay_s),
        why=why,
    )


class SharedLimits:
    """Origins whose limits several crawls respect together: `crawl(shared_limits=...)`.

    The crawls have to run on the same event loop. What one of them has under way, and its dates,
    count for all; where their settings differ, the strictest hold for all that have something to
    do with an origin at that time.
    """

    def __init__(self) -> None:
        self._origins: dict[str, Standing] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<SharedLimits origins={len(self._origins)}>"

    def join(self) -> None:
        """A crawl begins. Raises UsageError on another loop than the other crawls'."""
        loop = asyncio.get_running_loop()
        if self._loop is None or self._loop.is_closed():
            self._loop = loop
        elif self._loop is not loop:
            raise UsageError("shared_limits are shared by crawls on one event loop only")

    def get(self, name: str) -> Standing | None:
        """The origin, if it is known."""
        return self._origins.get(name)

    def meet(self, name: str) -> Standing:
        """The origin, known from now on."""
        standing = self._origins.get(name)
        if standing is None:
            standing = self._origins[name] = Standing()
        return standing

    def forget(self, name: str, now: float) -> bool:
        """Drop an idle origin of which there is nothing to remember; whether it was."""
        if len(self._origins) <= _KEPT:
            return False
        standing = self._origins[name]
        is_in_use = standing.in_flight or standing.blocked or standing.sharers
        if is_in_use or not standing.is_plain(now):
            return False
        del self._origins[name]
        return True

    def items(self) -> list[tuple[str, Standing]]:
        """All that are known."""
        return list(self._origins.items())
