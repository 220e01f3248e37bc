"""The frontier's protocol, and what it is handed: leases and outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from scrapekit import urls
from scrapekit.failure import Failure
from scrapekit.messages import Request

if TYPE_CHECKING:
    # Its records are made of what is told here.
    from scrapekit.frontier.pages import Page


_BATCH: Final = 2_000
"""Requests that are seen to in one go: a millisecond or two."""


def batched(requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
    """Requests in parts, between which the loop should have its turn: a page may have any number of
    links.
    """
    for start in range(0, len(requests), _BATCH):
        yield requests[start : start + _BATCH] if len(requests) > _BATCH else requests


class Hop(NamedTuple):
    """One request of a page: its own, or the one that redirects have led to."""

    request: Request
    passed: tuple[str, ...] = ()
    """The URLs that redirected, first to last."""
    elapsed_s: float = 0.0
    """Seconds spent on those, waits between them left out."""
    new_cookies: bool = False
    """Whether any of them has set a cookie that is kept."""
    due: float = 0.0
    """Not before that date: the redirect's own Retry-After."""

    @property
    def origin(self) -> str:
        return urls.origin(self.request.url)


@dataclass(slots=True, eq=False)
class Lease:
    """A request handed out and not yet settled.

    Frontiers fill the first three. The others tell how far the crawl has come with it; a lease
    that is filed again starts over.
    """

    request: Request
    origin: str
    tries: int
    """1 for the first."""
    hop: Hop | None = None
    """Where redirects have led; None before any."""
    began: float = 0.0
    in_turn: bool = False
    """When it was handed out, or went on to this hop."""
    sent: bool = False
    """Whether a request was made since then."""
    arrived: bool = False
    """Whether the page is there; its origin isn't kept busy any more."""

    @property
    def turn(self) -> str:
        """The origin that is asked next, or just now."""
        return self.origin if self.hop is None else self.hop.origin


@dataclass(slots=True, eq=False)
class Outcome:
    """All that a visit produced. Committed whole or not at all."""

    lease: Lease
    requests: Sequence[Request] = ()
    items: Sequence[Any] = ()
    aliases: Sequence[str] = ()
    """Other URLs of the same page, which needn't be fetched any more in its session."""
    lines: Sequence[bytes] = ()
    """The items as JSON, a line each, if the frontier `keeps` them; without those that have no
    JSON form.
    """
    failure: Failure | None = None
    """Why the request was given up, if it was."""
    troubles: Sequence[Failure] = ()
    """What cost items, not the page: errors of stages, and items that have no JSON form."""
    duplicates: int = 0
    """Requests that were left out, because the frontier had seen them."""
    page: Page | None = None
    """What is to be kept of the page, if it was done, and the frontier `keeps`."""


@dataclass(slots=True)
class Head:
    """What an origin has next: a request of `priority` that may go at `due`."""

    priority: int
    due: float


class Frontier(Protocol):
    """What is still to fetch and what has been seen.

    Used by one crawl at a time, from its event loop's thread. Each lease is settled once: by
    commit(), postpone() or give_up().

    One that `keeps` outlives the process, and takes data only: see `check`. What it is told
    between two waits of the calling task it keeps as a whole or not at all.
    """

    keeps: bool

    async def open(self) -> None:
        """Get ready. Raises UsageError if it can't be used."""

    def origins(self) -> Iterator[str]:
        """The origins with requests that were pending when it was opened; found as they are
        asked for.
        """

    def leave_out(self, *, deepest: int | None, allows: Callable[[str], bool]) -> None:
        """Before `origins` are asked for: what was pending, and is deeper than that or at an origin
        that `allows` refuses, isn't handed out by this process, and stays for a later one.
        """

    @property
    def left_out(self) -> Mapping[str, int]:
        """How many requests were left out, by reason: "depth", "off-domain"."""

    def check(self, request: Request) -> None:
        """Raises UsageError if the request holds what can't be kept."""

    def remember(self, kind: str, name: str, value: str | None) -> None:
        """Keep a note for later processes: `value` of that kind for an origin, say. None removes
        it. Belongs to the next commit. Doesn't wait.
        """

    def recall(self, kind: str, name: str) -> str | None:
        """A note that was kept, by this process or an earlier one. Doesn't wait."""

    def recall_all(self, kind: str) -> Mapping[str, str]:
        """All notes of a kind, by name. Doesn't wait."""

    @property
    def pending(self) -> int:
        """Requests that wait."""

    @property
    def leased(self) -> int:
        """Requests handed out and not settled."""

    async def add(self, requests: Sequence[Request]) -> Sequence[Request]:
        """File requests; return those that are new (or not `unique`). One with a `not_before_s`
        doesn't go before.
        """

    def head(self, origin: str, now: float) -> Head | None:
        """What the origin has next: the highest priority among those that may go now, else the
        earliest date. Doesn't wait.
        """

    def lease(self, origin: str, now: float) -> Lease | None:
        """Hand out the head, if it may go now. Doesn't wait."""

    def has_seen(self, url: str, session: str = "") -> bool:
        """Whether a GET of this canonical URL was ever filed in that session."""

    def unseen(self, requests: Sequence[Request]) -> Sequence[Request]:
        """Those that aren't known to be duplicates without looking further than memory. Cheap:
        most links of most pages are out after this. Doesn't wait.
        """

    async def commit(self, outcome: Outcome) -> Sequence[Request]:
        """Settle a lease with its outcome; return those of its requests that are new.

        Returns when it is kept for good. Raises JobError if that can't be done.
        """

    async def keep(self, lines: Sequence[bytes]) -> None:
        """Keep items that belong to no lease, if it `keeps` any: JSON, a line each.

        Returns when they are kept for good. Raises JobError if that can't be done.
        """

    async def postpone(self, lease: Lease, due: float) -> None:
        """Settle a lease by filing its request again, not to go before `due`."""

    async def give_up(self, lease: Lease) -> None:
        """Settle a lease whose request will not be fetched."""

    async def aclose(self) -> None:
        """Let go of files and threads. The frontier can't be used any more."""
