from __future__ import annotations

import asyncio
import gzip

import pytest
from aiohttp import web

import scrapekit
from scrapekit.clock import ManualClock
from scrapekit.events import Recorder, RetryScheduled, RobotsRead
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
    redirect,
)
from tests.functional.spiders import Following, Titles
from tests.rawserver import Exchange, serve

OBEY = {"obey_robots": True}


def robots(*lines: str) -> Handler:
    return answer(200, "\n".join(lines))


async def test_what_robots_txt_disallows_is_dropped_and_counted() -> None:
    rules = robots("User-agent: *", "Disallow: /private", "Allow: /private/open")
    async with Site({"/robots.txt": rules, "*": ""}) as site:
        spider = Titles(start_urls=site.urls("/", "/private/a", "/private/open", "/private"))
        items, report = await crawled(spider, settings=OBEY)
    assert sorted(site.hits) == ["/", "/private/open"]
    assert len(items) == 2
    assert report.dropped == {"robots": 2}
    assert report.ok


async def test_the_rules_for_our_own_name_count() -> None:
    rules = robots("User-agent: *", "Disallow: /", "", "User-agent: teabot", "Disallow: /b")
    async with Site({"/robots.txt": rules, "*": ""}) as site:
        spider = Titles(start_urls=site.urls("/a", "/b"))
        settings = {**OBEY, "user_agent": "TeaBot/1.0 (+https://site.test)"}
        await crawled(spider, settings=settings)
    assert site.hits == ["/a"]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_a_robots_txt_that_isnt_there_allows_all(status: int) -> None:
    async with Site({"/robots.txt": status, "*": ""}) as site:
        items, report = await crawled(Titles(start_urls=site.urls("/a", "/b")), settings=OBEY)
    assert len(items) == 2
    assert site.robots_hits == 1
    assert report.ok


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_robots_txt_that_fails_forbids_all_and_is_tried_again_at_dates(status: int) -> None:
    recorder = Recorder()
    async with Site({"/robots.txt": status, "*": ""}) as site:
        items, report = await crawled(
            Titles(start_urls=[site.url()]),
            settings={**OBEY, "retries": 2, "max_outage_s": 0},
            observers=[recorder],
        )
    assert items == []
    assert site.hits == []
    assert site.robots_hits == 3
    assert report.retries == 2
    assert [(g.error, g.of_user_code) for g in report.errors] == [("RobotsUnavailable", False)]
    assert sum(isinstance(event, RetryScheduled) for event in recorder.events) == 2


async def test_a_robots_txt_that_comes_back_lets_the_pages_be_fetched() -> None:
    pages: Pages = {"/robots.txt": in_turn(500, "User-agent: *\nDisallow: /b"), "*": ""}
    async with Site(pages) as site:
        items, report = await crawled(Titles(start_urls=site.urls("/a", "/b")), settings=OBEY)
    assert site.hits == ["/a"]
    assert len(items) == 1
    assert report.dropped == {"robots": 1}


async def test_one_robots_txt_per_origin_is_fetched_however_many_pages_ask() -> None:
    gate = asyncio.Event()
    async with Site({"/robots.txt": held(gate), "*": ""}) as site, Site({"*": ""}) as other:
        starts = [*site.urls(*(f"/{n}" for n in range(30))), *other.urls("/a", "/b")]
        settings = {**OBEY, "concurrency": 40, "concurrency_per_origin": 40}
        async with scrapekit.crawl(Titles(start_urls=starts), settings=settings) as run:
            await other.until(lambda: len(other.hits) == 2)
            await idle()
            assert site.hits == []
            assert site.robots_hits == 1
            gate.set()
            items = [item async for item in run]
    assert len(items) == 32
    assert (site.robots_hits, other.robots_hits) == (1, 1)


async def test_a_robots_txt_that_redirects_is_read_where_it_leads() -> None:
    rules = robots("User-agent: *", "Disallow: /b")
    async with Site({"/robots.txt": redirect("/rules"), "/rules": rules, "*": ""}) as site:
        await crawled(Titles(start_urls=site.urls("/a", "/b")), settings=OBEY)
    assert site.hits == ["/rules", "/a"]


async def test_a_visit_that_is_cut_short_leaves_the_robots_txt_to_others() -> None:
    gate = asyncio.Event()
    async with Site({"/robots.txt": held(gate), "*": ""}) as site:

        async def asked(request: web.BaseRequest) -> web.StreamResponse:
            asking.set()
            return await held(gate)(request)

        asking = asyncio.Event()
        site.pages["/robots.txt"] = asked
        spider = Titles(start_urls=[site.url()])
        async with scrapekit.crawl(spider, settings=OBEY) as run:
            await asking.wait()
            run.cancel()
        assert run.report.reason == "stopped"
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_crawl_delay_is_kept_after_robots_txt_and_between_any_two_pages() -> None:
    clock = ManualClock()
    times: list[float] = []

    async def page(_request: web.BaseRequest) -> web.StreamResponse:
        times.append(clock.now())
        return web.Response()

    rules, watcher = robots("User-agent: *", "Crawl-delay: 10"), Watcher()
    async with Site({"/robots.txt": rules, "*": page}) as site:
        spider = Titles(start_urls=site.urls("/1", "/2", "/3", "/4"))
        async with scrapekit.crawl(spider, settings=OBEY, clock=clock, observers=[watcher]) as run:
            await watcher.until(RobotsRead)
            for pages in range(4):
                await site.until(lambda: len(times) == pages)  # noqa: B023
                await idle()
                assert len(times) == pages
                clock.advance(9.5)
                await idle()
                assert len(times) == pages
                clock.advance(0.5)
            items = [item async for item in run]
    assert len(items) == 4


