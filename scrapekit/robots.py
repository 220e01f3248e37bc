"""robots.txt: text in, verdict out (RFC 9309). Sans-IO; fetching it is the engine's."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from scrapekit import robotsfile, urls
from scrapekit.errors import InvalidURL, Refused, RobotsUnavailable
from scrapekit.pathrules import PathRules, TooManyRules

MAX_DELAY_S: Final = 86_400.0
"""A site that asks for longer pauses can't hang a crawl for ever."""
TOO_COMPLEX: Final = "robots-too-complex"
"""The reason of Refused for a URL of which nobody can say in time whether it is allowed."""

SLOW: Final = 16_384
"""Characters. Larger ones take longer to parse than the event loop can spare, up to 0.5 s."""
_LARGE: Final = 65_536
"""Bytes of memory."""
_MOST_BYTES: Final = 80 << 20
_MOST_BYTES_OF_LARGE: Final = 48 << 20
"""What is known at a time may take so much memory: of sites with thirty rules, 10,000. Those that
weren't asked about for longest are forgotten, and asked for again. Large ones, of which a hostile
site has as many as subdomains, make room for one another only.
"""
_MOST_IN_VAIN: Final = 3
_LEAST_SIZE: Final = 500
_WORTH_PACKING: Final = 1_000
_MAX_REQUESTS: Final = 10_000
_MAX_PERIOD_S: Final = 86_400.0
MAX_BYTES: Final = 500 * 1024
"""What is read of a robots.txt (RFC 9309, 2.5 asks for at least 500 KiB)."""

FRESH_S: Final = 24 * 3600.0
"""How long one is good for (RFC 9309, 2.4)."""

MAX_REDIRECTS: Final = 5
"""RFC 9309, 2.3.1.2: at least five redirects are followed for a robots.txt."""

Reading = Literal["parse", "allow", "unavailable"]


def reading_of_status(status: int) -> Reading:
    """What a robots.txt's status means (RFC 9309, 2.3.1): 4xx allows all, 5xx nothing for now."""
    if 200 <= status < 300:
        return "parse"
    return "allow" if 300 <= status < 500 and status != 429 else "unavailable"


class Robots:
    """What one robots.txt says to one user agent."""

    def __init__(self, text: str, user_agent: str) -> None:
        self._agent = product_token(user_agent)
        self._text = _packed(text)
        file = robotsfile.read(text, self._agent)
        self._rules = PathRules(file.rules)
        self._sitemaps = file.sitemaps
        self.delay_s = min(file.delay_s or 0.0, MAX_DELAY_S)
        """The Crawl-delay in seconds, at most MAX_DELAY_S; 0 if there is none."""
        self.rate = None if file.rate is None else _bounded(*file.rate)
        """The Request-rate: so many requests in so many seconds; None if there is none.

        One that is meant for a time of the day counts all day: it tells what the site can bear.
        """

    def __repr__(self) -> str:
        return f"<Robots for {self._agent}: {'rules' if len(self._rules) else 'all allowed'}>"

    @property
    def text(self) -> str:
        """The file as it was read."""
        return self._text if isinstance(self._text, str) else zlib.decompress(self._text).decode()

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        listed = sum(map(len, self._sitemaps))
        return _LEAST_SIZE + len(self._text) + listed + self._rules.size

    def allows(self, url: str) -> bool:
        """Whether an absolute URL may be fetched. Takes milliseconds at most.

        Raises Refused(TOO_COMPLEX) if the file or the URL is made so that nobody can say in that
        time.
        """
        if "/robots.txt" in url and _is_own(url):
            return True
        try:
            return self._rules.allows(url)
        except TooManyRules:
            detail = "more rules with wildcards than can be compared with a URL of that length"
            raise Refused(TOO_COMPLEX, url=url, detail=detail) from None

    def sitemaps(self, base: str) -> list[str]:
        """The URLs of the `Sitemap:` lines, which are for every agent; those that can't be
        fetched are left out, as is what is beyond 1,000. `base` is the address of the file.
        """
        try:
            return urls.Base(base).join_all(self._sitemaps)
        except InvalidURL:
            return []


def _is_own(url: str) -> bool:
    """Whether it is the file itself, which may always be fetched (RFC 9309, 2.2.2)."""
    place = url.partition("#")[0].partition("?")[0].partition("://")[2]
    return place.partition("/")[2] == "robots.txt"


def _packed(text: str) -> str | bytes:
    """Nobody asks for it but whoever keeps it for a later crawl."""
    if len(text) < _WORTH_PACKING:
        return text
    return zlib.compress(text.encode("utf-8", "replace"), 1)


def _bounded(requests: int, seconds: int) -> tuple[int, float]:
    return min(requests, _MAX_REQUESTS), min(float(seconds), _MAX_PERIOD_S)


def decode(body: bytes) -> str:
    """The text of a robots.txt: UTF-8 (RFC 9309, 2.3), a BOM and what is over the limit cut, with
    the line that it falls in: half of one may forbid all.
    """
    if len(body) >= MAX_BYTES:
        body = body[:MAX_BYTES].rpartition(b"\n")[0] or body[:MAX_BYTES]
    return body.decode("utf-8-sig", "replace")


def product_token(user_agent: str) -> str:
    """What a robots.txt calls us: "scrapekit" of "scrapekit/0.1 (+https://...)"."""
    return user_agent.split("/", 1)[0].split(" ", 1)[0].strip() or "*"


ALLOW_ALL: Final = Robots("", "")


_ANY_REACH: Final = 1 << 30


