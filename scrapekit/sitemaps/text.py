"""Sitemaps that are lists of lines, and the `Sitemap:` lines of a robots.txt."""

from __future__ import annotations

import re
from typing import Final

from scrapekit.sitemaps.entries import MAX_URL, Found, Kind

_URL: Final = re.compile(r"https?://\S+", re.IGNORECASE)
# RFC 9309, 2.2.4 leaves it to crawlers; they all read it without regard to the agent.
_SITEMAP: Final = re.compile(r"sitemap[ \t]*:[ \t]*([^\s#]+)", re.IGNORECASE)
_BREAK: Final = re.compile(rb"\r\n?|\n")


class TextSitemap:
    """One URL a line, in UTF-8; other lines are passed over. In robots.txt it may be relative."""

    def __init__(self, found: Found, *, is_robots: bool = False) -> None:
        self.kind: Kind = "robots" if is_robots else "text"
        self._found = found
        self._is_robots = is_robots
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Raises Broken beyond the limits."""
        lines = _BREAK.split(self._rest + data)
        # A line without end is cut, so that it can't be rejoined for ever.
        self._rest = lines.pop()[: 2 * MAX_URL]
        for line in lines:
            self._line(line)

    def close(self) -> None:
        """The last line needs no end."""
        self._line(self._rest)

    def _line(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").strip()
        # A URL that isn't valid UTF-8 can't be asked for as it was meant.
        if "\ufffd" in text:
            return
        if self._is_robots:
            named = _SITEMAP.match(text)
            if named:
                self._found.add(named[1])
        elif _URL.fullmatch(text):
            self._found.add(text)
