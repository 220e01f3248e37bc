"""Dialler: makes connections. Each address is judged where its socket is made."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Final

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
            if route.is_tunnel:
                await open_tunnel(sock, route, asked.url)
            address = "" if route.proxy else _peer_of(sock)
            return await self._line(sock, address, route)
        except BaseException as exc:
            # Unless asyncio has it already, and closes it itself.
            sock.close()
            if isinstance(exc, (OSError, ssl.CertificateError)):
                raise _no_start(exc, route, asked.url) from exc
            raise

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

    async def _line(self, sock: socket.socket, address: str, route: Route) -> Line:
        loop = asyncio.get_running_loop()
        context, name = None, None
        if route.secured is not None:
            context, name = tls_context(self._verify), route.secured.host.strip("[]").rstrip(".")
        _, line = await loop.create_connection(
            lambda: self._make_line(sock, address), sock=sock, ssl=context, server_hostname=name
        )
        return line


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
