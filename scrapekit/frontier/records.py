"""Requests and failures as records on disk: JSON by msgspec, so nothing is ever unpickled."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import xxhash

from scrapekit.errors import UsageError
from scrapekit.failure import Failure, error_name
from scrapekit.frontier.base import Lease
from scrapekit.items import decode_json, encode_value
from scrapekit.messages import ANYWHERE, Request

_MAX_TEXT: Final = 20_000
"""Characters that are kept of a message and of a traceback."""

_MAX_PRIORITY: Final = 2**62
"""What SQLite's integers hold, and then some room."""


class Record(msgspec.Struct, omit_defaults=True):
    """A request. Short names, because there are millions of them."""

    u: str
    """The URL."""
    c: str | None = None
    """The callback."""
    d: int = 0
    """The depth."""
    m: str = "GET"
    h: dict[str, str] = {}
    b: bytes = b""
    k: dict[str, str] = {}
    """The cookies."""
    x: str = ""
    """`meta`, as JSON: there may be escapes in it that only Python's own decoder takes."""
    p: int = 0
    """The priority."""
    n: bool = False
    """Whether it need not be unique."""
    s: str = ""
    """The session."""
    y: str | None = None
    """The proxy."""
    w: float = 0.0
    """`not_before_s`."""
    r: int = ANYWHERE
    """The reach."""


class Lost(msgspec.Struct, kw_only=True):
    """What cost an item whose page was done: an error of a stage or output."""

    url: str
    reason: str
    during: str
    callback: str | None
    where: str
    message: str
    traceback: str
    at: float
    """When, in seconds since the epoch."""


def lost(failure: Failure, at: float) -> Lost:
    """The record of what cost an item."""
    return Lost(
        url=failure.url,
        reason=_text(error_name(failure.error)),
        during=failure.during,
        callback=failure.callback,
        where=_text(failure.where),
        message=_text(failure.message),
        traceback=_text(failure.traceback),
        at=at,
    )


def record(request: Request) -> Record:
    """The record of a request that `check` lets pass."""
    if is_plain(request):
        return Record(request.url, request.callback, request.depth, r=request.reach)
    return Record(
        request.url,
        request.callback,
        request.depth,
        request.method,
        dict(request.headers),
        request.body,
        dict(request.cookies),
        encode_value(dict(request.meta)).decode() if request.meta else "",
        request.priority,
        not request.unique,
        request.session,
        request.proxy,
        request.not_before_s,
        request.reach,
    )


def request(kept: Record) -> Request:
    """The request of a record."""
    kept.r = min(kept.r, ANYWHERE)
    if kept == Record(kept.u, kept.c, kept.d, r=kept.r):
        return Request.link(kept.u, kept.c, kept.d, reach=kept.r)
    return Request(
        kept.u,
        kept.c,
        method=kept.m,
        headers=kept.h,
        body=kept.b,
        cookies=kept.k,
        meta=decode_json(kept.x) if kept.x else None,
        priority=kept.p,
        unique=not kept.n,
        session=kept.s,
        proxy=kept.y,
        not_before_s=kept.w,
    ).at_depth(kept.d, kept.r)


def is_plain(request: Request) -> bool:
    """Whether a request is no more than a link, as nearly all are."""
    return (
        not (request.meta or request.headers or request.cookies or request.body)
        and request.priority == 0
        and request.unique
        and request.method == "GET"
        and not (request.session or request.proxy or request.when)
    )


def settled(request: Request) -> Request:
    """The request as it would come back from disk: whether a crawl was interrupted makes no
    difference to its callbacks.
    """
    if not request.meta:
        return request
    return request.replace(meta=decode_json(encode_value(dict(request.meta))))


def check(request: Request) -> None:
    """Raises UsageError if a request holds what has no form as a record."""
    if is_plain(request):
        return
    if not -_MAX_PRIORITY < request.priority < _MAX_PRIORITY:
        raise UsageError(f"the priority {request.priority} of {request.url} is too large to keep")
    try:
        msgspec.json.encode(record(request))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"the request to {request.url} can't be kept in a job: {error}; its meta, headers and "
            "cookies must be data that JSON has a form for"
        ) from error


def failure_row(lease: Lease, number: int, failure: Failure, at: float) -> tuple[Any, ...]:
    """A row of the table of failures."""
    return (
        number,
        origin_key(lease.origin),
        at,
        lease.request.url,
        _text(error_name(failure.error)),
        failure.during,
        failure.callback,
        _text(failure.where),
        _text(failure.message),
        _text(failure.traceback),
        lease.tries,
        failure.of_user_code,
        record(lease.request),
    )


def origin_key(origin: str) -> int:
    """What stands for an origin in the database."""
    return signed(xxhash.xxh3_64_intdigest(origin.encode()))


def signed(number: int) -> int:
    """64 bits as SQLite has them."""
    return number - 2**64 if number >= 2**63 else number


def _text(text: str) -> str:
    """Text as the database takes it: no NUL, no surrogate, not endless."""
    return text[:_MAX_TEXT].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
