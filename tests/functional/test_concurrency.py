from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest
from aiohttp import web

import scrapekit
from scrapekit import Response, Spider, lane
from scrapekit.clock import ManualClock
from tests.functional.site import Pages, Site, crawled, idle, links
from tests.functional.spiders import Following, Titles


class Crowd:
    """Holds requests until so many are there at a time; after that lets each go at once.

    Before any goes, whoever wants to exceed the number has every chance to.
    """

    def __init__(self, size: int) -> None:
        self.full = asyncio.Event()
        self.now = 0
        self.peak = 0
        self._size = size

    async def __call__(self, _request: web.BaseRequest) -> web.StreamResponse:
        self.now += 1
        self.peak = max(self.peak, self.now)
        if self.now == self._size and not self.full.is_set():
            await idle(200)
            self.full.set()
        await self.full.wait()
        await idle(3)
        self.now -= 1
        return web.Response()


@pytest.mark.parametrize("concurrency", [1, 3, 16])
async def test_never_more_than_concurrency_pages_at_a_time(concurrency: int) -> None:
    crowd = Crowd(concurrency)
    async with Site({"*": crowd}) as site:
        spider = Titles(start_urls=site.urls(*(f"/{n}" for n in range(60))))
        settings = {"concurrency": concurrency, "concurrency_per_origin": 50}
        items, report = await crawled(spider, settings=settings)
    assert crowd.peak == concurrency
    assert len(items) == report.pages == 60


async def test_never_more_than_concurrency_per_origin_pages_of_one_origin_at_a_time() -> None:
    crowds = [Crowd(3) for _ in range(4)]
    async with AsyncExitStack() as stack:
        sites = [await stack.enter_async_context(Site({"*": crowd})) for crowd in crowds]
        starts = [url for site in sites for url in site.urls(*(f"/{n}" for n in range(20)))]
        settings = {"concurrency": 100, "concurrency_per_origin": 3}
        items, _ = await crawled(Titles(start_urls=starts), settings=settings)
    assert [crowd.peak for crowd in crowds] == [3, 3, 3, 3]
    assert len(items) == 80


async def test_links_are_fetched_side_by_side_like_start_urls() -> None:
    crowd = Crowd(8)
    pages: Pages = {"/": links(*(f"/{n}" for n in range(30))), "*": crowd}
    async with Site(pages) as site:
        items, _ = await crawled(Following(start_urls=[site.url()]))
    assert crowd.peak == 8
    assert len(items) == 31


async def test_a_slow_origin_leaves_the_slots_to_others() -> None:
    never = asyncio.Event()

    async def hang(_request: web.BaseRequest) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    async with Site({"*": hang}) as slow, Site({"*": ""}) as fast:
        paths = [f"/{n}" for n in range(20)]
        settings = {"obey_robots": False, "concurrency": 4, "concurrency_per_origin": 2}
        spider = Titles(start_urls=[*slow.urls(*paths), *fast.urls(*paths)])
        async with scrapekit.crawl(spider, settings=settings) as run:
            items = []
            async for item in run:
                items.append(item)
                if len(items) == 20:
                    break
    assert len(fast.hits) == 20
    assert slow.peak == 2


async def test_a_thousand_connections_at_a_time() -> None:
    crowd = Crowd(1000)
    async with Site({"*": crowd}) as site:
        spider = Titles(start_urls=site.urls(*(f"/{n}" for n in range(1000))))
        settings = {"concurrency": 1000, "concurrency_per_origin": 1000}
        items, report = await crawled(spider, settings=settings)
    assert crowd.peak == 1000
    assert len(items) == 1000
    assert report.ok


async def test_delay_s_lies_between_any_two_requests_to_an_origin() -> None:
    clock = ManualClock()
    times: list[float] = []

    async def page(_request: web.BaseRequest) -> web.StreamResponse:
        times.append(clock.now())
        return web.Response()

    async with Site({"*": page}) as site:
        spider = Titles(start_urls=site.urls("/1", "/2", "/3", "/4"))
        settings = {"obey_robots": False, "delay_s": 2.0}
        async with scrapekit.crawl(spider, settings=settings, clock=clock) as run:
            for pages in range(1, 5):
                await site.until(lambda: len(site.hits) == pages)  # noqa: B023
                await idle()
                clock.advance(1.5)
                await idle()
                assert len(times) == pages
                clock.advance(0.5)
            assert len([item async for item in run]) == 4
    assert [later - earlier for earlier, later in pairwise(times)] == [2.0] * 3


async def test_delay_s_of_many_origins_run_side_by_side() -> None:
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        crowds = [Crowd(1) for _ in range(6)]
        sites = [await stack.enter_async_context(Site({"*": crowd})) for crowd in crowds]
        starts = [url for site in sites for url in site.urls("/1", "/2", "/3")]
        settings = {"obey_robots": False, "delay_s": 10.0}
        async with scrapekit.crawl(
            Titles(start_urls=starts), settings=settings, clock=clock
        ) as run:
            for pages in range(1, 4):
                for site in sites:
                    await site.until(lambda: len(site.hits) == pages)  # noqa: B023
                await idle()
                clock.advance(10.0)
            assert len([item async for item in run]) == 18
    assert clock.now() == ManualClock().now() + 30


async def test_an_async_callback_waits_without_keeping_a_thread() -> None:
    together = asyncio.Event()
    count = 0

    class Waiting(Spider):
        async def parse(self, response: Response) -> None:
            nonlocal count
            count += 1
            if count == 30:
                together.set()
            await together.wait()

    async with Site({"*": ""}) as site:
        spider = Waiting(start_urls=site.urls(*(f"/{n}" for n in range(30))))
        settings = {"concurrency": 30, "concurrency_per_origin": 30, "threads": 1}
        _, report = await crawled(spider, settings=settings)
    assert report.pages == 30
    assert report.ok


async def test_a_callback_may_be_sent_to_a_lane() -> None:
    class Laned(Spider):
        @lane("loop")
        def parse(self, response: Response) -> dict[str, object]:
            return {"loop": asyncio.get_running_loop() is loop}

    loop = asyncio.get_running_loop()
    async with Site({"/": ""}) as site:
        items, _ = await crawled(Laned(start_urls=[site.url()]))
    assert items == [{"loop": True}]
