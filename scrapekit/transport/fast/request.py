"""A request as bytes. Sans-IO; RFC 9112, 2 and 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from multidict import CIMultiDict

from scrapekit.errors import UsageError
from scrapekit.messages import Request
from scrapekit.transport.fast.route import Route
from scrapekit.transport.fields import encode_fields, own_fields

_SIZES: Final = frozenset({"PATCH", "POST", "PUT"})
"""Methods whose requests tell their size also if there is no body (RFC 9110, 8.6)."""


def encode(request: Request, route: Route) -> bytes:
    """What to send for a request by that route: the header, and the body behind it.

    Raises UsageError for what can't be put into HTTP.
    """
    target = request.url[route.target_from :]
    if not target.isascii() or not target.isprintable() or " " in target:
        raise _unsendable(request, "its URL isn't canonical")
    start = f"{request.method} {target} HTTP/1.1\r\n".encode("ascii")
    own = own_fields(request)
    if own is None and not request.body and request.method not in _SIZES:
        return start + route.usual_fields
    return start + _fields(request, route, own or {}) + request.body


def _fields(request: Request, route: Route, own: Mapping[str, str]) -> bytes:
    fields = CIMultiDict(route.fields)
    for name in own:
        fields.popall(name, None)
    fields.extend(own)
    if "Transfer-Encoding" in fields:
        raise _unsendable(request, "how its body is framed is not the request's to say")
    size = str(len(request.body))
    if fields.get("Content-Length", size) != size:
        raise _unsendable(request, f"its Content-Length isn't the {size} bytes of the body")
    if request.body or request.method in _SIZES:
        fields["Content-Length"] = size
    try:
        return encode_fields(fields)
    except ValueError as exc:
        raise _unsendable(request, str(exc)) from exc


def _unsendable(request: Request, why: str) -> UsageError:
    return UsageError(f"{request!r} can't be put into HTTP: {why}")
