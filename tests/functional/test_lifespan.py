from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from scrapekit import Response, Spider
from tests.functional.site import Site, crawled
from tests.functional.spiders import TITLE


async def test_lifespan_surrounds_the_crawl() -> None:
    order: list[str] = []

    class Spanning(Spider):
        async def lifespan(self) -> AsyncIterator[None]:
            order.append("enter")
            self.start_urls = [site.url()]
            yield
            order.append("leave")

        async def parse(self, response: Response) -> dict[str, Any]:
            order.append("parse")
            return TITLE

    async with Site({"/": ""}) as site:
        items, _ = await crawled(Spanning())
    assert items == [TITLE]
    assert order == ["enter", "parse", "leave"]


async def test_a_lifespan_that_fails_keeps_the_crawl_from_starting() -> None:
    class Down(Spider):
        async def lifespan(self) -> AsyncIterator[None]:
            if not self.start_urls:
                raise ConnectionRefusedError("the database is down")
            yield

    with pytest.raises(ConnectionRefusedError, match="database"):
        await crawled(Down())


async def test_a_lifespan_that_fails_to_end_is_in_the_report() -> None:
    class Leaky(Spider):
        async def lifespan(self) -> AsyncIterator[None]:
            yield
            raise ConnectionResetError("the database went away")

        async def parse(self, response: Response) -> dict[str, Any]:
            return TITLE

    async with Site({"/": ""}) as site:
        items, report = await crawled(Leaky(start_urls=[site.url()]))
    assert items == [TITLE]
    assert not report.ok
    assert [(g.error, g.during) for g in report.errors] == [("ConnectionResetError", "lifespan")]