async def test_crawl_delay_of_one_origin_doesnt_slow_down_another() -> None:
    clock = ManualClock()
    rules = robots("User-agent: *", "Crawl-delay: 100")
    async with Site({"/robots.txt": rules, "*": ""}) as slow, Site({"*": ""}) as fast:
        paths = [f"/{n}" for n in range(10)]
        starts = [*slow.urls(*paths), *fast.urls(*paths)]
        settings = {**OBEY, "concurrency": 2}
        async with scrapekit.crawl(Titles(start_urls=starts), settings=settings, clock=clock):
            await fast.until(lambda: len(fast.hits) == 10)
            assert len(slow.hits) <= 1
            run_out = asyncio.create_task(_advance(clock))
        run_out.cancel()
    assert len(slow.hits) == 10


async def test_a_crawl_delay_that_makes_a_crawl_look_dead_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rules = robots("User-agent: *", "Crawl-delay: 99999")
    async with Site({"/robots.txt": rules, "*": ""}) as site:
        watcher, spider = Watcher(), Titles(start_urls=site.urls("/a"))
        async with scrapekit.crawl(spider, settings=OBEY, observers=[watcher]) as run:
            await watcher.until(RobotsRead)
            run.cancel()
    assert "asks for 86400 s between requests" in caplog.text


async def _advance(clock: ManualClock) -> None:
    while True:
        await idle(5)
        clock.advance(100)


async def test_a_robots_txt_is_asked_for_without_credentials_of_other_origins() -> None:
    async with Site({"/robots.txt": "", "*": ""}) as other, Site() as site:
        headers: list[str | None] = []

        async def rules(request: web.BaseRequest) -> web.StreamResponse:
            headers.append(request.headers.get("X-Api-Key"))
            return web.Response()

        other.pages["/robots.txt"] = rules
        site.pages["/"] = f'<a href="{other.url("/there")}">'
        spider = Following(start_urls=[site.url()], allowed_domains=["*"])
        await crawled(spider, settings={**OBEY, "headers": {"X-Api-Key": "mine"}})
    assert headers == [None]
    assert other.hits == ["/there"]
    assert "X-Api-Key" not in other.requests[0].headers


async def test_a_robots_txt_built_to_take_time_costs_its_own_urls() -> None:
    rules = robots(
        "User-agent: *", *(f"Disallow: /*aaaaaaaa{number}aaaaaaaa" for number in range(15_000))
    )
    async with Site({"/robots.txt": rules, "*": ""}) as site:
        nasty = "/" + "a" * 1_900
        _, report = await crawled(Titles(start_urls=site.urls(nasty, "/b")), settings=OBEY)
    assert site.hits == ["/b"]
    assert report.dropped == {"robots-too-complex": 1}


LONG = "\n".join(["User-agent: *", "Disallow: /b", *(f"# {'.' * 97}" for _ in range(30_000))])


@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("max_body_bytes", [100, 1_000_000])
async def test_a_robots_txt_is_read_up_to_500_kib_however_long_it_is(
    coding: str, max_body_bytes: int
) -> None:
    body = gzip.compress(LONG.encode(), 0) if coding else LONG.encode()
    sent = {"Content-Encoding": coding} if coding else {}

    async def rules(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=body, headers=sent)

    async with Site({"/robots.txt": rules, "*": ""}) as site:
        spider = Titles(start_urls=site.urls("/a", "/b"))
        _, report = await crawled(spider, settings={**OBEY, "max_body_bytes": max_body_bytes})
    assert site.hits == ["/a"]
    assert report.dropped == {"robots": 1}
    assert site.robots_hits == 1


async def test_a_robots_txt_without_end_is_left_at_500_kib() -> None:
    async def reply(exchange: Exchange) -> None:
        if exchange.line.startswith("GET /robots.txt"):
            await exchange.send(b"HTTP/1.1 200 OK\r\n\r\nUser-agent: *\nDisallow: /b\n")
            while True:
                await exchange.send(b"Disallow: /c\n" * 1_000)
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")

    async with serve(reply) as server:
        spider = Titles(start_urls=[server.url("/a"), server.url("/b")])
        _, report = await crawled(spider, settings=OBEY)
        assert server.connections == 2
    assert server.lines == ["GET /robots.txt HTTP/1.1", "GET /a HTTP/1.1"]
    assert report.ok
