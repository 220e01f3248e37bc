"""Sender: one hop, with the credentials and cookies of its URL, by the proxy whose turn it is."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from scrapekit import proxies
from scrapekit.budget import Account
from scrapekit.clock import Clock
from scrapekit.cookies.jars import Jars
from scrapekit.errors import SiteError, without_userinfo
from scrapekit.guard import Credentials
from scrapekit.messages import Request, Response
from scrapekit.proxies import Proxies
from scrapekit.settings import Settings
from scrapekit.transport.base import Transport
from scrapekit.transport.guarded import Guarded

logger = logging.getLogger("scrapekit")


class Sender:
    """Stands before a crawl's transport. `cookies` are what sites have set so far."""

    def __init__(self, transport: Transport | Guarded, settings: Settings, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock
        self._credentials = Credentials(settings.headers, settings.cookies, settings.auth)
        self.cookies = Jars(enabled=settings.keep_cookies)
        self._proxies = Proxies(settings.proxies, bench_s=settings.proxy_bench_s)

    def __repr__(self) -> str:
        return f"<Sender {self.cookies!r} {self._proxies!r}>"

    def add_start(self, url: str) -> None:
        """A start request's origin gets the credentials of the settings."""
        self._credentials.add_start(url)

    async def send(self, request: Request, account: Account) -> Response:
        """Make the hop, as `Transport.fetch` does, and keep the cookies that it sets.

        The response's request is the one that was sent, with all that was added to it.
        """
        dressed = self._credentials.dress(request)
        if self.cookies:
            dressed = self.cookies.dress(dressed, request, self._clock.now())
        fetch: Callable[[Request, Account], Awaitable[Response]] = self._transport.fetch
        if self._proxies and request.proxy is None:
            fetch = self._fetch_by_turns
        response = await fetch(dressed, account)
        if "Set-Cookie" in response.headers:
            self.cookies.take(request.session, response, self._clock.now())
        return response

    def keeps_cookies_of(self, response: Response) -> bool:
        """Whether a response may have set cookies that are sent from now on."""
        return self.cookies.enabled and "Set-Cookie" in response.headers

    async def _fetch_by_turns(self, request: Request, account: Account) -> Response:
        """Through the next proxy. Another one takes over what that can't have sent."""
        tried: set[str] = set()
        while True:
            proxy = self._proxies.pick(request.session, self._clock.now(), tried)
            tried.add(proxy)
            try:
                response = await self._transport.fetch(request.replace(proxy=proxy), account)
            except SiteError as error:
                if proxies.is_at_fault(error):
                    self._bench(proxy, error)
                if not proxies.may_change(error, request) or len(tried) == len(self._proxies):
                    raise
            else:
                self._proxies.worked(proxy)
                return response

    def _bench(self, proxy: str, error: SiteError) -> None:
        wait_s = self._proxies.failed(proxy, self._clock.now())
        if wait_s is not None:
            name = without_userinfo(proxy)
            logger.warning("the proxy %s sits out for %g s: %s", name, wait_s, error)
