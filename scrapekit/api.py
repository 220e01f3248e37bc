"""The doors: crawl() inside a program, collect() for a list, run() for a script."""

from __future__ import annotations

import asyncio
import multiprocessing.process
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
import msgspec

from scrapekit import config, exports
from scrapekit.clock import Clock, SystemClock
from scrapekit.cookies.jars import Jars
from scrapekit.cookies.jars import State as Cookies
from scrapekit.delivery import HandOver
from scrapekit.engine import Engine
from scrapekit.errors import CrawlFailed, MissingExtra, SpiderError, UsageError
from scrapekit.events import Observer, StopReason
from scrapekit.exports import Mode
from scrapekit.frontier.base import Frontier
from scrapekit.frontier.memory import MemoryFrontier
from scrapekit.guard import public_headers
from scrapekit.importing import being_imported
from scrapekit.jobs import Job, Since, job_exports
from scrapekit.logs import LogObserver, logger
from scrapekit.pipeline import Stage
from scrapekit.report import CacheCounts, ChangeCounts, JobCounts, Report
from scrapekit.settings import Settings
from scrapekit.shelf import Shelf
from scrapekit.signals import interrupts
from scrapekit.spider import Spider
from scrapekit.standing import SharedLimits
from scrapekit.stats import Stats
from scrapekit.transport.base import Transport

if TYPE_CHECKING:
    from scrapekit.transport.cache import CachingTransport

Output = str | os.PathLike[str]
SomeSettings = Settings | Mapping[str, Any]

_PAGES_AHEAD: Final = 16
"""How many pages' items wait for whoever iterates before fetching slows down."""


