from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, date, datetime
from typing import Any

import pytest

from scrapekit.budget import ByteBudget
from scrapekit.errors import InvalidURL, SitemapError, SpiderError, UsageError
from scrapekit.messages import Request, Response
from scrapekit.sitemapfeed import SITEMAP, SitemapFeed, most_ahead
from scrapekit.spider import Spider

ROOT = "https://shop.test/sitemap.xml"


def urlset(*paths: str, lastmod: str = "") -> str:
    date_ = f"<lastmod>{lastmod}</lastmod>" if lastmod else ""
    urls = "".join(f"<url><loc>{path}</loc>{date_}</url>" for path in paths)
    return f"<urlset>{urls}</urlset>"


def index(*paths: str) -> str:
    sitemaps = "".join(f"<sitemap><loc>{path}</loc></sitemap>" for path in paths)
    return f"<sitemapindex>{sitemaps}</sitemapindex>"


class Bench:
    """A feed, and a web that answers what it asks for."""

    def __init__(self, pages: dict[str, str], **attributes: Any) -> None:
        self.pages = pages
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.under_way = self.peak = 0
        spider = Spider(sitemap_urls=[ROOT], **attributes)
        self.feed = SitemapFeed(spider, self._fail)
        self.feed.prepare()

    def _fail(self, request: Request, error: SitemapError) -> None:
        self.errors.append(str(error))

    def answer(self, request: Request) -> None:
        path = request.url.removeprefix("https://shop.test")
        self.asked.append(path)
        if path in self.pages:
            self.feed.take(Response(request.url, 200, None, self.pages[path].encode(), request))
        self.feed.settled(request)

    async def pages_found(self) -> list[Request]:
        return [request async for request in self._answered() if request.callback != SITEMAP]

    async def _answered(self) -> AsyncGenerator[Request, None]:
        async for request in self.feed.requests():
            if self.feed.takes(request):
                assert not request.unique
                self.answer(request)
            yield request

    async def paths(self) -> list[str]:
        return [r.url.removeprefix("https://shop.test") for r in await self.pages_found()]


async def test_an_index_leads_to_sitemaps_and_those_to_pages() -> None:
    bench = Bench({"/sitemap.xml": index("/1", "/2"), "/1": urlset("/a", "/b"), "/2": urlset("/c")})
    assert await bench.paths() == ["/a", "/b", "/c"]
    assert bench.asked == ["/sitemap.xml", "/1", "/2"]
    assert bench.errors == []


async def test_a_circle_of_indexes_is_gone_through_once() -> None:
    bench = Bench({"/sitemap.xml": index("/1", "/sitemap.xml"), "/1": index("/sitemap.xml", "/1")})
    assert await bench.paths() == []
    assert bench.asked == ["/sitemap.xml", "/1"]


async def test_indexes_are_followed_three_deep() -> None:
    pages = {f"/{n}": index(f"/{n + 1}", f"/{n + 1}?again") for n in range(9)}
    bench = Bench({"/sitemap.xml": index("/0"), **pages})
    assert await bench.paths() == []
    assert bench.asked == ["/sitemap.xml", "/0", "/1", "/1?again", "/2", "/2?again"]
    assert bench.errors == ["the sitemap https://shop.test/2: its indexes are nested deeper than 3"]


async def test_one_that_is_read_counts_as_under_way_to_its_end() -> None:
    bench = Bench({"/sitemap.xml": index(*(f"/{n}" for n in range(9)))})
    requests = bench.feed.requests()
    bench.answer(await anext(requests))
    first, *others = [await anext(requests) for _ in range(4)]
    body = urlset("/a", "/b").encode()
    bench.feed.take(Response(first.url, 200, None, body, first))
    assert (await anext(requests)).url.endswith("/a")
    # Only now is its visit over.
    bench.feed.settled(first)
    bench.feed.take(Response(first.url, 200, None, body, first))
    assert [(await anext(requests)).url[-2:] for _ in range(2)] == ["/b", "/4"]
    fifth = asyncio.ensure_future(anext(requests))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not fifth.done()
    bench.feed.settled(others[0])
    assert (await fifth).url.endswith("/5")
    await requests.aclose()


@pytest.mark.parametrize("ahead", [1, 2, 3, 4])
async def test_all_are_read_however_few_are_asked_for_ahead(ahead: int) -> None:
    names = [f"/{n}" for n in range(9)]
    bench = Bench({"/sitemap.xml": index(*names)} | {name: urlset(f"{name}/a") for name in names})
    bench.feed._ahead = ahead
    assert await bench.paths() == [f"{name}/a" for name in names]


async def test_its_bytes_are_counted_until_it_is_read() -> None:
    bench, budget = Bench({}), ByteBudget(1_000)
    requests = bench.feed.requests()
    root = await anext(requests)
    body = urlset("/a", "/b").encode()
    with budget.account() as account:
        assert account.try_take(len(body))
        bench.feed.take(Response(root.url, 200, None, body, root), account)
    bench.feed.settled(root)
    assert budget.used == len(body)
    assert [request.url[-2:] async for request in requests] == ["/a", "/b"]
    assert budget.used == 0


@pytest.mark.parametrize(
    ("in_flight", "body", "ahead"), [(2**28, 2**25, 2), (2**28, 2**20, 4), (100, 2**25, 1)]
)
def test_those_ahead_take_a_share_of_the_budget(in_flight: int, body: int, ahead: int) -> None:
    assert most_ahead(in_flight, body) == ahead


