"""A crawl inside an aiohttp application: the items are streamed as they come, as JSON lines.

Run it with `python examples/aiohttp_app.py`, then `curl -N http://127.0.0.1:8080/crawl/shop`.
The crawl of /crawl/outlet never ends by itself: it stops when its client leaves. /crawl?url=...
crawls what its client asks for, on the public internet only.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

from aiohttp import web

import scrapekit
from scrapekit import Response, Spider
from shop_site import serve

SITES = web.AppKey("SITES", dict[str, str])
"""Our own sites, by name."""

FOR_STRANGERS = {"guard": "public-only", "max_pages": 100, "max_seconds": 60}
"""Whoever may name a URL could name one of your own network: the guard keeps those out."""


class Shelves(Spider):
    """What the shelves say of the products."""

    def parse(self, response: Response) -> Iterator[Any]:
        for row in response.css(".row"):
            yield {"name": row.get("a"), "price": row.get(".price")}
        yield from response.follow_all("a.next")


async def crawl_site(request: web.Request) -> web.StreamResponse:
    """GET /crawl/{site}: one of our own."""
    start = request.app[SITES].get(request.match_info["site"])
    if start is None:
        raise web.HTTPNotFound(text="no such site")
    return await stream(request, start, {})


async def crawl_url(request: web.Request) -> web.StreamResponse:
    """GET /crawl?url=...: whatever the client asks for."""
    try:
        start = scrapekit.Request(request.query.get("url", "")).url
    except scrapekit.UsageError as error:
        raise web.HTTPBadRequest(text=str(error)) from error
    return await stream(request, start, FOR_STRANGERS)


async def stream(request: web.Request, start: str, settings: dict[str, Any]) -> web.StreamResponse:
    """The items of a crawl, one a line. A client that reads slowly slows down the crawl."""
    answer = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
    await answer.prepare(request)
    run = scrapekit.crawl(Shelves(start_urls=[start]), settings=settings)
    try:
        async with run:
            async for item in run:
                await answer.write(json.dumps(item).encode() + b"\n")
    finally:
        print(run.report, flush=True)
    return answer


async def demo_shop(app: web.Application) -> AsyncIterator[None]:
    """Serve the shop as long as the application runs."""
    async with serve() as url:
        app[SITES] = {"shop": url, "outlet": f"{url}outlet"}
        yield


def application() -> web.Application:
    """The application, for any server of aiohttp's."""
    app = web.Application()
    app.cleanup_ctx.append(demo_shop)
    app.add_routes([web.get("/crawl", crawl_url), web.get("/crawl/{site}", crawl_site)])
    return app


if __name__ == "__main__":
    # With handler_cancellation a client that leaves ends the handler, and with it the crawl, at
    # once; else the next write would.
    web.run_app(
        application(),
        host="127.0.0.1",
        port=int(os.environ.get("PORT", "8080")),
        handler_cancellation=True,
    )
