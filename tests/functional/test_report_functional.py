"""What the report counts, against what a site was really asked and really sent."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import web

import scrapekit
from scrapekit import DropItem, Response, Spider
from scrapekit.events import CrawlFinished, CrawlStarted, PageDone, PageFetched
from tests.functional.site import (
    Pages,
    Site,
    Watcher,
    answer,
    crawled,
    held,
    in_turn,
    links,
    redirect,
)
from tests.functional.spiders import Following, Raising, Titles


class Shop(Spider):
    """Does all there is to count."""

    async def parse(self, response: Response) -> AsyncIterator[Any]:
        if response.url.endswith("/broken"):
            raise LookupError("no price")
        yield {"url": response.url}
        yield {"url": None}
        yield response.follow_all()


def priced(item: dict[str, Any]) -> dict[str, Any]:
    if item["url"] is None:
        raise DropItem("no URL")
    return item


ROBOTS = "User-agent: *\nDisallow: /private"


async def test_a_whole_crawl_is_counted_right() -> None:
    home = links(
        "/a", "/a#top", "/moved", "/gone", "/busy", "/broken", "/private", "http://other.test/"
    )
    pages: Pages = {
        "/robots.txt": answer(body=ROBOTS),
        "/": home,
        "/a": links("/"),
        "/moved": redirect("/b"),
        "/b": "b",
        "/gone": 410,
        "/busy": in_turn(503, "busy"),
        "/broken": "broken",
    }
    watcher = Watcher()
    async with Site(pages) as site:
        items, report = await crawled(
            Shop(start_urls=[site.url()]),
            pipeline=[priced],
            settings={"obey_robots": True},
            observers=[watcher],
        )
        broken, gone = site.url("/broken"), site.url("/gone")
    # "/", "/a", "/b", "/busy" and "/broken" were handed to the callback.
    assert report.pages == 5
    assert report.statuses == {200: 5, 410: 1, 503: 1}
    sizes = [len(home), len(links("/")), len("b"), len("busy"), len("broken")]
    assert report.bytes == sum(sizes)
    assert report.retries == 1
    assert report.dropped == {"off-domain": 1, "duplicate": 1, "robots": 1}
    assert report.items == len(items) == 4
    assert report.items_dropped == {"no URL": 4}
    assert report.reason == "finished"
    assert not report.ok
    errors = {(g.error, g.during, g.count, g.example) for g in report.errors}
    assert errors == {
        ("LookupError", "callback", 1, broken),
        ("BadStatus 410", "fetch", 1, gone),
    }
    (cost,) = report.callbacks
    assert (cost.callback, cost.lane, cost.calls) == ("parse", "loop", 5)
    # Each request settled once: seven of them ended, and one was tried twice.
    assert watcher.count(PageDone) == 7
    assert watcher.count(PageFetched) == 7
    assert watcher.count(CrawlStarted) == watcher.count(CrawlFinished) == 1


async def test_bytes_are_those_of_decoded_bodies() -> None:
    body = b"x" * 10_000

    async def zipped(_request: web.BaseRequest) -> web.StreamResponse:
        headers = {"Content-Encoding": "gzip"}
        return web.Response(body=gzip.compress(body), headers=headers)

    async with Site({"/": zipped}) as site:
        _, report = await crawled(Titles(start_urls=[site.url()]))
    assert report.bytes == len(body)


async def test_failures_of_one_kind_are_one_line_with_a_count() -> None:
    async with Site({"*": ""}) as site:
        spider = Raising(start_urls=site.urls(*(f"/{n}" for n in range(20))))
        _, report = await crawled(spider)
    (group,) = report.errors
    assert group.count == report.error_count == 20
    assert "20 x LookupError (callback in parse at " in str(report)
    assert "no price" in str(report)


async def test_ok_is_false_if_no_page_came_and_true_if_only_some_failed() -> None:
    async with Site({"/": ""}) as site:
        _, none = await crawled(Titles(start_urls=[site.url("/gone")]))
        _, some = await crawled(Titles(start_urls=site.urls("/", "/gone")))
    assert (none.ok, none.pages) == (False, 0)
    assert (some.ok, some.pages, some.error_count) == (True, 1, 1)


async def test_the_report_can_be_read_under_way() -> None:
    gate = asyncio.Event()
    async with Site({"/": links("/held"), "/held": held(gate)}) as site:
        spider = Following(start_urls=[site.url()])
        async with scrapekit.crawl(spider, settings={"obey_robots": False}) as run:
            await site.until(lambda: "/held" in site.hits)
            early = run.report
            assert (early.pages, run.in_flight, run.pending) == (1, 1, 0)
            gate.set()
            await run.wait()
            assert early.pages == 1
        assert run.report.pages == 2
        assert run.report.duration_s == run.report.duration_s > 0


async def test_the_report_survives_as_json() -> None:
    async with Site({"/": ""}) as site:
        _, report = await crawled(Raising(start_urls=[site.url()]))
    again = msgspec.json.decode(msgspec.json.encode(report), type=type(report))
    assert again == report


async def test_a_page_that_is_hostile_cant_write_to_the_terminal_by_way_of_the_report() -> None:
    class Echo(Spider):
        async def parse(self, response: Response) -> None:
            raise ValueError(response.text)

    async with Site({"/": "\x1b[31mred\x1b[0m\r\n\x07"}) as site:
        _, report = await crawled(Echo(start_urls=[site.url()]))
    assert "\x1b" not in str(report)
    assert "\x07" not in str(report)


async def test_nothing_is_settled_twice_or_left_unsettled() -> None:
    watcher = Watcher()
    pages: Pages = {"/": links(*(f"/{n}" for n in range(40))), "/7": 404, "/8": 500, "*": ""}
    async with Site(pages) as site:
        spider = Following(start_urls=[site.url()])
        async with scrapekit.crawl(
            spider,
            settings={"obey_robots": False, "retry_delay_s": 0.0},
            observers=[watcher],
        ) as run:
            await run.wait()
            assert (run.in_flight, run.pending) == (0, 0)
    done = [event.request.url for event in watcher.events if isinstance(event, PageDone)]
    assert len(done) == len(set(done)) == 41