async def test_one_that_cannot_be_had_holds_up_no_other() -> None:
    bench = Bench({"/sitemap.xml": index("/gone", "/1"), "/1": urlset("/a")})
    assert await bench.paths() == ["/a"]


async def test_a_broken_one_is_told_with_what_was_read() -> None:
    bench = Bench({"/sitemap.xml": urlset("/a")[:-9] + "<x>"})
    assert await bench.paths() == ["/a"]
    assert bench.errors == [
        (
            "the sitemap https://shop.test/sitemap.xml: its XML is broken in line 1: "
            "no element found; URLs read before that: 1"
        )
    ]


async def test_only_a_few_are_asked_for_ahead() -> None:
    names = [f"/{n}" for n in range(20)]
    bench = Bench({"/sitemap.xml": index(*names)})
    requests = bench.feed.requests()
    bench.answer(await anext(requests))
    asked = [await anext(requests) for _ in range(4)]
    fifth = asyncio.ensure_future(anext(requests))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not fifth.done()
    bench.feed.settled(asked[2])
    assert (await fifth).url == "https://shop.test/4"
    await requests.aclose()


async def test_what_nobody_waits_for_is_passed_over() -> None:
    bench = Bench({"/sitemap.xml": urlset("/a")})
    stale = Request("https://shop.test/old", SITEMAP)
    bench.feed.take(Response(stale.url, 200, None, urlset("/old-page").encode(), stale))
    bench.feed.settled(stale)
    assert await bench.paths() == ["/a"]


class TestRules:
    @pytest.mark.parametrize(
        ("rules", "callbacks"),
        [
            ([], {"/p/1": None, "/c/1": None, "/x": None}),
            ([("/p/", "parse_product")], {"/p/1": "parse_product"}),
            (
                [("/p/", "parse_product"), (r"/c/\d", "parse_category"), ("/x|/p", "late")],
                {"/p/1": "parse_product", "/c/1": "parse_category", "/x": "late"},
            ),
            ([["/p/", None]], {"/p/1": None}),
        ],
    )
    async def test_the_first_that_fits_says_who_gets_a_page(
        self, rules: list[Any], callbacks: dict[str, str | None]
    ) -> None:
        bench = Bench({"/sitemap.xml": urlset("/p/1", "/c/1", "/x")}, sitemap_rules=rules)
        found = {r.url[17:]: r.callback for r in await bench.pages_found()}
        assert found == callbacks

    async def test_a_method_is_a_callback(self) -> None:
        class Shop(Spider):
            sitemap_urls = (ROOT,)

            def __init__(self) -> None:
                super().__init__()
                self.sitemap_rules = [("/", self.parse_product)]

            def parse_product(self, response: Response) -> None: ...

        feed = SitemapFeed(Shop(), lambda *_: None)
        feed.prepare()
        assert [callback for _, callback in feed.rules] == ["parse_product"]


class TestSince:
    @pytest.mark.parametrize(
        ("lastmod", "since", "kept"),
        [
            ("2026-05-01", "2026-05-01", True),
            ("2026-05-01", "2026-05-01T12:00Z", True),
            ("2026-04-30", "2026-05-01T12:00Z", False),
            ("2026-04", "2026-04-15", True),
            ("2026-04-30T23:59:59Z", date(2026, 5, 1), False),
            ("2026-05-01T00:00:00Z", datetime(2026, 5, 1, tzinfo=UTC), True),
            ("2026-05-01T00:00:00Z", datetime(2026, 5, 1, 1), False),  # noqa: DTZ001 -- means UTC
            ("", "2026-05-01", True),
            ("some day", "2026-05-01", True),
            ("1999-01-01", "", True),
            ("1999-01-01", None, True),
        ],
    )
    async def test_what_was_last_changed_before_is_left_out(
        self, lastmod: str, since: Any, kept: bool
    ) -> None:
        bench = Bench({"/sitemap.xml": urlset("/a", lastmod=lastmod)}, sitemap_since=since)
        assert await bench.paths() == (["/a"] if kept else [])

    async def test_a_sitemap_that_has_nothing_new_is_not_fetched(self) -> None:
        old = "<sitemap><loc>/1</loc><lastmod>2020-01-01</lastmod></sitemap>"
        body = f"<sitemapindex>{old}<sitemap><loc>/2</loc></sitemap></sitemapindex>"
        bench = Bench({"/sitemap.xml": body, "/2": urlset("/a")}, sitemap_since="2026-01-01")
        assert await bench.paths() == ["/a"]
        assert bench.asked == ["/sitemap.xml", "/2"]


@pytest.mark.parametrize(
    ("attributes", "error", "message"),
    [
        ({"sitemap_urls": ROOT}, SpiderError, "is a string; write a list"),
        ({"sitemap_urls": [None]}, InvalidURL, "it is no string"),
        ({"sitemap_urls": ["/sitemap.xml"]}, InvalidURL, "it is relative"),
        ({"sitemap_rules": ["/p/"]}, SpiderError, "'/p/' in sitemap_rules is no rule"),
        ({"sitemap_rules": [("(", "parse")]}, SpiderError, "is no regular expression"),
        ({"sitemap_rules": [("/", lambda: 1)]}, UsageError, "can't be a callback"),
        ({"sitemap_since": "soon"}, SpiderError, "is 'soon'; write a date like"),
    ],
)
def test_what_cannot_be_right_is_told_before_the_crawl(
    attributes: dict[str, Any], error: type[Exception], message: str
) -> None:
    spider = Spider()
    for name, value in attributes.items():
        setattr(spider, name, value)
    with pytest.raises(error, match=message):
        SitemapFeed(spider, lambda *_: None).prepare()
