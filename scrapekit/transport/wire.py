"""Wire: aiohttp's protocol of one connection, with the bounds that it lacks.

aiohttp bounds each line of a header, but not all of them together, and knows silence only: a server
that sends a byte now and then, one interim answer after the other or chunks that hold next to
nothing would keep it busy for ever. All answers of a connection share one timer: when it rings it
looks at what is due by now, and rings again. aiohttp has two for each answer.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import aiohttp
from aiohttp import HttpVersion11
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, RawResponseMessage

from scrapekit.errors import ProtocolError
from scrapekit.transport.bounds import MAX_HEAD_BYTES, MAX_INTERIM, is_bloated


class FirstByteTimeout(aiohttp.ServerTimeoutError):
    """Nothing came within `first_byte_timeout_s`."""


class HeaderTimeout(aiohttp.ServerTimeoutError):
    """The header wasn't complete within `header_timeout_s`."""


class Limits(NamedTuple):
    """The bounds of one answer, in seconds from the end of its request."""

    first_byte_s: float | None
    """None: like any other silence."""
    header_s: float


class Wire(ResponseHandler):
    """One connection."""

    def __init__(self, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._limits = limits
        self._due: float | None = None
        """When it is too late for more; None: nothing is waited for."""
        self._alarm: asyncio.TimerHandle | None = None
        self._begin()

    def _begin(self) -> None:
        self._in_head = True
        self._head_due: float | None = None
        self._received = 0
        self._interim = 0
        self._given_up = False

    def set_response_params(self, **params: Any) -> None:
        """Begin with the next answer."""
        self._begin()
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        if self._received > MAX_HEAD_BYTES and self._is_bloated():
            return
        self._received += len(data)
        super().data_received(data)
        if self._in_head and self._interim and self._due is None:
            # An interim answer has stopped the clock as if it were the last one.
            self._reschedule_timeout()

    def _is_bloated(self) -> bool:
        """Give up if much has come that is no body: headers, chunk lines, trailers."""
        if self._in_head:
            self._give_up(ProtocolError(f"the header passes {MAX_HEAD_BYTES} bytes"))
            return True
        body = self._payload.total_bytes if self._payload is not None else 0
        if not is_bloated(self._received, body):
            return False
        self._give_up(ProtocolError("there is far more framing than body"))
        return True

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take a header, which the parser has just completed."""
        if self._given_up:
            return
        head = data[0]
        flaw = self._flaw(head)
        if flaw is not None:
            self._give_up(HttpProcessingError(message=flaw))
            return
        if not _is_interim(head.code):
            self._end_head()
        super().feed_data(data, size)

    def _flaw(self, head: RawResponseMessage) -> str | None:
        """What makes a header none to go on with, if anything does."""
        code = head.code
        if _is_interim(code):
            self._interim += 1
            if self._interim > MAX_INTERIM:
                return f"more than {MAX_INTERIM} interim answers"
            return None
        if code < 100:
            return f"there is no status {code}"
        if code == 101:
            self.force_close()  # whatever comes next is no HTTP, and was not asked for
        if "Transfer-Encoding" in head.headers:
            return self._flaw_of_coding(head)
        return None

    def _flaw_of_coding(self, head: RawResponseMessage) -> str | None:
        """RFC 9112, 6.1 and 7: HTTP/1.0 has no codings, and only one was asked for."""
        if head.version < HttpVersion11:
            self.force_close()
        codings = ", ".join(head.headers.getall("Transfer-Encoding")).lower()
        return None if codings == "chunked" else f"Transfer-Encoding {codings!r} wasn't asked for"

    def _end_head(self) -> None:
        self._in_head = False
        self._reschedule_timeout()

    def _drop_timeout(self) -> None:
        self._due = None

    def _reschedule_timeout(self) -> None:
        """Wait for more: as long as silence may last, but for a header no longer than that may."""
        now, silence_s = self._loop.time(), self._read_timeout
        if not self._in_head:
            self._due = now + silence_s if silence_s else None
        elif self._head_due is None:
            self._head_due = now + self._limits.header_s
            wait_s = self._limits.first_byte_s or silence_s or self._limits.header_s
            self._due = min(now + wait_s, self._head_due)
        else:
            self._due = min(now + (silence_s or self._limits.header_s), self._head_due)
        self._watch()

    def _watch(self) -> None:
        """See to it that the timer rings when something is due, or before."""
        due, timer = self._due, self._alarm
        if due is None or (timer is not None and timer.when() <= due):
            return
        if timer is not None:
            timer.cancel()
        self._alarm = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._due is not None and self._loop.time() >= self._due:
            self._on_read_timeout()
        else:
            self._watch()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        super().connection_lost(exc)

    def _on_read_timeout(self) -> None:
        if not self._in_head:
            super()._on_read_timeout()
        elif self._head_due is not None and self._loop.time() >= self._head_due:
            self.set_exception(HeaderTimeout())
        elif not self._received and self._limits.first_byte_s:
            self.set_exception(FirstByteTimeout())
        else:
            super()._on_read_timeout()

    def _give_up(self, error: ProtocolError | HttpProcessingError) -> None:
        self._given_up = True
        self.set_exception(error)
        if self._payload is not None:
            self._payload.set_exception(error)
            # What the end of the connection says of it would take the error's place.
            self._payload = None
        if self.transport is not None:
            self.transport.abort()


def _is_interim(code: int) -> bool:
    """RFC 9110, 15.2. After a 101 nothing else comes by HTTP."""
    return 100 <= code < 200 and code != 101
