"""robots.txt: text in, verdict out (RFC 9309). Sans-IO; fetching it is the engine's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from protego import Protego

from scrapekit import urls
from scrapekit.agents import only_for
from scrapekit.errors import InvalidURL, RobotsUnavailable

MAX_DELAY_S: Final = 86_400.0
"""A site that asks for longer pauses can't hang a crawl for ever."""
LARGE: Final = 65_536
"""Characters. Larger ones take long to parse."""
_MOST_LARGE: Final = 8
"""So many are known at a time: each takes up to 35 MB. An earlier one is asked for again."""
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
        self.text = text
        self._agent = product_token(user_agent)
        self._rules = Protego.parse(only_for(self._agent, text)) if text.strip() else None

    def __repr__(self) -> str:
        return f"<Robots for {self._agent}: {'rules' if self._rules else 'all allowed'}>"

    def allows(self, url: str) -> bool:
        return self._rules is None or bool(self._rules.can_fetch(url, self._agent))

    @property
    def delay_s(self) -> float:
        """The Crawl-delay in seconds, at most MAX_DELAY_S; 0 if there is none."""
        delay = self._rules.crawl_delay(self._agent) if self._rules else None
        return min(max(0.0, float(delay)), MAX_DELAY_S) if delay is not None else 0.0

    @property
    def rate(self) -> tuple[int, float] | None:
        """The Request-rate: so many requests in so many seconds; None if there is none.

        One that is meant for a time of the day counts all day: it tells what the site can bear.
        """
        rate = self._rules.request_rate(self._agent) if self._rules else None
        if rate is None or rate.requests < 1 or rate.seconds <= 0:
            return None
        return min(int(rate.requests), _MAX_REQUESTS), min(float(rate.seconds), _MAX_PERIOD_S)

    def sitemaps(self, base: str) -> list[str]:
        """The URLs of the `Sitemap:` lines, which are for every agent; those that can't be
        fetched are left out. `base` is the address of the file.
        """
        lines = self._rules.sitemaps if self._rules else ()
        try:
            return urls.Base(base).join_all(lines)
        except InvalidURL:
            return []


def decode(body: bytes) -> str:
    """The text of a robots.txt: UTF-8 (RFC 9309, 2.3), a BOM and what is over the limit cut."""
    return body[:MAX_BYTES].decode("utf-8-sig", "replace")


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


class RobotsBook:
    """The robots.txt of every origin of a crawl, for as long as it is good.

    All times are seconds of the crawl's clock.
    """

    def __init__(self, user_agent: str) -> None:
        self._agent = user_agent
        self._entries: dict[str, _Entry] = {}
        self._large: dict[str, None] = {}
        """The origins of large ones, the oldest first."""

    def __repr__(self) -> str:
        return f"<RobotsBook origins={len(self._entries)}>"

    def unknown(self, origin: str, now: float, reach: int = 0) -> bool:
        """Whether the origin's robots.txt has to be fetched first, for a page of that reach."""
        entry = self._entries.get(origin)
        return entry is None or entry.until <= now or reach > entry.refused_at

    def refuse(self, origin: str, reach: int, now: float) -> None:
        """A robots.txt may not be fetched on behalf of pages of that reach."""
        self._entries[origin] = _Entry(ALLOW_ALL, now + FRESH_S, now, refused_at=reach)

    def allows(self, origin: str, url: str) -> bool:
        """Whether a URL of an origin that isn't unknown may be fetched.

        Raises RobotsUnavailable if nobody can say, so that nothing may.
        """
        entry = self._entries.get(origin)
        if entry is None:
            raise RobotsUnavailable("it was forgotten for others", url=f"{origin}/robots.txt")
        if entry.rules is None:
            raise RobotsUnavailable(entry.trouble, url=f"{origin}/robots.txt")
        return entry.rules.allows(url)

    def parse(self, text: str) -> Robots:
        """The rules of a robots.txt; a missing one has no text. Takes 0.7 s at worst."""
        return Robots(text, self._agent) if text.strip() else ALLOW_ALL

    def learn(self, origin: str, text: str, now: float, rules: Robots | None = None) -> Robots:
        """A robots.txt was read; `rules` are those of the text, if they were parsed already."""
        rules = rules or self.parse(text)
        self._entries[origin] = _Entry(rules, now + FRESH_S, now)
        if len(text) > LARGE:
            self._forget_large(origin)
        return rules

    def _forget_large(self, latest: str) -> None:
        self._large.pop(latest, None)
        self._large[latest] = None
        if len(self._large) > _MOST_LARGE:
            oldest = next(iter(self._large))
            del self._large[oldest]
            self._entries.pop(oldest, None)

    def close(self, origin: str, trouble: str, until: float) -> None:
        """A robots.txt can't be had: until then nothing may be fetched, unless there is an old
        one (RFC 9309, 2.3.1.4 and 2.4).
        """
        old = self._entries.get(origin)
        if old is not None and old.rules is not None:
            old.until = until
        else:
            self._entries[origin] = _Entry(None, until, until, trouble)

    def sitemaps(self, origin: str) -> list[str]:
        """The URLs of the `Sitemap:` lines, as far as the origin's robots.txt is known."""
        entry = self._entries.get(origin)
        rules = entry.rules if entry is not None else None
        return [] if rules is None else rules.sitemaps(f"{origin}/robots.txt")

    def known(self) -> Iterator[tuple[str, str, float]]:
        """What was read: origins, the texts, and when that was."""
        for origin, entry in self._entries.items():
            if entry.rules is not None:
                yield origin, entry.rules.text, entry.read_at
