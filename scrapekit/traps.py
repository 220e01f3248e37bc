"""Traps: what looks endless is cut off, and the report names it. Sans-IO.

Looked at once for each page, when its turn has come: links are many, pages few, and no page leads
on to others before it is fetched. The length alone is looked at for each link as well: long URLs
take room and time while they wait. Only what repeats itself counts as a trap; a large site is none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import xxhash

from scrapekit import urls
from scrapekit.errors import Refused
from scrapekit.settings import Settings

TOO_LONG: Final = "trap: the URL is too long"

MAX_REPEATS: Final = 3
"""How often one segment, or a row of two or three, may come in a row in a path: /a/a/a/a is one
too many. Relative links on a page that is found under any address make such paths."""
MAX_SAME: Final = 20
"""Pages of one template in a row that show nothing new, of those that are looked at."""
SAMPLE: Final = 4
"""One page of so many is looked at: a trap has enough of them, and looking costs time."""
WATCHED_FROM: Final = 20
"""Pages of one template before their bodies are compared."""
FUTURE_YEARS: Final = 2
"""Calendars may be followed so far into the future."""

_MAX_TEMPLATES: Final = 200_000
_MAX_WATCHED: Final = 1_000
_MAX_SESSIONS: Final = 200_000
_MAX_HASHES: Final = 1_000
_THIS_YEAR: Final = 2026
"""A clock that says it is earlier is a test's."""

# The look ahead makes it three times as fast: the search then skips what can't begin a match.
_VARIABLE: Final = re.compile(
    r"(?=[0-9a-fA-F])"
    r"(?:[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|\b[0-9a-fA-F]{16,}\b|[0-9]+)"
)
_SESSION: Final = re.compile(
    r"(?:;jsessionid=[^?#/]*"
    r"|(?<=[?&])(?:phpsessid|jsessionid|aspsessionid\w*|cfid|cftoken|session_?id|sid|zenid|oscsid)"
    r"=[0-9a-z.!_-]{8,}(?:&|$))",
    re.IGNORECASE,
)
_DATE: Final = re.compile(
    r"[/=?&](?:(?<=[/=])(\d{4})[-/](?:0[1-9]|1[0-2])(?:[-/](?:0[1-9]|[12]\d|3[01]))?(?=[/?&]|$)"
    r"|(?<=[?&])year=(\d{4})(?=&|$))"
)
_REPEATED: Final = re.compile(rf"((?:/[^/]+){{1,3}}?)\1{{{MAX_REPEATS},}}(?=/|$)")
_NO_NEWS: Final = b"0123456789 \t\r\n"
"""Pages that differ in these alone may be the same; the numbers that are read decide."""
_MIN_BYTES: Final = 500
"""Smaller pages are too easily the same."""
# Up to the next tag at most, or a page of nothing but "<" would take its square.
_TAG: Final = re.compile(rb"<[^<>]*+>")
_NUMBER: Final = re.compile(rb"\d+")


@dataclass(slots=True)
class _Watched:
    """A template with so many pages that their bodies are compared."""

    seen: set[int] = field(default_factory=set)
    same: int = 0

    def knows(self, content: int) -> bool:
        """Whether that was seen before; from now on it was."""
        if content in self.seen:
            return True
        if len(self.seen) < _MAX_HASHES:
            self.seen.add(content)
        return False


