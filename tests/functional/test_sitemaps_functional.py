"""Sitemaps of a real server, read beside the crawl."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest
from aiohttp import web

import scrapekit
from scrapekit import Response, Spider
from scrapekit.errors import UnknownCallback
from scrapekit.events import Event, PageDone, RequestsDropped
from scrapekit.frontier.memory import MemoryFrontier
from tests.functional.site import Site, Watcher, answer, crawled, in_turn, links, redirect


def urlset(site: Site, *paths: str) -> bytes:
    return b"<urlset>%s</urlset>" % b"".join(
        b"<url><loc>%s</loc></url>" % site.url(path).encode() for path in paths
    )


def index(site: Site, *paths: str) -> bytes:
    return urlset(site, *paths).replace(b"url>", b"sitemap>").replace(b"urlset", b"sitemapindex")


class Paths(Spider):
    async def parse(self, response: Response) -> Any:
        yield {"path": "/" + response.url.split("/", 3)[3], "depth": response.request.depth}

    async def parse_product(self, response: Response) -> Any:
        yield {"product": response.url.rpartition("/")[2]}
        yield response.follow_all("a")


def paths(items: list[Any]) -> list[str]:
    return sorted(item["path"] for item in items if "path" in item)


async def test_pages_of_an_index_are_crawled_as_start_requests() -> None:
    async with Site({"*": ""}) as site:
        site.pages["/sitemap.xml"] = index(site, "/1.xml", "/2.xml.gz")
        site.pages["/1.xml"] = urlset(site, "/a", "/b")
        site.pages["/2.xml.gz"] = gzip.compress(urlset(site, "/b", "/c"))
        items, report = await crawled(Paths(sitemap_urls=[site.url("/sitemap.xml")]))
    assert paths(items) == ["/a", "/b", "/c"]
    assert {item["depth"] for item in items} == {0}
    assert report.ok
    assert report.pages == 3
    assert report.statuses == {200: 6}
    assert report.dropped == {"duplicate": 1}


async def test_robots_txt_names_the_sitemaps_and_its_rules_hold() -> None:
    async with Site({"*": ""}) as site:
        robots = f"User-agent: *\nDisallow: /no\nSitemap: {site.url('/s.xml')}\n"
        site.pages["/robots.txt"] = robots.encode()
        site.pages["/s.xml"] = urlset(site, "/a", "/no")
        spider = Paths(sitemap_urls=[site.url("/robots.txt")])
        items, report = await crawled(spider, settings={"obey_robots": True})
    assert paths(items) == ["/a"]
    assert report.dropped == {"robots": 1}


async def test_rules_say_who_gets_a_page_and_start_urls_go_first() -> None:
    async with Site({"*": ""}) as site:
        site.pages["/s.xml"] = urlset(site, "/p/1", "/x")
        site.pages["/p/1"] = links("/y")
        spider = Paths(
            start_urls=[site.url("/start")],
            sitemap_urls=[site.url("/s.xml")],
            sitemap_rules=[("/p/", "parse_product")],
        )
        items, _ = await crawled(spider, settings={"concurrency": 1})
    assert site.hits == ["/start", "/s.xml", "/p/1", "/y"]
    assert {"product": "1"} in items


async def test_a_callback_that_is_not_there_stops_the_crawl_before_it_starts() -> None:
    spider = Paths(sitemap_urls=["http://127.0.0.1:9/"], sitemap_rules=[("/", "parse_prodct")])
    with pytest.raises(UnknownCallback, match="did you mean 'parse_product'"):
        await crawled(spider)


async def test_other_hosts_are_out_of_scope_and_get_no_credentials() -> None:
    async with Site({"*": ""}) as site, Site({"*": ""}, host="127.0.0.2") as other:
        both = urlset(site, "/a") + urlset(other, "/b")
        site.pages["/s.xml"] = both.replace(b"</urlset><urlset>", b"")
        spider = Paths(sitemap_urls=[site.url("/s.xml")])
        settings = {"headers": {"X-Api-Key": "s3cret"}}
        items, report = await crawled(spider, settings=settings)
        assert paths(items) == ["/a"]
        assert report.dropped == {"off-domain": 1}
        assert [request.headers.get("X-Api-Key") for request in site.requests] == ["s3cret"] * 2
        spider.allowed_domains = ["*"]
        items, _ = await crawled(spider, settings=settings)
        assert paths(items) == ["/a", "/b"]
        assert [request.headers.get("X-Api-Key") for request in other.requests] == [None]


async def test_one_that_fails_is_tried_again_and_redirects_are_followed() -> None:
    async with Site({"*": ""}) as site:
        site.pages["/s.xml"] = redirect("/real.xml")
        site.pages["/real.xml"] = in_turn(503, urlset(site, "/a"))
        items, report = await crawled(Paths(sitemap_urls=[site.url("/s.xml")]))
    assert paths(items) == ["/a"]
    assert report.retries == 1


async def test_those_that_are_missing_broken_or_too_large_are_in_the_report() -> None:
    async with Site({"*": ""}) as site:
        site.pages |= {
            "/gone.xml": 404,
            "/broken.xml": urlset(site, "/a")[:-9] + b"&x",
            "/large.xml": b"x" * 20_000,
            "/html": "<!doctype html>",
        }
        names = ("/gone.xml", "/broken.xml", "/large.xml", "/html")
        spider = Paths(sitemap_urls=site.urls(*names))
        items, report = await crawled(spider, settings={"max_body_bytes": 10_000})
    assert paths(items) == ["/a"]
    assert {group.error: group.count for group in report.errors} == {
        "BadStatus 404": 1,
        "SitemapError": 2,
        "BodyTooLarge": 1,
    }
    assert report.ok
    assert not any(group.of_user_code for group in report.errors)


async def test_without_a_page_the_crawl_is_not_ok() -> None:
    async with Site({"/s.xml": b"<urlset/>"}) as site:
        _, report = await crawled(Paths(sitemap_urls=[site.url("/s.xml")]))
    assert not report.ok


async def test_sitemaps_are_no_pages_for_max_pages() -> None:
    async with Site({"*": ""}) as site:
        site.pages["/s.xml"] = urlset(site, *(f"/{n}" for n in range(50)))
        spider = Paths(sitemap_urls=[site.url("/s.xml")])
        items, report = await crawled(spider, settings={"max_pages": 3})
    assert len(items) == report.pages == 3
    assert report.reason == "max_pages"


async def test_the_lifespan_may_say_where_they_are() -> None:
    class Late(Paths):
        async def lifespan(self) -> Any:
            async with Site({"*": ""}) as site:
                site.pages["/s.xml"] = urlset(site, "/a")
                self.sitemap_urls = [site.url("/s.xml")]
                yield

    items, _ = await crawled(Late())
    assert paths(items) == ["/a"]


async def test_since_is_an_argument_of_the_spider() -> None:
    async with Site({"*": ""}) as site:
        old, new = (site.url(path).encode() for path in ("/old", "/new"))
        site.pages["/s.xml"] = (
            b"<urlset><url><loc>%s</loc><lastmod>2020-01-01</lastmod></url>"
            b"<url><loc>%s</loc><lastmod>2026-01-01</lastmod></url></urlset>" % (old, new)
        )
        spider = Paths(sitemap_urls=[site.url("/s.xml")], sitemap_since="2025-06-01")
        items, _ = await crawled(spider)
    assert paths(items) == ["/new"]


class Counting(MemoryFrontier):
    """Remembers the most requests that ever waited."""

    peak = 0

    async def add(self, requests: Any) -> Any:
        new = await super().add(requests)
        self.peak = max(self.peak, self.pending)
        return new


def large(site: Site) -> bytes:
    """A sitemap of nearly the 50 MB that are allowed."""
    port = site.origin.rpartition(":")[2].encode()
    return b"<urlset>%s</urlset>" % b"".join(
        b"<url><loc>http://127.0.0.1:%s/%06d</loc><image>%s</image></url>\n"
        % (port, number, b"i" * 930)
        for number in range(49_000)
    )


async def test_of_a_large_one_no_more_urls_are_taken_than_there_is_room_for() -> None:
    async with Site({"*": ""}) as site:
        site.pages["/s.xml"] = gzip.compress(large(site), 1)
        frontier = Counting()
        spider = Paths(sitemap_urls=[site.url("/s.xml")])
        settings = {"max_pages": 300, "concurrency": 8}
        items, _ = await crawled(spider, settings=settings, frontier=frontier)
    assert len(items) == 300
    assert frontier.peak <= 64


async def test_a_large_one_is_read_in_small_steps_beside_all_else() -> None:
    turns = {"all": 0, "at the sitemap's arrival": 0}

    async def count() -> None:
        while True:
            turns["all"] += 1
            await asyncio.sleep(0)

    def arrived(event: Event) -> None:
        if isinstance(event, PageDone) and event.request.url.endswith("/s.xml"):
            turns["at the sitemap's arrival"] = turns["all"]

    async with Site({"*": ""}) as site:
        body = large(site)
        assert 48_000_000 < len(body) < 52_428_800
        site.pages["/s.xml"] = gzip.compress(body, 1)
        spider = Paths(sitemap_urls=[site.url("/s.xml")], sitemap_rules=[("/04899", "parse")])
        counting = asyncio.create_task(count())
        items, _ = await crawled(spider, observers=[arrived])
        counting.cancel()
    assert len(items) == 10
    assert turns["all"] - turns["at the sitemap's arrival"] > len(body) / 16_384


async def test_a_stop_while_one_is_awaited_ends_the_crawl() -> None:
    gate = asyncio.Event()

    async def slow(_request: web.BaseRequest) -> web.StreamResponse:
        gate.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with Site({"/s.xml": slow}) as site:
        spider = Paths(sitemap_urls=[site.url("/s.xml")])
        async with scrapekit.crawl(spider, settings={"obey_robots": False, "drain_s": 0}) as run:
            await gate.wait()
            run.stop()
            await run.wait()
        assert run.report.reason == "stopped"


async def test_off_domain_sitemaps_of_an_index_hold_nothing_up() -> None:
    async with Site({"*": ""}) as site:
        far = b"<sitemap><loc>http://elsewhere.test/x.xml</loc></sitemap>"
        site.pages["/s.xml"] = index(site, "/1.xml").replace(b"<sitemap>", b"%s<sitemap>" % far, 1)
        site.pages["/1.xml"] = urlset(site, "/a")
        watcher = Watcher()
        spider = Paths(sitemap_urls=[site.url("/s.xml")])
        items, _ = await crawled(spider, observers=[watcher])
    assert paths(items) == ["/a"]
    dropped = [event for event in watcher.events if isinstance(event, RequestsDropped)]
    assert [event.example for event in dropped] == ["http://elsewhere.test/x.xml"]


async def test_the_server_decides_how_fast_not_the_sitemap() -> None:
    """Requests wait for their origin like all others."""
    async with Site({"*": answer()}) as site:
        site.pages["/s.xml"] = urlset(site, *(f"/{n}" for n in range(40)))
        spider = Paths(sitemap_urls=[site.url("/s.xml")])
        await crawled(spider, settings={"concurrency_per_origin": 2})
        assert site.peak <= 2


async def test_the_budgets_of_traps_hold_for_what_sitemaps_list() -> None:
    async with Site({"*": ""}) as site:
        listed = [f"/calendar/{n}?day={n}" for n in range(500)]
        endless = [f"/calendar/2099-{n:02}-01" for n in range(1, 13)]
        own = [f"/calendar/{n}?day={n}" for n in range(480, 500)]
        site.pages["/s.xml"] = urlset(site, *listed, *endless, "/plain")
        spider = Paths(start_urls=site.urls(*own), sitemap_urls=[site.url("/s.xml")])
        settings = {"max_pages_per_template": 50, "concurrency": 4}
        items, report = await crawled(spider, settings=settings)
        origin = site.origin
    found = paths(items)
    assert "/plain" in found
    # What the author wrote is no trap, whoever was first.
    assert set(own) <= set(found)
    assert len(found) == 50 + len(own) + 1
    assert report.dropped == {
        f"trap: max_pages_per_template of {origin}/calendar/{{}}?day={{}}": 430,
        f"trap: a calendar without an end, {origin}/calendar/{{}}-{{}}-{{}}": 12,
        "duplicate": 20,
    }


async def test_long_urls_that_a_sitemap_lists_arent_filed_but_those_of_the_user_are() -> None:
    long, own = "/" + "a" * 2_000, "/" + "b" * 2_000
    async with Site({"*": ""}) as site:
        site.pages["/s.xml"] = urlset(site, long, "/a", long, own)
        own_sitemap = site.url("/s.xml?" + "c" * 2_000)
        spider = Paths(start_urls=site.urls(own), sitemap_urls=[own_sitemap])
        items, report = await crawled(spider)
        unlimited, _ = await crawled(spider, settings={"traps": False})
    assert paths(items) == ["/a", own]
    # The second one would be a duplicate of the first if that were filed.
    assert report.dropped == {"trap: the URL is too long": 3}
    assert paths(unlimited) == ["/a", long, own]


async def test_pages_of_sitemaps_that_show_nothing_new_are_cut_off() -> None:
    same = "<p>Nothing to see here.</p>" * 40
    async with Site({"*": same}) as site:
        site.pages["/s.xml"] = urlset(site, *(f"/day/{n}" for n in range(1000)))
        spider = Paths(sitemap_urls=[site.url("/s.xml")])
        items, report = await crawled(spider)
        reason = f"trap: nothing new on {site.origin}/day/{{}}"
    assert len(items) + report.dropped[reason] == 1000
    assert len(items) < 200


async def test_an_endless_start_keeps_no_sitemap_waiting() -> None:
    class Endless(Paths):
        async def start(self) -> Any:
            await asyncio.Event().wait()
            yield scrapekit.Request("http://never.test/")

    async with Site({"*": ""}) as site:
        site.pages["/s.xml"] = urlset(site, "/a", "/b")
        async with scrapekit.crawl(Endless(sitemap_urls=[site.url("/s.xml")])) as run:
            found = []
            async for item in run:
                found.append(item)
                if len(found) == 2:
                    run.stop()
    assert paths(found) == ["/a", "/b"]


async def test_a_start_that_fails_costs_no_sitemap() -> None:
    class Failing(Paths):
        def start(self) -> Any:
            raise ValueError("no")

    async with Site({"*": ""}) as site:
        site.pages["/s.xml"] = urlset(site, "/a", "/b")
        items, report = await crawled(Failing(sitemap_urls=[site.url("/s.xml")]))
    assert paths(items) == ["/a", "/b"]
    assert [group.during for group in report.errors] == ["start"]


async def test_pages_of_start_urls_that_are_still_to_come_are_in_scope() -> None:
    async with Site({"*": ""}) as site, Site({"*": ""}, host="127.0.0.2") as other:
        site.pages["/s.xml"] = urlset(other, "/listed")
        first = [f"/{n}" for n in range(300)]
        spider = Paths(
            start_urls=[*site.urls(*first), other.url("/own")], sitemap_urls=[site.url("/s.xml")]
        )
        items, report = await crawled(spider, settings={"concurrency": 1})
    assert {"/own", "/listed"} <= set(paths(items))
    assert report.dropped == {}


async def test_a_budget_full_of_sitemaps_lets_the_pages_through() -> None:
    """They are read only as fast as pages are done, which need room as well."""
    async with Site({"*": "x" * 200}) as site:
        lists = [f"/{n}.xml" for n in range(6)]
        site.pages["/sitemap.xml"] = index(site, *lists)
        for name in lists:
            site.pages[name] = urlset(site, *(f"{name}/{page}" for page in range(100)))
        settings = {"max_bytes_in_flight": 1_000, "concurrency": 4}
        spider = Paths(sitemap_urls=[site.url("/sitemap.xml")])
        items, report = await crawled(spider, settings=settings)
    assert len(items) == 600
    assert report.ok
