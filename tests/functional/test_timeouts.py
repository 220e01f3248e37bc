from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

import scrapekit
from scrapekit import Response, Spider
from scrapekit.events import PageFetched, Recorder, RetryScheduled
from scrapekit.failure import Failure
from tests.functional.site import Handler, Site, answer, crawled, held, in_turn, redirect
from tests.functional.spiders import TITLE, Titles

pytestmark = pytest.mark.usefixtures("each_transport")

SHORT_S = 0.1
"""Long enough for what answers at once, short enough to be waited for."""

KB = 1024


class Kept(Titles):
    """Keeps its failures."""

    failures: list[Failure]

    def on_error(self, failure: Failure) -> None:
        self.failures = [*getattr(self, "failures", []), failure]


def phase(failure: Failure) -> tuple[str, float]:
    error = failure.error
    assert isinstance(error, scrapekit.errors.FetchTimeout)
    return error.phase, error.after_s


async def test_a_page_that_never_comes_fails_after_timeout_s() -> None:
    async with Site({"/": held(asyncio.Event())}) as site:
        spider = Kept(start_urls=[site.url()])
        _, report = await crawled(spider, settings={"timeout_s": SHORT_S, "retries": 0})
        await site.until(lambda: site.in_flight == 0)
    assert [phase(failure) for failure in spider.failures] == [("total", SHORT_S)]
    assert report.errors[0].message == "not done after 0.1 s"
    assert report.errors[0].of_user_code is False


async def test_timeout_s_is_for_all_redirects_together() -> None:
    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(SHORT_S * 0.7)
        return await redirect("/b" if request.path == "/a" else "/c")(request)

    async with Site({"/a": slow, "/b": slow, "/c": ""}) as site:
        spider = Kept(start_urls=[site.url("/a")])
        await crawled(spider, settings={"timeout_s": SHORT_S, "retries": 0})
    assert [phase(failure) for failure in spider.failures] == [("total", SHORT_S)]


async def test_silence_fails_after_read_timeout_s() -> None:
    async with Site({"/": held(asyncio.Event())}) as site:
        spider = Kept(start_urls=[site.url()])
        await crawled(spider, settings={"read_timeout_s": SHORT_S, "retries": 0})
    assert [phase(failure) for failure in spider.failures] == [("read", SHORT_S)]


def stalls_after(size: int) -> Handler:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(2 * size)})
        await response.prepare(request)
        await response.write(b"x" * size)
        await asyncio.Event().wait()
        return response

    return handler


async def test_silence_in_the_middle_of_a_body_fails_after_read_timeout_s() -> None:
    async with Site({"/": stalls_after(100)}) as site:
        spider = Kept(start_urls=[site.url()])
        await crawled(spider, settings={"read_timeout_s": SHORT_S, "retries": 0})
    assert [phase(failure) for failure in spider.failures] == [("read", SHORT_S)]


async def test_a_page_that_timed_out_is_tried_again() -> None:
    recorder = Recorder()
    async with Site({"/": in_turn(held(asyncio.Event()), "")}) as site:
        items, report = await crawled(
            Titles(start_urls=[site.url()]),
            settings={"timeout_s": SHORT_S},
            observers=[recorder],
        )
    assert items == [TITLE]
    assert report.retries == 1
    assert any(isinstance(event, RetryScheduled) for event in recorder.events)


class Holding(Spider):
    """Its callbacks hold the page's bytes until the gate opens."""

    gate: Any = None

    async def parse(self, response: Response) -> AsyncIterator[Any]:
        await self.gate.wait()
        yield {"size": len(response.body)}


@pytest.mark.parametrize("limit", ["timeout_s", "read_timeout_s"])
async def test_waiting_for_room_in_the_budget_of_bytes_is_no_timeout(limit: str) -> None:
    # Two pages fill the budget (the second one overdraws it), so the third one has to wait.
    size, gate, recorder = 300 * KB, asyncio.Event(), Recorder()
    async with Site({"*": answer(body="x" * size)}) as site:
        spider = Holding(start_urls=site.urls("/1", "/2", "/3"), gate=gate)
        settings = {
            "obey_robots": False,
            "retries": 0,
            "max_bytes_in_flight": size,
            limit: SHORT_S,
        }
        async with scrapekit.crawl(spider, settings=settings, observers=[recorder]) as run:
            await site.until(lambda: len(site.hits) == 3)
            await asyncio.sleep(3 * SHORT_S)  # this time must not count
            assert sum(isinstance(event, PageFetched) for event in recorder.events) < 3
            gate.set()
            items = [item async for item in run]
    assert items == [{"size": size}] * 3
    assert run.report.error_count == 0


async def test_time_before_the_wait_for_room_still_counts() -> None:
    size, gate = 300 * KB, asyncio.Event()

    async def never_whole(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(2 * size)})
        await response.prepare(request)
        await response.write(b"x" * size)
        await asyncio.Event().wait()
        return response

    pages = {"/1": answer(body="x" * size), "/2": answer(body="x" * size), "/3": never_whole}
    async with Site(pages) as site:
        spider = Holding(start_urls=site.urls("/1", "/2", "/3"), gate=gate)
        settings = {
            "obey_robots": False,
            "retries": 0,
            "max_bytes_in_flight": size,
            "timeout_s": SHORT_S,
        }
        async with scrapekit.crawl(spider, settings=settings) as run:
            await site.until(lambda: len(site.hits) == 3)
            await asyncio.sleep(2 * SHORT_S)
            gate.set()
            items = [item async for item in run]
    assert len(items) == 2
    assert [group.error for group in run.report.errors] == ["FetchTimeout"]


async def test_a_slow_consumer_times_out_nothing() -> None:
    async with Site({"*": answer(body="x" * 10 * KB)}) as site:
        spider = Titles(start_urls=site.urls(*(f"/{n}" for n in range(40))))
        settings = {
            "obey_robots": False,
            "retries": 0,
            "max_bytes_in_flight": 20 * KB,
            "timeout_s": SHORT_S,
            "read_timeout_s": SHORT_S,
        }
        items: list[Any] = []
        async with scrapekit.crawl(spider, settings=settings) as run:
            async for item in run:
                if not items:
                    await asyncio.sleep(3 * SHORT_S)
                items.append(item)
    assert len(items) == 40
    assert run.report.ok
    assert run.report.error_count == 0
