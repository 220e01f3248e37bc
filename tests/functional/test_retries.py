from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
from aioresponses import aioresponses

import scrapekit
from scrapekit import Request, Response, Spider
from scrapekit.clock import ManualClock
from scrapekit.events import PageFetched, RetryScheduled
from scrapekit.failure import Failure
from tests.functional.site import Pages, Site, Watcher, answer, crawled, idle, in_turn
from tests.functional.spiders import TITLE, Titles

URL = "http://site.test/"


@pytest.fixture
def mocked() -> Iterator[aioresponses]:
    """Takes the place of the network, for what is about statuses and headers alone."""
    with aioresponses() as mock:
        yield mock


class Failing(Titles):
    """Keeps what on_error gets."""

    start_urls = (URL,)

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._failures: list[Failure] = []

    def on_error(self, failure: Failure) -> None:
        self._failures.append(failure)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_a_status_that_may_pass_is_tried_again(mocked: aioresponses, status: int) -> None:
    mocked.get(URL, status=status)
    mocked.get(URL, status=status)
    mocked.get(URL)
    items, report = await crawled(Failing())
    assert items == [TITLE]
    assert (report.retries, report.pages, report.error_count) == (2, 1, 0)
    assert report.statuses == {200: 1, status: 2}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 501])
async def test_a_status_that_stays_is_not_tried_again(mocked: aioresponses, status: int) -> None:
    mocked.get(URL, status=status)
    _, report = await crawled(Failing())
    assert report.retries == 0
    assert report.errors[0].error == f"BadStatus {status}"


@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_it_is_given_up_after_so_many_retries(mocked: aioresponses, retries: int) -> None:
    mocked.get(URL, status=503, repeat=True)
    spider = Failing()
    _, report = await crawled(spider, settings={"retries": retries})
    assert report.retries == retries
    assert report.statuses == {503: retries + 1}
    assert report.error_count == 1
    assert [failure.tries for failure in spider._failures] == [retries + 1]


