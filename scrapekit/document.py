"""An HTML page to ask questions of: CSS in; elements, text, attributes and links out.

A query is a CSS selector with an optional tail that says what to take of the elements found:
`::text` (the default: the element's text, white space folded), `::attr(name)` or `::html`. A
query that is nothing but a tail takes it of the element asked.

The tree is Lexbor's, by way of selectolax. It doesn't pickle and belongs to one thread at a time.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Final, NamedTuple, overload

from selectolax.lexbor import (
    LexborDocumentOptions,
    LexborHTMLParser,
    LexborNode,
    SelectolaxError,
)

from scrapekit.charset import scalar_text
from scrapekit.errors import InvalidURL, QueryError
from scrapekit.urls import Base, encode_query, normalize

_BASE_TAG: Final = re.compile(rb"<base", re.IGNORECASE)


class _Query(NamedTuple):
    selector: str
    tail: str  # "", "text", "html" or "attr"
    attribute: str

    @property
    def is_tail(self) -> bool:
        return bool(self.tail and not self.selector)


_TAILS: Final = "a query may end in ::text, ::attr(name) or ::html"
_ATTR: Final = re.compile(r"attr\(\s*([^\s()]+)\s*\)", re.IGNORECASE)
_PSEUDO_ELEMENT: Final = re.compile(r"[\w-]+(\([^()]*\))?", re.ASCII)


@lru_cache(maxsize=1024)
def _split(query: str) -> _Query:
    selector, mark, tail = query.strip().rpartition("::")
    if not mark or not _PSEUDO_ELEMENT.fullmatch(tail):
        return _Query(query, "", "")
    if tail.lower() in ("text", "html"):
        return _Query(selector, tail.lower(), "")
    attribute = _ATTR.fullmatch(tail)
    if attribute is None:
        raise QueryError(query, f"::{tail} is unknown; {_TAILS}")
    return _Query(selector, "attr", attribute[1])


def _selector_of(query: str) -> str:
    parts = _split(query)
    if parts.tail:
        raise QueryError(query, f"css and first return elements, so ::{parts.tail} has no place")
    return parts.selector


class _Queryable(ABC):
    """What Document and Element have in common."""

    __slots__ = ()

    @abstractmethod
    def _self(self) -> LexborNode: ...

    @abstractmethod
    def _nodes(self, selector: str) -> list[LexborNode]: ...

    @abstractmethod
    def _node(self, selector: str) -> LexborNode | None: ...

    def css(self, query: str) -> list[Element]:
        """All elements below this one that match, in document order. Raises QueryError."""
        return [Element(node) for node in self._all(query, _selector_of(query))]

    def first(self, query: str) -> Element | None:
        """The first element below this one that matches, or None. Raises QueryError."""
        node = self._first(query, _selector_of(query))
        return None if node is None else Element(node)

    @overload
    def get(self, query: str) -> str | None: ...
    @overload
    def get(self, query: str, default: str) -> str: ...
    @overload
    def get(self, query: str, default: None) -> str | None: ...
    def get(self, query: str, default: str | None = None) -> str | None:
        """What `query` takes of the first element that matches; `default` if there is nothing.

        An element without the attribute asked for gives `default`, too; one without text gives
        "". Raises QueryError.
        """
        parts = _split(query)
        node = self._self() if parts.is_tail else self._first(query, parts.selector)
        value = None if node is None else _take(node, parts)
        return default if value is None else value

    def get_all(self, query: str) -> list[str]:
        """What `query` takes of each element that matches, in document order.

        Elements without the attribute asked for are left out. Raises QueryError.
        """
        parts = _split(query)
        nodes = [self._self()] if parts.is_tail else self._all(query, parts.selector)
        return [value for node in nodes if (value := _take(node, parts)) is not None]

    def _all(self, query: str, selector: str) -> list[LexborNode]:
        try:
            nodes = self._nodes(selector)
        except (SelectolaxError, UnicodeEncodeError) as error:
            raise _invalid(query) from error
        # Lexbor reports an element once for each selector of the list that it matches.
        return list({node.mem_id: node for node in nodes}.values()) if "," in selector else nodes

    def _first(self, query: str, selector: str) -> LexborNode | None:
        try:
            return self._node(selector)
        except (SelectolaxError, UnicodeEncodeError) as error:
            raise _invalid(query) from error


class Element(_Queryable):
    """An element of a page. `node` is selectolax's own, for what isn't offered here."""

    __slots__ = ("node",)

    def __init__(self, node: LexborNode) -> None:
        self.node = node

    def __repr__(self) -> str:
        attributes = "".join(f' {name}="{value}"' for name, value in self.attrs.items())
        return f"<Element {self.tag}{attributes}>"

    @property
    def tag(self) -> str:
        """The name, in lower case for HTML elements."""
        return self.node.tag or ""

    @property
    def attrs(self) -> Mapping[str, str]:
        """The attributes; "" for one without a value."""
        return {name: value or "" for name, value in self.node.attrs.items()}

    @property
    def text(self) -> str:
        """The text of the element and all below it, white space folded."""
        return _text(self.node)

    @property
    def html(self) -> str:
        """The element and all below it as HTML."""
        return self.node.html or ""

    def _self(self) -> LexborNode:
        return self.node

    def _nodes(self, selector: str) -> list[LexborNode]:
        nodes = self.node.css(selector)
        # Lexbor tries the element itself, too; being first in document order, it comes first.
        return [node for node in nodes if node.mem_id != self.node.mem_id]

    def _node(self, selector: str) -> LexborNode | None:
        node = self.node.css_first(selector)
        if node is None or node.mem_id != self.node.mem_id:
            return node
        return next(iter(self._nodes(selector)), None)


class Document(_Queryable):
    """A page. It is parsed when it is first asked something, and once.

    Bytes are taken as UTF-8; decode others first. `url` is what links are relative to, unless
    the page has a `<base>`. `encoding` is the codec the page came in: the query of a link is
    percent-encoded in it. Parsing blocks; a hostile page can make it take seconds. No page is an
    error, but for one of more than 2.5 GB (ValueError).
    """

    __slots__ = ("__dict__", "_source", "encoding", "url")

    def __init__(self, html: str | bytes, url: str = "", *, encoding: str = "utf-8") -> None:
        self._source = html
        self.url = url
        self.encoding = encoding

    def __repr__(self) -> str:
        return f"<Document {self.url!r}>"

    @cached_property
    def parser(self) -> LexborHTMLParser:
        """The parser of selectolax, for what isn't offered here."""
        source = self._source
        if isinstance(source, str):
            source = scalar_text(source).encode()
        # With scripting a <noscript> is text, as in a browser; otherwise one that holds an
        # <img> would end the head early.
        # Without events, because 40,000 <option> take 6 s with them, and 10 ms without.
        return LexborHTMLParser(
            source.removeprefix(BOM_UTF8),
            scripting=True,
            options=LexborDocumentOptions.WO_EVENTS,
        )

    def links(self, query: str = "a[href]", *, skip_nofollow: bool = False) -> list[str]:
        """The canonical URLs that the elements found link to: distinct, in document order.

        Takes `href`, or the attribute that the query's tail names (`img::attr(src)`). Left out
        are references into the page itself and what is no http(s) URL; `skip_nofollow` leaves
        out `rel=nofollow`, too. Without a `url` only absolute links count. Raises QueryError,
        and InvalidURL if `url` is none.
        """
        hrefs = self._hrefs(query, skip_nofollow)
        if self.encoding != "utf-8":
            hrefs = [encode_query(href, self.encoding) for href in hrefs]
        if self.base is not None:
            return self.base.join_all(hrefs)
        return list(dict.fromkeys(_absolute(hrefs)))

    @cached_property
    def base(self) -> Base | None:
        """What links are relative to: the first `<base href>`, else `url`; None without both."""
        page = Base(self.url) if self.url else None
        # Few pages have one, and asking the tree costs nearly as much as finding all the links.
        if _BASE_TAG.search(self.parser.raw_html) is None:
            return page
        href = self.get("base[href]::attr(href)", "")
        href = encode_query(href, self.encoding)
        target = page.join(href) if page else next(_absolute([href]), None)
        return Base(target) if target else page

    def _hrefs(self, query: str, skip_nofollow: bool) -> list[str]:
        parts = _split(query)
        if parts.tail in ("text", "html"):
            raise QueryError(query, f"links are taken of attributes, not of ::{parts.tail}")
        nodes = self._all(query, parts.selector)
        if skip_nofollow:
            nodes = [node for node in nodes if not _is_nofollow(node)]
        name = parts.attribute or "href"
        return [node.attrs.sget(name) for node in nodes]

    def _self(self) -> LexborNode:
        root = self.parser.root
        assert root is not None  # the parser makes an <html> of anything, even of nothing
        return root

    def _nodes(self, selector: str) -> list[LexborNode]:
        return self.parser.css(selector)

    def _node(self, selector: str) -> LexborNode | None:
        return self.parser.css_first(selector)


def _take(node: LexborNode, parts: _Query) -> str | None:
    if parts.tail == "attr":
        return node.attrs.sget(parts.attribute, None)
    if parts.tail == "html":
        return node.html or ""
    return _text(node)


def _text(node: LexborNode) -> str:
    return " ".join(node.text().split())


def _is_nofollow(node: LexborNode) -> bool:
    return "nofollow" in node.attrs.sget("rel", "").lower().split()


def _absolute(hrefs: list[str]) -> Iterator[str]:
    for href in hrefs:
        try:
            yield normalize(href)
        except InvalidURL:
            continue


def _invalid(query: str) -> QueryError:
    hint = f"; {_TAILS}" if "::" in query else ""
    return QueryError(query, f"the CSS selector can't be parsed{hint}")
