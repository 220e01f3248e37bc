from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import scrapekit as library
from scrapekit import Request, Response, Spider
from scrapekit.errors import JobError
from scrapekit.jobs import items_of, retry
from scrapekit.jobs.diff import differences
from scrapekit.report import ChangeCounts, Report
from scrapekit.testing import FakeTransport
from tests.functional.cli import PAGES, Called, scrapekit, started
from tests.functional.site import Handler, Pages, Site, answer, crawled, links, redirect

__all__ = ["scrapekit"]


class Shop(Spider):
    """The items of lists; follows every link; counts what it parses."""

    async def parse(self, response: Response) -> AsyncIterator[Any]:
        self.stats.add("parsed")
        for element in response.css("li"):
            yield {"sku": element.attrs["id"], "price": element.text}
        if title := response.get("h1"):
            yield {"title": title}
        yield response.follow_all()


def products(**prices: int) -> str:
    return "".join(f'<li id="{sku}">{price}</li>' for sku, price in prices.items())


def tagged(text: str, tag: str) -> Handler:
    """A page that knows whether it was changed."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers={"ETag": tag})
        return web.Response(text=text, content_type="text/html", headers={"ETag": tag})

    return handler


async def run(site: Site, folder: Path, name: str, **options: Any) -> tuple[list[Any], Report]:
    spider = options.pop("spider", None) or Shop(start_urls=[site.url()])
    return await crawled(spider, job=folder / name, **options)


def counts(report: Report) -> ChangeCounts:
    assert report.since is not None
    return report.since


def marks(items: list[Any]) -> dict[str, str]:
    return {str(item.get("sku", item.get("title"))): item["_change"] for item in items}


def small_shop() -> Pages:
    return {
        "/": tagged(links("/a", "/b", "/old", "/c"), '"home"'),
        "/a": tagged(products(tea=1) + links("/behind"), '"a"'),
        "/behind": "<h1>Behind</h1>",
        "/b": products(mug=5, cup=6),
        "/old": redirect("/moved"),
        "/moved": "<h1>Moved</h1>",
        "/c": "<h1>Gone</h1>",
    }


async def test_pages_that_are_as_they_were_arent_parsed_and_their_links_are_followed(
    tmp_path: Path,
) -> None:
    async with Site(small_shop()) as site:
        first_items, first = await run(site, tmp_path, "one")
        items, second = await run(site, tmp_path, "two", since=tmp_path / "one")
        third_items, third = await run(site, tmp_path, "three", since=tmp_path / "two")
    assert first.stats == {"parsed": 6}
    assert second.stats == third.stats == {}
    assert second.statuses == {200: 4, 304: 2}
    assert set(marks(items).values()) == {"same"}
    plain = [{k: v for k, v in item.items() if k != "_change"} for item in items]
    assert sorted(map(str, plain)) == sorted(map(str, first_items))
    assert marks(third_items) == marks(items)
    assert counts(second) == ChangeCounts(pages=6, same=6, complete=True)
    told = "  since      6 pages unchanged; items: 0 new, 0 changed, 6 same, 0 gone"
    assert told in str(second).splitlines()


async def test_exactly_what_was_changed_is_marked(tmp_path: Path) -> None:
    async with Site(small_shop()) as site:
        await run(site, tmp_path, "one")
        site.pages["/"] = tagged(links("/a", "/b", "/old", "/new"), '"home2"')
        site.pages["/b"] = products(mug=7, pot=9, cup=6)
        site.pages["/new"] = "<h1>New</h1>"
        settings = {"item_key": ["sku"]}
        items, report = await run(site, tmp_path, "two", since=tmp_path / "one", settings=settings)
    assert marks(items) == {
        "tea": "same",
        "Behind": "same",
        "mug": "changed",
        "pot": "new",
        "cup": "same",
        "Moved": "same",
        "New": "new",
        "Gone": "gone",
    }
    assert report.stats == {"parsed": 3}
    assert counts(report) == ChangeCounts(pages=3, new=2, changed=1, same=4, gone=1, complete=True)
    changes = [d for d in differences(tmp_path / "one", tmp_path / "two", ["sku"]) if d]
    assert sorted((d.change, str(d.fields)) for d in changes if d.change == "changed") == [
        ("changed", "{'price': ('5', '7')}")
    ]
    assert sorted(d.change for d in changes) == ["changed", "gone", "new", "new"]


async def test_what_was_gone_is_new_when_it_comes_back(tmp_path: Path) -> None:
    async with Site({"/": links("/a"), "/a": "<h1>A</h1>"}) as site:
        await run(site, tmp_path, "one")
        site.pages["/a"] = 404
        items, _ = await run(site, tmp_path, "two", since=tmp_path / "one")
        assert marks(items) == {"A": "gone"}
        items, _ = await run(site, tmp_path, "three", since=tmp_path / "two")
        assert items == []
        site.pages["/a"] = "<h1>A</h1>"
        items, _ = await run(site, tmp_path, "four", since=tmp_path / "three")
        assert marks(items) == {"A": "new"}


@pytest.mark.parametrize("page", [503, 403])
async def test_a_page_that_fails_loses_nothing_that_is_behind_it(tmp_path: Path, page: int) -> None:
    pages: Pages = {"/": links("/list"), "/list": links("/a") + products(x=1), "/a": "<h1>A</h1>"}
    async with Site(pages) as site:
        await run(site, tmp_path, "one")
        site.pages["/list"] = page
        items, report = await run(
            site, tmp_path, "two", since=tmp_path / "one", settings={"retries": 0}
        )
    assert marks(items) == {"A": "same"}
    assert counts(report).unknown == 1
    assert counts(report).gone == 0
    assert "0 gone, 1 of pages not seen\n" in str(report)


async def test_a_page_that_robots_txt_forbids_now_is_not_gone(tmp_path: Path) -> None:
    settings = {"obey_robots": True}
    async with Site({"/": links("/a"), "/a": "<h1>A</h1>"}) as site:
        await run(site, tmp_path, "one", settings=settings)
        site.pages["/robots.txt"] = answer(200, "User-agent: *\nDisallow: /a")
        items, report = await run(site, tmp_path, "two", since=tmp_path / "one", settings=settings)
    assert items == []
    assert counts(report).unknown == 1


def deep() -> Pages:
    """Three levels below the first page, an item on each but that."""
    return {
        "/": links("/a"),
        "/a": "<h1>A</h1>" + links("/b"),
        "/b": "<h1>B</h1>" + links("/c", "/"),
        "/c": "<h1>C</h1>",
    }


async def test_what_is_behind_a_page_that_robots_txt_forbids_now_is_not_gone(
    tmp_path: Path,
) -> None:
    settings = {"obey_robots": True}
    async with Site(deep()) as site:
        await run(site, tmp_path, "one", settings=settings)
        site.pages["/robots.txt"] = answer(200, "User-agent: *\nDisallow: /a")
        items, report = await run(site, tmp_path, "two", since=tmp_path / "one", settings=settings)
    assert items == []
    assert counts(report).unknown == 3


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_depth": 1}, {"A": "same"}),
        ({"max_pages_per_origin": 1}, {"A": "same"}),
        ({"max_url_length": 10}, {}),
    ],
)
async def test_what_a_limit_leaves_out_is_not_gone(
    tmp_path: Path, settings: dict[str, Any], expected: dict[str, str]
) -> None:
    async with Site(deep()) as site:
        await run(site, tmp_path, "one")
        options = {"since": tmp_path / "one", "settings": settings}
        items, report = await run(site, tmp_path, "two", **options)
        again, second = await run(site, tmp_path, "two", **options)
    assert marks(items) == expected
    assert counts(report).unknown == counts(second).unknown == 3 - len(expected)
    assert f"0 gone, {3 - len(expected)} of pages not seen\n" in str(report)
    assert again == []


async def test_what_is_gone_from_a_page_is_gone_though_links_to_it_were_left_out(
    tmp_path: Path,
) -> None:
    pages: Pages = {"/": links("/a", "/b"), "/a": "<h1>A</h1>" + links("/b"), "/b": products(x=1)}
    async with Site(pages) as site:
        await run(site, tmp_path, "one", settings={"max_depth": 1})
        site.pages["/b"] = "<p>nothing left"
        items, report = await run(
            site, tmp_path, "two", since=tmp_path / "one", settings={"max_depth": 1}
        )
    assert marks(items) == {"A": "same", "x": "gone"}
    assert counts(report).unknown == 0


async def test_what_other_domains_leave_out_is_not_gone(tmp_path: Path) -> None:
    start, other = "http://a.test/", "http://b.test/"
    web = FakeTransport(
        {start: f"<h1>A</h1><a href='{other}'>b</a>", other: "<h1>B</h1>" + links("/c")}
        | {"http://b.test/c": "<h1>C</h1>"}
    )
    both, one = Shop(start_urls=[start, other]), Shop(start_urls=[start, other])
    one.allowed_domains = ["a.test"]
    await crawled(both, transport=web, job=tmp_path / "one")
    items, report = await crawled(one, transport=web, job=tmp_path / "two", since=tmp_path / "one")
    assert marks(items) == {"A": "same"}
    assert counts(report).unknown == 2


async def test_nothing_is_gone_if_start_fails(tmp_path: Path) -> None:
    class Starting(Spider):
        broken = False

        async def start(self) -> AsyncIterator[Request]:
            yield Request(url + "a")
            if self.broken:
                raise OSError("the database is locked")
            yield Request(url + "b")

        async def parse(self, response: Response) -> dict[str, Any]:
            return {"title": response.get("h1")}

    async with Site({"/a": "<h1>A</h1>", "/b": "<h1>B</h1>"}) as site:
        url = site.url("/")
        await run(site, tmp_path, "one", spider=Starting())
        broken = Starting()
        broken.broken = True
        options = {"since": tmp_path / "one"}
        items, report = await run(site, tmp_path, "two", spider=broken, **options)
        later, _ = await run(site, tmp_path, "two", spider=Starting(), **options)
    assert marks(items) == {"A": "same"}
    assert not counts(report).complete
    assert "gone ones not known: start() failed" in str(report)
    assert marks(later) == {"B": "same"}


class Mapped(Shop):
    """Starts with a sitemap."""

    name = "mapped"

    async def start(self) -> AsyncIterator[Request]:
        return
        yield


@pytest.mark.parametrize("how", ["fails", "is missing", "is cut", "is forbidden"])
async def test_nothing_is_gone_if_a_sitemap_is_not_read_to_its_end(
    tmp_path: Path, how: str
) -> None:
    async with Site({"/a": "<h1>A</h1>", "/b": "<h1>B</h1>"}) as site:
        places = "".join(f"<url><loc>{site.url(path)}</loc></url>" for path in ("/a", "/b"))
        whole = f"<urlset>{places}</urlset>"
        site.pages["/map.xml"] = answer(200, whole)
        first, second = Mapped(), Mapped()
        first.sitemap_urls = second.sitemap_urls = [site.url("/map.xml")]
        settings = {"retries": 0, "obey_robots": True}
        await run(site, tmp_path, "one", spider=first, settings=settings)
        changes: dict[str, Pages] = {
            "fails": {"/map.xml": 503},
            "is missing": {"/map.xml": 404},
            "is cut": {"/map.xml": answer(200, whole[: whole.index("/b")])},
            "is forbidden": {"/robots.txt": answer(200, "User-agent: *\nDisallow: /map.xml")},
        }
        site.pages |= changes[how]
        items, report = await run(
            site, tmp_path, "two", spider=second, since=tmp_path / "one", settings=settings
        )
    assert "gone" not in marks(items).values()
    assert not counts(report).complete
    assert "gone ones not known: a sitemap could not be read" in str(report)


async def test_what_sitemap_since_leaves_out_is_not_gone(tmp_path: Path) -> None:
    async with Site({f"/{name}": f"<h1>{name}</h1>" for name in "ab"}) as site:
        listed = "".join(
            f"<url><loc>{site.url(path)}</loc><lastmod>{day}</lastmod></url>"
            for path, day in {"/a": "2026-01-01", "/b": "2026-03-01"}.items()
        )
        site.pages["/map.xml"] = answer(200, f"<urlset>{listed}</urlset>")
        first, second = Mapped(), Mapped()
        first.sitemap_urls = second.sitemap_urls = [site.url("/map.xml")]
        second.sitemap_since = "2026-02-01"
        await run(site, tmp_path, "one", spider=first)
        items, report = await run(site, tmp_path, "two", spider=second, since=tmp_path / "one")
    assert marks(items) == {"b": "same"}
    assert (counts(report).unknown, counts(report).complete) == (1, True)


@pytest.mark.parametrize("before", [None, "2026-02-01"])
async def test_what_a_sitemap_lists_that_sitemap_since_leaves_out_is_not_gone(
    tmp_path: Path, before: str | None
) -> None:
    pages: Pages = {f"/{name}": f"<h1>{name}</h1>" for name in "abc"}
    async with Site(pages) as site:
        maps = {"/old.xml": "2026-01-01", "/new.xml": "2026-03-01"}
        listed = "".join(
            f"<sitemap><loc>{site.url(path)}</loc><lastmod>{day}</lastmod></sitemap>"
            for path, day in maps.items()
        )
        site.pages |= {
            "/map.xml": answer(200, f"<sitemapindex>{listed}</sitemapindex>"),
            "/old.xml": answer(200, f"<urlset><url><loc>{site.url('/a')}</loc></url></urlset>"),
            "/new.xml": answer(200, f"<urlset><url><loc>{site.url('/b')}</loc></url></urlset>"),
        }
        first, second = Mapped(), Mapped()
        first.sitemap_urls = second.sitemap_urls = [site.url("/map.xml")]
        first.sitemap_since, second.sitemap_since = before, "2026-02-01"
        await run(site, tmp_path, "one", spider=first)
        site.pages["/new.xml"] = answer(
            200, f"<urlset><url><loc>{site.url('/c')}</loc></url></urlset>"
        )
        items, report = await run(site, tmp_path, "two", spider=second, since=tmp_path / "one")
    gone = {"b": "gone"} if before else {}
    assert marks(items) == {"c": "new", **gone}
    assert ("gone ones not known: a sitemap was left out" in str(report)) is not bool(before)


async def test_what_a_stage_loses_is_not_gone(tmp_path: Path) -> None:
    def fails(item: dict[str, Any]) -> dict[str, Any]:
        if item["title"] == "B":
            raise ValueError("no")
        return item

    class Failing(Shop):
        pipeline = [fails]  # noqa: RUF012

    async with Site({"/": links("/a"), "/a": "<h1>A</h1>"}) as site:
        starts = [site.url()]
        await run(site, tmp_path, "one", spider=Failing(start_urls=starts))
        site.pages["/a"] = "<h1>B</h1>"
        options = {"spider": Failing(start_urls=starts), "since": tmp_path / "one"}
        items, report = await run(site, tmp_path, "two", **options)
        again, second = await run(site, tmp_path, "two", **options)
    assert items == again == []
    assert counts(report).unknown == counts(second).unknown == 1


async def test_requests_that_a_job_keeps_for_later_leave_it_open_what_is_gone(
    tmp_path: Path,
) -> None:
    async with Site(deep()) as site:
        await run(site, tmp_path, "one")
        options = {"since": tmp_path / "one"}
        await run(site, tmp_path, "two", settings={"max_pages": 2}, **options)
        _, report = await run(site, tmp_path, "two", settings={"max_depth": 1}, **options)
        last, _ = await run(site, tmp_path, "two", **options)
    assert not counts(report).complete
    assert "gone ones not known: the job has requests that were left out" in str(report)
    assert marks(last) == {"B": "same", "C": "same"}


async def test_a_crawl_that_ends_early_knows_nothing_of_what_is_gone(tmp_path: Path) -> None:
    async with Site({"/": links("/a", "/b"), "/a": "<h1>A</h1>", "/b": "<h1>B</h1>"}) as site:
        await run(site, tmp_path, "one")
        items, report = await run(
            site, tmp_path, "two", since=tmp_path / "one", settings={"max_pages": 1}
        )
    assert items == []
    assert not counts(report).complete
    assert "gone ones not known: it ended early" in str(report)


async def test_the_same_page_for_another_callback_or_with_other_meta_is_parsed(
    tmp_path: Path,
) -> None:
    class Categories(Spider):
        kind: str = "tea"

        async def start(self) -> AsyncIterator[Request]:
            yield Request(url, self.parse_one, meta={"kind": self.kind})
            yield Request(f"{url}2")

        async def parse(self, response: Response) -> dict[str, Any]:
            self.stats.add("parse")
            return {"kind": "none"}

        async def parse_one(self, response: Response) -> dict[str, Any]:
            self.stats.add("parse_one")
            return {"kind": response.meta["kind"]}

    async with Site({"*": "<p>"}) as site:
        url = site.url("/")
        await run(site, tmp_path, "one", spider=Categories())
        changed = Categories()
        changed.kind = "mugs"
        items, report = await run(site, tmp_path, "two", spider=changed, since=tmp_path / "one")
    assert report.stats == {"parse_one": 1}
    assert sorted((i["kind"], i["_change"]) for i in items) == [
        ("mugs", "new"),
        ("none", "same"),
        ("tea", "gone"),
    ]


async def test_other_arguments_parse_all_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Priced(Shop):
        currency: str = "EUR"

        async def parse(self, response: Response) -> AsyncIterator[Any]:
            async for result in Shop.parse(self, response):
                yield {**result, "in": self.currency} if isinstance(result, dict) else result

    async with Site(small_shop()) as site:
        starts = [site.url()]
        await run(site, tmp_path, "one", spider=Priced(start_urls=starts))
        spider = Priced(start_urls=starts, currency="GBP")
        with caplog.at_level("INFO"):
            items, report = await run(site, tmp_path, "two", spider=spider, since=tmp_path / "one")
    assert report.stats == {"parsed": 6}
    assert report.statuses == {200: 6}
    assert set(marks(items).values()) == {"changed"}
    assert "all pages are fetched and parsed anew" in caplog.text


async def test_other_code_parses_all_anew(scrapekit: Called) -> None:
    pages: Pages = {"/": f"<h1>Home</h1>{links('/a')}", "/a": "<h1>A</h1>"}
    async with Site(pages) as site:
        start = ("crawl", "pages.py", "-a", f"start_urls={site.url()}")
        await scrapekit.beside(*start, "--job", "one")
        scrapekit.write("pages.py", PAGES.replace('"title": title', '"title": title.upper()'))
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", "")).endswith("pages.py"):
                del sys.modules[name]
        done = await scrapekit.beside(*start, "--job", "two", "--since", "one", "-o", "-")
    items = [json.loads(line) for line in done.out.splitlines()]
    assert sorted((i["title"], i["_change"]) for i in items) == [("A", "same"), ("HOME", "changed")]
    assert "0 pages unchanged; items: 0 new, 1 changed, 1 same, 0 gone" in done.err


async def test_without_a_job_of_its_own_the_items_are_marked_as_well(tmp_path: Path) -> None:
    async with Site(small_shop()) as site:
        await run(site, tmp_path, "one")
        site.pages["/b"] = products(mug=5)
        items, _ = await crawled(
            Shop(start_urls=[site.url()]),
            since=tmp_path / "one",
            output=str(tmp_path / "items.jsonl"),
        )
    written = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert marks(written) == marks(items)
    assert marks(items)["cup"] == "gone"
    assert marks(items)["mug"] == "same"


async def test_the_command_compares_and_shows_what_changed(scrapekit: Called) -> None:
    pages: Pages = {"/": links("/a", "/b"), "/a": "<h1>A</h1>", "/b": "<h1>B</h1>"}
    async with Site(pages) as site:
        start = ("crawl", "pages.py", "-a", f"start_urls={site.url()}")
        await scrapekit.beside(*start, "--job", "one")
        site.pages |= {"/": links("/a", "/c"), "/a": "<h1>Ä</h1>", "/c": "<h1>C</h1>"}
        done = await scrapekit.beside(*start, "--job", "two", "--since", "one", "-o", "items.csv")
    assert done.code == 0
    lines = scrapekit.read("items.csv").splitlines()
    assert sorted(lines[1:]) == [",same", "B,gone", "C,new", "Ä,changed"]
    told = scrapekit("diff", "one", "two")
    assert told.code == 0
    assert sorted(told.out.splitlines()) == [
        '    "title": "A" -> "Ä"',
        '+ {"title":"C"}',
        '- {"title":"B"}',
        '~ {"title":"Ä"}',
    ]
    assert told.err == "1 new, 1 changed, 1 same, 1 gone\n"
    as_json = [
        json.loads(line) for line in scrapekit("diff", "one", "two", "--json").out.splitlines()
    ]
    assert {"change": "changed", "item": {"title": "Ä"}, "was": {"title": "A"}} in as_json


async def test_jobs_that_cant_be_compared_are_refused(scrapekit: Called) -> None:
    async with Site({"/": links("/a"), "/a": "<h1>A</h1>"}) as site:
        start = ("crawl", "pages.py", "-a", f"start_urls={site.url()}", "-q")
        await scrapekit.beside(*start, "--job", "part", "-s", "max_pages=1")
        refused = await scrapekit.beside(*start, "--job", "next", "--since", "part")
        itself = await scrapekit.beside(*start, "--job", "part", "--since", "part")
        missing = await scrapekit.beside(*start, "--since", "nowhere")
    assert refused.code == itself.code == missing.code == 3
    assert "isn't finished: 1 requests are pending; run it to its end first" in refused.error
    assert "can't be compared with itself" in itself.error
    assert "there is no job in nowhere" in missing.error
    assert scrapekit("diff", "nowhere", "part").code == 3


async def test_another_spiders_job_is_refused(tmp_path: Path) -> None:
    class Other(Shop):
        name = "other"

    async with Site(small_shop()) as site:
        await run(site, tmp_path, "one")
        with pytest.raises(JobError, match="is that of the spider 'shop', not of 'other'"):
            await crawled(Other(start_urls=[site.url()]), since=tmp_path / "one")


@pytest.mark.parametrize("seen", [1, 5, 12, 19])
async def test_a_killed_crawl_goes_on_and_marks_each_item_once(
    scrapekit: Called, seen: int
) -> None:
    names = [f"p{number}" for number in range(20)]
    pages: Pages = {f"/{name}": f"<h1>{name}</h1>" for name in names}
    pages["/"] = links(*(f"/{name}" for name in names))
    async with Site(pages) as site:
        start = ("crawl", "pages.py", "-a", f"start_urls={site.url()}")
        await scrapekit.beside(*start, "--job", "one")
        site.pages["/p3"] = "<h1>changed</h1>"
        site.pages["/p4"] = 404
        site.pages["/"] = links(*(f"/{name}" for name in names if name != "p7"))
        site.hits.clear()
        again = (*start, "--job", "two", "--since", "one", "-o", "two.jsonl")
        async with started(scrapekit.folder, *again, "-s", "concurrency=1") as program:
            await site.until(lambda: len(site.hits) > seen)
            program.send(signal.SIGKILL)
            await program.end()
        done = await scrapekit.beside(*again)
        assert done.code == 0, done.err
    found = [json.loads(line) for line in scrapekit.read("two.jsonl").splitlines()]
    expected = dict.fromkeys(["", *names], "same")
    expected |= {"p3": "gone", "p4": "gone", "p7": "gone", "changed": "changed"}
    del expected["p3"]
    assert sorted((i["title"], i["_change"]) for i in found) == sorted(expected.items())


async def test_a_finished_crawl_that_is_run_again_tells_nothing_twice(tmp_path: Path) -> None:
    async with Site({"/": links("/a", "/b"), "/a": "<h1>A</h1>", "/b": "<h1>B</h1>"}) as site:
        await run(site, tmp_path, "one")
        site.pages["/"] = "<h1>Home</h1>"
        output = str(tmp_path / "two.jsonl")
        options = {"since": tmp_path / "one", "output": output}
        items, _ = await run(site, tmp_path, "two", **options)
        again, report = await run(site, tmp_path, "two", **options)
    assert marks(items) == {"Home": "new", "A": "gone", "B": "gone"}
    assert again == []
    assert counts(report).gone == 0
    written = [json.loads(line) for line in Path(output).read_text().splitlines()]
    assert marks(written) == marks(items)
    assert len(written) == 3


@pytest.mark.parametrize("name", ["two.jsonl", "two.csv", "two.json", "two.sqlite"])
async def test_what_is_met_after_a_retry_is_not_gone_any_more(scrapekit: Called, name: str) -> None:
    pages: Pages = {"/": links("/hub", "/z"), "/hub": links("/a", "/b"), "/z": "<h1>Z</h1>"}
    async with Site(pages | {"/a": "<h1>A</h1>", "/b": "<h1>B</h1>"}) as site:
        start = ("crawl", "pages.py", "-a", f"start_urls={site.url()}")
        again = (*start, "--job", "two", "--since", "one", "-o", name)
        await scrapekit.beside(*start, "--job", "one")
        site.pages |= {"/hub": 404, "/z": 404}
        first = await scrapekit.beside(*again)
        site.pages |= {"/hub": links("/a"), "/a": "<h1>A</h1>"}
        await scrapekit.beside("retry", "two")
        last = await scrapekit.beside(*again)
        items = await scrapekit.beside("export", "two", "-o", "-")
        state = await scrapekit.beside("job", "two")
        await scrapekit.beside("export", "two", "-o", f"once.{name}")
    assert "1 same, 4 gone" in first.err
    assert "2 same, 2 gone" in last.err
    assert "5 items" in state.out
    found = [json.loads(line) for line in items.out.splitlines()]
    expected = [("", "same"), ("", "same"), ("A", "same"), ("B", "gone"), ("Z", "gone")]
    assert sorted((item["title"], item["_change"]) for item in found) == expected
    if name.endswith("sqlite"):
        with closing(sqlite3.connect(scrapekit.folder / name)) as database:
            rows = database.execute("SELECT title, _change FROM items").fetchall()
        assert sorted(rows) == expected
    else:
        assert scrapekit.read(name) == scrapekit.read(f"once.{name}")


@pytest.mark.parametrize("name", ["two.jsonl", "two.csv", "two.json", "two.sqlite"])
async def test_what_is_gone_after_a_retry_as_well_is_told_once(tmp_path: Path, name: str) -> None:
    output = str(tmp_path / name)
    async with Site({"/": links("/a"), "/a": "<h1>A</h1>"}) as site:
        await run(site, tmp_path, "one")
        site.pages["/a"] = 404
        options: dict[str, Any] = {"since": tmp_path / "one", "output": output}
        first, _ = await run(site, tmp_path, "two", **options)
        retry(tmp_path / "two")
        second, report = await run(site, tmp_path, "two", **options)
        third, _ = await run(site, tmp_path, "two", **options)
    assert marks(first) == marks(second) == {"A": "gone"}
    assert third == []
    assert counts(report).gone == 1
    assert [item for items in items_of(tmp_path / "two") for item in items] == first
    if name.endswith("sqlite"):
        with closing(sqlite3.connect(output)) as database:
            assert database.execute("SELECT title FROM items").fetchall() == [("A",)]
    else:
        assert Path(output).read_text().count("gone") == 1


async def test_a_file_with_lines_of_others_isnt_made_anew_after_a_retry(
    scrapekit: Called,
) -> None:
    async with Site({"/": links("/a"), "/a": "<h1>A</h1>"}) as site:
        start = ("crawl", "pages.py", "-a", f"start_urls={site.url()}")
        again = (*start, "--job", "two", "--since", "one", "-o", "two.jsonl")
        await scrapekit.beside(*start, "--job", "one")
        site.pages["/a"] = 404
        await scrapekit.beside(*again)
        await scrapekit.beside("retry", "two")
        written = scrapekit.read("two.jsonl") + '{"mine":1}\n'
        scrapekit.write("two.jsonl", written)
        refused = await scrapekit.beside(*again)
    assert refused.code == 3
    assert "something was added to it since" in refused.err
    assert scrapekit.read("two.jsonl") == written


async def test_meta_that_no_job_could_keep_is_nothing_known(tmp_path: Path) -> None:
    class Objects(Spider):
        meta: object = None

        async def start(self) -> AsyncIterator[Request]:
            yield Request(url, meta={"it": self.meta})

        async def parse(self, response: Response) -> dict[str, Any]:
            return {"a": 1}

    async with Site({"/": "<p>"}) as site:
        url = site.url()
        await run(site, tmp_path, "one", spider=Objects())
        spider = Objects()
        spider.meta = object()
        items, report = await crawled(spider, since=tmp_path / "one")
    assert items == [{"a": 1, "_change": "same"}]
    assert counts(report).pages == 0
    assert report.ok


async def test_an_etag_that_cant_be_sent_back_is_forgotten(tmp_path: Path) -> None:
    url = "http://a.test/"
    headers = {"ETag": '"\udcff"', "Last-Modified": "\x07"}
    page = Response(url, 200, headers, b"<h1>A</h1>")
    web = FakeTransport({url: page})
    options = {"transport": web, "settings": {"item_key": ["title"]}}
    await crawled(Shop(start_urls=[url]), job=tmp_path / "one", **options)
    _, report = await crawled(Shop(start_urls=[url]), since=tmp_path / "one", **options)
    assert counts(report).pages == 1
    assert not web.requests[-1].headers


async def test_sitemaps_are_read_again_whatever_they_say(tmp_path: Path) -> None:
    class Mapped(Shop):
        start_urls = ()
        name = "mapped"

    async with Site({"/a": "<h1>A</h1>"}) as site:
        listed = f"<urlset><url><loc>{site.url('/a')}</loc></url></urlset>"
        site.pages["/map.xml"] = tagged(listed, '"map"')
        first, second = Mapped(), Mapped()
        first.sitemap_urls = second.sitemap_urls = [site.url("/map.xml")]
        await run(site, tmp_path, "one", spider=first)
        items, _ = await run(site, tmp_path, "two", spider=second, since=tmp_path / "one")
    assert marks(items) == {"A": "same"}
    assert "If-None-Match" not in site.requests[-2].headers


async def test_a_conditional_request_of_the_users_own_is_left_alone(tmp_path: Path) -> None:
    class Asking(Spider):
        async def start(self) -> AsyncIterator[Request]:
            yield Request(url, headers={"If-None-Match": '"mine"'})

        async def parse(self, response: Response) -> dict[str, Any]:
            return {"status": response.status}

    async with Site({"/": tagged("<p>", '"a"')}) as site:
        url = site.url()
        await run(site, tmp_path, "one", spider=Asking())
        await run(site, tmp_path, "two", spider=Asking(), since=tmp_path / "one")
    assert [request.headers["If-None-Match"] for request in site.requests] == ['"mine"'] * 2


async def test_it_needs_no_etag_to_see_that_a_page_is_the_same(tmp_path: Path) -> None:
    async with Site({"/": "<h1>A</h1>"}) as site:
        await run(site, tmp_path, "one")
        _, report = await run(site, tmp_path, "two", since=tmp_path / "one")
    assert report.stats == {}
    assert counts(report).pages == 1


async def test_what_a_stage_has_lost_is_parsed_again(tmp_path: Path) -> None:
    class Failing(Shop):
        pipeline = [lambda item: 1 / 0]  # noqa: RUF012

    async with Site({"/": "<h1>A</h1>"}) as site:
        starts = [site.url()]
        _, first = await run(site, tmp_path, "one", spider=Failing(start_urls=starts))
        _, second = await run(
            site, tmp_path, "two", spider=Failing(start_urls=starts), since=tmp_path / "one"
        )
    assert first.stats == second.stats == {"parsed": 1}


async def test_leaving_early_leaves_nothing_open(tmp_path: Path) -> None:
    async with Site(small_shop()) as site:
        await run(site, tmp_path, "one")
        async with library.crawl(
            Shop(start_urls=[site.url()]), since=tmp_path / "one", settings={"obey_robots": False}
        ) as crawl:
            async for _ in crawl:
                break
    assert asyncio.all_tasks() == {asyncio.current_task()}
