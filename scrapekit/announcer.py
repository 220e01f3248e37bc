"""Announcer: makes events of what happened and tells the observers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from scrapekit.clock import Clock
from scrapekit.errors import OutputError
from scrapekit.events import (
    CallbackRan,
    CrawlFinished,
    CrawlStarted,
    Event,
    Failed,
    ItemDropped,
    ItemsWritten,
    LoopStalled,
    Observer,
    PageDone,
    PageFetched,
    RequestsDropped,
    RetryScheduled,
    RobotsRead,
    StopReason,
)
from scrapekit.exports.base import Export
from scrapekit.failure import Failure, failure
from scrapekit.frontier.base import Outcome
from scrapekit.lanes.meter import Cost
from scrapekit.lanes.stalls import Stall
from scrapekit.messages import Request, Response

logger = logging.getLogger("scrapekit")


class Announcer:
    """Tells observers, in order. One that raises is reported and told nothing more."""

    def __init__(self, observers: Iterable[Observer], clock: Clock) -> None:
        self._observers = list(observers)
        self._clock = clock
        self._listeners: dict[type[Event], list[Observer]] = {}
        """Who wants to be told of events of a kind, found when the first is told."""

    def __repr__(self) -> str:
        return f"<Announcer observers={len(self._observers)}>"

    def emit(self, event: Event) -> None:
        """Tell every observer."""
        kind = type(event)
        listeners = self._listeners.get(kind)
        if listeners is None:
            listeners = self._listeners[kind] = [o for o in self._observers if _wants(o, kind)]
        for observer in listeners:
            try:
                observer(event)
            except Exception as error:
                self._dismiss(observer, error)

    def now(self) -> float:
        """The time of the crawl's clock, in seconds since the epoch."""
        return self._clock.now()

    def started(self, spider: str, concurrency: int) -> None:
        """Tell that all parts are open."""
        self.emit(CrawlStarted(at=self._clock.now(), spider=spider, concurrency=concurrency))

    def fetched(self, response: Response, *, accepted: bool) -> None:
        """Tell that a response arrived."""
        self.emit(PageFetched(at=self._clock.now(), response=response, accepted=accepted))

    def ran(self, callback: str, lane: str, cost: Cost) -> None:
        """Tell that a callback has ended."""
        self.emit(
            CallbackRan(
                at=self._clock.now(),
                callback=callback,
                lane=lane,
                wall_s=cost.wall_s,
                cpu_s=cost.cpu_s,
                blocked_s=cost.blocked_s,
            )
        )

    def done(self, outcome: Outcome, new: Sequence[Request]) -> None:
        """Tell that an outcome was committed, with the requests in it that were new."""
        request = outcome.lease.request
        duplicates = outcome.duplicates + len(outcome.requests) - len(new)
        if duplicates:
            self.dropped("duplicate", duplicates, request.url)
        self.emit(
            PageDone(
                at=self._clock.now(), request=request, items=len(outcome.items), requests=len(new)
            )
        )

    def dropped(self, reason: str, count: int, example: str) -> None:
        """Tell that requests will not be made."""
        self.emit(
            RequestsDropped(at=self._clock.now(), reason=reason, count=count, example=example)
        )

    def robots_read(self, origin: str, how: str, delay_s: float, sitemaps: Sequence[str]) -> None:
        """Tell that the robots.txt of an origin is known."""
        self.emit(
            RobotsRead(
                at=self._clock.now(),
                origin=origin,
                how=how,
                delay_s=delay_s,
                sitemaps=tuple(sitemaps),
            )
        )

    def retried(self, request: Request, tries: int, error: Exception, due: float) -> None:
        """Tell that a request will be made again."""
        self.emit(
            RetryScheduled(
                at=self._clock.now(),
                request=request,
                error=error,
                tries=tries,
                due=due,
            )
        )

    def failed(self, failed: Failure) -> None:
        """Tell of a failure for good. A reader that hung up is none."""
        if isinstance(failed.error, OutputError) and failed.error.broken_pipe:
            return
        self.emit(Failed(at=self._clock.now(), failure=failed))

    def items_dropped(self, request: Request, reason: str, count: int) -> None:
        """Tell that items were dropped on purpose."""
        self.emit(ItemDropped(at=self._clock.now(), request=request, reason=reason, count=count))

    def written(self, export: Export) -> None:
        """Tell what an export has written by now."""
        self.emit(ItemsWritten(at=self._clock.now(), output=export.path, total=export.count))

    def stalled(self, stall: Stall) -> None:
        """Tell that the loop was blocked."""
        self.emit(
            LoopStalled(
                at=self._clock.now(),
                whose=stall.whose,
                callback=stall.callback,
                where=stall.where,
                statement=stall.statement,
                blocked_s=stall.blocked_s,
                advice=stall.advice,
            )
        )

    def finished(self, reason: StopReason) -> None:
        """Tell that it is all over."""
        self.emit(CrawlFinished(at=self._clock.now(), reason=reason))

    def _dismiss(self, observer: Observer, error: Exception) -> None:
        self._observers = [known for known in self._observers if known is not observer]
        self._listeners = {}
        logger.error("the observer %r raised, and is told nothing more", observer)
        self.failed(failure(error, "observer"))


def _wants(observer: Observer, kind: type[Event]) -> bool:
    kinds = getattr(observer, "kinds", None)
    return kinds is None or kind in kinds
