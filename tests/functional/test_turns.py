"""One turn, one request: redirects and robots.txt keep the limits of the origin they lead to."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

import scrapekit
from scrapekit import Request, Response, Spider
from scrapekit.clock import ManualClock
from scrapekit.events import PageDone, PageFetched, Recorder, RetryScheduled, RobotsRead
from scrapekit.frontier.memory import MemoryFrontier
from scrapekit.testing import FakeTransport
from tests.functional.site import (
    Handler,
    Pages,
    Site,
    Watcher,
    answer,
    crawled,
    held,
    idle,
    in_turn,
    links,
    redirect,
)
from tests.functional.spiders import Following, Titles

FULL = {"obey_robots": False, "adaptive": False}


class Anywhere(Titles):
    allowed_domains = ("*",)


async def test_redirects_to_another_origin_keep_its_concurrency() -> None:
    gate = asyncio.Event()
    async with Site({"*": held(gate)}) as other:
        pages: Pages = {f"/{n}": redirect(other.url(f"/{n}")) for n in range(20)}
        async with Site(pages) as site:
            spider = Anywhere(start_urls=site.urls(*pages))
            settings = {**FULL, "concurrency_per_origin": 3}
            async with scrapekit.crawl(spider, settings=settings) as run:
                await site.until(lambda: len(site.hits) == 20)
                await other.until(lambda: other.in_flight == 3)
                await idle(200)
                # Whoever waits for the other origin holds no slot of any kind.
                assert (run.in_flight, run.pending) == (3, 17)
                gate.set()
                items = [item async for item in run]
    assert other.peak == 3
    assert len(items) == 20
    assert run.report.pages == 20
    assert run.report.statuses == {200: 20}


async def test_redirects_to_another_origin_keep_its_delay() -> None:
    clock = ManualClock()
    times: list[float] = []

    async def page(_request: web.BaseRequest) -> web.StreamResponse:
        times.append(clock.now())
        return web.Response()

    async with Site({"*": page}) as other:
        pages: Pages = {f"/{n}": redirect(other.url(f"/{n}")) for n in range(3)}
        async with Site(pages) as site:
            spider = Anywhere(start_urls=[*site.urls(*pages), other.url("/own")])
            host = other.origin.partition("//")[2].partition(":")[0]
            settings = {**FULL, "domains": {host: {"delay_s": 10.0}}}
            async with scrapekit.crawl(spider, settings=settings, clock=clock) as run:
                while len(times) < 4:
                    await idle(20)
                    if (date := clock.next_timer()) is not None:
                        clock.advance_to(date)
                assert len([item async for item in run]) == 4
    assert all(later - earlier >= 10 for earlier, later in itertools.pairwise(times))


async def test_a_redirect_within_an_origin_keeps_its_delay_too() -> None:
    clock = ManualClock()
    times: list[float] = []

    async def page(request: web.BaseRequest) -> web.StreamResponse:
        times.append(clock.now())
        handler = redirect("/b") if request.path == "/a" else answer()
        return await handler(request)

    async with Site({"*": page}) as site:
        settings = {**FULL, "delay_s": 10.0}
        spider = Titles(start_urls=[site.url("/a")])
        async with scrapekit.crawl(spider, settings=settings, clock=clock) as run:
            await site.until(lambda: len(times) == 1)
            await idle()
            clock.advance(9.5)
            await idle()
            assert len(times) == 1
            clock.advance(0.5)
            assert len([item async for item in run]) == 1
    assert times[1] - times[0] == 10


async def test_no_redirect_reaches_an_origin_before_its_retry_after() -> None:
    clock, watcher = ManualClock(), Watcher()
    busy = in_turn(answer(429, Retry_After="30"), "")
    async with Site({"/busy": busy, "*": ""}) as other, Site() as site:
        site.pages["/a"] = redirect(other.url("/from-a"))
        spider = Anywhere(start_urls=[other.url("/busy")])
        async with scrapekit.crawl(spider, settings=FULL, clock=clock, observers=[watcher]) as run:
            await watcher.until(RetryScheduled)
            assert run._engine is not None
            await run._engine._scheduler.add([Request(site.url("/a"))])
            await site.until(lambda: site.hits == ["/a"])
            await idle(200)
            assert other.hits == ["/busy"]
            clock.advance(30)
            items = [item async for item in run]
    assert len(items) == 2
    assert sorted(other.hits) == ["/busy", "/busy", "/from-a"]


async def test_retry_after_holds_the_origin_that_said_so_not_the_one_that_led_there() -> None:
    clock, watcher = ManualClock(), Watcher()
    busy = in_turn(answer(503, Retry_After="60"), "")
    async with Site({"/b": busy}) as other, Site({"*": ""}) as site:
        site.pages["/a"] = redirect(other.url("/b"))
        spider = Anywhere(start_urls=[site.url("/a")])
        async with scrapekit.crawl(spider, settings=FULL, clock=clock, observers=[watcher]) as run:
            await watcher.until(RetryScheduled)
            assert run._engine is not None
            await run._engine._scheduler.add([Request(site.url("/free"))])
            await site.until(lambda: "/free" in site.hits)
            clock.advance(60)
            items = [item async for item in run]
    # The redirect may lead elsewhere by now, so the page starts over.
    assert (site.hits, other.hits) == (["/a", "/free", "/a"], ["/b", "/b"])
    assert len(items) == 2


async def test_a_page_behind_redirects_counts_once_and_keeps_its_depth() -> None:
    class Deep(Spider):
        async def parse(self, response: Response) -> Any:
            yield {"depth": response.request.depth, "by": len(response.redirects)}
            yield response.follow_all()

    recorder = Recorder()
    async with Site({"/end": links("/last"), "/last": ""}) as other:
        pages: Pages = {"/": links("/a"), "/a": redirect("/b"), "/b": redirect(other.url("/end"))}
        async with Site(pages) as site:
            spider = Deep(start_urls=[site.url()], allowed_domains=["*"])
            items, report = await crawled(spider, observers=[recorder], settings={"max_pages": 3})
    assert items == [{"depth": 0, "by": 0}, {"depth": 1, "by": 2}, {"depth": 2, "by": 0}]
    assert (report.pages, report.statuses, report.retries) == (3, {200: 3}, 0)
    for kind in (PageFetched, PageDone):
        assert sum(isinstance(event, kind) for event in recorder.events) == 3


async def test_a_redirect_that_is_gone_at_the_next_try_leaves_its_target_to_others() -> None:
    pages: Pages = {"/a": in_turn(redirect("/b"), ""), "/b": in_turn(503, "")}
    async with Site(pages) as site:

        class InTurn(Titles):
            async def start(self) -> Any:
                yield Request(site.url("/a"))
                await site.until(lambda: site.hits == ["/a", "/b", "/a"])
                await idle(50)
                yield Request(site.url("/c"))

        site.pages["/c"] = redirect("/b")
        items, report = await crawled(InTurn())
    assert site.hits == ["/a", "/b", "/a", "/c", "/b"]
    assert len(items) == 2
    assert report.dropped == {}


async def test_a_crawl_that_is_stopped_leaves_redirects_that_wait() -> None:
    never = asyncio.Event()
    frontier = MemoryFrontier()
    async with Site({"*": held(never)}) as other:
        pages: Pages = {f"/{n}": redirect(other.url(f"/{n}")) for n in range(5)}
        async with Site(pages) as site:
            spider = Anywhere(start_urls=site.urls(*pages))
            settings = {**FULL, "concurrency_per_origin": 1, "drain_s": 0.0}
            async with scrapekit.crawl(spider, settings=settings, frontier=frontier) as run:
                await site.until(lambda: len(site.hits) == 5)
                await other.until(lambda: other.in_flight == 1)
                run.stop()
    assert run.report.reason == "stopped"
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_end_of_a_redirect_needs_its_own_robots_txt() -> None:
    rules = answer(body="User-agent: *\nDisallow: /private")
    async with Site({"/robots.txt": rules, "*": ""}) as other:
        pages: Pages = {
            "/a": redirect(other.url("/private")),
            "/b": redirect(other.url("/open")),
            "/c": redirect(other.url("/open/2")),
        }
        async with Site(pages) as site:
            spider = Anywhere(start_urls=site.urls(*pages))
            items, report = await crawled(spider, settings={"obey_robots": True})
    assert (other.robots_hits, site.robots_hits) == (1, 1)
    assert sorted(other.hits) == ["/open", "/open/2"]
    assert len(items) == 2
    assert report.dropped == {"robots": 1}


# robots.txt


def robots(*lines: str) -> Handler:
    return answer(200, "\n".join(lines))


async def test_a_robots_txt_that_leads_to_another_origin_waits_for_its_turn_there() -> None:
    gate = asyncio.Event()
    pages: Pages = {"/slow": held(gate), "/rules": robots("User-agent: *", "Disallow: /b")}
    async with Site(pages) as other, Site({"*": ""}) as site:
        site.pages["/robots.txt"] = redirect(other.url("/rules"))
        spider = Anywhere(start_urls=[other.url("/slow"), *site.urls("/a", "/b")])
        settings = {"adaptive": False, "concurrency_per_origin": 1}
        async with scrapekit.crawl(spider, settings=settings) as run:
            await other.until(lambda: other.hits == ["/slow"])
            await idle(300)
            assert (site.robots_hits, other.hits, site.hits) == (1, ["/slow"], [])
            gate.set()
            items = [item async for item in run]
    assert other.hits == ["/slow", "/rules"]
    assert site.hits == ["/a"]
    assert len(items) == 2


async def test_robots_txt_files_that_lead_to_each_other_allow_all() -> None:
    async with Site({"*": ""}) as one, Site({"*": ""}) as other:
        one.pages["/robots.txt"] = redirect(other.url("/robots.txt"))
        other.pages["/robots.txt"] = redirect(one.url("/robots.txt"))
        spider = Anywhere(start_urls=[one.url("/1"), other.url("/2")])
        items, report = await crawled(
            spider, settings={"obey_robots": True, "concurrency_per_origin": 1}
        )
    assert len(items) == 2
    assert report.ok


async def test_a_robots_txt_of_more_than_five_redirects_counts_as_missing() -> None:
    pages: Pages = {f"/r{n}": redirect(f"/r{n + 1}") for n in range(1, 7)}
    pages |= {"/robots.txt": redirect("/r1"), "/r6": robots("User-agent: *", "Disallow: /")}
    async with Site({**pages, "/page": ""}) as site:
        items, _ = await crawled(
            Titles(start_urls=[site.url("/page")]), settings={"obey_robots": True}
        )
    assert site.hits == ["/r1", "/r2", "/r3", "/r4", "/r5", "/page"]
    assert len(items) == 1


async def test_a_robots_txt_is_read_again_after_a_day() -> None:
    clock = ManualClock()
    rules = in_turn("User-agent: *\nDisallow: /b", "User-agent: *\nDisallow: /c")
    async with Site({"/robots.txt": rules, "*": ""}) as site:
        later = clock.now() + 24 * 3600

        class TwoDays(Titles):
            async def start(self) -> Any:
                for path in ("/a", "/b"):
                    yield Request(site.url(path))
                for path in ("/b", "/c"):
                    yield Request(site.url(path), not_before_s=later, unique=False)

        async with scrapekit.crawl(TwoDays(), settings={"adaptive": False}, clock=clock) as run:
            await site.until(lambda: site.hits == ["/a"])
            await idle(100)
            clock.advance_to(later)
            items = [item async for item in run]
    assert site.robots_hits == 2
    assert site.hits == ["/a", "/b"]
    assert len(items) == 2
    assert run.report.dropped == {"robots": 2}


async def test_an_old_robots_txt_goes_on_to_hold_while_no_new_one_can_be_had() -> None:
    clock = ManualClock()
    rules = in_turn("User-agent: *\nDisallow: /b", 500)
    async with Site({"/robots.txt": rules, "*": ""}) as site:
        later = clock.now() + 24 * 3600

        class TwoDays(Titles):
            async def start(self) -> Any:
                yield Request(site.url("/a"))
                for path in ("/b", "/c"):
                    yield Request(site.url(path), not_before_s=later)

        settings = {"adaptive": False, "retries": 0}
        async with scrapekit.crawl(TwoDays(), settings=settings, clock=clock) as run:
            await site.until(lambda: site.hits == ["/a"])
            await idle(100)
            clock.advance_to(later)
            items = [item async for item in run]
    assert site.hits == ["/a", "/c"]
    assert len(items) == 2


async def test_while_a_robots_txt_fails_nothing_else_is_asked_for() -> None:
    watcher, clock = Watcher(), ManualClock()
    failing = in_turn(answer(503, Retry_After="40"), answer(503, Retry_After="40"), "")
    async with Site({"/robots.txt": failing, "*": ""}) as site:
        spider = Titles(start_urls=site.urls(*(f"/{n}" for n in range(30))))
        async with scrapekit.crawl(
            spider, settings={"adaptive": False}, clock=clock, observers=[watcher]
        ) as run:
            for tries in (1, 2):
                await watcher.until(RetryScheduled, tries)
                await idle()
                clock.advance(39.5)
                await idle(100)
                assert (site.robots_hits, site.hits) == (tries, [])
                clock.advance(0.5)
            items = [item async for item in run]
    assert site.robots_hits == 3
    assert len(items) == 30
    assert run.report.retries == 2


async def test_a_robots_txt_that_is_given_up_costs_each_page_no_further_request() -> None:
    async with Site({"/robots.txt": 500, "*": ""}) as site:
        spider = Titles(start_urls=site.urls(*(f"/{n}" for n in range(30))))
        settings = {"obey_robots": True, "retries": 2, "max_outage_s": 0}
        items, report = await crawled(spider, settings=settings)
    assert (items, site.hits, site.robots_hits) == ([], [], 3)
    assert [(group.error, group.count) for group in report.errors] == [("RobotsUnavailable", 30)]


async def test_robots_txt_says_how_many_pages_in_which_time() -> None:
    clock = ManualClock()
    times: list[float] = []

    async def page(_request: web.BaseRequest) -> web.StreamResponse:
        times.append(clock.now())
        return web.Response()

    rules = robots("User-agent: *", "Request-rate: 2/1m")
    async with Site({"/robots.txt": rules, "*": page}) as site:
        spider = Titles(start_urls=site.urls(*(f"/{n}" for n in range(6))))
        async with scrapekit.crawl(spider, settings={"adaptive": False}, clock=clock) as run:
            while len(times) < 6:
                await site.until(lambda: len(times) == len(site.hits))
                await idle(100)
                if (date := clock.next_timer()) is not None and len(times) < 6:
                    clock.advance_to(date)
            assert len([item async for item in run]) == 6
    assert [time - times[0] for time in times] == [0, 0, 60, 60, 120, 120]


async def test_sitemaps_are_told_to_whoever_listens() -> None:
    recorder = Recorder()
    rules = robots("Sitemap: /sitemap.xml", "User-agent: *", "Sitemap: https://cdn.test/s.xml")
    async with Site({"/robots.txt": rules, "*": ""}) as site:
        await crawled(
            Titles(start_urls=[site.url()]), settings={"obey_robots": True}, observers=[recorder]
        )
        (read,) = [event for event in recorder.events if isinstance(event, RobotsRead)]
        assert read.origin == site.origin
        assert read.sitemaps == (site.url("/sitemap.xml"), "https://cdn.test/s.xml")


async def test_a_robots_txt_from_a_transport_that_breaks_costs_the_pages_not_the_crawl() -> None:
    def breaks(request: Request) -> str:
        raise ValueError("a bug in a transport")

    web_ = FakeTransport({"http://a.test/robots.txt": breaks, "http://b.test/": "<title>b</title>"})
    spider = Anywhere(start_urls=["http://a.test/", "http://b.test/"])
    async with scrapekit.crawl(spider, transport=web_) as run:
        items = [item async for item in run]
    assert len(items) == 1
    assert {group.error for group in run.report.errors} == {"ValueError", "RobotsUnavailable"}
    assert not run.report.ok


# Dates of requests


@pytest.mark.parametrize("kind", ["not_before_s", "delay_s"])
async def test_a_request_may_be_put_off_and_holds_up_no_other(kind: str) -> None:
    clock = ManualClock()
    seconds = {"not_before_s": clock.now() + 90, "delay_s": 90.0}[kind]
    options: dict[str, Any] = {kind: seconds}

    class Later(Spider):
        async def parse(self, response: Response) -> Any:
            yield {"at": clock.now()}
            if response.request.depth == 0:
                yield response.follow("/late", **options)
                yield response.follow("/soon")

    async with Site({"*": ""}) as site:
        spider = Later(start_urls=[site.url()])
        async with scrapekit.crawl(spider, settings=FULL, clock=clock) as run:
            await site.until(lambda: site.hits == ["/", "/soon"])
            await idle(50)
            clock.advance(89)
            await idle(50)
            assert len(site.hits) == 2
            clock.advance(1)
            items = [item async for item in run]
    assert [item["at"] - items[0]["at"] for item in items] == [0, 0, 90]


# Sharing


async def test_crawls_that_share_limits_keep_an_origins_concurrency_together() -> None:
    gate = asyncio.Event()
    shared = scrapekit.SharedLimits()
    settings = {**FULL, "concurrency_per_origin": 3}

    async def one(site: Site, number: int) -> int:
        spider = Titles(start_urls=site.urls(*(f"/{number}/{n}" for n in range(10))))
        async with scrapekit.crawl(spider, settings=settings, shared_limits=shared) as run:
            return len([item async for item in run])

    async with Site({"*": held(gate)}) as site:
        crawls = asyncio.gather(*(one(site, number) for number in range(4)))
        await site.until(lambda: site.in_flight == 3)
        await idle(300)
        gate.set()
        assert await crawls == [10] * 4
    assert site.peak == 3


async def test_crawls_that_share_limits_keep_a_delay_together() -> None:
    shared, clock = scrapekit.SharedLimits(), ManualClock()
    times: list[float] = []

    async def page(_request: web.BaseRequest) -> web.StreamResponse:
        times.append(clock.now())
        return web.Response()

    async def one(site: Site, number: int) -> int:
        spider = Titles(start_urls=site.urls(*(f"/{number}/{n}" for n in range(3))))
        settings = {**FULL, "delay_s": 5.0}
        async with scrapekit.crawl(
            spider, settings=settings, shared_limits=shared, clock=clock
        ) as run:
            return len([item async for item in run])

    async with Site({"*": page}) as site:
        crawls = asyncio.gather(*(one(site, number) for number in range(2)))
        while not crawls.done():
            await idle(100)
            if (date := clock.next_timer()) is not None:
                clock.advance_to(date)
        assert await crawls == [3, 3]
    assert [time - times[0] for time in times] == [0, 5, 10, 15, 20, 25]


def test_limits_are_shared_on_one_loop_only() -> None:
    shared = scrapekit.SharedLimits()
    web_ = FakeTransport({}, default_status=200)

    async def crawl() -> None:
        spider = Anywhere(start_urls=["http://a.test/"])
        async with scrapekit.crawl(spider, transport=web_, shared_limits=shared) as run:
            await run.wait()

    asyncio.run(crawl())
    asyncio.run(crawl())

    async def two_loops() -> None:
        await crawl()
        with pytest.raises(scrapekit.UsageError, match="one event loop"):
            await asyncio.to_thread(asyncio.run, crawl())

    asyncio.run(two_loops())


async def test_origins_can_be_handed_to_a_later_crawl() -> None:
    clock = ManualClock()
    rules = robots("User-agent: *", "Disallow: /b", "Crawl-delay: 10")
    async with Site({"/robots.txt": rules, "*": ""}) as site:
        watcher, spider = Watcher(), Titles(start_urls=[site.url("/a")])
        async with scrapekit.crawl(spider, clock=clock, observers=[watcher]) as run:
            await watcher.until(RobotsRead)
            await idle()
            clock.advance(10)
            await run.wait()
            assert run._engine is not None
            states = run._engine.learned.origins()
        async with scrapekit.crawl(Titles(), clock=clock) as run:
            assert run._engine is not None
            run._engine.learned.restore(states)
            assert run._engine.learned.origins() == states
        (state,) = states
        assert (state.origin, state.delay_s, state.held_until) == (
            site.origin,
            10.0,
            clock.now() + 10,
        )
        assert state.robots == "User-agent: *\nDisallow: /b\nCrawl-delay: 10"


async def test_links_of_a_page_that_says_nofollow_are_left_alone_if_asked_for() -> None:
    class Asking(Following):
        async def parse(self, response: Response) -> Any:
            yield {"path": response.url}
            yield response.follow_all(skip_nofollow=True)

    pages: Pages = {
        "/": links("/a", "/b"),
        "/a": answer(200, links("/x"), X_Robots_Tag="noindex, nofollow", Content_Type="text/html"),
        "/b": f'<meta name="Robots" content="NONE">{links("/y")}',
    }
    async with Site(pages) as site:
        await crawled(Asking(start_urls=[site.url()]))
    assert sorted(site.hits) == ["/", "/a", "/b"]


@pytest.mark.parametrize("obey", [False, True])
async def test_a_crawl_whose_only_start_has_to_wait_waits_for_it(*, obey: bool) -> None:
    class Later(Spider):
        url: str = ""

        async def start(self) -> AsyncIterator[Request]:
            yield Request(self.url, delay_s=0.05)

        async def parse(self, response: Response) -> dict[str, Any]:
            return {"url": response.url}

    async with Site({"/": ""}) as site:
        items, _ = await crawled(Later(url=site.url()), settings={"obey_robots": obey})
    assert len(items) == 1


async def test_a_crawl_that_is_cancelled_leaves_its_shared_limits() -> None:
    shared, gate = scrapekit.SharedLimits(), asyncio.Event()

    async with Site({"*": held(gate)}) as site:

        async def one(limit: int) -> int:
            spider = Titles(start_urls=site.urls(*(f"/{limit}/{n}" for n in range(4))))
            settings = {**FULL, "concurrency_per_origin": limit}
            async with scrapekit.crawl(spider, settings=settings, shared_limits=shared) as run:
                return len([item async for item in run])

        other = asyncio.create_task(one(2))
        await site.until(lambda: site.in_flight == 2)
        cancelled = asyncio.create_task(one(1))
        standing = shared.get(site.origin)
        assert standing is not None
        while not standing.blocked or len(standing.sharers or ()) < 2:
            await idle()
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert len(standing.sharers or ()) == 1
        gate.set()
        assert await other == 4
    assert not standing.blocked
    assert not standing.sharers
    assert standing.in_flight == 0
