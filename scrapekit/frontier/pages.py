"""Pages: what a job knows of each page it has done, so that a later crawl needn't do it again."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import xxhash

from scrapekit.frontier.records import Record, record, request
from scrapekit.items import encode_value
from scrapekit.messages import Request, Response

PAGE: Final = "page"
"""The kind of the notes on pages; their names are made by `identity`."""


class Page(msgspec.Struct, omit_defaults=True):
    """A page that was done. Short names, because there are millions of them."""

    u: str
    """Where it was in the end."""
    h: str
    """A hash of its body."""
    e: str = ""
    """Its ETag."""
    l: str = ""  # noqa: E741
    """Its Last-Modified."""
    r: bytes = b""
    """The requests that its callback made of it: records as JSON, compressed."""
    p: int = 0
    """The number under which the job has its items; 0 if there are none."""
    t: list[int] = []
    """The items of the former job that were recognised in it; see `scrapekit.jobs.changes`."""

    @property
    def requests(self) -> list[Request]:
        return [request(kept) for kept in _records.decode(zlib.decompress(self.r))]


_records = msgspec.json.Decoder(list[Record])
_pages = msgspec.json.Decoder(Page)


def page(response: Response, results: Sequence[Any]) -> Page:
    """What is kept of a page, and of what its callback made of it."""
    requests = [record(result) for result in results if isinstance(result, Request)]
    return Page(
        response.url,
        body_hash(response),
        validator(response, "ETag"),
        validator(response, "Last-Modified"),
        _compressed(msgspec.json.encode(requests)),
    )


def _compressed(data: bytes) -> bytes:
    # As small as with zlib's defaults, which take three times as long to set up.
    packer = zlib.compressobj(1, zlib.DEFLATED, 12, 5)
    return packer.compress(data) + packer.flush()


def validator(response: Response, name: str) -> str:
    """A header that a later request can ask by; "" if it can't be sent back as it came."""
    value = response.headers.get(name, "")
    return value if value.isascii() and value.isprintable() else ""


def body_hash(response: Response) -> str:
    """What tells whether a body is the same."""
    return xxhash.xxh3_128_hexdigest(response.body)


def identity(asked: Request) -> str:
    """What tells whether a page was asked for before, by the same request, for the same callback:
    whatever may make a difference to the answer, or to what the callback makes of it. "" if there
    is something in `meta` that has no JSON form: no job has that.
    """
    try:
        meta = encode_value(dict(asked.meta)).decode() if asked.meta else ""
    except TypeError:
        return ""
    parts = (
        asked.method,
        asked.url,
        asked.body,
        sorted((name.lower(), value) for name, value in asked.headers.items()),
        sorted(asked.cookies.items()),
        asked.session,
        asked.callback or "parse",
        meta,
    )
    return hashlib.blake2b(encode_value(parts), digest_size=16).hexdigest()


def decode(note: str) -> Page:
    """The page of a note."""
    return _pages.decode(note)


def encode(known: Page) -> str:
    """The note on a page."""
    return msgspec.json.encode(known).decode()
