"""The engine: one crawl. Read `visit()` to know the framework."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import Any, Final

import anyio

from scrapekit import retry
from scrapekit.budget import ByteBudget
from scrapekit.clock import Clock
from scrapekit.errors import BadStatus, CrawlError, OutputError, Refused
from scrapekit.events import (
    CallbackRan,
    CrawlFinished,
    CrawlStarted,
    Event,
    Failed,
    ItemDropped,
    ItemsWritten,
    Observer,
    PageDone,
    PageFetched,
    RequestsDropped,
    RetryScheduled,
    StopReason,
)
from scrapekit.exports.base import Export
from scrapekit.failure import During, Failure, contained, failure
from scrapekit.fetcher import Fetcher, accepts, bad_status
from scrapekit.frontier.base import Frontier, Lease, Outcome
from scrapekit.guard import Scope
from scrapekit.lanes import Lanes
from scrapekit.lanes.meter import Cost
from scrapekit.lanes.processes import ProcessLane
from scrapekit.messages import Request, Response
from scrapekit.pipeline import Pipeline, Stage
from scrapekit.politeness import Politeness
from scrapekit.scheduler import Scheduler
from scrapekit.settings import Settings
from scrapekit.spider import (
    LaneName,
    Spider,
    SpiderRef,
    lane_of,
    lifespan_of,
    process_callbacks,
)
from scrapekit.starts import check as check_starts
from scrapekit.starts import starts
from scrapekit.transport.base import Transport

_PATIENCE_S: Final = 1.0
"""How long the end of a crawl waits for plain callbacks that were abandoned."""

HandOver = Callable[[Sequence[Any]], Awaitable[None]]
"""Gives the items of a page to whoever iterates over the crawl; waits while he is busy."""


class Engine:
    """Runs a spider's crawl, once. Every collaborator is handed in; api.py has the defaults.

    Everything here happens on the thread of the event loop.
    """

    def __init__(
        self,
        spider: Spider,
        settings: Settings,
        *,
        frontier: Frontier,
        transport: Transport,
        clock: Clock,
        pipeline: Sequence[Stage] = (),
        exports: Sequence[Export] = (),
        observers: Iterable[Observer] = (),
        hand_over: HandOver | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.spider = spider
        self.settings = settings
        self.reason: StopReason | None = None
        self._frontier = frontier
        self._transport = transport
        self._clock = clock
        self._exports = exports
        self._observers = list(observers)
        self._hand_over = hand_over
        self._executor = executor
        self._stages = pipeline
        self._callbacks: dict[str | None, tuple[Callable[..., Any], LaneName]] = {}
        self._items = 0
        self._workers = 0
        self._tasks = anyio.create_task_group()
        self._feeding = anyio.CancelScope()
        self._scope = Scope(spider.allowed_domains)
        self._budget = ByteBudget(settings.max_bytes_in_flight)
        self._politeness = Politeness(
            concurrency=settings.concurrency_per_origin, delay_s=settings.delay_s
        )
        self._scheduler = Scheduler(
            frontier,
            self._politeness,
            clock,
            grow=self._grow,
            backlog=max(64, 2 * settings.concurrency),
            max_pages=settings.max_pages,
        )
        self._fetcher = Fetcher(
            transport,
            self._scope,
            settings,
            clock,
            seen=frontier.has_seen,
            slow_down=self._scheduler.slow_down,
        )
        self._lanes: Lanes
        self._pipeline: Pipeline

    def __repr__(self) -> str:
        state = self.reason or "running"
        return f"<Engine {self.spider.name} {state} workers={self._workers} {self._scheduler!r}>"

    async def visit(self, lease: Lease) -> None:
        """One request, from its lease to its settlement.

        The outcome is committed whole or not at all: a visit that fails or is cut short leaves
        nothing behind but its retry or its failure.
        """
        request, response = lease.request, None
        with self._budget.account() as account:
            try:
                response = await self._fetcher.fetch(request, account)
                self._check_status(response)
                results = await self._call(request.callback, response)
            except Refused as refusal:
                self._drop(refusal.reason, 1, refusal.url)
                results = []
            except Exception as error:
                due = self._retry_at(lease, error, response)
                if due is not None:
                    return await self._scheduler.postpone(lease, due)
                results = await self._fail(lease, error, response)
            outcome = await self._outcome(lease, response, results)
            new = await self._scheduler.commit(outcome)
            self._report_outcome(outcome, new)
            await self._deliver(outcome)
        return None

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """The whole crawl. Calls `ready` once nothing can keep it from starting any more.

        Raises what opening its parts raises: UsageError, or what the spider's lifespan and the
        stages' __aenter__ raise. Whatever happens later is in the report instead.
        """
        async with self._parts():
            self._emit(
                CrawlStarted(
                    at=self._clock.now(),
                    spider=self.spider.name,
                    concurrency=self.settings.concurrency,
                )
            )
            ready()
            try:
                async with self._time_limit(), self._tasks:
                    self._tasks.start_soon(self._feed)
            except* Exception as group:
                self.reason = "failed"
                raise CrawlError("the crawl ended by an error of its own") from group
        self.reason = self.reason or self._natural_end()
        self._emit(CrawlFinished(at=self._clock.now(), reason=self.reason))

    def stop(self, reason: StopReason = "stopped") -> None:
        """Fetch nothing more; finish what is in flight, but cut it short after `drain_s`."""
        self._close(reason)
        self._clock.call_at(self._clock.now() + self.settings.drain_s, self.cancel)

    def cancel(self, reason: StopReason = "stopped") -> None:
        """Cut short what is in flight. What was committed stays, and is written out."""
        self._close(reason)
        self._tasks.cancel_scope.cancel()

    @property
    def pending(self) -> int:
        """Requests that wait."""
        return self._frontier.pending

    @property
    def in_flight(self) -> int:
        """Visits under way."""
        return self._frontier.leased

    def _close(self, reason: StopReason) -> None:
        self.reason = self.reason or reason
        self._scheduler.close()
        self._feeding.cancel()

    @asynccontextmanager
    async def _parts(self) -> AsyncIterator[None]:
        """All that a crawl needs, opened in an order that finds mistakes before anything runs."""
        async with AsyncExitStack() as stack:
            for export in self._exports:
                await export.check()
            for export in self._exports:
                await export.open()
                stack.push_async_exit(self._leaving("export", export.aclose))
            span = lifespan_of(self.spider)
            await span.__aenter__()
            end_span = partial(span.__aexit__, None, None, None)
            stack.push_async_exit(self._leaving("lifespan", end_span))
            check_starts(self.spider)
            self._scope.limit_to(self.spider.allowed_domains)
            self._lanes = Lanes(
                threads=self.settings.threads,
                make_processes=self._make_process_lane,
                note=self._note_cost,
            )
            if process_callbacks(type(self.spider)):
                SpiderRef.of(self.spider)
            stack.push_async_callback(self._lanes.aclose, _PATIENCE_S)
            stack.push_async_callback(self._frontier.aclose)
            await stack.enter_async_context(self._transport)
            stack.push_async_callback(self._fetcher.aclose)
            self._pipeline = Pipeline(self._stages, self._lanes.run_blocking)
            await self._pipeline.__aenter__()
            end_pipeline = partial(self._pipeline.__aexit__, None, None, None)
            stack.push_async_exit(self._leaving("pipeline", end_pipeline))
            yield

    def _make_process_lane(self) -> ProcessLane:
        source = SpiderRef.of(self.spider)
        processes = self.settings.processes or os.cpu_count() or 1
        return ProcessLane(source, processes, executor=self._executor)

    def _leaving(
        self, during: During, leave: Callable[[], Awaitable[Any]]
    ) -> Callable[..., Awaitable[bool]]:
        """An exit that puts what goes wrong into the report, where it can't hide another error."""

        async def exit_(*_: object) -> bool:
            try:
                await leave()
            except Exception as error:
                self._emit_failure(failure(error, during))
            return False

        return exit_

    @asynccontextmanager
    async def _time_limit(self) -> AsyncIterator[None]:
        limit_s = self.settings.max_seconds
        if limit_s is None:
            yield
            return
        end = self._clock.now() + limit_s
        timer = self._clock.call_at(end, lambda: self.stop("max_seconds"))
        try:
            yield
        finally:
            timer.cancel()

    async def _feed(self) -> None:
        """Pull start requests as there is room for them."""
        with self._feeding:
            try:
                with contained("start()"):
                    await self._pull_starts()
            except Exception as error:
                self._emit_failure(failure(error, "start", callback="start"))
            finally:
                self._scheduler.starts_finished()

    async def _pull_starts(self) -> None:
        async with aclosing(starts(self.spider, self._lanes.run_blocking)) as requests:
            async for request in requests:
                await self._submit_start(request)
                await self._scheduler.room()
                if self._scheduler.closed:
                    break

    async def _submit_start(self, request: Request) -> None:
        self._resolve(request.callback)
        self._scope.add_start(request.url)
        self._fetcher.add_start(request.url)
        if not self._scope.allows(request.url):
            self._drop("off-domain", 1, request.url)
        elif not await self._scheduler.add([request.at_depth(0)]):
            self._drop("duplicate", 1, request.url)
            # Of nothing but duplicates, as in a job that goes on, no other step would wait.
            await asyncio.sleep(0)

    def _grow(self, count: int) -> None:
        """Add workers, up to `concurrency`: the bound on visits at a time."""
        for _ in range(min(count, self.settings.concurrency - self._workers)):
            self._workers += 1
            self._tasks.start_soon(self._work)

    async def _work(self) -> None:
        try:
            while (lease := await self._scheduler.next()) is not None:
                await self.visit(lease)
        finally:
            self._workers -= 1
        if self._scheduler.out_of_pages:
            self._close("max_pages")

    def _check_status(self, response: Response) -> None:
        accepted = accepts(response.status, self.settings)
        self._emit(PageFetched(at=self._clock.now(), response=response, accepted=accepted))
        if not accepted:
            raise bad_status(response)

    def _resolve(self, name: str | None) -> tuple[Callable[..., Any], LaneName]:
        """A callback and its lane. Raises UnknownCallback."""
        known = self._callbacks.get(name)
        if known is None:
            callback = self.spider.callback(name)
            known = self._callbacks[name] = callback, lane_of(callback)
        return known

    async def _call(self, name: str | None, response: Response) -> list[Any]:
        """The results of a callback, whose requests name callbacks that exist."""
        callback, lane = self._resolve(name)
        return self._resolved(await self._lanes.run(lane, name, callback, response))

    def _resolved(self, results: list[Any]) -> list[Any]:
        for result in results:
            if type(result) is Request and result.callback not in self._callbacks:
                self._resolve(result.callback)
        return results

    def _retry_at(self, lease: Lease, error: Exception, response: Response | None) -> float | None:
        """When to fetch the page again, if that is what its failure calls for."""
        if _during(error, response) != "fetch":
            return None
        now, request = self._clock.now(), lease.request
        wished_s = retry.wished_delay_s(error, now)
        if wished_s:
            limit_s = self.settings.max_retry_delay_s
            self._scheduler.hold(lease.origin, now + min(wished_s, limit_s))
        due = retry.decide(
            error,
            method=request.method,
            tries=lease.tries,
            settings=self.settings,
            now=now,
            random=random.random,
        )
        if due is not None:
            self._emit(
                RetryScheduled(at=now, request=request, error=error, tries=lease.tries, due=due)
            )
        return due

    async def _fail(self, lease: Lease, error: Exception, response: Response | None) -> list[Any]:
        """Record a failure; what the spider's on_error makes of it are the visit's results."""
        request = lease.request
        during = _during(error, response)
        failed = failure(
            error,
            during,
            request=request,
            response=response,
            callback=None if during == "fetch" else request.callback or "parse",
            tries=lease.tries,
        )
        self._emit_failure(failed)
        on_error = self.spider.on_error
        if getattr(on_error, "__func__", None) is Spider.on_error:
            return []
        try:
            lane = lane_of(on_error)
            return self._resolved(await self._lanes.run(lane, "on_error", on_error, failed))
        except Exception as second:
            self._emit_failure(failure(second, "on_error", request=request, callback="on_error"))
            return []

    async def _outcome(
        self, lease: Lease, response: Response | None, results: list[Any]
    ) -> Outcome:
        requests: list[Request] = []
        items: list[Any] = []
        for result in results:
            if type(result) is Request:
                requests.append(result)
            else:
                items.append(result)
        if items:
            items = self._within_max_items(lease, await self._process(lease, items))
        aliases = (*response.redirects[1:], response.url) if response and response.redirects else ()
        return Outcome(lease, self._admit(lease, requests), items, aliases)

    async def _process(self, lease: Lease, items: list[Any]) -> list[Any]:
        """The items through the pipeline."""
        processed = await self._pipeline.run(items)
        for _, reason in processed.dropped:
            self._drop_items(lease, reason, 1)
        for _, error in processed.errors:
            request = lease.request
            name = request.callback or "parse"
            self._emit_failure(failure(error, "pipeline", request=request, callback=name))
        return processed.items

    def _within_max_items(self, lease: Lease, items: list[Any]) -> list[Any]:
        limit = self.settings.max_items
        if limit is None:
            return items
        kept = items[: limit - self._items]
        self._items += len(kept)
        if len(kept) < len(items):
            self._drop_items(lease, "max_items", len(items) - len(kept))
        if self._items >= limit:
            self._close("max_items")
        return kept

    def _admit(self, lease: Lease, requests: list[Request]) -> list[Request]:
        """Those requests that the crawl's rules let in."""
        if not requests:
            return requests
        depth = lease.request.depth + 1
        if self.settings.max_depth is not None and depth > self.settings.max_depth:
            self._drop("depth", len(requests), requests[0].url)
            return []
        admitted, outside = [], []
        for request in requests:
            if self._scope.allows(request.url):
                admitted.append(request.at_depth(depth))
            else:
                outside.append(request)
        if outside:
            self._drop("off-domain", len(outside), outside[0].url)
        return admitted

    def _report_outcome(self, outcome: Outcome, new: Sequence[Request]) -> None:
        request = outcome.lease.request
        self._fetcher.settled(request)
        duplicates = len(outcome.requests) - len(new)
        if duplicates:
            self._drop("duplicate", duplicates, request.url)
        self._emit(
            PageDone(
                at=self._clock.now(), request=request, items=len(outcome.items), requests=len(new)
            )
        )

    async def _deliver(self, outcome: Outcome) -> None:
        """Committed items to the exports and to whoever iterates; waits while they are busy."""
        if not outcome.items:
            return
        if self._exports:
            # What was committed is written, even if the visit is cut short right now.
            with anyio.CancelScope(shield=True):
                for export in self._exports:
                    await self._write(export, outcome)
        if self._hand_over is not None:
            await self._hand_over(outcome.items)

    async def _write(self, export: Export, outcome: Outcome) -> None:
        request = outcome.lease.request
        try:
            errors: Sequence[Exception] = await export.write(outcome.items)
        except OutputError as error:
            errors = [error]
            self._close("failed")
        name = request.callback or "parse"
        for problem in errors:
            self._emit_failure(failure(problem, "export", request=request, callback=name))
        self._emit(ItemsWritten(at=self._clock.now(), output=export.path, total=export.count))

    def _natural_end(self) -> StopReason:
        return "max_pages" if self._scheduler.out_of_pages and self.pending else "finished"

    def _note_cost(self, callback: str, lane: str, cost: Cost) -> None:
        self._emit(
            CallbackRan(
                at=self._clock.now(),
                callback=callback,
                lane=lane,
                wall_s=cost.wall_s,
                cpu_s=cost.cpu_s,
            )
        )

    def _drop(self, reason: str, count: int, example: str) -> None:
        self._emit(
            RequestsDropped(at=self._clock.now(), reason=reason, count=count, example=example)
        )

    def _drop_items(self, lease: Lease, reason: str, count: int) -> None:
        self._emit(
            ItemDropped(at=self._clock.now(), request=lease.request, reason=reason, count=count)
        )

    def _emit_failure(self, failed: Failure) -> None:
        self._emit(Failed(at=self._clock.now(), failure=failed))

    def _emit(self, event: Event) -> None:
        for observer in self._observers:
            observer(event)


def _during(error: Exception, response: Response | None) -> During:
    """Errors of the site count as such only until the callback has the page."""
    return "fetch" if response is None or isinstance(error, BadStatus) else "callback"
