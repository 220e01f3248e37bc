"""Scheduler: which request is next. `next()` is the only method that waits for one.

Nobody polls: whoever waits is woken by what he waits for, be it a new request, the end of
another one, or a date.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

from scrapekit import urls
from scrapekit.clock import Clock, Timer
from scrapekit.frontier.base import Frontier, Lease, Outcome
from scrapekit.messages import Request
from scrapekit.politeness import Politeness

HOLD: Final = "hold"
"""The frontier's notes on when an origin may be asked again, because it said so."""

_ORIGINS: Final = 100
"""How many origins are taken up in one go: a few milliseconds' work."""


class Scheduler:
    """Frontier, politeness and clock behind one `next()`.

    `grow(n)` is called when n requests could go and nobody waits for them: the engine may add
    workers. `backlog` is how many pending requests make `room()` wait.
    """

    def __init__(
        self,
        frontier: Frontier,
        politeness: Politeness,
        clock: Clock,
        *,
        grow: Callable[[int], None],
        backlog: int,
        max_pages: int | None = None,
    ) -> None:
        self._frontier = frontier
        self._politeness = politeness
        self._clock = clock
        self._grow = grow
        self._backlog = backlog
        self._pages_left = max_pages
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._room: asyncio.Future[None] | None = None
        self._timer: Timer | None = None
        self._timer_at = float("inf")
        self._starts_open = True
        self.closed = False

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"waiting={len(self._waiting)}"
        return f"<Scheduler {state} {self._frontier!r} {self._politeness!r}>"

    async def next(self) -> Lease | None:
        """The next request as soon as one may go; None when the crawl is over."""
        while not self._over():
            lease = None if self.out_of_pages else self._lease()
            if lease is not None:
                return lease
            await self._wait()
        self._wake_all()
        return None

    async def resume(self) -> None:
        """Take up what was pending when the frontier was opened, and what sites had asked for.

        Gives the loop turns: there may be a great many origins.
        """
        now = self._clock.now()
        for origin, until in self._frontier.recall_all(HOLD).items():
            if float(until) > now:
                self._politeness.hold(origin, float(until))
            else:
                self._frontier.remember(HOLD, origin, None)
        origins = self._frontier.origins()
        while not self.closed and (some := tuple(islice(origins, _ORIGINS))):
            self._book(some)
            await asyncio.sleep(0)
        if self._frontier.pending:
            # All of it may wait for a date: then somebody has to wait for that.
            self._grow(1)

    async def add(self, requests: Sequence[Request]) -> Sequence[Request]:
        """File requests; returns those that are new."""
        new = await self._frontier.add(requests)
        self._book(urls.origin(request.url) for request in new)
        return new

    async def commit(self, outcome: Outcome, *, is_page: bool = True) -> Sequence[Request]:
        """Settle a lease with its outcome; returns the requests that are new.

        Unless it `is_page`, because nothing could or might be fetched, it doesn't count towards
        `max_pages`.
        """
        new = await self._frontier.commit(outcome)
        if not is_page:
            self._give_page_back()
        self._settled(outcome.lease, new)
        return new

    async def postpone(self, lease: Lease, due: float) -> None:
        """Settle a lease by trying again at `due`."""
        await self._frontier.postpone(lease, due)
        self._give_page_back()
        self._settled(lease)

    async def give_up(self, lease: Lease) -> None:
        """Settle a lease without an outcome."""
        await self._frontier.give_up(lease)
        self._settled(lease)

    def _give_page_back(self) -> None:
        """It was no page: another one may be handed out for it."""
        if self._pages_left is not None:
            self._pages_left += 1
            self._wake(self._politeness.due(self._clock.now()))

    async def room(self) -> None:
        """Wait until few enough requests are pending for further start requests.

        Always gives the loop a turn: start requests that are all duplicates never fill the
        frontier, and their generator may be endless.
        """
        await asyncio.sleep(0)
        while self._frontier.pending >= self._backlog and not self.closed:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def starts_finished(self) -> None:
        """No more start requests will come."""
        self._starts_open = False
        if self._over():
            self._wake_all()

    def hold(self, origin: str, until: float) -> None:
        """Nothing more to an origin before `until`."""
        self._politeness.hold(origin, until)
        self._frontier.remember(HOLD, origin, str(until))
        self._set_timer()

    def slow_down(self, origin: str, delay_s: float) -> None:
        """At least `delay_s` seconds between two requests to an origin."""
        self._politeness.slow_down(origin, delay_s)
        self._set_timer()

    def meet(self, origin: str, delay_s: float) -> None:
        """An origin's robots.txt was read, which asks for that Crawl-delay (0: none).

        The page that asked for it goes now, whenever it was leased; the next one can go after
        the delay.
        """
        self._politeness.meet(origin)
        if delay_s:
            self.slow_down(origin, delay_s)
            self._politeness.pace(origin, self._clock.now() + delay_s)
        self._book((origin,))

    def unsent(self, lease: Lease) -> None:
        """A lease's page is there without the site having been asked: it costs no delay."""
        self._politeness.unsent(lease.origin, lease.began)
        self._book((lease.origin,))

    def close(self) -> None:
        """Hand out nothing more. What is leased can still be settled."""
        self.closed = True
        self._wake_all()

    def _over(self) -> bool:
        if self.closed or (self.out_of_pages and not self._frontier.leased):
            return True
        return not (self._starts_open or self._frontier.pending or self._frontier.leased)

    @property
    def out_of_pages(self) -> bool:
        """Whether as many pages as `max_pages` allows are handed out or done."""
        return self._pages_left == 0

    def _lease(self) -> Lease | None:
        now = self._clock.now()
        while (origin := self._politeness.pick(now)) is not None:
            lease = self._frontier.lease(origin, now)
            if lease is None:
                self._book((origin,))
                continue
            lease.began = now
            self._politeness.started(origin, now)
            if self._pages_left is not None:
                self._pages_left -= 1
            self._book((origin,))
            self._make_room()
            return lease
        return None

    def _book(self, origins: Iterable[str]) -> None:
        """Tell politeness what origins have next; wake someone for each that may go, now or
        when its date comes.
        """
        now = self._clock.now()
        going = 0
        for origin in dict.fromkeys(origins):
            head = self._frontier.head(origin, now)
            if head is not None:
                going += self._politeness.book(origin, head.priority, head.due, now)
        self._wake(going)
        self._set_timer()

    def _settled(self, lease: Lease, new: Sequence[Request] = ()) -> None:
        self._politeness.finished(lease.origin, self._clock.now())
        self._book((lease.origin, *(urls.origin(request.url) for request in new)))
        if self._over():
            self._wake_all()

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                # Woken and cancelled at once: the wake-up belongs to someone else.
                self._wake(1)
            raise

    def _wake(self, count: int) -> None:
        while count and self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1
        if count and not self.out_of_pages and not self._over():
            self._grow(count)

    def _wake_all(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, float("inf")
        self._make_room()

    def _make_room(self) -> None:
        room = self._room
        if room is not None and (self.closed or self._frontier.pending < self._backlog):
            self._room = None
            if not room.done():
                room.set_result(None)

    def _set_timer(self) -> None:
        date = self._politeness.next_date()
        if date is None or date >= self._timer_at or self.closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = date
        self._timer = self._clock.call_at(date, self._ring)

    def _ring(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self._wake(self._politeness.due(self._clock.now()))
        self._set_timer()
