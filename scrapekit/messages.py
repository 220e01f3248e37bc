"""Request and Response: the two messages of a crawl. Immutable, picklable, and they never wait."""

from __future__ import annotations

import json as jsonlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, NoReturn, final, overload
from urllib.parse import urlencode

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from scrapekit import charset, urls
from scrapekit.document import Document, Element
from scrapekit.errors import DocumentRefused, InvalidJSON, InvalidURL, UsageError

Callback = Callable[..., Any] | str
"""What `callback=` takes: a method of the spider, its name, or a module-level function."""

Cached = Literal["", "hit", "revalidated"]
"""What a cache did for a response: nothing; all of it, without asking the site; all but asking the
site whether it still holds."""

_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_FIELDS: Final = (
    "url",
    "callback",
    "method",
    "headers",
    "body",
    "cookies",
    "meta",
    "priority",
    "unique",
    "depth",
)
_BASE_TAG: Final = re.compile(rb"<base", re.IGNORECASE)
"""A page of that size takes 1 to 2 ms to parse. Below, a hop to a thread costs as much as it
frees."""
_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


class _Fixed(dict[str, Any]):
    """A dict that can't be changed, because requests share the empty one. Copies are plain."""

    __slots__ = ()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a Request can't be changed: use request.replace()")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return _Fixed, (dict(self),)


_NONE: Final = _Fixed()


def callback_name(callback: Callback | None) -> str | None:
    """The name under which a callback is stored: "method" or "module:function".

    Names, not objects, are stored, so that one rule serves memory, disk and other processes.
    Raises UsageError for what has no such name: a lambda, a nested function, a partial.
    """
    if callback is None or isinstance(callback, str):
        return callback
    name = getattr(callback, "__name__", None)
    if getattr(callback, "__self__", None) is not None and name:
        return str(name)
    if name and getattr(callback, "__qualname__", "") == name and name != "<lambda>":
        return f"{callback.__module__}:{name}"
    raise UsageError(
        f"{callback!r} can't be a callback: use a method of the spider, its name, "
        "or a module-level function"
    )


@final
class Request:
    """One page to fetch, and the callback that gets it.

    Besides the attributes below, the constructor takes `params` (added to the URL's query),
    `json` (encoded as the body) and `data` (a mapping or pairs, sent as a form). A body makes the
    default method POST. User name and password in the URL become an Authorization header.

    Raises InvalidURL for a URL that can't be fetched, UsageError for the rest.
    """

    __slots__ = _FIELDS

    url: str
    """Absolute, in WHATWG canonical form, without fragment and without user name or password."""
    callback: str | None
    """The name of the callback; None stands for `parse`."""
    method: str
    headers: Mapping[str, str]
    body: bytes
    cookies: Mapping[str, str]
    meta: Mapping[str, Any]
    """Whatever the callback wants to find again in `response.meta`."""
    priority: int
    """Higher goes first; 0 by default."""
    unique: bool
    """False: fetch it even if the crawl has seen it."""
    depth: int
    """Links followed from a start request to here. Set by the crawl."""

    def __init__(
        self,
        url: str,
        callback: Callback | None = None,
        *,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | str = b"",
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        data: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
        cookies: Mapping[str, str] | None = None,
        meta: Mapping[str, Any] | None = None,
        priority: int = 0,
        unique: bool = True,
    ) -> None:
        href, authorization = urls.split_userinfo(urls.normalize(url))
        if params:
            href = _with_params(href, params)
        payload, content_type = _payload(body, json, data)
        fields = _table("headers", headers)
        if authorization:
            _default_header(fields, "Authorization", authorization)
        if content_type:
            _default_header(fields, "Content-Type", content_type)
        if fields:
            _check_headers(fields)
        values = _table("cookies", cookies)
        if values:
            _check_cookies(values)
        own = _table("meta", meta)
        if not isinstance(priority, int):
            raise UsageError(f"a priority is an int, not {priority!r}")
        self._fill(
            href,
            callback_name(callback),
            _method(method or ("POST" if payload else "GET")),
            _Fixed(fields) if fields else _NONE,
            payload,
            _Fixed(values) if values else _NONE,
            _Fixed(own) if own else _NONE,
            priority,
            unique,
            0,
        )

    def _fill(
        self,
        url: str,
        callback: str | None,
        method: str,
        headers: Mapping[str, str],
        body: bytes,
        cookies: Mapping[str, str],
        meta: Mapping[str, Any],
        priority: int,
        unique: bool,
        depth: int,
    ) -> None:
        _set_url(self, url)
        _set_callback(self, callback)
        _set_method(self, method)
        _set_headers(self, headers)
        _set_body(self, body)
        _set_cookies(self, cookies)
        _set_meta(self, meta)
        _set_priority(self, priority)
        _set_unique(self, unique)
        _set_depth(self, depth)

    @classmethod
    def link(cls, url: str, callback: str | None, depth: int) -> Request:
        """A plain GET of a URL that is known to be canonical: one of the links of a page."""
        request = cls.__new__(cls)
        request._fill(url, callback, "GET", _NONE, b"", _NONE, _NONE, 0, True, depth)
        return request

    def replace(self, **changes: Any) -> Request:
        """A copy with some attributes changed. Takes what the constructor takes, and `depth`."""
        values = {name: getattr(self, name) for name in _FIELDS}
        depth = changes.pop("depth", values.pop("depth"))
        if not {"body", "json", "data"}.isdisjoint(changes):
            values.pop("body")
            if "body" not in changes:
                values["headers"] = _without_made_type(self.headers)
        request = Request(**values | changes)
        _set_depth(request, depth)
        return request

    def at_depth(self, depth: int) -> Request:
        """This request, or a copy of it, as the crawl files it at `depth`."""
        if depth == self.depth:
            return self
        return _restore_request(*self._values()[:-1], depth)

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in _FIELDS)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Request can't be changed: use request.replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Request can't be changed")

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_request, self._values()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Request) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((self.method, self.url, self.body))

    def __repr__(self) -> str:
        callback = f" -> {self.callback}" if self.callback else ""
        return f"<Request {self.method} {self.url}{callback}>"


