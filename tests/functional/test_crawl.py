from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from aiohttp import web
from pydantic import BaseModel

import scrapekit
from scrapekit import Request, Response, Spider
from scrapekit.errors import CrawlFailed, NotAResult
from tests.functional.site import Site, answer, crawled, links, only_error
from tests.functional.spiders import TITLE, Following, Raising


@dataclass
class Tea:
    title: str


class Cup(msgspec.Struct):
    title: str


class Pot(BaseModel):
    title: str


def of_module(response: Response) -> Iterator[dict[str, Any]]:
    yield {"of": "module", "url": response.url}


async def of_module_async(response: Response) -> dict[str, Any]:
    return {"of": "async module", "url": response.url}


class OfEveryKind(Spider):
    """Its callbacks are all the forms there are; each gives TITLE."""

    def plain(self, response: Response) -> dict[str, Any]:
        return TITLE

    def plain_list(self, response: Response) -> list[dict[str, Any]]:
        return [TITLE]

    def plain_generator(self, response: Response) -> Iterator[Any]:
        yield from [TITLE]

    def generator_of_lists(self, response: Response) -> Iterator[Any]:
        yield [[TITLE]]

    async def coroutine(self, response: Response) -> dict[str, Any]:
        await asyncio.sleep(0)
        return TITLE

    async def coroutine_list(self, response: Response) -> list[dict[str, Any]]:
        return [TITLE]

    async def async_generator(self, response: Response) -> AsyncIterator[Any]:
        yield TITLE

    async def async_generator_of_generators(self, response: Response) -> AsyncIterator[Any]:
        yield self.async_generator(response)

    async def coroutine_returning_a_generator(self, response: Response) -> Iterator[Any]:
        return self.plain_generator(response)


KINDS = [name for name in vars(OfEveryKind) if not name.startswith("_")]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_callback_of_any_kind_gives_its_item(kind: str) -> None:
    class OneKind(OfEveryKind):
        async def start(self) -> AsyncIterator[Request]:
            yield Request(site.url(), kind)

    async with Site({"/": "tea"}) as site:
        items, report = await crawled(OneKind())
    assert items == [TITLE]
    assert report.ok
    assert [cost.callback for cost in report.callbacks] == [kind]


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_callback_may_give_nothing(kind: str) -> None:
    class Silent(Spider):
        def parse(self, response: Response) -> None:
            assert response.status == 200

        async def parse_async(self, response: Response) -> None:
            assert response.status == 200

        async def start(self) -> AsyncIterator[Request]:
            yield Request(site.url(), self.parse if kind == "plain" else self.parse_async)

    async with Site({"/": "tea"}) as site:
        items, report = await crawled(Silent())
    assert items == []
    assert report.ok
    assert report.pages == 1


class Marked(Request):  # type: ignore[misc]  # it is final, which Python itself doesn't enforce
    """A request of a class of the user's own."""


async def test_a_request_of_a_subclass_is_a_request_and_no_item() -> None:
    class Marking(Spider):
        def parse(self, response: Response) -> Iterator[Any]:
            yield Marked(response.urljoin("/tea"), self.parse_tea)

        def parse_tea(self, response: Response) -> dict[str, Any]:
            return TITLE

    class Misspelt(Spider):
        def parse(self, response: Response) -> Iterator[Any]:
            yield Marked(response.urljoin("/tea"), "parse_tee")

    async with Site({"/": "", "/tea": ""}) as site:
        items, _ = await crawled(Marking(start_urls=[site.url()]))
        assert items == [TITLE]
        _, report = await crawled(Misspelt(start_urls=[site.url()]))
        assert only_error(report)[0] == "UnknownCallback"


async def test_functions_of_a_module_are_callbacks() -> None:
    class Modular(Spider):
        def parse(self, response: Response) -> Iterator[Request]:
            yield response.follow("/a", of_module)
            yield response.follow("/b", of_module_async)

    async with Site({"/": "", "/a": "", "/b": ""}) as site:
        items, report = await crawled(Modular(start_urls=[site.url()]))
        wanted = [("async module", site.url("/b")), ("module", site.url("/a"))]
    assert report.ok
    assert sorted((item["of"], item["url"]) for item in items) == wanted


async def test_typed_items_come_out_as_they_were_yielded() -> None:
    class Typed(Spider):
        async def parse(self, response: Response) -> AsyncIterator[Any]:
            yield Tea("a")
            yield Cup("b")
            yield Pot(title="c")
            yield {"title": "d"}

    async with Site({"/": ""}) as site:
        items, _ = await crawled(Typed(start_urls=[site.url()]))
    assert items == [Tea("a"), Cup("b"), Pot(title="c"), {"title": "d"}]


