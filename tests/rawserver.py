"""A server on loopback that sends exactly the bytes it is told to, or none."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Reply = Callable[["Exchange"], Awaitable[None]]

# RST instead of FIN on close: linger on, for no time.
_RESET = struct.pack("ii", 1, 0)


class Exchange:
    """One request, and the way to answer it."""

    def __init__(
        self, head: bytes, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.head = head
        self.number = number
        """How many requests the server had before this one."""
        self.reader = reader
        self.writer = writer

    @property
    def line(self) -> str:
        """The request line."""
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    def header(self, name: str) -> str | None:
        """The value of a header, or None."""
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.writer.transport.abort()


class RawServer:
    """What `serve` yields."""

    def __init__(self, reply: Reply, scheme: str) -> None:
        self.requests: list[Exchange] = []
        self.connections = 0
        self.port = 0
        self._reply = reply
        self._scheme = scheme
        self._handlers: set[asyncio.Task[None]] = set()

    def url(self, path: str = "/") -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}{path}"

    @property
    def lines(self) -> list[str]:
        """The request lines of all requests, in order."""
        return [request.line for request in self.requests]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self.connections += 1
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                exchange = Exchange(head, len(self.requests), reader, writer)
                self.requests.append(exchange)
                await self._reply(exchange)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass  # the client has left, or the test is over
        finally:
            writer.transport.abort()
            self._handlers.discard(task)

    async def stop(self) -> None:
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)


@asynccontextmanager
async def serve(
    reply: Reply | bytes, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Call `reply` for every request, or send it if it is bytes; the connection stays open."""

    async def send(exchange: Exchange) -> None:
        assert isinstance(reply, bytes)
        await exchange.send(reply)

    raw = RawServer(send if isinstance(reply, bytes) else reply, "https" if tls else "http")
    server = await asyncio.start_server(raw.handle, "127.0.0.1", 0, ssl=tls)
    raw.port = server.sockets[0].getsockname()[1]
    try:
        yield raw
    finally:
        server.close()
        await raw.stop()
