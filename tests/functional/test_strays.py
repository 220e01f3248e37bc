from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from scrapekit import Request, Response, Spider
from scrapekit.errors import CrawlError, UsageError
from scrapekit.testing import FakeTransport
from scrapekit.transport.fake import Script
from tests.functional.site import Site, crawled, only_error
from tests.functional.spiders import TITLE, Titles


class Exits(Spider):
    where = "plain"

    async def start(self) -> AsyncIterator[Request]:
        yield Request(self.start_urls[0], f"parse_{self.where}")
        if self.where == "start":
            raise SystemExit(3)

    def parse_plain(self, response: Response) -> None:
        raise SystemExit(3)

    async def parse_async(self, response: Response) -> None:
        raise SystemExit(3)

    async def parse_start(self, response: Response) -> None: ...


@pytest.mark.parametrize("where", ["plain", "async", "start"])
async def test_sys_exit_in_user_code_is_an_error_of_that_code_and_the_loop_lives(
    where: str,
) -> None:
    async with Site({"/": ""}) as site:
        _, report = await crawled(Exits(start_urls=[site.url()], where=where))
    assert only_error(report)[0] == "UsageError"
    assert not report.ok


class Foreign(BaseException):
    """Such as pytest's own, which a helper called by a callback may raise."""


async def _cancelled() -> None:
    raise asyncio.CancelledError


def _raising(error: BaseException) -> Callable[[], Awaitable[None]]:
    async def raise_() -> None:
        raise error

    return raise_


@pytest.mark.parametrize("fail", [_cancelled, _raising(Foreign("odd"))], ids=["cancelled", "odd"])
async def test_an_exception_no_one_expects_costs_an_async_callback_its_page_alone(
    fail: Callable[[], Awaitable[None]],
) -> None:
    class Odd(Spider):
        async def parse(self, response: Response) -> dict[str, Any]:
            if response.url.endswith("/odd"):
                await fail()
            return TITLE

    async with Site({"*": ""}) as site:
        spider = Odd(start_urls=site.urls("/odd", "/1", "/2"))
        items, report = await crawled(spider, settings={"concurrency": 1})
    assert items == [TITLE, TITLE]
    assert not report.ok
    assert report.error_count == 1
    assert report.errors[0].during == "callback"


async def test_a_start_that_ends_in_a_foreign_cancellation_is_reported() -> None:
    class Odd(Spider):
        async def start(self) -> AsyncIterator[Request]:
            yield Request(site.url())
            await _cancelled()

        async def parse(self, response: Response) -> dict[str, Any]:
            return TITLE

    async with Site({"/": ""}) as site:
        items, report = await crawled(Odd())
    assert items == [TITLE]
    assert not report.ok
    assert report.errors[0].during == "start"


class CancelsItself(Spider):
    async def parse(self, response: Response) -> AsyncIterator[Any]:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        yield TITLE


async def test_a_task_that_is_cancelled_from_elsewhere_doesnt_end_the_crawl_in_silence() -> None:
    async with Site({"*": ""}) as site:
        with pytest.raises(CrawlError, match="cancelled from elsewhere"):
            await crawled(CancelsItself(start_urls=site.urls("/1", "/2")))
    web: dict[str, Script] = {"http://site.test/": asyncio.CancelledError()}
    with pytest.raises(CrawlError, match="cancelled from elsewhere"):
        await crawled(Titles(start_urls=list(web)), transport=FakeTransport(web))


@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit, Foreign])
async def test_a_lifespan_that_ends_oddly_is_an_error_of_its_own(
    error: type[BaseException],
) -> None:
    class AtEnter(Titles):
        async def lifespan(self) -> AsyncIterator[None]:
            if self.start_urls:
                raise error
            yield

    class AtExit(Titles):
        async def lifespan(self) -> AsyncIterator[None]:
            yield
            raise error

    async with Site({"*": ""}) as site:
        with pytest.raises(UsageError, match=r"lifespan\(\)"):
            await crawled(AtEnter(start_urls=[site.url()]))
        items, report = await crawled(AtExit(start_urls=[site.url()]))
    assert items == [TITLE]
    assert only_error(report)[0] == "UsageError"
    assert report.errors[0].during == "lifespan"
    assert not report.ok


async def test_an_unexpected_error_of_a_transport_is_no_fault_of_the_site() -> None:
    web: dict[str, Script] = {"http://site.test/1": KeyError("bug"), "http://site.test/2": ""}
    items, report = await crawled(Titles(start_urls=list(web)), transport=FakeTransport(web))
    assert items == [TITLE]
    (group,) = report.errors
    assert (group.error, group.during, group.of_user_code) == ("KeyError", "fetch", True)
    assert "in fetch" in group.traceback
    assert not report.ok
