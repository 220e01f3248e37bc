"""Line: one connection. Bytes in, bytes out, and its clock.

The clock is one timer for all the answers of a connection: when it rings it looks at what is due
by now, and rings again. A page in time costs no timer at all.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

from scrapekit.errors import BodyTruncated
from scrapekit.transport.fast.answer import BODY, COMPLETE, HEAD, Answers, Malformed, Unasked
from scrapekit.transport.fast.times import Times, due
from scrapekit.transport.wording import Phase

# What may lie unread in one connection before its server has to wait. One read more may come.
_UNREAD_BYTES: Final = 65_536
# Smaller requests go out in one go: their deadlines needn't wait for them.
_UPLOAD_BYTES: Final = 65_536


class Late(Exception):
    """A part of the answer took too long."""

    def __init__(self, phase: Phase) -> None:
        super().__init__(phase)
        self.phase: Phase = phase


class HungUp(Exception):
    """The connection ended instead of bringing an answer."""


class Line(asyncio.BufferedProtocol):
    """One connection, for one request after the other.

    `buffer` is what all connections read into, each in its turn: what arrives is parsed at once.
    `opened` is called when requests can go out, `lost` when the socket is closed after that.
    """

    __slots__ = (
        "_asked_at",
        "_buffer",
        "_error",
        "_heard_at",
        "_is_paused",
        "_loop",
        "_lost",
        "_opened",
        "_shortest_s",
        "_socket",
        "_timer",
        "_times",
        "_to_send",
        "_waiter",
        "address",
        "allowed",
        "answer",
        "transport",
    )

    def __init__(
        self,
        sock: socket.socket,
        address: str,
        buffer: memoryview,
        times: Times,
        opened: Callable[[Line], None],
        lost: Callable[[Line], None],
    ) -> None:
        self._socket = sock
        self.address = address
        """The IP address at the other end; "" if a proxy stands between."""
        self.allowed: int | None = None
        """The reach of a request that may talk to that address."""
        self.answer = Answers()
        self.transport: asyncio.Transport
        self._buffer = buffer
        self._times = times
        self._shortest_s = times.shortest_s
        self._opened = opened
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._error: Exception | None = None
        self._is_paused = False
        self._to_send = 0
        self._asked_at = self._heard_at = self._loop.time()

    def __repr__(self) -> str:
        return f"<Line {self.address or 'by proxy'} {self.answer.stage.name.lower()}>"

    @property
    def is_made(self) -> bool:
        """Whether it has a transport, and with it can be cut."""
        return hasattr(self, "transport")

    # What the transport of a fetch calls.

    def ask(self, data: bytes, *, is_bodiless: bool) -> None:
        """Send a request. Doesn't wait: an answer may come before its end. Raises HungUp."""
        self.answer.begin(is_bodiless=is_bodiless)
        if self.transport.is_closing():
            raise HungUp("the connection ended before the request")
        self._asked_at = self._heard_at = self._loop.time()
        self.transport.write(data)
        size = len(data)
        self._to_send = self.transport.get_write_buffer_size() if size > _UPLOAD_BYTES else 0
        self._watch()

    async def head(self) -> None:
        """Wait for the header. Raises HungUp, Late and Malformed."""
        while self.answer.stage == HEAD:
            await self._wait()

    async def read(self) -> bytes:
        """What has arrived of the body; b"" at its end.

        Raises BodyTruncated, Late and Malformed.
        """
        answer = self.answer
        while not answer.pieces and answer.stage != COMPLETE:
            await self._wait()
        if self._error is not None and answer.stage != COMPLETE:
            raise self._error
        data = answer.take()
        if self._is_paused and not self.transport.is_closing():
            self._is_paused = False
            self._heard_at = self._loop.time()
            self.transport.resume_reading()
            self._watch()
        return data

    def may_go_on(self) -> bool:
        """Whether the next request may go out, now that the answer is complete.

        Not before the whole last request went out: its rest would be taken for the next one.
        """
        return (
            self.answer.stage == COMPLETE
            and self.answer.keeps_open
            and not self.transport.is_closing()
            and not self.transport.get_write_buffer_size()
        )

    def rest(self) -> None:
        """Nobody uses it for now."""
        self._heard_at = self._loop.time()
        self._watch()

    def is_silent(self) -> bool:
        """Whether nothing lies in the socket: neither its end nor what nobody asked for."""
        if self.transport.is_closing():
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def cut(self, error: Exception | None = None) -> None:
        """Close it at once; whoever waits gets `error`."""
        self.answer.keeps_open = False
        if self._error is None:
            self._error = error or HungUp("the connection was closed")
        self._wake()
        self.transport.abort()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        answer = self.answer
        self._heard_at = self._loop.time()
        try:
            answer.feed(self._buffer[:nbytes])
        except Unasked:
            self.cut()
        except Malformed as exc:
            self.cut(exc)
        else:
            if answer.stage == BODY and answer.unread > _UNREAD_BYTES:
                self._is_paused = True
                self.transport.pause_reading()
        if answer.stage != HEAD:
            self._wake()

    def eof_received(self) -> None:
        """Let asyncio close the connection."""

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.answer.keeps_open = False
        if self._error is None and (exc is not None or not self.answer.end()):
            self._error = self._broken(exc)
        self._wake()
        self._lost(self)

    def _broken(self, exc: Exception | None) -> Exception:
        if self.answer.stage == HEAD:
            error: Exception = HungUp("the connection ended before the answer")
        else:
            how = "broke" if exc is not None else "was closed"
            error = BodyTruncated(f"the body ends early: the connection {how}")
        error.__cause__ = exc
        return error

    # The clock.

    def _watch(self) -> None:
        """See to it that the timer rings when something is due, or before."""
        timer = self._timer
        if timer is not None and timer.when() <= self._heard_at + self._shortest_s:
            return
        when = self._due()[0]
        if timer is not None:
            if timer.when() <= when:
                return
            timer.cancel()
        self._timer = self._loop.call_at(when, self._ring)

    def _due(self) -> tuple[float, Phase]:
        answer = self.answer
        return due(self._times, answer.stage, answer.received, self._asked_at, self._heard_at)

    def _ring(self) -> None:
        self._timer = None
        when, phase = self._due()
        if self._is_paused:
            return  # it waits for us
        if self._loop.time() >= when and not self._has_sent_more():
            self.cut(Late(phase))
        else:
            self._watch()

    def _has_sent_more(self) -> bool:
        """Whether a large request was still on its way out; deadlines count from its end."""
        before, self._to_send = self._to_send, self.transport.get_write_buffer_size()
        if self.answer.stage != HEAD or self._to_send >= before:
            return False
        self._asked_at = self._heard_at = self._loop.time()
        return True
