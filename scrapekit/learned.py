"""Learned: what a crawl has learned of sites and is worth knowing in a later one: how much they
bear, what their robots.txt says, and the cookies they have set.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Final

import msgspec

from scrapekit.clock import Clock
from scrapekit.cookies.jars import Jars
from scrapekit.frontier.base import Frontier
from scrapekit.frontier.damage import sound
from scrapekit.politeness import Politeness
from scrapekit.robots import RobotsBook
from scrapekit.standing import OriginState

_ORIGIN: Final = "origin"
"""The frontier's notes on what an origin's robots.txt says."""

_COOKIES: Final = "cookies"
"""Its notes on what sites have set, by session."""


class Learned:
    """What one crawl knows of sites, as plain values, and as notes of its frontier."""

    def __init__(
        self,
        frontier: Frontier,
        politeness: Politeness,
        robots: RobotsBook,
        cookies: Jars,
        clock: Clock,
    ) -> None:
        self.cookies = cookies
        self._frontier = frontier
        self._politeness = politeness
        self._robots = robots
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Learned {self._politeness!r} {self.cookies!r}>"

    def origins(self) -> list[OriginState]:
        """All that is known of origins."""
        states = {state.origin: state for state in self._politeness.states(self._clock.now())}
        for origin, text, read_at in self._robots.known():
            state = states.get(origin) or OriginState(origin=origin)
            states[origin] = msgspec.structs.replace(state, robots=text, robots_at=read_at)
        return list(states.values())

    def restore(self, states: Iterable[OriginState]) -> None:
        """Take back what `origins` gave; before the crawl has begun."""
        for state in states:
            self._politeness.restore(state)
            if state.robots is not None:
                self._robots.learn(state.origin, state.robots, state.robots_at)

    def is_unknown(self, origin: str, reach: int) -> bool:
        """Whether an origin's robots.txt has to be asked for: neither this process knows it, nor
        did an earlier one of the same job. Raises JobError.
        """
        now = self._clock.now()
        if self._robots.unknown(origin, now, reach) and (
            kept := self._frontier.recall(_ORIGIN, origin)
        ):
            with self._sound("a note on a site"):
                self.restore([msgspec.json.decode(kept, type=OriginState)])
        return self._robots.unknown(origin, now, reach)

    def keep_origin(self, state: OriginState) -> None:
        """Note what an origin's robots.txt says, for later processes of a job."""
        if self._frontier.keeps:
            self._frontier.remember(_ORIGIN, state.origin, msgspec.json.encode(state).decode())

    def keep_cookies(self) -> None:
        """Note what sites have set since the last time; it belongs to the next commit."""
        if self._frontier.keeps and self.cookies.changed:
            for name, cookies in self.cookies.take_changes():
                kept = msgspec.json.encode(cookies).decode() if cookies else None
                self._frontier.remember(_COOKIES, name, kept)

    def restore_cookies(self) -> None:
        """Take up what earlier processes of a job noted. Raises JobError."""
        kept = self._frontier.recall_all(_COOKIES)
        if kept:
            with self._sound("a note on cookies"):
                self.cookies.restore_notes({n: msgspec.json.decode(t) for n, t in kept.items()})

    def _sound(self, what: str) -> AbstractContextManager[None]:
        return sound(getattr(self._frontier, "path", ""), what)
