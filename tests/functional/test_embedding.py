from __future__ import annotations

import asyncio
import gc
import logging
import signal
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

import scrapekit
from scrapekit import Request, Response, Spider, lane
from scrapekit.api import Crawl
from scrapekit.errors import CrawlError, UsageError
from scrapekit.events import CrawlFinished, Event, Observer, Recorder
from scrapekit.frontier.base import Lease, Outcome
from scrapekit.frontier.memory import MemoryFrontier
from scrapekit.testing import FakeTransport
from tests.functional.site import Site, crawled, held, idle, links
from tests.functional.spiders import TITLE, Following, Titles

NoLeaks = Callable[[], AbstractAsyncContextManager[None]]

QUIET = {"obey_robots": False, "retry_delay_s": 0.0}
WEB = {
    "http://site.test/": links("/1", "/2", "/3"),
    "http://site.test/1": links("/4"),
    "http://site.test/2": "",
    "http://site.test/3": "",
    "http://site.test/4": "",
}


class Mixed(Spider):
    """Callbacks on the loop and in threads, a lifespan, and generated starts."""

    start_urls = ("http://site.test/",)

    async def lifespan(self) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        yield
        await asyncio.sleep(0)

    async def start(self) -> AsyncIterator[Request]:
        for url in self.start_urls:
            await asyncio.sleep(0)
            yield Request(url)

    async def parse(self, response: Response) -> AsyncIterator[Any]:
        await asyncio.sleep(0)
        yield {"url": response.url}
        yield response.follow_all(callback=self.parse_plain)

    def parse_plain(self, response: Response) -> Iterator[Any]:
        yield {"url": response.url}
        yield response.follow_all()


def written(path: Path) -> list[Any]:
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


# Leaving


