"""Sitemaps, sitemap indexes, RSS and Atom, by expat. No DTD and so no entities; bounded depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple
from xml.parsers import expat

from scrapekit.sitemaps.entries import MAX_URL, Broken, Found, Kind

_MAX_DEPTH: Final = 64
# A tag or comment that isn't complete is scanned anew with each piece (CVE-2023-52425; expat 2.5
# comes with Python 3.11): without a bound, 50 MB of it would take minutes.
_MAX_TOKEN_BYTES: Final = 524_288


class _Format(NamedTuple):
    """Where the URLs of a format are: in the `link` of each `item`, its date in one of `dates`."""

    kind: Kind
    item: str
    link: str
    dates: tuple[str, ...]


_SITEMAP_URLS: Final = _Format("urls", "url", "loc", ("lastmod",))
_INDEX: Final = _Format("index", "sitemap", "loc", ("lastmod",))
_RSS: Final = _Format("feed", "item", "link", ("pubDate", "date"))
_ATOM: Final = _Format("feed", "entry", "link", ("updated", "published"))
# By the name of the root. Namespaces are passed over: many sitemaps have a wrong one, or none.
_FORMATS: Final[Mapping[str, _Format]] = {
    "urlset": _SITEMAP_URLS,
    "sitemapindex": _INDEX,
    "rss": _RSS,
    "RDF": _RSS,
    "feed": _ATOM,
}


class XmlSitemap:
    """Takes the bytes as they come; the elements wanted are those directly in an item."""

    def __init__(self, found: Found) -> None:
        self.kind: Kind | None = None
        self._found = found
        self._format = _SITEMAP_URLS
        self._depth = 0
        self._item_depth = 0
        """Where the item is open; 0 outside of any."""
        self._values: dict[str, str] = {}
        self._text: list[str] | None = None
        """What a wanted element holds; None outside of one."""
        self._size = 0
        self._fed = 0
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        # Newer versions of expat hold back what they have; the bound above makes that needless.
        at_once = getattr(parser, "SetReparseDeferralEnabled", None)
        if at_once is not None:
            at_once(False)
        self._parser = parser

    def feed(self, data: bytes) -> None:
        """Raises Broken where the XML isn't well-formed, and beyond the limits."""
        self._parse(data, final=False)

    def close(self) -> None:
        """Raises Broken if elements are still open."""
        self._parse(b"", final=True)

    def _parse(self, data: bytes, *, final: bool) -> None:
        self._fed += len(data)
        try:
            self._parser.Parse(data, final)
        except expat.ExpatError as exc:
            what = expat.ErrorString(exc.code)
            raise Broken(f"its XML is broken in line {exc.lineno}: {what}") from exc
        except (ValueError, LookupError) as exc:
            # An encoding that Python doesn't know, or one of several bytes a character.
            raise Broken(f"its XML can't be decoded: {exc}") from exc
        if self._fed - self._parser.CurrentByteIndex > _MAX_TOKEN_BYTES:
            raise Broken(f"its XML has a tag of more than {_MAX_TOKEN_BYTES:,} bytes")

    def _refuse(self, *_: object) -> None:
        raise Broken("it has a document type declaration (DTD), which isn't read")

    def _start(self, name: str, attrs: Mapping[str, str]) -> None:
        self._depth += 1
        local = name.rpartition(":")[2]
        if self._depth > _MAX_DEPTH:
            raise Broken(f"its XML is nested deeper than {_MAX_DEPTH} elements")
        if self._depth == 1:
            self._recognise(local)
        elif not self._item_depth:
            if local == self._format.item:
                self._item_depth = self._depth
                self._values = {}
        elif self._depth == self._item_depth + 1:
            self._open(local, attrs)

    def _recognise(self, root: str) -> None:
        found = _FORMATS.get(root)
        if found is None:
            raise Broken(f"it is neither a sitemap nor a feed: its root is <{root[:40]}>")
        self._format, self.kind = found, found.kind

    def _open(self, local: str, attrs: Mapping[str, str]) -> None:
        if self._format is _ATOM and local == "link":
            if attrs.get("rel", "alternate") == "alternate":
                self._values.setdefault("link", attrs.get("href", ""))
        elif local == self._format.link or local in self._format.dates:
            self._text, self._size = [], 0

    def _characters(self, text: str) -> None:
        if self._text is not None:
            self._size += len(text)
            if self._size <= 2 * MAX_URL:
                self._text.append(text)

    def _end(self, name: str) -> None:
        if self._text is not None and self._depth == self._item_depth + 1:
            value = "".join(self._text).strip()
            self._text = None
            if value and self._size <= 2 * MAX_URL:
                self._values.setdefault(name.rpartition(":")[2], value)
        elif self._depth == self._item_depth:
            self._close_item()
        self._depth -= 1

    def _close_item(self) -> None:
        self._item_depth = 0
        url = self._values.get(self._format.link)
        if url:
            dates = (self._values[name] for name in self._format.dates if name in self._values)
            self._found.add(url, next(dates, ""))
