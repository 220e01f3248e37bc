"""Begun: what has made a request already and waits for its next turn, by origin. Sans-IO.

Nothing of it is in the frontier: a page that is on its way through redirects stays leased, so a
crawl that is killed starts that page over, as it does with every other page under way.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, Generic, TypeVar

from scrapekit.frontier.base import Head, Hop, Lease
from scrapekit.messages import Request
from scrapekit.outage import Outage

MAX_HOPS: Final = 10_000
"""Redirects that wait for their turn. A page whose redirect is one too many starts over later."""

_FIRST: Final = 1 << 62
"""The priority of what an origin's pages wait for."""


@dataclass(slots=True, eq=False)
class Errand:
    """A robots.txt to be fetched, before the pages of its origin."""

    origin: str
    hop: Hop
    firsts: tuple[Hop, ...]
    """Those that all redirects come from, one for each proxy that it may go by: the next try goes
    by the next."""
    tries: int = 1
    outage: Outage | None = None
    """Since it failed for the first time; what it says of the whole site."""
    began: float = 0.0
    in_turn: bool = False
    sent: bool = True
    """Whether a request was made in this turn, or a cache had the answer."""

    @property
    def first(self) -> Hop:
        """The one to begin with, in this try."""
        return self.firsts[(self.tries - 1) % len(self.firsts)]

    @property
    def turn(self) -> str:
        """The origin that is asked next, or just now."""
        return self.hop.origin


_Turn = TypeVar("_Turn", Lease, Errand)


@dataclass(slots=True)
class _Line(Generic[_Turn]):
    """What waits for one origin's turn: first come, first served, once its date has come."""

    ready: deque[_Turn] = field(default_factory=deque)
    dated: list[tuple[float, int, _Turn]] = field(default_factory=list)

    def bring_due(self, now: float) -> bool:
        """Let those stand in line whose date has come; whether any stands there."""
        while self.dated and self.dated[0][0] <= now:
            self.ready.append(heapq.heappop(self.dated)[2])
        return bool(self.ready)


class Begun:
    """Errands and redirects. An origin whose robots.txt is asked for has nothing but errands."""

    def __init__(self) -> None:
        self.hops = 0
        """Leases that wait for the turn of their next hop."""
        self._hops: dict[str, _Line[Lease]] = {}
        self._errands: dict[str, _Line[Errand]] = {}
        self._numbers = itertools.count()
        self._asking: set[str] = set()

    def __repr__(self) -> str:
        return f"<Begun hops={self.hops} asking={len(self._asking)}>"

    @property
    def full(self) -> bool:
        """Whether there is no room for a further redirect."""
        return self.hops >= MAX_HOPS

    def add_hop(self, lease: Lease) -> None:
        """A redirect waits for the turn of the origin it leads to."""
        assert lease.hop is not None, "it was redirected"
        self._stand(self._hops, lease, lease.hop)
        self.hops += 1

    def add_errand(self, errand: Errand) -> None:
        """An errand waits for its turn: of another origin, or again."""
        self._stand(self._errands, errand, errand.hop)

    def _stand(self, lines: dict[str, _Line[_Turn]], turn: _Turn, hop: Hop) -> None:
        line = lines.setdefault(hop.origin, _Line())
        if hop.due:
            heapq.heappush(line.dated, (hop.due, next(self._numbers), turn))
        else:
            line.ready.append(turn)

    def ask(self, origin: str, reach: int, proxies: Sequence[str] = ()) -> Errand:
        """Begin an errand that goes no further than `reach`, and by no other way than by one of the
        `proxies`, if there are any; until `answered` the origin's pages have to wait.
        """
        self._asking.add(origin)
        url = f"{origin}/robots.txt"
        asked = [Request(url, proxy=proxy).at_depth(0, reach) for proxy in proxies or (None,)]
        firsts = tuple(map(Hop, asked))
        return Errand(origin, firsts[0], firsts)

    def answered(self, origin: str) -> None:
        """The errand is over."""
        self._asking.discard(origin)

    def asks(self, origin: str) -> bool:
        """Whether the origin's pages have to wait."""
        return origin in self._asking

    def has_hop(self, origin: str, now: float) -> bool:
        """Whether a redirect waits for the origin's turn and nothing else."""
        line = self._hops.get(origin)
        return line is not None and line.bring_due(now)

    def errand(self, origin: str, now: float) -> Errand | None:
        """Take the errand that waits for the origin's turn."""
        return _pop(self._errands, origin, now)

    def hop(self, origin: str, now: float) -> Lease | None:
        """Take the redirect that waits for the origin's turn."""
        lease = _pop(self._hops, origin, now)
        self.hops -= lease is not None
        return lease

    def head(self, origin: str, now: float) -> Head | None:
        """What goes to the origin before anything new; or the date from when on it does."""
        dates = []
        if (errands := self._errands.get(origin)) is not None:
            if errands.bring_due(now):
                return Head(_FIRST, now)
            dates.append(Head(_FIRST, errands.dated[0][0]))
        if origin not in self._asking and (hops := self._hops.get(origin)) is not None:
            if hops.bring_due(now):
                return Head(hops.ready[0].request.priority, now)
            due, _, lease = hops.dated[0]
            dates.append(Head(lease.request.priority, due))
        return min(dates, key=_DUE, default=None)


_DUE: Final = attrgetter("due")


def _pop(lines: dict[str, _Line[_Turn]], origin: str, now: float) -> _Turn | None:
    line = lines.get(origin)
    if line is None or not line.bring_due(now):
        return None
    turn = line.ready.popleft()
    if not line.ready and not line.dated:
        del lines[origin]
    return turn