class Crawl:
    """A crawl inside a program: made by crawl(), used as an async context manager.

    Iterating gives the items, each after its page was committed. Leaving the block after a
    `break` or an exception stops the crawl at once; leaving it without having asked for an item
    waits for its end. Exceptions of the block come out as they were raised.

    Touches no signal handler, no logging configuration, no event-loop policy and no global state;
    many crawls can share a loop.
    """

    def __init__(
        self,
        spider: Spider,
        settings: Settings,
        *,
        clock: Clock,
        make_engine: Callable[[Observer, HandOver | None], Engine],
        iterated: bool,
        cache: CacheCounts | None = None,
        since: ChangeCounts | None = None,
        job: Job | None = None,
    ) -> None:
        self.job = job
        """The frontier that survives, if it is a job."""
        self.spider = spider
        self.settings = settings
        """The settings, as merged."""
        self._clock = clock
        self._make_engine = make_engine
        self._iterated = iterated
        self._cache = cache
        self._since = since
        self._stats = Stats()
        self._batch: deque[Any] = deque()
        self._iterating = False
        self._engine: Engine | None = None
        self._task: asyncio.Task[None] | None = None
        self._shelf = Shelf(_PAGES_AHEAD)
        self._raised = False
        self._ready = False
        self._asked_to_end = False

    def __repr__(self) -> str:
        return f"<Crawl {self._engine or self.spider!r}>"

    @property
    def report(self) -> Report:
        """What the crawl has done so far; all of it once the block is left."""
        report = self._stats.report(self._clock.now())
        report.spider = self.spider.name
        report.stats = self.spider.stats.snapshot()
        if self._engine is not None:
            # Too much to look at for whoever asks again and again how far the crawl is.
            report.origins = self._engine.origin_limits() if self._engine.closing else []
            report.reason = self._engine.reason or report.reason
            report.unfinished = self._engine.unfinished
        if self._cache is not None:
            report.cache = msgspec.structs.replace(self._cache)
        if self._since is not None:
            report.since = msgspec.structs.replace(self._since)
        if self.job is not None:
            report.job = self.job.counts_now
        return report

    @property
    def pending(self) -> int:
        """Requests that wait."""
        return self._engine.pending if self._engine else 0

    @property
    def in_flight(self) -> int:
        """Pages in the making."""
        return self._engine.in_flight if self._engine else 0

    @property
    def cookies(self) -> Cookies:
        """What sites have set so far, by session ("" is the crawl's own): a plain value.

        It can be stored as JSON, and given to another crawl: `crawl(..., cookies=run.cookies)`.
        """
        return self._engine.learned.cookies.state() if self._engine else {}

    def stop(self, reason: StopReason = "stopped") -> None:
        """Fetch nothing more, finish what is in flight within `drain_s`. Doesn't wait.

        Raises UsageError off the event loop's thread.
        """
        self._check_thread()
        if not self._ready:
            # Nothing is in flight yet, and what is being opened may never be.
            self.cancel(reason)
        elif self._engine is not None:
            self._asked_to_end = True
            self._engine.stop(reason)

    def cancel(self, reason: StopReason = "stopped") -> None:
        """Stop at once: what is in flight is lost, what was committed is not. Doesn't wait.

        Code that is cut short may clean up; a second call cuts that short as well. Raises
        UsageError off the event loop's thread.
        """
        self._check_thread()
        again, self._asked_to_end = self._asked_to_end, True
        if self._engine is None or self._task is None:
            return
        self._engine.cancel(reason)
        # What is being opened or closed doesn't hear of the engine's own cancelling.
        if not self._ready or (again and self._engine.closing):
            self._task.cancel()

    async def wait(self) -> Report:
        """Wait for the end of the crawl, without its items; the report.

        Raises CrawlError if the crawl itself failed.
        """
        if self._task is None:
            raise UsageError("the crawl hasn't started: use it in `async with`")
        self._shelf.refuse()
        await self._join(self._task)
        return self.report

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise UsageError("a crawl runs once: call crawl() again")
        started = asyncio.Event()
        engine = self._engine = self._make_engine(
            self._stats, self._shelf.give if self._iterated else None
        )
        self._task = self._start(engine, started)
        try:
            await started.wait()
        except asyncio.CancelledError:
            self.cancel()
            await self._end(self._task)
            raise
        if not self._ready:
            await self._end(self._task)
            self._result(self._task)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._task is not None
        assert self._engine is not None
        left_early = self._iterating or error is not None
        if left_early:
            self._engine.cancel()
        self._shelf.refuse()
        await self._end(self._task)
        if error is None:
            self._result(self._task)
        elif not self._raised and not self._task.cancelled() and self._task.exception():
            # The block's own error goes first.
            logger.error("the crawl failed as well", exc_info=self._task.exception())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._task is None:
            raise UsageError("write `async with scrapekit.crawl(...) as run:` around the loop")
        self._iterating = True
        while not self._batch:
            items = await self._shelf.take()
            if items is None:
                await self._join(self._task)
                raise StopAsyncIteration
            self._batch.extend(items)
        return self._batch.popleft()

    def _check_thread(self) -> None:
        """The crawl's state is touched by the loop's thread alone."""
        if self._task is None or self._task.done():
            return
        try:
            running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is not self._task.get_loop():
            raise UsageError(
                "a crawl is stopped on its event loop; from another thread, as that of a plain "
                "callback, write loop.call_soon_threadsafe(run.stop)"
            )

    def _start(self, engine: Engine, started: asyncio.Event) -> asyncio.Task[None]:
        def ready() -> None:
            self._ready = True
            started.set()

        def ended(_task: asyncio.Task[None]) -> None:
            started.set()
            self._shelf.end()

        task = asyncio.create_task(engine.run(ready), name=f"scrapekit {self.spider.name}")
        # Not in a `finally` of its own: a task that is cancelled at once never comes to one.
        task.add_done_callback(ended)
        return task

    async def _join(self, task: asyncio.Task[None]) -> None:
        """Wait for the engine, and raise what it raised, once."""
        await asyncio.wait({task})
        self._result(task)

    def _result(self, task: asyncio.Task[None]) -> None:
        if not self._raised and not task.cancelled():
            self._raised = True
            task.result()

    async def _end(self, task: asyncio.Task[None]) -> None:
        """See the engine's task end, whatever happens to ours meanwhile."""
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                # A cancelled scope of anyio around us would interrupt every wait anew.
                with anyio.CancelScope(shield=cancelled is not None):
                    await asyncio.wait({task})
            except asyncio.CancelledError as exc:
                cancelled = exc
                self.cancel()
        if cancelled is not None:
            raise cancelled


