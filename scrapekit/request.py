"""Request: one page to fetch. Immutable and picklable, and it never waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, NoReturn, cast, final
from urllib.parse import urlencode

import msgspec

from scrapekit import urls
from scrapekit.addresses import Space
from scrapekit.authority import authorization_of, check_proxy
from scrapekit.errors import UsageError, name_in

Callback = Callable[..., Any] | str
"""What `callback=` takes: a method of the spider, its name, or a module-level function."""

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
    "session",
    "proxy",
    "when",
    "depth",
    "reach",
)
ANYWHERE: Final = int(Space.LOOPBACK)
"""The reach of a request that nobody but the author has made."""
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


class When(NamedTuple):
    """The dates of a request that isn't to go as soon as it can."""

    not_before_s: float = 0.0
    """Seconds since the epoch."""
    delay_s: float = 0.0
    """Seconds from its filing."""


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


class _Draft:
    """A Request in the making, whose attributes can still be set."""

    __slots__ = (*_FIELDS, "fingerprint")


@final
class Request(_Draft):
    """One page to fetch, and the callback that gets it.

    Besides the attributes below, the constructor takes `params` (added to the URL's query),
    `json` (encoded as the body) and `data` (a mapping or pairs, sent as a form). A body makes the
    default method POST. User name and password in the URL become an Authorization header, and so
    does `auth`: `("name", "password")`, "name:password" or "Bearer TOKEN". Only the request's own
    origin gets it. `not_before_s` (seconds since the epoch) and `delay_s` (seconds from its filing)
    put it off; it holds up no other request meanwhile.

    Raises InvalidURL for a URL that can't be fetched, UsageError for the rest.
    """

    __slots__ = ()

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
    session: str
    """Whose cookies it uses: requests of one name share a cookie jar, and no other; "" by default.
    The requests that `Response.follow` and the like make stay in the session of their page."""
    proxy: str | None
    """The HTTP proxy for this request, in place of those of the settings."""
    when: When | None
    """Its dates; None for as soon as possible."""
    depth: int
    """Links followed from a start request to here. Set by the crawl."""
    reach: int
    """The most private address that it may lead to, a `scrapekit.addresses.Space`: any, but for
    what comes of a page. Set by the crawl."""
    fingerprint: int
    """64 bits that requests for the same page share; see `scrapekit.urls.fingerprint`."""

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
        session: str = "",
        auth: str | tuple[str, str] | None = None,
        proxy: str | None = None,
        not_before_s: float = 0.0,
        delay_s: float = 0.0,
    ) -> None:
        href, authorization = urls.split_userinfo(urls.normalize(url))
        if params:
            href = _with_params(href, params)
        payload, content_type = _payload(body, json, data)
        if auth is not None:
            authorization = authorization_of(auth)
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
        _check_way(session, proxy)
        values_by_field = (
            href,
            callback_name(callback),
            _method(method) if method else "POST" if payload else "GET",
            _Fixed(fields) if fields else _NONE,
            payload,
            _Fixed(values) if values else _NONE,
            _Fixed(own) if own else _NONE,
            priority,
            unique,
            session,
            proxy,
            _when(not_before_s, delay_s),
            0,
            ANYWHERE,
        )
        for set_, field in zip(_SETTERS, values_by_field, strict=True):
            set_(self, field)

    @classmethod
    def link(
        cls,
        url: str,
        callback: str | None,
        depth: int,
        session: str = "",
        reach: int = ANYWHERE,
    ) -> Request:
        """A plain GET of a URL that is known to be canonical: one of the links of a page."""
        return _filled(
            url,
            callback,
            "GET",
            _NONE,
            b"",
            _NONE,
            _NONE,
            0,
            True,
            session,
            None,
            None,
            depth,
            reach,
        )

    def replace(self, **changes: Any) -> Request:
        """A copy with some attributes changed. Takes what the constructor takes, and `depth`."""
        values = {name: getattr(self, name) for name in _FIELDS}
        depth = changes.pop("depth", values.pop("depth"))
        values |= (values.pop("when") or When())._asdict()
        reach = values.pop("reach")
        if not {"body", "json", "data"}.isdisjoint(changes):
            values.pop("body")
            if "body" not in changes:
                values["headers"] = _without_made_type(self.headers)
        if changes.get("auth") is not None:
            kept = values["headers"].items()
            values["headers"] = {n: v for n, v in kept if n.lower() != "authorization"}
        request = Request(**values | changes)
        _set_depth(request, depth)
        _set_reach(request, reach)
        return request

    def at_depth(self, depth: int, reach: int | None = None) -> Request:
        """This request, or a copy of it, as the crawl files it at `depth` with that `reach`."""
        if reach is None:
            reach = self.reach
        if depth == self.depth and reach == self.reach:
            return self
        return _filled(*(*self._values()[:-2], depth, reach))

    @property
    def not_before_s(self) -> float:
        """No sooner than this, in seconds since the epoch; 0.0 for as soon as possible."""
        return 0.0 if self.when is None else self.when.not_before_s

    @property
    def delay_s(self) -> float:
        """No sooner than so many seconds after the crawl has filed it."""
        return 0.0 if self.when is None else self.when.delay_s

    def filed_at(self, now: float) -> Request:
        """This request, with a delay made a date: `now` is when it is filed."""
        if self.when is None or not self.when.delay_s:
            return self
        due = max(self.when.not_before_s, now + self.when.delay_s)
        return _filled(*(*self._values()[:-3], When(due), self.depth, self.reach))

    def __getattr__(self, name: str) -> int:
        # Called for what isn't there. The fingerprint is made when it is first asked for, and read
        # for each link of each page from then on: no property could be as quick.
        if name != "fingerprint":
            raise AttributeError(f"a Request has no {name!r}", name=name, obj=self)
        made = urls.fingerprint(self.url, self.method, self.body, self.session)
        _set_fingerprint(self, made)
        return made

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in _FIELDS)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Request can't be changed: use request.replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Request can't be changed")

    def __reduce__(self) -> tuple[Any, ...]:
        return _filled, self._values()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Request) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((self.method, self.url, self.body))

    def __repr__(self) -> str:
        callback = f" -> {self.callback}" if self.callback else ""
        return f"<Request {self.method} {self.url}{callback}>"


