"""The frontier's protocol, and what it is handed: leases and outcomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from scrapekit.failure import Failure
from scrapekit.messages import Request

if TYPE_CHECKING:
    # Its records are made of what is told here.
    from scrapekit.frontier.pages import Page


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
    lines: Sequence[bytes] = ()
    """The items as JSON, a line each, if the frontier `keeps` them; without those that have no
    JSON form.
    """
    failure: Failure | None = None
    """Why the request was given up, if it was."""
    troubles: int = 0
    """Errors of user code that cost items, not the page."""
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
