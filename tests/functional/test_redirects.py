from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

import scrapekit
from scrapekit import Request, Response, Spider
from scrapekit.clock import ManualClock
from scrapekit.events import PageDone, RetryScheduled
from tests.functional.site import (
    Pages,
    Site,
    Watcher,
    answer,
    crawled,
    held,
    idle,
    in_turn,
    links,
    only_error,
    redirect,
)
from tests.functional.spiders import Following

pytestmark = pytest.mark.usefixtures("each_transport")


class Landed(Spider):
    """An item a page: where it came from in the end, and by which way."""

    async def parse(self, response: Response) -> dict[str, Any]:
        path = response.url.partition("://")[2].partition("/")[2]
        return {"path": f"/{path}", "by": len(response.redirects), "asked": response.request.url}


async def test_redirects_are_followed_and_remembered() -> None:
    pages: Pages = {"/a": redirect("/b", 301), "/b": redirect("c?x=1", 308), "/c": "here"}
    async with Site(pages) as site:
        items, report = await crawled(Landed(start_urls=[site.url("/a")]))
        assert items == [{"path": "/c?x=1", "by": 2, "asked": site.url("/a")}]
    assert site.hits == ["/a", "/b", "/c?x=1"]
    assert report.statuses == {200: 1}
    assert report.pages == 1


@pytest.mark.parametrize(("limit", "ok"), [(3, True), (2, False), (0, False)])
async def test_no_more_redirects_than_max_redirects_are_followed(limit: int, ok: bool) -> None:
    pages: Pages = {"/0": redirect("/1"), "/1": redirect("/2"), "/2": redirect("/3"), "/3": ""}
    async with Site(pages) as site:
        spider = Landed(start_urls=[site.url("/0")])
        items, report = await crawled(spider, settings={"max_redirects": limit})
    assert len(items) == ok
    assert len(site.hits) == min(limit, 3) + 1
    if not ok:
        assert only_error(report) == ("RedirectError", f"more than {limit} redirects")


@pytest.mark.parametrize(
    "pages",
    [
        {"/a": redirect("/a")},
        {"/a": redirect("/b"), "/b": redirect("/a")},
        {"/a": redirect("/b"), "/b": redirect("/c"), "/c": redirect("/b#again")},
    ],
    ids=["itself", "pair", "tail"],
)
async def test_a_circle_is_left_at_once_and_not_tried_again(pages: dict[str, Any]) -> None:
    async with Site(pages) as site:
        items, report = await crawled(Landed(start_urls=[site.url("/a")]))
    assert items == []
    assert sorted(site.hits) == sorted(pages)
    error, message = only_error(report)
    assert error == "RedirectError"
    assert "in a circle" in message


@pytest.mark.parametrize("location", ["mailto:a@site.test", "javascript:void(0)", "http://"])
async def test_a_redirect_to_what_is_no_page_is_an_error_of_the_site(location: str) -> None:
    async with Site({"/": redirect(location)}) as site:
        _, report = await crawled(Landed(start_urls=[site.url()]))
    assert site.hits == ["/"]
    assert only_error(report)[0] == "RedirectError"
    assert report.errors[0].of_user_code is False


async def test_a_redirect_status_without_location_is_a_status_like_others() -> None:
    async with Site({"/": 302}) as site:
        _, report = await crawled(Landed(start_urls=[site.url()]))
    assert only_error(report)[0] == "BadStatus 302"


async def test_the_scope_is_checked_at_every_hop() -> None:
    async with Site({"/": "outside", "/back": "outside"}) as other, Site() as site:
        outside = other.url().replace("127.0.0.1", "localhost")
        site.pages.update({"/a": redirect("/b"), "/b": redirect(outside)})
        items, report = await crawled(Landed(start_urls=[site.url("/a")]))
    assert items == []
    assert other.hits == []
    assert report.dropped == {"off-domain": 1}
    assert report.error_count == 0


async def test_robots_txt_is_heeded_at_every_hop() -> None:
    robots = answer(body="User-agent: *\nDisallow: /private")
    pages: Pages = {"/robots.txt": robots, "/a": redirect("/private"), "/private": "secret"}
    async with Site(pages) as site:
        items, report = await crawled(
            Landed(start_urls=[site.url("/a")]), settings={"obey_robots": True}
        )
    assert items == []
    assert site.hits == ["/a"]
    assert report.dropped == {"robots": 1}


async def test_a_page_is_fetched_once_whichever_redirects_lead_there() -> None:
    pages: Pages = {
        "/": links("/a", "/b", "/c"),
        "/a": redirect("/page"),
        "/b": redirect("/page"),
        "/c": redirect("/page"),
        "/page": links("/page", "/a"),
    }
    async with Site(pages) as site:
        items, report = await crawled(Following(start_urls=[site.url()]))
    assert site.hits.count("/page") == 1
    assert sorted(item["path"] for item in items) == ["/", "/page"]
    assert report.dropped["duplicate"] >= 2
    assert report.error_count == 0