# The slots' own setters: several times faster than object.__setattr__, and a page has
# hundreds of links.
(
    _set_url,
    _set_callback,
    _set_method,
    _set_headers,
    _set_body,
    _set_cookies,
    _set_meta,
    _set_priority,
    _set_unique,
    _set_depth,
) = (vars(Request)[name].__set__ for name in _FIELDS)


def _restore_request(*values: Any) -> Request:
    request = Request.__new__(Request)
    request._fill(*values)
    return request


def _table(name: str, value: Any) -> dict[str, Any]:
    try:
        return dict(value or ())
    except (TypeError, ValueError):
        # Its type alone: the value may be secret.
        raise UsageError(f"a Request's {name} are a dict, not {type(value).__name__}") from None


def _with_params(url: str, params: Any) -> str:
    try:
        return urls.with_query(url, params)
    except (TypeError, ValueError) as exc:
        raise UsageError(f"params can't be encoded: {exc}") from exc


def _method(method: str) -> str:
    if not isinstance(method, str) or not method or not _TOKEN.issuperset(method.lower()):
        raise UsageError(f"{method!r} is no HTTP method (RFC 9110, 5.6.2: a token)")
    return method.upper()


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not isinstance(name, str) or not name or not _TOKEN.issuperset(name.lower()):
            raise UsageError(f"{name!r} is no header name (RFC 9110, 5.1: a token)")
        if not isinstance(value, str) or any(c in value for c in "\r\n\0"):
            raise UsageError(f"the value of header {name!r} must be a str on one line")


def _check_cookies(cookies: Mapping[str, str]) -> None:
    for name, value in cookies.items():
        if not isinstance(name, str) or not name or not _TOKEN.issuperset(name.lower()):
            raise UsageError(f"{name!r} is no cookie name (RFC 6265, 4.1.1: a token)")
        # Wider than RFC 6265, 4.1.1, because servers set quotes and commas and want them back.
        if not isinstance(value, str) or any(c < " " or c in ";\x7f" for c in value):
            raise UsageError(f"the value of cookie {name!r} must be a str without ';' on one line")


def _without_made_type(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers without a Content-Type that came with `json` or `data`."""
    return {
        name: value
        for name, value in headers.items()
        if name.lower() != "content-type" or value not in (_FORM, _JSON)
    }


def _default_header(headers: dict[str, str], name: str, value: str) -> None:
    if all(name.lower() != known.lower() for known in headers):
        headers[name] = value


def _payload(
    body: bytes | str, json: Any, data: Mapping[str, Any] | Iterable[tuple[str, Any]] | None
) -> tuple[bytes, str | None]:
    """The body's bytes, and the Content-Type that goes with them if we made them."""
    if (json is not None) + (data is not None) + bool(body) > 1:
        raise UsageError("a Request takes one of body, json and data")
    try:
        if json is not None:
            return msgspec.json.encode(json), _JSON
        if data is not None:
            pairs = data.items() if isinstance(data, Mapping) else data
            return urlencode(list(pairs), doseq=True).encode(), _FORM
        if isinstance(body, str):
            return body.encode(), None
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        what = "json" if json is not None else "data" if data is not None else "body"
        raise UsageError(f"{what} can't be encoded: {exc}") from exc
    if not isinstance(body, (bytes, bytearray, memoryview)):
        raise UsageError(f"a body is bytes or str, not {type(body).__name__}")
    return bytes(body), None


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
        "body",
        "cached",
        "elapsed_s",
        "headers",
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
        self._encoding: str | None = None
        self._text: str | None = None
        self._document: Document | None = None
        self._refusal = ""
        self._base: urls.Base | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        headers = CIMultiDict(self.headers)
        values = (self.url, self.status, headers, self.body, self.request)
        return _restore_response, (*values, self.elapsed_s, self.redirects, self.cached)

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
        """Whether the Content-Type lets one expect HTML or XML: it says so, or text, or nothing."""
        kind = self.headers.get("Content-Type", "text/").lower()
        return kind.startswith("text/") or "html" in kind or "xml" in kind

    def parse(self) -> None:
        """Parse the body as HTML now. Blocks, and lets other threads run meanwhile."""
        _ = self.document.parser

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

    def links(self, query: str = "a[href]", *, skip_nofollow: bool = False) -> list[str]:
        """The distinct http(s) URLs that the matching elements link to, in document order."""
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
        return Request(self.urljoin(href), callback, **options).at_depth(self.request.depth + 1)

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
        name, depth = callback_name(callback), self.request.depth + 1
        if options:
            return [Request(href, name, **options).at_depth(depth) for href in hrefs]
        return [
            Request.link(href, name, depth) if "@" not in href else _plain(href, name, depth)
            for href in hrefs
        ]


def _plain(href: str, callback: str | None, depth: int) -> Request:
    # A link with user name and password has to lose them, which the constructor does.
    return Request(href, callback).at_depth(depth)


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
    )
