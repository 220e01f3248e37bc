"""Stats: the observer that counts and times, and makes the report of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from scrapekit.advice import advise
from scrapekit.errors import ItemError
from scrapekit.events import (
    CallbackRan,
    CrawlFinished,
    CrawlStarted,
    Event,
    Failed,
    ItemDropped,
    ItemsWritten,
    LoopStalled,
    PageDone,
    PageFetched,
    RequestsDropped,
    RetryScheduled,
)
from scrapekit.failure import Failure, error_name
from scrapekit.report import CallbackCost, ErrorGroup, Report, StallGroup

MAX_KINDS = 200
"""Reasons and groups of errors that are told apart; further ones are counted together, because
their texts may come from the sites."""

MAX_TEXT = 20_000
"""Characters that are kept of a message and of a traceback: either may have a page in it."""


class Stats:
    """Counts what it is told; `report()` may be asked at any time."""

    def __init__(self) -> None:
        self._report = Report()
        self._statuses: Counter[int] = Counter()
        self._dropped: Counter[str] = Counter()
        self._items_dropped: Counter[str] = Counter()
        self._exports: Counter[str] = Counter()
        self._errors: dict[tuple[str, ...], ErrorGroup] = {}
        self._costs: dict[tuple[str, str], CallbackCost] = {}
        self._stalls: dict[tuple[str, str], StallGroup] = {}

    def __repr__(self) -> str:
        return f"<Stats pages={self._report.pages} items={self._report.items}>"

    def __call__(self, event: Event, /) -> None:
        count = _COUNTS.get(type(event))
        if count is not None:
            count(self, event)

    def report(self, now: float) -> Report:
        """The state at `now`, seconds since the epoch; independent of what comes later."""
        report = msgspec.structs.replace(
            self._report,
            statuses=dict(sorted(self._statuses.items())),
            dropped=dict(self._dropped.most_common()),
            items_dropped=dict(self._items_dropped.most_common()),
            exports=dict(self._exports),
            errors=[msgspec.structs.replace(g) for g in _by_count(self._errors.values())],
            callbacks=[msgspec.structs.replace(cost) for cost in self._costs.values()],
            stalls=[msgspec.structs.replace(stall) for stall in self._stalls.values()],
        )
        if report.started_at and not report.duration_s:
            report.duration_s = now - report.started_at
        report.advice = advise(report.callbacks, report.duration_s)
        return report

    def _started(self, event: CrawlStarted) -> None:
        self._report.spider = event.spider
        self._report.started_at = event.at

    def _fetched(self, event: PageFetched) -> None:
        self._statuses[event.response.status] += 1
        self._report.bytes += len(event.response.body)
        self._report.pages += event.accepted

    def _done(self, event: PageDone) -> None:
        self._report.items += event.items

    def _ran(self, event: CallbackRan) -> None:
        cost = self._costs.get((event.callback, event.lane))
        if cost is None:
            cost = CallbackCost(callback=event.callback, lane=event.lane)
            self._costs[event.callback, event.lane] = cost
        cost.calls += 1
        cost.wall_s += event.wall_s
        cost.cpu_s += event.cpu_s
        cost.blocked_s = max(cost.blocked_s, event.blocked_s)

    def _stalled(self, event: LoopStalled) -> None:
        key = event.callback or "", event.where
        stall = self._stalls.get(key)
        if stall is None:
            if len(self._stalls) >= MAX_KINDS:
                return
            stall = self._stalls[key] = StallGroup(
                whose=event.whose,
                callback=event.callback,
                where=event.where,
                statement=event.statement,
                advice=event.advice,
            )
        stall.count += 1
        stall.total_s += event.blocked_s
        stall.longest_s = max(stall.longest_s, event.blocked_s)

    def _requests_dropped(self, event: RequestsDropped) -> None:
        self._dropped[_bounded(event.reason, self._dropped)] += event.count

    def _retried(self, event: RetryScheduled) -> None:
        self._report.retries += 1

    def _item_dropped(self, event: ItemDropped) -> None:
        self._items_dropped[_bounded(event.reason, self._items_dropped)] += event.count

    def _written(self, event: ItemsWritten) -> None:
        self._exports[event.output] = event.total

    def _failed(self, event: Failed) -> None:
        group = self._group_of(event.failure)
        group.count += 1

    def _group_of(self, failure: Failure) -> ErrorGroup:
        key = _kind(failure)
        others = key not in self._errors and len(self._errors) >= MAX_KINDS
        if others:
            # Told apart by whose fault they are, which decides whether the crawl is ok.
            key = ("others", str(failure.of_user_code))
        group = self._errors.get(key)
        if group is None:
            group = self._errors[key] = _group(failure)
            group.error += " and others" if others else ""
        return group

    def _finished(self, event: CrawlFinished) -> None:
        self._report.reason = event.reason
        self._report.duration_s = event.at - self._report.started_at


_COUNTS: dict[type[Event], Callable[[Stats, Any], None]] = {
    CrawlStarted: Stats._started,
    PageFetched: Stats._fetched,
    PageDone: Stats._done,
    CallbackRan: Stats._ran,
    RequestsDropped: Stats._requests_dropped,
    RetryScheduled: Stats._retried,
    ItemDropped: Stats._item_dropped,
    ItemsWritten: Stats._written,
    LoopStalled: Stats._stalled,
    Failed: Stats._failed,
    CrawlFinished: Stats._finished,
}


def _by_count(groups: Iterable[ErrorGroup]) -> list[ErrorGroup]:
    return sorted(groups, key=lambda group: -group.count)


def _bounded(reason: str, counts: Counter[str]) -> str:
    return reason if reason in counts or len(counts) < MAX_KINDS else "others"


def _kind(failure: Failure) -> tuple[str, ...]:
    return (
        error_name(failure.error),
        failure.during,
        failure.callback or "",
        failure.where,
        # Each output and field of an item is a trouble of its own.
        str(failure.error) if isinstance(failure.error, ItemError) else "",
    )


def _group(failure: Failure) -> ErrorGroup:
    return ErrorGroup(
        error=error_name(failure.error),
        during=failure.during,
        callback=failure.callback,
        where=failure.where,
        message=failure.message[:MAX_TEXT],
        example=failure.url,
        traceback=failure.traceback[:MAX_TEXT],
        of_user_code=failure.of_user_code,
    )
