"""A crawl inside a Starlette application: the items are streamed as they come, as JSON lines.

Run it with `python examples/starlette_app.py`, then `curl -N http://127.0.0.1:8080/crawl/shop`.
The crawl of /crawl/outlet never ends by itself: it stops when its client leaves. /crawl?url=...
crawls what its client asks for, on the public internet only. In FastAPI, which is made of
Starlette, `lines` and `StreamingResponse` are used the same way.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import scrapekit
from shop_site import serve


class Shelves(scrapekit.Spider):
    """What the shelves say of the products."""

    def parse(self, response: scrapekit.Response) -> Iterator[Any]:
        for row in response.css(".row"):
            yield {"name": row.get("a"), "price": row.get(".price")}
        yield from response.follow_all("a.next")


FOR_STRANGERS = {"guard": "public-only", "max_pages": 100, "max_seconds": 60}
"""Whoever may name a URL could name one of your own network: the guard keeps those out."""


async def lines(start: str, settings: dict[str, Any]) -> AsyncGenerator[str, None]:
    """The items of a crawl, one a line. A client that reads slowly slows down the crawl."""
    run = scrapekit.crawl(Shelves(start_urls=[start]), settings=settings)
    try:
        async with run:
            async for item in run:
                yield json.dumps(item) + "\n"
    finally:
        print(run.report, flush=True)


async def crawl_site(request: Request) -> Response:
    """GET /crawl/{site}: one of our own."""
    start = request.state.sites.get(request.path_params["site"])
    if start is None:
        return PlainTextResponse("no such site", status_code=404)
    return streamed(lines(start, {}))


async def crawl_url(request: Request) -> Response:
    """GET /crawl?url=...: whatever the client asks for."""
    try:
        start = scrapekit.Request(request.query_params.get("url", "")).url
    except scrapekit.UsageError as error:
        return PlainTextResponse(str(error), status_code=400)
    return streamed(lines(start, FOR_STRANGERS))


def streamed(stream: AsyncGenerator[str, None]) -> Response:
    """The answer to either."""
    # If the client leaves while a line is on its way, nobody else would close the generator.
    close = BackgroundTask(stream.aclose)
    return StreamingResponse(stream, media_type="application/jsonl", background=close)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    """Serve the demo shop as long as the application runs, and list our own sites."""
    async with serve() as url:
        yield {"sites": {"shop": url, "outlet": f"{url}outlet"}}


routes = [Route("/crawl", crawl_url), Route("/crawl/{site}", crawl_site)]
app = Starlette(routes=routes, lifespan=lifespan)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