def crawl(
    spider: Spider,
    *,
    settings: SomeSettings | None = None,
    output: Output | Sequence[Output] = (),
    overwrite: bool = False,
    append: bool = False,
    pipeline: Sequence[Stage] | None = None,
    observers: Iterable[Observer] = (),
    job: Output | None = None,
    since: Output | None = None,
    frontier: Frontier | None = None,
    transport: Transport | None = None,
    clock: Clock | None = None,
    executor: Executor | None = None,
    cookies: Cookies | None = None,
    shared_limits: SharedLimits | None = None,
) -> Crawl:
    """A crawl to be used in `async with`, and iterated for its items.

    `settings` win over the spider's. `output` names files to write ("items.csv", "x:jsonl"); one
    that exists and isn't empty is refused unless `overwrite` or `append`. `pipeline` takes the
    place of the spider's own. `observers` are called with every event. `job` is a folder that makes
    the crawl survive being killed: the same call continues it, and outputs that it wrote are
    continued. `since` is the folder of an earlier job, which this crawl is compared with: what is
    unchanged isn't parsed again, and items are dicts with a field `_change`, which is "new",
    "changed", "same" or "gone". `executor` runs the process lane, as the setting of that name does.
    `cookies` are those of an earlier crawl. Crawls on one loop that are given the same
    `shared_limits` keep each origin's limits together. The others take the place of a part: see
    their protocols.

    Raises UsageError here for wrong arguments; entering the block raises the rest.
    """
    return prepare(
        spider,
        merge_settings(spider, settings),
        outputs=outputs_of(output, overwrite=overwrite, append=append),
        pipeline=pipeline,
        observers=observers,
        job=job,
        since=since,
        frontier=frontier,
        transport=transport,
        clock=clock,
        executor=executor,
        cookies=cookies,
        shared_limits=shared_limits,
        iterated=True,
    )


async def collect(spider: Spider, **options: Any) -> list[Any]:
    """All items of a crawl as a list. Takes what crawl() takes.

    With `job`, the list has the items of this run alone: those that earlier runs committed are in
    the job and its outputs (`scrapekit export`).

    Raises CrawlFailed, which has the items there are, if user code failed or no page could be
    fetched, with `job` in any of its runs: a list doesn't show what is missing.
    """
    async with crawl(spider, **options) as run:
        items = [item async for item in run]
    report = run.report
    if not report.ok:
        raise CrawlFailed(why_not_ok(report), items=items, report=report)
    return items


def run(
    spider: Spider,
    *,
    settings: SomeSettings | None = None,
    output: Output | Sequence[Output] = (),
    overwrite: bool = False,
    append: bool = False,
    **options: Any,
) -> Report:
    """Run a crawl to its end, for a script. Blocks; returns the report.

    Takes what crawl() takes. Besides the spider's settings and these, those of the project's
    pyproject.toml or scrapekit.toml and of SCRAPEKIT_* variables count. Ctrl-C and SIGTERM end
    the crawl within `drain_s`, a second one at once; the report's `reason` is "interrupted" then.
    """
    _check_run()
    prepared = prepare(
        spider,
        merge_settings(spider, settings, project=True),
        outputs=outputs_of(output, overwrite=overwrite, append=append),
        iterated=False,
        **options,
    )
    return asyncio.run(run_to_end(prepared))[0]


