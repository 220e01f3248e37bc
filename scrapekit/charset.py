"""Which character encoding a body is in, and the text it holds.

The order is that of the HTML standard ("determining the character encoding"): byte order mark,
the HTTP header, a declaration in the document, and then a guess: UTF-8 if the body is
valid UTF-8, else windows-1252. Only the labels of the WHATWG Encoding standard choose a codec,
so no page can pick "zip", "rot13" or "idna".

Every function is linear in its input and none raises, whatever the bytes are.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from functools import cache
from typing import Final

import webencodings  # type: ignore[import-untyped]

PRESCAN_BYTES: Final = 65_536
"""How far a declaration is looked for.

Authors must declare in the first 1024 bytes, but browsers honour what their parsers meet later
(HTML standard, "changing the encoding while parsing"). One longer scan stands for both.
"""

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# WHATWG name -> Python codec, where the codec of that name decodes something else. A browser
# reads a label as the superset that pages really use, so the codec must be the superset too.
_CODECS: Final = {
    "big5": "big5hkscs",
    "euc-kr": "cp949",
    "gbk": "gb18030",
    "iso-8859-8-i": "iso8859-8",
    "macintosh": "mac-roman",
    "shift_jis": "cp932",
    "windows-874": "cp874",
    "x-mac-cyrillic": "mac-cyrillic",
}

# These two have no Python codec; `decode` knows them.
_REPLACEMENT: Final = "replacement"
_USER_DEFINED: Final = "x-user-defined"

_SPACE: Final = rb"\t\n\f\r "


def detect(body: bytes, content_type: str = "") -> str:
    """Name the codec of `body`; `content_type` is the HTTP header's value, or "".

    The name is one that Python's codec registry knows, except for "replacement" and
    "x-user-defined", which only `decode` understands (Encoding standard, 14).
    """
    return (
        _from_bom(body)
        or from_content_type(content_type)
        or prescan(body)
        or ("utf-8" if _is_utf8(body) else "cp1252")
    )


def decode(body: bytes, codec: str) -> str:
    """Decode as a browser would: no byte order mark, U+FFFD for what is malformed.

    `codec` comes from `detect`; a name that no codec answers to is read as UTF-8.
    """
    body = _without_bom(body, codec)
    if codec == _REPLACEMENT:
        return "\N{REPLACEMENT CHARACTER}" if body else ""
    table = _decoding_table(codec)
    if table is not None:
        return codecs.charmap_decode(body, "replace", table)[0]
    try:
        return body.decode(codec, "replace")
    except (LookupError, ValueError):
        return body.decode("utf-8", "replace")


def lookup(label: str) -> str | None:
    """The codec for a label of the Encoding standard (4.2, "get an encoding"), else None."""
    # Labels are ASCII; webencodings would stumble over a lone surrogate.
    encoding = webencodings.lookup(label) if label.isascii() else None
    if encoding is None:
        return None
    name: str = encoding.name
    if name in (_REPLACEMENT, _USER_DEFINED):
        return name
    return codecs.lookup(_CODECS.get(name, name)).name


def from_content_type(content_type: str) -> str | None:
    """The codec that the `charset` parameter of a Content-Type value names, else None."""
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            # A header sent twice arrives as one, joined by a comma.
            return lookup(value.partition(",")[0].strip().strip("\"'"))
    return None


def scalar_text(text: str) -> str:
    """`text` as scalar values: surrogate pairs joined, lone surrogates replaced by U+FFFD.

    WebIDL calls this a USVString; it is what can be encoded as UTF-8.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def prescan(body: bytes) -> str | None:
    """The codec that the document declares, by `<meta>` or XML declaration, else None.

    HTML standard, "prescan a byte stream to determine its encoding".
    """
    head = body[:PRESCAN_BYTES]
    if head.startswith(b"<\x00?\x00x\x00"):
        return "utf-16-le"
    if head.startswith(b"\x00<\x00?\x00x"):
        return "utf-16-be"
    return _from_meta(head) or _from_xml_declaration(head)


_MARKUP: Final = re.compile(
    rb"(?P<comment><!--)"
    rb"|(?P<meta><meta[" + _SPACE + rb"/])"
    rb"|(?P<tag></?[a-z][^" + _SPACE + rb">]*)"
    rb"|(?P<other><[!/?])",
    re.IGNORECASE,
)


def _from_meta(head: bytes) -> str | None:
    position = 0
    while (match := _MARKUP.search(head, position)) is not None:
        if match.lastgroup == "comment":
            # "<!-->" is a whole comment: its dashes may serve both ends.
            position = head.find(b"-->", match.end() - 2) + 1
        elif match.lastgroup == "other":
            position = head.find(b">", match.end()) + 1
        else:
            attributes = _Attributes(head, match.end())
            codec = _declared(attributes, is_meta=match.lastgroup == "meta")
            if codec is not None:
                return codec
            position = attributes.end
        if position == 0:
            return None
    return None


