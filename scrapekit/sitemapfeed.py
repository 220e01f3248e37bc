"""SitemapFeed: the requests that a spider's sitemaps give, made as they are asked for.

Sitemaps are fetched like pages, a few at a time, and read only as fast as the crawl goes on: of
50,000 URLs those that aren't asked for yet exist as bytes alone.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Final

from scrapekit import sitemaps, urls
from scrapekit.budget import Account
from scrapekit.errors import InvalidURL, SitemapError, SpiderError, without_userinfo
from scrapekit.messages import Request, Response, callback_name
from scrapekit.sitemaps import Entry, Sitemap, earliest
from scrapekit.spider import Spider

SITEMAP: Final = sitemaps.CALLBACK
"""No spider has it: such a page comes here instead."""

_MOST_AHEAD: Final = 4
_SHARE_AHEAD: Final = 4
"""Sitemaps requested or waiting to be read; their bytes are counted in the budget of the crawl, and
take at most a quarter of it, but there may always be one."""
_MAX_SITEMAPS: Final = 50_000
_MAX_LEVELS: Final = 3
"""An index in an index is more than the protocol allows, but is met; endless ones are traps."""

Rule = tuple[re.Pattern[str], str | None]


class SitemapFeed:
    """Of one spider. `fail` is told of each sitemap that can't be read to its end; `ahead` are
    requested or wait to be read at a time. `left_out` is told of what `sitemap_since` leaves out.
    """

    def __init__(
        self,
        spider: Spider,
        fail: Callable[[Request, SitemapError], None],
        ahead: int = _MOST_AHEAD,
        left_out: Callable[[Sequence[Request]], Awaitable[None]] | None = None,
    ) -> None:
        self._spider = spider
        self._fail = fail
        self._ahead = ahead
        self._left_out = left_out
        self._older: list[Request] = []
        """What was left out, and isn't told yet."""
        self.roots: list[str] = []
        """The spider's `sitemap_urls`."""
        self.rules: list[Rule] = []
        self._since: float | None = None
        self._wanted: deque[Request] = deque()
        self._levels: dict[str, int] = {}
        """Every sitemap that was met, and how many indexes led there."""
        self._under_way: set[str] = set()
        self._arrived: deque[tuple[Response, Account | None]] = deque()
        self._here: set[str] = set()
        """Those of the sitemaps under way that have arrived, up to the end of their reading."""
        self._news = asyncio.Event()

    def __repr__(self) -> str:
        return f"<SitemapFeed met={len(self._levels)} under_way={len(self._under_way)}>"

    def prepare(self) -> None:
        """Take what the spider says. Raises SpiderError or InvalidURL for what can't be right."""
        spider = self._spider
        self.roots = [urls.normalize(url) for url in _listed(spider)]
        self.rules = [_rule(spider, rule) for rule in spider.sitemap_rules]
        self._since = _since(spider)
        for url in self.roots:
            self._want(url, 0, None)

    def takes(self, request: Request) -> bool:
        """Whether it is a sitemap that is asked for, so that no callback gets it."""
        return request.callback == SITEMAP

    def take(self, response: Response, account: Account | None = None) -> None:
        """A sitemap has come, its bytes in `account`; they are set aside until it is read. Those
        of an earlier run that nobody waits for are passed over.
        """
        url = response.request.url
        if url in self._under_way and url not in self._here:
            self._here.add(url)
            self._arrived.append((response, account.set_aside() if account else None))

    def settled(self, request: Request) -> None:
        """A visit is over, or a request wasn't let in: whether it came is known now."""
        if request.callback == SITEMAP:
            if request.url not in self._here:
                self._under_way.discard(request.url)
            self._news.set()

    async def requests(self) -> AsyncGenerator[Request, None]:
        """Requests for sitemaps, and for the pages they list; waits for sitemaps to come."""
        while True:
            while self._wanted and len(self._under_way) < self._ahead:
                wanted = self._wanted.popleft()
                self._under_way.add(wanted.url)
                yield wanted
            if self._arrived:
                response, aside = self._arrived.popleft()
                for requests in self._read(response):
                    for request in requests:
                        yield request.at_depth(0, response.reach)
                    if self._left_out is not None and self._older:
                        older, self._older = self._older, []
                        await self._left_out(older)
                    await asyncio.sleep(0)
                self._under_way.discard(response.request.url)
                self._here.discard(response.request.url)
                if aside is not None:
                    aside.close()
            elif self._under_way:
                self._news.clear()
                await self._news.wait()
            else:
                return

    def _read(self, response: Response) -> Iterator[list[Request]]:
        """The requests for pages in steps of about a millisecond; further sitemaps are noted."""
        sitemap = Sitemap(response.body, response.url)
        level = self._levels[response.request.url] + 1
        problems: dict[str, None] = {}
        for entries in sitemap:
            new = [entry.url for entry in entries if self._is_new_enough(entry)]
            if self._left_out is not None and len(new) < len(entries):
                self._older += self._passed_over(entries, sitemap.lists_sitemaps)
            if not sitemap.lists_sitemaps:
                yield [page for url in new if (page := self._page(url)) is not None]
                continue
            refusals = (self._want(url, level, response.reach) for url in new)
            problems |= dict.fromkeys(problem for problem in refusals if problem)
            yield []
        # Once each, however many URLs it concerns.
        for problem in problems:
            self._tell(response, problem, 0)
        if sitemap.problem is not None:
            self._tell(response, sitemap.problem, sitemap.count)

    def _want(self, url: str, level: int, reach: int | None) -> str:
        """Note a sitemap that isn't known yet; why it can't be, if so. What a site lists leads no
        further than its list did.
        """
        # Not unique: what a sitemap lists may have changed since an earlier run.
        request = Request(url, SITEMAP, unique=False).at_depth(0, reach)
        if request.url in self._levels:
            return ""
        if level > _MAX_LEVELS:
            return f"its indexes are nested deeper than {_MAX_LEVELS}"
        if len(self._levels) >= _MAX_SITEMAPS:
            return f"there are more than {_MAX_SITEMAPS:,} sitemaps"
        self._levels[request.url] = level
        self._wanted.append(request)
        return ""

    def _page(self, url: str) -> Request | None:
        if not self.rules:
            return Request(url)
        for pattern, callback in self.rules:
            if pattern.search(url):
                return Request(url, callback)
        return None

    def _passed_over(self, entries: Sequence[Entry], are_sitemaps: bool) -> Iterator[Request]:
        """The requests that entries would give, if they weren't too old."""
        for entry in entries:
            if not self._is_new_enough(entry):
                page = Request(entry.url, SITEMAP) if are_sitemaps else self._page(entry.url)
                if page is not None:
                    yield page

    def _is_new_enough(self, entry: Entry) -> bool:
        return self._since is None or entry.lastmod is None or entry.lastmod >= self._since

    def _tell(self, response: Response, problem: str, count: int) -> None:
        message = f"the sitemap {response.url}: {problem}"
        if count:
            message = f"{message}; URLs read before that: {count:,}"
        self._fail(response.request, SitemapError(message, url=response.url, count=count))