async def run_to_end(
    prepared: Crawl, *, resuming: Callable[[str], None] = lambda _: None
) -> tuple[Report, int | None]:
    """Run a crawl, heeding SIGINT and SIGTERM; the report, and which signal came. `resuming` is
    told what there is to continue, if it is a job that was begun before.

    The first signal stops the crawl, the second cuts it short; while the crawl is still being
    opened the first one does so. Raises what entering and waiting for the crawl raise.
    """

    def once() -> None:
        logger.warning(
            "interrupted: pages in flight (%d) have up to %g s to finish; once more ends them now",
            prepared.in_flight,
            prepared.settings.drain_s,
        )
        prepared.stop("interrupted")

    with interrupts(once=once, twice=lambda: prepared.cancel("interrupted")) as signals:
        try:
            async with prepared:
                if prepared.job is not None and prepared.job.is_resumed:
                    resuming(prepared.job.resuming)
                await prepared.wait()
        except asyncio.CancelledError:
            # Interrupted before the crawl had begun: there is nothing to wait for.
            if signals.number is None:
                raise
    return prepared.report, signals.number


def merge_settings(
    spider: Spider,
    settings: SomeSettings | None = None,
    *,
    project: bool = False,
    assignments: Iterable[str] = (),
) -> Settings:
    """The settings of a crawl. `project`: those of files and the environment count as well.

    `assignments` are NAME=VALUE strings, which win. Raises SettingsError.
    """
    return config.merge(
        config.from_project(Path.cwd()) if project else None,
        config.from_environment(os.environ) if project else None,
        config.as_source(f"spider {spider.name!r}", spider.settings),
        config.as_source("the call", settings),
        config.parse_assignments(assignments),
    )


def outputs_of(
    output: Output | Sequence[Output], *, overwrite: bool = False, append: bool = False
) -> list[tuple[Output, Mode]]:
    """Outputs, and how to write them; no file is touched. Raises UsageError."""
    if overwrite and append:
        raise UsageError("an output is either overwritten or appended to")
    mode: Mode = "overwrite" if overwrite else "append" if append else "new"
    specs = [output] if isinstance(output, (str, os.PathLike)) else list(output)
    exports.check_distinct(specs)
    return [(spec, mode) for spec in specs]


def prepare(
    spider: Spider,
    settings: Settings,
    *,
    outputs: Sequence[tuple[Output, Mode]] = (),
    pipeline: Sequence[Stage] | None = None,
    observers: Iterable[Observer] = (),
    job: Output | None = None,
    since: Output | None = None,
    frontier: Frontier | None = None,
    transport: Transport | None = None,
    clock: Clock | None = None,
    executor: Executor | None = None,
    cookies: Cookies | None = None,
    shared_limits: SharedLimits | None = None,
    iterated: bool = True,
) -> Crawl:
    """A crawl with settings and outputs as they are; crawl() and run() make them first.

    `iterated`: whether somebody may ask for the items; if not, nobody has to take them.
    Raises SpiderError for what is no spider instance, UsageError for cookies that are none and
    outputs without a format.
    """
    _check_spider(spider)
    _check_not_in_worker()
    kept_cookies = Jars.checked(cookies or {})
    clock = clock or SystemClock()
    cache = _caching(settings, transport, clock) if settings.cache is not None else None
    kept: Job | None = None
    if job is not None:
        if frontier is not None:
            raise UsageError("a crawl takes a job or a frontier, not both")
        frontier = kept = Job(Path(job), spider, settings, clock)
        opened = job_exports(kept, outputs, safe=settings.csv_safe)
    else:
        opened = [exports.open_spec(spec, mode=mode) for spec, mode in outputs]
    if settings.csv_safe:
        exports.escape_formulas(opened)
    earlier = _since(since, job, spider, settings)

    def make_engine(stats: Observer, hand_over: HandOver | None) -> Engine:
        engine = Engine(
            spider,
            settings,
            frontier=frontier or MemoryFrontier(),
            transport=cache or transport or _http(settings),
            clock=clock,
            pipeline=spider.pipeline if pipeline is None else pipeline,
            exports=opened,
            observers=(stats, LogObserver(), *observers),
            hand_over=hand_over,
            executor=executor,
            shared_limits=shared_limits,
            since=earlier,
        )
        engine.learned.cookies.restore(kept_cookies)
        return engine

    return Crawl(
        spider,
        settings,
        clock=clock,
        make_engine=make_engine,
        iterated=iterated,
        cache=cache.counts if cache else None,
        since=earlier.counts if earlier else None,
        job=kept,
    )


