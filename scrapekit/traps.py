"""Traps: what looks endless is cut off, and the report names it. Sans-IO.

Looked at once for each page, when its turn has come: links are many, pages few, and no page leads
on to others before it is fetched. The length alone is looked at for each link as well: long URLs
take room and time while they wait. Only what repeats itself counts as a trap; a large site is none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple

import xxhash

from scrapekit import urls
from scrapekit.errors import Refused
from scrapekit.settings import Settings

TOO_LONG: Final = "trap: the URL is too long"

MAX_REPEATS: Final = 3
"""How often one segment, or a row of two or three, may come in a row in a path: /a/a/a/a is one
too many. Relative links on a page that is found under any address make such paths."""
MAX_DIGITS: Final = 24
"""The same for segments of digits alone: files and tiles are sharded by them, /0/0/0/0/7.png."""
MAX_SAME: Final = 20
"""Pages of one template in a row that show nothing new, of those that are looked at."""
SAMPLE: Final = 4
"""One page of so many is looked at: a trap has enough of them, and looking costs time."""
WATCHED_FROM: Final = 20
"""Pages of one template before their bodies are compared."""
PROBE: Final = 20
"""So many pages of a template that is cut off are left out before one is fetched all the same, then
twice as many, three times as many: what shows something new again is cut off no more."""
FUTURE_YEARS: Final = 2
"""Calendars may be followed so far into the future."""
CALENDAR_YEARS: Final = 100
"""What is later than that is no year, but some number."""
NO_DATES: Final = 3
"""Pages of one template whose numbers can't be dates, so that those of the others aren't either."""

_MAX_TEMPLATES: Final = 200_000
_MAX_WATCHED: Final = 1_000
_MAX_SESSIONS: Final = 200_000
_MAX_SHAPES: Final = 300
_KEPT: Final = 4
"""Months have 28 to 31 days: so many sets of numbers of pages with the same words are kept."""
_BITS: Final = 1_021
"""Sets of numbers are kept as bits: a prime, for round numbers not to fall together."""
_MAX_NUMBERS: Final = 150
"""With more of them, one that differs might not show in the bits."""
_ON_TRIAL: Final = 5
"""Pages looked at that must show nothing new for a template to be cut off again."""
_THIS_YEAR: Final = 2026
"""A clock that says it is earlier is a test's."""

# The look ahead makes it three times as fast: the search then skips what can't begin a match.
_VARIABLE: Final = re.compile(
    r"(?=[0-9a-fA-F])"
    r"(?:[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|\b[0-9a-fA-F]{16,}\b|[0-9]+)"
)
# `sid` and `session_id` are names of series, sites and talks as well.
_SESSION: Final = re.compile(
    r"(?:;jsessionid=[^?#/]*"
    r"|(?<=[?&])(?:"
    r"(?:phpsessid|jsessionid|aspsessionid\w*|cfid|cftoken|zenid|oscsid)=[0-9a-z.!_-]{8,}"
    r"|(?:session_?id|sid)=(?=[0-9]*[a-z])(?=[a-z]*[0-9])(?:[0-9a-z]{16,}|[0-9a-f]{12,15})"
    r")(?:&|$))",
    re.IGNORECASE,
)
_DATE: Final = re.compile(
    r"[/=?&](?:(?<=[/=])(\d{4})[-/](\d\d)(?:[-/](\d\d))?(?=[/?&]|$)"
    r"|(?<=[?&])year=(\d{4})(?=&|$))"
)
# No row that repeats begins with three segments of digits, unless it is one of digits alone.
_REPEATED: Final = re.compile(
    rf"(?!(?:/\d++){{3}}(?:/|$))((?:/[^/]+){{1,3}}?)\1{{{MAX_REPEATS},}}(?=/|$)"
)
_DIGITS_REPEATED: Final = re.compile(rf"((?:/\d+){{1,3}}?)\1{{{MAX_DIGITS},}}(?=/|$)")
_NO_NEWS: Final = b"0123456789 \t\r\n"
"""Pages that differ in these alone may be the same; the numbers that are read decide."""
_MIN_BYTES: Final = 500
"""Smaller pages are too easily the same."""
# Comments tell how long a page took; where links lead is no news. In lower case, where the search
# is ten times as fast. Up to the next tag at most, or a page of "<" alone would take its square.
_COMMENT: Final = re.compile(rb"<!--[^<>]*+>")
_HREF: Final = re.compile(rb"href\s*+=\s*+(?:\"[^\"<>]*+\"?|'[^'<>]*+'?|[^\s\"'<>]++)")
_NUMBER: Final = re.compile(rb"\d+")