_NAME: Final = re.compile(
    rb"[" + _SPACE + rb"/]*"
    rb"(?P<name>[^" + _SPACE + rb"/>][^" + _SPACE + rb"/>=]*)"
    rb"[" + _SPACE + rb"]*(?P<equals>=[" + _SPACE + rb"]*)?"
)
_TAG_END: Final = re.compile(rb"[" + _SPACE + rb"/]*>")
_VALUE: Final = re.compile(
    rb'"(?P<double>[^"]*)"|\'(?P<single>[^\']*)\'|(?P<bare>[^"\''
    + _SPACE
    + rb">][^"
    + _SPACE
    + rb">]*)|(?=>)"
)


class _Attributes:
    """The attributes of one tag, by "get an attribute"; `end` is 0 if the bytes ran out."""

    def __init__(self, head: bytes, position: int) -> None:
        self._head = head
        self._position = position
        self.end = 0

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        while (name := _NAME.match(self._head, self._position)) is not None:
            self._position = name.end()
            value = b""
            if name["equals"]:
                found = _VALUE.match(self._head, self._position)
                if found is None:
                    return
                value = found[found.lastgroup or 0]
                self._position = found.end()
            yield name["name"].lower(), value.lower()
        closing = _TAG_END.match(self._head, self._position)
        self.end = closing.end() if closing else 0


def _declared(attributes: _Attributes, *, is_meta: bool) -> str | None:
    first: dict[bytes, bytes] = {}
    for name, value in attributes:
        first.setdefault(name, value)
    if not is_meta or not attributes.end:
        return None
    if b"charset" in first:
        return _declarable(first[b"charset"])
    if first.get(b"http-equiv") == b"content-type":
        return _declarable(_charset_in(first.get(b"content", b"")))
    return None


_CHARSET: Final = re.compile(rb"charset[" + _SPACE + rb"]*=[" + _SPACE + rb"]*")
_LABEL: Final = re.compile(
    rb'"(?P<double>[^"]*)"|\'(?P<single>[^\']*)\'|(?P<bare>[^"\';'
    + _SPACE
    + rb"][^;"
    + _SPACE
    + rb"]*)"
)


def _charset_in(content: bytes) -> bytes:
    """HTML standard, "extracting a character encoding from a meta element"."""
    start = _CHARSET.search(content)
    label = _LABEL.match(content, start.end()) if start else None
    return label[label.lastgroup or 0] if label else b""


def _from_xml_declaration(head: bytes) -> str | None:
    """HTML standard, "get an XML encoding"."""
    if not head.startswith(b"<?xml"):
        return None
    declaration, closing, _ = head.partition(b">")
    _, found, rest = declaration.partition(b"encoding")
    label = re.match(rb"""[\0- ]*=[\0- ]*(["'])([^\0- ]*?)\1""", rest) if found else None
    return _declarable(label[2]) if closing and label else None


def _declarable(label: bytes) -> str | None:
    """What a declaration inside the bytes may mean: they are ASCII so far, so not UTF-16."""
    codec = lookup(label.decode("latin-1"))
    if codec in ("utf-16-le", "utf-16-be"):
        return "utf-8"
    return "cp1252" if codec == _USER_DEFINED else codec


def _from_bom(body: bytes) -> str | None:
    return next((codec for bom, codec in _BOMS if body.startswith(bom)), None)


def _without_bom(body: bytes, codec: str) -> bytes:
    bom = next((bom for bom, name in _BOMS if name == codec), b"")
    return body.removeprefix(bom)


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


@cache
def _decoding_table(codec: str) -> str | None:
    """256 characters for a codec where Python's own table and the WHATWG index differ.

    The Encoding standard maps the holes of the windows code pages between 0x80 and 0x9F to the
    C1 controls of the same number; Python leaves them undefined.
    """
    if codec == _USER_DEFINED:
        return "".join(chr(byte if byte < 0x80 else 0xF700 + byte) for byte in range(256))
    if codec not in _WINDOWS_PAGES:
        return None
    characters = (bytes([byte]).decode(codec, "replace") for byte in range(256))
    return "".join(
        chr(byte) if character == "\ufffd" and byte < 0xA0 else character
        for byte, character in enumerate(characters)
    )


_WINDOWS_PAGES: Final = frozenset({"cp874", *(f"cp{page}" for page in range(1250, 1259))})
