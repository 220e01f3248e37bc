"""Sitemap: one body, read in steps: unpacked if it is gzip, recognised, and parsed.

The bounds are those of the sitemap protocol (https://www.sitemaps.org/protocol.html): 50,000 URLs
and 50 MB. What is larger is read up to there, what is broken as far as it goes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from scrapekit import urls
from scrapekit.sitemaps.entries import Broken, Entry, Found, Kind
from scrapekit.sitemaps.text import TextSitemap
from scrapekit.sitemaps.xml import XmlSitemap

MAX_URLS: Final = 50_000
MAX_BYTES: Final = 52_428_800

_STEP: Final = 16_384
"""Decoded bytes a step: about a millisecond of parsing."""
_GZIP_STEP: Final = 4_096
_GZIP: Final = b"\x1f\x8b"
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_BLANK: Final = b"\t\n\r \0\xef\xbb\xbf"
_HTML: Final = (b"<!doctype html", b"<html")


class Sitemap:
    """Iterate it for lists of entries, most of them short; each step takes about a millisecond.

    `url` is the canonical URL that the body came from: one that ends in /robots.txt is read for
    its `Sitemap:` lines. Never raises for what is in the body; `problem` says what is wrong.
    """

    def __init__(self, body: bytes, url: str) -> None:
        self.url = url
        self.count = 0
        """Entries so far."""
        self.problem: str | None = None
        """Why reading stopped before the end, or found nothing."""
        self._body = body
        self._parser: XmlSitemap | TextSitemap | None = None

    def __repr__(self) -> str:
        return f"<Sitemap {self.kind or 'unread'} {self.url} count={self.count}>"

    @property
    def kind(self) -> Kind | None:
        """None until it is known, and for what is no sitemap."""
        return self._parser.kind if self._parser is not None else None

    @property
    def lists_sitemaps(self) -> bool:
        """Whether its entries are further sitemaps, rather than pages."""
        return self.kind in ("index", "robots")

    def __iter__(self) -> Iterator[list[Entry]]:
        found = Found(urls.Base(self.url), MAX_URLS)
        try:
            for _ in self._parse(found):
                yield self._taken(found)
        except Broken as broken:
            self.problem = str(broken)
            yield self._taken(found)
        if self.problem is None and not self.count and self.kind in (None, "text"):
            self.problem = "it is neither a sitemap nor a feed: it has no URLs"

    def _taken(self, found: Found) -> list[Entry]:
        entries = found.take()
        self.count += len(entries)
        return entries

    def _parse(self, found: Found) -> Iterator[None]:
        size = 0
        for piece in _decoded(self._body):
            size += len(piece)
            if size > MAX_BYTES:
                raise Broken(f"it is larger than {MAX_BYTES:,} bytes")
            data = _start(piece) if self._parser is None else piece
            if not data:
                continue
            self._parser = self._parser or self._recognise(data, found)
            self._parser.feed(data)
            yield
        if self._parser is not None:
            self._parser.close()
            yield

    def _recognise(self, head: bytes, found: Found) -> XmlSitemap | TextSitemap:
        is_robots = self.url.partition("?")[0].endswith("/robots.txt")
        if is_robots:
            return TextSitemap(found, is_robots=True)
        if head.lower().startswith(_HTML):
            raise Broken("it is an HTML page, no sitemap")
        if head.startswith((b"<", *_UTF16)):
            return XmlSitemap(found)
        return TextSitemap(found)


def _start(piece: bytes) -> bytes:
    """Without what may stand before the first sign: XML tolerates no blank before it."""
    return piece if piece.startswith(_UTF16) else piece.lstrip(_BLANK)


def _decoded(body: bytes) -> Iterator[bytes]:
    if body.startswith(_GZIP):
        yield from _unpacked(body)
        return
    for start in range(0, len(body), _STEP):
        yield body[start : start + _STEP]


def _unpacked(body: bytes) -> Iterator[bytes]:
    """A gzip file, with all its members, in pieces of a bounded size.

    Raises Broken where it ends early or isn't valid; a tail that is no gzip is left out.
    """
    position = 0
    while body.startswith(_GZIP, position):
        stream = zlib.decompressobj(wbits=31)
        while not stream.eof:
            packed = stream.unconsumed_tail
            if not packed:
                packed = body[position : position + _GZIP_STEP]
                position += len(packed)
                if not packed:
                    raise Broken("its gzip data ends early")
            try:
                yield stream.decompress(packed, _STEP)
            except zlib.error as exc:
                raise Broken("its gzip data is broken") from exc
        position -= len(stream.unused_data)
