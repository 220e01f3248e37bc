"""What is found in a sitemap, and the dates in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, Literal, NamedTuple

from scrapekit.urls import Base

Kind = Literal["urls", "index", "feed", "text", "robots"]

MAX_URL: Final = 8_192
"""Longer than any address that works; the protocol's own limit is 2,048."""

_PARTIAL: Final = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")


class Entry(NamedTuple):
    """A URL, canonical, and when what is there last changed.

    `lastmod` is in seconds since the epoch: the last moment that a date without a time may mean.
    """

    url: str
    lastmod: float | None = None


class Broken(Exception):
    """Reading can't go on; the message says why. Caught in this package."""


class Found:
    """Gathers entries, up to a number of them; what is no http(s) URL is left out."""

    def __init__(self, base: Base, limit: int) -> None:
        self._base = base
        self._limit = limit
        self._entries: list[Entry] = []
        self._count = 0

    def add(self, url: str, lastmod: str = "") -> None:
        """Raises Broken beyond the limit."""
        url = url.strip()
        joined = self._base.join(url) if 0 < len(url) <= MAX_URL else None
        if joined is None:
            return
        if self._count >= self._limit:
            raise Broken(f"it has more than {self._limit:,} URLs")
        self._count += 1
        self._entries.append(Entry(joined, latest(lastmod)))

    def take(self) -> list[Entry]:
        """What was found since the last time."""
        entries, self._entries = self._entries, []
        return entries


def latest(text: str) -> float | None:
    """The last moment that a date may mean: W3C (sitemaps, Atom) or RFC 822 (RSS); else None.

    Seconds since the epoch; without a zone it is UTC. Never raises.
    """
    return _moment(text, _end_of)


def earliest(text: str) -> float | None:
    """The same, but the first moment."""
    return _moment(text, lambda start, _unit: start)


def _moment(text: str, of: Callable[[datetime, str], datetime]) -> float | None:
    text = text.strip()[:64]
    if not text:
        return None
    try:
        partial = _PARTIAL.fullmatch(text)
        if partial:
            year, month, day = partial.groups()
            start = datetime(int(year), int(month or 1), int(day or 1), tzinfo=UTC)
            return of(start, "day" if day else "month" if month else "year").timestamp()
        return _exact(text).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _end_of(start: datetime, unit: str) -> datetime:
    if unit == "day":
        return start + timedelta(days=1)
    year, month = divmod(start.year * 12 + start.month - 1 + (12 if unit == "year" else 1), 12)
    return start.replace(year=year, month=month + 1)


def _exact(text: str) -> datetime:
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        date = parsedate_to_datetime(text)
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
