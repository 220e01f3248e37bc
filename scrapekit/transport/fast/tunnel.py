"""Tunnels: the way through a proxy to a secure site (RFC 9110, 9.3.6)."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from scrapekit import urls
from scrapekit.errors import ConnectError, ProtocolError
from scrapekit.transport.bounds import MAX_FIELD_BYTES
from scrapekit.transport.fast.route import Route
from scrapekit.transport.fields import encode_fields
from scrapekit.transport.wording import proxy_refuses

_END: Final = b"\r\n\r\n"


async def open_tunnel(sock: socket.socket, route: Route, url: str) -> None:
    """Have the proxy at the other end lead through to the site; TLS can begin then.

    Raises ProxyError if it won't, ConnectError if it hangs up, ProtocolError if it speaks no HTTP
    or goes on speaking: in TLS the client begins, so that can't come from the site.
    """
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, _request(route))
    head = b""
    while _END not in head:
        if len(head) > MAX_FIELD_BYTES:
            raise _no_http(url, "its header is too long")
        data = await loop.sock_recv(sock, MAX_FIELD_BYTES)
        if not data:
            raise ConnectError(f"the proxy hung up instead of leading to {urls.host(url)}", url=url)
        head += data
    status = _status(head)
    if status is None:
        raise _no_http(url, "its answer has no status")
    if not 200 <= status < 300:
        raise proxy_refuses(url, status)
    if not head.endswith(_END):
        raise _no_http(url, "it goes on behind its answer")


def _request(route: Route) -> bytes:
    target = f"{route.site.host}:{route.site.port}"
    fields = {"Host": target}
    if route.proxy_credentials is not None:
        fields["Proxy-Authorization"] = route.proxy_credentials
    return f"CONNECT {target} HTTP/1.1\r\n".encode() + encode_fields(fields)


def _status(head: bytes) -> int | None:
    """RFC 9112, 4."""
    version, _, rest = head.partition(b" ")
    digits = rest[:3]
    if not version.startswith(b"HTTP/1.") or not digits.isdigit() or len(digits) != 3:
        return None
    return int(digits)


def _no_http(url: str, why: str) -> ProtocolError:
    return ProtocolError(f"the proxy to {urls.host(url)} speaks no HTTP: {why}", url=url)