async def test_leaving_without_iterating_waits_for_the_end(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    async with scrapekit.crawl(
        Mixed(), settings=QUIET, output=path, transport=FakeTransport(WEB)
    ) as run:
        pass
    assert run.report.items == len(written(path)) == 5
    assert run.report.reason == "finished"


async def test_waiting_inside_the_block_gives_the_report() -> None:
    async with scrapekit.crawl(Mixed(), settings=QUIET, transport=FakeTransport(WEB)) as run:
        report = await run.wait()
    assert (report.items, report.reason) == (5, "finished")


async def test_a_break_stops_the_crawl_at_once(no_async_leaks: NoLeaks) -> None:
    never = asyncio.Event()
    async with Site({"/": links("/hangs"), "/hangs": held(never)}) as site, no_async_leaks():
        spider = Following(start_urls=[site.url()])
        async with scrapekit.crawl(spider, settings=QUIET) as run:
            async for _ in run:
                break
        assert run.report.reason == "stopped"
        await site.until(lambda: site.in_flight == 0)


async def test_exceptions_of_the_block_come_out_as_they_were_raised(
    no_async_leaks: NoLeaks,
) -> None:
    mine = LookupError("mine")
    never = asyncio.Event()
    async with Site({"/": links("/hangs"), "/hangs": held(never)}) as site, no_async_leaks():
        spider = Following(start_urls=[site.url()])
        with pytest.raises(LookupError) as caught:  # noqa: PT012  the block is what is tested
            async with scrapekit.crawl(spider, settings=QUIET) as run:
                async for _ in run:
                    raise mine
        assert caught.value is mine
        assert caught.value.__cause__ is None
        await site.until(lambda: site.in_flight == 0)


async def test_what_was_committed_is_in_the_export_after_a_break(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    recorder = Recorder()
    async with scrapekit.crawl(
        Mixed(),
        settings={**QUIET, "concurrency": 2},
        output=path,
        transport=FakeTransport(WEB),
        observers=[recorder],
    ) as run:
        async for _ in run:
            break
    assert run.report.items >= 1
    assert len(written(path)) == run.report.items


async def test_the_loop_may_go_on_after_the_crawl_was_iterated_to_its_end() -> None:
    async with scrapekit.crawl(Mixed(), settings=QUIET, transport=FakeTransport(WEB)) as run:
        items = [item async for item in run]
        again = [item async for item in run]
    assert (len(items), again) == (5, [])
    assert run.report.reason == "finished"


# Cancelling, at every moment there is


class Moment(Exception):
    """What an observer or a block raises at the chosen moment."""


async def _cancelled_after(steps: int, crawling: Callable[[], Awaitable[None]]) -> bool:
    """Run it in a task that is cancelled after so many rounds of the loop; was it in time?"""
    task: asyncio.Task[None] = asyncio.ensure_future(crawling())
    for _ in range(steps):
        await asyncio.sleep(0)
        if task.done():
            break
    in_time = task.cancel()
    await asyncio.wait({task})
    if not in_time:
        task.result()
    else:
        assert task.cancelled()
    return in_time


async def _iterate(path: Path, reports: list[Any], **options: Any) -> None:
    path.unlink(missing_ok=True)
    run = scrapekit.crawl(Mixed(), settings=QUIET, output=path, **options)
    reports.append(run)
    async with run:
        async for _ in run:
            pass


async def test_a_cancellation_at_any_step_leaves_nothing_behind_and_loses_nothing_committed(
    tmp_path: Path, no_async_leaks: NoLeaks
) -> None:
    path = tmp_path / "items.jsonl"
    runs: list[Crawl] = []
    async with no_async_leaks():
        steps = 0
        while await _cancelled_after(
            steps, lambda: _iterate(path, runs, transport=FakeTransport(WEB))
        ):
            if path.exists():
                assert len(written(path)) == runs[-1].report.items
            assert len(asyncio.all_tasks()) == 1
            steps += 1
            if steps > 60:
                # Thread lanes take more rounds or fewer, so the end is not the same each time.
                break
    assert steps > 20
    assert {run.report.reason for run in runs} <= {"stopped", "finished"}


async def test_a_cancellation_at_any_step_closes_every_connection(no_async_leaks: NoLeaks) -> None:
    async with Site({"/": links("/1"), "/1": ""}) as site:

        async def crawl() -> None:
            spider = Following(start_urls=[site.url()])
            async with scrapekit.crawl(spider, settings={"retry_delay_s": 0.0}) as run:
                async for _ in run:
                    pass

        await crawl()
        async with no_async_leaks():
            for steps in range(0, 60, 2):
                await _cancelled_after(steps, crawl)
                await site.until(lambda: site.in_flight == 0)
            await idle()


class _At:
    """An observer that does something at the n-th event."""

    def __init__(self, number: int, act: Callable[[], object]) -> None:
        self.seen = 0
        self._number = number
        self._act = act

    def __call__(self, event: Event) -> None:
        self.seen += 1
        if self.seen == self._number:
            self._act()


@pytest.mark.parametrize("how", ["stop", "cancel", "task"])
async def test_an_end_at_any_event_keeps_what_was_committed(
    how: str, tmp_path: Path, no_async_leaks: NoLeaks
) -> None:
    path = tmp_path / "items.jsonl"
    number, ended = 0, False
    async with no_async_leaks():
        while not ended:
            number += 1
            path.unlink(missing_ok=True)
            ended = await _ends_at(number, how, path)
    assert number > 10


async def _ends_at(number: int, how: str, path: Path) -> bool:
    """Crawl, and end it at the n-th event; true if there are fewer."""
    task = asyncio.current_task()
    assert task is not None

    def act() -> None:
        if how == "task":
            task.cancel()
        else:
            getattr(run, how)()

    at = _At(number, act)
    observers: Sequence[Observer] = [at, recorder := Recorder()]
    run = scrapekit.crawl(
        Mixed(), settings=QUIET, output=path, transport=FakeTransport(WEB), observers=observers
    )
    got: list[Any] = []
    try:
        async with run:
            async for item in run:
                got.append(item)  # noqa: PERF401  those before a cancellation count
    except asyncio.CancelledError:
        assert how == "task"
        task.uncancel()
    assert len(written(path)) == run.report.items
    if how != "task":
        assert len(got) == run.report.items
    assert [type(e) for e in recorder.events].count(CrawlFinished) == 1
    assert isinstance(recorder.events[-1], CrawlFinished)
    if at.seen < number:
        assert run.report.reason == "finished"
        assert len(got) == 5
        return True
    return False


async def test_a_cancelled_scope_of_anyio_around_the_block_ends_the_crawl() -> None:
    never = asyncio.Event()
    async with Site({"/": held(never)}) as site:
        spider = Titles(start_urls=[site.url()])
        with anyio.CancelScope() as scope:
            async with scrapekit.crawl(spider, settings=QUIET) as run:
                await site.until(lambda: site.in_flight == 1)
                scope.cancel()
        assert scope.cancelled_caught
        assert run.report.reason == "stopped"
        await site.until(lambda: site.in_flight == 0)


async def test_callbacks_that_are_cut_short_may_clean_up_in_peace() -> None:
    cleaned: list[str] = []
    waiting = asyncio.Event()

    class Careful(Spider):
        start_urls = ("http://site.test/",)

        async def start(self) -> AsyncIterator[Request]:
            try:
                yield Request(self.start_urls[0])
                await asyncio.Event().wait()
            finally:
                for _ in range(3):
                    await asyncio.sleep(0)
                cleaned.append("start")

        async def parse(self, response: Response) -> None:
            try:
                waiting.set()
                await asyncio.Event().wait()
            finally:
                for _ in range(3):
                    await asyncio.sleep(0)
                cleaned.append("parse")

    async with scrapekit.crawl(Careful(), settings=QUIET, transport=FakeTransport(WEB)) as run:
        await waiting.wait()
        run.cancel()
    assert sorted(cleaned) == ["parse", "start"]
    assert run.report.reason == "stopped"
    assert run.report.error_count == 0


class SlowFrontier(MemoryFrontier):
    """Commits like one on a disk: what is begun is done, but not at once."""

    def __init__(self) -> None:
        super().__init__()
        self.committing = asyncio.Event()
        self.go_on = asyncio.Event()
        self.committed: list[Any] = []

    async def commit(self, outcome: Outcome) -> Sequence[Request]:
        self.committing.set()
        await self.go_on.wait()
        self.committed += outcome.items
        return await super().commit(outcome)


async def test_a_commit_that_has_begun_is_seen_through_to_the_exports(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    frontier = SlowFrontier()
    async with scrapekit.crawl(
        Titles(start_urls=list(WEB)[:1]),
        settings=QUIET,
        output=path,
        transport=FakeTransport(WEB),
        frontier=frontier,
    ) as run:
        await frontier.committing.wait()
        run.cancel()
        await idle()
        frontier.go_on.set()
        items = [item async for item in run]
    assert frontier.committed == written(path) == items == [TITLE]
    assert run.report.items == 1


async def test_a_cut_crawl_doesnt_wait_for_room_among_threads_that_are_stuck() -> None:
    running, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Stuck(Spider):
        async def start(self) -> AsyncIterator[Request]:
            yield Request("http://site.test/")
            yield Request("http://site.test/1", self.parse_stuck)
            yield Request("http://site.test/2", self.parse_stuck)

        async def parse(self, response: Response) -> dict[str, Any]:
            return TITLE

        def parse_stuck(self, response: Response) -> None:
            loop.call_soon_threadsafe(running.set)
            go_on.wait()

    frontier = SlowFrontier()
    async with scrapekit.crawl(
        Stuck(),
        settings={**QUIET, "threads": 1, "callback_timeout_s": None},
        transport=FakeTransport(WEB),
        frontier=frontier,
    ) as run:
        await frontier.committing.wait()
        await running.wait()
        await idle()
        run.cancel()
        await idle()
        frontier.go_on.set()
        assert [item async for item in run] == [TITLE]
    go_on.set()
    assert run.report.items == 1


async def test_stop_and_cancel_while_the_crawl_is_being_opened_leave_an_empty_crawl(
    no_async_leaks: NoLeaks,
) -> None:
    class Slow(Titles):
        async def lifespan(self) -> AsyncIterator[None]:
            opening.set()
            await asyncio.Event().wait()
            yield

    for how in ("stop", "cancel"):
        opening = asyncio.Event()
        async with no_async_leaks():
            run = scrapekit.crawl(Slow(), settings=QUIET, transport=FakeTransport(WEB))

            async def end() -> None:
                await opening.wait()  # noqa: B023
                getattr(run, how)()  # noqa: B023

            ending = asyncio.create_task(end())
            async with run:
                items = [item async for item in run]
            await ending
        assert items == []
        assert run.report.reason == "stopped"


async def test_a_crawl_may_be_ended_before_its_first_step() -> None:
    run = scrapekit.crawl(Mixed(), settings=QUIET, transport=FakeTransport(WEB))

    async def end() -> None:
        run.cancel()

    ending = asyncio.create_task(end())  # it runs before the engine's task does
    async with run:
        assert [item async for item in run] == []
    await ending
    assert run.report.reason == "stopped"


async def test_an_item_handed_over_while_the_wait_for_it_is_cancelled_is_not_lost() -> None:
    class Once(Titles):
        start_urls = ("http://site.test/",)

        async def parse(self, response: Response) -> dict[str, Any]:
            await gate.wait()
            return TITLE

    for rounds in range(12):
        gate = asyncio.Event()
        async with scrapekit.crawl(Once(), settings=QUIET, transport=FakeTransport(WEB)) as run:
            waiting = asyncio.ensure_future(anext(run))
            await idle(20)
            gate.set()
            await idle(rounds)
            waiting.cancel()
            await asyncio.wait({waiting})
            got = [] if waiting.cancelled() else [waiting.result()]
            got += [item async for item in run]
        assert got == [TITLE]


async def test_several_may_share_the_items() -> None:
    async def some(run: Crawl) -> list[Any]:
        return [item async for item in run]

    async with scrapekit.crawl(Mixed(), settings=QUIET, transport=FakeTransport(WEB)) as run:
        shares = await asyncio.gather(some(run), some(run), some(run))
    assert sorted(item["url"] for share in shares for item in share) == sorted(WEB)


async def test_a_crawl_that_is_cancelled_while_it_opens_closes_what_is_open(
    no_async_leaks: NoLeaks,
) -> None:
    order: list[str] = []

    class Slow(Titles):
        async def lifespan(self) -> AsyncIterator[None]:
            try:
                opening.set()
                await asyncio.Event().wait()
                yield
            finally:
                await asyncio.sleep(0)
                order.append("closed")

    opening = asyncio.Event()

    async def crawl() -> None:
        async with scrapekit.crawl(Slow(), settings=QUIET, transport=FakeTransport(WEB)):
            order.append("entered")

    async with no_async_leaks():
        task = asyncio.create_task(crawl())
        await opening.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        gc.collect()  # what wasn't closed says so when it is collected
    assert order == ["closed"]


async def test_an_end_that_hangs_can_be_cancelled_a_second_time(no_async_leaks: NoLeaks) -> None:
    class Stuck(Titles):
        async def lifespan(self) -> AsyncIterator[None]:
            yield
            closing.set()
            await asyncio.Event().wait()

    closing = asyncio.Event()

    async def crawl() -> None:
        spider = Stuck(start_urls=list(WEB))
        async with scrapekit.crawl(spider, settings=QUIET, transport=FakeTransport(WEB)):
            pass

    async with no_async_leaks():
        task = asyncio.create_task(crawl())
        await closing.wait()
        task.cancel()
        await idle()
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# Misuse


async def test_a_crawl_runs_once() -> None:
    run = scrapekit.crawl(Mixed(), settings=QUIET, transport=FakeTransport(WEB))
    async with run:
        await run.wait()
    with pytest.raises(UsageError, match="a crawl runs once"):
        async with run:
            pass


async def test_a_crawl_is_entered_before_it_is_iterated() -> None:
    run = scrapekit.crawl(Mixed(), settings=QUIET, transport=FakeTransport(WEB))
    with pytest.raises(UsageError, match="async with"):
        async for _ in run:
            pass
    with pytest.raises(UsageError, match="async with"):
        await anext(run)
    with pytest.raises(UsageError, match="async with"):
        await run.wait()
    run.stop()
    run.cancel()
    assert (run.pending, run.in_flight, run.report.pages) == (0, 0, 0)


async def test_a_crawl_that_can_not_be_made_leaves_nothing_to_complain_about() -> None:
    crawl = scrapekit.crawl(Mixed(), pipeline=[42], transport=FakeTransport(WEB))  # type: ignore[list-item]
    with pytest.raises(UsageError, match="not callable"):
        async with crawl:
            pass
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del crawl
        gc.collect()
    assert not caught


async def test_a_crawl_can_not_be_stopped_from_another_thread() -> None:
    runs: list[Crawl] = []

    class Stopping(Spider):
        def parse(self, response: Response) -> Iterator[Any]:
            with pytest.raises(UsageError, match="call_soon_threadsafe"):
                runs[0].stop()
            with pytest.raises(UsageError, match="call_soon_threadsafe"):
                runs[0].cancel()
            yield {"url": response.url}

    spider = Stopping(start_urls=["http://site.test/"])
    async with scrapekit.crawl(spider, settings=QUIET, transport=FakeTransport(WEB)) as run:
        runs.append(run)
        assert [item async for item in run] == [{"url": "http://site.test/"}]
    assert run.report.reason == "finished"


async def test_a_crawl_that_is_never_used_is_collected_in_silence() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scrapekit.crawl(Mixed(), settings=QUIET, transport=FakeTransport(WEB))
        gc.collect()


async def test_run_is_refused_inside_a_running_loop() -> None:
    with pytest.raises(UsageError, match=r"use crawl\(\) or collect\(\)"):
        scrapekit.run(Mixed())


async def test_what_is_no_spider_is_refused_with_a_hint() -> None:
    with pytest.raises(UsageError, match=r"write Mixed\(\)"):
        scrapekit.crawl(Mixed)  # type: ignore[arg-type]


# Company


async def test_many_crawls_share_a_loop(no_async_leaks: NoLeaks) -> None:
    async with no_async_leaks():
        results = await asyncio.gather(
            *(crawled(Mixed(), transport=FakeTransport(WEB)) for _ in range(20))
        )
    assert [len(items) for items, _ in results] == [5] * 20
    assert all(report.ok for _, report in results)


async def test_a_crawl_inside_another_ones_callback() -> None:
    class Outer(Spider):
        start_urls = ("http://site.test/",)

        async def parse(self, response: Response) -> AsyncIterator[Any]:
            async with scrapekit.crawl(
                Mixed(), settings=QUIET, transport=FakeTransport(WEB)
            ) as inner:
                async for item in inner:
                    yield item

    items, report = await crawled(Outer(), transport=FakeTransport(WEB))
    assert len(items) == 5
    assert report.ok


async def test_a_crawl_touches_nothing_global() -> None:
    def state() -> tuple[object, ...]:
        root = logging.getLogger()
        handlers = [signal.getsignal(number) for number in signal.valid_signals()]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the policy's getter is deprecated from 3.14 on
            policy = asyncio.get_event_loop_policy()
        loop = asyncio.get_running_loop()
        return (
            handlers,
            root.level,
            list(root.handlers),
            logging.getLogger("scrapekit").handlers,
            policy,
            loop.get_exception_handler(),
            loop.get_task_factory(),
            signal.set_wakeup_fd,
        )

    before = state()
    during: list[tuple[object, ...]] = []

    def look(event: Event) -> None:
        during.append(state())

    await crawled(Mixed(), transport=FakeTransport(WEB), observers=[look])
    assert all(seen == before for seen in during)
    assert state() == before


# Errors of the crawl's own


class BrokenFrontier(MemoryFrontier):
    async def commit(self, outcome: Outcome) -> Sequence[Request]:
        raise OSError("the disk is gone")


class BrokenAtRetry(MemoryFrontier):
    async def postpone(self, lease: Lease, due: float) -> None:
        raise OSError("the disk is gone")


@pytest.mark.parametrize("how", ["iterate", "wait", "leave"])
async def test_an_error_of_the_crawls_own_comes_out_as_crawl_error(
    how: str, no_async_leaks: NoLeaks
) -> None:
    recorder = Recorder()
    async with no_async_leaks():
        with pytest.raises(  # noqa: PT012  the block is what is tested
            CrawlError, match="OSError: the disk is gone"
        ) as caught:
            async with scrapekit.crawl(
                Mixed(),
                settings=QUIET,
                frontier=BrokenFrontier(),
                transport=FakeTransport(WEB),
                observers=[recorder],
            ) as run:
                if how == "iterate":
                    async for _ in run:
                        pass
                elif how == "wait":
                    await run.wait()
    assert isinstance(caught.value.__cause__, OSError)
    assert run.report.reason == "failed"
    finished = recorder.events[-1]
    assert isinstance(finished, CrawlFinished)
    assert finished.reason == "failed"


async def test_the_blocks_own_exception_wins_over_an_error_of_the_crawl(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failed = asyncio.Event()

    def look(event: Event) -> None:
        if isinstance(event, CrawlFinished):
            failed.set()

    with pytest.raises(Moment):  # noqa: PT012  the block is what is tested
        async with scrapekit.crawl(
            Mixed(),
            settings=QUIET,
            frontier=BrokenFrontier(),
            transport=FakeTransport(WEB),
            observers=[look],
        ):
            await failed.wait()
            raise Moment
    gc.collect()
    assert "was never retrieved" not in caplog.text


async def test_a_frontier_that_breaks_at_a_retry_ends_the_crawl_and_hangs_nothing() -> None:
    web = {"http://site.test/": ConnectionError("odd")}
    with pytest.raises(CrawlError, match="OSError"):
        await crawled(
            Titles(start_urls=list(web)),
            frontier=BrokenAtRetry(),
            transport=FakeTransport({"http://site.test/": scrapekit.errors.ConnectError("no")}),
        )


class InProcess(Spider):
    start_urls = ("http://site.test/",)

    @lane("process")
    def parse(self, response: Response) -> dict[str, Any]:
        return {"url": response.url}


async def test_worker_processes_are_gone_when_the_crawl_is(no_async_leaks: NoLeaks) -> None:
    async with no_async_leaks():
        items, report = await crawled(
            InProcess(), transport=FakeTransport(WEB), settings={"processes": 1}
        )
    assert items == [{"url": "http://site.test/"}]
    assert report.ok
