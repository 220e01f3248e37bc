"""Guard: which URLs belong to the crawl, where redirects may lead, who gets the credentials.

Sans-IO. Credentials and request bodies belong to the origin they were made for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from scrapekit import urls
from scrapekit.authority import PUBLIC_HEADERS, authorization_of
from scrapekit.errors import InvalidURL, RedirectError, Refused, UsageError, without_userinfo
from scrapekit.messages import Request

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

# Fetch standard, "request-body-header name", and the length.
_BODY_HEADERS: Final = frozenset(
    {
        "content-encoding",
        "content-language",
        "content-length",
        "content-location",
        "content-type",
    }
)


class Scope:
    """The hosts of a crawl. `domains` None: whatever the start requests add; ["*"]: all."""

    def __init__(self, domains: Iterable[str] | None) -> None:
        self._verdicts: dict[str, bool] = {}
        self.limit_to(domains)

    def limit_to(self, domains: Iterable[str] | None) -> None:
        """Start over with other domains. Raises UsageError for what is no host name."""
        if isinstance(domains, str):
            raise UsageError(
                f"allowed_domains is a string; write a list: [{without_userinfo(domains)!r}]"
            )
        names = {_domain(name) for name in domains or ()}
        self._open = domains is None
        self._anywhere = "*" in names
        self._domains = names
        self._starts: set[str] = set()
        self._verdicts.clear()

    def __repr__(self) -> str:
        return f"<Scope {'*' if self._anywhere else ' '.join(sorted(self._domains))}>"

    def add_start(self, url: str) -> None:
        """A start request widens a scope that wasn't given."""
        if self._open and (origin := urls.origin(url)) not in self._starts:
            self._starts.add(origin)
            domain = urls.registrable_domain(urls.host(url))
            if domain not in self._domains:
                self._domains.add(domain)
                self._verdicts.clear()

    def allows(self, url: str) -> bool:
        if self._anywhere:
            return True
        # Links of one page lead to few origins: looking one up is cheaper than taking its host.
        origin = urls.origin(url)
        verdict = self._verdicts.get(origin)
        if verdict is None:
            if len(self._verdicts) > 100_000:
                self._verdicts.clear()
            verdict = self._verdicts[origin] = self._covers(urls.host(url))
        return verdict

    def _covers(self, host: str) -> bool:
        name = host.rstrip(".")
        while name not in self._domains:
            _, dot, name = name.partition(".")
            if not dot:
                return False
        return True

    def check(self, url: str) -> None:
        """Raises Refused("off-domain")."""
        if not self.allows(url):
            raise Refused("off-domain", url=url)


def _domain(name: str) -> str:
    """The name as it stands in canonical URLs: in lower case, and in Punycode."""
    if name == "*":
        return name
    try:
        href = urls.normalize(f"http://{name}/") if isinstance(name, str) else ""
    except InvalidURL:
        href = ""
    host = urls.host(href)
    # A port, a path, a user name or a pattern would never match a host: nothing would be fetched.
    if not host.strip(".") or "*" in host or href != f"http://{host}/":
        raise UsageError(
            f"{without_userinfo(name)!r} in allowed_domains is no host name; write it like "
            "'example.com', which includes its subdomains, or '*' for anywhere"
        )
    return host.strip(".")


class Credentials:
    """Headers and cookies of the settings: private ones go to the start origins only, and `auth`
    ("name:password" or "Bearer TOKEN" by origin) to its origin.

    Raises InvalidURL for an origin that is none.
    """

    def __init__(
        self,
        headers: Mapping[str, str],
        cookies: Mapping[str, str],
        auth: Mapping[str, str] | None = None,
    ) -> None:
        self._auth = {
            urls.origin(urls.normalize(origin)): {"Authorization": authorization_of(value)}
            for origin, value in (auth or {}).items()
        }
        self._headers = {n: v for n, v in headers.items() if n.lower() not in PUBLIC_HEADERS}
        self._cookies = dict(cookies)
        self._home: set[str] = set()

    def add_start(self, url: str) -> None:
        if self._headers or self._cookies:
            self._home.add(urls.origin(url))

    def dress(self, request: Request) -> Request:
        """The request with what its origin may see. Its own headers and cookies win."""
        if not self._home and not self._auth:
            return request
        origin = urls.origin(request.url)
        at_home, auth = origin in self._home, self._auth.get(origin, {})
        if not at_home and not auth:
            return request
        own = {name.lower() for name in request.headers}
        wished = {**self._headers, **auth} if at_home else auth
        added = {n: v for n, v in wished.items() if n.lower() not in own}
        cookies = {**self._cookies, **request.cookies} if at_home else request.cookies
        return request.replace(headers={**added, **request.headers}, cookies=cookies)


def public_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those that may go to every origin."""
    return {name: value for name, value in headers.items() if name.lower() in PUBLIC_HEADERS}


def redirect(request: Request, url: str, status: int, location: str | None) -> Request:
    """The next request of a redirect: method and body by the Fetch standard (HTTP-redirect fetch),
    without anything private if it leads to another origin.

    Raises RedirectError without a usable target, and if a body would have to change its origin.
    """
    target = urls.Base(url).join(location) if location else None
    if target is None:
        shown = without_userinfo(location) if location else location
        raise RedirectError(f"status {status} leads to {shown!r}", url=url)
    target, _ = urls.split_userinfo(target)
    as_get = request.method not in ("GET", "HEAD") and (
        status == 303 or (status in (301, 302) and request.method == "POST")
    )
    if as_get:
        kept = {n: v for n, v in request.headers.items() if n.lower() not in _BODY_HEADERS}
        request = request.replace(method="GET", body=b"", headers=kept)
    if urls.origin(target) == urls.origin(url):
        return request.replace(url=target)
    if request.body:
        raise RedirectError(
            f"status {status} would send the request's body to {urls.origin(target)}", url=url
        )
    return request.replace(url=target, headers=public_headers(request.headers), cookies={})
