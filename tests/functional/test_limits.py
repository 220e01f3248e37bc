from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import scrapekit
from scrapekit import Request, Response, Spider
from scrapekit.clock import ManualClock
from scrapekit.testing import FakeTransport
from tests.functional.site import Pages, Site, answer, crawled, held, idle, in_turn, links, redirect
from tests.functional.spiders import TITLE, Following, Titles

HOME = "http://shop.test"


@pytest.mark.parametrize(("depth", "hits"), [(0, 1), (1, 2), (2, 3), (None, 4)])
async def test_max_depth_counts_links_from_the_start(depth: int | None, hits: int) -> None:
    pages = {"/": links("/1"), "/1": links("/2"), "/2": links("/3"), "/3": ""}
    async with Site(pages) as site:
        _, report = await crawled(Following(start_urls=[site.url()]), settings={"max_depth": depth})
    assert site.hits == ["/", "/1", "/2", "/3"][:hits]
    assert report.dropped == ({} if depth is None else {"depth": 1})


async def test_links_that_are_too_long_arent_filed() -> None:
    long = "/" + "a" * 2_000
    pages = {"/": links("/1", long, "/2"), "/1": links(long, long + "b"), "*": ""}
    async with Site(pages) as site:
        spider = Following(start_urls=[site.url()])
        _, report = await crawled(spider)
        # The second one would be a duplicate of the first if that were filed.
        assert report.dropped == {"trap: the URL is too long": 3}
        assert sorted(site.hits) == ["/", "/1", "/2"]
        _, report = await crawled(spider, settings={"traps": False})
    assert report.dropped == {"duplicate": 1}
    assert long in site.hits


async def test_no_rules_are_asked_about_what_is_too_long() -> None:
    """Links aside, redirects lead there."""
    long = "/" + "a" * 2_000
    pages: Pages = {
        "/robots.txt": answer(body="User-agent: *\nDisallow: /aaa"),
        "/": links("/moved"),
        "/moved": redirect(long),
    }
    async with Site(pages) as site:
        spider = Following(start_urls=[site.url()])
        _, report = await crawled(spider, settings={"obey_robots": True})
        assert report.dropped == {"trap: the URL is too long": 1}
        _, report = await crawled(spider, settings={"obey_robots": True, "traps": False})
    assert report.dropped == {"robots": 1}


async def test_max_pages_is_exact_with_many_at_a_time() -> None:
    async with Site({"*": links(*map(str, range(50)))}) as site:
        items, report = await crawled(
            Following(start_urls=[site.url()]), settings={"max_pages": 7, "concurrency": 5}
        )
    assert len(site.hits) == len(items) == report.pages == 7
    assert report.reason == "max_pages"
    assert report.ok


async def test_a_page_that_is_tried_again_counts_once() -> None:
    async with Site({"/": in_turn(503, 503, links("/next")), "*": ""}) as site:
        items, report = await crawled(
            Following(start_urls=[site.url()]), settings={"max_pages": 1, "retries": 2}
        )
    assert site.hits == ["/", "/", "/"]
    assert len(items) == report.pages == 1
    assert report.reason == "max_pages"


async def test_what_may_not_be_fetched_doesnt_count_as_a_page() -> None:
    pages: Pages = {
        "/robots.txt": answer(body="User-agent: *\nDisallow: /private"),
        "/private": "",
        "/moved": redirect("/private"),
        "/": links("/next"),
        "/next": "",
    }
    async with Site(pages) as site:
        spider = Following(start_urls=site.urls("/private", "/moved", "/"))
        settings = {"obey_robots": True, "max_pages": 2, "concurrency": 1}
        _, report = await crawled(spider, settings=settings)
    assert site.hits == ["/moved", "/", "/next"]
    assert report.pages == 2


async def test_only_what_goes_to_a_callback_is_a_page_for_max_pages_and_the_report() -> None:
    pages: Pages = {"/broken": 500, "/accepted": 410, "*": ""}
    async with Site(pages) as site:
        site.pages["/gone"] = 404
        spider = Titles(start_urls=site.urls("/gone", "/broken", "/accepted", "/1", "/2", "/3"))
        settings = {"max_pages": 3, "concurrency": 1, "retries": 0, "accept_statuses": [410]}
        items, report = await crawled(spider, settings=settings)
    assert site.hits == ["/gone", "/broken", "/accepted", "/1", "/2"]
    assert len(items) == report.pages == 3
    assert (report.reason, report.unfinished) == ("max_pages", 1)
    assert "  left       1 request not done" in str(report)