async def test_a_link_to_a_page_that_a_redirect_led_to_is_a_duplicate() -> None:
    pages: Pages = {"/": links("/old"), "/old": redirect("/new"), "/new": links("/new", "/old")}
    async with Site(pages) as site:
        _, report = await crawled(Following(start_urls=[site.url()]))
    assert site.hits == ["/", "/old", "/new"]
    assert report.dropped == {"duplicate": 2}


class Linked(Landed):
    """Follows every link as well, and waits with the page until it is told."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self._site = site
        self._entered, self._gate = asyncio.Event(), asyncio.Event()

    async def parse(self, response: Response) -> Any:
        if response.url.endswith("/page"):
            self._entered.set()
            await self._gate.wait()
        return [{"path": response.url.removeprefix(self._site.origin)}, *response.follow_all()]


async def test_a_page_that_is_filed_while_a_redirect_fetches_it_comes_once() -> None:
    gate = asyncio.Event()

    class Both(Linked):
        async def start(self) -> AsyncIterator[Request]:
            self._gate.set()
            yield Request(self._site.url("/a"))
            await self._site.until(lambda: "/page" in self._site.hits)
            yield Request(self._site.url("/b"))
            await self._site.until(lambda: self._site.hits.count("/page") == 2)
            gate.set()

    pages: Pages = {"/a": redirect("/page"), "/b": links("/page"), "/page": held(gate)}
    async with Site(pages) as site:
        items, report = await crawled(Both(site))
    assert sorted(item["path"] for item in items) == ["/b", "/page"]
    assert report.pages == 2
    assert report.dropped == {"duplicate": 1}


@pytest.mark.parametrize("by_link", [True, False])
async def test_a_page_that_is_filed_while_its_callback_runs_comes_once(by_link: bool) -> None:
    class Both(Linked):
        async def start(self) -> AsyncIterator[Request]:
            yield Request(self._site.url("/a"))
            await self._entered.wait()
            yield Request(self._site.url("/b" if by_link else "/page"))
            while by_link and not watcher.count(PageDone):
                await idle()
            self._gate.set()

    watcher = Watcher()
    pages: Pages = {"/a": redirect("/page"), "/b": links("/page"), "/page": ""}
    async with Site(pages) as site:
        items, report = await crawled(Both(site), observers=[watcher])
    assert site.hits == ["/a", "/page", "/b"][: 2 + by_link]
    assert sorted(item["path"] for item in items) == ["/b", "/page"][1 - by_link :]
    assert report.dropped == {"duplicate": 1}


async def test_of_two_redirects_to_a_page_one_gets_there_whatever_becomes_of_the_other() -> None:
    class Both(Linked):
        async def start(self) -> AsyncIterator[Request]:
            self._gate.set()
            yield Request(self._site.url("/first"))
            await watcher.until(RetryScheduled)
            # It leads where the first one will come by again, and gives way to it.
            yield Request(self._site.url("/middle"))

    clock, watcher = ManualClock(), Watcher()
    pages: Pages = {
        "/first": redirect("/middle"),
        "/middle": redirect("/page"),
        "/page": in_turn(503, ""),
    }
    async with Site(pages) as site:
        crawl = scrapekit.crawl(
            Both(site), settings={"obey_robots": False}, clock=clock, observers=[watcher]
        )
        async with crawl as run:
            await site.until(lambda: site.hits.count("/middle") == 2)
            await idle()
            assert (run.pending, run.in_flight) == (2, 0)
            clock.advance(1)
            items = [item async for item in run]
    assert [item["path"] for item in items] == ["/page"]
    assert site.hits == ["/first", "/middle", "/page", "/middle", "/first", "/page"]
    assert run.report.dropped == {"duplicate": 1}


@pytest.mark.parametrize("count", [2, 3])
async def test_redirects_that_lead_to_each_other_dont_wait_for_ever(count: int) -> None:
    gate = asyncio.Event()

    def to(number: int) -> Any:
        async def moved(request: web.BaseRequest) -> web.StreamResponse:
            await gate.wait()
            return await redirect(f"/in/{number % count}")(request)

        return moved

    pages: Pages = {f"/{n}": redirect(f"/in/{n}") for n in range(count)}
    pages |= {f"/in/{n}": to(n + 1) for n in range(count)}
    async with Site(pages) as site:
        spider = Landed(start_urls=site.urls(*(f"/{n}" for n in range(count))))
        crawl = asyncio.create_task(crawled(spider))
        await site.until(lambda: sum(hit.startswith("/in/") for hit in site.hits) == count)
        gate.set()
        items, report = await crawl
    assert items == []
    assert report.unfinished == 0
    assert report.error_count + report.dropped.get("duplicate", 0) == count


async def test_a_page_that_was_not_reached_by_its_redirect_can_still_be_fetched() -> None:
    hits = 0

    async def flaky(_request: web.BaseRequest) -> web.StreamResponse:
        nonlocal hits
        hits += 1
        return web.Response(status=503 if hits == 1 else 200)

    async with Site({"/old": redirect("/new"), "/new": flaky}) as site:
        items, report = await crawled(Landed(start_urls=[site.url("/old")]))
    assert [item["path"] for item in items] == ["/new"]
    assert site.hits == ["/old", "/new", "/old", "/new"]
    assert report.retries == 1


class Authorised(Spider):
    """Asks for one page with all that may be secret."""

    async def start(self) -> AsyncIterator[Request]:
        yield Request(
            self.start_urls[0],
            headers={"Authorization": "Bearer mine", "X-Api-Key": "mine", "Accept-Language": "da"},
            cookies={"session": "mine"},
        )

    async def parse(self, response: Response) -> None: ...


SECRETS = ("Authorization", "X-Api-Key", "Cookie", "X-Setting", "Proxy-Authorization")


def seen(request: web.BaseRequest) -> set[str]:
    return {name for name in SECRETS if name in request.headers}


async def test_credentials_stay_with_the_origin_they_were_meant_for() -> None:
    async with Site({"/": "elsewhere"}) as other, Site() as site:
        site.pages.update({"/": redirect("/again"), "/again": redirect(other.url())})
        await crawled(
            Authorised(start_urls=[site.url()], allowed_domains=["*"]),
            settings={"headers": {"X-Setting": "mine"}, "cookies": {"of": "settings"}},
        )
    secrets = {"Authorization", "X-Api-Key", "Cookie", "X-Setting"}
    assert [seen(request) for request in site.requests] == [secrets, secrets]
    assert [seen(request) for request in other.requests] == [set()]
    assert other.requests[0].headers["Accept-Language"] == "da"


async def test_credentials_dont_come_back_with_a_redirect_that_comes_back() -> None:
    async with Site() as other, Site({"/end": ""}) as site:
        site.pages["/"] = redirect(other.url("/back"))
        other.pages["/back"] = redirect(site.url("/end"))
        spider = Authorised(start_urls=[site.url()], allowed_domains=["*"])
        await crawled(spider)
    assert [seen(request) for request in site.requests] == [
        {"Authorization", "X-Api-Key", "Cookie"},
        set(),
    ]


async def test_user_and_password_in_a_location_are_not_sent() -> None:
    async with Site({"/end": ""}) as site:
        with_user = site.url("/end").replace("://", "://user:password@")
        site.pages["/"] = redirect(with_user)
        items, _ = await crawled(Landed(start_urls=[site.url()]))
    assert len(items) == 1
    assert seen(site.requests[1]) == set()


class Posted(Spider):
    """Posts a form and tells what the last hop got."""

    method = "POST"

    async def start(self) -> AsyncIterator[Request]:
        yield Request(self.start_urls[0], method=self.method, data={"tea": "1"})

    async def parse(self, response: Response) -> dict[str, Any]:
        return {"echo": response.text}


async def echo(request: web.BaseRequest) -> web.StreamResponse:
    kind = request.headers.get("Content-Type", "no type")
    return web.Response(text=f"{request.method} {kind} {await request.text()}".strip())


FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("method", "status", "wanted"),
    [
        ("POST", 301, "GET no type"),
        ("POST", 302, "GET no type"),
        ("POST", 303, "GET no type"),
        ("PUT", 303, "GET no type"),
        ("PUT", 302, f"PUT {FORM} tea=1"),
        ("POST", 307, f"POST {FORM} tea=1"),
        ("POST", 308, f"POST {FORM} tea=1"),
    ],
)
async def test_method_and_body_follow_the_fetch_standard(
    method: str, status: int, wanted: str
) -> None:
    async with Site({"/": redirect("/end", status), "/end": echo}) as site:
        items, _ = await crawled(Posted(start_urls=[site.url()], method=method))
    assert items == [{"echo": wanted}]


async def test_a_body_isnt_handed_to_another_origin() -> None:
    async with Site({"/": echo}) as other, Site() as site:
        site.pages["/"] = redirect(other.url(), 307)
        spider = Posted(start_urls=[site.url()], allowed_domains=["*"])
        _, report = await crawled(spider)
    assert other.hits == []
    assert only_error(report)[0] == "RedirectError"


@pytest.mark.parametrize("spell", [str.upper, str.lower], ids=["upper", "lower"])
async def test_location_is_found_however_it_is_spelled(spell: Callable[[str], str]) -> None:
    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=302, headers={spell("Location"): "/end"})

    async with Site({"/": handler, "/end": ""}) as site:
        items, _ = await crawled(Landed(start_urls=[site.url()]))
    assert [item["path"] for item in items] == ["/end"]
