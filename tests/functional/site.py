"""A web site on loopback that a test scripts and questions, and short ways to crawl it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from aiohttp.test_utils import RawTestServer

import scrapekit
from scrapekit.events import Event, Recorder
from scrapekit.report import Report
from scrapekit.spider import Spider

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Page = str | bytes | int | Handler
"""HTML, bytes without a type, a bare status, or what answers each request."""

Pages = dict[str, Page]
"""By path; "*" for all others."""


class Site:
    """Serves `pages` by path; 404 for the rest. Use it in `async with`.

    `hits` has the paths asked for, in order, but for robots.txt, which `robots_hits` counts.
    `in_flight` and `peak` count the requests being answered, robots.txt left out.
    """

    def __init__(self, pages: Mapping[str, Page] | None = None, *, host: str = "127.0.0.1") -> None:
        self.pages = dict(pages or {})
        self.hits: list[str] = []
        self.requests: list[web.BaseRequest] = []
        self.robots_hits = 0
        self.in_flight = 0
        self.peak = 0
        self._changed = asyncio.Condition()
        self._server = RawTestServer(self._answer, host=host)

    async def __aenter__(self) -> Self:
        await self._server.start_server()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._server.close()

    @property
    def origin(self) -> str:
        return f"http://{self._server.host}:{self._server.port}"

    def url(self, path: str = "/") -> str:
        return self.origin + path

    def urls(self, *paths: str) -> list[str]:
        return [self.url(path) for path in paths]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that requests change is so."""
        async with self._changed:
            await self._changed.wait_for(condition)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/robots.txt":
            self.robots_hits += 1
            return await self._page(request)
        self.hits.append(request.path_qs)
        self.requests.append(request)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        await self._tell()
        try:
            return await self._page(request)
        finally:
            self.in_flight -= 1
            await self._tell()

    async def _page(self, request: web.BaseRequest) -> web.StreamResponse:
        page = self.pages.get(request.path, self.pages.get("*", 404))
        if isinstance(page, str):
            return web.Response(text=page, content_type="text/html")
        if isinstance(page, bytes):
            return web.Response(body=page)
        if isinstance(page, int):
            return web.Response(status=page)
        return await page(request)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def links(*hrefs: str) -> str:
    """A page that links there."""
    return "".join(f'<a href="{href}">{href}</a>' for href in hrefs)


def answer(status: int = 200, body: str = "", **headers: str) -> Handler:
    """Always the same answer; `Retry_After="1"` stands for the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, text=body, headers=named)

    return handler


def redirect(location: str, status: int = 302) -> Handler:
    return answer(status, Location=location)


def in_turn(*pages: Page) -> Handler:
    """The first page for the first request and so on; the last one for all that follow."""
    left = list(pages)

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        page = left.pop(0) if len(left) > 1 else left[0]
        if callable(page):
            return await page(request)
        if isinstance(page, int):
            return web.Response(status=page)
        text = page.decode() if isinstance(page, bytes) else page
        return web.Response(text=text, content_type="text/html")

    return handler


def held(gate: asyncio.Event, page: str = "") -> Handler:
    """Answers when the gate opens."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        await gate.wait()
        return web.Response(text=page, content_type="text/html")

    return handler


class Watcher(Recorder):
    """Keeps every event, and lets a test wait for some of a kind."""

    def __init__(self) -> None:
        super().__init__()
        self._news = asyncio.Event()

    def __call__(self, event: Event, /) -> None:
        super().__call__(event)
        self._news.set()

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    async def until(self, kind: type[Event], count: int = 1) -> None:
        while self.count(kind) < count:
            self._news.clear()
            await self._news.wait()


async def crawled(spider: Spider, **options: Any) -> tuple[list[Any], Report]:
    """All items and the report. `settings` add to what suits tests: no robots.txt, no waits, and as
    many pages at a time as are allowed.
    """
    suited = {"obey_robots": False, "retry_delay_s": 0.0, "adaptive": False}
    settings = {**suited, **options.pop("settings", {})}
    async with scrapekit.crawl(spider, settings=settings, **options) as run:
        items = [item async for item in run]
    return items, run.report


async def idle(rounds: int = 50) -> None:
    """Let everything go on that needs nothing but the loop."""
    for _ in range(rounds):
        await asyncio.sleep(0)


def only_error(report: Report) -> tuple[str, str]:
    """Class and message of the only kind of error there is."""
    (group,) = report.errors
    return group.error, group.message
