from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import scrapekit
from scrapekit import Request, Response, Spider
from scrapekit.errors import InvalidURL, SpiderError
from tests.functional.site import Site, crawled, held, idle, only_error
from tests.functional.spiders import TITLE, Raising


async def test_an_unknown_callback_of_a_start_request_is_found_before_it_is_fetched() -> None:
    class Typo(Spider):
        async def start(self) -> AsyncIterator[Request]:
            yield Request(site.url(), "prase")

        async def parse(self, response: Response) -> None: ...

    async with Site({"/": ""}) as site:
        _, report = await crawled(Typo())
    assert site.hits == []
    assert only_error(report)[0] == "UnknownCallback"


class Counted(Spider):
    """Generates start requests without end and counts how many were asked for."""

    made = 0

    async def start(self) -> AsyncIterator[Request]:
        while True:
            self.made += 1
            yield Request(f"{self.start_urls[0]}{self.made}")

    async def parse(self, response: Response) -> dict[str, Any]:
        return {"url": response.url}


class CountedPlain(Counted):
    def start(self) -> Iterator[Request]:  # type: ignore[override]
        while True:
            self.made += 1
            yield Request(f"{self.start_urls[0]}{self.made}")


@pytest.mark.parametrize("kind", [Counted, CountedPlain])
async def test_generated_starts_are_pulled_as_the_crawl_has_room(kind: type[Counted]) -> None:
    gate = asyncio.Event()
    async with Site({"*": held(gate)}) as site:
        spider = kind(start_urls=[site.url("/")])
        settings = {"obey_robots": False, "concurrency": 4, "adaptive": False}
        async with scrapekit.crawl(spider, settings=settings) as run:
            await site.until(lambda: site.in_flight == 4)
            await idle()
            pulled_while_held = spider.made
            gate.set()
            async for _ in run:
                if spider.made > pulled_while_held:
                    break
    assert 4 < pulled_while_held <= 4 + 64 + 32


async def test_starts_are_fetched_while_further_ones_are_still_being_generated() -> None:
    async with Site({"*": ""}) as site:

        class SideBySide(Spider):
            async def start(self) -> AsyncIterator[Request]:
                for number in range(3):
                    yield Request(site.url(f"/{number}"))
                    await site.until(lambda: len(site.hits) > number)  # noqa: B023

            async def parse(self, response: Response) -> dict[str, Any]:
                return {"url": response.url}

        items, _ = await crawled(SideBySide())
    assert len(items) == 3


async def test_an_error_in_start_is_reported_and_what_came_before_is_crawled() -> None:
    class HalfStart(Spider):
        async def start(self) -> AsyncIterator[Request]:
            yield Request(site.url())
            raise LookupError("no seeds")

        async def parse(self, response: Response) -> dict[str, Any]:
            return TITLE

    async with Site({"/": ""}) as site:
        items, report = await crawled(HalfStart())
    assert items == [TITLE]
    assert not report.ok
    assert [(g.error, g.during, g.message) for g in report.errors] == [
        ("LookupError", "start", "no seeds")
    ]


class OneString(Raising):
    start_urls = "https://site.test/"


async def test_bad_start_urls_keep_the_crawl_from_starting() -> None:
    with pytest.raises(InvalidURL, match="ftp"):
        await crawled(Raising(start_urls=["ftp://site.test/"]))
    with pytest.raises(SpiderError, match="is a string; write a list"):
        await crawled(OneString())
