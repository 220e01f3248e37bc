"""Jar: the cookies of one session, and to which URLs they go (RFC 6265, 5.3 and 5.4)."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from scrapekit import urls
from scrapekit.cookies import setcookie
from scrapekit.cookies.setcookie import SetCookie
from scrapekit.errors import InvalidURL

# RFC 6265, 6.1 asks for at least 50 and 3,000; browsers keep 180 a domain.
_MAX_PER_DOMAIN: Final = 180
_MAX_DOMAINS: Final = 3_000
# Servers refuse longer headers than 8 to 16 KB, and a hostile site could ask for 700 KB.
_MAX_SENT_BYTES: Final = 16_384

_Key = tuple[str, str, bool]


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
    http_only: bool = False
    expires: float | None = None
    """Seconds since the epoch; None: it lasts as long as the jar."""


class Jar:
    """Bounded: 180 cookies a domain and 3,000 domains; the oldest, the least used make room."""

    def __init__(self, cookies: Iterable[Cookie] = ()) -> None:
        self._numbers = itertools.count()
        self._domains: OrderedDict[str, dict[_Key, tuple[int, Cookie]]] = OrderedDict()
        for cookie in cookies:
            self._keep(cookie)

    def __repr__(self) -> str:
        # No names and no values: they may be secret.
        return f"<Jar cookies={len(self)} domains={len(self._domains)}>"

    def __len__(self) -> int:
        return sum(map(len, self._domains.values()))

    def __iter__(self) -> Iterator[Cookie]:
        """All cookies, oldest first: a jar that is made of them sends the same."""
        stored = [entry for group in self._domains.values() for entry in group.values()]
        return (cookie for _, cookie in sorted(stored, key=lambda entry: entry[0]))

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
        found: list[tuple[int, Cookie]] = []
        for domain in _and_parents(host):
            group = self._domains.get(domain)
            if not group:
                continue
            self._domains.move_to_end(domain)
            for entry in list(group.values()):
                cookie = entry[1]
                if cookie.expires is not None and cookie.expires <= now:
                    self._drop(cookie)
                elif _goes_to(cookie, host, path, is_secure):
                    found.append(entry)
        found.sort(key=lambda entry: (-len(entry[1].path), entry[0]))
        return _within_bound([(cookie.name, cookie.value) for _, cookie in found])

    def _keep(self, cookie: Cookie) -> None:
        group = self._domains.setdefault(cookie.domain, {})
        self._domains.move_to_end(cookie.domain)
        old = group.get(_key(cookie))
        # One that replaces another keeps its place (RFC 6265, 5.3, step 11).
        group[_key(cookie)] = (old[0] if old else next(self._numbers), cookie)
        if len(group) > _MAX_PER_DOMAIN:
            del group[min(group, key=lambda key: group[key][0])]
        if len(self._domains) > _MAX_DOMAINS:
            self._domains.popitem(last=False)

    def _drop(self, cookie: Cookie) -> None:
        group = self._domains.get(cookie.domain, {})
        group.pop(_key(cookie), None)
        if not group:
            self._domains.pop(cookie.domain, None)

    def _is_shadowed(self, cookie: Cookie, url: str) -> bool:
        """Whether plain http would change a secure cookie (RFC 6265bis, 5.7, step 15)."""
        if url.startswith("https:"):
            return False
        domains = list(_and_parents(cookie.domain))
        if not cookie.host_only:
            domains += [name for name in self._domains if name.endswith(f".{cookie.domain}")]
        related = (known for name in domains for known in self._of(name))
        return any(
            known.secure and known.name == cookie.name and _covers(known.path, cookie.path)
            for known in related
        )

    def _of(self, domain: str) -> list[Cookie]:
        return [cookie for _, cookie in self._domains.get(domain, {}).values()]


def _granted(wish: SetCookie, url: str) -> Cookie | None:
    """The cookie, if that URL may set it."""
    host = urls.host(url)
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


def _goes_to(cookie: Cookie, host: str, path: str, is_secure: bool) -> bool:
    if (cookie.host_only and cookie.domain != host) or (cookie.secure and not is_secure):
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


def _and_parents(host: str) -> Iterator[str]:
    """The host itself, then the domains it is below of."""
    while host:
        yield host
        host = host.partition(".")[2]


def _key(cookie: Cookie) -> _Key:
    return cookie.name, cookie.path, cookie.host_only


def _within_bound(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    room = _MAX_SENT_BYTES
    for count, (name, value) in enumerate(pairs):
        room -= len(name) + len(value) + 3
        if room < 0:
            return pairs[:count]
    return pairs