async def test_a_page_whose_redirect_still_waits_when_the_crawl_is_stopped_is_told(
    tmp_path: Path,
) -> None:
    async with Site({"/": redirect("/moved"), "/moved": ""}) as site:
        for job in (None, tmp_path / "job"):
            clock = ManualClock()
            async with scrapekit.crawl(
                Titles(start_urls=[site.url()]),
                settings={"obey_robots": False, "delay_s": 10.0},
                clock=clock,
                job=job,
            ) as run:
                while not (run.pending == 1 and site.hits[-1:] == ["/"]):
                    await idle()
                run.stop()
            assert (run.report.reason, run.report.pages) == ("stopped", 0)
            assert run.report.unfinished == 1
            assert job is None or (run.report.job is not None and run.report.job.pending == 1)
        items, report = await crawled(Titles(start_urls=[site.url()]), job=tmp_path / "job")
    assert site.hits == ["/", "/", "/", "/moved"]
    assert len(items) == 1
    assert (report.unfinished, report.reason) == (0, "finished")


async def test_a_crawl_with_fewer_pages_than_max_pages_just_finishes() -> None:
    async with Site({"/": links("/a"), "/a": ""}) as site:
        _, report = await crawled(Following(start_urls=[site.url()]), settings={"max_pages": 9})
    assert (report.pages, report.reason) == (2, "finished")


async def test_max_items_is_exact_with_many_at_a_time() -> None:
    class Three(Spider):
        async def parse(self, response: Response) -> AsyncIterator[Any]:
            for number in range(3):
                yield {"number": number}

    async with Site({"*": ""}) as site:
        spider = Three(start_urls=site.urls(*(f"/{n}" for n in range(20))))
        items, report = await crawled(spider, settings={"max_items": 7, "concurrency": 5})
    assert len(items) == report.items == 7
    assert report.reason == "max_items"
    assert report.ok


async def test_max_items_waits_for_pages_that_can_add_nothing_no_longer_than_drain_s() -> None:
    never = asyncio.Event()
    async with Site({"/hangs": held(never)}) as site:

        async def first(_request: web.BaseRequest) -> web.StreamResponse:
            await site.until(lambda: "/hangs" in site.hits)
            return web.Response()

        site.pages["/"] = first
        spider = Titles(start_urls=site.urls("/", "/hangs"))
        items, report = await crawled(spider, settings={"max_items": 1, "drain_s": 0.0})
    assert items == [TITLE]
    assert report.reason == "max_items"


async def test_max_seconds_ends_the_crawl_and_after_drain_s_what_is_in_flight() -> None:
    never, clock = asyncio.Event(), ManualClock()
    async with Site({"/": links("/hangs"), "/hangs": held(never)}) as site:
        spider = Following(start_urls=[site.url()])
        settings = {"obey_robots": False, "max_seconds": 60, "drain_s": 5}
        async with scrapekit.crawl(spider, settings=settings, clock=clock) as run:
            await site.until(lambda: "/hangs" in site.hits)
            clock.advance(60)
            await idle()
            assert site.in_flight == 1
            clock.advance(5)
            items = [item async for item in run]
    assert [item["path"] for item in items] == ["/"]
    assert (run.report.reason, run.report.pages) == ("max_seconds", 1)
    assert run.report.duration_s == 65


async def test_a_stop_lets_pages_in_flight_finish() -> None:
    gate = asyncio.Event()
    async with Site({"/": held(gate, links("/next")), "/next": ""}) as site:
        spider = Following(start_urls=[site.url()])
        async with scrapekit.crawl(spider, settings={"obey_robots": False}) as run:
            await site.until(lambda: site.in_flight == 1)
            run.stop()
            gate.set()
            items = [item async for item in run]
    assert [item["path"] for item in items] == ["/"]
    assert site.hits == ["/"]
    assert run.report.reason == "stopped"


async def test_a_crawl_isnt_finished_at_max_pages_while_start_may_have_more() -> None:
    class Unending(Titles):
        async def start(self) -> AsyncIterator[Request]:
            yield Request(f"{HOME}/1")
            yield Request(f"{HOME}/2")
            await asyncio.Event().wait()

    web = FakeTransport({}, default_status=200)
    _, report = await crawled(Unending(), transport=web, settings={"max_pages": 2})
    assert (report.pages, report.reason) == (2, "max_pages")


async def test_a_plain_start_that_gives_just_max_pages_is_finished() -> None:
    class Few(Titles):
        def start(self) -> Iterator[Request]:  # type: ignore[override]
            yield from (Request(f"{HOME}/{number}") for number in range(3))

    web = FakeTransport({}, default_status=200)
    _, report = await crawled(Few(), transport=web, settings={"max_pages": 3})
    assert (report.pages, report.reason) == (3, "finished")
