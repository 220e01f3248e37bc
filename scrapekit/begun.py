"""Begun: what has made a request already and waits for its next turn, by origin. Sans-IO.

Nothing of it is in the frontier: a page that is on its way through redirects stays leased, so a
crawl that is killed starts that page over, as it does with every other page under way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from scrapekit.frontier.base import Head, Hop, Lease
from scrapekit.messages import Request

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


class Begun:
    """Errands and redirects. An origin whose robots.txt is asked for has nothing but errands."""

    def __init__(self) -> None:
        self.hops = 0
        """Leases that wait for the turn of their next hop."""
        self._hops: dict[str, deque[Lease]] = {}
        self._errands: dict[str, deque[Errand]] = {}
        self._asking: set[str] = set()

    def __repr__(self) -> str:
        return f"<Begun hops={self.hops} asking={len(self._asking)}>"

    @property
    def full(self) -> bool:
        """Whether there is no room for a further redirect."""
        return self.hops >= MAX_HOPS

    def add_hop(self, lease: Lease) -> None:
        """A redirect waits for the turn of the origin it leads to."""
        self._hops.setdefault(lease.turn, deque()).append(lease)
        self.hops += 1

    def add_errand(self, errand: Errand) -> None:
        """An errand waits for its turn: of another origin, or again."""
        self._errands.setdefault(errand.turn, deque()).append(errand)

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

    def has_hop(self, origin: str) -> bool:
        """Whether a redirect waits for the origin."""
        return origin in self._hops

    def errand(self, origin: str) -> Errand | None:
        """Take the errand that waits for the origin's turn."""
        return _pop(self._errands, origin)

    def hop(self, origin: str) -> Lease | None:
        """Take the redirect that waits for the origin's turn."""
        lease = _pop(self._hops, origin)
        self.hops -= lease is not None
        return lease

    def head(self, origin: str, now: float) -> Head | None:
        """What goes to the origin before anything new."""
        if origin in self._errands:
            return Head(_FIRST, now)
        if origin in self._hops and origin not in self._asking:
            return Head(self._hops[origin][0].request.priority, now)
        return None


def _pop(waiting: dict[str, deque[_Turn]], origin: str) -> _Turn | None:
    queue = waiting.get(origin)
    if queue is None:
        return None
    turn = queue.popleft()
    if not queue:
        del waiting[origin]
    return turn