async def test_a_plain_callback_runs_off_the_loop_and_an_async_one_on_it() -> None:
    threads: dict[str, int] = {}

    class Where(Spider):
        def parse(self, response: Response) -> Request:
            threads["plain"] = threading.get_ident()
            return response.follow("/next", self.parse_next)

        async def parse_next(self, response: Response) -> None:
            threads["async"] = threading.get_ident()

    async with Site({"/": "", "/next": ""}) as site:
        await crawled(Where(start_urls=[site.url()]))
    assert threads["async"] == threading.get_ident() != threads["plain"]


class NoResult(Spider):
    async def parse(self, response: Response) -> AsyncIterator[Any]:
        yield {"fine": True}
        yield 42  # the line that the report names


class NoResultPlain(Spider):
    def parse(self, response: Response) -> Iterator[Any]:
        yield {"fine": True}
        yield [{"fine": True}, "text"]  # the line that the report names


@pytest.mark.parametrize(("kind", "type_"), [(NoResult, "int"), (NoResultPlain, "str")])
async def test_what_is_no_result_is_named_with_callback_line_and_type(
    kind: type[Spider], type_: str
) -> None:
    async with Site({"/": ""}) as site:
        items, report = await crawled(kind(start_urls=[site.url()]))
    assert items == []
    (group,) = report.errors
    assert group.error == NotAResult.__name__
    assert f"{kind.__name__}.parse" in group.message
    assert f"type {type_};" in group.message
    path, _, line = group.where.rpartition(":")
    with open(path) as source:  # noqa: ASYNC230, PTH123
        assert "the line that the report names" in source.readlines()[int(line) - 1]
    assert group.where in group.message


class Breaks(Spider):
    async def parse(self, response: Response) -> AsyncIterator[Any]:
        yield {"n": 1}
        raise LookupError("no price")  # here


async def test_a_failing_callback_commits_nothing_and_is_reported_with_its_place() -> None:
    async with Site({"/": ""}) as site:
        items, report = await crawled(Breaks(start_urls=[site.url()]))
        url = site.url()
    assert items == []
    assert not report.ok
    (group,) = report.errors
    assert (group.error, group.message, group.during) == ("LookupError", "no price", "callback")
    assert (group.callback, group.example) == ("parse", url)
    assert group.where.startswith(__file__)
    assert 'raise LookupError("no price")  # here' in group.traceback


async def test_collect_raises_what_failed_and_keeps_what_there_is() -> None:
    class Half(Spider):
        async def parse(self, response: Response) -> AsyncIterator[Any]:
            if response.url.endswith("/bad"):
                raise LookupError("no price")
            yield {"url": response.url}

    async with Site({"/": "", "/bad": ""}) as site:
        spider = Half(start_urls=site.urls("/", "/bad"))
        with pytest.raises(CrawlFailed, match=r"LookupError .*no price") as caught:
            await scrapekit.collect(spider, settings={"obey_robots": False})
        assert caught.value.items == [{"url": site.url()}]
        assert caught.value.report.pages == 2


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_an_unknown_callback_is_found_when_it_is_yielded(kind: str) -> None:
    class Typo(Spider):
        def parse(self, response: Response) -> Request:
            return response.follow("/next", "parse_nxt")

        async def parse_async(self, response: Response) -> Request:
            return response.follow("/next", "parse_nxt")

        def parse_next(self, response: Response) -> None: ...

        async def start(self) -> AsyncIterator[Request]:
            yield Request(site.url(), "parse" if kind == "plain" else "parse_async")

    async with Site({"/": "", "/next": ""}) as site:
        _, report = await crawled(Typo())
    assert site.hits == ["/"]
    error, message = only_error(report)
    assert error == "UnknownCallback"
    assert "did you mean 'parse_next'?" in message


@pytest.mark.parametrize("status", [404, 410, 418, 500])
async def test_a_status_that_is_not_accepted_is_a_failure_of_the_site(status: int) -> None:
    async with Site({"/": status}) as site:
        items, report = await crawled(Raising(start_urls=[site.url()]), settings={"retries": 0})
    assert items == []
    assert report.pages == 0
    assert report.statuses == {status: 1}
    assert [(g.error, g.of_user_code) for g in report.errors] == [(f"BadStatus {status}", False)]


