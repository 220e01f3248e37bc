"""Feeding: start requests into the frontier, as there is room for them: those of `start()`, and
beside them what sitemaps list.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

from scrapekit import urls
from scrapekit.announcer import Announcer
from scrapekit.callbacks import Callbacks
from scrapekit.clock import Clock
from scrapekit.fetcher import Fetcher
from scrapekit.frontier.base import Frontier
from scrapekit.frontier.damage import sound
from scrapekit.guard import Scope
from scrapekit.messages import Request
from scrapekit.scheduler import Scheduler
from scrapekit.sitemapfeed import SitemapFeed
from scrapekit.spider import Spider
from scrapekit.starts import starts
from scrapekit.traps import TOO_LONG

_START: Final = "start"
"""The frontier's notes on the origins of start requests."""

_REPEATS: Final = "repeats"
"""The frontier's note on how many start requests that needn't be unique were filed."""


class Feed:
    """The start requests of one crawl, and what earlier processes of its job did with them."""

    def __init__(
        self,
        spider: Spider,
        sitemaps: SitemapFeed,
        run_blocking: Callable[..., Awaitable[Any]],
        *,
        frontier: Frontier,
        scheduler: Scheduler,
        callbacks: Callbacks,
        scope: Scope,
        fetcher: Fetcher,
        clock: Clock,
        announcer: Announcer,
        left_out: Callable[[Sequence[Request]], Awaitable[None]],
        max_depth: int | None = None,
        max_listed: int | None = None,
    ) -> None:
        self._spider = spider
        self._sitemaps = sitemaps
        self._run_blocking = run_blocking
        self._frontier = frontier
        self._scheduler = scheduler
        self._callbacks = callbacks
        self._scope = scope
        self._fetcher = fetcher
        self._clock = clock
        self._tell = announcer
        self._left_out = left_out
        self._max_depth = max_depth
        self._max_listed = max_listed
        """Characters of a URL that a sitemap lists; what the user starts with may have more."""
        self._origins: set[str] = set()
        self._resumed = False
        self._repeats = 0
        self._repeats_before = 0

    def __repr__(self) -> str:
        return f"<Feed of {self._spider.name} {'resumed' if self._resumed else 'new'}>"

    async def resume(self) -> None:
        """Take up what earlier processes left; before all else. Raises JobError."""
        with sound(getattr(self._frontier, "path", ""), "a note on what it started with"):
            self._restore()
        self._frontier.leave_out(deepest=self._max_depth, allows=self._scope.allows)
        await self._scheduler.resume()
        for reason, count in self._frontier.left_out.items():
            self._tell.dropped(f"{reason}, left in the job", count, "")

    async def run(self) -> None:
        """File what start() gives, each as soon as few enough are pending; until the crawl stops.

        Raises what start() raises, UnknownCallback and JobError.
        """
        async with aclosing(starts(self._spider, self._run_blocking)) as requests:
            async for request in requests:
                await self._submit(request)
                await self._scheduler.room()
                if self._scheduler.closed:
                    return

    async def run_sitemaps(self) -> None:
        """The same for what sitemaps list, and for the sitemaps. Raises JobError."""
        self._know_start_urls()
        async with aclosing(self._sitemaps.requests()) as requests:
            async for request in requests:
                # What a site lists is no word of the user's: it widens nothing, and may be a trap.
                is_page = not self._sitemaps.takes(request)
                if not await self._file(request, self._max_listed if is_page else None):
                    self._sitemaps.settled(request)
                elif is_page:
                    self._fetcher.add_listed(request.url)
                await self._scheduler.room()
                if self._scheduler.closed:
                    return

    def _know_start_urls(self) -> None:
        """What start() hasn't come to yet is in scope for sitemaps as well."""
        if type(self._spider).start is Spider.start:
            for url in self._spider.start_urls:
                self._add_start(urls.normalize(url))

    def _restore(self) -> None:
        """What earlier processes learned from the start requests, before those come again; and
        what sitemaps start from, whose pages may wait already.
        """
        self._origins = set(self._frontier.recall_all(_START))
        for origin in self._origins:
            self._add_start(origin + "/")
        for url in self._sitemaps.roots:
            self._add_start(url)
        self._resumed = bool(self._origins)
        self._repeats_before = int(self._frontier.recall(_REPEATS, "") or 0)

    async def _submit(self, request: Request) -> None:
        self._callbacks.resolve(request.callback)
        self._add_start(request.url)
        if not (self._frontier.keeps and self._is_replayed(request)):
            await self._file(request)

    def _add_start(self, url: str) -> None:
        """The origin of what the user starts with is in scope and gets the credentials."""
        self._scope.add_start(url)
        self._fetcher.add_start(url)

    async def _file(self, request: Request, longest: int | None = None) -> bool:
        filed = request.at_depth(0).filed_at(self._clock.now())
        if not self._scope.allows(request.url):
            self._tell.dropped("off-domain", 1, request.url)
            await self._left_out([request])
        elif refused := self._fetcher.reach.refusal(request.url, request.reach):
            self._tell.dropped(refused.reason, 1, request.url)
            await self._left_out([request])
        elif longest is not None and len(request.url) > longest:
            self._tell.dropped(TOO_LONG, 1, request.url)
            await self._left_out([request])
        elif not self._fetcher.claims.is_landed(filed) and await self._scheduler.add([filed]):
            return True
        elif not self._resumed:
            self._tell.dropped("duplicate", 1, request.url)
        return False

    def _is_replayed(self, request: Request) -> bool:
        """Whether an earlier process of the job has filed this one of the start requests that
        need not be unique: they are known by their position among their like.

        What is noted here is kept together with the request, because nothing is waited for in
        between.
        """
        origin = urls.origin(request.url)
        if origin not in self._origins:
            self._origins.add(origin)
            self._frontier.remember(_START, origin, "")
        if request.unique:
            return False
        self._repeats += 1
        if self._repeats <= self._repeats_before:
            return True
        self._frontier.remember(_REPEATS, "", str(self._repeats))
        return False
