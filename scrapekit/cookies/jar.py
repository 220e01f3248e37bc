"""Jar: the cookies of one session, and to which URLs they go (RFC 6265, 5.3 and 5.4)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from scrapekit import urls
from scrapekit.cookies import setcookie
from scrapekit.cookies.setcookie import SetCookie
from scrapekit.errors import InvalidURL

# RFC 6265, 6.1 asks for at least 50 a domain and 3,000; browsers keep 180 of what one registered.
_MAX_PER_SITE: Final = 180
_MAX_BYTES_PER_SITE: Final = 131_072
"""Eight times what is sent at most: a site may have that for different paths."""
_MAX_SITES: Final = 3_000
_MAX_BYTES: Final = 16 << 20
_OVERHEAD: Final = 400
"""Bytes of memory that a cookie takes besides its texts."""
# Servers refuse longer headers than 8 to 16 KB, and a hostile site could ask for 700 KB.
_MAX_SENT_BYTES: Final = 16_384

_MAX_HOST: Final = 253
"""RFC 1035, 2.3.4: no longer name is in the DNS."""

_Key = tuple[str, str, str, bool]


class Cookie(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One cookie. As JSON or MessagePack it is a table of these fields."""

    name: str
    value: str
    domain: str
    """A host in canonical form, without a leading dot."""
    path: str = "/"
    host_only: bool = False
    """It goes to `domain` alone, not to the hosts below it."""
    secure: bool = False
    """It goes to https alone."""
    from_https: bool = False
    """It came by https, and so goes to https alone as well. RFC 6265 would have it follow whoever
    is led to http, where everybody on the way can read it.
    """
    http_only: bool = False
    expires: float | None = None
    """Seconds since the epoch; None: it lasts as long as the jar."""


@dataclass(slots=True)
class _Site:
    """The cookies of a registrable domain and all below it, oldest first."""

    cookies: dict[_Key, Cookie] = field(default_factory=dict)
    size: int = 0
    """Bytes."""

    def put(self, cookie: Cookie) -> None:
        """One that replaces another keeps its place (RFC 6265, 5.3, step 11)."""
        old = self.cookies.get(_key(cookie))
        self.cookies[_key(cookie)] = cookie
        self.size += _size(cookie) - (_size(old) if old else 0)

    def pop(self, key: _Key) -> None:
        old = self.cookies.pop(key, None)
        self.size -= _size(old) if old else 0

    def too_much(self) -> bool:
        return len(self.cookies) > _MAX_PER_SITE or self.size > _MAX_BYTES_PER_SITE


class Jar:
    """Bounded: of what somebody registered, 180 cookies and 128 KB, where the oldest make room;
    3,000 such sites and 16 MB, where those that were asked for longest ago do.
    """

    def __init__(self, cookies: Iterable[Cookie] = ()) -> None:
        self._sites: OrderedDict[str, _Site] = OrderedDict()
        self._size = 0
        self.changed: set[str] = set()
        """The sites whose cookies have changed; to be cleared by whoever keeps them."""
        for cookie in cookies:
            self._keep(cookie)
        self.changed.clear()

    def __repr__(self) -> str:
        # No names and no values: they may be secret.
        return f"<Jar cookies={len(self)} domains={len(self._sites)}>"

    def __len__(self) -> int:
        return sum(len(site.cookies) for site in self._sites.values())

    def __iter__(self) -> Iterator[Cookie]:
        """All cookies: a jar that is made of them sends the same."""
        return (cookie for site in self._sites.values() for cookie in site.cookies.values())

    def of(self, site: str) -> list[Cookie]:
        """The cookies of a registrable domain and of all below it, oldest first."""
        found = self._sites.get(site)
        return [] if found is None else list(found.cookies.values())

    def take(self, url: str, line: str, now: float) -> bool:
        """Keep (or delete) the cookie of a Set-Cookie line that came from a canonical URL.

        False if the line is invalid, or asks for what that URL may not set.
        """
        wish = setcookie.parse(line, now)
        cookie = None if wish is None else _granted(wish, url)
        if cookie is None or self._is_shadowed(cookie, url):
            return False
        if cookie.expires is not None and cookie.expires <= now:
            self._drop(cookie)
        else:
            self._keep(cookie)
        return True

    def pairs(self, url: str, now: float) -> list[tuple[str, str]]:
        """What goes to a canonical URL, in the order of the header: longest path first."""
        host, path, is_secure = urls.host(url), _path(url), url.startswith("https:")
        name = _site_of(host)
        site = self._sites.get(name)
        if site is None:
            return []
        self._sites.move_to_end(name)
        found: list[Cookie] = []
        for cookie in tuple(site.cookies.values()):
            if cookie.expires is not None and cookie.expires <= now:
                self._drop(cookie)
            elif _goes_to(cookie, host, path, is_secure):
                found.append(cookie)
        found.sort(key=lambda cookie: -len(cookie.path))
        return _within_bound([(cookie.name, cookie.value) for cookie in found])

    def _keep(self, cookie: Cookie) -> None:
        name = _site_of(cookie.domain)
        site = self._sites.setdefault(name, _Site())
        self._sites.move_to_end(name)
        self._size -= site.size
        site.put(cookie)
        while site.too_much():
            site.pop(next(iter(site.cookies)))
        self._size += site.size
        self.changed.add(name)
        while len(self._sites) > _MAX_SITES or self._size > _MAX_BYTES:
            unused, gone = self._sites.popitem(last=False)
            self._size -= gone.size
            self.changed.add(unused)

    def _drop(self, cookie: Cookie) -> None:
        name = _site_of(cookie.domain)
        site = self._sites.get(name)
        if site is None:
            return
        self._size -= site.size
        site.pop(_key(cookie))
        self._size += site.size
        self.changed.add(name)
        if not site.cookies:
            del self._sites[name]

    def _is_shadowed(self, cookie: Cookie, url: str) -> bool:
        """Whether plain http would change a secure cookie (RFC 6265bis, 5.7, step 15)."""
        return not url.startswith("https:") and any(
            known.secure
            and known.name == cookie.name
            and _are_related(known.domain, cookie)
            and _covers(known.path, cookie.path)
            for known in self.of(_site_of(cookie.domain))
        )


