"""Events: what happened in a crawl, told to whoever listens.

An event is a frozen record. Observers are called on the event loop, in order, and must not
block; an observer that raises is reported once and told nothing more.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from scrapekit.failure import Failure
from scrapekit.messages import Request, Response

StopReason = Literal[
    "finished", "max_pages", "max_items", "max_seconds", "stopped", "interrupted", "failed"
]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The base of all events."""

    at: float = 0.0
    """When, in seconds since the epoch."""


class CrawlStarted(Event, frozen=True, kw_only=True):
    """All parts are open; fetching begins."""

    spider: str
    concurrency: int


class PageFetched(Event, frozen=True, kw_only=True):
    """A response arrived, after any redirects; its callback hasn't run yet."""

    response: Response
    accepted: bool
    """Whether it goes to its callback: status 2xx, or one of `accept_statuses`, and no sitemap."""


class PageDone(Event, frozen=True, kw_only=True):
    """A visit's outcome was committed."""

    request: Request
    items: int
    requests: int
    """New requests, after duplicates and the like were dropped."""


class CallbackRan(Event, frozen=True, kw_only=True):
    """A callback has finished, with or without an error. Times are in seconds."""

    callback: str
    lane: str
    wall_s: float
    cpu_s: float
    blocked_s: float = 0.0
    """For how long it kept the event loop from other work, at most at a time."""


class RequestsDropped(Event, frozen=True, kw_only=True):
    """Requests that will not be fetched, for one of the crawl's rules."""

    reason: str
    count: int
    example: str
    """The URL of the first of them."""


class RobotsRead(Event, frozen=True, kw_only=True):
    """The robots.txt of an origin is known; its pages can be fetched now, as far as it allows."""

    origin: str
    how: str
    """Its status, or why it counts as missing."""
    delay_s: float
    """The Crawl-delay; 0.0 if there is none."""
    sitemaps: tuple[str, ...]
    """The URLs of its `Sitemap:` lines."""


class RetryScheduled(Event, frozen=True, kw_only=True):
    """A page could not be fetched and will be tried again at `due` (seconds since the epoch)."""

    request: Request
    error: BaseException
    tries: int
    due: float


class Failed(Event, frozen=True, kw_only=True):
    """Something failed for good."""

    failure: Failure


class ItemDropped(Event, frozen=True, kw_only=True):
    """A pipeline stage dropped an item on purpose."""

    request: Request
    reason: str
    count: int = 1


class ItemsWritten(Event, frozen=True, kw_only=True):
    """An export took items."""

    output: str
    total: int
    """All that it has written by now."""


class LoopStalled(Event, frozen=True, kw_only=True):
    """The event loop was blocked for longer than `stall_warning_s`."""

    whose: str
    """Whose code blocked it: see `scrapekit.lanes.stalls.Stall`."""
    callback: str | None
    where: str
    statement: str
    blocked_s: float
    advice: str


class CrawlFinished(Event, frozen=True, kw_only=True):
    """The last event: all parts are closed, all items written."""

    reason: StopReason


class Observer(Protocol):
    """Whoever listens: to all events, or to those of the types in its attribute `kinds`, if it has
    one.
    """

    def __call__(self, event: Event, /) -> None:
        """Take note of an event. Runs on the event loop: must not block."""


class Recorder:
    """The observer for tests: keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event, /) -> None:
        self.events.append(event)

    def __repr__(self) -> str:
        return f"<Recorder events={len(self.events)}>"
