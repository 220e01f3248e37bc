"""Dialler: makes connections. Each address is judged where its socket is made."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import aiohappyeyeballs

from scrapekit import urls
from scrapekit.errors import ConnectError, OutOfFiles, ProxyError, SiteError
from scrapekit.reach import Asking, asking
from scrapekit.transport.dialling import AddressRefused
from scrapekit.transport.fast.line import Line
from scrapekit.transport.fast.names import Names
from scrapekit.transport.fast.route import Peer, Route
from scrapekit.transport.fast.tunnel import open_tunnel
from scrapekit.transport.wording import is_out_of_files, out_of_files, reason_of, stage_of

if TYPE_CHECKING:
    from scrapekit.transport.dialling import SocketFactory

# RFC 8305, 8: how long one address has before the next one is tried as well.
_HEAD_START_S: Final = 0.25
# How long a cancelled connection may take to end; it takes some turns of the loop.
_END_S: Final = 1.0

MakeLine = Callable[[socket.socket, str], Line]
"""Makes a line of a socket and the address it leads to."""


class Dialler:
    """Makes lines for routes. `verify` says whether certificates have to be valid."""

    def __init__(
        self, names: Names, factory: SocketFactory | None, make_line: MakeLine, *, verify: bool
    ) -> None:
        self._names = names
        self._factory = factory
        self._make_line = make_line
        self._verify = verify

    async def dial(self, route: Route, asked: Asking) -> Line:
        """A new connection that requests can go out on, in unbounded time.

        Raises Refused for an address where the request may not go, ConnectError or ProxyError, and
        OutOfFiles.
        """
        asking.set(asked)
        peer = route.proxy or route.site
        sock = await self._connect(peer, asked)
        try:
            line = await self._prepare(sock, route, asked.url)
            await _start(line, sock, route.secured, verify=self._verify)
        except (OSError, ssl.CertificateError) as exc:
            raise _no_start(exc, route, asked.url) from exc
        return line

    async def _connect(self, peer: Peer, asked: Asking) -> socket.socket:
        try:
            addresses = await self._names.find(peer.host, peer.port)
            return await aiohappyeyeballs.start_connection(
                addresses,
                happy_eyeballs_delay=_HEAD_START_S,
                interleave=1,
                socket_factory=self._factory,
            )
        except AddressRefused as exc:
            raise exc.refused from exc
        except (OSError, RuntimeError) as exc:  # uvloop has some RuntimeErrors
            raise _no_connection(exc, peer, asked) from exc

    async def _prepare(self, sock: socket.socket, route: Route, url: str) -> Line:
        """A line that has no transport yet. The socket is still ours: a failure closes it."""
        try:
            if route.is_tunnel:
                await open_tunnel(sock, route, url)
            return self._make_line(sock, "" if route.proxy else _peer_of(sock))
        except BaseException:
            sock.close()
            raise


async def _start(line: Line, sock: socket.socket, secured: Peer | None, *, verify: bool) -> None:
    """Put the loop in charge of the socket, which from now on closes it and nobody else.

    A cancellation would have uvloop close the descriptor and leave it to the socket as well, so
    it never gets through: the connection is ended instead, which is no matter of waiting.
    """
    loop = asyncio.get_running_loop()
    context, name = None, None
    if secured is not None:
        context, name = tls_context(verify), secured.host.strip("[]").rstrip(".")
    made = asyncio.ensure_future(
        loop.create_connection(lambda: line, sock=sock, ssl=context, server_hostname=name)
    )
    made.add_done_callback(lambda _: _let_go(made, line, sock))
    try:
        await asyncio.shield(made)
    except asyncio.CancelledError:
        _end(made, line, sock)
        await asyncio.wait([made], timeout=_END_S)
        raise


def _end(made: asyncio.Task[Any], line: Line, sock: socket.socket) -> None:
    """Cut a connection in the making as soon as it is made; a handshake fails at once."""
    if made.done():
        _cut(line)
        return
    made.add_done_callback(lambda _: _cut(line))
    if not line.is_made:
        with suppress(OSError):  # it has gone already
            sock.shutdown(socket.SHUT_RDWR)


def _cut(line: Line) -> None:
    if line.is_made:
        line.cut()


def _let_go(made: asyncio.Task[Any], line: Line, sock: socket.socket) -> None:
    """Take the descriptor from the socket of a connection that ended while it was made.

    asyncio's transports close the socket; uvloop's close its descriptor, and tell only a socket
    whose connection lasted until it was made. The others would close it again once collected,
    whoever has that number by then.
    """
    if not made.cancelled():
        made.exception()  # asyncio complains about errors that nobody looks at
    is_over = not line.is_made or line.transport.is_closing()
    if is_over and not isinstance(made.get_loop(), asyncio.BaseEventLoop):
        sock.detach()


@cache
def tls_context(verify: bool) -> ssl.SSLContext:
    """For all connections: the system's certificates take 20 ms to read."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def _peer_of(sock: socket.socket) -> str:
    try:
        return str(sock.getpeername()[0])
    except OSError:  # it has gone already
        return ""


def _no_connection(
    error: OSError | RuntimeError, peer: Peer, asked: Asking
) -> SiteError | OutOfFiles:
    if is_out_of_files(error):
        return out_of_files(asked.url)
    reason = reason_of(error)
    if asked.proxied:
        return ProxyError(f"the proxy can't be reached: {reason}", url=asked.url)
    if isinstance(error, socket.gaierror):
        text = f"the name {peer.host} doesn't resolve: {reason}"
    else:
        text = f"{peer.host} can't be reached: {reason}"
    return ConnectError(text, url=asked.url, stage=stage_of(error))


def _no_start(error: Exception, route: Route, url: str) -> ConnectError:
    host, reason = urls.host(url), reason_of(error)
    if route.secured is not None and route.secured is route.proxy:
        return ProxyError(f"the proxy can't be reached: TLS with it fails: {reason}", url=url)
    if isinstance(error, ssl.CertificateError):
        text = f"the TLS certificate of {host} isn't valid: {reason}"
    elif isinstance(error, ssl.SSLError):
        text = f"TLS with {host} fails: {reason}"
    else:
        text = f"the connection to {host} broke: {reason}"
    return ConnectError(text, url=url, stage=stage_of(error))