_SETTERS: Final = tuple(vars(_Draft)[name].__set__ for name in _FIELDS)
_set_fingerprint: Final = vars(_Draft)["fingerprint"].__set__
_set_depth: Final = _SETTERS[_FIELDS.index("depth")]
_set_reach: Final = _SETTERS[_FIELDS.index("reach")]


def _filled(
    url: str,
    callback: str | None,
    method: str,
    headers: Mapping[str, str],
    body: bytes,
    cookies: Mapping[str, str],
    meta: Mapping[str, Any],
    priority: int,
    unique: bool,
    session: str,
    proxy: str | None,
    when: When | None,
    depth: int,
    reach: int,
) -> Request:
    """A Request of values that are known to be right, in the order of the fields.

    A page has hundreds of links, and to store attributes that aren't guarded yet takes half the
    time.
    """
    draft: Any = _Draft()
    draft.url = url
    draft.callback = callback
    draft.method = method
    draft.headers = headers
    draft.body = body
    draft.cookies = cookies
    draft.meta = meta
    draft.priority = priority
    draft.unique = unique
    draft.session = session
    draft.proxy = proxy
    draft.when = when
    draft.depth = depth
    draft.reach = reach
    draft.__class__ = Request
    return cast("Request", draft)


def _table(name: str, value: Any) -> dict[str, Any]:
    if not value:
        return {}
    try:
        return dict(value)
    except (TypeError, ValueError):
        # Its type alone: the value may be secret.
        raise UsageError(f"a Request's {name} are a dict, not {type(value).__name__}") from None


def _with_params(url: str, params: Any) -> str:
    try:
        return urls.with_query(url, params)
    except (TypeError, ValueError) as exc:
        raise UsageError(f"params can't be encoded: {exc}") from exc


def _when(not_before_s: float, delay_s: float) -> When | None:
    """Raises UsageError for what is no date or delay."""
    if not_before_s == delay_s == 0.0:
        return None
    for name, value in (("not_before_s", not_before_s), ("delay_s", delay_s)):
        if not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise UsageError(f"a Request's {name} is a number of seconds from 0 up, not {value!r}")
    return When(float(not_before_s), float(delay_s)) if not_before_s or delay_s else None


def _method(method: str) -> str:
    if not isinstance(method, str) or not method or not _TOKEN.issuperset(method.lower()):
        raise UsageError(f"{name_in(method)} is no HTTP method (RFC 9110, 5.6.2: a token)")
    return method.upper()


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not isinstance(name, str) or not name or not _TOKEN.issuperset(name.lower()):
            raise UsageError(f"{name_in(name)} is no header name (RFC 9110, 5.1: a token)")
        if not isinstance(value, str) or any(c in value for c in "\r\n\0"):
            raise UsageError(f"the value of header {name!r} must be a str on one line")


def _check_cookies(cookies: Mapping[str, str]) -> None:
    for name, value in cookies.items():
        if not isinstance(name, str) or not name or not _TOKEN.issuperset(name.lower()):
            raise UsageError(f"{name_in(name)} is no cookie name (RFC 6265, 4.1.1: a token)")
        # Wider than RFC 6265, 4.1.1, because servers set quotes and commas and want them back.
        if not isinstance(value, str) or any(c < " " or c in ";\x7f" for c in value):
            raise UsageError(f"the value of cookie {name!r} must be a str without ';' on one line")


def _check_way(session: str, proxy: str | None) -> None:
    if not isinstance(session, str):
        raise UsageError(f"a session is named by a str, not {session!r}")
    if proxy is not None:
        check_proxy(proxy)


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
    if body == b"" and json is data is None:
        return b"", None
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
