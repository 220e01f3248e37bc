"""Fetcher: a request in, a page out. Guard, robots.txt and redirects, hop by hop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

import msgspec

from scrapekit import guard, robots, urls
from scrapekit.budget import Account, ByteBudget
from scrapekit.clock import Clock
from scrapekit.errors import (
    BadStatus,
    FetchTimeout,
    OutOfFiles,
    RedirectError,
    Refused,
    RobotsUnavailable,
    SiteError,
)
from scrapekit.messages import Cached, Request, Response
from scrapekit.robots import Robots
from scrapekit.settings import Settings
from scrapekit.transport.base import Transport

_ROBOTS_REDIRECTS: Final = 5
"""RFC 9309, 2.3.1.2: at least five redirects are followed for a robots.txt."""

_ROBOTS_AGE_S: Final = 86_400.0
"""RFC 9309, 2.4: a robots.txt isn't to be used for longer than 24 hours."""

_ROBOTS: Final = "robots"

_LONG_DELAY_S: Final = 30.0
"""A Crawl-delay from which the crawl may look as if it hung."""

logger = logging.getLogger("scrapekit")


class Notes(Protocol):
    """What outlives the process: see `scrapekit.frontier.base.Frontier`."""

    def remember(self, kind: str, name: str, value: str | None) -> None: ...

    def recall(self, kind: str, name: str) -> str | None: ...


class _KeptRobots(msgspec.Struct, array_like=True):
    at: float
    """When it was fetched, in seconds since the epoch."""
    text: str


Check = Callable[[Request, Request], Awaitable[None]]
"""Called with the next hop's request and the first one; raises Refused."""