class Traps:
    """What one crawl has seen of each template: a URL with its numbers left out.

    `now()` gives seconds since the epoch.
    """

    def __init__(self, settings: Settings, now: Callable[[], float]) -> None:
        self._max_length = settings.max_url_length
        self._max_of_origin = settings.max_pages_per_origin
        self._max_of_template = settings.max_pages_per_template
        self._now = now
        self._of_origin: Counter[str] = Counter()
        self._of_template: dict[str, int] = {}
        self._watched: dict[str, _Watched] = {}
        self._sessions: set[int] = set()
        self._came = 0

    def __repr__(self) -> str:
        return f"<Traps templates={len(self._of_template)} watched={len(self._watched)}>"

    def check_length(self, url: str) -> None:
        """Count nothing. Raises Refused for a URL of more than `max_url_length` characters."""
        if len(url) > self._max_length:
            raise Refused(TOO_LONG, url=url)

    def check(self, origin: str, url: str) -> None:
        """Count a page that is about to be fetched. Raises Refused, whose reason names the trap."""
        self.check_length(url)
        # Few URLs have what the patterns look for, and looking for them costs more than this.
        if url.count("/", len(origin)) > MAX_REPEATS and self._repeats(origin, url):
            raise Refused("trap: the path repeats itself", url=url)
        if "=" in url or ";" in url:
            self._check_session(url)
        name = template(url)
        if name != url:
            self._check_date(url)
            self._check_template(name, url)
        self._check_origin(origin, url)

    def came(self, url: str, body: bytes) -> None:
        """The page came. Compares it with others of its template, if there are many."""
        self._came += 1
        if self._came % SAMPLE or len(body) < _MIN_BYTES:
            return
        name = template(url)
        if self._of_template.get(name, 0) < WATCHED_FROM:
            return
        if len(self._watched) >= _MAX_WATCHED and name not in self._watched:
            return
        watched = self._watched.setdefault(name, _Watched())
        shape = xxhash.xxh3_64_intdigest(body.translate(None, _NO_NEWS))
        # Pages of measurements differ in numbers alone, and are worth having.
        is_same = watched.knows(shape) and watched.knows(hash((shape, numbers(url, body))))
        watched.same = watched.same + 1 if is_same else 0

    def _repeats(self, origin: str, url: str) -> bool:
        return _REPEATED.search(url.partition("?")[0], len(origin)) is not None

    def _check_session(self, url: str) -> None:
        bare, count = _SESSION.subn("", url)
        if not count:
            return
        key = urls.fingerprint(bare)
        if key in self._sessions:
            raise Refused("trap: the same page with another session id", url=url)
        if len(self._sessions) < _MAX_SESSIONS:
            self._sessions.add(key)

    def _check_date(self, url: str) -> None:
        found = _DATE.search(url)
        if found is None:
            return
        this_year = datetime.fromtimestamp(self._now(), UTC).year
        if int(found[1] or found[2]) > max(this_year, _THIS_YEAR) + FUTURE_YEARS:
            raise Refused(f"trap: a calendar without an end, {template(url)}", url=url)

    def _check_template(self, name: str, url: str) -> None:
        watched = self._watched.get(name)
        if watched is not None and watched.same >= MAX_SAME:
            raise Refused(f"trap: nothing new on {name}", url=url)
        count = self._of_template.get(name, 0)
        if self._max_of_template is not None and count >= self._max_of_template:
            raise Refused(f"trap: max_pages_per_template of {name}", url=url)
        if not count and len(self._of_template) >= _MAX_TEMPLATES:
            self._forget()
        self._of_template[name] = count + 1

    def _check_origin(self, origin: str, url: str) -> None:
        if self._max_of_origin is None:
            return
        if self._of_origin[origin] >= self._max_of_origin:
            raise Refused(f"max_pages_per_origin of {origin}", url=url)
        self._of_origin[origin] += 1

    def _forget(self) -> None:
        """Drop the templates of which there were few pages."""
        kept = {name: n for name, n in self._of_template.items() if n >= WATCHED_FROM}
        self._of_template = kept if len(kept) < _MAX_TEMPLATES // 2 else {}


def numbers(url: str, body: bytes) -> frozenset[int]:
    """The numbers to be read on a page, but for those of its address and of its neighbours'."""
    near = {int(n) + d for n in _NUMBER.findall(url.encode()) if len(n) < 20 for d in (-1, 0, 1)}
    found = (int(n) for n in _NUMBER.findall(_TAG.sub(b" ", body)) if len(n) < 20)
    return frozenset(found) - near


def template(url: str) -> str:
    """A URL with `{}` for its numbers, UUIDs and long hexadecimal names; the host stays."""
    start = url.find("/", 8)
    return url[:start] + _VARIABLE.sub("{}", url[start:])
