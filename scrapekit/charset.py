"""Which character encoding a body is in, and the text it holds.

The order is that of the HTML standard ("determining the character encoding"): byte order mark,
the HTTP header, a declaration in the document, and then a guess: UTF-8 if the body is valid
UTF-8, else windows-1252. Only the labels of the WHATWG Encoding standard choose a codec, so no
page can pick "zip", "rot13" or "idna".

Every function is linear in its input, and none raises, whatever the bytes are.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache
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

# These encodings have no Python codec; `decode` knows them.
_REPLACEMENT: Final = "replacement"
_USER_DEFINED: Final = "x-user-defined"

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

# Codecs whose tables differ from the indexes of the Encoding standard, and where.
_DIFFERENCES: Final[dict[str, dict[int, str]]] = {
    **{f"cp{page}": {} for page in (874, *range(1250, 1259))},
    "cp1255": {0xCA: "\N{HEBREW POINT HOLAM HASER FOR VAV}"},
    "koi8-u": {
        0xAE: "\N{CYRILLIC SMALL LETTER SHORT U}",
        0xBE: "\N{CYRILLIC CAPITAL LETTER SHORT U}",
    },
}


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


def prescan(body: bytes) -> str | None:
    """The codec that the document declares, by `<meta>` or XML declaration, else None.

    HTML standard, "prescan a byte stream to determine its encoding".
    """
    head = body[:PRESCAN_BYTES]
    if head.startswith(b"<\x00?\x00x\x00"):
        return "utf-16-le"
    if head.startswith(b"\x00<\x00?\x00x"):
        return "utf-16-be"
    for beginning, codec in _beginnings.items():
        if head.startswith(beginning):
            return codec
    # Walking the tags costs as much as parsing them; this look is nearly free.
    declared = _from_meta(head) if b"charset" in head.lower() else None
    return declared or _from_xml_declaration(head)


def scalar_text(text: str) -> str:
    """`text` as scalar values: surrogate pairs joined, lone surrogates replaced by U+FFFD.

    WebIDL calls this a USVString; it is what can be encoded as UTF-8.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


# HTML's white space is [\t\n\f\r ]; \s would match \v, too. The possessive `*+` is what makes a
# value that never ends a failure in one step instead of a shorter match.
_MARKUP: Final = re.compile(
    rb"(?P<comment><!--)"
    rb"|(?P<meta><meta[\t\n\f\r /])"
    rb"|(?P<tag></?[a-z][^\t\n\f\r >]*)"
    rb"|(?P<other><[!/?])",
    re.IGNORECASE,
)
_ATTRIBUTE: Final = re.compile(
    rb"[\t\n\f\r /]*+([^\t\n\f\r />][^\t\n\f\r />=]*+)[\t\n\f\r ]*+"
    rb"(?:=[\t\n\f\r ]*+"
    rb"(?:\"([^\"]*)\"|'([^']*)'|([^\"'\t\n\f\r >][^\t\n\f\r >]*+)|(?=>))"
    rb"|(?!=))"
)
_TAG_END: Final = re.compile(rb"[\t\n\f\r /]*+>")
_CHARSET: Final = re.compile(
    rb"charset[\t\n\f\r ]*+=[\t\n\f\r ]*+"
    rb"(?:\"([^\"]*)\"|'([^']*)'|([^\"';\t\n\f\r ][^;\t\n\f\r ]*+))?"
)
_XML_LABEL: Final = re.compile(rb"[\0- ]*+=[\0- ]*+(?:\"([^\0- \"]*)\"|'([^\0- ']*)')")


def _from_meta(head: bytes) -> str | None:
    position = 0
    while position >= 0 and (tag := _MARKUP.search(head, position)) is not None:
        if tag.lastgroup == "comment":
            # "<!-->" is a whole comment: its dashes may serve both ends.
            position = head.find(b"-->", tag.end() - 2)
        elif tag.lastgroup == "other":
            position = head.find(b">", tag.end())
        else:
            attributes, position = _attributes(head, tag.end())
            if tag.lastgroup == "meta" and position >= 0 and (codec := _declared(attributes)):
                _note_beginning(head[:position], codec)
                return codec
    return None


_BEGINNINGS: Final = 8
_MAX_BEGINNING: Final = 512
_beginnings: dict[bytes, str] = {}
"""How the latest documents began, up to and with the tag that declared their encoding. Nothing
that follows such a tag matters, and the pages of a site mostly begin alike.
"""


def _note_beginning(beginning: bytes, codec: str) -> None:
    """Make it known for the next document. Threads may do so at once, hence always a new dict."""
    global _beginnings  # noqa: PLW0603
    if len(beginning) <= _MAX_BEGINNING:
        latest = list(_beginnings.items())[1 - _BEGINNINGS :]
        _beginnings = dict([*latest, (beginning, codec)])


def _attributes(head: bytes, position: int) -> tuple[dict[bytes, bytes], int]:
    """A tag's attributes, in lower case, and where it ends: -1 if the bytes run out first."""
    attributes: dict[bytes, bytes] = {}
    while (found := _ATTRIBUTE.match(head, position)) is not None:
        attributes.setdefault(found[1].lower(), _group_of(found, 2).lower())
        position = found.end()
    end = _TAG_END.match(head, position)
    return attributes, end.end() if end else -1


def _declared(meta: dict[bytes, bytes]) -> str | None:
    if b"charset" in meta:
        return _declarable(meta[b"charset"])
    if meta.get(b"http-equiv") == b"content-type":
        charset = _CHARSET.search(meta.get(b"content", b""))
        return _declarable(_group_of(charset, 1)) if charset else None
    return None


def _from_xml_declaration(head: bytes) -> str | None:
    """HTML standard, "get an XML encoding"."""
    declaration, closing, _ = head.partition(b">")
    if not closing or not declaration.startswith(b"<?xml"):
        return None
    label = _XML_LABEL.match(declaration.partition(b"encoding")[2])
    return _declarable(_group_of(label, 1)) if label else None


def _group_of(match: re.Match[bytes], first: int) -> bytes:
    """The one group, of the alternatives from `first` on, that took part in the match."""
    return next((group for group in match.groups()[first - 1 :] if group is not None), b"")


def _declarable(label: bytes) -> str | None:
    """What a declaration within the bytes can mean: it was readable as ASCII, so not UTF-16."""
    codec = lookup(label.decode("latin-1"))
    if codec in ("utf-16-le", "utf-16-be"):
        return "utf-8"
    return "cp1252" if codec == _USER_DEFINED else codec


def _from_bom(body: bytes) -> str | None:
    return next((codec for bom, codec in _BOMS if body.startswith(bom)), None)


def _without_bom(body: bytes, codec: str) -> bytes:
    return body.removeprefix(next((bom for bom, name in _BOMS if name == codec), b""))


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


@lru_cache(maxsize=64)
def _decoding_table(codec: str) -> str | None:
    """256 characters, for a codec whose own table isn't that of the Encoding standard.

    The standard maps the holes between 0x80 and 0x9F of the windows code pages to the C1
    controls of the same number; Python leaves them undefined.
    """
    if codec == _USER_DEFINED:
        return "".join(chr(byte if byte < 0x80 else 0xF700 + byte) for byte in range(256))
    if codec not in _DIFFERENCES:
        return None
    characters = [bytes([byte]).decode(codec, "replace") for byte in range(256)]
    for byte in range(0x80, 0xA0):
        if characters[byte] == "\N{REPLACEMENT CHARACTER}":
            characters[byte] = chr(byte)
    for byte, character in _DIFFERENCES[codec].items():
        characters[byte] = character
    return "".join(characters)
