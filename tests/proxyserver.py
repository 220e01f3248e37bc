"""A forward proxy on loopback: real sockets, both for plain requests and for CONNECT."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ForwardProxy:
    """Leads wherever it is asked to, if the credentials are right. `heads` has what it was sent.

    `status` answers every request instead of leading on.
    """

    def __init__(self, login: str | None) -> None:
        self.login = login
        self.status: int | None = None
        self.heads: list[str] = []
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def url(self, login: str | None = None) -> str:
        """Its URL, with its own credentials or others."""
        login = login or self.login
        return f"http://{login + '@' if login else ''}127.0.0.1:{self.port}"

    @property
    def lines(self) -> list[str]:
        """The request lines, in order."""
        return [head.partition("\r\n")[0] for head in self.heads]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass  # either side has left, or the test is over
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.heads.append(head)
        status = self.status if self._may(head) else 407
        if status is not None:
            writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            return
        method, target, _ = head.partition("\r\n")[0].split(" ")
        address = urlsplit(target if "://" in target else f"//{target}")
        onward = await asyncio.open_connection(address.hostname, address.port)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            onward[1].write(_as_origin_form(head, target).encode("latin-1"))
        try:
            await asyncio.gather(_pump(reader, onward[1]), _pump(onward[0], writer))
        finally:
            onward[1].transport.abort()

    def _may(self, head: str) -> bool:
        if self.login is None:
            return True
        wanted = base64.b64encode(self.login.encode()).decode()
        return f"\r\nProxy-Authorization: Basic {wanted}\r\n" in head

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _as_origin_form(head: str, target: str) -> str:
    """The head as the server gets it: the path alone, what is for the proxy cut, no reuse."""
    path = "/" + target.split("/", 3)[3]
    lines = head.replace(target, path, 1).split("\r\n")
    kept = [line for line in lines if not line.lower().startswith("proxy-")]
    return "\r\n".join([kept[0], "Connection: close", *kept[1:]])


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


@asynccontextmanager
async def forward_proxy(login: str | None = None) -> AsyncIterator[ForwardProxy]:
    """A running proxy; `login` is the "name:password" that it asks for."""
    proxy = ForwardProxy(login)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.stop()