async def test_accepted_statuses_go_to_the_callback() -> None:
    class Any404(Spider):
        async def parse(self, response: Response) -> dict[str, Any]:
            return {"status": response.status, "text": response.text}

    async with Site({"/": answer(404, "not here")}) as site:
        items, report = await crawled(
            Any404(start_urls=[site.url()]), settings={"accept_statuses": [404]}
        )
    assert items == [{"status": 404, "text": "not here"}]
    assert report.ok


async def test_allowed_domains_default_to_those_of_the_start_urls() -> None:
    async with Site({"/": ""}) as other, Site() as site:
        outside = other.url("/").replace("127.0.0.1", "localhost")
        site.pages["/"] = links(outside, "/a")
        site.pages["/a"] = ""
        items, report = await crawled(Following(start_urls=[site.url()]))
    assert [item["path"] for item in items] == ["/", "/a"]
    assert other.hits == []
    assert report.dropped == {"off-domain": 1}


async def test_allowed_domains_may_open_the_crawl_to_others_or_to_all() -> None:
    async with Site({"/there": ""}) as other, Site() as site:
        outside = other.url("/there").replace("127.0.0.1", "localhost")
        site.pages["/"] = links(outside)
        for domains in (["localhost", "127.0.0.1"], ["*"]):
            await crawled(Following(start_urls=[site.url()], allowed_domains=domains))
    assert other.hits == ["/there", "/there"]


async def test_a_start_url_outside_of_allowed_domains_is_not_fetched() -> None:
    async with Site({"/": ""}) as site:
        spider = Following(start_urls=[site.url()], allowed_domains=["site.test"])
        _, report = await crawled(spider)
    assert site.hits == []
    assert report.dropped == {"off-domain": 1}


async def test_higher_priorities_go_first_and_equal_ones_in_order() -> None:
    class Ranked(Spider):
        async def parse(self, response: Response) -> AsyncIterator[Request]:
            for path, priority in (("/a", 0), ("/b", -1), ("/c", 5), ("/d", 0), ("/e", 5)):
                if response.request.depth == 0:
                    yield response.follow(path, priority=priority)

    async with Site({"*": ""}) as site:
        await crawled(Ranked(start_urls=[site.url()]), settings={"concurrency": 1})
    assert site.hits == ["/", "/c", "/e", "/a", "/d", "/b"]


async def test_each_page_is_fetched_once_however_it_is_spelled() -> None:
    spellings = ("/a", "/a#top", "/x/../a", "/%61", "/a?", "/b?x=1&y=2", "/b?y=2&x=1", "")
    async with Site({"*": links(*spellings)}) as site:
        _, report = await crawled(Following(start_urls=site.urls("/", "/")))
    percent = "/%61"  # the URL standard doesn't decode it
    assert sorted(site.hits) == sorted(["/", "/a", "/b?x=1&y=2", percent])
    assert report.ok
    assert set(report.dropped) == {"duplicate"}


async def test_unique_false_fetches_again() -> None:
    class Again(Spider):
        async def parse(self, response: Response) -> AsyncIterator[Request]:
            if response.meta.get("left", 2):
                left = response.meta.get("left", 2) - 1
                yield response.follow("/", unique=False, meta={"left": left})

    async with Site({"/": ""}) as site:
        await crawled(Again(start_urls=[site.url()]))
    assert site.hits == ["/", "/", "/"]


async def test_method_and_body_tell_requests_apart() -> None:
    class Posting(Spider):
        async def start(self) -> AsyncIterator[Request]:
            for word in ("a", "b", "a"):
                yield Request(site.url(), data={"word": word})
            yield Request(site.url())

        async def parse(self, response: Response) -> dict[str, Any]:
            return {"echo": response.text}

    async def echo(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=f"{request.method} {await request.text()}")

    async with Site({"/": echo}) as site:
        items, report = await crawled(Posting())
    assert sorted(item["echo"] for item in items) == ["GET ", "POST word=a", "POST word=b"]
    assert report.dropped == {"duplicate": 1}


async def test_a_spider_without_starts_finishes_and_is_not_ok() -> None:
    items, report = await crawled(Following())
    assert items == []
    assert (report.reason, report.ok, report.pages) == ("finished", False, 0)


async def test_a_crawl_without_a_page_says_why_there_was_none() -> None:
    with pytest.raises(CrawlFailed, match="the spider gave no start requests; set start_urls"):
        await scrapekit.collect(Following())
    elsewhere = Following(start_urls=["http://127.0.0.1/"], allowed_domains=["site.test"])
    with pytest.raises(CrawlFailed, match=r"no page was fetched; requests dropped: 1 off-domain$"):
        await scrapekit.collect(elsewhere)
