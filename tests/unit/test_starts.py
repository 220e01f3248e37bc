from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from scrapekit import Request, Spider
from scrapekit.errors import InvalidURL, NotAResult, SpiderError
from scrapekit.lanes.threads import ThreadLane
from scrapekit.starts import check, starts

URLS = [f"https://shop.test/{n}" for n in range(100)]


def spider(start: Callable[..., Any]) -> Spider:
    kind = type("Shop", (Spider,), {"start": start})
    made = kind()
    assert isinstance(made, Spider)
    return made


async def gather(start: Callable[..., Any], into: list[str] | None = None) -> list[str]:
    """The URLs of all start requests, also in `into`, for what came before an error."""
    found = [] if into is None else into
    lane = ThreadLane(2)
    try:
        async with aclosing(starts(spider(start), lane.run)) as requests:
            async for request in requests:
                found.append(request.url)
    finally:
        assert await lane.aclose(60) == 0
    return found


async def async_generator(self: Spider) -> AsyncIterator[Request]:
    for url in URLS:
        await asyncio.sleep(0)
        yield Request(url)


async def coroutine(self: Spider) -> list[Request]:
    await asyncio.sleep(0)
    return [Request(url) for url in URLS]


def generator(self: Spider) -> Iterator[Request]:
    for url in URLS:
        yield Request(url)


def plain(self: Spider) -> list[Request]:
    return [Request(url) for url in URLS]


def returns_async_generator(self: Spider) -> AsyncIterator[Request]:
    return async_generator(self)


class Stream:
    def __init__(self) -> None:
        self.urls = iter(URLS)

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Request:
        for url in self.urls:
            return Request(url)
        raise StopAsyncIteration


def returns_async_iterator(self: Spider) -> Stream:
    return Stream()


@pytest.mark.parametrize(
    "start",
    [
        async_generator,
        coroutine,
        generator,
        plain,
        returns_async_generator,
        returns_async_iterator,
    ],
)
async def test_start_may_be_of_any_kind(start: Callable[..., Any]) -> None:
    assert await gather(start) == URLS


async def test_the_default_start_asks_for_the_start_urls() -> None:
    class Shop(Spider):
        start_urls = URLS[:3]

    assert await gather(Shop.start) == []
    lane = ThreadLane(1)
    assert [request.url async for request in starts(Shop(), lane.run)] == URLS[:3]
    await lane.aclose(60)


@pytest.mark.parametrize("start", [generator, plain])
async def test_a_plain_start_never_runs_on_the_loops_thread(start: Callable[..., Any]) -> None:
    threads: set[threading.Thread] = set()

    def noting(self: Spider) -> Any:
        threads.add(threading.current_thread())
        for request in start(self):
            threads.add(threading.current_thread())
            yield request

    def whole(self: Spider) -> list[Request]:
        return list(noting(self))

    await gather(noting if start is generator else whole)
    assert threads
    assert threading.current_thread() not in threads


async def test_an_async_start_runs_on_the_loop() -> None:
    threads: set[threading.Thread] = set()

    async def noting(self: Spider) -> AsyncIterator[Request]:
        threads.add(threading.current_thread())
        yield Request(URLS[0])

    await gather(noting)
    assert threads == {threading.current_thread()}


async def test_requests_are_pulled_as_they_are_asked_for() -> None:
    made = 0

    async def endless(self: Spider) -> AsyncIterator[Request]:
        nonlocal made
        while True:
            made += 1
            yield Request(URLS[0])

    async with aclosing(starts(spider(endless), asyncio.to_thread)) as requests:
        for _ in range(3):
            await anext(requests)
    assert made == 3


async def test_a_thread_pulls_few_ahead() -> None:
    made = 0

    def endless(self: Spider) -> Iterator[Request]:
        nonlocal made
        while True:
            made += 1
            yield Request(URLS[0])

    lane = ThreadLane(1)
    async with aclosing(starts(spider(endless), lane.run)) as requests:
        for _ in range(3):
            await anext(requests)
    assert made < 100
    await lane.aclose(60)


def breaks_in_a_thread(self: Spider) -> Iterator[Request]:
    yield from generator(self)
    raise ValueError("no more")


def exits_in_a_thread(self: Spider) -> Iterator[Request]:
    yield from generator(self)
    raise SystemExit(3)


async def breaks_on_the_loop(self: Spider) -> AsyncIterator[Request]:
    async for request in async_generator(self):
        yield request
    raise ValueError("no more")


@pytest.mark.parametrize("start", [breaks_in_a_thread, breaks_on_the_loop, exits_in_a_thread])
async def test_what_came_before_an_error_counts(start: Callable[..., Any]) -> None:
    found: list[str] = []
    with pytest.raises(Exception, match=r"no more|SystemExit"):
        await gather(start, found)
    assert found == URLS


@pytest.mark.parametrize("value", [None, 5, "https://shop.test/", {"url": "https://shop.test/"}])
@pytest.mark.parametrize("kind", ["generator", "async generator", "list"])
async def test_what_is_no_request_is_an_error(value: Any, kind: str) -> None:
    def in_thread(self: Spider) -> Iterator[Any]:
        yield Request(URLS[0])
        yield value

    async def on_loop(self: Spider) -> AsyncIterator[Any]:
        yield Request(URLS[0])
        yield value

    def listed(self: Spider) -> list[Any]:
        return [Request(URLS[0]), value]

    start = {"generator": in_thread, "async generator": on_loop, "list": listed}[kind]
    found: list[str] = []
    message = rf"^Shop\.start produced a value of type {type(value).__name__}; it yields Requests"
    with pytest.raises(NotAResult, match=message):
        await gather(start, found)
    assert found == URLS[:1]


@pytest.mark.parametrize("value", [None, 5, Request(URLS[0])])
async def test_a_start_that_returns_no_requests_is_an_error(value: Any) -> None:
    with pytest.raises(NotAResult, match=type(value).__name__):
        await gather(lambda self: value)


async def test_leaving_early_closes_the_spiders_generator() -> None:
    closed = False

    async def start(self: Spider) -> AsyncIterator[Request]:
        nonlocal closed
        try:
            for url in URLS:
                yield Request(url)
        finally:
            closed = True

    async with aclosing(starts(spider(start), asyncio.to_thread)) as requests:
        await anext(requests)
    assert closed


def shop(urls: Any) -> Spider:
    kind = type("Shop", (Spider,), {"start_urls": urls})
    made = kind()
    assert isinstance(made, Spider)
    return made


@pytest.mark.parametrize("urls", [[], (), URLS, tuple(URLS), set(URLS), dict.fromkeys(URLS)])
def test_start_urls_may_be_any_collection(urls: Any) -> None:
    check(shop(urls))


@pytest.mark.parametrize(
    ("urls", "message"),
    [
        ("https://shop.test/", r"is a string; write a list: \['https://shop.test/'\]"),
        (None, "is of type NoneType; write a list"),
        (iter(URLS), r"is of type list_iterator; write a list, or override start\(\)"),
        ((url for url in URLS), "is of type generator"),
    ],
)
def test_start_urls_that_are_no_collection_are_refused(urls: Any, message: str) -> None:
    with pytest.raises(SpiderError, match=message) as caught:
        check(shop(urls))
    assert caught.value.target == "shop"


@pytest.mark.parametrize("url", ["shop.test", "/a", "", "ftp://shop.test/", None, 5, b"http://a"])
def test_start_urls_that_cannot_be_fetched_are_refused(url: Any) -> None:
    with pytest.raises(InvalidURL):
        check(shop([URLS[0], url]))
