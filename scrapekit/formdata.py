"""What a form sends, as bytes (HTML standard, "form submission algorithm")."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes

import webencodings  # type: ignore[import-untyped]
import xxhash

from scrapekit.charset import lookup, scalar_text

URLENCODED: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"
PLAIN: Final = "text/plain"

_NEWLINE: Final = re.compile(r"\r\n|\r|\n")


class Entry(NamedTuple):
    """A name and what goes with it. `is_file`: it stands for a file that nobody chose."""

    name: str
    value: str
    is_file: bool = False


def encoding_for(labels: str, page: str) -> str:
    """The codec a form is sent in: the first of `accept-charset` that is one, else the page's."""
    known = (lookup(label) for label in labels.split())
    codec = next((name for name in known if name is not None), page)
    try:
        name = codecs.lookup(codec).name
    except LookupError:
        return "utf-8"
    # Encoding standard, "get an output encoding".
    return "utf-8" if name.startswith("utf-16") else codec


def label_of(codec: str) -> str:
    """The name that the web has for a codec."""
    encoding = webencodings.lookup(codec)
    return str(encoding.name) if encoding is not None else codec


def urlencoded(entries: Sequence[Entry], codec: str) -> str:
    """application/x-www-form-urlencoded (URL standard, 5.2)."""
    return "&".join(
        f"{_percent(_crlf(name), codec)}={_percent(_crlf(value), codec)}"
        for name, value, _ in entries
    )


def multipart(entries: Sequence[Entry], codec: str) -> tuple[bytes, str]:
    """multipart/form-data (RFC 7578), and its Content-Type.

    The boundary is made of the content, so that the same form gives the same request.
    """
    parts = [_part(entry, codec) for entry in entries]
    boundary = _boundary(b"".join(parts))
    mark = b"--" + boundary.encode()
    body = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"
    return body, f"{MULTIPART}; boundary={boundary}"


def plain(entries: Sequence[Entry], codec: str) -> bytes:
    """text/plain, which nobody can take apart again."""
    lines = "".join(f"{_crlf(name)}={_crlf(value)}\r\n" for name, value, _ in entries)
    return _bytes(lines, codec)


def _percent(text: str, codec: str) -> str:
    quoted = quote_from_bytes(_bytes(text, codec), safe="*-._ ")
    return quoted.replace("~", "%7E").replace(" ", "+")


def _part(entry: Entry, codec: str) -> bytes:
    # HTML standard, "multipart form data": these three characters, and no others.
    name = _crlf(entry.name).replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
    head = b'Content-Disposition: form-data; name="' + _bytes(name, codec) + b'"'
    if entry.is_file:
        return head + b'; filename=""\r\nContent-Type: application/octet-stream\r\n\r\n'
    return head + b"\r\n\r\n" + _bytes(_crlf(entry.value), codec)


def _boundary(content: bytes) -> str:
    boundary, seed = "", 0
    while not boundary or boundary.encode() in content:
        boundary = f"scrapekit-{xxhash.xxh3_128_hexdigest(content, seed)}"
        seed += 1
    return boundary


def _crlf(text: str) -> str:
    return _NEWLINE.sub("\r\n", text)


def _bytes(text: str, codec: str) -> bytes:
    """In the form's encoding; what that lacks becomes "&#...;" as in a browser."""
    return scalar_text(text).encode(codec, "xmlcharrefreplace")
