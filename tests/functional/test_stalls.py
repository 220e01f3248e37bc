"""What blocks the event loop is named. A block here lasts many times the threshold."""

from __future__ import annotations

import asyncio
import linecache
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import scrapekit
from scrapekit import Request, Response, Spider
from scrapekit.events import Event, LoopStalled, Recorder
from scrapekit.lanes.stalls import Stall, StallWatch, cure
from scrapekit.report import Report
from scrapekit.testing import FakeTransport
from tests.leaks import no_async_leaks

THRESHOLD_S = 0.02
BLOCK_S = 10 * THRESHOLD_S

THREAD = "it waits in a blocking call: write it as a plain def, which runs in a thread"
PROCESS = 'it computes: write it as a plain def with @lane("process")'


PAGES = [f"https://site.example/{n}" for n in range(1, 21)]


class Sleeping(Spider):
    start_urls = (PAGES[0],)
    # The list of public suffixes takes a moment to read, which would be told of as well.
    allowed_domains = ("*",)

    async def parse(self, response: Response) -> dict[str, Any]:
        time.sleep(BLOCK_S)  # noqa: ASYNC251 -- the sleeping callback
        return {}


class Computing(Sleeping):
    async def parse(self, response: Response) -> dict[str, Any]:
        end = time.thread_time() + BLOCK_S
        while time.thread_time() < end:  # the computing callback
            pass
        return {}


class InOneCall(Sleeping):
    async def parse(self, response: Response) -> dict[str, Any]:
        # C code that lets no other thread run meanwhile.
        return {"sum": sum(range(6_000_000))}  # the callback in one call


class InAHelper(Sleeping):
    async def parse(self, response: Response) -> dict[str, Any]:
        await asyncio.sleep(0)
        return helper()


def helper() -> dict[str, Any]:
    time.sleep(BLOCK_S)  # the helper
    return {}


async def stalls_of(
    spider: Spider, *, within: Callable[[Any], Any] | None = None, **options: Any
) -> tuple[list[LoopStalled], Report]:
    """The stalls of a crawl, as they were told. `within` gets each item."""
    recorder = Recorder()
    settings = {"obey_robots": False, "stall_warning_s": THRESHOLD_S}
    transport = FakeTransport({}, default_status=200)
    observers = [recorder, *options.pop("observers", ())]
    async with (
        no_async_leaks(),
        scrapekit.crawl(
            spider, settings=settings, transport=transport, observers=observers, **options
        ) as run,
    ):
        async for item in run:
            if within is not None:
                within(item)
    return [event for event in recorder.events if isinstance(event, LoopStalled)], run.report


def by(comment: str, stalls: list[LoopStalled]) -> LoopStalled:
    """The one stall at the line with a comment. On a busy machine there may be others."""
    (stall,) = [stall for stall in stalls if stall.statement.endswith(comment)]
    path, _, number = stall.where.rpartition(":")
    assert path == __file__
    assert stall.statement == linecache.getline(path, int(number)).strip()
    return stall


@pytest.mark.parametrize(
    ("kind", "comment"),
    [
        (Sleeping, "the sleeping callback"),
        (InAHelper, "the helper"),
    ],
)
async def test_a_callback_that_blocks_is_told_with_its_line_and_time(
    kind: type[Spider], comment: str, caplog: pytest.LogCaptureFixture
) -> None:
    stalls, report = await stalls_of(kind())
    stall = by(comment, stalls)
    assert (stall.whose, stall.callback) == ("callback", "parse")
    assert stall.blocked_s >= BLOCK_S
    assert stall.advice == THREAD
    (group,) = [group for group in report.stalls if group.callback]
    assert (group.count, group.where, group.longest_s) == (1, stall.where, stall.blocked_s)
    (record,) = [record for record in caplog.records if "by parse" in record.getMessage()]
    assert record.levelno == logging.WARNING
    for part in (stall.where, stall.statement, stall.advice):
        assert part in record.getMessage()


async def test_c_code_that_lets_no_thread_run_is_told_with_its_line() -> None:
    stalls, _ = await stalls_of(InOneCall(start_urls=PAGES[:5]))
    statements = {stall.statement for stall in stalls if stall.callback}
    # There is one moment in which it can be seen, which a busy machine may miss now and then.
    assert "the callback in one call" in "".join(statements - {""})


async def test_a_callback_that_computes_is_told_with_one_of_its_lines() -> None:
    stalls, _ = await stalls_of(Computing())
    (stall,) = [stall for stall in stalls if stall.callback == "parse"]
    assert stall.where.startswith(f"{__file__}:")
    assert stall.blocked_s >= BLOCK_S


@pytest.mark.parametrize(
    ("wall_s", "cpu_s", "lane"),
    [(1.0, 0.0, THREAD), (1.0, 0.1, THREAD), (1.0, 1.0, PROCESS), (1.0, 0.4, PROCESS)],
)
def test_the_lane_that_cures_follows_from_the_cpu_time(
    wall_s: float, cpu_s: float, lane: str
) -> None:
    # A busy machine gives a callback that computes less than all of the time.
    assert cure(wall_s, cpu_s) == lane


async def test_a_place_is_logged_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    events, report = await stalls_of(Sleeping(start_urls=PAGES[:2]))
    stalls = [stall for stall in events if stall.callback]
    (group,) = [group for group in report.stalls if group.callback]
    assert group.count == len(stalls) == 2
    assert group.total_s == pytest.approx(sum(stall.blocked_s for stall in stalls))
    assert group.longest_s == max(stall.blocked_s for stall in stalls)
    assert len([record for record in caplog.records if "by parse" in record.getMessage()]) == 1
    assert f"stalled    2 x at {group.where}" in str(report)


