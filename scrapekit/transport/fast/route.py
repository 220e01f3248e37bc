"""Routes: where the connections for a URL lead, and what is sent on them each time. Sans-IO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from multidict import CIMultiDict

from scrapekit import urls
from scrapekit.errors import UsageError
from scrapekit.transport.fields import encode_fields

_MAX_ROUTES: Final = 10_000


class Peer(NamedTuple):
    """Who is dialled."""

    host: str
    port: int
    is_secure: bool


class Route(NamedTuple):
    """The way to one origin."""

    site: Peer
    proxy: Peer | None
    proxy_credentials: str | None
    """The value of Proxy-Authorization."""
    target_from: int
    """Where in a URL that part begins which the request line names."""
    fields: CIMultiDict[str]
    usual_fields: bytes
    """The same as bytes: the whole rest of a plain GET."""

    def __repr__(self) -> str:
        return f"<Route {self.site} {f'by {self.proxy}' if self.proxy else 'direct'}>"

    @property
    def secured(self) -> Peer | None:
        """With whom TLS is spoken."""
        if self.site.is_secure:
            return self.site
        return self.proxy if self.proxy is not None and self.proxy.is_secure else None

    @property
    def is_tunnel(self) -> bool:
        """The proxy leads through and sees nothing: RFC 9110, 9.3.6."""
        return self.proxy is not None and self.site.is_secure


class Routes:
    """The routes of a transport, made once for each origin. `fields` go with every request."""

    def __init__(self, fields: CIMultiDict[str]) -> None:
        self._fields = fields
        self._routes: dict[tuple[str, str | None], Route] = {}

    def find(self, origin: str, proxy: str | None) -> Route:
        """Raises UsageError for a proxy that can't lead there."""
        route = self._routes.get((origin, proxy))
        if route is None:
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            route = self._routes[origin, proxy] = _route(origin, proxy, self._fields)
        return route


def _route(origin: str, proxy: str | None, defaults: Mapping[str, str]) -> Route:
    site = _peer(f"{origin}/")
    by, credentials = _proxy(proxy) if proxy is not None else (None, None)
    if by is not None and by.is_secure and site.is_secure:
        raise UsageError(
            "transport = fast can't reach https sites by a proxy that is https itself; "
            "use an http proxy, or transport = aiohttp"
        )
    is_plain = by is None or site.is_secure
    fields = CIMultiDict({"Host": origin.partition("//")[2]})
    for name, value in defaults.items():
        fields[name] = value
    if not is_plain and credentials is not None:
        fields["Proxy-Authorization"] = credentials
    start = len(origin) if is_plain else 0
    return Route(site, by, credentials, start, fields, encode_fields(fields))


def _peer(url: str) -> Peer:
    return Peer(urls.host(url), urls.port(url), url.startswith("https:"))


def _proxy(url: str) -> tuple[Peer, str | None]:
    href, credentials = urls.split_userinfo(urls.normalize(url))
    return _peer(href), credentials
