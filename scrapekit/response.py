"""Response: what came back. Immutable and picklable, and it never waits."""

from __future__ import annotations

import json as jsonlib
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, final, overload

from multidict import CIMultiDict, CIMultiDictProxy

from scrapekit import charset, forms, urls
from scrapekit.directives import forbids_following
from scrapekit.document import Document, Element
from scrapekit.errors import DocumentRefused, InvalidJSON, InvalidURL
from scrapekit.links import links_like
from scrapekit.request import ANYWHERE, Callback, Request, callback_name

Cached = Literal["", "hit", "revalidated"]
"""What a cache did for a response: nothing; all of it, without asking the site; all but asking the
site whether it still holds."""

_BASE_TAG: Final = re.compile(rb"<base", re.IGNORECASE)
_META_TAG: Final = re.compile(rb"<meta[^>]*+", re.IGNORECASE)


@final
class Response:
    """What came back for a Request. Carries bytes; text and document are made when asked for.

    Whether that is on the loop, in a thread or in a worker process is decided by where the
    callback runs; only bytes travel.
    """

    __slots__ = (
        "_base",
        "_document",
        "_encoding",
        "_refusal",
        "_text",
        "address",
        "anomalies",
        "body",
        "cached",
        "elapsed_s",
        "headers",
        "reach",
        "redirects",
        "request",
        "status",
        "url",
    )

    def __init__(
        self,
        url: str,
        status: int,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        request: Request | None = None,
        *,
        elapsed_s: float = 0.0,
        redirects: tuple[str, ...] = (),
        cached: Cached = "",
        address: str = "",
        reach: int = ANYWHERE,
        anomalies: tuple[str, ...] = (),
    ) -> None:
        self.url = url
        """Where the body came from in the end: after the last redirect."""
        self.status = status
        self.headers: Mapping[str, str] = (
            headers
            if isinstance(headers, (CIMultiDict, CIMultiDictProxy))
            else CIMultiDict(headers or {})
        )
        """Case-insensitive; `headers.getall(name)` gives every line of a repeated one."""
        self.body = body
        """Decoded from its Content-Encoding."""
        self.request = request if request is not None else Request(url)
        """The request as the crawl filed it, before any redirect."""
        self.elapsed_s = elapsed_s
        """Seconds from sending the request to the end of the body, redirects included."""
        self.redirects = redirects
        """The URLs that redirected, first to last."""
        self.cached: Cached = cached
        """"hit": from the cache alone; "revalidated": the site says that it holds; else ""."""
        self.address = address
        """The IP address it came from; "" if that isn't known, as behind a proxy."""
        self.reach = reach
        """The `reach` of the requests that it leads to. Set by the crawl."""
        self.anomalies = anomalies
        """What is odd about a body that can be used all the same: "trailing-garbage" follows its
        compressed stream."""
        self._encoding: str | None = None
        self._text: str | None = None
        self._document: Document | None = None
        self._refusal = ""
        self._base: urls.Base | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        headers = CIMultiDict(self.headers)
        values = (self.url, self.status, headers, self.body, self.request)
        facts = (self.elapsed_s, self.redirects, self.cached, self.address, self.reach)
        return _restore_response, (*values, *facts, self.anomalies)

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.url} {len(self.body)} bytes>"

    @property
    def meta(self) -> Mapping[str, Any]:
        """The request's `meta`."""
        return self.request.meta

    @property
    def encoding(self) -> str:
        """The codec of the text: BOM, then header, then <meta>, then UTF-8, then windows-1252."""
        if self._encoding is None:
            self._encoding = charset.detect(self.body, self.headers.get("Content-Type", ""))
        return self._encoding

    @property
    def text(self) -> str:
        """The body as text. Never raises: what isn't valid becomes U+FFFD."""
        if self._text is None:
            self._text = charset.decode(self.body, self.encoding)
        return self._text

    @property
    def document(self) -> Document:
        """The body as HTML, parsed once, on the first question. Raises DocumentRefused."""
        if self._document is None:
            if self._refusal:
                raise DocumentRefused(self._refusal, url=self.url)
            html = self.body if self.encoding == "utf-8" else self.text
            self._document = Document(html, self.url, encoding=self.encoding)
        return self._document

    @property
    def is_markup(self) -> bool:
        """Whether it is to be expected that the body is HTML or XML: the Content-Type says so, or
        text, or nothing; or the body begins like it.
        """
        kind = self.headers.get("Content-Type", "text/").lower()
        if kind.startswith("text/") or "html" in kind or "xml" in kind:
            return True
        return self.body[:256].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")

    def parse(self) -> None:
        """Parse the body as HTML now. Blocks, and lets other threads run meanwhile."""
        _ = self.document.parser

    def let_go(self) -> None:
        """Forget the tree. Whoever asks again has the body parsed again."""
        self._document = None

    def utf8(self) -> bytes:
        """What the parser would get: the text, as UTF-8. May block for long on a large page."""
        return self.body if self.encoding == "utf-8" else charset.scalar_text(self.text).encode()

    def refuse_parsing(self, reason: str) -> None:
        """Have `document`, and all that asks it, raise DocumentRefused."""
        self._refusal = reason

    def json(self) -> Any:
        """The body as JSON. Raises InvalidJSON."""
        try:
            return jsonlib.loads(self.body)
        except (ValueError, RecursionError) as exc:
            raise InvalidJSON(f"the body is no JSON: {exc}", url=self.url) from exc

    def css(self, query: str) -> list[Element]:
        """The elements that match a CSS query, in document order."""
        return self.document.css(query)

    def first(self, query: str) -> Element | None:
        """The first element that matches, or None."""
        return self.document.first(query)

    @overload
    def get(self, query: str) -> str | None: ...
    @overload
    def get(self, query: str, default: str) -> str: ...
    @overload
    def get(self, query: str, default: None) -> str | None: ...
    def get(self, query: str, default: str | None = None) -> str | None:
        """The first match as text: `a::attr(href)`, `p::html`, `h1` (its text, spaces folded)."""
        return self.document.get(query, default)

    def get_all(self, query: str) -> list[str]:
        """All matches as text; see `get`."""
        return self.document.get_all(query)

    @property
    def is_nofollow(self) -> bool:
        """Whether the page asks robots not to follow its links: by X-Robots-Tag or by
        `<meta name="robots">`. What is addressed to another crawler by name doesn't count.
        """
        assert isinstance(self.headers, (CIMultiDict, CIMultiDictProxy))
        if forbids_following(self.headers.getall("X-Robots-Tag", ())):
            return True
        # Asking the document parses it, which most pages can do without.
        if not any(b"robots" in tag[0].lower() for tag in _META_TAG.finditer(self.body)):
            return False
        return forbids_following(self.get_all('meta[name="robots" i]::attr(content)'))

    def links(self, query: str = "a[href]", *, skip_nofollow: bool = False) -> list[str]:
        """The distinct http(s) URLs that the matching elements link to, in document order.

        `skip_nofollow` leaves out links with rel=nofollow, and all of a page that `is_nofollow`.
        """
        if skip_nofollow and self.is_nofollow:
            return []
        return self.document.links(query, skip_nofollow=skip_nofollow)

    def urljoin(self, url: str) -> str:
        """`url` made absolute as a link of this page: against its `<base>`, if it has one, else
        its address. Raises InvalidURL.
        """
        if self._base is None:
            self._base = self._find_base()
        joined = self._base.join(urls.encode_query(url, self.encoding))
        if joined is None:
            raise InvalidURL(url, f"it doesn't lead to http or https from {self.url}")
        return joined

    def _find_base(self) -> urls.Base:
        # Asking the document parses it, which most pages can do without.
        if self._document is None and _BASE_TAG.search(self.body) is None:
            return urls.Base(self.url)
        return self.document.base or urls.Base(self.url)

    def follow(
        self, link: str | Element, callback: Callback | None = None, **options: Any
    ) -> Request:
        """A Request for a link of this page: a relative URL, or an element with href or src.

        `options` are those of Request. Raises InvalidURL, also for an element without a link.
        """
        href = link if isinstance(link, str) else _link_of(link)
        options.setdefault("session", self.request.session)
        request = Request(self.urljoin(href), callback, **options)
        return request.at_depth(self.request.depth + 1, self.reach)

    def follow_all(
        self,
        query: str = "a[href]",
        callback: Callback | None = None,
        *,
        skip_nofollow: bool = False,
        **options: Any,
    ) -> list[Request]:
        """A Request for each distinct link that the query finds; see `links` and `follow`."""
        hrefs = self.links(query, skip_nofollow=skip_nofollow)
        name, depth, session = callback_name(callback), self.request.depth + 1, self.request.session
        if options:
            options.setdefault("session", session)
            made = (Request(href, name, **options) for href in hrefs)
            return [request.at_depth(depth, self.reach) for request in made]
        return list(map(links_like(name, depth, session, self.reach).__getitem__, hrefs))

    def form(
        self,
        query: str = "form",
        data: Mapping[str, Any] | None = None,
        *,
        click: str | Literal[False] | None = None,
        extra: Mapping[str, Any] | None = None,
        callback: Callback | None = None,
        **options: Any,
    ) -> Request:
        """The Request that a browser makes when it submits a form of this page.

        `query` finds the form, or something in it. `data` has values by field name: a str or a
        number; True or False for a checkbox; a list for several values; None to leave the field
        out. All other fields keep what the page says, hidden ones too. The first button is pressed,
        unless `click` is a query for another one, False for none, or `data` names a button with
        its value. `extra` adds fields that the page doesn't have. `options` are those of Request.

        Raises FormError, a UsageError, for what isn't there: it names what comes nearest.
        """
        made = forms.submission(self.document, query, data or {}, click=click, extra=extra)
        url = self.urljoin(made.action) if made.action else self.url
        if made.query is not None:
            url = f"{url.partition('?')[0]}?{made.query}"
        headers = forms.provenance(self.url, url, made.method)
        if made.content_type:
            headers["Content-Type"] = made.content_type
        headers |= options.pop("headers", None) or {}
        return self.follow(
            url, callback, method=made.method, body=made.body, headers=headers, **options
        )


def _link_of(element: Element) -> str:
    for name in ("href", "src"):
        value = element.attrs.get(name)
        if value:
            return value
    raise InvalidURL("", f"<{element.tag}> has neither href nor src")


def _restore_response(
    url: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    request: Request,
    elapsed_s: float,
    redirects: tuple[str, ...],
    cached: Cached,
    address: str,
    reach: int,
    anomalies: tuple[str, ...],
) -> Response:
    return Response(
        url,
        status,
        headers,
        body,
        request,
        elapsed_s=elapsed_s,
        redirects=redirects,
        cached=cached,
        address=address,
        reach=reach,
        anomalies=anomalies,
    )
