"""Fields: the header that goes with a request. No I/O, and nothing of any HTTP client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from multidict import CIMultiDict

from scrapekit.messages import Request
from scrapekit.settings import Settings
from scrapekit.transport.decoding import accepted

_ACCEPT: Final = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
_FORBIDDEN: Final = frozenset("\r\n\0")


def default_fields(settings: Settings) -> CIMultiDict[str]:
    """What goes with every request: ours, and those of the settings, which win."""
    headers = CIMultiDict(
        {"User-Agent": settings.user_agent, "Accept": _ACCEPT, "Accept-Encoding": accepted()}
    )
    for name, value in settings.headers.items():
        headers[name] = value
    return headers


def own_fields(request: Request) -> Mapping[str, str] | None:
    """The request's own headers and cookies. None, without a copy, if there are none."""
    if not request.cookies:
        return request.headers or None
    headers = CIMultiDict(request.headers)
    pairs = [*headers.popall("Cookie", []), *map("=".join, request.cookies.items())]
    headers["Cookie"] = "; ".join(pairs)
    return headers


def encode_fields(fields: Mapping[str, str]) -> bytes:
    """A header section and the empty line that ends it. Raises ValueError if a field is no line."""
    lines = [f"{name}: {value}" for name, value in fields.items()]
    for line in lines:
        if not _FORBIDDEN.isdisjoint(line):
            raise ValueError(f"{line!r} isn't one line")
    return "\r\n".join([*lines, "\r\n"]).encode()