class Fetcher:
    """Fetches pages as the rules of one crawl allow.

    `seen(url)` tells whether the crawl has filed a URL: a redirect there is a duplicate.
    `meet(origin, seconds)` is told of each robots.txt that was read, and its Crawl-delay. `notes`
    keeps them for later processes. `conditions(request)` are headers that ask whether a page is as
    it was: a 304 is an answer then.
    """

    def __init__(
        self,
        transport: Transport,
        scope: guard.Scope,
        settings: Settings,
        clock: Clock,
        *,
        seen: Callable[[str], bool],
        meet: Callable[[str, float], None],
        conditions: Callable[[Request], Mapping[str, str]] | None = None,
        notes: Notes | None = None,
    ) -> None:
        self._transport = transport
        self._scope = scope
        self._settings = settings
        self._clock = clock
        self._seen = seen
        self._meet = meet
        self._conditions = conditions
        self._notes = notes
        self._credentials = guard.Credentials(settings.headers, settings.cookies)
        self._claims: dict[str, str] = {}
        """Targets of redirects under way, and the URLs that were redirected there."""
        self._robots: dict[str, asyncio.Task[Robots]] = {}
        self._robots_budget = ByteBudget(settings.max_bytes_in_flight)

    def add_start(self, url: str) -> None:
        """A start request's origin gets the credentials of the settings."""
        self._credentials.add_start(url)

    async def fetch(self, request: Request, account: Account) -> Response:
        """The page at the end of the redirects, within `timeout_s`; waits for room in the budget
        don't count.

        Raises Refused if a rule forbids a hop, SiteError if it can't be had.
        """
        return await self._in_time(
            request,
            account,
            self._follow(request, account, self._check, self._settings.max_redirects),
        )

    def settled(self, request: Request) -> None:
        """The visit of a request is over: its redirects are no longer under way."""
        if self._claims:
            self._claims = {to: by for to, by in self._claims.items() if by != request.url}

    async def aclose(self) -> None:
        """End what is under way to robots.txt files."""
        tasks = [task for task in self._robots.values() if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(
        self, request: Request, account: Account, check: Check, limit: int
    ) -> Response:
        first, started, passed = request, self._clock.now(), [request.url]
        asked = False
        while True:
            await check(request, first)
            dressed = self._credentials.dress(request)
            if self._conditions is not None and request is first:
                dressed = _asking(dressed, self._conditions(first))
            response = await self._transport.fetch(dressed, account)
            asked = asked or response.cached != "hit"
            location = response.headers.get("Location")
            if response.status not in guard.REDIRECTS or location is None:
                elapsed_s = self._clock.now() - started
                cached = "" if asked and response.cached == "hit" else response.cached
                return _as_of(response, first, elapsed_s, tuple(passed[:-1]), cached)
            request = guard.redirect(request, response.url, response.status, location)
            if len(passed) > limit:
                raise RedirectError(f"more than {limit} redirects", url=first.url)
            if request.url in passed and request.method == "GET":
                raise RedirectError(f"redirected in a circle by {request.url}", url=first.url)
            passed.append(request.url)

    async def _in_time(
        self, request: Request, account: Account, fetching: Awaitable[Response]
    ) -> Response:
        limit_s = self._settings.timeout_s
        try:
            async with asyncio.timeout(limit_s) as account.deadline:
                return await fetching
        except TimeoutError as exc:
            message = f"not done after {limit_s:g} s"
            raise FetchTimeout(message, url=request.url, phase="total", after_s=limit_s) from exc

    async def _check(self, request: Request, first: Request) -> None:
        self._scope.check(request.url)
        if request is not first and first.method == "GET" and first.unique:
            self._check_duplicate(request.url, first.url)
        if self._settings.obey_robots:
            rules = await self._rules(urls.origin(request.url))
            if not rules.allows(request.url):
                raise Refused("robots", url=request.url)

    def _check_duplicate(self, url: str, by: str) -> None:
        """A redirect to a page that is filed, or that another redirect leads to just now."""
        if self._seen(url) or self._claims.setdefault(url, by) != by:
            raise Refused("duplicate", url=url)

    async def _rules(self, origin: str) -> Robots:
        """The origin's robots.txt, fetched once however many ask; again after a failure."""
        task = self._robots.get(origin)
        if task is None:
            task = asyncio.create_task(self._load_robots(origin), name=f"robots {origin}")
            self._robots[origin] = task
        try:
            return await asyncio.shield(task)
        except (SiteError, OutOfFiles):
            if self._robots.get(origin) is task:
                del self._robots[origin]
            raise

    async def _load_robots(self, origin: str) -> Robots:
        text = self._kept_robots(origin)
        if text is None:
            text = await self._fetch_robots(origin)
            self._keep_robots(origin, text)
        rules = Robots(text, self._settings.user_agent) if text else robots.ALLOW_ALL
        if rules.delay_s > _LONG_DELAY_S:
            logger.warning(
                "robots.txt of %s asks for %g s between requests; leave the site out by "
                "allowed_domains if that is too slow",
                origin,
                rules.delay_s,
            )
        self._meet(origin, rules.delay_s)
        return rules

    def _kept_robots(self, origin: str) -> str | None:
        """The text that an earlier process of the crawl fetched, if that isn't too long ago."""
        kept = self._notes.recall(_ROBOTS, origin) if self._notes else None
        if kept is None:
            return None
        known = msgspec.json.decode(kept, type=_KeptRobots)
        return known.text if self._clock.now() - known.at < _ROBOTS_AGE_S else None

    def _keep_robots(self, origin: str, text: str) -> None:
        if self._notes is not None:
            known = _KeptRobots(self._clock.now(), text)
            self._notes.remember(_ROBOTS, origin, msgspec.json.encode(known).decode())

    async def _fetch_robots(self, origin: str) -> str:
        """The text of a robots.txt; empty if there is none."""
        request = Request(f"{origin}/robots.txt")
        try:
            with self._robots_budget.account() as account:
                response = await self._in_time(
                    request, account, self._follow(request, account, _anywhere, _ROBOTS_REDIRECTS)
                )
        except SiteError as exc:
            raise RobotsUnavailable(f"robots.txt of {origin}: {exc}", url=request.url) from exc
        reading = robots.reading_of_status(response.status)
        if reading == "unavailable":
            message = f"robots.txt of {origin}: status {response.status}"
            raise RobotsUnavailable(message, url=request.url)
        return robots.decode(response.body) if reading == "parse" else ""


async def _anywhere(_request: Request, _first: Request) -> None:
    """robots.txt files may be on other hosts (RFC 9309, 2.3.1.2)."""


def accepts(status: int, settings: Settings) -> bool:
    """Whether a response of that status goes to its callback."""
    return 200 <= status < 300 or status in settings.accept_statuses


def bad_status(response: Response) -> BadStatus:
    """The error that a response is, if its status isn't accepted."""
    retry_after = response.headers.get("Retry-After")
    return BadStatus(response.status, url=response.url, retry_after=retry_after)


def _asking(request: Request, conditions: Mapping[str, str]) -> Request:
    return request.replace(headers={**request.headers, **conditions}) if conditions else request


def _as_of(
    response: Response,
    request: Request,
    elapsed_s: float,
    redirects: tuple[str, ...],
    cached: Cached,
) -> Response:
    return Response(
        response.url,
        response.status,
        response.headers,
        response.body,
        request,
        elapsed_s=elapsed_s,
        redirects=redirects,
        cached=cached,
    )
