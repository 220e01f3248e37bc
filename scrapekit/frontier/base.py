"""The frontier's protocol, and what it is handed: leases and outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from scrapekit.messages import Request


@dataclass(slots=True, eq=False)
class Lease:
    """A request handed out and not yet settled."""

    request: Request
    origin: str
    tries: int
    """1 for the first."""
    began: float = 0.0
    """When it was handed out, by the crawl's clock."""


@dataclass(slots=True, eq=False)
class Outcome:
    """All that a visit produced. Committed whole or not at all."""

    lease: Lease
    requests: Sequence[Request] = ()
    items: Sequence[Any] = ()
    aliases: Sequence[str] = ()
    """Other URLs of the same page, which needn't be fetched any more."""


@dataclass(slots=True)
class Head:
    """What an origin has next: a request of `priority` that may go at `due`."""

    priority: int
    due: float


class Frontier(Protocol):
    """What is still to fetch and what has been seen.

    Used by one crawl at a time, from its event loop's thread. Each lease is settled once: by
    commit(), postpone() or give_up().
    """

    @property
    def pending(self) -> int:
        """Requests that wait."""

    @property
    def leased(self) -> int:
        """Requests handed out and not settled."""

    async def add(self, requests: Sequence[Request]) -> Sequence[Request]:
        """File requests; return those that are new (or not `unique`)."""

    def head(self, origin: str, now: float) -> Head | None:
        """What the origin has next: the highest priority among those that may go now, else the
        earliest date. Doesn't wait.
        """

    def lease(self, origin: str, now: float) -> Lease | None:
        """Hand out the head, if it may go now. Doesn't wait."""

    def has_seen(self, url: str) -> bool:
        """Whether a GET of this canonical URL was ever filed."""

    async def commit(self, outcome: Outcome) -> Sequence[Request]:
        """Settle a lease with its outcome; return those of its requests that are new."""

    async def postpone(self, lease: Lease, due: float) -> None:
        """Settle a lease by filing its request again, not to go before `due`."""

    async def give_up(self, lease: Lease) -> None:
        """Settle a lease whose request will not be fetched."""

    async def aclose(self) -> None:
        """Let go of files and threads. The frontier can't be used any more."""
