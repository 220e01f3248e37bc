from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from scrapekit import Request, Response, Spider
from scrapekit.errors import BadStatus
from scrapekit.failure import Failure
from tests.functional.site import Site, answer, crawled
from tests.functional.spiders import Raising


async def test_an_unknown_callback_from_on_error_is_found_before_it_is_fetched() -> None:
    class Typo(Spider):
        async def parse(self, response: Response) -> None: ...

        def on_error(self, failure: Failure) -> Request:
            return Request(site.url("/next"), "prase")

    async with Site({"/next": ""}) as site:
        _, report = await crawled(Typo(start_urls=[site.url()]))
    assert site.hits == ["/"]
    errors = {(group.error, group.during) for group in report.errors}
    assert ("UnknownCallback", "on_error") in errors


class HandledPlain(Raising):
    def on_error(self, failure: Failure) -> dict[str, Any]:
        return {"failed": failure.url, "error": type(failure.error).__name__}


class HandledAsync(Raising):
    async def on_error(self, failure: Failure) -> AsyncIterator[Any]:
        yield {"failed": failure.url, "error": type(failure.error).__name__}


@pytest.mark.parametrize("kind", [HandledPlain, HandledAsync])
async def test_on_error_may_be_plain_or_async_and_yields_results(kind: type[Spider]) -> None:
    async with Site({"/": ""}) as site:
        spider = kind(start_urls=site.urls("/", "/gone"))
        items, report = await crawled(spider)
        wanted = [
            {"failed": site.url("/"), "error": "LookupError"},
            {"failed": site.url("/gone"), "error": "BadStatus"},
        ]
    assert sorted(items, key=lambda item: str(item["failed"])) == wanted
    assert report.items == 2
    assert report.error_count == 2


async def test_on_error_gets_all_there_is_to_know() -> None:
    failures: list[Failure] = []

    class Asking(Raising):
        async def on_error(self, failure: Failure) -> None:
            failures.append(failure)

    async with Site({"/": "tea", "/gone": answer(410, "no more")}) as site:
        await crawled(Asking(start_urls=site.urls("/", "/gone")))
    by_path = {failure.url.rpartition("/")[2]: failure for failure in failures}
    broken, gone = by_path[""], by_path["gone"]
    assert broken.response is not None
    assert (broken.response.text, broken.during, broken.callback) == ("tea", "callback", "parse")
    assert gone.response is not None
    assert (gone.response.text, gone.during, gone.tries) == ("no more", "fetch", 1)
    assert isinstance(gone.error, BadStatus)


async def test_requests_from_on_error_are_crawled() -> None:
    class Falling(Spider):
        async def parse(self, response: Response) -> dict[str, Any]:
            return {"url": response.url}

        def on_error(self, failure: Failure) -> Request:
            return Request(site.url("/mirror"))

    async with Site({"/mirror": ""}) as site:
        items, _ = await crawled(Falling(start_urls=[site.url()]))
        assert items == [{"url": site.url("/mirror")}]


async def test_an_on_error_that_raises_is_reported_besides_the_first_error() -> None:
    class Twice(Raising):
        def on_error(self, failure: Failure) -> None:
            raise OSError("the log is full")

    async with Site({"/": ""}) as site:
        _, report = await crawled(Twice(start_urls=[site.url()]))
    assert {(g.error, g.during) for g in report.errors} == {
        ("LookupError", "callback"),
        ("OSError", "on_error"),
    }