def _check_spider(spider: object) -> None:
    if not isinstance(spider, Spider):
        hint = f"; write {spider.__name__}()" if isinstance(spider, type) else ""
        raise SpiderError(f"{spider!r} is no Spider instance{hint}")


def _since(
    since: Output | None, job: Output | None, spider: Spider, settings: Settings
) -> Since | None:
    if since is None:
        return None
    own = Path(job) if job is not None else None
    return Since(Path(since), spider, key=settings.item_key, job=own)


def _caching(settings: Settings, transport: Transport | None, clock: Clock) -> CachingTransport:
    from scrapekit.transport.cache import CachingTransport

    return CachingTransport(transport or _http(settings), settings, clock)


def _http(settings: Settings) -> Transport:
    # The other headers may be secret: the fetcher adds them where they belong.
    public = msgspec.structs.replace(settings, headers=public_headers(settings.headers))
    if settings.transport == "fast":
        return _fast(public)
    from scrapekit.transport.http import HttpTransport

    return HttpTransport(public)


def _fast(settings: Settings) -> Transport:
    try:
        from scrapekit.transport.fast.transport import FastTransport
    except ImportError as exc:
        if exc.name not in {"httptools", "aiohappyeyeballs"}:
            raise
        raise MissingExtra("transport = fast", '"scrapekit[fast]"') from exc
    return FastTransport(settings)


def _check_not_in_worker() -> None:
    if getattr(multiprocessing.process.current_process(), "_inheriting", False):
        # A worker process imports the script again, and would start the crawl again.
        raise UsageError('put what starts the crawl below `if __name__ == "__main__":`')


def _check_run() -> None:
    if file := being_imported.get():
        raise UsageError(
            f'{file} calls run() while it is imported: put that below `if __name__ == "__main__":`'
        )
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise UsageError("run() is for scripts; in async code use crawl() or collect()")


def why_not_ok(report: Report) -> str:
    """In one line, what keeps a report from being `ok`."""
    user_errors = [group for group in report.errors if group.of_user_code]
    if not user_errors and report.job is not None and report.job.done:
        return _why_job_not_ok(report.job)
    group = next(iter(user_errors or report.errors), None)
    if group is None:
        return f"no page was fetched{_why_none(report)}"
    count = sum(g.count for g in user_errors)
    errors = "1 error" if count == 1 else f"{count} errors"
    what = f"{errors} in callbacks, stages or exports" if count else "no page was fetched"
    where = f" at {group.where}" if group.where else ""
    example = f" (for example {group.example})" if group.example else ""
    return f"{what}; {group.error}{where}: {group.message}{example}"


def _why_job_not_ok(job: JobCounts) -> str:
    failed, lost = job.failed_of_user_code, job.troubles
    pages = "1 page" if failed == 1 else f"{failed:,} pages"
    items = "1 item" if lost == 1 else f"{lost:,} items"
    hint = "; `scrapekit job` shows why, `scrapekit retry` puts them back" if failed else ""
    if lost:
        hint += "; items stay lost, and `scrapekit retry --forget-lost` counts them no more"
    return f"{pages} and {items} were lost by errors in earlier runs of the job{hint}"


def _why_none(report: Report) -> str:
    """Why no page was fetched, if no error says it."""
    if report.dropped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.dropped.items())
        return f"; requests dropped: {reasons}"
    if report.reason == "finished":
        why = "the spider gave no start requests"
        return f": {why}; set start_urls or sitemap_urls, or write start()"
    return ""