class Quick(Sleeping):
    async def parse(self, response: Response) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {}


async def test_the_body_around_an_embedded_crawl_is_told_as_the_applications() -> None:
    blocked = asyncio.Event()

    class Lasting(Quick):
        """Goes on until the application has blocked the loop."""

        async def parse(self, response: Response) -> dict[str, Any]:
            if response.url.endswith("/2"):
                await blocked.wait()
            return {}

    def application(_: Any) -> None:
        if not blocked.is_set():
            time.sleep(BLOCK_S)  # the application
            blocked.set()

    stalls, report = await stalls_of(Lasting(start_urls=PAGES[:2]), within=application)
    stall = by("the application", stalls)
    assert (stall.whose, stall.callback) == ("application", None)
    assert "not the crawl's" in stall.advice
    # The block began at most a beat before it could be noticed.
    assert stall.blocked_s > BLOCK_S - THRESHOLD_S
    assert "application" in [group.whose for group in report.stalls]


async def test_another_task_of_the_application_is_told_as_the_applications() -> None:
    async def other() -> None:
        time.sleep(BLOCK_S)  # noqa: ASYNC251 -- the other task

    tasks: list[asyncio.Task[None]] = []

    class Starting(Quick):
        """Doesn't end before the other task has."""

        async def parse(self, response: Response) -> dict[str, Any]:
            await asyncio.wait(tasks)
            return {}

        async def start(self) -> AsyncIterator[Request]:
            tasks.append(asyncio.create_task(other()))
            yield Request("https://site.example/")

    stalls, _ = await stalls_of(Starting())
    stall = by("the other task", stalls)
    assert (stall.whose, stall.callback) == ("application", None)


async def test_other_code_of_the_crawl_is_told_as_the_spiders() -> None:
    async def stage(item: Any) -> Any:
        time.sleep(BLOCK_S)  # noqa: ASYNC251 -- the stage
        return item

    class Starting(Quick):
        async def start(self) -> AsyncIterator[Request]:
            time.sleep(BLOCK_S)  # noqa: ASYNC251 -- the start
            yield Request("https://site.example/")

    stalls, _ = await stalls_of(Starting(), pipeline=[stage])
    assert {by(comment, stalls).whose for comment in ("the start", "the stage")} == {"spider"}


async def test_code_of_nobody_blames_nobody() -> None:
    stalls: list[Stall] = []
    watch = StallWatch(THRESHOLD_S, stalls.append)
    watch.start()
    asyncio.get_running_loop().call_soon(time.sleep, BLOCK_S)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    watch.close()
    (stall,) = stalls
    assert stall.whose == "unknown"
    assert stall.advice == "no code of yours was seen to run"


@pytest.fixture
def _greedy_threads() -> Iterator[None]:
    """Let threads that compute keep the interpreter for long."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(5 * THRESHOLD_S)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_greedy_threads")
async def test_callbacks_that_compute_in_threads_are_told_as_such() -> None:
    told = threading.Event()

    class Threaded(Sleeping):
        def parse(self, response: Response) -> dict[str, Any]:  # type: ignore[override]
            while not told.is_set():
                sum(range(1000))
            return {}

    def notice(event: Event) -> None:
        # While the first thread is started, the loop doesn't wait for something to do.
        if isinstance(event, LoopStalled) and event.whose == "threads":
            told.set()

    stalls, _ = await stalls_of(Threaded(start_urls=PAGES[:2]), observers=[notice])
    stall = stalls[-1]
    assert (stall.whose, stall.callback, stall.where) == ("threads", None, "")
    assert stall.advice == 'plain callbacks compute in threads: mark them with @lane("process")'


async def test_a_crawl_that_blocks_nothing_is_told_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    spider = Quick(start_urls=PAGES)
    settings = {"obey_robots": False, "stall_warning_s": 1.0}
    transport = FakeTransport({}, default_status=200)
    async with scrapekit.crawl(spider, settings=settings, transport=transport) as run:
        report = await run.wait()
    assert report.stalls == []
    assert not caplog.records


async def test_a_watch_that_is_switched_off_has_no_thread() -> None:
    class Naming(Quick):
        async def parse(self, response: Response) -> dict[str, Any]:
            return {"threads": [thread.name for thread in threading.enumerate()]}

    names: list[list[str]] = []
    for seconds in (0, 1):
        settings = {"obey_robots": False, "stall_warning_s": seconds}
        transport = FakeTransport({}, default_status=200)
        (item,) = await scrapekit.collect(Naming(), settings=settings, transport=transport)
        names.append([name for name in item["threads"] if "stall watch" in name])
    assert names == [[], ["scrapekit stall watch"]]


async def test_a_watch_can_be_closed_at_any_moment() -> None:
    async with no_async_leaks():
        for turns in range(100):
            watch = StallWatch(1e-6, lambda _: None)
            watch.start()
            for _ in range(turns % 10):
                await asyncio.sleep(0)
            watch.close()
            watch.close()


async def test_a_loop_that_stays_blocked_is_told_while_it_is() -> None:
    heard = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())
            heard.set()

    class Stuck(Sleeping):
        async def parse(self, response: Response) -> dict[str, Any]:
            heard.wait()  # for ever, unless somebody says so
            return {}

    messages: list[str] = []
    handler = Handler()
    logging.getLogger("scrapekit").addHandler(handler)
    try:
        await stalls_of(Stuck())
    finally:
        logging.getLogger("scrapekit").removeHandler(handler)
    assert "has been blocked for 1.0 s, and still is, at" in messages[0]
    assert "heard.wait()  # for ever, unless somebody says so" in messages[0]