@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientOSError(104, "reset"),
        aiohttp.ClientPayloadError("cut off"),
        aiohttp.ServerTimeoutError(),
        ConnectionResetError(104, "reset"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_connection_that_fails_is_tried_again(
    mocked: aioresponses, error: Exception
) -> None:
    mocked.get(URL, exception=error)
    mocked.get(URL)
    items, report = await crawled(Failing())
    assert items == [TITLE]
    assert report.retries == 1


async def test_an_accepted_status_is_not_tried_again(mocked: aioresponses) -> None:
    mocked.get(URL, status=503)
    items, report = await crawled(Failing(), settings={"accept_statuses": [503]})
    assert items == [TITLE]
    assert report.retries == 0


@pytest.mark.parametrize(("method", "tries"), [("POST", 1), ("PATCH", 1), ("PUT", 2), ("HEAD", 2)])
async def test_only_methods_that_may_be_repeated_are(
    mocked: aioresponses, method: str, tries: int
) -> None:
    class Sending(Failing):
        async def start(self) -> AsyncIterator[Request]:
            yield Request(URL, method=method)

    mocked.add(URL, method=method, status=503)
    mocked.add(URL, method=method, status=200)
    items, report = await crawled(Sending())
    assert report.retries == tries - 1
    assert len(items) == tries - 1


async def test_a_callback_that_fails_is_not_called_again() -> None:
    class Breaks(Spider):
        async def parse(self, response: Response) -> None:
            raise scrapekit.errors.ConnectError("of a site that the callback asked itself")

    async with Site({"/": ""}) as site:
        _, report = await crawled(Breaks(start_urls=[site.url()]))
    assert site.hits == ["/"]
    assert report.retries == 0
    assert report.errors[0].during == "callback"


async def test_what_a_page_yielded_before_it_failed_is_not_emitted_twice() -> None:
    async with Site({"/": in_turn(503, "")}) as site:
        items, report = await crawled(Titles(start_urls=[site.url()]))
    assert items == [TITLE]
    assert report.items == 1


# Dates


async def test_retry_after_in_seconds_is_a_date_that_holds_no_slot() -> None:
    clock, watcher = ManualClock(), Watcher()
    busy = in_turn(answer(429, Retry_After="30"), "")
    async with Site({"/busy": busy}) as site, Site({"*": ""}) as other:
        starts = [site.url("/busy"), *other.urls("/1", "/2", "/3")]
        settings = {"obey_robots": False, "concurrency": 1}
        async with scrapekit.crawl(
            Titles(start_urls=starts), settings=settings, clock=clock, observers=[watcher]
        ) as run:
            # The one worker there is goes on with other pages.
            await other.until(lambda: len(other.hits) == 3)
            await idle()
            assert run.in_flight == 0
            assert run.pending == 1
            clock.advance(29.5)
            await idle()
            assert site.hits == ["/busy"]
            clock.advance(0.5)
            items = [item async for item in run]
    assert len(items) == 4
    (retry,) = (event for event in watcher.events if isinstance(event, RetryScheduled))
    assert retry.due - retry.at == 30


async def test_retry_after_as_a_date() -> None:
    clock = ManualClock()
    date = format_datetime(datetime.fromtimestamp(clock.now() + 60, UTC), usegmt=True)
    async with Site({"/": in_turn(answer(503, Retry_After=date), "")}) as site:
        watcher = Watcher()
        async with scrapekit.crawl(
            Titles(start_urls=[site.url()]),
            settings={"obey_robots": False},
            clock=clock,
            observers=[watcher],
        ) as run:
            await watcher.until(RetryScheduled)
            assert clock.next_timer() == clock.now() + 60
            clock.advance(60)
            assert len([item async for item in run]) == 1
    assert clock.next_timer() is None


async def test_retry_after_holds_the_whole_origin() -> None:
    clock, watcher = ManualClock(), Watcher()
    pages: Pages = {"/busy": in_turn(answer(429, Retry_After="30"), ""), "*": ""}
    async with Site(pages) as site:
        spider = Titles(start_urls=site.urls("/busy", "/1", "/2"))
        settings = {"obey_robots": False, "concurrency": 1}
        async with scrapekit.crawl(
            spider, settings=settings, clock=clock, observers=[watcher]
        ) as run:
            await site.until(lambda: len(site.hits) == 1)
            await watcher.until(RetryScheduled)
            await idle()
            assert site.hits == ["/busy"]
            clock.advance(30)
            items = [item async for item in run]
    assert len(items) == 3


@pytest.mark.parametrize(
    ("status", "accepted"), [(200, False), (202, False), (403, True), (404, False), (500, False)]
)
async def test_whatever_answer_has_a_retry_after_holds_the_whole_origin(
    status: int, accepted: bool
) -> None:
    clock = ManualClock()
    pages: Pages = {"/busy": in_turn(answer(status, Retry_After="30"), ""), "*": ""}
    async with Site(pages) as site:
        spider = Titles(start_urls=site.urls("/busy", "/1", "/2"))
        settings = {
            "obey_robots": False,
            "concurrency": 1,
            "retries": 0,
            "accept_statuses": [status] if accepted else [],
        }
        async with scrapekit.crawl(spider, settings=settings, clock=clock) as run:
            await until_timer(clock)
            assert clock.next_timer() == clock.now() + 30
            assert site.hits == ["/busy"]
            clock.advance(30)
            await run.wait()
    assert sorted(site.hits) == ["/1", "/2", "/busy"]


@pytest.mark.parametrize("status", [404, 403, 200])
async def test_a_robots_txt_with_a_retry_after_holds_its_pages(status: int) -> None:
    clock = ManualClock()
    async with Site({"/robots.txt": answer(status, Retry_After="30"), "*": ""}) as site:
        spider = Titles(start_urls=[site.url()])
        async with scrapekit.crawl(spider, clock=clock) as run:
            await until_timer(clock)
            assert (site.robots_hits, site.hits) == (1, [])
            clock.advance(30)
            assert len([item async for item in run]) == 1


@pytest.mark.parametrize("path", ["/robots.txt", "/"])
async def test_a_redirect_with_a_retry_after_waits_and_keeps_the_other_origin_free(
    path: str,
) -> None:
    clock = ManualClock()
    async with Site({"*": ""}) as other:
        moved = answer(302, Location=other.url("/moved.txt"), Retry_After="30")
        async with Site({path: moved, "*": ""}) as site:
            spider = Titles(start_urls=[site.url("/"), *other.urls("/1", "/2")])
            settings = {"concurrency": 1, "obey_robots": path == "/robots.txt"}
            async with scrapekit.crawl(spider, settings=settings, clock=clock) as run:
                await other.until(lambda: len(other.hits) == 2)
                await until_timer(clock)
                assert other.hits == ["/1", "/2"]
                clock.advance(30)
                assert len([item async for item in run]) == 3
    assert other.hits == ["/1", "/2", "/moved.txt"]


async def test_a_redirect_that_waits_for_its_date_goes_although_max_pages_is_reached() -> None:
    clock = ManualClock()
    async with Site({"*": ""}) as other:
        moved = answer(302, Location=other.url("/moved"), Retry_After="30")
        async with Site({"/": moved}) as site:
            spider = Titles(start_urls=[site.url("/"), other.url("/1"), other.url("/2")])
            settings = {"obey_robots": False, "max_pages": 2, "concurrency": 4}
            async with scrapekit.crawl(spider, settings=settings, clock=clock) as run:
                await until_timer(clock)
                clock.advance(30)
                assert len([item async for item in run]) == 2
    assert "/moved" in other.hits


async def until_timer(clock: ManualClock) -> None:
    """Let the crawl go on until it has nothing to do but to wait for a date."""
    async with asyncio.timeout(60):
        while clock.next_timer() is None:
            await idle()
    await idle()


async def test_a_retry_after_beyond_all_bounds_is_cut_to_max_retry_delay_s() -> None:
    clock, watcher = ManualClock(), Watcher()
    forever = in_turn(answer(503, Retry_After="999999999999999999999"), "")
    async with Site({"/": forever}) as site:
        spider = Titles(start_urls=[site.url()])
        settings = {"obey_robots": False, "max_retry_delay_s": 120.0}
        async with scrapekit.crawl(
            spider, settings=settings, clock=clock, observers=[watcher]
        ) as run:
            await watcher.until(RetryScheduled)
            assert clock.next_timer() == clock.now() + 120
            clock.advance(120)
            assert len([item async for item in run]) == 1


@pytest.mark.parametrize("value", ["soon", "-5", "1.5", "", "0", "Mon, 99 Foo 2026"])
async def test_a_retry_after_that_makes_no_sense_is_left_out_of_account(value: str) -> None:
    async with Site({"/": in_turn(answer(503, Retry_After=value), "")}) as site:
        items, _ = await crawled(Titles(start_urls=[site.url()]))
    assert items == [TITLE]


async def test_pages_that_are_due_together_go_together() -> None:
    clock = ManualClock()
    gate = asyncio.Event()
    sites = [Site() for _ in range(5)]
    for site in sites:

        async def last(request: Any) -> Any:
            await gate.wait()
            return await answer()(request)

        site.pages["/"] = in_turn(answer(503, Retry_After="10"), last)
    for site in sites:
        await site.__aenter__()
    try:
        spider = Titles(start_urls=[site.url() for site in sites])
        watcher = Watcher()
        async with scrapekit.crawl(
            spider, settings={"obey_robots": False}, clock=clock, observers=[watcher]
        ) as run:
            await watcher.until(RetryScheduled, len(sites))
            clock.advance(10)
            for site in sites:
                await site.until(lambda: site.in_flight == 1)  # noqa: B023
            gate.set()
            assert len([item async for item in run]) == 5
    finally:
        for site in sites:
            await site.__aexit__(None, None, None)


async def test_a_crawl_that_is_stopped_doesnt_wait_for_dates() -> None:
    clock, watcher = ManualClock(), Watcher()
    async with Site({"/": answer(503, Retry_After="250")}) as site:
        spider = Titles(start_urls=[site.url()])
        async with scrapekit.crawl(
            spider, settings={"obey_robots": False}, clock=clock, observers=[watcher]
        ) as run:
            await watcher.until(RetryScheduled)
            run.stop()
        assert run.report.reason == "stopped"
    assert clock.next_timer() is None
    assert watcher.count(PageFetched) == 1
