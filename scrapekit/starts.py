"""The start requests, whichever way a spider makes them."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from typing import Any, Final

from scrapekit import urls
from scrapekit.errors import InvalidURL, NotAResult, SpiderError
from scrapekit.messages import Request
from scrapekit.spider import Spider

_BATCH: Final = 32
"""How many requests a thread pulls from a plain generator in one go."""


def check(spider: Spider) -> None:
    """Raises SpiderError or InvalidURL for start URLs that can't be right."""
    if isinstance(spider.start_urls, str):
        raise SpiderError(
            f"start_urls of spider {spider.name!r} is a string; write a list: "
            f"[{spider.start_urls!r}]",
            target=spider.name,
        )
    for url in spider.start_urls:
        if not isinstance(url, str):
            raise InvalidURL(repr(url), "it is no string")
        urls.normalize(url)


async def starts(
    spider: Spider, run_blocking: Callable[..., Awaitable[Any]]
) -> AsyncGenerator[Request, None]:
    """What `spider.start()` gives, one by one as they are asked for.

    An async generator runs on the loop; a plain one may block, so a thread pulls from it, a few
    at a time. Raises what start() raises, NotAResult for what is no Request.
    """
    made: Any = spider.start()
    if inspect.isawaitable(made):
        made = await made
    if hasattr(made, "__aiter__"):
        try:
            async for request in made:
                yield _checked(spider, request)
        finally:
            if inspect.isasyncgen(made):
                await made.aclose()
        return
    if not isinstance(made, Iterable):
        raise NotAResult(f"{type(spider).__name__}.start", "", type(made).__name__)
    iterator = iter(made)
    while batch := await run_blocking(_pull, iterator):
        for request in batch:
            yield _checked(spider, request)


def _pull(iterator: Iterator[Any]) -> list[Any]:
    return list(itertools.islice(iterator, _BATCH))


def _checked(spider: Spider, request: object) -> Request:
    if not isinstance(request, Request):
        raise NotAResult(f"{type(spider).__name__}.start", "", type(request).__name__)
    return request
