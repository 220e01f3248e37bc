"""Proxies: whose turn it is. Sans-IO; a proxy that fails sits out until a date."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import Final

from scrapekit.errors import FetchTimeout, ProxyError, SiteError, without_userinfo
from scrapekit.messages import Request

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""RFC 9110, 9.2.1."""
_PROXY_AUTHENTICATION_REQUIRED: Final = 407
_MAX_DOUBLINGS: Final = 6


class Proxies:
    """A list that is gone through in turn. False while it is empty.

    A named session stays with its proxy as long as that works: a site which sees one visitor come
    from many addresses asks him to log in again. A proxy that fails is benched for `bench_s`
    seconds, twice as long each time in a row. If all are, the one that is back first goes on: a
    crawl slows down rather than ends.
    """

    def __init__(self, urls: Iterable[str], *, bench_s: float) -> None:
        self._bench_s = bench_s
        self._free: OrderedDict[str, None] = OrderedDict.fromkeys(urls)
        self._bench: list[tuple[float, str]] = []
        self._failures: dict[str, int] = {}
        self._of_session: dict[str, str] = {}

    def __repr__(self) -> str:
        names = [without_userinfo(url) for url in self._free]
        return f"<Proxies free={names} benched={len(self._bench)}>"

    def __len__(self) -> int:
        return len(self._free) + len(self._bench)

    def pick(self, session: str, now: float, tried: Collection[str] = ()) -> str:
        """The proxy for a request; one of those `tried` only if there is no other."""
        while self._bench and self._bench[0][0] <= now:
            self._free[heapq.heappop(self._bench)[1]] = None
        own = self._of_session.get(session)
        if own is not None and own in self._free and own not in tried:
            return own
        proxy = next((url for url in self._free if url not in tried), None)
        if proxy is None:
            return next((url for _, url in sorted(self._bench) if url not in tried), self._any())
        self._free.move_to_end(proxy)
        if session:
            self._of_session[session] = proxy
        return proxy

    def _any(self) -> str:
        return self._bench[0][1] if self._bench else next(iter(self._free))

    def failed(self, proxy: str, now: float) -> float | None:
        """Bench a proxy; for how many seconds, or None if it sits out already.

        Requests that were under way when it was benched count as one failure with it.
        """
        if proxy not in self._free:
            return None
        del self._free[proxy]
        failures = self._failures[proxy] = self._failures.get(proxy, 0) + 1
        wait_s = self._bench_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
        heapq.heappush(self._bench, (now + wait_s, proxy))
        return wait_s

    def worked(self, proxy: str) -> None:
        """Forget its failures; one that worked while it was benched is back."""
        if self._failures.pop(proxy, None) is not None and proxy not in self._free:
            self._bench = [entry for entry in self._bench if entry[1] != proxy]
            heapq.heapify(self._bench)
            self._free[proxy] = None


def is_at_fault(error: SiteError) -> bool:
    """Whether a failure is the proxy's own: it can't be reached, or wants other credentials.

    That it doesn't come through to one host, or may not, says nothing about the other hosts.
    """
    if isinstance(error, ProxyError):
        return error.status in (None, _PROXY_AUTHENTICATION_REQUIRED)
    return isinstance(error, FetchTimeout) and error.phase == "connect"


def may_change(error: SiteError, request: Request) -> bool:
    """Whether another proxy may take the request at once."""
    if sent_nothing(error):
        return True
    is_safe = request.method in _SAFE
    return is_safe and isinstance(error, ProxyError) and is_at_fault(error)


def sent_nothing(error: SiteError) -> bool:
    """Whether the site can't have got the request: A status that comes in plain HTTP may be
    the site's own.
    """
    if not isinstance(error, ProxyError) or not is_at_fault(error):
        return False
    return error.status is None or error.url.startswith("https:")