class _Numbers(NamedTuple):
    """The numbers of a page and those near its address, each a set of `_BITS` bits. Of many
    numbers, a hash.
    """

    found: int
    near: int

    @classmethod
    def of(cls, url: str, body: bytes) -> _Numbers:
        found = numbers(url, body)
        if len(found) > _MAX_NUMBERS:
            return cls(hash(found), 0)
        return cls(_bits(found), _bits(_near(url)))

    def is_same(self, other: _Numbers) -> bool:
        """Whether they differ in nothing but what is near either address."""
        return not (self.found ^ other.found) & ~(self.near | other.near)


@dataclass(slots=True)
class _Watched:
    """A template with so many pages that their bodies are compared."""

    seen: dict[int, list[_Numbers]] = field(default_factory=dict)
    """What pages look like without their numbers, and the numbers that were last met with that."""
    same: int = 0
    left_out: int = 0
    """Pages since one was let through."""
    gap: int = PROBE

    def is_same(self, shape: int, url: str, body: bytes) -> bool:
        """Whether one of the last pages that look like this one has the same numbers."""
        kept = self.seen.get(shape)
        if kept is None:
            if len(self.seen) < _MAX_SHAPES:
                self.seen[shape] = []
            return False
        # Pages of measurements differ in numbers alone, and are worth having.
        now = _Numbers.of(url, body)
        others = [before for before in kept if not now.is_same(before)]
        self.seen[shape] = [*others, now][-_KEPT:]
        return len(others) < len(kept)

    def count(self, *, is_same: bool) -> None:
        """A page was looked at. One that shows something new makes up for all before, unless the
        template is cut off: then it is on trial.
        """
        if is_same:
            self.same += 1
        elif self.same >= MAX_SAME:
            self.same = MAX_SAME - _ON_TRIAL
        else:
            self.same, self.left_out, self.gap = 0, 0, PROBE

    def lets_through(self) -> bool:
        """Whether one more page is fetched, though the template is cut off. Ever fewer are, or a
        trap with many links had no end.
        """
        self.left_out += 1
        if self.left_out <= self.gap:
            return False
        self.left_out, self.gap = 0, self.gap + PROBE
        return True


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
        self._any_sessions = False
        self._no_dates: Counter[str] = Counter()
        """Templates, and how many of their URLs have numbers that are no dates."""
        self._probes: set[str] = set()
        """Pages of templates that are cut off, to be looked at when they come."""
        self._came = 0

    def __repr__(self) -> str:
        return f"<Traps templates={len(self._of_template)} watched={len(self._watched)}>"

    def check_length(self, url: str) -> None:
        """Count nothing. Raises Refused for a URL of more than `max_url_length` characters."""
        if len(url) > self._max_length:
            raise Refused(TOO_LONG, url=url)

    def check(self, origin: str, url: str, passed: Sequence[str] = ()) -> None:
        """Count a page that is about to be fetched, or where it was redirected by the URLs that it
        `passed`: it counts once for each template and origin. Raises Refused, whose reason names
        the trap.
        """
        self.check_length(url)
        # Few URLs have what the patterns look for, and looking for them costs more than this.
        if url.count("/", len(origin)) > MAX_REPEATS and self._repeats(origin, url):
            raise Refused("trap: the path repeats itself", url=url)
        # Sites hand out session ids by redirects.
        if not passed and ("=" in url or ";" in url):
            self._check_session(url)
        name = template(url)
        if name != url:
            self._check_date(name, url)
            self._check_template(name, url, passed)
        self._check_origin(origin, url, passed)

    def came(self, url: str, body: bytes) -> None:
        """The page came. Compares it with others of its template, if there are many."""
        if self._any_sessions:
            self._note_session(url)
        self._came += 1
        is_probe = url in self._probes
        if (self._came % SAMPLE and not is_probe) or len(body) < _MIN_BYTES:
            return
        self._probes.discard(url)
        name = template(url)
        if self._of_template.get(name, 0) < WATCHED_FROM:
            return
        if len(self._watched) >= _MAX_WATCHED and name not in self._watched:
            return
        watched = self._watched.setdefault(name, _Watched())
        shape = xxhash.xxh3_64_intdigest(body.translate(None, _NO_NEWS))
        watched.count(is_same=watched.is_same(shape, url, body))

    def _repeats(self, origin: str, url: str) -> bool:
        path = url.partition("?")[0]
        if _REPEATED.search(path, len(origin)):
            return True
        return path.count("/") > MAX_DIGITS and bool(_DIGITS_REPEATED.search(path, len(origin)))

    def _check_session(self, url: str) -> None:
        bare, count = _SESSION.subn("", url)
        if not count:
            return
        self._any_sessions = True
        if urls.fingerprint(bare) in self._sessions:
            raise Refused("trap: the same page with another session id", url=url)

    def _note_session(self, url: str) -> None:
        """Only of pages that came: with another session id, a page may be there that wasn't."""
        bare, count = _SESSION.subn("", url)
        if count and len(self._sessions) < _MAX_SESSIONS:
            self._sessions.add(urls.fingerprint(bare))

    def _check_date(self, name: str, url: str) -> None:
        found = _DATE.search(url)
        if found is None:
            return
        ahead = int(found[1] or found[4]) - self._this_year()
        month, day = int(found[2] or 1), int(found[3] or 1)
        if not found[4] and (ahead > CALENDAR_YEARS or month > 12 or day > 31):
            if name in self._no_dates or len(self._no_dates) < _MAX_WATCHED:
                self._no_dates[name] += 1
        elif ahead > FUTURE_YEARS and month and day and self._no_dates[name] < NO_DATES:
            raise Refused(f"trap: a calendar without an end, {name}", url=url)

    def _this_year(self) -> int:
        return max(datetime.fromtimestamp(self._now(), UTC).year, _THIS_YEAR)

    def _check_template(self, name: str, url: str, passed: Sequence[str]) -> None:
        if passed and any(template(before) == name for before in passed):
            if self._probes.intersection(passed):
                self._probes.add(url)
            return
        watched = self._watched.get(name)
        if watched is not None and watched.same >= MAX_SAME:
            if not watched.lets_through():
                raise Refused(f"trap: nothing new on {name}", url=url)
            self._probes.add(url)
        count = self._of_template.get(name, 0)
        if self._max_of_template is not None and count >= self._max_of_template:
            raise Refused(f"trap: max_pages_per_template of {name}", url=url)
        if not count and len(self._of_template) >= _MAX_TEMPLATES:
            self._forget()
        self._of_template[name] = count + 1

    def _check_origin(self, origin: str, url: str, passed: Sequence[str]) -> None:
        if self._max_of_origin is None or any(urls.origin(before) == origin for before in passed):
            return
        if self._of_origin[origin] >= self._max_of_origin:
            raise Refused(f"max_pages_per_origin of {origin}", url=url)
        self._of_origin[origin] += 1

    def _forget(self) -> None:
        """Drop the templates of which there were few pages."""
        kept = {name: n for name, n in self._of_template.items() if n >= WATCHED_FROM}
        self._of_template = kept if len(kept) < _MAX_TEMPLATES // 2 else {}


def numbers(url: str, body: bytes) -> frozenset[int]:
    """The numbers of a page, those of its tags too, but for what its links lead to, and for those
    of its address and of its neighbours'.
    """
    read = _HREF.sub(b" ", _COMMENT.sub(b" ", body.lower()))
    found = set(_NUMBER.findall(read))
    return frozenset(int(n) for n in found if len(n) < 20) - _near(url)


def _near(url: str) -> set[int]:
    return {int(n) + d for n in _NUMBER.findall(url.encode()) if len(n) < 20 for d in (-1, 0, 1)}


def _bits(found: Iterable[int]) -> int:
    bits = bytearray(_BITS // 8 + 1)
    for number in found:
        place = number % _BITS
        bits[place >> 3] |= 1 << (place & 7)
    return int.from_bytes(bits, "little")


def template(url: str) -> str:
    """A URL with `{}` for its numbers, UUIDs and long hexadecimal names; the host stays."""
    start = url.find("/", 8)
    return url[:start] + _VARIABLE.sub("{}", url[start:])
