"""The start requests, whichever way a spider makes them."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from typing import Any, Final

from scrapekit import urls
from scrapekit.errors import InvalidURL, NotAResult, SpiderError, without_userinfo
from scrapekit.messages import Request
from scrapekit.spider import Spider

_BATCH: Final = 32
"""How many requests a thread pulls from a plain generator in one go."""


def check(spider: Spider) -> None:
    """Raises SpiderError or InvalidURL for start URLs that can't be right."""
    start_urls: object = spider.start_urls
    if isinstance(start_urls, str):
        raise SpiderError(
            f"start_urls of spider {spider.name!r} is a string; write a list: "
            f"[{without_userinfo(start_urls)!r}]",
            target=spider.name,
        )
    if not isinstance(start_urls, Iterable) or isinstance(start_urls, Iterator):
        raise SpiderError(
            f"start_urls of spider {spider.name!r} is of type {type(start_urls).__name__}; write "
            "a list, or override start() to generate requests",
            target=spider.name,
        )
    for url in start_urls:
        if not isinstance(url, str):
            raise InvalidURL(repr(url), "it is no string")
        urls.normalize(url)


async def starts(
    spider: Spider, run_blocking: Callable[..., Awaitable[Any]]
) -> AsyncGenerator[Request, None]:
    """What `spider.start()` gives, one by one as they are asked for.

    An `async def` runs on the loop; a plain one may block, so it runs in a thread, and a thread
    pulls from what it returned, a few at a time. Raises what start() raises, NotAResult for what
    is no Request.
    """
    made: Any = spider.start() if _is_async(spider.start) else await run_blocking(spider.start)
    if inspect.isawaitable(made):
        made = await made
    async with aclosing(_source(spider, made, run_blocking)) as source:
        async for request in source:
            if not isinstance(request, Request):
                raise _no_result(spider, request)
            yield request


def _source(
    spider: Spider, made: Any, run_blocking: Callable[..., Awaitable[Any]]
) -> AsyncGenerator[Any, None]:
    if isinstance(made, AsyncGenerator):
        return made
    if hasattr(made, "__aiter__"):
        return _awaited(made)
    if isinstance(made, Iterable):
        return _pulled(iter(made), run_blocking)
    raise _no_result(spider, made)


async def _awaited(made: AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    async for request in made:
        yield request


async def _pulled(
    iterator: Iterator[Any], run_blocking: Callable[..., Awaitable[Any]]
) -> AsyncGenerator[Any, None]:
    while True:
        batch: list[Any] = []
        raised: Exception | None = None
        try:
            await run_blocking(_pull, iterator, batch)
        except Exception as exc:
            raised = exc
        # What came before the error counts, as it does on the loop.
        for request in batch:
            yield request
        if raised is not None:
            raise raised
        if len(batch) < _BATCH:
            return


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function)


def _pull(iterator: Iterator[Any], into: list[Any]) -> None:
    for request in itertools.islice(iterator, _BATCH):
        into.append(request)  # noqa: PERF402 -- what came before an error must be there


def _no_result(spider: Spider, made: object) -> NotAResult:
    hint = "it yields Requests and nothing else, as in `yield Request(url)`"
    return NotAResult(f"{type(spider).__name__}.start", "", type(made).__name__, hint=hint)