def _listed(spider: Spider) -> list[str]:
    listed: object = spider.sitemap_urls
    if isinstance(listed, str):
        raise SpiderError(
            f"sitemap_urls of spider {spider.name!r} is a string; write a list: "
            f"[{without_userinfo(listed)!r}]",
            target=spider.name,
        )
    for url in spider.sitemap_urls:
        if not isinstance(url, str):
            raise InvalidURL(repr(url), "it is no string")
    return list(dict.fromkeys(spider.sitemap_urls))


def _rule(spider: Spider, rule: object) -> Rule:
    hint = "write a list of pairs: [(r'/products/', 'parse_product')]"
    if not isinstance(rule, (tuple, list)) or len(rule) != 2:
        raise SpiderError(f"{rule!r} in sitemap_rules is no rule; {hint}", target=spider.name)
    pattern, callback = rule
    try:
        return re.compile(pattern), callback_name(callback)
    except (re.error, TypeError) as exc:
        message = f"{pattern!r} in sitemap_rules is no regular expression: {exc}; {hint}"
        raise SpiderError(message, target=spider.name) from exc


def _since(spider: Spider) -> float | None:
    since: object = spider.sitemap_since
    if since is None or since == "":
        return None
    if isinstance(since, datetime):
        return (since if since.tzinfo else since.replace(tzinfo=UTC)).timestamp()
    text = since.isoformat() if isinstance(since, date) else since
    found = earliest(text) if isinstance(text, str) else None
    if found is None:
        raise SpiderError(
            f"sitemap_since of spider {spider.name!r} is {since!r}; write a date like 2026-11-26",
            target=spider.name,
        )
    return found


def each_callback(rules: list[Rule]) -> Iterator[str | None]:
    """The callbacks that rules name, each once."""
    yield from dict.fromkeys(callback for _, callback in rules)


def most_ahead(max_bytes_in_flight: int, max_body_bytes: int) -> int:
    """How many sitemaps may be requested or wait to be read, within a share of the budget."""
    return max(1, min(_MOST_AHEAD, max_bytes_in_flight // (_SHARE_AHEAD * max_body_bytes)))