@dataclass(slots=True)
class _Entry:
    rules: Robots | None
    until: float
    read_at: float
    trouble: str = ""
    """Why there are no rules."""
    refused_at: int = _ANY_REACH
    """Pages that may lead further than this may have it asked for again."""
    used: bool = False
    """Whether any URL was looked up in it."""

    @property
    def size(self) -> int:
        own = self.rules is not None and self.rules is not ALLOW_ALL
        return self.rules.size if own and self.rules is not None else _LEAST_SIZE


class _Shelf:
    """Entries by origin, of so many bytes at most; the longest unused one makes room."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self.held = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[str, _Entry]]:
        return iter(self._entries.items())

    def get(self, origin: str) -> _Entry | None:
        entry = self._entries.get(origin)
        if entry is not None:
            self._entries.move_to_end(origin)
        return entry

    def put(self, origin: str, entry: _Entry, size: int) -> dict[str, _Entry]:
        """Put it there; what had to make room."""
        self._entries[origin], self._sizes[origin] = entry, size
        self.held += size
        gone: dict[str, _Entry] = {}
        while self.held > self._most_bytes and len(self._entries) > 1:
            oldest, gone[oldest] = next(iter(self._entries.items()))
            self.pop(oldest)
        return gone

    def pop(self, origin: str) -> None:
        if self._entries.pop(origin, None) is not None:
            self.held -= self._sizes.pop(origin)


class RobotsBook:
    """The robots.txt of every origin of a crawl, for as long as it is good and there is room.

    All times are seconds of the crawl's clock.
    """

    def __init__(self, user_agent: str) -> None:
        self._agent = user_agent
        self._small = _Shelf(_MOST_BYTES)
        self._large = _Shelf(_MOST_BYTES_OF_LARGE)
        self._in_vain: dict[str, int] = {}
        """How often the file of an origin had to make room before it was used."""

    def __repr__(self) -> str:
        return f"<RobotsBook origins={len(self._small) + len(self._large)} bytes={self.size}>"

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return self._small.held + self._large.held

    def unknown(self, origin: str, now: float, reach: int = 0) -> bool:
        """Whether the origin's robots.txt has to be fetched first, for a page of that reach."""
        entry = self._entry(origin)
        return entry is None or entry.until <= now or reach > entry.refused_at

    def refuse(self, origin: str, reach: int, now: float) -> None:
        """A robots.txt may not be fetched on behalf of pages of that reach."""
        self._enter(origin, _Entry(ALLOW_ALL, now + FRESH_S, now, refused_at=reach))

    def allows(self, origin: str, url: str) -> bool:
        """Whether a URL of an origin that isn't unknown may be fetched.

        Raises RobotsUnavailable if nobody can say, so that nothing may; Refused if the rules are
        too many, or the URL too long, to tell.
        """
        entry = self._entry(origin)
        if entry is None:
            raise RobotsUnavailable("it was forgotten for others", url=f"{origin}/robots.txt")
        if entry.rules is None:
            raise RobotsUnavailable(entry.trouble, url=f"{origin}/robots.txt")
        if not entry.used:
            entry.used = True
            self._in_vain.pop(origin, None)
        return entry.rules.allows(url)

    def parse(self, text: str) -> Robots:
        """The rules of a robots.txt; a missing one has no text. Takes 0.5 s at worst."""
        return Robots(text, self._agent) if text.strip() else ALLOW_ALL

    def learn(self, origin: str, text: str, now: float, rules: Robots | None = None) -> Robots:
        """A robots.txt was read; `rules` are those of the text, if they were parsed already."""
        rules = rules or self.parse(text)
        self._enter(origin, _Entry(rules, now + FRESH_S, now))
        return rules

    def close(self, origin: str, trouble: str, until: float) -> None:
        """A robots.txt can't be had: until then nothing may be fetched, unless there is an old
        one (RFC 9309, 2.3.1.4 and 2.4).
        """
        old = self._entry(origin)
        if old is not None and old.rules is not None:
            old.until = until
        else:
            self._enter(origin, _Entry(None, until, until, trouble))

    def has_rules(self, origin: str) -> bool:
        """Whether the origin's robots.txt was ever read, though it may be old by now."""
        entry = self._entry(origin)
        return entry is not None and entry.rules is not None

    def sitemaps(self, origin: str) -> list[str]:
        """The URLs of the `Sitemap:` lines, as far as the origin's robots.txt is known."""
        entry = self._entry(origin)
        rules = entry.rules if entry is not None else None
        return [] if rules is None else rules.sitemaps(f"{origin}/robots.txt")

    def known(self) -> Iterator[tuple[str, str, float]]:
        """What was read: origins, the texts, and when that was."""
        for shelf in (self._small, self._large):
            for origin, entry in shelf:
                if entry.rules is not None:
                    yield origin, entry.rules.text, entry.read_at

    def _entry(self, origin: str) -> _Entry | None:
        return self._small.get(origin) or self._large.get(origin)

    def _enter(self, origin: str, entry: _Entry) -> None:
        self._small.pop(origin)
        self._large.pop(origin)
        size = entry.size + 2 * len(origin)
        gone = (self._large if size > _LARGE else self._small).put(origin, entry, size)
        for name, lost in gone.items():
            self._note_loss(name, lost)

    def _note_loss(self, origin: str, lost: _Entry) -> None:
        """Many large files of one site, all asked for in turn, would push one another out for ever
        before a page's turn comes.
        """
        if lost.used or lost.rules is None:
            return
        self._in_vain[origin] = times = self._in_vain.get(origin, 0) + 1
        if times >= _MOST_IN_VAIN:
            del self._in_vain[origin]
            trouble = "there is no room for all the large robots.txt of its neighbours"
            entry = _Entry(None, lost.until, lost.until, trouble)
            self._small.put(origin, entry, entry.size)
