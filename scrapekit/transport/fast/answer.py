"""One answer, as llhttp takes it apart. Sans-IO: bytes are fed, and nobody waits.

llhttp knows the grammar and no bounds; those are here. Once an answer is complete, whatever else
arrives was not asked for.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpResponseParser,
)
from multidict import CIMultiDict

from scrapekit.transport.bounds import (
    MAX_FIELD_BYTES,
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    MAX_INTERIM,
    is_bloated,
)


class Stage(IntEnum):
    """How far an answer has come."""

    HEAD = 0
    BODY = 1
    COMPLETE = 2


HEAD, BODY, COMPLETE = Stage


class Malformed(Exception):
    """What came is no HTTP, or passes a bound; the message says which."""


class Unasked(Exception):
    """Something came behind a complete answer."""


class Answers:
    """The answers on one connection, one after the other."""

    __slots__ = (
        "_fields",
        "_interim",
        "_is_bodiless",
        "_is_doubtful",
        "_parser",
        "_size",
        "_taken",
        "_trailers",
        "headers",
        "keeps_open",
        "pieces",
        "received",
        "stage",
        "status",
        "until_end",
    )

    def __init__(self) -> None:
        self._parser: HttpResponseParser | None = None
        self._is_bodiless = False
        self.stage: Stage = COMPLETE
        self.begin(is_bodiless=False)
        self.stage = COMPLETE

    def begin(self, *, is_bodiless: bool) -> None:
        """Expect an answer; to HEAD, it has no body whatever its header says."""
        if self._parser is None or self._is_bodiless:
            # llhttp can't be told: after such an answer it waits for a body.
            self._parser = _parser(self)
        self._is_bodiless = is_bodiless
        self._fields: list[tuple[str, str]] = []
        self._interim = 0
        self._is_doubtful = False
        self._trailers = 0
        self._size = 0
        self._taken = 0
        self.stage = HEAD
        self.status = 0
        self.headers: CIMultiDict[str]
        self.pieces: list[bytes] = []
        """Of the body, as far as it hasn't been taken."""
        self.received = 0
        """Bytes of the whole answer."""
        self.keeps_open = False
        """Another answer may come on the same connection."""
        self.until_end = False
        """The body ends with the connection."""

    def feed(self, data: memoryview) -> None:
        """Take what has arrived. Raises Malformed, and Unasked if the answer is complete."""
        if self.stage == COMPLETE:
            raise Unasked
        if self.received > MAX_HEAD_BYTES:
            self._check_bounds()
        self.received += len(data)
        parser = self._parser
        assert parser is not None
        try:
            parser.feed_data(data)
        except HttpParserUpgrade:
            self.keeps_open = False
        except HttpParserError as exc:
            raise self._meaning(exc) from exc

    def _check_bounds(self) -> None:
        if self.stage == HEAD:
            raise Malformed(f"the header passes {MAX_HEAD_BYTES} bytes")
        if is_bloated(self.received, self._size):
            raise Malformed("there is far more framing than body")

    def _meaning(self, error: HttpParserError) -> BaseException:
        cause = error.__context__ if isinstance(error, HttpParserCallbackError) else error
        if not isinstance(cause, (Malformed, Unasked, HttpParserError)):
            return cause or error  # a fault of ours is none of the server's
        if self.stage == COMPLETE:
            return Unasked()
        where = "the body breaks the framing of HTTP: " if self.stage == BODY else ""
        return Malformed(f"{where}{cause}")

    @property
    def unread(self) -> int:
        """Bytes in `pieces`."""
        return self._size - self._taken

    def take(self) -> bytes:
        """What has arrived of the body since the last time."""
        pieces, self.pieces = self.pieces, []
        self._taken = self._size
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def end(self) -> bool:
        """Tell that the connection has ended in good order; True if that completes the answer."""
        if self.stage == BODY and self.until_end:
            self.stage = COMPLETE
        return self.stage == COMPLETE

    # What llhttp calls. An exception ends the feeding.

    def on_message_begin(self) -> None:
        if self.stage == COMPLETE:
            raise Unasked

    def on_status(self, text: bytes) -> None:
        if len(text) > MAX_FIELD_BYTES:
            raise Malformed("the status line is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.stage:
            self._pass_trailer()
        elif b"\0" in value:
            raise Malformed("a header field holds NUL")
        else:
            text = value.decode("utf-8", "surrogateescape")
            self._fields.append((_NAMES.get(name) or _name(name), text))

    def on_headers_complete(self) -> None:
        if self.stage:
            raise Unasked
        assert self._parser is not None
        if len(self._fields) > MAX_FIELDS or self.received > MAX_FIELD_BYTES:
            self._check_fields()
        status = self._parser.get_status_code()
        if status < 200 and status != 101:
            self._pass_interim(status)
            return
        self.status = status
        self.headers = headers = CIMultiDict(self._fields)
        coding = headers.get("Transfer-Encoding")
        if coding is not None:
            self._check_coding(headers)
        self.until_end = coding is None and "Content-Length" not in headers
        self.stage = BODY
        if self._is_bodiless or status == 101:
            self.stage = COMPLETE
            self.keeps_open = status != 101 and _persists(self._parser, headers)

    def _check_fields(self) -> None:
        if len(self._fields) > MAX_FIELDS:
            raise Malformed(f"more than {MAX_FIELDS} header fields")
        for name, value in self._fields:
            if len(name) > MAX_FIELD_BYTES or len(value) > MAX_FIELD_BYTES:
                raise Malformed(f"a header field passes {MAX_FIELD_BYTES} bytes")

    def _pass_trailer(self) -> None:
        """RFC 9112, 7.1.2: whoever doesn't know what a trailer means may ignore it."""
        if self.stage == COMPLETE:
            raise Unasked
        self._trailers += 1
        if self._trailers > MAX_FIELDS:
            raise Malformed(f"more than {MAX_FIELDS} trailer fields")

    def _pass_interim(self, status: int) -> None:
        """RFC 9110, 15.2."""
        self._interim += 1
        if status < 100:
            raise Malformed(f"there is no status {status}")
        if self._interim > MAX_INTERIM:
            raise Malformed(f"more than {MAX_INTERIM} interim answers")
        self._fields.clear()

    def _check_coding(self, headers: CIMultiDict[str]) -> None:
        """RFC 9112, 6.1 and 7: HTTP/1.0 has no codings, and only one was asked for."""
        codings = ", ".join(headers.getall("Transfer-Encoding")).lower()
        if codings != "chunked":
            raise Malformed(f"Transfer-Encoding {codings!r} wasn't asked for")
        assert self._parser is not None
        self._is_doubtful = self._parser.get_http_version() < "1.1"

    def on_body(self, piece: bytes) -> None:
        if self.stage != BODY:
            raise Unasked
        self._size += len(piece)
        self.pieces.append(piece)

    def on_message_complete(self) -> None:
        if self.stage == BODY:
            assert self._parser is not None
            self.stage = COMPLETE
            self.keeps_open = not self._is_doubtful and self._parser.should_keep_alive()


def _parser(answers: Answers) -> HttpResponseParser:
    parser = HttpResponseParser(answers)
    # What browsers read as well: "Name : value", bare line feeds, blanks behind a chunk's size.
    parser.set_dangerous_leniencies(
        lenient_headers=True,
        lenient_optional_cr_before_lf=True,
        lenient_spaces_after_chunk_size=True,
    )
    return parser


_NAMES: Final[dict[bytes, str]] = {}
"""Names of fields as text, because they repeat."""


def _name(name: bytes) -> str:
    text = name.decode("utf-8", "surrogateescape")
    # Of servers that make up names, not all that they send is kept.
    if len(name) <= 64 and len(_NAMES) < 1_000:
        _NAMES[name] = text
    return text


def _persists(parser: HttpResponseParser, headers: CIMultiDict[str]) -> bool:
    """RFC 9112, 9.3, for an answer without a body, of which llhttp would wait for the end."""
    options = ", ".join(headers.getall("Connection", ())).lower()
    return parser.get_http_version() == "1.1" and "close" not in options
