"""The engine: one crawl. Read `visit()` to know the framework."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final

import anyio

from scrapekit.advice import usable_cpus
from scrapekit.announcer import Announcer
from scrapekit.begun import Errand
from scrapekit.budget import Account, ByteBudget
from scrapekit.callbacks import Callbacks
from scrapekit.clock import Clock, Timer
from scrapekit.cutting import Cut
from scrapekit.delivery import Delivery, HandOver
from scrapekit.errands import Errands
from scrapekit.errors import (
    CrawlError,
    JobError,
    OutputError,
    Refused,
    SitemapError,
)
from scrapekit.events import Observer, StopReason
from scrapekit.exports.base import Export
from scrapekit.failing import Failing
from scrapekit.failure import During, contained, failure
from scrapekit.feeding import Feed
from scrapekit.fetcher import Fetcher, accepts, bad_status
from scrapekit.frontier.base import Frontier, Hop, Lease, Outcome
from scrapekit.guard import Scope
from scrapekit.jobs.recrawl import Recrawl
from scrapekit.jobs.since import Since, Unchanged
from scrapekit.lanes import Lanes
from scrapekit.lanes.given import make_executor
from scrapekit.lanes.processes import ProcessLane
from scrapekit.lanes.stalls import StallWatch
from scrapekit.learned import Learned
from scrapekit.limits import LimitsTable
from scrapekit.messages import Request, Response
from scrapekit.outcomes import Outcomes
from scrapekit.pipeline import Pipeline, Stage
from scrapekit.politeness import Politeness
from scrapekit.report import OriginLimit
from scrapekit.retries import Retries
from scrapekit.robots import RobotsBook
from scrapekit.scheduler import Scheduler
from scrapekit.settings import Settings
from scrapekit.sitemapfeed import SitemapFeed, each_callback, most_ahead
from scrapekit.spider import Spider, SpiderRef, lifespan_of, process_callbacks
from scrapekit.standing import SharedLimits
from scrapekit.starts import check as check_starts
from scrapekit.stats import MAX_KINDS
from scrapekit.transport.base import Transport
from scrapekit.traps import Traps

_PATIENCE_S: Final = 1.0
"""How long the end of a crawl waits for user code that was cut short."""


class Engine:
    """Runs a spider's crawl, once. Every collaborator is handed in; api.py has the defaults.

    To be made and used on the thread of the event loop.
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
        shared_limits: SharedLimits | None = None,
        since: Since | None = None,
    ) -> None:
        self.spider = spider
        self.settings = settings
        self.reason: StopReason | None = None
        self._frontier = frontier
        self._transport = transport
        self._clock = clock
        given = settings.executor
        self._executor = executor or (None if isinstance(given, str) else given)
        self._named: Executor | None = None
        self._recrawl = Recrawl(frontier, since)
        self._workers = 0
        self._sources = 0
        self._stalls: StallWatch | None = None
        self._shared_limits = shared_limits
        self._broken_job = False
        self._host: asyncio.Task[Any] | None = None
        self.closing = False
        """Whether the crawling is over; what was opened for it is being closed, or is closed."""
        self._tasks = anyio.create_task_group()
        self._time_limit: Timer | None = None
        self._drain_limit: Timer | None = None
        self._feeding = Cut()
        self._visiting = Cut()
        self._tell = Announcer(observers, clock)
        self._scope = Scope(spider.allowed_domains)
        self._budget = ByteBudget(settings.max_bytes_in_flight)
        self._robots = RobotsBook(settings.user_agent)
        self._politeness = Politeness(LimitsTable(settings).of, shared=shared_limits)
        self._scheduler = Scheduler(
            frontier,
            self._politeness,
            clock,
            grow=self._grow,
            backlog=max(64, 2 * settings.concurrency),
            max_pages=settings.max_pages,
            unknown=self._is_unknown if settings.obey_robots else None,
        )
        self._traps = Traps(settings, clock.now) if settings.traps else None
        self._retries = Retries(settings, clock, self._tell, self._politeness.waits_until)
        self._fetcher = Fetcher(
            transport,
            self._scope,
            settings,
            clock,
            seen=frontier.has_seen,
            listener=self._politeness,
            hold=self._scheduler.hold,
            robots=self._robots if settings.obey_robots else None,
            traps=self._traps,
            lag_s=lambda: self._stalls.lag_s() if self._stalls else 0.0,
            conditions=self._recrawl.conditions,
        )
        self.learned = Learned(
            frontier, self._politeness, self._robots, self._fetcher.cookies, clock
        )
        self._lanes = Lanes(
            threads=settings.threads,
            make_processes=self._make_processes,
            note=self._tell.ran,
            count=spider.stats.merge,
            timeout_s=settings.callback_timeout_s,
            max_parse_s=settings.max_parse_s,
        )
        self._errands = Errands(
            self._fetcher,
            self._scheduler,
            self._retries,
            self._robots,
            settings,
            clock,
            self._tell,
            self._lanes.run_blocking,
            self.learned.keep_origin,
        )
        self._callbacks = Callbacks(spider, self._lanes, frontier.check if frontier.keeps else None)
        self._failing = Failing(
            settings, self._retries, self._callbacks, self._lanes.run_blocking, self._tell
        )
        ahead = most_ahead(settings.max_bytes_in_flight, settings.max_body_bytes)
        left_out = self._recrawl.left_out if since is not None else None
        self._sitemaps = SitemapFeed(spider, self._sitemap_failed, ahead, left_out)
        self._feed = Feed(
            spider,
            self._sitemaps,
            self._lanes.run_blocking,
            frontier=frontier,
            scheduler=self._scheduler,
            callbacks=self._callbacks,
            scope=self._scope,
            fetcher=self._fetcher,
            clock=clock,
            announcer=self._tell,
            left_out=self._recrawl.left_out,
            max_depth=settings.max_depth,
            max_listed=settings.max_url_length if settings.traps else None,
        )
        self._pipeline = Pipeline(pipeline, self._lanes.run_blocking)
        self._outcomes = Outcomes(
            settings,
            self._scope,
            self._pipeline,
            self._tell,
            self._fetcher.reach,
            unseen=frontier.unseen,
            left_out=self._recrawl.left_out,
            keep_items=frontier.keeps or since is not None,
        )
        self._delivery = Delivery(exports, hand_over, self._tell, self._export_broke)

    def __repr__(self) -> str:
        state = self.reason or "running"
        return f"<Engine {self.spider.name} {state} workers={self._workers} {self._scheduler!r}>"

    async def visit(self, lease: Lease) -> None:
        """One request, from its lease to its settlement.

        The outcome is committed whole or not at all: a visit that fails or is cut short leaves
        nothing behind but its retry or its failure.
        """
        request, response, failed, kept, is_page = lease.request, None, None, None, False
        with self._budget.account() as account:
            try:
                answer = await self._fetcher.fetch(lease, account)
                if isinstance(answer, Hop):
                    await self._forward(lease, answer)
                    return
                response = answer
                self._fetcher.landed(lease, response)
                kept = self._recrawl.unchanged(request, response)
                is_page = self._check_status(response, is_known=kept is not None)
                self._scheduler.arrived(lease)
                results = await self._results(request, response, kept, account)
            except Refused as refusal:
                self._tell.dropped(refusal.reason, 1, refusal.url)
                self._recrawl.refused(request, refusal)
                results = []
            except Exception as error:
                due = self._failing.retry_at(lease, error, response)
                if due is not None:
                    await self._scheduler.postpone(lease, due)
                    return
                failed, results = await self._failing.give_up(lease, error, response)
                results = [*results, *self._recrawl.failed(request, failed)]
            if self._outcomes.enough and self._frontier.keeps:
                await self._leave(lease)
                return
            outcome = await self._outcomes.make(lease, response, results, failed)
            if not self._sitemaps.takes(request):
                self._recrawl.complete(outcome, response, results, kept)
            await self._commit(outcome, is_page=is_page)
            if self._outcomes.enough:
                self.stop("max_items")

    async def _commit(self, outcome: Outcome, *, is_page: bool) -> None:
        """See an outcome through, from where it is kept to where it is told and written."""
        lease = outcome.lease
        async with self._visiting.held_off():
            self.learned.keep_cookies()
            outcome.requests = self._not_landed(outcome)
            new = await self._scheduler.commit(outcome, is_page=is_page)
            self._tell.done(outcome, new)
            for waiting in self._fetcher.claims.settled(lease):
                self._scheduler.unpark(waiting)
            self._sitemaps.settled(lease.request)
            await self._delivery.deliver(outcome)

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """The whole crawl. Calls `ready` once nothing can keep it from starting any more.

        Raises what opening its parts raises: UsageError, or what the spider's lifespan and the
        stages' __aenter__ raise. Whatever happens later is in the report instead, but for a fault
        of scrapekit's own: CrawlError.
        """
        try:
            async with self._parts():
                self._tell.started(self.spider.name, self.settings.concurrency)
                ready()
                broken = await self._crawl()
        except asyncio.CancelledError:
            self.reason = self.reason or "stopped"
            raise
        finally:
            if self.closing:
                self._tell.finished(self.reason or "failed")
        if broken is not None:
            what = f"{type(broken).__name__}: {broken}"
            raise CrawlError(f"the crawl ended by an error of its own: {what}") from broken

    async def _crawl(self) -> Exception | None:
        """Run until nothing is left to do; what broke the crawl, if anything did."""
        broken: Exception | None = None
        self._host = asyncio.current_task()
        try:
            self._limit_time()
            async with self._tasks:
                self._feed_by(self._feed_starts)
            await self._tell_gone()
        except ExceptionGroup as group:
            self.reason = "failed"
            broken = group.exceptions[0] if len(group.exceptions) == 1 else group
        finally:
            self.closing = True
            self._scheduler.close()
            self._politeness.leave()
            for timer in (self._time_limit, self._drain_limit):
                if timer is not None:
                    timer.cancel()
        self.reason = self.reason or "finished"
        return broken

    async def _tell_gone(self) -> None:
        """After the last page: what an earlier job had, and this crawl hasn't met again."""
        if self.reason is not None:
            return
        if self._frontier.left_out:
            self._recrawl.incomplete("the job has requests that were left out")
        try:
            async for outcome in self._recrawl.gone():
                await self._delivery.deliver(outcome)
        except JobError as error:
            self._job_broke(error)

    def stop(self, reason: StopReason = "stopped") -> None:
        """Fetch nothing more; finish what is in flight, but cut it short after `drain_s`."""
        self._close(reason)
        if self._drain_limit is None and not self.closing:
            end = self._clock.now() + self.settings.drain_s
            self._drain_limit = self._clock.call_at(end, self._drained)

    def cancel(self, reason: StopReason = "stopped") -> None:
        """Cut short what is in flight. What was committed stays, and is written out.

        Code that is cut short may clean up; a second call cuts that short as well.
        """
        self._close(reason)
        self._visiting.make()
        self._delivery.hurry(_PATIENCE_S)

    @property
    def pending(self) -> int:
        """Requests that wait."""
        return self._frontier.pending + self._scheduler.hops

    @property
    def unfinished(self) -> int:
        """Requests that wait or are under way."""
        return self._frontier.pending + self._frontier.leased

    @property
    def in_flight(self) -> int:
        """Visits under way."""
        return self._frontier.leased - self._scheduler.hops

    def origin_limits(self) -> list[OriginLimit]:
        """How the limits of the origins ended up, those asked most often first."""
        return self._politeness.report(MAX_KINDS)

    def _close(self, reason: StopReason) -> None:
        self.reason = self.reason or reason
        if not self._scheduler.closed:
            self._scheduler.close()
            self._feeding.make()

    def _drained(self) -> None:
        if not self._visiting.made:
            self.cancel()

    @asynccontextmanager
    async def _parts(self) -> AsyncIterator[None]:
        """All that a crawl needs, opened in an order that finds mistakes before harm is done.

        The exports come last: what they overwrite is gone only if the crawl can start.
        """
        async with AsyncExitStack() as stack:
            if self._shared_limits is not None:
                self._shared_limits.join()
            if process_callbacks(type(self.spider)):
                SpiderRef.of(self.spider)
            stack.push_async_callback(self._frontier.aclose)
            await self._frontier.open()
            stack.callback(self._recrawl.close)
            await self._recrawl.open()
            await self._delivery.check()
            span = lifespan_of(self.spider)
            with contained("lifespan()"):
                await span.__aenter__()
            stack.push_async_exit(
                self._leaving("lifespan", partial(span.__aexit__, None, None, None))
            )
            check_starts(self.spider)
            self._sitemaps.prepare()
            for name in each_callback(self._sitemaps.rules):
                self._callbacks.resolve(name)
            self._scope.limit_to(self.spider.allowed_domains)
            stack.push_async_callback(self._lanes.aclose, _PATIENCE_S)
            stack.push_async_callback(self._end_executor)
            if process_callbacks(type(self.spider)):
                await self._make_executor()
            stack.callback(self._fetcher.close)
            stack.enter_context(self._stall_watch())
            await stack.enter_async_context(self._transport)
            await self._pipeline.__aenter__()
            stack.push_async_exit(
                self._leaving("pipeline", partial(self._pipeline.__aexit__, None, None, None))
            )
            stack.push_async_callback(self._delivery.aclose)
            await self._delivery.open()
            yield

    async def _make_executor(self) -> None:
        """Make the executor that the settings name, if they do; that one is ours to shut down."""
        named = self.settings.executor
        if self._executor is None and isinstance(named, str):
            self._executor = self._named = await self._lanes.run_blocking(make_executor, named)

    async def _end_executor(self) -> None:
        if self._named is not None:
            # Nothing is expected of it any more: what still runs there was given up.
            end = partial(self._named.shutdown, wait=False, cancel_futures=True)
            await self._lanes.run_blocking(end)

    def _leaving(
        self, during: During, leave: Callable[[], Awaitable[Any]]
    ) -> Callable[..., Awaitable[bool]]:
        """An exit that puts what goes wrong into the report, where it can't hide another error."""

        async def exit_(*_: object) -> bool:
            try:
                with contained(f"the end of the {during}"):
                    await leave()
            except Exception as error:
                self._tell.failed(failure(error, during))
            return False

        return exit_

    def _limit_time(self) -> None:
        if self.settings.max_seconds is not None:
            end = self._clock.now() + self.settings.max_seconds
            self._time_limit = self._clock.call_at(end, lambda: self.stop("max_seconds"))

    @contextmanager
    def _stall_watch(self) -> Iterator[None]:
        threshold_s = self.settings.stall_warning_s
        watch = self._stalls = StallWatch(
            threshold_s, self._tell.stalled, threads_busy=lambda: self._lanes.threads_busy
        )
        # Without a threshold nobody is warned, but how late the loop is counts all the same: a
        # site isn't slow because we are.
        if threshold_s:
            self._lanes.watch = watch
        watch.start()
        try:
            yield
        finally:
            watch.close()

    async def _make_processes(self) -> ProcessLane:
        source = SpiderRef.of(self.spider)
        await self._make_executor()
        processes = self.settings.processes or usable_cpus()
        return ProcessLane(
            source,
            processes,
            executor=self._executor,
            timeout_s=self.settings.callback_timeout_s,
            memory_bytes=self.settings.callback_memory_bytes,
            run_blocking=self._lanes.run_blocking,
        )

    async def _feed_starts(self) -> None:
        self.learned.restore_cookies()
        await self._feed.resume()
        if self._sitemaps.roots:
            self._feed_by(self._feed.run_sitemaps)
        await self._feed.run()

    def _feed_by(self, source: Callable[[], Awaitable[None]]) -> None:
        """Run what files start requests. The crawl isn't over before all of that is."""
        self._sources += 1
        self._tasks.start_soon(self._feed_from, source)

    async def _feed_from(self, source: Callable[[], Awaitable[None]]) -> None:
        with self._feeding.task(), self._no_strays():
            try:
                with contained("start()"):
                    if not self._scheduler.closed:
                        await source()
            except JobError as error:
                self._job_broke(error)
            except Exception as error:
                self._tell.failed(failure(error, "start", callback="start"))
                self._recrawl.incomplete("start() failed")
            finally:
                self._sources -= 1
                if not self._sources:
                    self._scheduler.starts_finished()

    def _grow(self, count: int) -> None:
        """Add workers, up to `concurrency`: the bound on visits at a time."""
        for _ in range(min(count, self.settings.concurrency - self._workers)):
            self._workers += 1
            self._tasks.start_soon(self._work)

    @contextmanager
    def _no_strays(self) -> Iterator[None]:
        """Let no cancellation that isn't ours end a task in silence, and with it the crawl."""
        try:
            yield
        except asyncio.CancelledError as exc:
            ours = self._scheduler.closed or self._tasks.cancel_scope.cancel_called
            if ours or (self._host is not None and self._host.cancelling()):
                raise
            raise CrawlError("a task of the crawl was cancelled from elsewhere") from exc

    async def _work(self) -> None:
        try:
            with self._visiting.task(), self._no_strays():
                while (turn := await self._scheduler.next()) is not None:
                    try:
                        await self._take(turn)
                    finally:
                        self._scheduler.abandon(turn)
        except JobError as error:
            self._job_broke(error)
        finally:
            self._workers -= 1
            self._lanes.let_in()
        if self._scheduler.out_of_pages:
            # Sources that are still open may have more.
            self._close("max_pages" if self.pending or self._sources else "finished")

    async def _take(self, turn: Lease | Errand) -> None:
        if isinstance(turn, Errand):
            await self._errands.run(turn)
            return
        await self.visit(turn)
        if not self._scheduler.closed:
            await self._lanes.room()

    async def _results(
        self, request: Request, response: Response, kept: Unchanged | None, account: Account
    ) -> list[Any]:
        """What the callback makes of a page, or has made of it when it was the same."""
        if kept is not None:
            reach = response.reach
            return [r.at_depth(r.depth, min(r.reach, reach)) for r in kept.requests]
        if self._sitemaps.takes(request):
            self._sitemaps.take(response, account)
            return []
        return await self._callbacks.call(request.callback, response)

    async def _forward(self, lease: Lease, hop: Hop) -> None:
        if not self._fetcher.claims.must_wait(lease, hop):
            await self._scheduler.forward(lease, hop)
        elif await self._scheduler.park(lease, hop):
            self._fetcher.claims.wait(lease)

    def _not_landed(self, outcome: Outcome) -> Sequence[Request]:
        """Without those whose pages are with their callbacks already, by way of a redirect."""
        if not self._fetcher.claims.any_landed:
            return outcome.requests
        is_landed = self._fetcher.claims.is_landed
        landed = [request for request in outcome.requests if is_landed(request)]
        if not landed:
            return outcome.requests
        self._tell.dropped("duplicate", len(landed), outcome.lease.request.url)
        return [request for request in outcome.requests if not is_landed(request)]

    def _sitemap_failed(self, request: Request, error: SitemapError) -> None:
        self._tell.failed(failure(error, "fetch", request=request))
        self._recrawl.incomplete("a sitemap could not be read to its end")

    def _check_status(self, response: Response, *, is_known: bool = False) -> bool:
        """Whether it is a page, and no sitemap. Raises BadStatus."""
        accepted = is_known or accepts(response.status, self.settings)
        is_page = accepted and not self._sitemaps.takes(response.request)
        self._tell.fetched(response, accepted=is_page)
        if not accepted:
            raise bad_status(response)
        self._retries.came(response)
        led_to = response.request.depth or self._sitemaps.roots
        if self._traps is not None and led_to and not is_known and response.request.unique:
            self._traps.came(response.url, response.body)
        return is_page

    def _is_unknown(self, origin: str, reach: int) -> bool:
        return self.learned.is_unknown(origin, reach)

    async def _leave(self, lease: Lease) -> None:
        """Put back a page that came after the last item: a later run of the job has it."""
        lease.tries -= 1
        await self._scheduler.postpone(lease, self._clock.now())

    def _job_broke(self, error: JobError) -> None:
        """The job can't be written any more: what is in flight can't be kept, so stop."""
        if not self._broken_job:
            self._broken_job = True
            self._tell.failed(failure(error, "job"))
        self._close("failed")
        self.reason = "failed"

    def _export_broke(self, error: OutputError) -> None:
        if error.broken_pipe:
            # Whoever reads has seen enough, so what is in flight is wanted no more.
            if not self.closing:
                self.cancel()
            return
        self.stop("failed")
        if self.closing and self.reason not in ("stopped", "interrupted"):
            # It shows only now that the output is completed.
            self.reason = "failed"
