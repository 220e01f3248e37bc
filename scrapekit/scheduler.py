"""Scheduler: which request is next. `next()` is the only method that waits for one.

One turn is one request to one origin, whatever it is for. A redirect goes on in a turn of its own,
and so does what needs a robots.txt that isn't known yet: both wait here, holding no slot, until
the origin's turn has come.

Nobody polls: whoever waits is woken by what he waits for, be it a new request, the end of
another one, or a date.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

import msgspec

from scrapekit import urls
from scrapekit.addresses import Space
from scrapekit.begun import Begun, Errand
from scrapekit.clock import Clock, Timer
from scrapekit.frontier.base import Frontier, Head, Hop, Lease, Outcome
from scrapekit.frontier.damage import sound
from scrapekit.limits import Rate
from scrapekit.messages import ANYWHERE, Request
from scrapekit.politeness import Politeness

_LATER_S: Final = 60.0
"""When a page starts over whose redirect found no room to wait in."""
_PUBLIC: Final = int(Space.PUBLIC)
HOLD: Final = "hold"
"""The frontier's notes on when an origin may be asked again, because it said so."""

REACH: Final = "reach"
"""Its notes on how far an origin's robots.txt may lead."""

PROXIES: Final = "proxies"
"""Its notes on the proxies that an origin's pages are to be asked for by, as JSON."""

_MAX_PROXIES: Final = 8
"""Of one origin; each new one makes the oldest forgotten."""

_PER_TURN: Final = 8
"""Start requests between two turns of the loop: less than a millisecond's work."""

_ORIGINS: Final = 100
"""How many origins are taken up in one go: a few milliseconds' work."""


