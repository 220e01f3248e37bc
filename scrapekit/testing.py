"""What users test their spiders with: pages without a site, callbacks without a crawl.

`call(spider.parse, respond(html))` tests one callback. `FakeTransport` takes the place of the
network in a whole crawl: `collect(spider, transport=FakeTransport({url: html}))`. `Recorder` is
an observer that keeps every event, `ManualClock` a clock that moves only when told to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from multidict import CIMultiDict

from scrapekit.clock import ManualClock
from scrapekit.events import Recorder
from scrapekit.lanes.drain import drain, drain_async
from scrapekit.messages import Request, Response
from scrapekit.spider import Spider, lane_of
from scrapekit.transport.fake import FakeTransport

__all__ = ["FakeTransport", "ManualClock", "Recorder", "call", "respond"]


def respond(
    page: str | bytes = b"",
    *,
    url: str | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    request: Request | None = None,
) -> Response:
    """A response as a callback gets it.

    Text is sent as UTF-8, and as `text/html` unless `headers` say otherwise; bytes come without a
    Content-Type of their own. A `CIMultiDict` can have several lines of one name. `url` is the
    page's address, which its links are relative to: by default the request's, or
    https://example.com/. `request` carries what the callback may look for, such as `meta`. Raises
    InvalidURL.
    """
    request = request or Request(url or "https://example.com/")
    body = page.encode() if isinstance(page, str) else page
    lines = CIMultiDict(headers or {})
    if isinstance(page, str):
        lines.setdefault("Content-Type", "text/html; charset=utf-8")
    return Response(url or request.url, status, lines, body, request)


async def call(callback: Callable[[Response], Any], response: Response) -> list[Any]:
    """All that a callback makes of a response: requests and items, flattened as in a crawl.

    The callback may be of any kind: `def` or `async def`, a generator or not, of any lane. It
    runs right here, so a plain one blocks the event loop while it runs.

    Raises what the callback raises, NotAResult for what is no result, and UnknownCallback if a
    spider's method yields a request for a callback that the spider doesn't have.
    """
    produced = callback(response)
    if lane_of(callback) == "loop":
        results = await drain_async(produced, callback)
    else:
        results = drain(produced, callback)
    spider = getattr(callback, "__self__", None)
    if isinstance(spider, Spider):
        for result in results:
            if isinstance(result, Request):
                spider.callback(result.callback)
    return results