def _granted(wish: SetCookie, url: str) -> Cookie | None:
    """The cookie, if that URL may set it."""
    host = urls.host(url)
    if len(host) > _MAX_HOST:
        return None
    domain = _domain(wish.domain) if wish.domain is not None else None
    if wish.domain is not None and (domain is None or not _is_below(host, domain)):
        return None
    if domain is not None and urls.is_public_suffix(domain):
        if domain != host:
            return None
        domain = None
    cookie = Cookie(
        name=wish.name,
        value=wish.value,
        domain=domain or host,
        path=wish.path or _default_path(url),
        host_only=domain is None,
        secure=wish.secure,
        from_https=url.startswith("https:"),
        http_only=wish.http_only,
        expires=wish.expires,
    )
    if cookie.secure and not url.startswith("https:"):
        return None
    return cookie if _keeps_its_prefix(cookie, wish) else None


def _keeps_its_prefix(cookie: Cookie, wish: SetCookie) -> bool:
    """RFC 6265bis, 4.1.3: what the name promises, in whatever letters, must be so."""
    name = cookie.name.lower()
    if name.startswith("__host-"):
        return cookie.secure and cookie.host_only and wish.path == "/" and wish.domain is None
    return cookie.secure or not name.startswith("__secure-")


def _domain(text: str) -> str | None:
    """A Domain attribute as it stands in canonical URLs, or None for what is no host."""
    if ":" in text:
        # An IPv6 address, which has one spelling only, or a port, which matches nothing.
        return text.lower()
    try:
        href = urls.normalize(f"http://{text}/")
    except InvalidURL:
        return None
    host = urls.host(href)
    return host if href == f"http://{host}/" else None


def _is_below(host: str, domain: str) -> bool:
    if host == domain:
        return True
    return host.endswith("." + domain) and not urls.is_address(host)


def _are_related(domain: str, cookie: Cookie) -> bool:
    if _is_below(cookie.domain, domain):
        return True
    return not cookie.host_only and _is_below(domain, cookie.domain)


def _goes_to(cookie: Cookie, host: str, path: str, is_secure: bool) -> bool:
    if cookie.domain != host and (cookie.host_only or not _is_below(host, cookie.domain)):
        return False
    if not is_secure and (cookie.secure or cookie.from_https):
        return False
    return _covers(cookie.path, path)


def _covers(outer: str, path: str) -> bool:
    """RFC 6265, 5.1.4: path-match."""
    if not path.startswith(outer):
        return False
    return len(path) == len(outer) or outer.endswith("/") or path[len(outer)] == "/"


def _path(url: str) -> str:
    return url[url.index("/", 8) :].partition("?")[0]


def _default_path(url: str) -> str:
    return _path(url).rpartition("/")[0] or "/"


def _site_of(host: str) -> str:
    """What somebody registered: all hosts that a cookie may go to are below it."""
    return urls.registrable_domain(host)


def _key(cookie: Cookie) -> _Key:
    return cookie.domain, cookie.name, cookie.path, cookie.host_only


def _size(cookie: Cookie) -> int:
    texts = len(cookie.name) + len(cookie.value) + len(cookie.domain) + len(cookie.path)
    return texts + _OVERHEAD


def _within_bound(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    room = _MAX_SENT_BYTES
    for count, (name, value) in enumerate(pairs):
        room -= len(name) + len(value) + 3
        if room < 0:
            return pairs[:count]
    return pairs