class Scheduler:
    """Frontier, politeness and clock behind one `next()`.

    `grow(n)` is called when n requests could go and nobody waits for them: the engine may add
    workers. `backlog` is how many pending requests make `room()` wait. `unknown(origin)` says
    whether a robots.txt has to be asked before the origin's pages; None: never.
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
        unknown: Callable[[str, int], bool] | None = None,
    ) -> None:
        self._frontier = frontier
        self._politeness = politeness
        politeness.freed = self._freed
        self._clock = clock
        self._grow = grow
        self._backlog = backlog
        self._pages_left = max_pages
        self._unknown = unknown
        self._begun = Begun()
        self._skipped: set[str] = set()
        """Origins whose turn came while no page was left to hand out."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._room: list[asyncio.Future[None]] = []
        self._asked_for_room = 0
        self._timer: Timer | None = None
        self._timer_at = float("inf")
        self._starts_open = True
        self._reaches: dict[str, int] = {}
        """How far a robots.txt may lead, where that is further than to public addresses."""
        self._proxies: dict[str, list[str]] = {}
        """By which proxies the pages of an origin go, where they say so: its robots.txt goes by
        these too, or the site would learn who asks."""
        self.closed = False

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"waiting={len(self._waiting)}"
        return f"<Scheduler {state} {self._frontier!r} {self._politeness!r}>"

    async def next(self) -> Lease | Errand | None:
        """The next request as soon as one may go; None when the crawl is over."""
        while not self._over():
            turn = self._turn()
            if turn is not None:
                return turn
            await self._wait()
        self._wake_all()
        return None

    async def resume(self) -> None:
        """Take up what was pending when the frontier was opened, and what sites had asked for.

        Gives the loop turns: there may be a great many origins.
        """
        with sound(getattr(self._frontier, "path", ""), "a note on a site"):
            self._recall()
        origins = self._frontier.origins()
        while not self.closed and (some := tuple(islice(origins, _ORIGINS))):
            self._book(some)
            await asyncio.sleep(0)
        if self._frontier.pending:
            # All of it may wait for a date: then somebody has to wait for that.
            self._grow(1)

    def _recall(self) -> None:
        now = self._clock.now()
        for origin, until in self._frontier.recall_all(HOLD).items():
            if float(until) > now:
                self._politeness.hold(origin, float(until))
            else:
                self._frontier.remember(HOLD, origin, None)
        kept = self._frontier.recall_all(REACH).items()
        # No more than there is: it would never be found that a robots.txt was asked for so far.
        self._reaches |= {origin: min(int(reach), ANYWHERE) for origin, reach in kept}
        notes = self._frontier.recall_all(PROXIES).items()
        self._proxies |= {
            origin: msgspec.json.decode(note, type=list[str]) for origin, note in notes
        }

    async def add(self, requests: Sequence[Request]) -> Sequence[Request]:
        """File requests; returns those that are new."""
        new = await self._frontier.add(requests)
        # Also of those that are filed already: by an earlier process, say.
        self._note_reach(requests)
        self._book(urls.origin(request.url) for request in new)
        return new

    async def commit(self, outcome: Outcome, *, is_page: bool = True) -> Sequence[Request]:
        """Settle a lease with its outcome; returns the requests that are new.

        Unless it `is_page`, because nothing went to a callback, it doesn't count towards
        `max_pages`.
        """
        new = await self._frontier.commit(outcome)
        self._note_reach(new)
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

    def arrived(self, lease: Lease) -> None:
        """The page of a lease is there: another request can go to its origin."""
        lease.arrived = True
        self._end_turn(lease)
        self._book((lease.turn,))

    async def forward(self, lease: Lease, hop: Hop) -> None:
        """End a lease's turn, and let it wait for that of its next hop; it stays leased."""
        if self._begun.full:
            await self._start_over(lease)
            return
        self._end_turn(lease)
        left, lease.hop, lease.sent = lease.turn, hop, False
        self._begun.add_hop(lease)
        self._note_reach((hop.request,))
        self._book((left, lease.turn))

    async def park(self, lease: Lease, hop: Hop) -> bool:
        """The same, but its hop waits for another page as well: until it is unparked. Whether there
        was room for that.
        """
        if self._begun.full:
            await self._start_over(lease)
            return False
        self._end_turn(lease)
        left, lease.hop, lease.sent = lease.turn, hop, False
        self._begun.hops += 1
        self._book((left,))
        return True

    def unpark(self, lease: Lease) -> None:
        """Let a parked lease wait for its turn."""
        assert lease.hop is not None, "it was redirected"
        self._begun.hops -= 1
        self._begun.add_hop(lease)
        self._note_reach((lease.hop.request,))
        self._book((lease.turn,))

    async def _start_over(self, lease: Lease) -> None:
        lease.tries -= 1
        await self.postpone(lease, self._clock.now() + _LATER_S)

    def forward_errand(self, errand: Errand, hop: Hop, due: float | None = None) -> None:
        """End an errand's turn, and let it wait for that of its next hop; not before `due`, which
        nothing goes to its origin before.
        """
        self._end_turn(errand)
        left, errand.hop = errand.turn, hop
        if due is not None:
            self._politeness.hold(errand.turn, due)
        self._begun.add_errand(errand)
        self._book((left, errand.turn))

    def end_errand(self, errand: Errand) -> None:
        """The errand is done: the pages of its origin can go, or be given up."""
        self._end_turn(errand)
        self._begun.answered(errand.origin)
        self._book((errand.turn, errand.origin))

    def _give_page_back(self) -> None:
        """It was no page: another one may be handed out for it."""
        if self._pages_left is not None:
            self._pages_left += 1
            skipped, self._skipped = self._skipped, set()
            self._book(skipped)
            self._wake(self._politeness.due(self._clock.now()))

    async def room(self) -> None:
        """Wait until few enough requests are pending for further start requests.

        Gives the loop a turn every few calls: start requests that are all duplicates never fill
        the frontier, and their generator may be endless.
        """
        self._asked_for_room += 1
        if self._asked_for_room % _PER_TURN == 0:
            await asyncio.sleep(0)
        while self._frontier.pending >= self._backlog and not self.closed:
            room = asyncio.get_running_loop().create_future()
            self._room.append(room)
            await room

    def starts_finished(self) -> None:
        """No more start requests will come."""
        self._starts_open = False
        if self._over():
            self._wake_all()
        else:
            # All that is pending may have to wait: then somebody has to wait for it.
            self._grow(1)

    def hold(self, origin: str, until: float) -> None:
        """Nothing more to an origin before `until`."""
        self._politeness.hold(origin, until)
        self._frontier.remember(HOLD, origin, str(until))
        self._set_timer()

    def free_at(self, origin: str) -> float:
        """When the next request may go to an origin."""
        return self._politeness.free_at(origin)

    def slow_down(self, origin: str, delay_s: float, rate: Rate | None) -> None:
        """What an origin's robots.txt asks for; it counts from the next request on."""
        self._politeness.slow_down(origin, delay_s, rate)

    def _freed(self, origin: str) -> None:
        """Another crawl made room in an origin that was full."""
        if not self.closed:
            self._book((origin,))

    def close(self) -> None:
        """Hand out nothing more. What is leased can still be settled."""
        self.closed = True
        self._wake_all()

    def _over(self) -> bool:
        if self.closed or (self.out_of_pages and not self._frontier.leased):
            return True
        return not (self._starts_open or self._frontier.pending or self._frontier.leased)

    @property
    def hops(self) -> int:
        """Leases that wait for the turn of their next hop."""
        return self._begun.hops

    @property
    def out_of_pages(self) -> bool:
        """Whether as many pages as `max_pages` allows are handed out or done."""
        return self._pages_left == 0

    def _turn(self) -> Lease | Errand | None:
        """Take the turn that is next, if there is one that may go now."""
        if self.out_of_pages and not self._begun.hops:
            return None
        now = self._clock.now()
        while (origin := self._politeness.pick(now)) is not None:
            turn = self._take(origin, now)
            if turn is not None:
                turn.began, turn.in_turn = now, True
                self._politeness.started(origin, now)
            self._book((origin,))
            if turn is not None:
                return turn
        # Another crawl may have put off an origin that was booked for now.
        self._set_timer()
        return None

    def _take(self, origin: str, now: float) -> Lease | Errand | None:
        """What goes to an origin: what its pages wait for, what was begun, what is new."""
        errand = self._begun.errand(origin, now)
        if errand is not None or self._begun.asks(origin):
            return errand
        if self.out_of_pages and not self._begun.has_hop(origin, now):
            self._skipped.add(origin)
            return None
        reach = self._reaches.get(origin, _PUBLIC)
        if self._unknown is not None and self._unknown(origin, reach):
            return self._begun.ask(origin, reach, self._proxies.get(origin, ()))
        return self._begun.hop(origin, now) or self._lease(origin, now)

    def _note_proxy(self, request: Request, proxy: str) -> None:
        origin = urls.origin(request.url)
        known = self._proxies.setdefault(origin, [])
        if proxy not in known:
            del known[_MAX_PROXIES - 1 :]
            known.insert(0, proxy)
            self._frontier.remember(PROXIES, origin, msgspec.json.encode(known).decode())

    def _note_reach(self, requests: Iterable[Request]) -> None:
        """A robots.txt is fetched for whichever of its origin's pages may lead furthest, and by
        their proxies.
        """
        reaches = self._reaches
        for request in requests:
            if request.proxy is not None:
                self._note_proxy(request, request.proxy)
            if request.reach <= _PUBLIC:
                continue
            origin = urls.origin(request.url)
            if reaches.get(origin, _PUBLIC) < request.reach:
                reaches[origin] = request.reach
                self._frontier.remember(REACH, origin, str(request.reach))

    def _lease(self, origin: str, now: float) -> Lease | None:
        lease = self._frontier.lease(origin, now)
        if lease is not None and self._pages_left is not None:
            self._pages_left -= 1
        self._make_room()
        return lease

    def _head(self, origin: str, now: float) -> Head | None:
        """What `_take` would take."""
        begun = self._begun.head(origin, now)
        if (begun is not None and begun.due <= now) or self._begun.asks(origin):
            return begun
        new = None if origin in self._skipped else self._frontier.head(origin, now)
        if begun is None or new is None:
            return begun or new
        return new if new.due <= begun.due else begun

    def _book(self, origins: Iterable[str]) -> None:
        """Tell politeness what origins have next; wake someone for each that may go, now or
        when its date comes.
        """
        now = self._clock.now()
        going = 0
        for origin in dict.fromkeys(origins):
            head = self._head(origin, now)
            if head is not None:
                going += self._politeness.book(origin, head.priority, head.due, now)
        self._wake(going)
        self._set_timer()

    def _settled(self, lease: Lease, new: Sequence[Request] = ()) -> None:
        origins = {urls.origin(request.url): None for request in new}
        if not lease.arrived:
            self._end_turn(lease)
            origins |= {lease.turn: None, lease.origin: None}
        self._book(origins)
        if self._over():
            self._wake_all()

    def abandon(self, turn: Lease | Errand) -> None:
        """A turn was cut short: its origin is free again for crawls that share its limits."""
        if turn.in_turn:
            self._end_turn(turn)

    def _end_turn(self, turn: Lease | Errand) -> None:
        turn.in_turn = False
        if not turn.sent:
            self._politeness.unsent(turn.turn, turn.began)
        self._politeness.finished(turn.turn, self._clock.now())

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
        if self._room and (self.closed or self._frontier.pending < self._backlog):
            waiting, self._room = self._room, []
            for room in waiting:
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
